//! What a round is: all that its seed draws.

use std::time::Duration;

use fastrand::Rng;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{OperationPolicy, SendSafety};
use steadfast_driver::UnknownJob;

pub(crate) const KEYS: usize = 10;
pub(crate) const CALLERS: usize = 3;

/// How long an answer is waited for.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(6);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Nowhere,
    /// Whether the driver works on it in place.
    Memory(bool),
    Sqlite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payloads {
    Kept,
    Loaded,
    Nowhere,
}

/// What comes of a renewal of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    Nobody,
    Works,
    Fails,
    /// It is given up by the client, or takes a while where nobody could wait for that.
    Hangs,
}

/// What seals what is kept beside records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wax {
    None,
    Good,
    /// What it has sealed it cannot open, now and then.
    Crumbles,
    /// Whatever it does, now and then.
    Panics,
}

/// Who takes outcomes for which nobody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    Nobody,
    Takes,
    /// Now and then.
    Panics,
}

/// A copy of the journal that is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// The client that starts on it. It is made while the one before that runs.
    pub(crate) client: usize,
    /// After so many commits.
    pub(crate) after: u32,
    /// Whether its mark is lost.
    pub(crate) unmarked: bool,
}

/// How a client's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By so many at once.
    Shutdown(usize),
    /// Every client and handle is dropped.
    Dropped,
    /// With its runtime, where it has one.
    Crash,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) safety: SendSafety,
    pub(crate) home: Home,
    pub(crate) payloads: Payloads,
    pub(crate) keeps_answers: bool,
    pub(crate) shards: usize,
    pub(crate) is_paused: bool,
    pub(crate) renewal: Renewal,
    pub(crate) bulkhead: u32,
    pub(crate) breaker: bool,
    pub(crate) ends: Vec<End>,
    pub(crate) calls: usize,
    /// Of a hundred requests, so many go wrong.
    pub(crate) ill: u32,
    /// Of a hundred commits, so many fail.
    pub(crate) store_ill: u32,
    /// Of a hundred calls, so many shut the client down in the midst of the others.
    pub(crate) stops: u32,
    /// Of a hundred calls, so many put another gate in place.
    pub(crate) gates: u32,
    pub(crate) wax: Wax,
    pub(crate) taker: Taker,
    /// Whether nothing is kept, store or not.
    pub(crate) is_volatile: bool,
    /// Of a hundred things that the store does, so many panic.
    pub(crate) store_panics: u32,
    pub(crate) copy: Option<Copy>,
    /// What is answered to webhooks about jobs that are not known.
    pub(crate) unknown: UnknownJob,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let safety = match rng.u32(..3) {
            0 => SendSafety::Unsafe,
            1 => SendSafety::Keyed { window: Duration::from_secs(86_400) },
            _ => SendSafety::Lookup { settle: Duration::from_millis(2) },
        };
        let home = [Home::Nowhere, Home::Memory(true), Home::Memory(false), Home::Sqlite][rng.usize(..4)];
        let phases = if home == Home::Nowhere { 1 } else { rng.usize(1..=3) };
        let end = |rng: &mut Rng| match rng.u32(..6) {
            0..=3 => End::Shutdown(rng.usize(1..=3)),
            4 => End::Dropped,
            _ => End::Crash,
        };
        let mut plan = Self {
            seed,
            safety,
            home,
            payloads: [Payloads::Kept, Payloads::Loaded, Payloads::Nowhere][rng.usize(..3)],
            keeps_answers: rng.bool(),
            shards: rng.usize(1..=3),
            is_paused: rng.bool(),
            renewal: [Renewal::Nobody, Renewal::Works, Renewal::Fails, Renewal::Hangs][rng.usize(..4)],
            bulkhead: rng.u32(1..=8),
            breaker: rng.bool(),
            ends: (0..phases).map(|_| end(&mut rng)).collect(),
            calls: rng.usize(5..=25),
            ill: [0, 20, 50, 80][rng.usize(..4)],
            store_ill: [0, 0, 5, 20][rng.usize(..4)],
            stops: [0, 0, 2, 5][rng.usize(..4)],
            gates: [0, 5, 20][rng.usize(..3)],
            wax: [Wax::None, Wax::Good, Wax::Crumbles, Wax::Panics][rng.usize(..4)],
            taker: [Taker::Nobody, Taker::Takes, Taker::Panics][rng.usize(..3)],
            is_volatile: rng.u32(..10) == 0,
            store_panics: [0, 0, 0, 1, 5][rng.usize(..5)],
            copy: None,
            unknown: [UnknownJob::Accept, UnknownJob::RepeatIfEarly, UnknownJob::Repeat][rng.usize(..3)],
        };
        if plan.is_volatile {
            // The next client would know of nothing.
            plan.ends.truncate(1);
        } else if home != Home::Nowhere && rng.u32(..3) == 0 {
            let client = rng.usize(1..=plan.ends.len());
            plan.copy = Some(Copy { client, after: rng.u32(1..=20), unmarked: rng.bool() });
        }
        plan
    }

    /// Whether there is anything that a later client could know.
    pub(crate) fn is_kept(&self) -> bool {
        self.home != Home::Nowhere && !self.is_volatile
    }

    /// Chance of its own for whatever this names.
    pub(crate) fn rng(&self, salts: &[u64]) -> Rng {
        let mixed = salts.iter().fold(self.seed, |seed, salt| {
            Rng::with_seed(seed.rotate_left(7) ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
        });
        Rng::with_seed(mixed)
    }

    pub(crate) fn policy(&self) -> OperationPolicy {
        let backoff = |first: u64, cap: u64, jitter| {
            let growth = Growth::Fibonacci { first: Duration::from_millis(first) };
            BackoffPolicy::new(growth, Duration::from_millis(cap), jitter).unwrap()
        };
        let (ms, jittered) = (Duration::from_millis, backoff(1, 4, Jitter::Full));
        let polls = RetryPolicy::new(3, ms(80), TIMEOUT, jittered.clone()).unwrap();
        OperationPolicy::default()
            .with_create(RetryPolicy::new(4, ms(80), TIMEOUT, jittered.clone()).unwrap())
            .unwrap()
            .with_lookup(RetryPolicy::new(4, ms(80), TIMEOUT, jittered).unwrap())
            .with_poll(PollPolicy::new(backoff(1, 5, Jitter::None), 6, ms(80), polls).unwrap())
            .with_persist(backoff(1, 3, Jitter::None))
            .unwrap()
            .with_safety(self.safety)
            .unwrap()
    }

    pub(crate) fn gate(&self) -> GatePolicy {
        let open = BackoffPolicy::new(Growth::Fixed(Duration::from_millis(3)), Duration::from_millis(3), Jitter::None);
        let breaker = BreakerPolicy::consecutive(4).unwrap().with_open(open.unwrap()).unwrap();
        GatePolicy::none()
            .with_bulkhead(Some(BulkheadPolicy::fixed(self.bulkhead).unwrap()))
            .with_breaker(self.breaker.then_some(breaker))
    }

    /// A gate to be put in the place of another.
    pub(crate) fn other_gate(&self, rng: &mut Rng) -> GatePolicy {
        let mut gate = self.gate().with_breaker(self.gate().breaker().filter(|_| rng.bool()).cloned());
        match rng.u32(..4) {
            0 => gate = gate.with_bulkhead(None),
            1 => gate = gate.with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap())),
            2 => gate = gate.with_bulkhead(Some(BulkheadPolicy::adaptive(1, 2, 4).unwrap())),
            _ => {}
        }
        if rng.bool() {
            let (count, kinds) =
                (rng.u32(5..50), [Kinds::ALL, Kinds::of(&[steadfast_core::Kind::Create])][rng.usize(..2)]);
            let rate = RatePolicy::new(count, Duration::from_millis(10)).unwrap();
            gate = gate.with_rate_limit(RateLimit { kinds, rate });
        }
        if rng.u32(..4) == 0 {
            gate = gate.with_when_open(WhenOpen::Refuse);
        }
        gate.with_budget(rng.bool().then(BudgetPolicy::default))
    }

    /// Whether the provider runs each key once, whatever it is sent.
    pub(crate) fn is_keyed(&self) -> bool {
        matches!(self.safety, SendSafety::Keyed { .. })
    }
}
