//! What a genuine webhook says, and about which job.

use core::fmt;

use bytes::Bytes;
use serde_json::Value;
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Reference, Timestamp};

use super::{Covered, Verified};
use crate::json::{object, plain};

/// The content of a genuine webhook. A provider's profile makes it; its `Debug` shows no body and no id.
///
/// A job is named by the provider's reference, by the caller's key (if the provider passes it through), or by both:
/// then the event also teaches the reference of a job whose create is not answered yet. An event that names neither is
/// about no job.
///
/// A webhook that only says *look again* (as Stripe's and Onfido's do, and the part that Didit's simple signature
/// covers) has no meaning: it makes the job's next poll due now. Give a meaning only if a decision may rest on this
/// body alone.
///
/// Of a delivery that [nothing signs](Covered::Nothing) only which job to look at counts: no meaning, no result, no
/// status and no time, and of reference and key only one, so that the event teaches no reference. The methods drop the
/// rest, and so does the driver ([`believable`](Self::believable)).
///
/// ```
/// use bytes::Bytes;
/// use steadfast_core::operation::Reading;
/// use steadfast_core::{Reference, Timestamp};
/// use steadfast_providers::WebhookEvent;
/// use steadfast_providers::webhook::{Scheme, Verifier};
///
/// let verifier = Verifier::new(Scheme::StandardWebhooks, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])?;
/// let (now, body) = (Timestamp::from_secs(1_700_000_000), Bytes::from_static(b"{}"));
/// let verified = verifier.verify(&verifier.sign("msg_1", now, &body)?, &body, now)?;
///
/// let event = WebhookEvent::new(verified).with_reference(Reference::new("txn-1").ok());
/// let event = event.with_meaning(Some(Reading::Ready)).with_result(Some(body));
/// assert!(event.reference.is_some() && event.key.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookEvent {
    /// What to recognise the delivery by when it comes again.
    pub verified: Verified,
    /// The provider's own id for the job.
    pub reference: Option<Reference>,
    /// The job's idempotency key.
    pub key: Option<Key>,
    /// What it says about the job. `None`: only that something has changed.
    pub meaning: Option<Reading>,
    /// The job's result, for a final meaning: the body that a poll would have brought.
    pub result: Option<Bytes>,
    /// The job's status in the provider's word, if it may be believed: with it a later decision about a job that has
    /// ended is reported.
    pub status: Option<Box<str>>,
    /// Since when the status holds, by the provider's clock: the same in each repeat, and later for newer events.
    /// Default: the time of signing.
    pub at: Option<Timestamp>,
}

impl WebhookEvent {
    /// A genuine event about no job.
    #[must_use]
    pub const fn new(verified: Verified) -> Self {
        let at = verified.timestamp;
        Self { verified, reference: None, key: None, meaning: None, result: None, status: None, at }
    }

    /// Names the job by the provider's reference.
    #[must_use]
    pub fn with_reference(mut self, reference: Option<Reference>) -> Self {
        self.reference = reference;
        self.believable()
    }

    /// Names the job by its idempotency key. Dropped beside a reference if nothing signs the delivery.
    #[must_use]
    pub fn with_key(mut self, key: Option<Key>) -> Self {
        self.key = key;
        self.believable()
    }

    /// What of the event may be believed: of a delivery that nothing signs, which job to look at. The methods above keep
    /// to that already; this is for an event whose fields were written otherwise. The driver calls it.
    #[must_use]
    pub fn believable(mut self) -> Self {
        if self.verified.covers == Covered::Nothing {
            (self.meaning, self.result, self.status, self.at) = (None, None, None, None);
            self.key = self.key.filter(|_| self.reference.is_none());
        }
        self
    }

    /// Adds a meaning, beyond the mere fact that something has changed. Dropped if nothing signs the delivery, as are a
    /// result and a status.
    #[must_use]
    pub fn with_meaning(mut self, meaning: Option<Reading>) -> Self {
        self.meaning = meaning;
        self.believable()
    }

    /// Adds the job's result.
    #[must_use]
    pub fn with_result(mut self, result: Option<Bytes>) -> Self {
        self.result = result;
        self.believable()
    }

    /// Adds the job's status in the provider's word, and since when it holds. A time at the very end of the range is
    /// dropped: it was probably written in another unit, and no later event could ever be newer.
    #[must_use]
    pub fn with_status(mut self, status: Option<Box<str>>, at: Option<Timestamp>) -> Self {
        self.status = status;
        self.at = at.and_then(Timestamp::deadline).or(self.at);
        self.believable()
    }

    /// Reads the event of a flat JSON body, `{"reference": …, "key": …, "status": …, "at": …}`, each of them optional
    /// (`at` is in seconds since 1970): for tests and for senders of your own. A body that is not JSON, or an invalid
    /// reference or key, names no job. `ready`, `undecided`, `failed`, `pending` and `partial` are meanings, with the
    /// body as the result; with any other status, or none, the event says only that something has changed. An event
    /// whose signature [covers](Verified::covers) less than the body is about no job.
    #[must_use]
    pub fn plain(verified: Verified, body: &Bytes) -> Self {
        if verified.covers != Covered::Body {
            return Self::new(verified);
        }
        let told: Told = object(body).unwrap_or_default();
        let Told { reference, key, status, at } = &told;
        let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
        let (reference, key, status) = (text(reference), text(key), text(status));
        let meaning = match status.as_deref() {
            Some("ready") => Some(Reading::Ready),
            Some("undecided") => Some(Reading::Undecided),
            Some("failed") => Some(Reading::Failed),
            Some("partial") => Some(Reading::Partial),
            Some("pending") => Some(Reading::Pending { hint: None }),
            _ => None,
        };
        Self::new(verified)
            .with_reference(reference.and_then(|text| Reference::new(text).ok()))
            .with_key(key.and_then(|text| Key::new(text).ok()))
            .with_result(meaning.is_some().then(|| body.clone()))
            .with_meaning(meaning)
            .with_status(
                status.as_deref().and_then(plain),
                at.as_ref().and_then(Value::as_u64).map(Timestamp::from_secs),
            )
    }
}

/// A plain event's members. If one of them is there twice, the event names no job.
#[derive(Default, serde::Deserialize)]
struct Told {
    reference: Option<Value>,
    key: Option<Value>,
    status: Option<Value>,
    at: Option<Value>,
}

impl fmt::Debug for WebhookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verified, reference, key, meaning, result, status, at } = self;
        // The sender chooses the id and the provider's word for an unknown status.
        let meaning = match meaning {
            Some(Reading::Unknown(_)) => Some("Unknown".to_owned()),
            meaning => meaning.as_ref().map(|meaning| format!("{meaning:?}")),
        };
        f.debug_struct("WebhookEvent")
            .field("has_id", &verified.id.is_some())
            .field("timestamp", &verified.timestamp)
            .field("reference", reference)
            .field("key", key)
            .field("meaning", &meaning)
            .field("has_status", &status.is_some())
            .field("at", at)
            .field("result", &result.as_ref().map(|result| format!("{} bytes", result.len())))
            .finish()
    }
}
