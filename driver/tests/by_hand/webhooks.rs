//! What a webhook's sender is told while the store is asked, and while what followed is written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use steadfast_core::operation::{Completed, Reading, Stage, Unresolved};
use steadfast_core::retry::Failure;
use steadfast_core::{OperationPolicy, Outcome, Reference, SendSafety};
use steadfast_driver::{Builder, Command, Delivery, Driver, Revision, SendError, Subscribers, Work};
use steadfast_providers::{Answer, Ask, Provider, RequestError};

use super::support::{self, Plain, START, Slow, answer, created, polled, run, started, submit, turn};

struct Somebody;

impl Subscribers for Somebody {
    fn are_there(&self) -> bool {
        true
    }

    fn tell(&self, _: Revision) {}
}

fn driver() -> Driver<()> {
    driver_on(&Slow::default())
}

fn driver_on(store: &Slow) -> Driver<()> {
    let mut driver = started(SendSafety::Unsafe, store);
    driver.tell_revisions_to(Box::new(Somebody));
    driver
}

fn work(driver: &mut Driver<()>) -> Option<Work> {
    turn(driver, START).1
}

fn deliver(driver: &mut Driver<()>, body: &'static str) -> oneshot::Receiver<Delivery> {
    support::deliver(driver, body, START)
}

const READY: &str = r#"{"reference":"txn-1","status":"ready"}"#;
const STRANGER: &str = r#"{"reference":"txn-of-another-program","status":"ready"}"#;

/// No look-up for a webhook makes a job, so none can turn out to be the one that another event is about.
#[test]
fn a_strangers_event_does_not_wait_for_what_is_looked_up_for_other_webhooks() {
    let mut driver = driver();
    let known = deliver(&mut driver, r#"{"reference":"txn-1","key":"order-1","status":"lapsed"}"#);
    let looks_up = work(&mut driver).unwrap();
    for _ in 0..2 {
        let stranger = deliver(&mut driver, STRANGER);
        assert_eq!(stranger.try_recv(), Ok(Delivery::Unknown { repeat: false }));
    }
    driver.worked(looks_up.run_one(), START);
    assert!(work(&mut driver).is_none());
    assert_eq!(known.try_recv(), Ok(Delivery::Unknown { repeat: false }));
}

/// A submit's does: its job may have a create under way since before a restart.
#[test]
fn an_event_waits_while_a_key_is_looked_up_for_a_job() {
    let mut driver = driver();
    let _taken = submit(&mut driver, "order-1", START);
    let _looks_up = work(&mut driver).unwrap();
    let early = deliver(&mut driver, STRANGER);
    assert_eq!(early.try_recv(), Err(oneshot::TryRecvError::Empty));
    driver.handle_timeout(START.saturating_add(Duration::from_secs(3)));
    assert_eq!(early.try_recv(), Ok(Delivery::Early));
}

/// I15: however large the events are that a provider sends while the disk hangs. Once it is back, there is room again.
#[test]
fn what_waits_for_the_store_is_bounded_in_bytes() {
    let mut driver = driver();
    let large = |n: usize| -> &'static str {
        let pad = "x".repeat(1_000_000 + n);
        Box::leak(format!(r#"{{"key":"order-{n}","status":"ready","pad":"{pad}"}}"#).into_boxed_str())
    };
    for round in 0..2 {
        let first = deliver(&mut driver, large(round));
        let mut looks_up = work(&mut driver);
        let told: Vec<_> = (10..30).map(|n| deliver(&mut driver, large(n + 100 * round))).collect();
        let busy = told.iter().filter(|told| told.try_recv() == Ok(Delivery::Busy)).count();
        assert_eq!(busy, 5, "of 21 megabytes sixteen are kept");
        while let Some(work) = looks_up {
            driver.worked(work.run_one(), START);
            looks_up = turn(&mut driver, START).1;
        }
        assert_eq!(first.try_recv(), Ok(Delivery::Unknown { repeat: false }));
    }
}

/// Its sender waits 5 s (Didit), whatever has to be found out on the way.
#[test]
fn what_is_looked_up_and_then_waits_for_its_job_has_one_time_for_both() {
    let mut driver = driver();
    let after = |millis| START.saturating_add(Duration::from_millis(millis));
    let told = deliver(&mut driver, r#"{"key":"order-1","status":"lapsed"}"#);
    let looks_up = work(&mut driver).unwrap();
    let _taken = submit(&mut driver, "order-1", START);
    driver.worked(looks_up.run_one(), after(2_900));
    while driver.pop_task(after(2_900)).is_some() {}
    assert_eq!(told.try_recv(), Err(oneshot::TryRecvError::Empty), "it may be about what is being submitted");
    driver.handle_timeout(after(3_000));
    assert_eq!(told.try_recv(), Ok(Delivery::Early));
}

/// A create's answer was lost, and nobody waits for the job any more: what the provider calls it is all by which it can
/// be resumed, and its sender does not repeat it.
#[test]
fn a_reference_that_comes_after_an_end_that_nobody_heard_of_is_kept() {
    let store = Slow::default();
    let mut driver = driver_on(&store);
    drop(submit(&mut driver, "order-1", START));
    let create = run(&mut driver, START).remove(0);
    driver.answered(create.reader.read(Err(SendError::ambiguous()), START), START);
    run(&mut driver, START);
    let told = deliver(&mut driver, r#"{"reference":"txn-1","key":"order-1","status":"pending"}"#);
    run(&mut driver, START);
    assert_eq!(told.try_recv(), Ok(Delivery::Taken));
    let entry = store.entry("order-1");
    assert_eq!(entry.record.stage, Stage::Ended(Outcome::Unresolved(Unresolved::Ambiguous)), "nobody has it");
    assert_eq!(entry.record.reference, Some(Reference::new("txn-1").unwrap()));
}

/// Whoever sent it is gone, and is not what the driver wakes for once more.
#[test]
fn what_is_looked_up_too_late_for_its_sender_leaves_no_deadline_in_the_past() {
    let mut driver = driver();
    let told = deliver(&mut driver, r#"{"key":"order-1","status":"lapsed"}"#);
    let looks_up = work(&mut driver).unwrap();
    let _taken = submit(&mut driver, "order-1", START);
    let now = driver.next_deadline().unwrap();
    driver.handle_timeout(now);
    assert_eq!(told.try_recv(), Ok(Delivery::NotDurable));
    driver.worked(looks_up.run_one(), now);
    while driver.pop_task(now).is_some() {}
    assert!(driver.next_deadline().is_none_or(|at| at > now), "{:?} at {now:?}", driver.next_deadline());
}

/// Jobs that stay in review until somebody gives them up, and the status in each answer.
struct Reviewing(Plain);

impl Provider for Reviewing {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn policy(&self) -> OperationPolicy {
        self.0.policy()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        self.0.request(ask)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        if answer.status == 202 { Ok(Reading::Pending { hint: None }) } else { self.0.read(answer) }
    }

    fn decision(&self, answer: &Answer<'_>) -> Option<Box<str>> {
        std::str::from_utf8(answer.body).ok().map(Into::into)
    }

    fn has_webhooks(&self) -> bool {
        true
    }
}

struct Hears(Arc<Mutex<Vec<Box<str>>>>);

impl Subscribers for Hears {
    fn are_there(&self) -> bool {
        true
    }

    fn tell(&self, revision: Revision) {
        self.0.lock().unwrap().push(revision.status);
    }
}

/// Its end is on its way to the disk, or is there: an answer that it had before is no decision.
#[test]
fn of_a_job_that_was_given_up_the_latest_answer_is_no_decision() {
    for is_durable in [false, true] {
        let heard = Arc::<Mutex<Vec<Box<str>>>>::default();
        let builder = Builder::<_, _, ()>::new(Reviewing(Plain(SendSafety::Unsafe)), ()).store(Slow::default());
        let mut driver = support::driver(builder);
        driver.tell_revisions_to(Box::new(Hears(heard.clone())));
        run(&mut driver, START);
        let (following, poll, now) = polled(&mut driver, "order-1");
        answer(&mut driver, poll, 202, "in review", now);
        driver.command(Command::Cancel(following.id.unwrap()), now);
        let (_, mut written) = turn(&mut driver, now);
        if is_durable {
            driver.worked(written.take().unwrap().run_one(), now);
            run(&mut driver, now);
        }
        let _told = support::deliver(&mut driver, r#"{"reference":"txn-1","status":"in review"}"#, now);
        if let Some(written) = written {
            driver.worked(written.run_one(), now);
        }
        run(&mut driver, now);
        assert_eq!(*heard.lock().unwrap(), ["in review".into()], "durable: {is_durable}");
    }
}

/// What ended the job is on its way to the disk: the answer to a poll that had left before is not its result.
#[test]
fn the_result_of_a_webhook_is_not_overwritten_by_an_answer_that_comes_later() {
    let mut driver = started(SendSafety::Unsafe, &Slow::default());
    let (following, poll, now) = polled(&mut driver, "order-1");
    let told = support::deliver(&mut driver, READY, now);
    let (_, written) = turn(&mut driver, now);
    answer(&mut driver, poll, 200, "of the poll", now);
    driver.worked(written.unwrap().run_one(), now);
    run(&mut driver, now);
    assert_eq!(told.try_recv(), Ok(Delivery::Taken));
    let finished = following.finished.try_recv().unwrap().read();
    assert_eq!(finished.outcome, Outcome::Completed(Completed::Ready));
    assert_eq!(String::from_utf8_lossy(finished.body()), READY);
}

/// Its sender has to send it again: after a crash nobody here would know of it.
#[test]
fn a_webhook_whose_consequences_could_not_be_written_is_not_taken() {
    let store = Slow::default();
    let mut driver = started(SendSafety::Unsafe, &store);
    let (_following, _poll, now) = polled(&mut driver, "order-1");
    store.is_full(true);
    let told = support::deliver(&mut driver, READY, now);
    let (_, written) = turn(&mut driver, now);
    assert_eq!(told.try_recv(), Err(oneshot::TryRecvError::Empty));
    driver.worked(written.unwrap().run_one(), now);
    turn(&mut driver, now);
    assert_eq!(told.try_recv(), Ok(Delivery::NotDurable));
    assert_eq!(store.stage("order-1"), Stage::Accepted);
}

/// A webhook that comes before the create's answer teaches the reference; that answer alone has the page that a person
/// must open.
#[test]
fn who_waits_for_the_creates_answer_has_it_though_a_webhook_was_there_before_it() {
    // What becomes of the create: it is answered, fails, or has not come back when the first poll leaves.
    for (came, page) in [(Some(Ok("the page")), Some("the page")), (Some(Err(())), None), (None, None)] {
        let mut driver = support::driver(Builder::<_, _, ()>::new(Plain(SendSafety::Unsafe), ()));
        let (following, create) = created(&mut driver, "order-1", START);
        let (reply, told) = oneshot::channel();
        driver.command(Command::Accepted { id: following.id.unwrap(), reply }, START);
        let delivered = deliver(&mut driver, r#"{"reference":"txn-1","key":"order-1","status":"begun"}"#);
        assert!(run(&mut driver, START).is_empty(), "its answer is still wanted");
        assert_eq!(delivered.try_recv(), Ok(Delivery::Taken));
        assert!(told.try_recv().is_err(), "it may come yet");

        let mut now = START;
        match came {
            Some(Ok(body)) => answer(&mut driver, create, 201, body, now),
            Some(Err(())) => driver.answered(create.reader.read(Err(SendError::ambiguous()), now), now),
            None => now = driver.next_deadline().unwrap(),
        }
        // What the webhook told of is asked for then, and never beside the create.
        let polls = run(&mut driver, now);
        assert_eq!(polls.iter().map(|poll| poll.previous).collect::<Vec<_>>(), [came.is_none().then_some(())]);
        let accepted = told.try_recv().unwrap();
        assert_eq!(accepted.reference.as_str(), "txn-1");
        assert_eq!(accepted.answer.map(|answer| answer.body), page.map(Bytes::from));
        assert!(following.acceptance.get().is_some());
    }
}
