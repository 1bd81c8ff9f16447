//! Clients that are shut down or dropped, handles that are dropped, and the hook for outcomes that nobody read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steadfast_blocking::{Client, Outgoing, Seal, SealError, SubmitError};
use steadfast_core::notice::Notice;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Kind};
use steadfast_store::{MemoryStore, SqliteStore};

use super::support::{Plain, READY, Script, answer, client, held, key, ms, swift, willing};

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

/// Of this process, as the system counts them; 0 where it does not say.
fn threads() -> usize {
    let ours = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("steadfast-"))
    };
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.flatten().filter(ours).count())
}
