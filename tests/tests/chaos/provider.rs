//! The provider, and its book: what has reached it, what it ran, and what of that nobody may contradict.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, Method, Request, Response};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, OperationPolicy, Reference, SendSafety, Timestamp};
use steadfast_driver::{Outgoing, SendError};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};

use crate::plan::Plan;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) fn verifier() -> Verifier {
    Verifier::new(Scheme::StandardWebhooks, [SECRET]).unwrap()
}

/// 201 accepts, 202 is pending, 200 is ready, 410 failed, 404 finds nothing, 500 may have run, what else there is
/// refuses.
pub(crate) struct Profile(pub(crate) Plan);

impl Provider for Profile {
    fn name(&self) -> &str {
        "chaos"
    }

    fn policy(&self) -> OperationPolicy {
        self.0.policy()
    }

    fn gate(&self) -> GatePolicy {
        self.0.gate()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let (method, body) = match ask.kind {
            Kind::Create => (Method::POST, ask.payload.bytes().clone()),
            _ => (Method::GET, Bytes::new()),
        };
        let request = Request::builder().method(method).uri("https://provider.test/jobs");
        request.body(body).map_err(|_| RequestError::Unsendable("nothing"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        let failed = |class, certainty| Err(Failure::new(class, certainty));
        match answer.status.as_u16() {
            201 => Reference::new(String::from_utf8_lossy(answer.body))
                .map(Reading::Accepted)
                .map_err(|_| Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
            202 => Ok(Reading::Pending { hint: None }),
            200 => Ok(Reading::Ready),
            410 => Ok(Reading::Failed),
            404 if answer.kind != Kind::Create => Ok(Reading::NotFound),
            429 => failed(Class::Throttled, Certainty::NotExecuted),
            400..=499 => failed(Class::Permanent, Certainty::NotExecuted),
            _ => failed(Class::Transient, Certainty::MayHaveExecuted),
        }
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(verifier().verify(headers, body, wall)?, body))
    }
}

/// What the provider has of one key.
#[derive(Default)]
pub(crate) struct Page {
    /// Requests, by the number of the client that they are of.
    in_the_air: Vec<(usize, Kind)>,
    sent: [u64; 3],
    /// Jobs of this key, as far as they have left: there is another one after one that was rejected.
    pub(crate) jobs: u32,
    pub(crate) ran: u32,
    /// Creates that have left, but for those that were refused, or shown not to have run.
    may_have_run: u32,
    /// Of those that were refused, too: who knows whether anybody heard it.
    pub(crate) left: u32,
    body: Bytes,
    pub(crate) reference: Option<String>,
    /// Whether it is over, and has failed.
    pub(crate) end: Option<bool>,
    trail: Vec<String>,
}

#[derive(Default)]
struct Pages {
    by_key: BTreeMap<String, Page>,
    violations: Vec<String>,
}

pub(crate) struct Book {
    plan: Plan,
    begun: Instant,
    /// Every request is answered at once, and well.
    pub(crate) is_well: AtomicBool,
    pages: Mutex<Pages>,
}

/// What becomes of a request: what it does there, how long it takes, and what comes back.
pub(crate) struct Course {
    pub(crate) takes: Takes,
    runs_first: bool,
    back: Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Time(Duration),
    /// Longer than anybody waits.
    Forever,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    Good,
    Status(u16),
    /// It ran, or was looked at, before this.
    LateStatus(u16),
    NotSent,
    Lost,
    RanAndLost,
    Panics,
    RanAndPanics,
}

impl Back {
    const fn runs(self) -> bool {
        matches!(self, Self::Good | Self::LateStatus(_) | Self::RanAndLost | Self::RanAndPanics)
    }
}

/// A request that has left. It has landed when this is dropped.
pub(crate) struct Flight {
    book: Arc<Book>,
    client: usize,
    key: String,
    kind: Kind,
    body: Bytes,
    ran: bool,
    pub(crate) course: Course,
}

impl Book {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self { plan, begun: Instant::now(), is_well: AtomicBool::new(false), pages: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, key: &str, what: impl Into<String>) {
        let line = format!("{:?} {}", self.begun.elapsed(), what.into());
        self.lock().by_key.entry(key.to_owned()).or_default().trail.push(line);
    }

    /// A law is broken: with all that is known of the key.
    pub(crate) fn violated(&self, key: &str, what: impl Into<String>) {
        let mut pages = self.lock();
        let trail = pages.by_key.get(key).map(|page| page.trail.join("\n    ")).unwrap_or_default();
        pages.violations.push(format!("{key}: {}\n    {trail}", what.into()));
    }

    /// All that is known.
    pub(crate) fn told(&self) -> String {
        let pages = self.lock();
        let lines = pages.by_key.iter().map(|(key, page)| format!("{key}\n    {}\n", page.trail.join("\n    ")));
        lines.collect()
    }

    pub(crate) fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().violations)
    }

    pub(crate) fn look<T>(&self, key: &str, look: impl FnOnce(&mut Page) -> T) -> T {
        look(self.lock().by_key.entry(key.to_owned()).or_default())
    }

    /// A request leaves.
    pub(crate) fn leaves(self: &Arc<Self>, client: usize, outgoing: &Outgoing) -> Flight {
        let (key, kind, body) =
            (outgoing.key.as_str().to_owned(), outgoing.attempt.kind, outgoing.request.body().clone());
        let mut wrong = Vec::new();
        let nth = self.look(&key, |page| {
            if page.in_the_air.iter().any(|(whose, _)| *whose == client) {
                wrong.push(format!("{kind:?} while {:?} are in the air", page.in_the_air));
            }
            if kind == Kind::Create {
                if page.may_have_run > 0 && self.plan.safety == SendSafety::Unsafe {
                    wrong.push("a create after one that may have run".to_owned());
                }
                if page.may_have_run > 0 && page.body != body {
                    wrong.push("a create of another payload than one that may have run".to_owned());
                }
                page.may_have_run += 1;
                page.left += 1;
                page.jobs += u32::from(outgoing.attempt.number == 1);
                page.body.clone_from(&body);
            }
            page.in_the_air.push((client, kind));
            page.sent[kind as usize] += 1;
            page.sent[kind as usize]
        });
        let course = self.course(&key, kind, nth);
        self.note(
            &key,
            format!(
                "client {client}: {kind:?} {} leaves: {:?}, {:?}",
                outgoing.attempt.number, course.takes, course.back
            ),
        );
        for wrong in wrong {
            self.violated(&key, wrong);
        }
        let mut flight = Flight { book: self.clone(), client, key, kind, body, ran: false, course };
        if flight.course.runs_first {
            flight.run();
        }
        flight
    }

    fn course(&self, key: &str, kind: Kind, nth: u64) -> Course {
        let good = Course { takes: Takes::Nothing, runs_first: false, back: Back::Good };
        if self.is_well.load(Ordering::SeqCst) {
            return good;
        }
        let name: u64 = key.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
        let mut rng = self.plan.rng(&[name, kind as u64, nth]);
        let takes = match rng.u32(..10) {
            0..=3 => Takes::Nothing,
            4..=7 => Takes::Time(Duration::from_micros(rng.u64(100..3_000))),
            _ if rng.u32(..100) >= self.plan.ill => Takes::Nothing,
            8 => Takes::Time(Duration::from_micros(rng.u64(4_000..20_000))),
            _ => Takes::Forever,
        };
        // Who looks a job up trusts that what the create did shows.
        let runs_first = rng.bool() || matches!(self.plan.safety, SendSafety::Lookup { .. });
        let back = if rng.u32(..100) >= self.plan.ill { Back::Good } else { self.ill(&mut rng) };
        Course { takes, runs_first, back }
    }

    fn ill(&self, rng: &mut Rng) -> Back {
        match rng.u32(..12) {
            0 => Back::Status(500),
            1 => Back::LateStatus(500),
            2 | 3 => Back::Status(429),
            4 => Back::Status(401),
            5 => Back::Status(400),
            6 | 7 => Back::NotSent,
            8 => Back::Lost,
            9 => Back::RanAndLost,
            10 => Back::Panics,
            _ => Back::RanAndPanics,
        }
    }
}

impl Flight {
    fn run(&mut self) {
        if self.kind != Kind::Create || self.ran || !self.course.back.runs() {
            return;
        }
        self.ran = true;
        let Self { book, key, .. } = self;
        let is_keyed = book.plan.is_keyed();
        let (ran, is_other) = book.look(key, |page| {
            page.ran += u32::from(page.ran == 0 || !is_keyed);
            page.reference.get_or_insert_with(|| format!("ref-{key}"));
            (page.ran, page.body != self.body)
        });
        book.note(key, format!("it runs: {ran}"));
        if ran > 1 {
            book.violated(key, format!("it ran {ran} times"));
        }
        if is_other {
            book.violated(key, "another payload ran");
        }
    }

    /// What comes back, once it has taken its time.
    pub(crate) fn lands(mut self) -> Result<Response<Bytes>, SendError> {
        self.run();
        let status = match self.course.back {
            Back::NotSent => {
                self.did_not_run();
                return Err(SendError::not_sent());
            }
            Back::Lost | Back::RanAndLost => return Err(SendError::ambiguous()),
            // Without a word: it is meant.
            Back::Panics | Back::RanAndPanics => resume_unwind(Box::new("a transport that is broken on purpose")),
            Back::Status(status) | Back::LateStatus(status) => status,
            Back::Good => return Ok(self.good()),
        };
        if (400..500).contains(&status) {
            self.did_not_run();
        }
        Ok(answer(status, ""))
    }

    fn did_not_run(&self) {
        if self.kind == Kind::Create {
            self.book.look(&self.key, |page| page.may_have_run = page.may_have_run.saturating_sub(1));
        }
    }

    fn good(&self) -> Response<Bytes> {
        let mut rng = self.book.plan.rng(&[self.book.look(&self.key, |page| page.sent[2]), 77]);
        let is_well = self.book.is_well.load(Ordering::SeqCst);
        let (reference, end) = self.book.look(&self.key, |page| {
            let ends = self.kind == Kind::Poll && page.ran > 0 && (is_well || rng.u32(..3) == 0);
            if ends {
                page.end.get_or_insert_with(|| rng.u32(..4) == 0);
            }
            if self.kind == Kind::Lookup && page.ran == 0 {
                page.may_have_run = 0;
            }
            (page.reference.clone(), page.end.filter(|_| self.kind == Kind::Poll))
        });
        match (self.kind, reference, end) {
            (_, None, _) => answer(404, ""),
            (Kind::Create | Kind::Lookup, Some(reference), _) => answer(201, reference),
            (_, _, None) => answer(202, ""),
            (_, _, Some(failed)) => answer(if failed { 410 } else { 200 }, "the result"),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.book.look(&self.key, |page| {
            let place = page.in_the_air.iter().position(|it| *it == (self.client, self.kind));
            place.map(|place| page.in_the_air.remove(place));
        });
        self.book.note(&self.key, format!("client {}: {:?} has landed", self.client, self.kind));
    }
}

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().status(status).body(body.into()).unwrap()
}
