//! What a round is: all that its seed draws.

use std::time::Duration;

use fastrand::Rng;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::GatePolicy;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{OperationPolicy, SendSafety};

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
        Self {
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
        }
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

    /// Whether the provider runs each key once, whatever it is sent.
    pub(crate) fn is_keyed(&self) -> bool {
        matches!(self.safety, SendSafety::Keyed { .. })
    }
}
