//! The fake of a profile keeps to the profile.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Kind, Reference, Timestamp};
use steadfast_providers::profile::{Profile, ProfileProvider, shipped};
use steadfast_providers::{Answer, Ask, Payload, Provider};
use steadfast_testkit::{Brain, FakeProfile, Keys, Undrivable};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn after(secs: u64) -> Timestamp {
    START.saturating_add(Duration::from_secs(secs))
}

/// A fake and what speaks to it.
struct Pair {
    brain: Brain,
    provider: ProfileProvider,
}

impl Pair {
    fn of(name: &str, set: impl Fn(FakeProfile) -> FakeProfile) -> Self {
        let profile = Profile::parse(shipped(name).unwrap()).unwrap();
        let provider = profile.connect(|name| (!name.contains("WEBHOOK")).then(|| "secret".to_owned())).unwrap();
        let fake = FakeProfile::new(profile, 7).unwrap();
        Self { brain: set(fake.with_job_time(Duration::from_secs(60), Duration::from_secs(60))).brain(), provider }
    }

    fn ask(&self, kind: Kind, key: &str, reference: Option<&Reference>, payload: &'static str) -> Request<Bytes> {
        let (key, payload) = (Key::new(key).unwrap(), Payload::from(payload));
        self.provider.request(&Ask::new(kind, &key, reference, &payload)).unwrap()
    }

    fn read(&self, kind: Kind, response: &Response<Bytes>) -> Option<Reading> {
        let (status, headers): (_, &HeaderMap) = (response.status(), response.headers());
        self.provider.read(&Answer::new(kind, status, headers, response.body(), START)).ok()
    }

    fn create(&mut self, key: &str, payload: &'static str, now: Timestamp) -> Option<Reference> {
        let request = self.ask(Kind::Create, key, None, payload);
        let response = self.brain.handle(&request, now).response;
        match self.read(Kind::Create, &response)? {
            Reading::Accepted(reference) => Some(reference),
            other => panic!("{other:?}"),
        }
    }

    fn find(&mut self, key: &str, now: Timestamp) -> Option<Reading> {
        let request = self.ask(Kind::Lookup, key, None, "");
        let response = self.brain.handle(&request, now).response;
        self.read(Kind::Lookup, &response)
    }

    fn poll(&mut self, reference: &Reference, now: Timestamp) -> Option<Reading> {
        let request = self.ask(Kind::Poll, "key", Some(reference), "");
        let response = self.brain.handle(&request, now).response;
        self.read(Kind::Poll, &response)
    }

    fn runs(&self, key: &str) -> usize {
        self.brain.ledger().executions(key).len()
    }
}

#[test]
fn a_key_is_honoured_for_the_profiles_window_and_with_its_first_payload() {
    let mut persona = Pair::of("persona", |fake| fake);
    let first = persona.create("a", "{}", START).unwrap();
    assert_eq!(persona.create("a", "{}", after(86_399)), Some(first.clone()));
    assert_eq!(persona.create("a", r#"{"n":1}"#, after(1)), None, "another payload");
    assert_eq!(persona.runs("a"), 1);
    assert_ne!(persona.create("a", "{}", after(86_400)), Some(first));
    assert_ne!(persona.create("b", "{}", START), persona.create("a", "{}", after(86_401)));
    assert_eq!((persona.runs("a"), persona.runs("b")), (2, 1));

    let mut quick = Pair::of("persona", |fake| fake.with_speed(100.0));
    quick.create("a", "{}", START);
    quick.create("a", "{}", after(865));
    assert_eq!(quick.runs("a"), 2, "the window is as much shorter");
}

#[test]
fn without_a_keyed_profile_every_create_runs_and_a_look_up_shows_the_newest() {
    let mut didit = Pair::of("didit", |fake| fake.with_listing_lag(Duration::from_secs(30)));
    assert_eq!(didit.find("a", START), Some(Reading::NotFound));
    let first = didit.create("a", "{}", START);
    let second = didit.create("a", "{}", after(10));
    assert_ne!(first, second);
    assert_eq!(didit.runs("a"), 2);
    assert_eq!(didit.find("a", after(29)), Some(Reading::NotFound), "not listed yet");
    assert_eq!(didit.find("a", after(30)), first.map(Reading::Accepted));
    assert_eq!(didit.find("a", after(40)), second.map(Reading::Accepted));
    assert_eq!(didit.find("b", after(40)), Some(Reading::NotFound));
    let mut silent = Pair::of("didit", |fake| fake.with_keys(Keys::Ignored));
    silent.create("a", "{}", START);
    assert_eq!(silent.find("a", START), Some(Reading::NotFound));
}

#[test]
fn where_no_key_is_sent_the_books_are_kept_by_payload() {
    let mut replicate = Pair::of("replicate", |fake| fake);
    replicate.create("a", r#"{"n":1}"#, START);
    replicate.create("b", r#"{"n":1}"#, START);
    assert_eq!((replicate.runs("a"), replicate.runs(r#"{"n":1}"#)), (0, 2));
}

#[test]
fn a_job_is_under_way_then_waits_then_ends_as_far_as_the_profile_knows() {
    let hint = None;
    let (pending, awaiting) = (Reading::Pending { hint }, Reading::AwaitingPerson { hint });
    for (name, stages) in [
        ("didit", [&pending, &awaiting]),
        ("persona", [&awaiting, &awaiting]),
        ("azure-lro", [&pending, &pending]),
        ("textract", [&pending, &pending]),
        ("deepvue", [&pending, &pending]),
    ] {
        let mut pair = Pair::of(name, |fake| fake);
        let job = pair.create("a", "{}", START).unwrap();
        assert_eq!(pair.poll(&job, after(29)).as_ref(), Some(stages[0]), "{name}");
        assert_eq!(pair.poll(&job, after(59)).as_ref(), Some(stages[1]), "{name}");
        assert_eq!(pair.poll(&job, after(60)), Some(Reading::Ready), "{name}");
        let nobody = Reference::new(job.as_str().replace("Job-", "None-")).unwrap();
        assert_eq!(pair.poll(&nobody, after(60)), Some(Reading::NotFound), "{name}");
    }
    // Didit knows no failed job, so it has a decided one; Replicate has both ends.
    for (name, failed, undecided) in
        [("didit", Reading::Ready, Reading::Undecided), ("replicate", Reading::Failed, Reading::Undecided)]
    {
        for (end, fake) in
            [(failed, FakeProfile::with_failing as fn(_, _) -> _), (undecided, FakeProfile::with_undecided)]
        {
            let mut pair = Pair::of(name, |settings| fake(settings, 1.0));
            let job = pair.create("a", "{}", START).unwrap();
            assert_eq!(pair.poll(&job, after(60)), Some(end), "{name}");
        }
    }
}

#[test]
fn a_result_names_its_job() {
    let mut azure = Pair::of("azure-lro", |fake| fake);
    let job = azure.create("a", "{}", START).unwrap();
    let request = azure.ask(Kind::Poll, "a", Some(&job), "");
    let response = azure.brain.handle(&request, after(60)).response;
    let result = azure.provider.profile().result(response.body());
    assert_eq!(result, format!(r#"{{"checked":true,"job":"{job}"}}"#));
}

#[test]
fn who_has_no_credentials_or_asks_for_something_else_gets_nothing_run() {
    let mut persona = Pair::of("persona", |fake| fake);
    let mut request = persona.ask(Kind::Create, "a", None, "{}");
    request.headers_mut().remove("authorization");
    assert_eq!(persona.brain.handle(&request, START).response.status(), 401);
    let mut request = persona.ask(Kind::Create, "a", None, "{}");
    *request.uri_mut() = "https://api.withpersona.com/api/v1/cases".parse().unwrap();
    assert_eq!(persona.brain.handle(&request, START).response.status(), 404);
    assert_eq!(persona.runs("a"), 0);
}

#[test]
fn a_profile_that_knows_no_good_end_cannot_be_driven() {
    let refused = |from: &str, to: &str| -> Undrivable {
        let text = shipped("sumsub").unwrap();
        assert!(text.contains(from));
        FakeProfile::new(Profile::parse(&text.replace(from, to)).unwrap(), 7).unwrap_err()
    };
    let told = refused("completed = \"ready\"", "completed = \"failed\"").to_string();
    assert_eq!(
        told,
        "the profile sumsub/applicant reads no answer as a job that is ready: check the states and rules that should"
    );
    assert_eq!(
        refused("equals = false } }\nis = \"not-found\"", "equals = false } }\nis = \"transient\"").unsaid,
        "a look-up without a job"
    );
    let taken = "[[create.rules]]\nis = \"transient\"\n[[create.rules]]";
    assert_eq!(refused("[[create.rules]]", taken).unsaid, "a job that has begun");
}

#[test]
fn a_create_may_be_all_there_is() {
    let text = r#"
        name = "acme/at-once"
        base_url = "https://api.example.com"
        [create]
        path = "/v1/scans"
        key = { header = "Idempotency-Key" }
        [[create.rules]]
        when = { body = { pointer = "/score", present = true } }
        is = "ready"
    "#;
    let profile = Profile::parse(text).unwrap();
    let mut pair =
        Pair { provider: profile.connect(|_| None).unwrap(), brain: FakeProfile::new(profile, 7).unwrap().brain() };
    let request = pair.ask(Kind::Create, "a", None, "{}");
    let response = pair.brain.handle(&request, START).response;
    assert_eq!(pair.read(Kind::Create, &response), Some(Reading::Ready));
    assert_eq!(pair.runs("a"), 1);
}
