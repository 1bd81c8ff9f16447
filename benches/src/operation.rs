//! A whole operation, a create and 3.4 polls on average, with very many in flight: by the engine, by a loop written for
//! nothing else, and by tasks that retry, limit and break with the crates one would pick.
//!
//! The provider answers at once, and one answer in ten is a failure after which nothing ran. All wait alike: three
//! seconds before the first poll, twice as long before each further one; after a failure a random part of a second,
//! doubled each time. Each operation that ends makes room for the next. Time is virtual and comes in whole
//! milliseconds, as tokio's timer has it. What is measured is therefore what waiting for it all costs.
//!
//! | subject | keys | journal | cancel | gate |
//! | --- | --- | --- | --- | --- |
//! | `steadfast` | yes | the protocol, acknowledged at once | yes | breaker, bulkhead, rate limit |
//! | `limit` | no | no | no | a count of failures, a rate limit |
//! | `backon, task each` | no | no | no | recloser, governor |
//! | `backon, FuturesUnordered` | no | no | no | recloser, governor |
//!
//! `bytes_per_op` is what one operation in flight holds. With a million in flight the peers are left out: their cases
//! take minutes.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter as Governor};
use recloser::Recloser;
use steadfast_core::breaker::{BreakerPolicy, Window};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::operation::{Attempt, Effect, Reading};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Fingerprint, Gate, Key, Kind, OperationId, OperationPolicy, Reference, Seed, Timestamp};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::Instant as TokioInstant;

use crate::measure::{Row, allocations, live_bytes, thread_time};

const START: u64 = 1_700_000_000_000_000_000;
const MILLI: u64 = 1_000_000;
/// Over so long the first operations are submitted.
const SPREAD: u64 = 8_000 * MILLI;

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (case, in_flight) in [("10k in flight", 10_000), ("100k in flight", 100_000), ("1M in flight", 1_000_000)] {
        rows.push(measure(case, "steadfast", in_flight, || Ours::filled(in_flight), Ours::carry));
        rows.push(measure(case, "limit", in_flight, || Floor::filled(in_flight), Floor::carry));
        if in_flight <= 100_000 {
            rows.push(measure(case, "backon, task each", in_flight, || Tasks::filled(in_flight, false), Tasks::carry));
            rows.push(measure(
                case,
                "backon, FuturesUnordered",
                in_flight,
                || Tasks::filled(in_flight, true),
                Tasks::carry,
            ));
        }
    }
    rows
}

/// Fills a world, lets each of its operations be replaced twice, and measures from there on.
fn measure<W>(
    case: &'static str,
    subject: &'static str,
    in_flight: u64,
    fill: impl FnOnce() -> W,
    carry: fn(&mut W, u64),
) -> Row {
    const ROUNDS: usize = 5;
    let before = live_bytes();
    let mut world = fill();
    carry(&mut world, in_flight * 2);
    let held = live_bytes() - before;
    let count = in_flight.clamp(100_000, 400_000);
    let made = allocations();
    let mut samples: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = thread_time();
            carry(&mut world, count);
            (thread_time() - began).as_nanos() as f64 / count as f64
        })
        .collect();
    let allocs_per_op = (allocations() - made) as f64 / (count * ROUNDS as u64) as f64;
    samples.sort_by(f64::total_cmp);
    let bytes_per_op = held as f64 / in_flight as f64;
    Row { section: "operation", case, subject, ns_per_op: samples[ROUNDS / 2], allocs_per_op, bytes_per_op }
}

/// The provider, and chance.
struct Provider {
    state: u64,
}

impl Provider {
    const fn new() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Xorshift: a few instructions, the same for all.
    const fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    const fn answers(&mut self) -> bool {
        !self.next().is_multiple_of(10)
    }

    /// Whether a job of this name is ready at this poll: at the third, or two times of five at the fourth.
    const fn is_ready(name: u64, poll: u16) -> bool {
        poll >= if name % 5 < 2 { 4 } else { 3 }
    }
}

const FIRST_POLL: u64 = 3_000 * MILLI;
const FIRST_RETRY: u64 = 1_000 * MILLI;

struct Ours {
    engine: Engine,
    now: Timestamp,
    provider: Provider,
    keys: u64,
    ended: u64,
}

impl Ours {
    fn filled(in_flight: u64) -> Self {
        let rate = RatePolicy::new(1_000_000_000, Duration::from_secs(1)).and_then(|it| it.with_burst(u32::MAX));
        let rate = RateLimit { kinds: Kinds::ALL, rate: rate.expect("it makes sense") };
        let breaker = BreakerPolicy::rate(50, Window::Calls(100), 100).expect("it makes sense");
        let bulkhead = BulkheadPolicy::fixed(u32::MAX).expect("it makes sense");
        // Nothing stands in anybody's way, as for the peers: what is measured is what asking costs.
        let gate = GatePolicy::none().with_breaker(Some(breaker)).with_bulkhead(Some(bulkhead)).with_rate_limit(rate);
        let gate = Gate::new(gate, Seed::new(1));
        let limits = Limits { live: u32::MAX, remember: 0, ..Limits::default() };
        let mut engine = Engine::new(OperationPolicy::default(), gate, limits, Seed::new(2));
        engine.observe(false);
        let mut it = Self { engine, now: Timestamp::from_nanos(START), provider: Provider::new(), keys: 0, ended: 0 };
        for n in 0..in_flight {
            it.until(spread(n, in_flight));
            it.submit();
            it.drain();
        }
        it
    }

    /// A key and a reference as they usually are: a UUID, and 24 bytes.
    fn submit(&mut self) {
        self.keys += 1;
        let (high, low) = (self.provider.next(), self.keys);
        let mut key = [0; 36];
        let (head, middle) = (high as u32, high >> 32 & 0xffff);
        write!(&mut key[..], "{head:08x}-{middle:04x}-4000-8000-{low:012x}").expect("it fits");
        let key = std::str::from_utf8(&key).expect("it is text");
        let fingerprint = Fingerprint::new(u128::from(high).to_le_bytes());
        let _ = self.engine.submit(Key::new(key).expect("it is one"), fingerprint, self.now).expect("there is room");
    }

    fn drain(&mut self) {
        loop {
            let mut last = None;
            while let Some((id, effect)) = self.engine.pop_effect() {
                match effect {
                    Effect::Persist(number) => last = Some(number),
                    Effect::Send(attempt) => {
                        let answer = self.answer(id, attempt);
                        self.engine.handle(Event::Answered(id, attempt.id, answer), self.now);
                    }
                    Effect::End => {
                        self.ended += 1;
                        self.engine.handle(Event::Delivered(id), self.now);
                        self.submit();
                    }
                    _ => {}
                }
            }
            // One acknowledgement for the whole batch.
            let Some(last) = last else { return };
            self.engine.handle(Event::Persisted(last), self.now);
        }
    }

    fn answer(&mut self, id: OperationId, attempt: Attempt) -> Result<Reading, Failure> {
        if !self.provider.answers() {
            return Err(Failure::new(Class::Transient, Certainty::NotExecuted));
        }
        if attempt.kind == Kind::Create {
            return Ok(Reading::Accepted(Reference::new("65f0c1a2b3c4d5e6f7a8b9c0").expect("it is one")));
        }
        let fingerprint = self.engine.operation(id).expect("it waits").fingerprint();
        let name = u128::from_le_bytes(*fingerprint.as_bytes()) as u64;
        let ready = Provider::is_ready(name, attempt.number);
        Ok(if ready { Reading::Ready } else { Reading::Pending { hint: None } })
    }

    /// Does what is due until then.
    fn until(&mut self, nanos: u64) {
        while let Some(at) = self.engine.next_deadline().filter(|at| at.as_nanos() < nanos) {
            self.wake(at);
        }
        self.now = self.now.max(Timestamp::from_nanos(nanos));
    }

    fn wake(&mut self, at: Timestamp) {
        self.now = Timestamp::from_nanos(at.as_nanos().next_multiple_of(MILLI)).max(self.now);
        self.engine.handle_timeout(self.now);
        self.drain();
    }

    fn carry(&mut self, count: u64) {
        let target = self.ended + count;
        while self.ended < target {
            let at = self.engine.next_deadline().expect("they wait");
            self.wake(at);
        }
    }
}

/// When the `n`th of the first operations is submitted.
fn spread(n: u64, of: u64) -> u64 {
    START + (u128::from(SPREAD) * u128::from(n) / u128::from(of)) as u64
}

/// What one operation needs if nothing is configured, named, remembered or cancelled.
#[derive(Clone, Copy, Default)]
struct Job {
    name: u32,
    /// 0 before it is accepted; then requests made and one.
    polls: u8,
    failed: u8,
}

/// The floor: a calendar with a page for each millisecond, and a state of eight bytes.
struct Floor {
    jobs: Vec<Job>,
    pages: Vec<Vec<u32>>,
    page: u64,
    failures: u32,
    conform: u64,
    provider: Provider,
    ended: u64,
}

impl Floor {
    const PAGES: u64 = 1 << 16;

    fn filled(in_flight: u64) -> Self {
        let pages = vec![Vec::new(); Self::PAGES as usize];
        let (jobs, provider, page) = (Vec::new(), Provider::new(), START / MILLI);
        let mut it = Self { jobs, pages, page, failures: 0, conform: 0, provider, ended: 0 };
        it.jobs.resize(in_flight as usize, Job::default());
        for n in 0..in_flight {
            while it.page < spread(n, in_flight) / MILLI {
                it.turn();
            }
            it.begin(n as u32);
        }
        it
    }

    fn begin(&mut self, slot: u32) {
        self.jobs[slot as usize] = Job { name: self.provider.next() as u32, polls: 0, failed: 0 };
        self.request(slot);
    }

    fn request(&mut self, slot: u32) {
        let now = self.page * MILLI;
        if self.failures >= 5 || self.conform > now + MILLI {
            return self.wait(slot, MILLI);
        }
        self.conform = self.conform.max(now) + 1;
        let answered = self.provider.answers();
        let job = &mut self.jobs[slot as usize];
        if !answered {
            self.failures = 0; // nothing is ever down here
            job.polls += u8::from(job.polls > 0);
            job.failed += 1;
            let most = FIRST_RETRY << job.failed.min(6).saturating_sub(1);
            let wait = ((u128::from(self.provider.next()) * u128::from(most)) >> 64) as u64;
            return self.wait(slot, wait);
        }
        (self.failures, job.failed) = (0, 0);
        job.polls += 1;
        if job.polls > 1 && Provider::is_ready(job.name.into(), u16::from(job.polls - 1)) {
            self.ended += 1;
            return self.begin(slot);
        }
        let wait = FIRST_POLL << (job.polls - 1).min(3);
        self.wait(slot, wait);
    }

    fn wait(&mut self, slot: u32, nanos: u64) {
        let page = self.page + nanos / MILLI + 1;
        self.pages[(page % Self::PAGES) as usize].push(slot);
    }

    fn turn(&mut self) {
        self.page += 1;
        let place = (self.page % Self::PAGES) as usize;
        let mut due = std::mem::take(&mut self.pages[place]);
        for slot in due.drain(..) {
            self.request(slot);
        }
        self.pages[place] = due;
    }

    fn carry(&mut self, count: u64) {
        let target = self.ended + count;
        while self.ended < target {
            self.turn();
        }
    }
}

/// What the tasks share.
struct Shared {
    provider: RefCell<Provider>,
    limiter: DefaultDirectRateLimiter,
    breaker: Recloser,
    ended: Cell<u64>,
    target: Cell<u64>,
    reached: Notify,
}

/// The peers: a task for each operation, or one future of many in one task.
struct Tasks {
    runtime: Runtime,
    local: LocalSet,
    shared: Rc<Shared>,
}

impl Tasks {
    fn filled(in_flight: u64, futures: bool) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let shared = Rc::new(Shared {
            provider: RefCell::new(Provider::new()),
            limiter: Governor::direct(Quota::per_second(NonZeroU32::MAX)),
            breaker: Recloser::custom().error_rate(0.5).closed_len(100).build(),
            ended: Cell::new(0),
            target: Cell::new(u64::MAX),
            reached: Notify::new(),
        });
        let it = Self { runtime, local: LocalSet::new(), shared: shared.clone() };
        let begun = TokioInstant::now;
        it.local.block_on(&it.runtime, async move {
            let start = begun();
            if futures {
                tokio::task::spawn_local(in_one(shared, in_flight));
            } else {
                for n in 0..in_flight {
                    tokio::time::sleep_until(start + Duration::from_nanos(spread(n, in_flight) - START)).await;
                    begin(shared.clone());
                }
            }
        });
        it
    }

    fn carry(&mut self, count: u64) {
        let shared = self.shared.clone();
        shared.target.set(shared.ended.get() + count);
        self.local.block_on(&self.runtime, async move { shared.reached.notified().await });
    }
}

/// One operation as a task, which makes room for the next.
fn begin(shared: Rc<Shared>) {
    tokio::task::spawn_local(async move {
        operation(&shared).await;
        begin(shared);
    });
}

async fn in_one(shared: Rc<Shared>, in_flight: u64) {
    let start = TokioInstant::now();
    let mut all = FuturesUnordered::new();
    let one = async |wait: Duration| {
        if !wait.is_zero() {
            tokio::time::sleep_until(start + wait).await;
        }
        operation(&shared).await;
    };
    all.extend((0..in_flight).map(|n| one(Duration::from_nanos(spread(n, in_flight) - START))));
    while all.next().await.is_some() {
        all.push(one(Duration::ZERO));
    }
}

async fn operation(shared: &Shared) {
    let name = shared.provider.borrow_mut().next();
    let retry = ExponentialBuilder::new()
        .with_min_delay(Duration::from_nanos(FIRST_RETRY))
        .with_factor(2.0)
        .with_max_times(4)
        .with_jitter();
    let request = async || {
        shared.limiter.until_ready().await;
        shared.breaker.call(|| if shared.provider.borrow_mut().answers() { Ok(()) } else { Err(()) }).map_err(|_| ())
    };
    let _ = request.retry(retry).sleep(tokio::time::sleep).await;
    let mut wait = Duration::from_nanos(FIRST_POLL);
    let polls = Cell::new(0);
    loop {
        tokio::time::sleep(wait).await;
        let poll = async || {
            polls.set(polls.get() + 1);
            request().await
        };
        let answered = poll.retry(retry).sleep(tokio::time::sleep).await;
        if answered.is_ok() && Provider::is_ready(name, polls.get()) {
            break;
        }
        wait = (wait * 2).min(Duration::from_secs(30));
    }
    shared.ended.set(shared.ended.get() + 1);
    if shared.ended.get() == shared.target.get() {
        shared.reached.notify_one();
    }
}
