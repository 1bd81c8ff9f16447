//! Jobs of a client on threads: how they are submitted, waited for and cancelled, and how many there may be.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use steadfast_blocking::{Client, Finished, Handle, Observation, Outgoing, StartError, SubmitError};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::Unresolved;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Kind, Outcome};

use super::support::{Held, Plain, READY, Script, answer, client, held, key, ms, swift, willing};

#[test]
fn a_call_brings_the_result() {
    let client = client(willing());
    let finished = client.call(key("order-1"), "{}").unwrap();
    assert_eq!((finished.outcome, finished.body()), (READY, &b"the result"[..]));
    assert_eq!(finished.reference.unwrap().as_str(), "txn-order-1");
    assert!(client.shutdown(Duration::ZERO).is_empty());
}

#[test]
fn a_handle_can_be_asked_again_and_again() {
    let (held, transport) = held();
    let client = client(transport);
    let mut job = client.submit(key("order-1"), "{}").unwrap();
    assert_eq!(job.try_outcome(), Ok(None));
    assert_eq!(job.wait_timeout(ms(5)), Ok(None));
    held.let_go.send(200).unwrap();
    let finished = job.wait_timeout(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(finished.outcome, READY);
    assert_eq!(job.try_outcome(), Ok(Some(finished.clone())));
    assert_eq!(job.wait().unwrap(), finished);
}

/// R: one execution per key: a second submit joins, another payload is refused.
#[test]
fn a_key_is_submitted_once() {
    let creates = Arc::new(AtomicUsize::new(0));
    let counted = creates.clone();
    let willing = willing();
    let client = client(move |outgoing| {
        counted.fetch_add(usize::from(outgoing.attempt.kind == Kind::Create), Ordering::SeqCst);
        willing(outgoing)
    });
    let submits = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| client.call(key("order-1"), "{}").unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<Finished>>()
    });
    assert!(submits.iter().all(|finished| *finished == submits[0]));
    assert_eq!(creates.load(Ordering::SeqCst), 1);
    assert!(matches!(client.submit(key("order-1"), "other"), Err(SubmitError::Refused(_))));
}

/// Waits cost no thread, and the gate lets out no more requests than were allowed.
#[test]
fn many_jobs_need_few_threads() {
    const JOBS: usize = 2_000;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (in_the_air, highest) = (now, most.clone());
    let willing = willing();
    let transport = move |outgoing| {
        highest.fetch_max(in_the_air.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let answer = willing(outgoing);
        in_the_air.fetch_sub(1, Ordering::SeqCst);
        answer
    };
    let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(4).unwrap()));
    let client = Client::builder(Plain(swift()), Script(transport)).gate(gate).start().unwrap();
    let jobs: Vec<_> = (0..JOBS).map(|n| client.submit(key(&format!("order-{n}")), "{}").unwrap()).collect();
    assert!(jobs.into_iter().all(|job| job.wait().unwrap().outcome == READY));
    assert!(most.load(Ordering::SeqCst) <= 4, "{most:?}");
}

/// Ten thousand jobs are under way at once, all of them accepted before the first is ready, and no more than 32
/// requests in the air or threads for them.
#[test]
fn ten_thousand_jobs_in_flight_need_thirty_two_threads() {
    const JOBS: usize = 10_000;
    const THREADS: u32 = 32;
    let (accepted, in_the_air, most) = (AtomicUsize::new(0), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let threads = Arc::<Mutex<HashSet<ThreadId>>>::default();
    let (highest, seen) = (most.clone(), threads.clone());
    let transport = move |outgoing: Outgoing| {
        highest.fetch_max(in_the_air.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        seen.lock().unwrap().insert(std::thread::current().id());
        let status = match outgoing.attempt.kind {
            Kind::Create => 201,
            _ if accepted.load(Ordering::SeqCst) < JOBS => 202,
            _ => 200,
        };
        accepted.fetch_add(usize::from(status == 201), Ordering::SeqCst);
        in_the_air.fetch_sub(1, Ordering::SeqCst);
        answer(status, &format!("txn-{}", outgoing.key.as_str()))
    };
    let seldom = BackoffPolicy::new(Growth::Fixed(ms(300)), ms(300), Jitter::None).unwrap();
    let poll = PollPolicy::new(seldom, 1_000, ms(600_000), swift().create().clone()).unwrap();
    let policy = swift().with_poll(poll);
    let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(THREADS).unwrap()));
    let limits = Limits { live: JOBS as u32, ..Limits::default() };
    let builder = Client::builder(Plain(policy), Script(transport)).gate(gate).limits(limits);
    let client = builder.start().unwrap();
    let jobs: Vec<_> = (0..JOBS).map(|n| client.submit(key(&format!("order-{n}")), "{}").unwrap()).collect();
    for job in jobs {
        let finished = job.wait().unwrap();
        assert_eq!((finished.outcome, finished.creates), (READY, 1));
    }
    let (most, threads) = (most.load(Ordering::SeqCst), threads.lock().unwrap().len());
    // One that has been idle for ten seconds ends, and another may take its place.
    assert!(most <= THREADS as usize && threads < 2 * THREADS as usize, "{most} at once, on {threads} threads");
}

/// Each submit would wait for ever.
#[test]
fn a_client_without_room_for_a_job_is_not_started() {
    let limits = Limits { live: 0, ..Limits::default() };
    let started = Client::builder(Plain(swift()), Script(willing())).limits(limits).start();
    assert!(matches!(started, Err(StartError::NoRoom)), "{started:?}");
}

#[test]
fn a_cancelled_job_says_whether_it_may_have_run() {
    let (held, transport) = held();
    let client = client(transport);
    let sent = client.submit(key("order-1"), "{}").unwrap();
    held.arrived.recv().unwrap();
    client.hold(Duration::from_secs(3_600));
    let unsent = client.submit(key("order-2"), "{}").unwrap();
    unsent.cancel();
    sent.cancel();
    assert!(matches!(unsent.wait().unwrap().outcome, Outcome::Rejected(_)));
    assert_eq!(sent.wait().unwrap().outcome, Outcome::Unresolved(Unresolved::Cancelled));
}

/// What the program brings may panic: that costs the request, and no more.
#[test]
fn a_panic_in_the_programs_code_poisons_nothing() {
    let willing = willing();
    let client = Client::builder(
        Plain(swift()),
        Script(move |outgoing: Outgoing| match outgoing.key.as_str() {
            "transport" if outgoing.attempt.id.0 == 1 => panic!("the transport has a bug"),
            "profile" => answer(418, ""),
            _ => willing(outgoing),
        }),
    );
    let client = client.observer(|_| panic!("the observer has a bug")).start().unwrap();
    let transport = client.call(key("transport"), "{}").unwrap();
    assert_eq!((transport.outcome, transport.creates), (READY, 2), "sent again under its key");
    let profile = client.call(key("profile"), "{}").unwrap();
    assert!(matches!(profile.outcome, Outcome::Unresolved(_)), "{profile:?}");
    assert_eq!(client.call(key("order-1"), "{}").unwrap().outcome, READY);
}

/// What a panic leaves behind, and one does not even get rid of.
struct Rubble;

impl Drop for Rubble {
    fn drop(&mut self) {
        panic!("nobody gets rid of it");
    }
}

/// Of a request whose thread came to grief nothing is known, not even that it failed: it is over at its time-out, and
/// the job's next one leaves.
#[test]
fn a_request_that_ends_without_an_answer_costs_its_time_and_no_more() {
    let soon = BackoffPolicy::new(Growth::Fixed(ms(1)), ms(1), Jitter::None).unwrap();
    let short = RetryPolicy::new(5, ms(60_000), ms(250), soon.clone()).unwrap();
    let poll = PollPolicy::new(soon, 1_000, ms(60_000), short.clone()).unwrap();
    let policy = swift().with_create(short).unwrap().with_poll(poll);
    // The create, and the first poll.
    for attempt in [1, 2] {
        let willing = willing();
        let transport = move |outgoing: Outgoing| {
            if (outgoing.key.as_str(), outgoing.attempt.id.0) == ("order-1", attempt) {
                std::panic::panic_any(Rubble);
            }
            willing(outgoing)
        };
        let client = Client::builder(Plain(policy.clone()), Script(transport)).start().unwrap();
        for order in ["order-1", "order-2"] {
            let finished = client.call(key(order), "{}").unwrap();
            assert_eq!(finished.outcome, READY, "{order}, attempt {attempt}");
        }
        assert!(client.shutdown(Duration::ZERO).is_empty());
    }
}

/// It would wait for itself, for ever. The observer is lost to its bug, and the job is not.
#[test]
fn who_waits_for_a_client_in_its_own_hook_is_told() {
    type Waits = fn(&Client, &mut Option<Handle>);
    let all: [Waits; 6] = [
        |client, _| drop(client.submit(key("order-2"), "{}")),
        |client, _| drop(client.resume(key("order-2"))),
        |client, _| drop(client.deliver(&HeaderMap::new(), Bytes::new())),
        |_, job| drop(job.take().map(Handle::wait)),
        |_, job| drop(job.as_mut().map(|job| job.wait_timeout(ms(1)))),
        |_, job| drop(job.as_ref().map(Handle::accepted)),
    ];
    for waits in all {
        let (given, lent) = channel::<(Client, Option<Handle>)>();
        let (told, is_told) = channel();
        let lent = Mutex::new(lent);
        let observer = move |_: &Observation| {
            let Ok((client, mut job)) = lent.lock().unwrap().try_recv() else { return };
            let said = catch_unwind(AssertUnwindSafe(|| waits(&client, &mut job))).expect_err("it does not wait");
            told.send(*said.downcast::<&str>().unwrap()).unwrap();
            panic!("as it was told to");
        };
        let client = Client::builder(Plain(swift()), Script(willing())).observer(observer).start().unwrap();
        client.hold(Duration::from_secs(3_600));
        let job = client.submit(key("order-1"), "{}").unwrap();
        given.send((client.clone(), Some(job))).unwrap();
        client.hold(Duration::ZERO);
        assert!(is_told.recv().unwrap().contains("another thread"));
        assert_eq!(client.call(key("order-1"), "{}").unwrap().outcome, READY);
    }
}

/// A few threads want something while others bring answers, and no time is set that would wake anybody: none waits for
/// a turn that nobody takes. A driver that was not woken looks again after 30 seconds, so that is what to be well below
/// of.
#[test]
fn nobody_waits_for_a_turn_that_nobody_takes() {
    const THREADS: usize = 3;
    const JOBS: usize = 3_000;
    let client = client(|_| answer(200, "the result"));
    let (tells, told) = channel();
    for thread in 0..THREADS {
        let (client, tells) = (client.clone(), tells.clone());
        std::thread::spawn(move || {
            for job in 0..JOBS {
                tells.send(client.call(key(&format!("order-{thread}-{job}")), "{}").is_ok()).unwrap();
            }
        });
    }
    for _ in 0..THREADS * JOBS {
        assert_eq!(told.recv_timeout(ms(8_000)), Ok(true));
    }
}

/// Two attempts of one job are never in the air together: the second waits until the first has returned, and does not
/// leave if it need not any more.
fn with_a_held_create(then: impl FnOnce(&Held, &Client, &Handle)) -> (Outcome, Vec<Kind>) {
    let soon = BackoffPolicy::new(Growth::Fixed(ms(1)), ms(1), Jitter::None).unwrap();
    let create = RetryPolicy::new(5, ms(60_000), ms(30), soon).unwrap();
    let policy = swift().with_create(create).unwrap();
    let (held, transport) = held();
    let (begins, begun) = channel();
    let begins = Mutex::new(begins);
    let client = Client::builder(Plain(policy), Script(transport)).observer(move |seen| {
        if let Notice::Sending(attempt) = seen.notice {
            let _ = begins.lock().unwrap().send(attempt.id.0);
        }
    });
    let client = client.start().unwrap();
    let job = client.submit(key("order-1"), "{}").unwrap();
    // The first overruns its time-out, and the second begins.
    while begun.recv().unwrap() < 2 {}
    then(&held, &client, &job);
    let Held { arrived, let_go } = held;
    // Whatever leaves from now on is answered at once.
    drop(let_go);
    let outcome = job.wait().unwrap().outcome;
    let _ = client.shutdown(Duration::ZERO);
    (outcome, arrived.try_iter().map(|outgoing| outgoing.attempt.kind).collect())
}

/// No create after acceptance: the answer to the first, which came too late, still counts for what it teaches.
#[test]
fn a_held_create_does_not_leave_once_the_job_is_accepted() {
    let (outcome, sent) = with_a_held_create(|held, _, _| {
        for status in [201, 200] {
            held.let_go.send(status).unwrap();
        }
    });
    assert_eq!(outcome, READY);
    assert_eq!(sent, [Kind::Create, Kind::Poll]);
}

#[test]
fn a_held_create_does_not_leave_once_the_job_is_cancelled() {
    let (outcome, sent) = with_a_held_create(|_, client, job| {
        job.cancel();
        // What was asked before it has been done.
        assert!(client.resume(key("nobody's")).is_err());
    });
    assert_eq!(outcome, Outcome::Unresolved(Unresolved::Cancelled));
    assert_eq!(sent, [Kind::Create]);
}
