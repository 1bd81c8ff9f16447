//! The webhooks that Didit sends, and when, by docs.didit.me/integration/webhooks.
//!
//! Each status that a session takes on is an event (`status.updated`). It is sent a moment later; a 2xx within 5 s is a
//! success. After a 5xx, a 404 or no answer it is sent again after one minute and then after four, and dropped after
//! that; after a 3xx or another 4xx it is dropped at once. Each sending has the same `event_id`, a fresh `timestamp`
//! and so fresh signatures.
//!
//! No I/O, no clock: the owner of the sockets pops what is due and reports the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde_json::{Value, json};
use steadfast_core::Timestamp;
use steadfast_providers::didit::Status;
use steadfast_providers::webhook::{DiditSignatures, Scheme, SetupError, Verifier};

use super::session::{Session, uuid};
use super::{FakeDidit, decision, kind};
use crate::webhooks::{WebhookCounts, WebhookFault, WebhookPost};

/// From a new status to its event, before the speed.
const MOMENT: Duration = Duration::from_secs(1);

/// How long the answer of a create is held back behind its event, before the speed.
const HELD_BACK: Duration = Duration::from_secs(3);

/// How long an answer may take, before the speed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The lower limit after the speed is applied: the receiver does not get faster.
const AT_LEAST: Duration = Duration::from_millis(500);

/// From a failed attempt to the next one, before the speed.
const RETRIES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(240)];

/// How old a replay is, at any speed: no receiver's tolerance is divided by it.
const REPLAYED_AFTER: Duration = Duration::from_secs(600);

/// Where webhooks go, and how they are signed.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    url: Uri,
    signer: Verifier,
    /// Signs with a secret that is not the destination's.
    stranger: Verifier,
}

impl Destination {
    pub(super) fn new(url: Uri, secret: &str) -> Result<Self, SetupError> {
        let all = DiditSignatures { simple: true, ..DiditSignatures::default() };
        let stranger = format!("not {secret}");
        Ok(Self {
            url,
            signer: Verifier::new(Scheme::Didit(all), [secret])?,
            stranger: Verifier::new(Scheme::Didit(all), [stranger])?,
        })
    }
}

/// What an event is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guise {
    True,
    Copy,
    Early,
    Forged,
    Altered,
    Replayed,
}

/// One sending of one event.
#[derive(Clone, Debug)]
struct Sending {
    /// The session's place in the provider's list.
    session: usize,
    event_id: String,
    status: Status,
    created_at: Timestamp,
    guise: Guise,
    /// Its number, from 0.
    attempt: usize,
}

/// The webhooks to be sent, and those that wait for an answer.
#[derive(Debug)]
pub(super) struct Outbox {
    destination: Destination,
    /// By due time, then in the order of their making.
    due: BTreeMap<(Timestamp, u64), Sending>,
    under_way: BTreeMap<u64, Sending>,
    made: u64,
}

impl Outbox {
    pub(super) const fn new(destination: Destination) -> Self {
        Self { destination, due: BTreeMap::new(), under_way: BTreeMap::new(), made: 0 }
    }

    /// Plans the events of a session that was just created. Returns how long the create's answer is held back if an
    /// event must come before it.
    pub(super) fn plan(
        &mut self,
        place: usize,
        session: &Session,
        settings: &FakeDidit,
        counts: &mut WebhookCounts,
    ) -> Duration {
        let (seed, scaled) = (settings.habits.seed, |span| settings.habits.scaled(span));
        let mut held_back = Duration::ZERO;
        for (nth, (born, status)) in (0_u64..).zip(session.course()) {
            let draw = seed.derive_bytes(b"events").derive_bytes(session.id.as_bytes()).derive(nth);
            let mut send = |at: Timestamp, guise| {
                let (event_id, status) = (uuid(draw), status.clone());
                let sending = Sending { session: place, event_id, status, created_at: *born, guise, attempt: 0 };
                self.push(at, sending);
            };
            let soon = born.saturating_add(scaled(MOMENT));
            let later = |least: u64, most: u64| {
                let span = Duration::from_millis(draw.derive(1).between(least, most));
                soon.saturating_add(scaled(span))
            };
            let fault = settings.webhook_faults.draw(seed, &session.id, nth);
            match fault {
                Some(WebhookFault::Lost) => counts.lost += 1,
                Some(WebhookFault::Delayed) => send(later(30_000, 240_000), Guise::True),
                Some(WebhookFault::Early) => {
                    send(*born, Guise::Early);
                    held_back = scaled(HELD_BACK);
                }
                _ => send(soon, Guise::True),
            }
            match fault {
                Some(WebhookFault::Duplicated) => send(later(0, 5_000), Guise::Copy),
                // A forged event is sent before the true one.
                Some(WebhookFault::Forged) => send(*born, Guise::Forged),
                Some(WebhookFault::Altered) => send(*born, Guise::Altered),
                Some(WebhookFault::Replayed) => send(later(0, 60_000), Guise::Replayed),
                _ => {}
            }
        }
        held_back
    }

    fn push(&mut self, at: Timestamp, sending: Sending) {
        self.made += 1;
        self.due.insert((at, self.made), sending);
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// The first event that is due now.
    pub(super) fn pop(
        &mut self,
        sessions: &[Session],
        settings: &FakeDidit,
        now: Timestamp,
        counts: &mut WebhookCounts,
    ) -> Option<WebhookPost> {
        if self.next()? > now {
            return None;
        }
        let ((_, ticket), sending) = self.due.pop_first()?;
        let session = sessions.get(sending.session)?;
        if sending.attempt == 0 {
            counts.duplicated += u64::from(sending.guise == Guise::Copy);
            counts.early += u64::from(sending.guise == Guise::Early);
        }
        let stated = match sending.guise {
            Guise::Replayed => now.saturating_sub(REPLAYED_AFTER),
            _ => now,
        };
        let truth = body(&sending, &sending.status, session, stated, settings.business);
        let lie = || {
            let said = if sending.status == Status::Approved { Status::Declined } else { Status::Approved };
            body(&sending, &said, session, stated, settings.business)
        };
        let Destination { url, signer, stranger } = &self.destination;
        let (signer, signed, body) = match sending.guise {
            Guise::Forged => (stranger, lie(), lie()),
            Guise::Altered => (signer, truth, lie()),
            _ => (signer, truth.clone(), truth),
        };
        let mut headers = signer.sign("", stated, &signed).unwrap_or_default();
        headers.extend(about_the_sender());
        let within = settings.habits.scaled(ANSWER_WITHIN).max(AT_LEAST);
        self.under_way.insert(ticket, sending);
        Some(WebhookPost { url: url.clone(), headers, body, within, ticket })
    }

    /// Takes in an answer; `None` if there was none in time.
    pub(super) fn answered(
        &mut self,
        ticket: u64,
        status: Option<StatusCode>,
        settings: &FakeDidit,
        now: Timestamp,
        counts: &mut WebhookCounts,
    ) {
        let Some(mut sending) = self.under_way.remove(&ticket) else { return };
        counts.refused += u64::from(status.is_some_and(|status| status.is_client_error()));
        if matches!(sending.guise, Guise::Forged | Guise::Altered | Guise::Replayed) {
            counts.forged += u64::from(status.is_some());
            counts.believed += u64::from(status.is_some_and(|status| status.is_success()));
            return;
        }
        let repeats = match status {
            Some(status) if status.is_success() => {
                counts.delivered += 1;
                return;
            }
            Some(status) => status.is_server_error() || status == StatusCode::NOT_FOUND,
            None => true,
        };
        match RETRIES.get(sending.attempt).filter(|_| repeats) {
            Some(wait) => {
                sending.attempt += 1;
                self.push(now.saturating_add(settings.habits.scaled(*wait)), sending);
            }
            None => counts.lost += u64::from(sending.guise != Guise::Copy),
        }
    }
}

fn about_the_sender() -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static("DiditWebhook/2.0 +https://didit.me")),
    ])
}

/// The envelope, as Python writes it by default: members sorted, compact, in ASCII.
fn body(sending: &Sending, status: &Status, session: &Session, stated: Timestamp, business: bool) -> Bytes {
    let seconds = |at: Timestamp| at.as_nanos() / 1_000_000_000;
    let mut envelope = json!({
        "event_id": sending.event_id, "webhook_type": "status.updated", "timestamp": seconds(stated),
        "created_at": seconds(sending.created_at), "application_id": "3f0c2f5e-8f4e-4d0e-9d8a-0f6f0c6f2b11", "environment": "sandbox",
        "session_id": session.id, "status": status.as_str(), "workflow_id": session.workflow,
        "workflow_version": session.version, "vendor_data": session.vendor_data, "metadata": session.metadata,
    });
    if matches!(status, Status::Approved | Status::Declined | Status::InReview | Status::Abandoned) {
        envelope["decision"] = decision(session, status, business);
    }
    if business {
        envelope["session_kind"] = kind(business).into();
        envelope["business_session_id"] = session.id.as_str().into();
    }
    Bytes::from(in_ascii(&envelope))
}

fn in_ascii(value: &Value) -> String {
    let mut text = String::new();
    // Outside of strings JSON is ASCII, and within them every other character may be escaped.
    for c in value.to_string().chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            text.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}
