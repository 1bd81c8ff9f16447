//! Engines broken on purpose, to prove that the checks can fail.

use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::engine::{Engine, Event, SubmitError, Submitted};
use steadfast_core::gate::Request;
use steadfast_core::operation::{Attempt, Effect, Reading};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Fingerprint, Key, Kind, OperationId, OperationPolicy, SendSafety, Timestamp};

/// One way to get the protocol wrong. Each is a mistake that hand-written clients make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// A request leaves before its record is durable.
    SendBeforePersist,
    /// Each retry of a create has a key of its own.
    NewKeyOnRetry,
    /// The cap is applied before the jitter, so delays exceed it.
    CapBeforeJitter,
    /// The reference in a late answer is forgotten.
    ForgetLateReference,
    /// A cancelled request's permit is not given back.
    LeakPermitOnCancel,
    /// A create that timed out is sent again although the provider does not honour keys.
    RetryUnkeyedTimeout,
    /// There is one attempt too many.
    AttemptsOffByOne,
    /// Polls go on after a webhook brought the result.
    PollAfterWebhook,
    /// A key is joined with another payload.
    AcceptAnotherFingerprint,
    /// The deadline is ignored.
    SkipDeadline,
}

impl Flaw {
    /// Every flaw.
    pub const ALL: [Self; 10] = [
        Self::SendBeforePersist,
        Self::NewKeyOnRetry,
        Self::CapBeforeJitter,
        Self::ForgetLateReference,
        Self::LeakPermitOnCancel,
        Self::RetryUnkeyedTimeout,
        Self::AttemptsOffByOne,
        Self::PollAfterWebhook,
        Self::AcceptAnotherFingerprint,
        Self::SkipDeadline,
    ];

    /// A name for command lines: `send-before-persist`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendBeforePersist => "send-before-persist",
            Self::NewKeyOnRetry => "new-key-on-retry",
            Self::CapBeforeJitter => "cap-before-jitter",
            Self::ForgetLateReference => "forget-late-reference",
            Self::LeakPermitOnCancel => "leak-permit-on-cancel",
            Self::RetryUnkeyedTimeout => "retry-unkeyed-timeout",
            Self::AttemptsOffByOne => "attempts-off-by-one",
            Self::PollAfterWebhook => "poll-after-webhook",
            Self::AcceptAnotherFingerprint => "accept-another-fingerprint",
            Self::SkipDeadline => "skip-deadline",
        }
    }

    /// The policy for the broken engine. The checks use the true one.
    pub(super) fn policy(self, policy: &OperationPolicy) -> OperationPolicy {
        let create = policy.create();
        match self {
            Self::CapBeforeJitter => {
                let create = retry(create, 0, 1, beyond_cap(create.backoff()));
                let poll = policy.poll();
                let poll =
                    PollPolicy::new(beyond_cap(poll.schedule()), poll.polls(), poll.deadline(), poll.retry().clone())
                        .expect("a longer cap is in order")
                        .with_not_found_grace(poll.not_found_grace())
                        .with_accept_partial(poll.accepts_partial());
                let broken = policy.clone().with_create(create).expect("a longer cap is in order");
                broken.with_poll(poll)
            }
            Self::RetryUnkeyedTimeout if policy.safety() == SendSafety::Unsafe => {
                policy.clone().with_safety(SendSafety::Idempotent).expect("no window, nothing to refuse")
            }
            Self::AttemptsOffByOne => {
                let create = retry(create, 1, 1, create.backoff().clone());
                policy.clone().with_create(create).expect("one more attempt is in order")
            }
            Self::SkipDeadline => {
                let create = retry(create, 0, 10, create.backoff().clone());
                policy.clone().with_create(create).expect("a longer deadline is in order")
            }
            _ => policy.clone(),
        }
    }
}

fn retry(policy: &RetryPolicy, more_attempts: u16, deadline_times: u32, backoff: BackoffPolicy) -> RetryPolicy {
    let (attempts, deadline) = (policy.attempts() + more_attempts, policy.deadline() * deadline_times);
    let more =
        policy.clone().with_backoff(backoff).with_attempts(attempts).and_then(|more| more.with_deadline(deadline));
    more.expect("more of everything is in order")
}

fn beyond_cap(backoff: &BackoffPolicy) -> BackoffPolicy {
    BackoffPolicy::new(backoff.growth().clone(), backoff.cap() * 3 / 2, backoff.jitter())
        .expect("a longer cap is in order")
}

/// An engine, broken or not, with the engine's own verbs.
#[derive(Clone, Debug)]
pub(super) struct Flawed {
    engine: Engine,
    flaw: Option<Flaw>,
    told: Timestamp,
}

impl Flawed {
    pub(super) const fn new(engine: Engine, flaw: Option<Flaw>) -> Self {
        Self { engine, flaw, told: Timestamp::EPOCH }
    }

    pub(super) const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) const fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    pub(super) fn submit(&mut self, key: Key, print: Fingerprint, now: Timestamp) -> Result<Submitted, SubmitError> {
        self.told = now;
        let known = self.engine.find(&key).filter(|_| self.flaw == Some(Flaw::AcceptAnotherFingerprint));
        known.map_or_else(|| self.engine.submit(key, print, now), |id| Ok(Submitted::Joined(id)))
    }

    pub(super) fn handle(&mut self, event: Event, now: Timestamp) {
        self.told = now;
        if !self.is_forgotten(&event) {
            let cancel = matches!(event, Event::Cancel(_)) && self.flaw == Some(Flaw::LeakPermitOnCancel);
            self.engine.handle(event, now);
            if cancel {
                // Taken, and never given back.
                let _ = self.engine.gate_mut().admit(Request::first(Kind::Poll), now);
            }
        }
    }

    fn is_forgotten(&self, event: &Event) -> bool {
        match (self.flaw, event) {
            (Some(Flaw::ForgetLateReference), Event::Answered(id, attempt, Ok(Reading::Accepted(_)))) => {
                let operation = self.engine.operation(*id);
                operation.and_then(|operation| operation.in_flight()).is_none_or(|now| now.id != *attempt)
            }
            (Some(Flaw::PollAfterWebhook), Event::Webhook(..)) => true,
            _ => false,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.told = now;
        self.engine.handle_timeout(now);
    }

    pub(super) fn pop_effect(&mut self) -> Option<(OperationId, Effect)> {
        let popped = self.engine.pop_effect();
        if let (Some(Flaw::SendBeforePersist), Some((_, Effect::Persist(number)))) = (self.flaw, popped) {
            self.engine.handle(Event::Persisted(number), self.told);
        }
        popped
    }

    /// The key that goes over the wire.
    pub(super) fn key_of(&self, id: OperationId, attempt: Attempt) -> Option<Key> {
        let key = self.engine.operation(id)?.key();
        let renewed = self.flaw == Some(Flaw::NewKeyOnRetry) && attempt.kind == Kind::Create && attempt.number > 1;
        if renewed { Key::new(format!("{}-{}", key.as_str(), attempt.number)).ok() } else { Some(key) }
    }
}

#[cfg(test)]
#[test]
fn broken_policies_differ_from_whole_ones() {
    let unsafe_policy = OperationPolicy::default().with_safety(SendSafety::Unsafe).unwrap();
    for flaw in [Flaw::CapBeforeJitter, Flaw::RetryUnkeyedTimeout, Flaw::AttemptsOffByOne, Flaw::SkipDeadline] {
        assert_ne!(flaw.policy(&unsafe_policy), unsafe_policy, "{flaw:?}");
    }
    let longer = Flaw::SkipDeadline.policy(&unsafe_policy).create().deadline();
    assert!(longer > unsafe_policy.create().deadline() + std::time::Duration::from_secs(60));
}
