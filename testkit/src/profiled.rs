//! A fake of any provider that a profile describes: the profile read backwards.
//!
//! Its requests are recognised by the profile's own templates, and its answers are those that the profile reads with
//! the intended meaning ([`Profile::say`]). The profile's safety determines what it does with keys. So a new profile
//! can be tried end to end, with faults and a ledger, before anybody has an account. It shows that a profile can carry
//! jobs, not that it is right about its provider: only recorded answers and a sandbox show that.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Kind, Reference, Seed, SendSafety, Timestamp};
use steadfast_providers::profile::{Profile, Recognised, Saying, Unrecognised};
use steadfast_providers::{BaseUrl, BaseUrlError};

use crate::brain::{Api, Asked, Brain, Call, Denied, Habits, Outage, detail};
use crate::deepvue::Keys;
use crate::faults::{Faults, share};
use crate::ledger::Ledger;
use crate::server::{FakeServer, serve};

/// A provider to be started, over HTTP by [`start`](FakeProfile::start) or without sockets by
/// [`brain`](FakeProfile::brain).
///
/// Connect the profile at the fake's base URL ([`Profile::connect_at`]), with any secrets. If the profile sends no key,
/// the ledger uses the payload's text in its place.
///
/// ```
/// use steadfast_providers::profile::{Profile, shipped};
/// use steadfast_testkit::{FakeProfile, Faults};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let persona = Profile::parse(shipped("persona").unwrap_or_default())?;
/// let fake = FakeProfile::new(persona, 7)?.with_faults(Faults::rate(0.3)).with_speed(100.0).start()?;
/// println!("point your client at {}", fake.base_url());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is started"]
pub struct FakeProfile {
    profile: Profile,
    base: BaseUrl,
    habits: Habits,
    keys: Keys,
    window: Duration,
    job_time: (Duration, Duration),
    failing: f64,
    undecided: f64,
    listing_lag: Duration,
}

/// Why a fake of this profile cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undrivable {
    /// The profile's name.
    pub profile: Box<str>,
    /// The reading that no answer has in this profile.
    pub unsaid: &'static str,
}

impl fmt::Display for Undrivable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, unsaid } = self;
        write!(f, "the profile {profile} reads no answer as {unsaid}: check the states and rules that should")
    }
}

impl std::error::Error for Undrivable {}

impl FakeProfile {
    /// A fake that honours keys if the profile's safety is `keyed` (for its window) or `idempotent` (for ever), answers
    /// look-ups if the profile has them, and otherwise runs every create. It makes no faults; jobs take 5 to 30
    /// seconds, and all are decided.
    ///
    /// # Errors
    /// The profile reads no answer as a job's beginning, or none as its end.
    pub fn new(profile: Profile, seed: u64) -> Result<Self, Undrivable> {
        let (keys, window) = match profile.policy().safety() {
            SendSafety::Keyed { window } => (Keys::Honoured, window),
            SendSafety::Idempotent => (Keys::Honoured, Duration::MAX),
            SendSafety::Lookup { .. } => (Keys::Lookup, Duration::MAX),
            _ => (Keys::Ignored, Duration::MAX),
        };
        let base = BaseUrl::parse("http://localhost").map_err(|_: BaseUrlError| undrivable(&profile, "anything"))?;
        let seconds = |least, most| (Duration::from_secs(least), Duration::from_secs(most));
        let fake = Self {
            profile,
            base,
            habits: Habits::new(seed),
            keys,
            window,
            job_time: seconds(5, 30),
            failing: 0.0,
            undecided: 0.0,
            listing_lag: Duration::ZERO,
        };
        fake.check()?;
        Ok(fake)
    }

    /// With these faults.
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.habits.faults = faults;
        self
    }

    /// Treating keys like this, whatever the profile says. [`Keys::Honoured`] for the profile's window, and without one
    /// for ever.
    pub const fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// With every delay divided by this: job times, windows, lateness, lags, waits it asks for. Values in whole seconds
    /// are rounded.
    pub const fn with_speed(mut self, speed: f64) -> Self {
        self.habits.speed = speed;
        self
    }

    /// With jobs that take from `least` to `most`, before the speed.
    pub const fn with_job_time(mut self, least: Duration, most: Duration) -> Self {
        self.job_time = (least, most);
        self
    }

    /// With late answers this late, before the speed. Default 15 s: later than the default policies wait for an answer
    /// (10 s).
    pub const fn with_lateness(mut self, lateness: Duration) -> Self {
        self.habits.lateness = lateness;
        self
    }

    /// With this share of all jobs failing at the provider, if the profile can express that. Default 0.
    pub const fn with_failing(mut self, share: f64) -> Self {
        self.failing = share;
        self
    }

    /// With this share of all jobs ending without a decision, if the profile can express that. Default 0.
    pub const fn with_undecided(mut self, share: f64) -> Self {
        self.undecided = share;
        self
    }

    /// With jobs that a look-up shows only this long after they were created, before the speed. Default: at once.
    pub const fn with_listing_lag(mut self, lag: Duration) -> Self {
        self.listing_lag = lag;
        self
    }

    /// With an outage that begins `after` the first request and goes on for `lasting`, both before the speed. During it
    /// every request gets a 503, and nothing runs; these are counted as faults of kind `outage`.
    pub const fn with_outage(mut self, after: Duration, lasting: Duration) -> Self {
        self.habits.outage = Some(Outage { after, lasting });
        self
    }

    /// The provider without sockets. It expects paths as under a base URL without a path.
    #[must_use]
    pub fn brain(self) -> Brain {
        let habits = self.habits.clone();
        Brain::new(habits, Profiled { settings: self, jobs: BTreeMap::new(), by_whom: BTreeMap::new() })
    }

    /// Starts it on a port of its own, on the current tokio runtime; without one, on a thread of its own.
    ///
    /// # Errors
    /// No port could be opened.
    pub fn start(self) -> io::Result<FakeServer> {
        serve(self.brain())
    }

    /// Refuses a profile of which no fake can be made.
    fn check(&self) -> Result<(), Undrivable> {
        let refused = |unsaid| Err(undrivable(&self.profile, unsaid));
        let (Ok(key), Ok(reference)) = (Key::new("key"), self.profile.reference_of("reference")) else {
            return refused("anything");
        };
        let accepted = Reading::Accepted(reference);
        if self.say(Kind::Create, Some(&key), &accepted).is_some() {
            if self.tell("reference", &Reading::Ready).is_none() {
                return refused("a job that is ready");
            }
            if self.under_way("reference", &STAGES[0]).is_none() {
                return refused("a job that is under way");
            }
        } else if self.say(Kind::Create, Some(&key), &Reading::Ready).is_none() {
            return refused("a job that has begun");
        }
        let lookups = [(&accepted, "a look-up's job"), (&Reading::NotFound, "a look-up without a job")];
        let unsaid = lookups.into_iter().find(|(reading, _)| self.say(Kind::Lookup, Some(&key), reading).is_none());
        match unsaid {
            Some((_, unsaid)) if self.keys == Keys::Lookup => refused(unsaid),
            _ => Ok(()),
        }
    }

    fn say(&self, kind: Kind, key: Option<&Key>, reading: &Reading) -> Option<Response<Bytes>> {
        let mut saying = Saying::new(kind, reading);
        saying.key = key;
        self.profile.say(&saying)
    }

    /// The answer to a poll.
    fn tell(&self, reference: &str, reading: &Reading) -> Option<Response<Bytes>> {
        let reference = Reference::new(reference).ok()?;
        self.profile.say(&Saying::new(Kind::Poll, reading).asked_by(&reference))
    }

    /// The answer for the first of these readings that the profile can express.
    fn under_way(&self, reference: &str, stages: &[Reading]) -> Option<Response<Bytes>> {
        stages.iter().find_map(|reading| self.tell(reference, reading))
    }
}

impl From<FakeProfile> for Brain {
    fn from(fake: FakeProfile) -> Self {
        fake.brain()
    }
}

fn undrivable(profile: &Profile, unsaid: &'static str) -> Undrivable {
    Undrivable { profile: profile.name().into(), unsaid }
}

/// A job's readings before its end: first under way, then waiting for somebody, each if the profile can express it.
const STAGES: [[Reading; 2]; 2] = {
    const PENDING: Reading = Reading::Pending { hint: None };
    const AWAITING: Reading = Reading::AwaitingPerson { hint: None };
    [[PENDING, AWAITING], [AWAITING, PENDING]]
};

#[derive(Debug)]
struct Profiled {
    settings: FakeProfile,
    jobs: BTreeMap<String, Job>,
    /// The creates of each key, or of each payload if the profile sends no key.
    by_whom: BTreeMap<String, Vec<First>>,
}

/// A create that was run.
#[derive(Debug)]
struct First {
    at: Timestamp,
    payload: Bytes,
    reference: Reference,
    answer: Response<Bytes>,
}

#[derive(Debug)]
struct Job {
    waits_at: Timestamp,
    ready_at: Timestamp,
    end: Reading,
}

impl Api for Profiled {
    fn asked(&self, request: &Request<Bytes>) -> Result<Asked, Denied> {
        let Recognised { kind, key, reference, payload, .. } = self.recognised(request).map_err(|why| match why {
            Unrecognised::Credentials => (StatusCode::UNAUTHORIZED, "the credentials are missing"),
            _ => (StatusCode::NOT_FOUND, "no such endpoint"),
        })?;
        let whom = match (kind, key, reference) {
            (Kind::Poll, _, Some(reference)) => reference.as_str().to_owned(),
            (_, Some(key), _) => key.as_str().to_owned(),
            _ => String::from_utf8_lossy(payload.bytes()).into_owned(),
        };
        Ok(Asked { kind, whom })
    }

    fn carry_out(&mut self, call: &Call<'_>, ledger: &mut Ledger) -> Response<Bytes> {
        let Call { asked: Asked { kind, whom }, request, now, .. } = *call;
        let Ok(Recognised { key, payload, .. }) = self.recognised(request) else {
            return detail(StatusCode::NOT_FOUND, "no such endpoint");
        };
        match kind {
            Kind::Create => self.create(whom, key.as_ref(), payload.bytes(), now, ledger),
            Kind::Poll => self.poll(whom, now),
            _ => self.find(whom, key.as_ref(), now),
        }
    }

    fn down(&self) -> Response<Bytes> {
        detail(StatusCode::SERVICE_UNAVAILABLE, "down for maintenance")
    }

    fn throttled(&self, _kind: Kind, _until: Timestamp) -> Response<Bytes> {
        detail(StatusCode::TOO_MANY_REQUESTS, "too many requests")
    }
}

impl Profiled {
    fn recognised(&self, request: &Request<Bytes>) -> Result<Recognised, Unrecognised> {
        self.settings.profile.recognise(request, &self.settings.base)
    }

    fn create(
        &mut self,
        whom: &str,
        key: Option<&Key>,
        payload: &Bytes,
        now: Timestamp,
        ledger: &mut Ledger,
    ) -> Response<Bytes> {
        let FakeProfile { habits, keys, window, profile, .. } = &self.settings;
        let so_far = self.by_whom.entry(whom.to_owned()).or_default();
        if let (Keys::Honoured, Some(first)) = (keys, so_far.last())
            && now < first.at.saturating_add(habits.scaled(*window))
        {
            return if first.payload == *payload {
                first.answer.clone()
            } else {
                detail(StatusCode::UNPROCESSABLE_ENTITY, "this key was used with another payload")
            };
        }
        let draw = habits.seed.derive_bytes(b"jobs").derive_bytes(whom.as_bytes()).derive(so_far.len() as u64);
        // With capitals and small letters, as in many references.
        let Ok(reference) = profile.reference_of(&format!("Job-{:016x}", draw.value())) else {
            return detail(StatusCode::INTERNAL_SERVER_ERROR, "no reference could be made");
        };
        let job = self.settings.job(draw, now);
        let accepted = Reading::Accepted(reference.clone());
        let answer = self.settings.say(Kind::Create, key, &accepted);
        // Without a poll, the create's own answer has the result.
        let answer = answer.or_else(|| self.settings.end(Kind::Create, reference.as_str(), &job.end));
        let Some(answer) = answer else {
            return detail(StatusCode::NOT_IMPLEMENTED, "the profile reads no answer as accepted");
        };
        ledger.ran(whom, now, reference.as_str().to_owned());
        self.jobs.insert(reference.as_str().to_owned(), job);
        so_far.push(First { at: now, payload: payload.clone(), reference, answer: answer.clone() });
        answer
    }

    fn poll(&self, reference: &str, now: Timestamp) -> Response<Bytes> {
        let settings = &self.settings;
        let said = match self.jobs.get(reference) {
            None => settings.tell(reference, &Reading::NotFound),
            Some(job) if now < job.waits_at => settings.under_way(reference, &STAGES[0]),
            Some(job) if now < job.ready_at => settings.under_way(reference, &STAGES[1]),
            Some(job) => settings.end(Kind::Poll, reference, &job.end),
        };
        said.unwrap_or_else(|| detail(StatusCode::NOT_FOUND, "no such job"))
    }

    /// The newest job of a key.
    fn find(&self, whom: &str, key: Option<&Key>, now: Timestamp) -> Response<Bytes> {
        let settings = &self.settings;
        let lag = settings.habits.scaled(settings.listing_lag);
        let jobs = self.by_whom.get(whom).map_or(&[][..], Vec::as_slice);
        let shown = jobs.iter().rev().find(|first| first.at.saturating_add(lag) <= now);
        let reading = match shown {
            Some(first) if settings.keys != Keys::Ignored => Reading::Accepted(first.reference.clone()),
            _ => Reading::NotFound,
        };
        let said = settings.say(Kind::Lookup, key, &reading);
        said.unwrap_or_else(|| detail(StatusCode::NOT_FOUND, "no such key"))
    }
}

impl FakeProfile {
    fn job(&self, draw: Seed, now: Timestamp) -> Job {
        let (least, most) = self.job_time;
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let time = self.habits.scaled(Duration::from_nanos(draw.derive(1).between(nanos(least), nanos(most))));
        let fate = share(draw.derive(2));
        let end = if fate < self.failing {
            Reading::Failed
        } else if fate < self.failing + self.undecided {
            Reading::Undecided
        } else {
            Reading::Ready
        };
        Job { waits_at: now.saturating_add(time / 2), ready_at: now.saturating_add(time), end }
    }

    /// The answer for a job's end: ready, with a result that names it, if the profile cannot express the end.
    fn end(&self, kind: Kind, reference: &str, end: &Reading) -> Option<Response<Bytes>> {
        let result = serde_json::json!({ "job": reference, "checked": true }).to_string();
        let asked = Reference::new(reference).ok()?;
        let say = |end| {
            let saying = Saying::new(kind, end).asked_by(&asked);
            self.profile.say(&saying.with_result(&result)).or_else(|| self.profile.say(&saying))
        };
        say(end).or_else(|| say(&Reading::Ready))
    }
}
