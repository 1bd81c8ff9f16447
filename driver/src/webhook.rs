//! Webhooks as they come in: what the receiving HTTP server is to answer, and why.
//!
//! A [`Mailbox`] verifies a webhook where it came in, so that a forged one never reaches the driver. A genuine one goes
//! there (`driver/webhooks.rs`), and is answered when all that follows from it is durable. The rule behind every
//! status: **2xx is a promise that the event need not be sent again**, a 4xx says that sending it again is pointless
//! (some senders never repeat after one), and trouble of our own is a 503.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use oneshot::Sender;
use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer};
use steadfast_core::Timestamp;
use steadfast_core::policy::humane;
use steadfast_providers::webhook::MAX_BODY;
use steadfast_providers::{Provider, WebhookError, WebhookEvent};

use crate::builder::StartError;
use crate::caught::caught;
use crate::meter::Verdicts;

/// How webhooks are taken in. See [`Builder::webhooks`](crate::Builder::webhooks).
///
/// ```
/// use std::time::Duration;
/// use steadfast_driver::{UnknownJob, WebhookPolicy};
///
/// // Another program's jobs are told to this address too, and it is known that its senders give up after errors.
/// let policy = WebhookPolicy { unknown: UnknownJob::Accept, ..WebhookPolicy::default() };
/// assert_eq!(policy.answer_within, Duration::from_secs(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct WebhookPolicy {
    /// The most bytes that a body may have; a larger one is refused before any of it is hashed. Default 1 MiB, which is
    /// also the most: a higher limit has no effect. At least 1,000.
    #[serde(deserialize_with = "body")]
    pub body_limit: usize,
    /// How a webhook about a job that is not known here is answered. Default [`UnknownJob::RepeatIfEarly`].
    pub unknown: UnknownJob,
    /// How long a delivery may be kept waiting for its answer: until what follows is durable, or until the job it is
    /// about is known. Default 3 s: Didit wants an answer within 5 s, others within 10 s or more. Not 0: what has to
    /// be written first takes a moment.
    #[serde(serialize_with = "humane::serialize", deserialize_with = "moment")]
    pub answer_within: Duration,
    /// The most events that wait for a create's answer; the oldest are dropped first. Default 1,000.
    pub inbox: usize,
    /// The most bytes of results that those events may hold. Default 16 MiB. Events for which the journal is asked may
    /// hold as many (those of each [shard](crate::Builder::shards)); others are [refused](Delivery::Busy) until it
    /// answers. One alone always fits.
    pub inbox_bytes: usize,
    /// How long such an event waits. After that, only the poll schedule finds out what it told. Default 5 min.
    #[serde(with = "steadfast_core::policy::humane")]
    pub inbox_for: Duration,
    /// The most events that are remembered, so that repeats are recognised; the oldest are forgotten first. Default
    /// 100,000 (some 15 MB).
    pub remember: usize,
    /// How long they are remembered. Default 6 days: longer than the longest retry that a sender documents (Persona's
    /// eight delays add up to 5.2 days; Standard Webhooks advises 76 hours; Stripe's go on for 3 days).
    #[serde(with = "steadfast_core::policy::humane")]
    pub remember_for: Duration,
}

/// The lowest limit on bodies that makes sense.
pub(crate) const LEAST_BODY: usize = 1_000;

pub(crate) const LEAST: &str = "1000 bytes, so that webhooks and answers can be read";

impl WebhookPolicy {
    /// Whether any webhook can be taken in under this policy.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let too_small = |setting, value, least| Err(StartError::TooSmall { setting, value, least });
        if self.body_limit < LEAST_BODY {
            return too_small("WebhookPolicy::body_limit", format!("{} bytes", self.body_limit), LEAST);
        }
        if self.answer_within.is_zero() {
            return too_small("WebhookPolicy::answer_within", "0s".to_owned(), "a moment, for the store: 3s as a rule");
        }
        Ok(())
    }
}

/// A limit on bodies, from a file.
pub(crate) fn body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        bytes if bytes < LEAST_BODY => Err(D::Error::custom(format!("it is {bytes}: it must be at least {LEAST}"))),
        bytes => Ok(bytes),
    }
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match humane::deserialize(deserializer)? {
        Duration::ZERO => Err(D::Error::custom("it is 0s: it must be more, for the store: 3s as a rule")),
        span => Ok(span),
    }
}

impl Default for WebhookPolicy {
    fn default() -> Self {
        Self {
            body_limit: MAX_BODY,
            unknown: UnknownJob::default(),
            answer_within: Duration::from_secs(3),
            inbox: 1_000,
            inbox_bytes: 16 << 20,
            inbox_for: Duration::from_secs(300),
            remember: 100_000,
            remember_for: Duration::from_secs(6 * 86_400),
        }
    }
}

/// How a genuine webhook about a job that is not known here is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnknownJob {
    /// Always 200. An event that may be about a job whose create is not answered yet waits in the inbox. A crash
    /// empties the inbox; then a poll finds out what the event told.
    Accept,
    /// 200 if it cannot be about a job of ours. If it can, since a create is not answered yet, it waits in the inbox,
    /// and is answered with 503 if it waits in vain. The sender then repeats it, so a crash loses nothing.
    #[default]
    RepeatIfEarly,
    /// Always 503: for a sender whose events may precede the submit of their job.
    Repeat,
}

/// What became of a webhook, and so what to answer: [`status`](Delivery::status), and an empty body. `Display` says
/// why, for a log; it shows no signature, body or id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "answer the sender with its `status`"]
#[non_exhaustive]
pub enum Delivery {
    /// 200: all that follows from it is durable. If its job had ended before, nothing follows.
    Taken,
    /// 200: the same event was taken before, and what follows from it is durable. It changed nothing. (An event without
    /// an id counts as repeated only if it says more than *look again*: two of those may have the same bytes, and each
    /// brings the next poll forward.)
    Repeated,
    /// 200: it is genuine, and about no job.
    NoJob,
    /// 200, or 503 if [`UnknownJob`] says so: it is about a job that is not under way here. It changed nothing.
    Unknown {
        /// Whether the sender is to send it again.
        repeat: bool,
    },
    /// 503: it may be about a job whose create is not answered yet. If it turns out to be, it still counts, and a
    /// repeat is recognised.
    Early,
    /// 400 (413 where it is too large; 501 where the provider has no webhooks): it cannot be trusted. It changed
    /// nothing.
    Refused(WebhookError),
    /// 413: its body is beyond [`WebhookPolicy::body_limit`]. Nothing of it was looked at.
    TooLarge {
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// 503: what follows from it could not be made durable, or not in time. By the time of a repeat it may be.
    NotDurable,
    /// 503: too many deliveries wait for the journal.
    Busy,
    /// 503: the provider's profile panicked as it read the webhook, so nobody knows whether it can be trusted. It
    /// changed nothing; once the profile is mended, a repeat counts.
    Panicked,
    /// 503: the client has stopped, or is stopping.
    Stopped,
}

impl Delivery {
    /// Every [`name`](Delivery::name).
    #[cfg(feature = "metrics")]
    pub(crate) const NAMES: [&str; 11] = [
        "taken",
        "repeated",
        "no_job",
        "unknown",
        "early",
        "refused",
        "too_large",
        "not_durable",
        "busy",
        "panicked",
        "stopped",
    ];

    /// `taken`, `repeated`, `no_job`, `unknown`, `early`, `refused`, `too_large`, `not_durable`, `busy`, `panicked` or
    /// `stopped`: for metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Repeated => "repeated",
            Self::NoJob => "no_job",
            Self::Unknown { .. } => "unknown",
            Self::Early => "early",
            Self::Refused(_) => "refused",
            Self::TooLarge { .. } => "too_large",
            Self::NotDurable => "not_durable",
            Self::Busy => "busy",
            Self::Panicked => "panicked",
            Self::Stopped => "stopped",
        }
    }

    /// The HTTP status for the sender.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Taken | Self::Repeated | Self::NoJob | Self::Unknown { repeat: false } => StatusCode::OK,
            Self::TooLarge { .. } | Self::Refused(WebhookError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            // Not the sender's fault: this program was built without the secret.
            Self::Refused(WebhookError::Unsupported) => StatusCode::NOT_IMPLEMENTED,
            Self::Refused(_) => StatusCode::BAD_REQUEST,
            Self::Unknown { repeat: true }
            | Self::Early
            | Self::NotDurable
            | Self::Busy
            | Self::Panicked
            | Self::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "the webhook was taken, and what follows from it is durable",
            Self::Repeated => "the webhook had been taken before: it changes nothing",
            Self::NoJob => "the webhook names no job: it changes nothing",
            Self::Unknown { .. } => "the webhook is about a job that is not under way here: it changes nothing",
            Self::Early => "the webhook may be about a job whose create is not answered yet: the sender should send it again",
            Self::Refused(why) => return why.fmt(f),
            Self::TooLarge { bytes, limit } => {
                return write!(
                    f,
                    "the webhook's body has {bytes} bytes, and the limit is {limit}: raise it with `WebhookPolicy::body_limit`"
                );
            }
            Self::NotDurable => {
                "what follows from the webhook was not written to the journal in time: check its disk, permissions and \
                 free space; the sender should send it again"
            }
            Self::Busy => "too many webhooks are waiting for the journal: the sender should send it again",
            Self::Panicked => {
                "the provider's profile panicked on the webhook: read the panic's message and fix the profile; \
                 the sender should send it again"
            }
            Self::Stopped => "the client has stopped: the sender should send the webhook again, for the next client",
        })
    }
}

/// A genuine webhook, on its way to the [driver](crate::Driver).
#[derive(Debug)]
pub struct Posted {
    pub(crate) event: WebhookEvent,
    pub(crate) reply: Sender<Delivery>,
}

impl Posted {
    /// A genuine event, as far as it [may be believed](WebhookEvent::believable), and where the answer to its sender
    /// goes. If that is dropped unanswered, the client has stopped: answer with [`Delivery::Stopped`].
    #[must_use]
    pub fn new(event: WebhookEvent, reply: Sender<Delivery>) -> Self {
        Self { event: event.believable(), reply }
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> &WebhookEvent {
        &self.event
    }
}

/// Verifies webhooks where they come in, so that a forged one never reaches the driver. Clones share the provider.
#[derive(Clone)]
pub struct Mailbox {
    provider: Arc<dyn Provider>,
    body_limit: usize,
    verdicts: Verdicts,
}

impl Mailbox {
    /// A mailbox for this provider's webhooks.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, policy: &WebhookPolicy) -> Self {
        let verdicts = Verdicts::new(provider.name());
        Self { provider, body_limit: policy.body_limit.min(MAX_BODY), verdicts }
    }

    /// Counts an answer to a sender, for the feature `metrics`, and gives it back. Call it with every answer.
    pub fn count(&self, delivery: Delivery) -> Delivery {
        self.verdicts.count(&delivery);
        delivery
    }

    /// Verifies and reads a webhook. `wall` is the wall clock.
    ///
    /// # Errors
    /// The webhook cannot be trusted, is too large, or the provider's profile panicked on it. The error is what to
    /// answer its sender.
    pub fn open(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, Delivery> {
        if body.len() > self.body_limit {
            return Err(Delivery::TooLarge { bytes: body.len(), limit: self.body_limit });
        }
        match caught(|| self.provider.webhook(headers, body, wall)) {
            Some(Ok(mut event)) => {
                // It may be held for as long as its job is remembered, and counts by its own length; what it is a part
                // of may be the buffer that a server reads many requests into.
                if let Some(result) = &mut event.result
                    && body.as_ptr_range().contains(&result.as_ptr())
                {
                    *result = Bytes::copy_from_slice(result);
                }
                Ok(event)
            }
            Some(Err(why)) => {
                tracing::warn!(error = &why as &dyn std::error::Error, "a webhook was refused");
                Err(Delivery::Refused(why))
            }
            // The panic must not go up into the server that received the webhook.
            None => {
                tracing::error!("the provider's profile panicked on a webhook: its sender is told to send it again");
                Err(Delivery::Panicked)
            }
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.provider.name())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use steadfast_core::Reference;
    use steadfast_core::operation::Reading;
    use steadfast_providers::webhook::{Scheme, Verifier};

    use super::*;

    /// A profile of the program's own may write the event's fields as it likes.
    #[test]
    fn what_nothing_signs_reaches_the_driver_as_a_hint() {
        let scheme = Scheme::Token { header: HeaderName::from_static("x-webhook-token") };
        let verifier = Verifier::new(scheme, ["9f86d081884c7d659a2feaa0c55ad015"]).unwrap();
        let headers = verifier.sign("", Timestamp::EPOCH, b"{}").unwrap();
        let verified = verifier.verify(&headers, b"{}", Timestamp::EPOCH).unwrap();
        let mut event = WebhookEvent::new(verified).with_reference(Reference::new("txn-1").ok());
        let hint = event.clone();
        (event.meaning, event.result) = (Some(Reading::Ready), Some(Bytes::from_static(b"{}")));
        assert_eq!(*Posted::new(event, oneshot::channel().0).event(), hint);
    }
}
