//! Divides every delay, to run faster than life.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth};
use steadfast_core::breaker::{BreakerPolicy, Probes, SlowCalls, Trip, Window};
use steadfast_core::budget::Tokens;
use steadfast_core::gate::{GatePolicy, RateLimit};
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{RetryAfter, RetryPolicy};
use steadfast_core::{OperationPolicy, PolicyError, SendSafety};

/// Divides every delay, deadline and time-out of the policy by `speed`: for a provider that is that much faster.
///
/// # Errors
/// A delay is so short that nothing would be left of it.
///
/// ```
/// use std::time::Duration;
/// use steadfast_core::OperationPolicy;
/// use steadfast_testkit::scaled;
///
/// let quick = scaled(&OperationPolicy::default(), 50.0)?;
/// assert_eq!(quick.poll().deadline(), Duration::from_millis(3_600));
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
pub fn scaled(policy: &OperationPolicy, speed: f64) -> Result<OperationPolicy, PolicyError> {
    let by = |span| divided(span, speed);
    let poll = policy.poll();
    OperationPolicy::default()
        .with_create(retry(policy.create(), speed)?)?
        .with_lookup(retry(policy.lookup(), speed)?)
        .with_poll(
            PollPolicy::new(
                backoff(poll.schedule(), speed)?,
                poll.polls(),
                by(poll.deadline()),
                retry(poll.retry(), speed)?,
            )?
            .with_not_found_grace(by(poll.not_found_grace()))
            .with_accept_partial(poll.accepts_partial()),
        )
        .with_persist(backoff(policy.persist(), speed)?)?
        .with_safety(match policy.safety() {
            SendSafety::Keyed { window } => SendSafety::Keyed { window: by(window) },
            SendSafety::Lookup { settle } => SendSafety::Lookup { settle: by(settle) },
            other => other,
        })
}

/// A span divided by a speed; an invalid speed leaves it unchanged.
pub(crate) fn divided(span: Duration, speed: f64) -> Duration {
    if speed.is_finite() && speed > 0.0 {
        Duration::try_from_secs_f64(span.as_secs_f64() / speed).unwrap_or(Duration::MAX)
    } else {
        span
    }
}

/// Divides every delay of the gate by `speed`, and multiplies every rate.
///
/// # Errors
/// A delay is so short, or a rate so high, that nothing would be left of it.
pub fn scaled_gate(policy: &GatePolicy, speed: f64) -> Result<GatePolicy, PolicyError> {
    let by = |span| divided(span, speed);
    let breaker = policy.breaker().map(|policy| breaker(policy, speed)).transpose()?;
    let budget = policy.budget().cloned();
    let budget = budget.map(|budget| {
        let rate = f64::from(budget.per_second()) * speed;
        Tokens::try_from(rate).map(|rate| budget.with_per_second(rate))
    });
    let mut scaled = GatePolicy::none()
        .with_breaker(breaker)
        .with_when_open(policy.when_open())
        .with_budget(budget.transpose()?)
        .with_bulkhead(policy.bulkhead().cloned())
        .with_longest_pause(by(policy.longest_pause()))
        .with_replicas(policy.replicas());
    for RateLimit { kinds, rate } in policy.rate_limits() {
        let rate = RatePolicy::new(rate.count(), by(rate.per()))?.with_burst(rate.burst())?;
        scaled = scaled.with_rate_limit(RateLimit { kinds: *kinds, rate });
    }
    Ok(scaled)
}

fn breaker(policy: &BreakerPolicy, speed: f64) -> Result<BreakerPolicy, PolicyError> {
    let by = |span| divided(span, speed);
    let scaled = match policy.trip() {
        Trip::Rate { percent, window: Window::Time(span), minimum } => {
            BreakerPolicy::rate(percent, Window::Time(by(span)), minimum.get())?
        }
        Trip::Rate { percent, window, minimum } => BreakerPolicy::rate(percent, window, minimum.get())?,
        Trip::Consecutive { failures } => BreakerPolicy::consecutive(failures.get())?,
        _ => BreakerPolicy::default(),
    };
    let probes = policy.probes();
    let scaled =
        scaled.with_open(backoff(policy.open(), speed)?)?.with_probes(Probes { lease: by(probes.lease), ..probes })?;
    match policy.slow_calls() {
        Some(slow) => scaled.with_slow_calls(SlowCalls { longer_than: by(slow.longer_than), ..slow }),
        None => Ok(scaled),
    }
}

fn retry(policy: &RetryPolicy, speed: f64) -> Result<RetryPolicy, PolicyError> {
    let by = |span| divided(span, speed);
    let hints = match policy.retry_after() {
        RetryAfter::Floor { ceiling } => RetryAfter::Floor { ceiling: by(ceiling) },
        RetryAfter::Exact { ceiling } => RetryAfter::Exact { ceiling: by(ceiling) },
        RetryAfter::Clamped { extra } => RetryAfter::Clamped { extra: by(extra) },
        other => other,
    };
    let backoff = backoff(policy.backoff(), speed)?;
    let scaled = RetryPolicy::new(policy.attempts(), by(policy.deadline()), by(policy.attempt_timeout()), backoff)?;
    scaled.with_retry_after(hints).with_identical(policy.identical())
}

fn backoff(policy: &BackoffPolicy, speed: f64) -> Result<BackoffPolicy, PolicyError> {
    let by = |span: &Duration| divided(*span, speed);
    let growth = match policy.growth() {
        Growth::Fixed(delay) => Growth::Fixed(by(delay)),
        Growth::Linear { first, step } => Growth::Linear { first: by(first), step: by(step) },
        Growth::Exponential { first, factor } => Growth::Exponential { first: by(first), factor: *factor },
        Growth::Fibonacci { first } => Growth::Fibonacci { first: by(first) },
        Growth::Table(delays) => Growth::Table(delays.iter().map(by).collect()),
        other => other.clone(),
    };
    BackoffPolicy::new(growth, by(&policy.cap()), policy.jitter())
}
