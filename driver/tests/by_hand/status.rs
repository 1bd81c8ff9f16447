//! What is told of where a job stands: nothing that a crash could take back.

use std::time::Duration;

use steadfast_core::engine::Limits;
use steadfast_core::notice::WakeReason;
use steadfast_core::operation::{Stage, Unresolved};
use steadfast_core::retry::Class;
use steadfast_core::{Outcome, SendSafety};
use steadfast_driver::{Command, Driver, JobStatus, ResumeError, SendError, StatusError, Work};

use super::support::{self, START as NOW, Slow, answer, key, on, resume, run, run_until_sent, started, submit};

const LOOKUP: SendSafety = SendSafety::Lookup { settle: Duration::ZERO };

fn driver() -> Driver<()> {
    started(SendSafety::Unsafe, &Slow::default())
}

/// Until the store has something to do, which is left to the caller. Each create is accepted at once.
fn turn(driver: &mut Driver<()>) -> Option<Work> {
    let mut work = None;
    loop {
        let (sent, due) = support::turn(driver, NOW);
        work = work.or(due);
        if sent.is_empty() {
            return work;
        }
        sent.into_iter().for_each(|sending| answer(driver, sending, 201, "", NOW));
    }
}

type Told = oneshot::Receiver<Result<Option<JobStatus>, StatusError>>;

fn ask(driver: &mut Driver<()>) -> Told {
    let (reply, told) = oneshot::channel();
    driver.command(Command::Status { key: key("order-42"), reply }, NOW);
    told
}

/// Whoever asks in the midst of a step is told of the one before it, or of this one once it is written.
#[test]
fn what_is_told_of_a_job_is_durable() {
    let mut driver = driver();
    let _taken = submit(&mut driver, "order-42", NOW);
    let (mut stages, mut asked) = (Vec::new(), None);
    loop {
        let work = turn(&mut driver);
        if let Some(Ok(told)) = asked.as_ref().map(Told::try_recv) {
            stages.push(told.unwrap().map(|status| status.stage));
            asked = None;
        }
        let Some(work) = work else { break };
        asked.get_or_insert_with(|| ask(&mut driver));
        driver.worked(work.run_one(), NOW);
    }
    assert_eq!(stages, [None, Some(Stage::InFlight), Some(Stage::Accepted)]);
}

/// Who asks where jobs stand takes no job's room.
#[test]
fn questions_keep_no_job_out() {
    let mut driver = driver();
    let first = ask(&mut driver);
    let work = turn(&mut driver).unwrap();
    let live = Limits::default().live as usize;
    let asked: Vec<_> = (0..live).map(|_| ask(&mut driver)).collect();
    assert!(driver.has_room());
    let submits = Vec::from_iter((0..live).map(|n| {
        assert!(driver.has_room(), "for all but {n}");
        submit(&mut driver, &format!("order-{n}"), NOW)
    }));
    assert!(!driver.has_room(), "what is looked up may become a job");
    driver.worked(work.run_one(), NOW);
    while let Some(work) = turn(&mut driver) {
        driver.worked(work.run_one(), NOW);
    }
    assert!(asked.iter().chain([&first]).all(|told| told.try_recv().is_ok()));
    assert!(submits.iter().all(|taken| taken.try_recv().is_ok_and(|taken| taken.is_ok())) && !driver.has_room());
}

/// I15: a page that asks again each second, or resumes, and gives up each time, while the disk hangs.
#[test]
fn no_more_wait_for_the_store_than_leave_room_for_webhooks() {
    let mut driver = driver();
    let first = ask(&mut driver);
    let work = turn(&mut driver).unwrap();
    for _ in 0..10_000 {
        drop(ask(&mut driver));
        drop(resume(&mut driver, "order-42", NOW));
        assert!(turn(&mut driver).is_none(), "the store hangs");
    }
    let refused = ask(&mut driver).try_recv().unwrap().unwrap_err();
    assert!(matches!(refused, StatusError::Busy), "{refused}");
    let refused = resume(&mut driver, "order-42", NOW).try_recv().unwrap().unwrap_err();
    assert!(matches!(refused, ResumeError::Busy), "{refused}");
    assert!(driver.has_room());

    let mut work = Some(work);
    while let Some(done) = work {
        driver.worked(done.run_one(), NOW);
        work = turn(&mut driver);
    }
    assert_eq!(first.try_recv().unwrap().unwrap(), None);
    let again = ask(&mut driver);
    let work = turn(&mut driver).unwrap();
    driver.worked(work.run_one(), NOW);
    assert!(turn(&mut driver).is_none());
    assert_eq!(again.try_recv().unwrap().unwrap(), None);
}

/// An outcome that nobody has heard of is told as one, though the engine is done with it.
#[test]
fn what_nobody_has_is_not_told_as_delivered() {
    let mut driver = driver();
    drop(submit(&mut driver, "order-42", NOW));
    let create = run(&mut driver, NOW).remove(0);
    driver.answered(create.reader.read(Err(SendError::ambiguous()), NOW), NOW);
    for second in [0, 1] {
        run(&mut driver, NOW.saturating_add(Duration::from_secs(second)));
    }
    let told = ask(&mut driver).try_recv().expect("it is known here").unwrap().unwrap();
    assert_eq!(told.stage, Stage::Ended(Outcome::Unresolved(Unresolved::Ambiguous)));
    assert_eq!(told.explain(NOW), format!("unresolved: {}", Outcome::Unresolved(Unresolved::Ambiguous).explain()));
}

/// A look-up has proved that a create did not run, which waits for its payload now: a crash would have to look it up
/// again.
#[test]
fn that_nothing_ran_is_told_once_it_is_durable() {
    let store = Slow::default();
    let mut first = started(LOOKUP, &store);
    let _taken = submit(&mut first, "order-42", NOW);
    run(&mut first, NOW);
    drop(first);

    let mut second = on(LOOKUP, &store);
    let (lookup, now) = run_until_sent(&mut second, NOW);
    answer(&mut second, lookup, 404, "", now);
    let (_, written) = support::turn(&mut second, now);
    let told = ask(&mut second);
    support::turn(&mut second, now);
    assert!(told.try_recv().is_err(), "it is being written");
    second.worked(written.unwrap().run_one(), now);
    run(&mut second, now);
    let told = told.try_recv().unwrap().unwrap().unwrap();
    assert_eq!((told.stage, told.needs_payload, told.due), (Stage::Planned, true, None));
    assert!(told.explain(now).contains("submitted again with the payload"), "{}", told.explain(now));
}

/// Why a job still waits: what went wrong last, and what it waits for.
#[test]
fn what_went_wrong_last_is_told_until_it_goes_well() {
    let mut driver = driver();
    let mut now = NOW;
    let _taken = submit(&mut driver, "order-42", now);
    // A refused connection, then an operator's stop, then an answer.
    let (mut stands, mut sentences) = (Vec::new(), Vec::new());
    for step in 0..3 {
        for sending in run(&mut driver, now) {
            match step {
                0 => driver.answered(sending.reader.read(Err(SendError::not_sent()), now), now),
                _ => answer(&mut driver, sending, 201, "", now),
            }
        }
        run(&mut driver, now);
        let told = ask(&mut driver).try_recv().unwrap().unwrap().unwrap();
        stands.push((told.stage, told.waits_for, told.last_failure.map(Class::name)));
        sentences.push(told.explain(now));
        // Still within the create's deadline.
        let span = if step == 0 { Duration::from_secs(20) } else { Duration::ZERO };
        driver.command(Command::Hold { span, number: step }, now);
        now = told.due.unwrap();
    }
    assert_eq!(
        stands,
        [
            (Stage::Planned, Some(WakeReason::Create), Some("transient")),
            (Stage::Planned, Some(WakeReason::Gate), Some("transient")),
            (Stage::Accepted, Some(WakeReason::Poll), None),
        ]
    );
    let [waits, held, accepted] = &sentences[..] else { panic!("{sentences:?}") };
    assert!(waits.starts_with("nothing has run yet: next create in "), "{waits}");
    assert!(waits.ends_with("; the latest request met trouble at the provider or on the way"), "{waits}");
    assert!(
        held.contains(": held back, since the provider is in trouble, a limit is reached, or somebody said so; "),
        "{held}"
    );
    assert_eq!(accepted, "the provider has the job: next poll in 3 s");
}
