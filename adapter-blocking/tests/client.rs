//! A client on threads: what it promises, with a transport in process.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use steadfast_blocking::{
    Client, Finished, Handle, Observation, Outgoing, Seal, SealError, SendError, StartError, SubmitError, Transport,
};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Completed, Reading, Stage, Unresolved};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, Reference, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::{MemoryStore, SqliteStore};

const READY: Outcome = Outcome::Completed(Completed::Ready);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// 201 accepts, 202 is pending, 200 is ready, 4xx refuse.
struct Plain(OperationPolicy);

/// Retries and polls within milliseconds.
fn swift() -> OperationPolicy {
    let soon = BackoffPolicy::new(Growth::Fixed(ms(1)), ms(1), Jitter::None).unwrap();
    let create = RetryPolicy::new(5, ms(60_000), ms(10_000), soon.clone()).unwrap();
    let poll = PollPolicy::new(soon, 1_000, ms(60_000), create.clone()).unwrap();
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    OperationPolicy::default().with_create(create).unwrap().with_poll(poll).with_safety(keyed).unwrap()
}

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        self.0.clone()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let method = if ask.kind == Kind::Create { Method::POST } else { Method::GET };
        let request = Request::builder().method(method).uri("https://provider.test/jobs");
        request.body(ask.payload.bytes().clone()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.status.as_u16() {
            201 => Ok(Reading::Accepted(Reference::new(String::from_utf8_lossy(answer.body)).unwrap())),
            202 => Ok(Reading::Pending { hint: None }),
            200 => Ok(Reading::Ready),
            418 => panic!("the profile has a bug"),
            400..=499 => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            _ => Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
        }
    }
}

fn answer(status: u16, body: &str) -> Result<Response<Bytes>, SendError> {
    Ok(Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap())
}

/// Answers by a function.
struct Script<F>(F);

impl<F> Transport for Script<F>
where
    F: Fn(Outgoing) -> Result<Response<Bytes>, SendError> + Send + Sync + 'static,
{
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        self.0(outgoing)
    }
}

/// Accepts each job, and has it ready when it is asked for the third time.
fn willing() -> impl Fn(Outgoing) -> Result<Response<Bytes>, SendError> {
    let polls: Mutex<HashMap<Key, u32>> = Mutex::default();
    move |outgoing| match outgoing.attempt.kind {
        Kind::Create => answer(201, &format!("txn-{}", outgoing.key.as_str())),
        _ => {
            let mut polls = polls.lock().unwrap();
            let polls = polls.entry(outgoing.key).or_default();
            *polls += 1;
            if *polls < 3 { answer(202, "") } else { answer(200, "the result") }
        }
    }
}

/// Holds each request until it is let go.
struct Held {
    arrived: Receiver<Outgoing>,
    let_go: Sender<u16>,
}

fn held() -> (Held, impl Fn(Outgoing) -> Result<Response<Bytes>, SendError> + Send + Sync + 'static) {
    let (arrives, arrived) = channel();
    let (let_go, gone) = channel();
    let (arrives, gone) = (Mutex::new(arrives), Mutex::new(gone));
    let transport = move |outgoing| {
        let _ = arrives.lock().unwrap().send(outgoing);
        match gone.lock().unwrap().recv() {
            Ok(status) => answer(status, "txn-1"),
            Err(_) => Err(SendError::ambiguous()),
        }
    };
    (Held { arrived, let_go }, transport)
}

fn client(transport: impl Fn(Outgoing) -> Result<Response<Bytes>, SendError> + Send + Sync + 'static) -> Client {
    Client::builder(Plain(swift()), Script(transport)).start().unwrap()
}

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

#[test]
fn a_shutdown_says_what_is_unfinished_and_a_later_client_goes_on() {
    let directory = std::env::temp_dir().join(format!("steadfast-blocking-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("jobs.db");
    let (held, transport) = held();
    let store = SqliteStore::open(&path).unwrap();
    let first = Client::builder(Plain(swift()), Script(transport)).store(store).start().unwrap();
    let job = first.submit(key("order-1"), "{}").unwrap();
    held.let_go.send(201).unwrap();
    let kinds: Vec<_> = (0..2).map(|_| held.arrived.recv().unwrap().attempt.kind).collect();
    assert_eq!(kinds, [Kind::Create, Kind::Poll]);
    let unfinished = first.shutdown(ms(1));
    assert_eq!(unfinished.iter().map(|job| job.stage).collect::<Vec<_>>(), [Stage::Accepted]);
    assert!(job.wait().is_err());

    let creates = Arc::new(AtomicUsize::new(0));
    let counted = creates.clone();
    let willing = willing();
    let transport = move |outgoing: Outgoing| {
        counted.fetch_add(usize::from(outgoing.attempt.kind == Kind::Create), Ordering::SeqCst);
        willing(outgoing)
    };
    // The file is closed, though a request was still in the air.
    let store = SqliteStore::open(&path).unwrap();
    let second = Client::builder(Plain(swift()), Script(transport)).store(store).start().unwrap();
    assert_eq!(second.call(key("order-1"), "{}").unwrap().outcome, READY);
    assert_eq!(creates.load(Ordering::SeqCst), 0);
    drop(second);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn whoever_waits_is_told_when_the_client_stops() {
    let (held, transport) = held();
    let client = client(transport);
    let waits = client.submit(key("order-1"), "{}").unwrap();
    held.arrived.recv().unwrap();
    let other = client.clone();
    let unfinished = client.shutdown(Duration::ZERO);
    assert_eq!(unfinished.len(), 1);
    assert!(waits.wait().is_err());
    assert!(matches!(other.submit(key("order-2"), "{}"), Err(SubmitError::Stopped)));
    assert!(other.shutdown(Duration::ZERO).is_empty());
}

/// Dropped at any moment, it neither hangs nor leaves a thread behind.
#[test]
fn a_dropped_client_leaves_no_thread() {
    let before = threads();
    for moment in 0..40 {
        let willing = willing();
        let builder = Client::builder(Plain(swift()), Script(willing));
        let client = builder.store(MemoryStore::default()).start().unwrap();
        for job in 0..moment {
            // Nobody waits for it: the client goes down in the midst of them.
            drop(client.submit(key(&format!("order-{job}")), "{}").unwrap());
        }
    }
    let until = Instant::now() + Duration::from_secs(60);
    while threads() > before {
        assert!(Instant::now() < until, "{} threads, {before} before", threads());
        std::thread::yield_now();
    }
}

/// It would wait for itself, for ever. The observer is lost to its bug, and the job is not.
#[test]
fn who_waits_for_a_client_in_its_own_hook_is_told() {
    type Waits = fn(&Client, &mut Option<Handle>);
    let all: [Waits; 5] = [
        |client, _| drop(client.submit(key("order-2"), "{}")),
        |client, _| drop(client.resume(key("order-2"))),
        |client, _| drop(client.deliver(&HeaderMap::new(), Bytes::new())),
        |_, job| drop(job.take().map(Handle::wait)),
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

/// A server that has answered *accepted* drops the handle; one that only waited for the acceptance drops it with the
/// outcome in it.
#[test]
fn a_hook_takes_what_nobody_read_and_nothing_else() {
    let (tells, told) = channel();
    let tells = Mutex::new(tells);
    let refuses = Script(|outgoing: Outgoing| match outgoing.key.as_str() {
        "refused" => answer(422, ""),
        _ => answer(201, "txn"),
    });
    let builder = Client::builder(Plain(swift()), refuses)
        .unclaimed(move |key, finished| tells.lock().unwrap().send((key.clone(), finished.outcome.name())).unwrap());
    let client = builder.start().unwrap();
    assert_eq!(client.call(key("refused"), "{}").unwrap().outcome.name(), "rejected");
    let job = client.submit(key("refused"), "{}").unwrap();
    job.accepted().unwrap_err();
    assert!(told.try_recv().is_err());
    drop(job);
    assert_eq!(told.recv().unwrap(), (key("refused"), "rejected"));

    let job = client.submit(key("cancelled"), "{}").unwrap();
    job.cancel();
    drop(job);
    assert_eq!(told.recv().unwrap().0, key("cancelled"));
    let mut job = client.submit(key("refused"), "{}").unwrap();
    while job.wait_timeout(ms(1_000)).unwrap().is_none() {}
    drop(job);
    drop(client);
    assert!(told.recv().is_err(), "the hook goes with the driver");
}

/// However closely a handle goes down behind the end of its job: its outcome is read, or the hook has it.
#[test]
fn an_outcome_is_never_dropped_between_its_reader_and_the_hook() {
    const JOBS: usize = 2_000;
    let heard = Arc::new(AtomicUsize::new(0));
    let hears = heard.clone();
    let builder = Client::builder(Plain(swift()), Script(|_| answer(422, ""))).unclaimed(move |_, _| {
        hears.fetch_add(1, Ordering::Relaxed);
    });
    let client = builder.start().unwrap();
    let mut read = 0;
    for n in 0..JOBS {
        let mut job = client.submit(key(&format!("job-{n}")), "{}").unwrap();
        // As long as it takes to end, or a little less or more.
        (0..n % 5_000).for_each(|_| std::hint::spin_loop());
        read += usize::from(n % 2 == 0 && job.try_outcome().unwrap().is_some());
    }
    let late = client.submit(key("late"), "{}").unwrap();
    assert!(client.shutdown(ms(60_000)).is_empty());
    assert_eq!(read + heard.load(Ordering::Relaxed), JOBS);
    // The driver is gone that would have told the hook.
    drop(late);
    assert_eq!(read + heard.load(Ordering::Relaxed), JOBS + 1);
}

/// The last one goes down in the program's own hook, which runs on whatever thread has the driver: nobody waits for
/// itself.
#[test]
fn a_client_may_be_dropped_in_a_hook() {
    let (gone, is_gone) = channel::<()>();
    let held: Arc<Mutex<Option<Client>>> = Arc::default();
    let (last, gone) = (held.clone(), Mutex::new(gone));
    let builder = Client::builder(Plain(swift()), Script(willing())).observer(move |seen| {
        let _gone = &gone;
        if let Notice::Ended { .. } = seen.notice {
            drop(last.lock().unwrap().take());
        }
    });
    let client = builder.start().unwrap();
    let inside = client.clone();
    *held.lock().unwrap() = Some(inside);
    drop(client.submit(key("order-1"), "{}").unwrap());
    drop(client);
    // The hook goes with the driver.
    assert_eq!(is_gone.recv_timeout(ms(60_000)), Err(RecvTimeoutError::Disconnected));
}

/// So does one that is shut down there, once by the hook itself and once more when the last goes.
#[test]
fn a_client_may_be_shut_down_in_a_hook() {
    let (tells, told) = channel();
    let held: Arc<Mutex<Option<Client>>> = Arc::default();
    let (last, tells) = (held.clone(), Mutex::new(tells));
    let builder = Client::builder(Plain(swift()), Script(willing())).observer(move |seen| {
        if let Notice::Ended { .. } = seen.notice {
            let unfinished = last.lock().unwrap().take().map(|client| client.shutdown(ms(60_000)));
            tells.lock().unwrap().send(unfinished).unwrap();
        }
    });
    let client = builder.start().unwrap();
    *held.lock().unwrap() = Some(client.clone());
    drop(client.submit(key("order-1"), "{}").unwrap());
    // It waits for the hook, and the hook does not wait for it.
    assert!(client.shutdown(ms(60_000)).is_empty());
    assert_eq!(told.recv_timeout(ms(60_000)), Ok(Some(Vec::new())));
    assert_eq!(told.recv_timeout(ms(60_000)), Err(RecvTimeoutError::Disconnected));
}

/// Shuts its client down when it is asked to seal, on the store's thread, which the driver waits for.
struct Stopping {
    last: Arc<Mutex<Option<Client>>>,
    tells: Mutex<Sender<usize>>,
}

impl Seal for Stopping {
    fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let client = self.last.lock().unwrap().take();
        let unfinished = client.map(|client| client.shutdown(ms(60_000)).len());
        unfinished.map(|unfinished| self.tells.lock().unwrap().send(unfinished));
        Ok(bytes.to_vec())
    }

    fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(sealed.to_vec())
    }
}

#[test]
fn a_client_may_be_shut_down_by_what_seals_for_it() {
    let (tells, told) = channel();
    let last: Arc<Mutex<Option<Client>>> = Arc::default();
    let seal = Stopping { last: last.clone(), tells: Mutex::new(tells) };
    let builder = Client::builder(Plain(swift()), Script(willing())).store(MemoryStore::default());
    let client = builder.keep_payloads().seal(seal).start().unwrap();
    *last.lock().unwrap() = Some(client.clone());
    let submitted = client.submit(key("order-1"), "{}");
    assert_eq!(told.recv_timeout(ms(60_000)), Ok(0));
    drop(submitted);
    let _ = client.shutdown(ms(60_000));
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

/// Of this process, as the system counts them; 0 where it does not say.
fn threads() -> usize {
    let ours = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("steadfast-"))
    };
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.flatten().filter(ours).count())
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
