//! Settings from a file, of any text: good ones that stay what they are, or an error that says what is wrong.
//!
//! - What is taken is written as text that is taken for the same, a span is as long as it says, and the constructors
//!   take the same values: there is no second door.
//! - What is not is refused by name: our own checks say *field, value, what would be right*, a duration shows how one
//!   is written, and what is no policy at all has its line and column.
//! - An engine with these settings keeps its contract: a job goes in, drains are bounded, no deadline lies in the past.
//!
//! Input: JSON, tried as the settings of operations, of a gate, and of an engine's limits.

use std::fmt::Debug;
use std::time::Duration;

use serde_json::error::Category;
use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Effect, Reading};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Fingerprint, Gate, Key, OperationPolicy, Seed, Timestamp};

use super::{WALL_SECS, number};

/// See the [module](self).
pub fn holds(data: &[u8]) {
    let operations = read::<OperationPolicy>(data);
    let gate = read::<GatePolicy>(data);
    let limits = read::<Limits>(data);
    if let Some(policy) = &operations {
        check_constructors(policy);
        check_engine(policy.clone(), GatePolicy::none(), Limits::default());
    }
    if let Some(gate) = gate {
        check_engine(OperationPolicy::default(), gate, Limits::default());
    }
    if let Some(limits) = limits {
        check_span(data, limits.remember_for);
        check_engine(OperationPolicy::default(), GatePolicy::none(), limits);
    }
}

fn read<P: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Option<P> {
    match serde_json::from_slice::<P>(data) {
        Ok(policy) => {
            let written = serde_json::to_string(&policy).expect("settings can be written");
            let again: P = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
            assert_eq!(again, policy, "written and read, and not the same: {written}");
            Some(policy)
        }
        Err(error) => {
            check_error(&error);
            None
        }
    }
}

/// The one duration of the limits, read a second time.
fn check_span(data: &[u8], read: Duration) {
    let json: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let Some(mut rest) = json["remember_for"].as_str().map(str::trim) else { return };
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest.bytes().skip(digits).take_while(u8::is_ascii_alphabetic).count();
        let number = number(&rest.as_bytes()[..digits]).map_or(0, u128::from);
        nanos += number
            * match &rest[digits..digits + letters] {
                "ns" => 1,
                "us" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                "d" => 86_400_000_000_000,
                other => panic!("{other:?} is taken for a unit"),
            };
        rest = &rest[digits + letters..];
    }
    assert_eq!(read.as_nanos(), nanos, "another span than is written");
}

/// What is ours to say names the field or shows what would be right; what the format finds has its place.
fn check_error(error: &serde_json::Error) {
    let text = error.to_string();
    let placed = text.contains(" at line ") && error.line() > 0;
    let helps = match (error.classify(), text.split_once(" is ")) {
        (Category::Data, Some((field, rest))) if rest.contains("it must be ") => {
            rest.contains(": it must be ")
                && field.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte))
        }
        (Category::Data, Some((_, rest))) if rest.starts_with("not ") => {
            (rest.contains("\"1m30s\"") || rest.contains("of at most 584 years")) && placed
        }
        (Category::Data, _) => {
            let standard = ["invalid ", "missing field `", "unknown field `", "unknown variant `", "duplicate field `"];
            standard.iter().any(|start| text.starts_with(start)) && placed
        }
        (Category::Syntax | Category::Eof, _) => placed,
        (Category::Io, _) => false,
    };
    assert!(helps, "an error that helps nobody: {text}");
}

fn check_constructors(policy: &OperationPolicy) {
    let built = OperationPolicy::default()
        .with_lookup(retry(policy.lookup()))
        .with_poll(poll(policy.poll()))
        .with_create(retry(policy.create()))
        .and_then(|built| built.with_safety(policy.safety()))
        .and_then(|built| built.with_persist(backoff(policy.persist())));
    assert_eq!(built.as_ref(), Ok(policy), "a file says what no program can");
}

fn backoff(it: &BackoffPolicy) -> BackoffPolicy {
    BackoffPolicy::new(it.growth().clone(), it.cap(), it.jitter()).unwrap_or_else(|error| panic!("{error}"))
}

fn retry(it: &RetryPolicy) -> RetryPolicy {
    RetryPolicy::new(it.attempts(), it.deadline(), it.attempt_timeout(), backoff(it.backoff()))
        .unwrap_or_else(|error| panic!("{error}"))
        .with_retry_after(it.retry_after())
}

fn poll(it: &PollPolicy) -> PollPolicy {
    PollPolicy::new(backoff(it.schedule()), it.polls(), it.deadline(), retry(it.retry()))
        .unwrap_or_else(|error| panic!("{error}"))
        .with_not_found_grace(it.not_found_grace())
        .with_accept_partial(it.accepts_partial())
}

/// Two jobs against a provider in trouble, for a while.
fn check_engine(policy: OperationPolicy, gate: GatePolicy, limits: Limits) {
    let mut engine = Engine::new(policy, Gate::new(gate, Seed::new(1)), limits, Seed::new(2));
    let mut now = Timestamp::from_secs(WALL_SECS);
    for name in ["a", "b"] {
        let room = engine.has_room();
        let taken = engine.submit(Key::new(name).expect("a key"), Fingerprint::new([0; 16]), now);
        assert_eq!(taken.is_ok(), room, "{limits:?}");
    }
    for round in 0..12_u8 {
        engine.handle_timeout(now);
        for popped in 0.. {
            assert!(popped < 1_000, "a drain without end");
            let Some((id, effect)) = engine.pop_effect() else { break };
            let failed = Failure::new(Class::Transient, Certainty::NotExecuted).with_retry_after(Some(Duration::MAX));
            let event = match effect {
                Effect::Persist(number) => Event::Persisted(number),
                Effect::Send(attempt) if round < 6 => Event::Answered(id, attempt.id, Err(failed)),
                Effect::Send(attempt) => Event::Answered(id, attempt.id, Ok(Reading::Ready)),
                Effect::End => Event::Delivered(id),
                _ => continue,
            };
            engine.handle(event, now);
        }
        let next = engine.next_deadline();
        assert!(next.is_none_or(|next| next > now), "law 2: {:?} at {now:?}", engine.next_wake());
        let Some(next) = next else { return };
        now = next;
    }
}
