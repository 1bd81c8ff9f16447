//! What is counted is what happened: whole jobs by a driver in a loop, in virtual time, against the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, KeyName, Metadata, SharedString, Unit};
use metrics_util::MetricKind as Emitted;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use proptest::prelude::*;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Kind, Outcome, SendSafety, Timestamp};
use steadfast_driver::metrics::{MetricKind, TABLE};
use steadfast_driver::{Builder, Delivery, Driver, Mailbox, SendError, Submit, Task, WebhookPolicy};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

const NAME: &str = "deepvue/driving-license";

fn deepvue() -> Deepvue {
    let credentials = Credentials::new("canary-token", "canary-secret").unwrap();
    let provider =
        Deepvue::new(BaseUrl::parse("http://127.0.0.1:8080").unwrap(), "driving-license", credentials).unwrap();
    provider.with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap()
}

fn builder() -> Builder<Deepvue, (), ()> {
    Builder::new(deepvue(), ()).store(MemoryStore::default())
}

fn start(builder: Builder<Deepvue, (), ()>, now: Timestamp) -> Driver<()> {
    let (provider, (), settings) = builder.into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    Driver::new(Arc::new(provider), loaded, now)
}

type Came = Result<Response<Bytes>, SendError>;

fn answer(status: u16, body: &str) -> Came {
    Ok(Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Carries jobs to their ends; each request takes a second.
fn carry(driver: &mut Driver<()>, jobs: u32, mut answer: impl FnMut(Kind) -> Came) {
    let mut now = START;
    let mut ends = Vec::new();
    for job in 0..jobs {
        let (reply, submitted) = oneshot::channel();
        driver.submit(Submit::new(Key::new(format!("canary-{job}")).unwrap(), "{}".into(), reply), now);
        ends.push(submitted);
    }
    driver.abandon();
    loop {
        let mut came = Vec::new();
        while let Some(task) = driver.pop_task(now) {
            match task {
                Task::Send(sending) => came.push((answer(sending.outgoing.attempt.kind), sending.reader)),
                Task::Work(work) => driver.worked(work.run_one(), now),
                _ => {}
            }
        }
        if driver.is_over() {
            return;
        }
        if came.is_empty() {
            now = driver.next_deadline().unwrap_or(now).max(now);
        } else {
            now = now.saturating_add(Duration::from_secs(1));
        }
        for (came, reader) in came {
            driver.answered(reader.read(came, now), now);
        }
        driver.handle_timeout(now);
    }
}

/// By name, then by labels.
type Values = BTreeMap<String, BTreeMap<String, DebugValue>>;

/// What `run` told a recorder, before what it returns is dropped; each line of it is one of the table, and says nothing
/// that is not a word of ours.
fn recorded<T>(run: impl FnOnce() -> T) -> Values {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let kept = metrics::with_local_recorder(&recorder, run);
    let snapshot = snapshotter.snapshot();
    drop(kept);
    let mut values = Values::new();
    for (key, _, help, value) in snapshot.into_vec() {
        let (kind, key) = key.into_parts();
        let metric = TABLE.iter().find(|metric| metric.name == key.name());
        let metric = metric.unwrap_or_else(|| panic!("{} is not in the table", key.name()));
        let told = match kind {
            Emitted::Counter => MetricKind::Counter,
            Emitted::Gauge => MetricKind::Gauge,
            Emitted::Histogram => MetricKind::Histogram,
        };
        assert_eq!((metric.kind, help.as_deref()), (told, Some(metric.help)), "{key}");
        let names: Vec<_> = key.labels().map(metrics::Label::key).collect();
        assert_eq!(names, metric.labels, "{key}");
        for label in key.labels() {
            let is_word = label.value().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(if label.key() == "provider" { label.value() == NAME } else { is_word }, "{key}");
        }
        let words: Vec<_> = key.labels().skip(1).map(|label| label.value().to_owned()).collect();
        let is_new = values.entry(key.name().to_owned()).or_default().insert(words.join(" "), value).is_none();
        assert!(is_new, "{key}");
    }
    values
}

fn count(values: &Values, name: &str, words: &str) -> u64 {
    match values[name].get(words) {
        Some(DebugValue::Counter(count)) => *count,
        Some(DebugValue::Histogram(samples)) => samples.len() as u64,
        Some(DebugValue::Gauge(value)) => value.into_inner() as u64,
        None => panic!("{name} has no {words}: {:?}", values[name].keys()),
    }
}

fn total(values: &Values, name: &str) -> u64 {
    values[name].keys().map(|words| count(values, name, words)).sum()
}

/// Jobs that go through everything: a create that fails, a poll that is pending, one without an answer.
fn mostly_well() -> impl FnMut(Kind) -> Came {
    let (mut creates, mut polls) = (0, 0);
    move |kind| match kind {
        Kind::Create => {
            creates += 1;
            if creates == 1 {
                return answer(503, "canary");
            }
            answer(201, &format!(r#"{{"code":200,"transaction_id":"canary-txn-{creates}"}}"#))
        }
        _ => {
            polls += 1;
            match polls {
                1 => answer(202, r#"{"code":202,"status":"canary"}"#),
                2 => Err(SendError::timed_out()),
                _ => answer(200, r#"{"code":200,"data":{"name":"canary"}}"#),
            }
        }
    }
}

#[test]
fn what_happened_is_what_is_counted() {
    let values = recorded(|| {
        let mut driver = start(builder(), START);
        carry(&mut driver, 1, mostly_well());
    });
    let count = |name: &str, words: &str| count(&values, &format!("steadfast_{name}"), words);
    assert_eq!(count("operations_begun_total", "submitted"), 1);
    assert_eq!(count("operations_ended_total", "completed ready"), 1);
    assert_eq!(count("attempts_begun_total", "create"), 2);
    assert_eq!(count("attempts_ended_total", "create transient"), 1);
    assert_eq!(count("attempts_ended_total", "create ok"), 1);
    assert_eq!(count("retries_total", "create"), 1);
    assert_eq!(count("attempts_begun_total", "poll"), 3);
    assert_eq!(count("attempts_ended_total", "poll timed_out"), 1);
    assert_eq!(count("attempts_ended_total", "poll ok"), 2);
    assert_eq!(count("retries_total", "poll"), 1, "a poll after a pending one is none");
    assert_eq!(count("attempt_seconds", "create"), 2);
    assert_eq!(count("operation_seconds", "completed"), 1);
    assert_eq!(values["steadfast_operation_attempts"][""], DebugValue::Histogram(vec![5.0.into()]));
    assert_eq!(values["steadfast_operation_polls"][""], DebugValue::Histogram(vec![1.0.into()]));
    assert_eq!(values["steadfast_attempt_seconds"]["create"], DebugValue::Histogram(vec![1.0.into(); 2]));
    assert!(count("journal_commits_total", "durable") >= 3);
    assert_eq!(count("journal_commits_total", "durable"), count("journal_commit_seconds", ""));
    assert_eq!(count("journal_commits_total", "failed") + count("journal_commits_total", "unknown"), 0);
    for gauge in ["operations_live", "operations_parked", "attempts_in_flight", "journal_pending_records"] {
        assert_eq!(count(gauge, ""), 0, "{gauge}");
    }
    assert_eq!(count("journal_oldest_pending_timestamp_seconds", ""), 0);
    assert_eq!(count("notices_dropped_total", ""), 0);
}

struct Many;
impl steadfast_driver::Sharded for Many {}

/// Each job counts once, and the gate is one.
#[test]
fn shards_add_up_to_one_client() {
    let values = recorded(|| {
        let builder: Builder<_, (), Many> = Builder::new(deepvue(), ()).store(MemoryStore::default()).shards(3);
        let (provider, (), settings) = builder.into_parts();
        let (shards, parts) = settings.load(provider.name()).unwrap().into_shards();
        let provider: Arc<dyn Provider> = Arc::new(provider);
        let mut drivers: Vec<Driver<()>> =
            parts.into_iter().map(|loaded| Driver::new(provider.clone(), loaded, START)).collect();
        let mut in_the_air = 0;
        for n in 0..30 {
            let key = Key::new(format!("order-{n}")).unwrap();
            let driver = &mut drivers[shards.of(&key)];
            let (reply, _submitted) = oneshot::channel();
            driver.submit(Submit::new(key, "{}".into(), reply), START);
            while let Some(task) = driver.pop_task(START) {
                match task {
                    Task::Work(work) => driver.worked(work.run_one(), START),
                    Task::Send(_) => in_the_air += 1,
                    _ => {}
                }
            }
        }
        assert_eq!(in_the_air, 30);
        drivers
    });
    let count = |name: &str, words: &str| count(&values, &format!("steadfast_{name}"), words);
    assert_eq!(count("operations_begun_total", "submitted"), 30);
    assert_eq!(count("operations_live", ""), 30);
    assert_eq!(count("attempts_in_flight", ""), 30);
    assert_eq!((count("breaker_state", "closed"), count("breaker_state", "open")), (1, 0));
    assert_eq!(count("bulkhead_limit", ""), 100);
    assert_eq!(count("retry_budget_tokens", ""), 106, "100 at first, and a fifth for each create");
    assert!(count("journal_commits_total", "durable") >= 30);
}

/// Whoever looks at a dashboard before anything has happened finds every line, so that an alert on one is not silent
/// for want of it.
#[test]
fn every_line_of_the_table_is_there_from_the_start() {
    let values = recorded(|| {
        let provider: Arc<dyn Provider> = Arc::new(deepvue());
        let _mailbox = Mailbox::new(provider, &WebhookPolicy::default());
        let _driver = start(builder(), START);
    });
    let missing: Vec<_> = TABLE.iter().filter(|metric| !values.contains_key(metric.name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// One that may block: work for a thread, which may not come to it.
struct Disk(MemoryStore);

impl Store for Disk {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.0.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.0.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.0.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.0.take_into_use()
    }
}

/// A driver whose store hangs: a record waits since a minute after this.
fn hanging(from: Timestamp) -> Driver<()> {
    let mut driver = start(builder().store(Disk(MemoryStore::default())), from);
    let (reply, _submitted) = oneshot::channel();
    driver.submit(Submit::new(Key::new("order-1").unwrap(), "{}".into(), reply), from);
    let (mut works, mut turn) = (Vec::new(), from);
    for _ in 0..3 {
        while let Some(task) = driver.pop_task(turn) {
            if let Task::Work(work) = task {
                works.push(work);
            }
        }
        turn = turn.saturating_add(Duration::from_secs(20));
    }
    // The first look-up of the key, which brings the intent.
    let work = works.remove(0);
    driver.worked(work.run_one(), turn);
    while driver.pop_task(turn).is_some() {}
    while driver.pop_task(turn.saturating_add(Duration::from_secs(60))).is_some() {}
    driver
}

fn oldest(values: &Values) -> u64 {
    count(values, "steadfast_journal_oldest_pending_timestamp_seconds", "")
}

const MINUTE: u64 = 60;

/// While the store hangs no turn comes, so what a turn left must go on telling it.
#[test]
fn a_store_that_hangs_is_seen() {
    let values = recorded(|| hanging(START));
    let since = START.as_nanos() / 1_000_000_000 + MINUTE;
    assert_eq!(count(&values, "steadfast_journal_pending_records", ""), 1);
    assert_eq!(oldest(&values), since);
}

#[test]
fn a_store_that_hangs_is_seen_beside_clients_that_are_well_or_go() {
    let since = START.as_nanos() / 1_000_000_000 + MINUTE;
    let values = recorded(|| {
        let stuck = hanging(START);
        let mut well = start(builder(), START);
        carry(&mut well, 1, mostly_well());
        drop(start(builder(), START));
        (stuck, well)
    });
    assert_eq!(count(&values, "steadfast_operations_ended_total", "completed ready"), 1);
    assert_eq!(oldest(&values), since);

    let later = START.saturating_add(Duration::from_secs(MINUTE));
    assert_eq!(oldest(&recorded(|| (hanging(START), hanging(later)))), since, "the oldest of both");
    let values = recorded(|| {
        let (_gone, stuck) = (hanging(START), hanging(later));
        stuck
    });
    assert_eq!(oldest(&values), since + MINUTE, "what nobody waits for any more is not told");
    assert_eq!(oldest(&recorded(|| drop((hanging(START), hanging(later))))), 0);
}

/// Two clients of one provider add up, and one that is gone takes its part away.
#[test]
fn gauges_of_several_clients_add_up() {
    let values = recorded(|| {
        let submit = |driver: &mut Driver<()>, key: &str| {
            let (reply, _submitted) = oneshot::channel();
            driver.submit(Submit::new(Key::new(key).unwrap(), "{}".into(), reply), START);
            while driver.pop_task(START).is_some() {}
        };
        let volatile = || start(Builder::new(deepvue(), ()), START);
        let (mut first, mut second, mut gone) = (volatile(), volatile(), volatile());
        submit(&mut first, "order-1");
        submit(&mut first, "order-2");
        submit(&mut second, "order-1");
        submit(&mut gone, "order-1");
        drop(gone);
        (first, second)
    });
    assert_eq!(count(&values, "steadfast_operations_live", ""), 3);
    assert_eq!(count(&values, "steadfast_breaker_state", "closed"), 2);
}

#[test]
fn webhooks_are_counted_by_what_their_sender_is_told() {
    let values = recorded(|| {
        let provider: Arc<dyn Provider> = Arc::new(deepvue());
        let mailbox = Mailbox::new(provider, &WebhookPolicy::default());
        let refused = mailbox.open(&HeaderMap::new(), &Bytes::from_static(b"{}"), START).unwrap_err();
        for delivery in
            [refused, Delivery::Taken, Delivery::Unknown { repeat: true }, Delivery::Unknown { repeat: false }]
        {
            let _ = mailbox.count(delivery);
        }
    });
    let count = |verdict| count(&values, "steadfast_webhooks_total", verdict);
    assert_eq!((count("refused"), count("taken"), count("unknown"), count("early")), (1, 1, 2, 0));
}

/// Meets a bug after so many calls, and then with each: its own lock is poisoned, say.
#[derive(Clone, Default)]
struct Broken {
    well: usize,
    calls: Arc<AtomicUsize>,
}

impl Broken {
    fn call(&self) {
        assert!(self.calls.fetch_add(1, Ordering::Relaxed) < self.well, "the recorder has a bug");
    }
}

impl CounterFn for Broken {
    fn increment(&self, _: u64) {
        self.call();
    }

    fn absolute(&self, _: u64) {
        self.call();
    }
}

impl GaugeFn for Broken {
    fn increment(&self, _: f64) {
        self.call();
    }

    fn decrement(&self, _: f64) {
        self.call();
    }

    fn set(&self, _: f64) {
        self.call();
    }
}

impl HistogramFn for Broken {
    fn record(&self, _: f64) {
        self.call();
    }
}

impl metrics::Recorder for Broken {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &metrics::Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.clone()))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(self.clone()))
    }

    fn register_histogram(&self, _: &metrics::Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(self.clone()))
    }
}

#[test]
fn a_recorder_that_panics_costs_the_metrics_and_is_not_called_again() {
    // Whenever it is: in a turn, by what the store's thread tells, or when the driver goes.
    for well in 0..100 {
        let (recorder, store) = (Broken { well, ..Broken::default() }, MemoryStore::default());
        metrics::with_local_recorder(&recorder, || {
            let mut driver = start(builder().store(Disk(store.clone())), START);
            carry(&mut driver, 2, mostly_well());
        });
        assert!(recorder.calls.load(Ordering::Relaxed) <= well + 1);
        for job in 0..2 {
            let kept = store.clone().find(&Key::new(format!("canary-{job}")).unwrap()).unwrap().unwrap();
            assert!(
                matches!(
                    kept.record.stage,
                    Stage::Delivered(Outcome::Completed(_)) | Stage::Ended(Outcome::Completed(_))
                ),
                "{:?}",
                kept.record.stage
            );
        }
    }
}

/// Nor is the server that they came to.
#[test]
fn a_recorder_that_panics_does_not_keep_a_webhook_from_its_answer() {
    let recorder = Broken::default();
    let mailbox =
        metrics::with_local_recorder(&recorder, || Mailbox::new(Arc::new(deepvue()), &WebhookPolicy::default()));
    for _ in 0..2 {
        assert_eq!(mailbox.count(Delivery::Taken), Delivery::Taken);
    }
    assert_eq!(recorder.calls.load(Ordering::Relaxed), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the provider does, what begins ends, and each request is counted once at each of its ends.
    #[test]
    fn the_books_balance(jobs in 1..6_u32, statuses in proptest::collection::vec(0..9_u8, 40)) {
        let mut next = 0;
        let values = recorded(|| {
            let mut driver = start(builder(), START);
            carry(&mut driver, jobs, |kind| {
                next += 1;
                let accepted = r#"{"code":200,"transaction_id":"canary-txn"}"#;
                match (statuses.get(next).copied().unwrap_or(7), kind) {
                    (0, _) => answer(500, "{}"),
                    (1, _) => answer(429, "{}"),
                    (2, _) => Err(SendError::not_sent()),
                    (3, _) => Err(SendError::timed_out()),
                    (4, _) => answer(401, "{}"),
                    (5, Kind::Poll) => answer(202, "{}"),
                    (_, Kind::Create) => answer(201, accepted),
                    _ => answer(200, r#"{"code":200,"data":{}}"#),
                }
            });
        });
        let all = |name: &str| total(&values, &format!("steadfast_{name}"));
        prop_assert_eq!(all("operations_begun_total"), u64::from(jobs));
        prop_assert_eq!(all("operations_ended_total"), u64::from(jobs));
        prop_assert_eq!(all("operation_attempts"), u64::from(jobs));
        prop_assert_eq!(all("attempts_begun_total"), all("attempts_ended_total"));
        prop_assert_eq!(all("attempts_begun_total"), all("attempt_seconds"));
        prop_assert!(all("retries_total") <= all("attempts_begun_total"));
        prop_assert_eq!(all("operations_live") + all("attempts_in_flight") + all("journal_pending_records"), 0);
    }
}
