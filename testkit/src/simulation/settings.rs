//! The settings of a history, drawn from its seed: how the provider treats keys, how patient the client is, which
//! machines its gate has, which jobs there are. Strange settings are drawn as well as sensible ones; zero is always
//! possible.

use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Probes, Window};
use steadfast_core::budget::{BudgetPolicy, Tokens};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{RetryAfter, RetryPolicy};
use steadfast_core::{Fingerprint, Key, Kind, OperationPolicy, Seed, SendSafety};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the provider does with a key that it has seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Runs it once within this time.
    Honoured(Duration),
    /// Runs every create, and can be asked for the job of a key, once the job is this old.
    Lookup(Duration),
    /// Runs every create.
    Ignored,
}

/// A job's fate at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Ready,
    Failed,
    Undecided,
    /// A partial result comes first.
    PartialFirst,
    /// The create is answered with the result.
    ReadyAtOnce,
    /// The create runs and fails at once.
    FailedAtOnce,
    /// The provider rejects it.
    Refused,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) fingerprint: Fingerprint,
    pub(super) fate: Fate,
    /// How long the provider works on it.
    pub(super) work: Duration,
    pub(super) submit_after: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) policy: OperationPolicy,
    pub(super) gate: GatePolicy,
    /// What the retry budget gains, in millionths of a token a second.
    pub(super) refill: u64,
    pub(super) limits: Limits,
    pub(super) keys: Keys,
    pub(super) jobs: Vec<Job>,
    pub(super) webhooks: bool,
    /// Webhooks name the job by the caller's key, else by the provider's reference.
    pub(super) webhooks_by_key: bool,
    /// The longest that a request or an answer travels.
    pub(super) latency: Duration,
    /// The longest that a late request travels.
    pub(super) latest: Duration,
    /// When all faults stop.
    pub(super) heals_after: Duration,
    /// How likely a crash is at each point where one can fall.
    pub(super) crash_rate: f64,
    pub(super) most_crashes: u32,
    /// Whether a restarted process keeps its gate, or starts with a new one.
    pub(super) keeps_gate: bool,
}

impl Settings {
    pub(super) fn drawn(seed: Seed) -> Self {
        let mut dice = Rng::with_seed(seed.derive(1).value());
        let create = retry(&mut dice);
        let timeout = create.attempt_timeout();
        let (keys, safety, latest) = keys(&mut dice, timeout);
        let policy = OperationPolicy::default()
            .with_create(create)
            .and_then(|policy| policy.with_safety(safety))
            .map(|policy| policy.with_lookup(retry(&mut dice)).with_poll(poll(&mut dice)))
            .expect("a key window is longer than a time-out");
        let most = [4, 12, 100][dice.usize(..3)];
        let count = dice.usize(1..=most);
        let heals_after = ms(dice.u64(20_000..600_000));
        let jobs = (0..count).map(|n| job(&mut dice, n, heals_after)).collect();
        let crash_rate = [0.0, 0.002, 0.01, 0.05][dice.usize(..4)];
        let (gate, refill) = gate(&mut dice);
        let live = if dice.u8(..8) == 0 { dice.u32(1..4) } else { 1_000 };
        Self {
            policy,
            gate,
            refill,
            limits: Limits { live, notices: 1_000, ..remembering(&mut dice) },
            keys,
            jobs,
            webhooks: dice.bool(),
            webhooks_by_key: dice.bool(),
            latency: ms(dice.u64(1..500)).min(latest),
            latest,
            heals_after,
            crash_rate,
            most_crashes: dice.u32(1..30),
            keeps_gate: dice.bool(),
        }
    }

    /// If a key expires within minutes, no promise can be kept with clocks that are minutes off.
    pub(super) fn clocks_may_fail(&self) -> bool {
        !matches!(self.keys, Keys::Honoured(window) if window < Duration::from_secs(3_600))
    }
}

fn keys(dice: &mut Rng, timeout: Duration) -> (Keys, SendSafety, Duration) {
    match dice.u8(..8) {
        0..3 => {
            let window = Duration::from_secs(86_400);
            (Keys::Honoured(window), SendSafety::Keyed { window }, 3 * timeout)
        }
        3 => {
            let window = timeout + ms(dice.u64(1..90_000));
            (Keys::Honoured(window), SendSafety::Keyed { window }, timeout)
        }
        // The client need not trust the provider.
        4 => (Keys::Honoured(Duration::from_secs(86_400)), SendSafety::Unsafe, 3 * timeout),
        5 | 6 => {
            // The promise of the setting: a create arrives, and is shown, within this time after it was given up.
            let settle = ms(dice.u64(2_000..20_000));
            (Keys::Lookup(settle / 2), SendSafety::Lookup { settle }, (settle / 2).saturating_sub(ms(1)).min(timeout))
        }
        _ => (Keys::Ignored, SendSafety::Unsafe, 3 * timeout),
    }
}

fn job(dice: &mut Rng, n: usize, heals_after: Duration) -> Job {
    let fate = match dice.u8(..12) {
        0 => Fate::Failed,
        1 => Fate::Undecided,
        2 => Fate::Refused,
        3 => Fate::ReadyAtOnce,
        4 => Fate::FailedAtOnce,
        5 => Fate::PartialFirst,
        _ => Fate::Ready,
    };
    Job {
        // A value that must never appear in printed output.
        key: Key::new(format!("canary-key-{n}")).expect("visible ASCII"),
        fingerprint: Fingerprint::new([n as u8 + 1; 16]),
        fate,
        work: ms(dice.u64(..40_000)),
        submit_after: ms(dice.u64(..1 + heals_after.as_millis() as u64 * 2 / 3)),
    }
}

fn backoff(dice: &mut Rng) -> BackoffPolicy {
    let first = ms(dice.u64(100..4_000));
    let growth = match dice.u8(..6) {
        0 => Growth::Fixed(first),
        1 => Growth::Linear { first, step: ms(dice.u64(..2_000)) },
        2 => Growth::Fibonacci { first },
        3 => Growth::Table([first, 2 * first, 2 * first].into()),
        _ => Growth::doubling(first),
    };
    let jitter = match dice.u8(..5) {
        0 => Jitter::None,
        1 => Jitter::Full,
        2 => Jitter::Equal,
        3 => Jitter::Proportional { percent: dice.u8(..=100) },
        _ => Jitter::Decorrelated,
    };
    BackoffPolicy::new(growth, 2 * first + ms(dice.u64(..20_000)), jitter).expect("the cap is above the first delay")
}

fn retry(dice: &mut Rng) -> RetryPolicy {
    let hints = match dice.u8(..5) {
        0 => RetryAfter::Exact { ceiling: ms(dice.u64(1_000..60_000)) },
        1 => RetryAfter::Clamped { extra: ms(dice.u64(..10_000)) },
        _ => RetryAfter::Floor { ceiling: ms(dice.u64(1_000..120_000)) },
    };
    let (deadline, timeout) = (ms(dice.u64(5_000..180_000)), ms(dice.u64(1_000..12_000)));
    RetryPolicy::new(dice.u16(1..7), deadline, timeout, backoff(dice)).expect("more than zero").with_retry_after(hints)
}

fn poll(dice: &mut Rng) -> PollPolicy {
    let (polls, deadline, grace) = (dice.u16(1..25), ms(dice.u64(5_000..300_000)), ms(dice.u64(..15_000)));
    let policy = PollPolicy::new(backoff(dice), polls, deadline, retry(dice)).expect("more than zero");
    policy.with_not_found_grace(grace).with_accept_partial(dice.u8(..4) == 0)
}

/// Mostly the default; sometimes so short, or for so few, that keys are forgotten while others are under way.
fn remembering(dice: &mut Rng) -> Limits {
    match dice.u8(..6) {
        0 => Limits { remember_for: ms(dice.u64(10_000..200_000)), ..Limits::default() },
        1 => Limits { remember: dice.u32(1..6), ..Limits::default() },
        _ => Limits::default(),
    }
}

/// A gate without machines for a third of the histories, else with small ones, so that they take effect.
fn gate(dice: &mut Rng) -> (GatePolicy, u64) {
    let refill = dice.u64(..200_000);
    let mut gate = GatePolicy::none().with_longest_pause(ms(dice.u64(1_000..120_000)));
    if dice.u8(..3) == 0 {
        return (gate, refill);
    }
    if dice.bool() {
        let when_open = if dice.u8(..4) == 0 { WhenOpen::Refuse } else { WhenOpen::Wait };
        gate = gate.with_breaker(Some(breaker(dice))).with_when_open(when_open);
    }
    if dice.bool() {
        let budget = BudgetPolicy::new(dice.u32(1..6)).expect("more than zero");
        gate = gate.with_budget(Some(budget.with_per_second(Tokens::millionths(refill))));
    }
    if dice.bool() {
        let most = dice.u32(1..4);
        gate = gate.with_bulkhead(Some(BulkheadPolicy::adaptive(1, most, most).expect("in order")));
    }
    for _ in 0..dice.u8(..3) {
        let kinds = [Kinds::ALL, Kinds::of(&[Kind::Create]), Kinds::of(&[Kind::Poll, Kind::Lookup])];
        let rate = RatePolicy::new(dice.u32(1..20), ms(dice.u64(1_000..30_000))).expect("more than zero");
        let rate = rate.with_burst(dice.u32(1..5)).expect("more than zero");
        gate = gate.with_rate_limit(RateLimit { kinds: kinds[dice.usize(..3)], rate });
    }
    if dice.u8(..4) == 0 {
        gate = gate.with_replicas(NonZeroU32::new(dice.u32(2..4)).expect("more than zero"));
    }
    (gate, refill)
}

fn breaker(dice: &mut Rng) -> BreakerPolicy {
    let policy = if dice.bool() {
        BreakerPolicy::consecutive(dice.u32(1..5))
    } else {
        BreakerPolicy::rate(dice.u8(30..=100), Window::Calls(dice.u16(2..9)), 2)
    };
    let first = ms(dice.u64(100..8_000));
    let open = BackoffPolicy::new(Growth::doubling(first), 4 * first, Jitter::Full).expect("the cap is above it");
    let probes = Probes {
        at_once: dice.u8(1..4),
        successes: dice.u16(1..3),
        failures: dice.u16(1..3),
        lease: ms(dice.u64(1_000..30_000)),
    };
    policy
        .and_then(|policy| policy.with_open(open))
        .and_then(|policy| policy.with_probes(probes))
        .expect("settings that make sense")
}
