//! Many releases after one another on one journal, each with other settings, each killed or shut down at some moment.
//! What no deploy may break: a job runs at most once, no create overlaps another, an outcome once told stays, an answer
//! is the provider's, and no job is lost. Virtual time.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::Response;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::engine::Limits;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, SendSafety, Timestamp};
use steadfast_store::{Entry, Store, StoreError};
use steadfast_tokio::{Client, Finished, Outgoing, Seal, SealError, SendError, SubmitError, Transport};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{DAY, Kept, Plain, answer, key};

const SECOND: Duration = Duration::from_secs(1);
const JOBS: usize = 6;

/// One process: its store and its requests end with it.
#[derive(Clone)]
struct Life<T> {
    inner: T,
    alive: Arc<AtomicBool>,
}

impl<T> Life<T> {
    fn store<R>(&mut self, work: impl FnOnce(&mut T) -> Result<R, StoreError>) -> Result<R, StoreError> {
        if self.alive.load(Ordering::SeqCst) { work(&mut self.inner) } else { Err(StoreError::uncertain("dead")) }
    }
}

impl Store for Life<Kept> {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.store(|store| store.append(entries))
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.store(Store::load)
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.store(Store::load_live)
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store(|store| store.find(key))
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.store(|store| store.forget(before, most))
    }

    fn is_backup(&self) -> bool {
        self.inner.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.store(Store::take_into_use)
    }
}

/// What the provider knows of a key.
#[derive(Default)]
struct Known {
    ran: usize,
    bodies: Vec<Bytes>,
    /// Until when it works on the first create of the job.
    busy: Option<Instant>,
    overlaps: usize,
}

#[derive(Clone)]
struct Upstream {
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    rng: Arc<Mutex<Rng>>,
    honours: bool,
    faulty: Arc<AtomicBool>,
}

impl Upstream {
    fn create(&self, key: &str, body: Bytes, first: bool, given: Duration) -> (Duration, Option<Response<Bytes>>) {
        let mut rng = self.rng.lock().unwrap();
        let fault = if self.faulty.load(Ordering::SeqCst) { rng.u32(..10) } else { 9 };
        // It may take nearly all of the time that the first create is given.
        let takes = if first { given.mul_f64(rng.f64() * 0.95) } else { SECOND.mul_f64(rng.f64() * 4.0) };
        let takes = if fault == 9 && !self.faulty.load(Ordering::SeqCst) { SECOND / 20 } else { takes };
        let mut all = self.known.lock().unwrap();
        let known = all.entry(key.to_owned()).or_default();
        known.overlaps += usize::from(known.busy.is_some_and(|until| until > Instant::now()));
        let takes = if fault < 4 { SECOND / 20 } else { takes };
        known.busy = first.then(|| Instant::now() + takes);
        if fault <= 1 {
            return (takes, Some(answer([422, 503][fault as usize], "no")));
        }
        known.bodies.push(body);
        known.ran += usize::from(known.ran == 0 || !self.honours);
        match fault {
            2 => (takes, Some(answer(500, "run, and lost"))),
            3 => (takes, None),
            _ => (takes, Some(answer(201, format!("txn-{key}")))),
        }
    }
}

impl Transport for Life<Upstream> {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        if !self.alive.load(Ordering::SeqCst) {
            return pending().await;
        }
        let (key, attempt) = (outgoing.key.as_str(), outgoing.attempt);
        let (takes, answered) = if attempt.kind == Kind::Create {
            let given = outgoing.timeout;
            self.inner.create(key, outgoing.request.body().clone(), attempt.number == 1, given)
        } else if attempt.kind == Kind::Lookup {
            let ran = self.inner.known.lock().unwrap().get(key).is_some_and(|known| known.ran > 0);
            let found = if ran { answer(201, format!("txn-{key}")) } else { answer(404, "no") };
            (SECOND / 20, Some(found))
        } else {
            let ready = !self.inner.faulty.load(Ordering::SeqCst) || self.inner.rng.lock().unwrap().u32(..4) == 0;
            let status = if ready { 200 } else { 202 };
            (SECOND / 20, Some(answer(status, format!("result of {key}"))))
        };
        sleep(takes).await;
        if !self.alive.load(Ordering::SeqCst) {
            return pending().await;
        }
        answered.ok_or_else(SendError::ambiguous)
    }
}

struct Ring(u8);

impl Seal for Ring {
    fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok([0xC1, self.0].into_iter().chain(bytes.iter().map(|byte| byte ^ self.0)).collect())
    }

    /// Knows the keys up to its own.
    fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        match sealed {
            [0xC1, by, rest @ ..] if *by <= self.0 => Ok(rest.iter().map(|byte| byte ^ by).collect()),
            _ => Err("by a later key, or not sealed".into()),
        }
    }
}

fn policy(rng: &mut Rng, safeties: &[SendSafety]) -> OperationPolicy {
    let safety = safeties[rng.usize(..safeties.len())];
    let flat = |secs: u32| BackoffPolicy::new(Growth::Fixed(secs * SECOND), secs * SECOND, Jitter::Full).unwrap();
    let time_out = [5, 20, 60][rng.usize(..3)] * SECOND;
    let create = RetryPolicy::new(rng.u16(1..5), [20, 120, 600][rng.usize(..3)] * SECOND, time_out, flat(2)).unwrap();
    let polls = RetryPolicy::new(3, 60 * SECOND, 5 * SECOND, flat(2)).unwrap();
    let poll = PollPolicy::new(flat(rng.u32(1..5)), rng.u16(1..12), 180 * SECOND, polls).unwrap();
    OperationPolicy::default().with_safety(safety).unwrap().with_create(create).unwrap().with_poll(poll)
}

/// What callers and the hook were told of each key, in order.
#[derive(Clone, Default)]
struct Told {
    outcomes: Arc<Mutex<BTreeMap<String, Vec<Outcome>>>>,
    /// Not a panic: a hook's, and a task's, would be caught.
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Told {
    fn tell(&self, finished: &Finished) {
        let name = finished.key.as_str();
        if let Some(answer) = &finished.answer {
            let is_providers = [&*format!("result of {name}"), "no", "run, and lost", &*format!("txn-{name}")]
                .iter()
                .any(|body| answer.body == body.as_bytes());
            if !is_providers {
                self.wrong.lock().unwrap().push(format!("{name} has {:?}", answer.body));
            }
        }
        let mut told = self.outcomes.lock().unwrap();
        let told = told.entry(name.to_owned()).or_default();
        if let Some(before @ (Outcome::Completed(_) | Outcome::Failed)) = told.last()
            && *before != finished.outcome
        {
            let wrong = format!("{name} was told to be {before:?}, and then {:?}", finished.outcome);
            self.wrong.lock().unwrap().push(wrong);
        }
        told.push(finished.outcome);
    }
}

#[test]
fn no_row_of_releases_breaks_what_is_promised() {
    let mut seen = BTreeMap::new();
    for (seed, store) in (0..30).flat_map(|seed| Kept::both().map(|store| (seed, store))) {
        // Of its own, so that what is left of dead processes ends with it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(row(seed, store, &mut seen));
    }
    assert!(seen["completed"] > 100 && seen["unresolved"] > 50 && seen["refused"] > 50, "{seen:?}");
}

async fn row(seed: u64, store: Kept, seen: &mut BTreeMap<&str, usize>) {
    let mut rng = Rng::with_seed(seed);
    let honours = rng.bool();
    // Each of these is true of the provider.
    let (keyed, lookup) = (SendSafety::Keyed { window: DAY }, SendSafety::Lookup { settle: 5 * SECOND });
    let safeties = if honours {
        vec![keyed, SendSafety::Idempotent, SendSafety::Unsafe, lookup]
    } else {
        vec![SendSafety::Unsafe, lookup]
    };
    let upstream = Upstream {
        known: Arc::default(),
        rng: Arc::new(Mutex::new(rng.fork())),
        honours,
        faulty: Arc::new(AtomicBool::new(true)),
    };
    let told = Told::default();
    let mut payloads = BTreeMap::<String, &str>::new();
    let lives = rng.usize(2..7);
    for life in 0..=lives {
        let last = life == lives;
        upstream.faulty.store(!last, Ordering::SeqCst);
        let alive = Arc::new(AtomicBool::new(true));
        let shards = [1, 2, 4][rng.usize(..3)];
        let limits = Limits { live: rng.u32(4..20), remember_for: 30 * DAY, ..Limits::default() };
        let transport = Life { inner: upstream.clone(), alive: alive.clone() };
        let mut builder = Client::builder(Plain, transport)
            .store(Life { inner: store.clone(), alive: alive.clone() })
            .policy(policy(&mut rng, &safeties))
            .limits(limits)
            .shards(shards);
        builder = if rng.bool() { builder.keep_payloads() } else { builder };
        builder = if rng.bool() { builder.keep_answers() } else { builder };
        if rng.bool() {
            builder = builder.seal(Ring(rng.u8(1..4)));
        }
        if rng.bool() {
            let (told, alive) = (told.clone(), alive.clone());
            builder = builder.unclaimed(move |_, finished| {
                if alive.load(Ordering::SeqCst) {
                    told.tell(finished);
                }
            });
        }
        let began = Instant::now();
        let client = builder.start().await.unwrap();
        let mut jobs = Vec::new();
        for n in 0..JOBS {
            let name = format!("order-{n}");
            if !last && rng.bool() {
                continue;
            }
            let payload =
                if last { payloads.get(&name).copied().unwrap_or("{}") } else { ["{}", "{}", "{ }"][rng.usize(..3)] };
            match timeout(if last { 3_600 } else { 60 } * SECOND, client.submit(key(&name), payload)).await {
                Ok(Ok(job)) => {
                    payloads.insert(name, payload);
                    jobs.push(job);
                }
                Ok(Err(SubmitError::Refused(_))) => {
                    let first = payloads.get(&name);
                    assert!(first.is_some_and(|first| *first != payload), "seed {seed}: {name} was refused");
                    *seen.entry("refused").or_default() += 1;
                }
                Ok(Err(other)) => panic!("seed {seed}: {other}"),
                // It waits for room, and may come in after this process has died: then its payload is not known here.
                Err(_) => assert!(!last, "seed {seed}: {name} finds no room"),
            }
        }
        if last {
            for job in jobs {
                let finished = timeout(3_600 * SECOND, job).await.expect("it ends").unwrap();
                told.tell(&finished);
                *seen.entry(finished.outcome.name()).or_default() += 1;
            }
            break;
        }
        // Some wait, and some have let go.
        for job in jobs {
            if rng.bool() {
                let (told, alive) = (told.clone(), alive.clone());
                tokio::spawn(async move {
                    if let Ok(finished) = job.await
                        && alive.load(Ordering::SeqCst)
                    {
                        told.tell(&finished);
                    }
                });
            }
        }
        sleep(SECOND.mul_f64(rng.f64() * [3.0, 30.0, 120.0][rng.usize(..3)])).await;
        if rng.bool() {
            let _ = client.clone().shutdown(SECOND * rng.u32(0..20)).await;
        }
        alive.store(false, Ordering::SeqCst);
        drop(client);
        // A moment in which the provider works on, and then the next host, whose clock shows how long it all took,
        // unless it is behind.
        sleep(SECOND.mul_f64(rng.f64() * 5.0)).await;
        let behind = [Duration::ZERO, Duration::ZERO, 30 * SECOND, 2 * DAY][rng.usize(..4)];
        let back = |at: Timestamp| at.saturating_sub(began.elapsed()).saturating_add(behind);
        let mut entries = store.clone().load().unwrap();
        for entry in &mut entries {
            let record = &mut entry.record;
            record.submitted = back(record.submitted);
            record.first_sent = record.first_sent.map(back);
            record.due = record.due.map(back);
            entry.at = back(entry.at);
        }
        store.clone().append(&entries).unwrap();
    }
    assert_eq!(*told.wrong.lock().unwrap(), [""; 0], "seed {seed}");
    let (known, told) = (upstream.known.lock().unwrap(), told.outcomes.lock().unwrap());
    for (name, told) in &*told {
        let nothing = Known::default();
        let known = known.get(name).unwrap_or(&nothing);
        assert!(known.ran <= 1, "seed {seed}: {name} ran {} times", known.ran);
        assert_eq!(known.overlaps, 0, "seed {seed}: {name}: creates overlap");
        match told.last().unwrap() {
            Outcome::Completed(_) => assert_eq!(known.ran, 1, "seed {seed}: {name}"),
            Outcome::Rejected(_) => assert_eq!(known.ran, 0, "seed {seed}: {name}: {told:?}"),
            _ => {}
        }
        assert!(known.bodies.windows(2).all(|two| two[0] == two[1]), "seed {seed}: {name}: {:?}", known.bodies);
    }
}
