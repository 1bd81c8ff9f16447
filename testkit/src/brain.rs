//! A fake provider without its sockets: requests and time in, answers and faults out.
//!
//! What all fakes share is here: faults, outages, counts and the ledger. The behaviour of one provider is an [`Api`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use steadfast_core::{Kind, Seed, Timestamp};

use crate::faults::{Fault, Faults};
use crate::ledger::Ledger;
use crate::speed::divided;
use crate::webhooks::WebhookPost;

/// The behaviour of one provider, without its faults.
pub(crate) trait Api: Debug + Send {
    /// What a request asks for; or how it is refused before it is looked at.
    fn asked(&self, request: &Request<Bytes>) -> Result<Asked, Denied>;

    /// Carries out a request, the `nth` of its kind about the same key or job, and enters executions in the ledger.
    fn carry_out(&mut self, call: &Call<'_>, ledger: &mut Ledger) -> Response<Bytes>;

    /// The answer during an outage.
    fn down(&self) -> Response<Bytes>;

    /// A 429 to a request of this kind, whose limit opens again at `until`. The caller adds `Retry-After`.
    fn throttled(&self, kind: Kind, until: Timestamp) -> Response<Bytes>;

    /// How long the last answer is held back, so that it comes after a webhook about the same job.
    fn held_back(&self) -> Duration {
        Duration::ZERO
    }

    /// When the next webhook is due.
    fn next_webhook(&self) -> Option<Timestamp> {
        None
    }

    /// The next webhook, if it is due.
    fn pop_webhook(&mut self, _now: Timestamp, _ledger: &mut Ledger) -> Option<WebhookPost> {
        None
    }

    /// Takes in the receiver's answer; `None` if there was none in time.
    fn webhook_answered(&mut self, _ticket: u64, _status: Option<StatusCode>, _now: Timestamp, _ledger: &mut Ledger) {}
}

/// What a request asks for, once it has been let in.
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    /// For a create or a look-up the key, for a poll the provider's id.
    pub(crate) whom: String,
}

/// A status, and the reason.
pub(crate) type Denied = (StatusCode, &'static str);

/// A request to be carried out.
pub(crate) struct Call<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) request: &'a Request<Bytes>,
    pub(crate) nth: u32,
    pub(crate) now: Timestamp,
}

/// The settings that all fakes share.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) seed: Seed,
    pub(crate) faults: Faults,
    pub(crate) speed: f64,
    pub(crate) lateness: Duration,
    pub(crate) outage: Option<Outage>,
}

/// A span of time in which every request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// Counted from the first request.
    pub(crate) after: Duration,
    pub(crate) lasting: Duration,
}

impl Habits {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed: Seed::new(seed),
            faults: Faults::none(),
            speed: 1.0,
            lateness: Duration::from_secs(15),
            outage: None,
        }
    }

    pub(crate) fn scaled(&self, span: Duration) -> Duration {
        divided(span, self.speed)
    }
}

/// A fake provider's state and logic: what it knows, and what it answers. No I/O, no clock.
#[derive(Debug)]
pub struct Brain {
    pub(crate) habits: Habits,
    api: Box<dyn Api>,
    /// The number of requests so far, by key or job and by kind.
    asked: BTreeMap<(String, u8), u32>,
    ledger: Ledger,
    faults: BTreeMap<&'static str, u64>,
    /// When the first request came.
    opened: Option<Timestamp>,
}

/// What to answer, when, and which fault to apply.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The answer as the provider meant it, or as the fault altered it.
    pub response: Response<Bytes>,
    /// How long to wait before it is sent.
    pub delay: Duration,
    /// What the transport must do: find no connection for [`Fault::Refuse`], reset the connection for
    /// [`Fault::ResetBefore`] and [`Fault::LoseAnswer`], declare too many bytes for [`Fault::WrongLength`]. The other
    /// faults are in the response already.
    pub fault: Option<Fault>,
}

impl Reply {
    const fn at_once(response: Response<Bytes>) -> Self {
        Self { response, delay: Duration::ZERO, fault: None }
    }
}

impl Brain {
    pub(crate) fn new(habits: Habits, api: impl Api + 'static) -> Self {
        Self {
            habits,
            api: Box::new(api),
            asked: BTreeMap::new(),
            ledger: Ledger::new(),
            faults: BTreeMap::new(),
            opened: None,
        }
    }

    /// Handles one request.
    pub fn handle(&mut self, request: &Request<Bytes>, now: Timestamp) -> Reply {
        if self.is_down(now) {
            *self.faults.entry("outage").or_default() += 1;
            return Reply::at_once(self.api.down());
        }
        let asked = match self.api.asked(request) {
            Ok(asked) => asked,
            Err((status, why)) => return Reply::at_once(detail(status, why)),
        };
        let nth = self.asked.entry((asked.whom.clone(), asked.kind as u8)).or_default();
        *nth += 1;
        let nth = *nth;
        let fault = self.habits.faults.draw(self.habits.seed, &asked.whom, asked.kind, nth);
        if let Some(fault) = fault {
            self.count(fault);
        }
        let (meant, held_back) = match fault {
            Some(fault) if !fault.executes() => (Response::new(Bytes::new()), Duration::ZERO),
            _ => {
                let meant = self.api.carry_out(&Call { asked: &asked, request, nth, now }, &mut self.ledger);
                (meant, self.api.held_back())
            }
        };
        let response = self.spoil(meant, asked.kind, fault, now);
        if asked.kind == Kind::Create {
            let lost = matches!(fault, Some(Fault::Refuse | Fault::ResetBefore | Fault::LoseAnswer));
            let status = (!lost).then_some(response.status().as_u16());
            self.ledger.answered(&asked.whom, now, status, fault.is_none());
        }
        let late = if fault == Some(Fault::Late) { self.habits.scaled(self.habits.lateness) } else { Duration::ZERO };
        Reply { response, delay: late.max(held_back), fault }
    }

    /// When the next webhook is to be sent, as far as is known now: a later request may bring an earlier one.
    #[must_use]
    pub fn next_webhook(&self) -> Option<Timestamp> {
        self.api.next_webhook()
    }

    /// A webhook that is to be sent now, if one is due. Report the answer with
    /// [`webhook_answered`](Self::webhook_answered).
    pub fn pop_webhook(&mut self, now: Timestamp) -> Option<WebhookPost> {
        self.api.pop_webhook(now, &mut self.ledger)
    }

    /// Takes in the answer of a webhook's receiver: `None` if there was none within [`WebhookPost::within`].
    pub fn webhook_answered(&mut self, post: &WebhookPost, status: Option<StatusCode>, now: Timestamp) {
        self.api.webhook_answered(post.ticket, status, now, &mut self.ledger);
    }

    /// The provider's books.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Faults committed so far, by kind.
    #[must_use]
    pub const fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    /// Requests of this kind so far, including those that met a fault; without those during an outage, and those
    /// without credentials.
    #[must_use]
    pub fn requests(&self, kind: Kind) -> u64 {
        self.asked.iter().filter(|((_, of), _)| *of == kind as u8).map(|(_, count)| u64::from(*count)).sum()
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    fn is_down(&mut self, now: Timestamp) -> bool {
        let since = now.saturating_since(*self.opened.get_or_insert(now));
        self.habits.outage.is_some_and(|Outage { after, lasting }| {
            let began = self.habits.scaled(after);
            began <= since && since < began.saturating_add(self.habits.scaled(lasting))
        })
    }

    /// Applies a fault to an answer.
    fn spoil(&self, meant: Response<Bytes>, kind: Kind, fault: Option<Fault>, now: Timestamp) -> Response<Bytes> {
        let throttled = |say: fn(u64, Timestamp) -> String| {
            let wait = self.habits.scaled(Duration::from_secs(2)).as_secs();
            let until = now.saturating_add(Duration::from_secs(wait));
            let mut response = self.api.throttled(kind, until);
            if let Ok(value) = HeaderValue::try_from(say(wait, until)) {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            response
        };
        match fault {
            Some(Fault::ErrorBefore(code) | Fault::ErrorAfter(code)) => {
                detail(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "something went wrong")
            }
            Some(Fault::Throttle) => throttled(|wait, _| wait.to_string()),
            Some(Fault::ThrottleUntil) => throttled(|_, until| {
                httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_nanos(until.as_nanos()))
            }),
            Some(Fault::Truncate) => meant.map(|body| body.slice(..body.len() / 2)),
            Some(Fault::Html) => {
                let mut page = Response::new(Bytes::from_static(b"<!doctype html><title>Please wait</title>"));
                page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
                page
            }
            _ => meant,
        }
    }
}

/// The first line of a header; nothing if there is none.
pub(crate) fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A parameter of the query; nothing if there is none.
pub(crate) fn query(request: &Request<Bytes>, name: &str) -> String {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value);
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// An error as FastAPI and Django's REST framework both put it.
pub(crate) fn detail(status: StatusCode, text: &str) -> Response<Bytes> {
    answer(status, &json!({ "detail": text }))
}

pub(crate) fn answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
