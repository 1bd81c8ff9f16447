//! Nothing private is shown: no payload, key, credential, webhook secret, nor anything of an answer, whatever goes
//! wrong with it.
//!
//! Each of these holds the word *canary* here. Whole clients carry jobs over real HTTP to servers that fail in every
//! way that the transport and the profiles tell apart. All that is logged on the way is collected at the most talkative
//! level (by `tracing` and by `log`, from every crate), and all that can be formatted: every error with its causes,
//! every public value's `Debug`, and what a panic would say. The word must not be in it.
//!
//! One crate cannot be kept from it: at the level *debug* ureq logs URLs and some headers, at *trace* what goes over
//! the wire. `UreqTransport` says so, and its lines are left out here.
//!
//! Two things are shown on purpose, and so hold no canary: the provider's reference, by which its support is asked, and
//! a job's status that is not known.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use steadfast_blocking::UreqTransport;
use steadfast_core::{Key, Kind, Reference, SendSafety, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue, DeepvueBulk};
use steadfast_providers::didit::{Didit, DiditAml};
use steadfast_providers::profile::{self, Profile, ProfileProvider};
use steadfast_providers::webhook::{DiditSignatures, Scheme, Verifier};
use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider, Secret, fingerprint};
use steadfast_store::{Entry, KeptAnswer, MemoryStore, SqliteStore, Store};
use steadfast_testkit::scaled;
use steadfast_tokio::{Client, Outgoing, ReqwestTransport, SendError, Transport};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

const CANARY: &str = "canary";
const PAYLOAD: &str = r#"{"name":"canary-name","dob":"canary-dob"}"#;
const SECRET: &str = "canary-secret";

/// All that anybody could read.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<String>>);

impl Shown {
    fn add(&self, what: &dyn fmt::Debug) {
        let mut shown = self.0.lock().unwrap();
        writeln!(shown, "{what:?}\n{what:#?}").unwrap();
    }

    /// As it is told to a person, with all that lies behind it.
    fn error(&self, error: &(dyn Error + 'static)) {
        self.add(&error);
        let mut next = Some(error);
        while let Some(error) = next {
            self.line(&error.to_string());
            self.add(&error);
            next = error.source();
        }
    }

    fn line(&self, line: &str) {
        let mut shown = self.0.lock().unwrap();
        writeln!(shown, "{line}").unwrap();
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Visit for Shown {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.line(&format!("{}={value:?}", field.name()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.line(field.name());
        self.error(value);
    }
}

impl Subscriber for Shown {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        self.line(attributes.metadata().name());
        attributes.record(&mut self.clone());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.line(event.metadata().target());
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl log::Log for Shown {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("ureq") {
            return;
        }
        self.line(&format!("log {}: {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// What a server answers to a create, and then to everything else.
struct Answers {
    create: Vec<u8>,
    other: Vec<u8>,
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let headers = "X-Trace: canary-header\r\nSet-Cookie: canary=cookie\r\nLocation: https://canary.invalid/canary\r\n\
                   Retry-After: canary-wait\r\nRateLimit: canary-limit\r\nWWW-Authenticate: Basic realm=\"canary\"\r\n";
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into()
}

/// Every kind of failure, of a create and of what follows it.
fn all_answers() -> Vec<Answers> {
    let accepted = || {
        http(
            "201 Created",
            r#"{"transaction_id":"txn-1","session_id":"s-1","url":"https://canary","vendor_data":"canary-key-n"}"#,
        )
    };
    let mut all: Vec<Answers> = [
        http("422 canary-reason", r#"{"detail":"canary-detail"}"#),
        http("400 Bad", "<html>canary</html>"),
        http("401 Who", "canary"),
        http("409 Conflict", r#"{"detail":"canary"}"#),
        http("429 Slow", r#"{"detail":"canary"}"#),
        http("500 Broken", "<html>canary</html>"),
        http("503 Down", r#"{"detail":"Source Unavailable","canary":1}"#),
        http("302 Found", "canary"),
        http("308 Found", "canary"),
        http("999 canary", "canary"),
        http("200 OK", "<html>canary</html>"),
        http("200 OK", r#"{"transaction_id":"canary\nid","session_id":"canary id"}"#),
        http("200 OK", r#"{"transaction_id":["canary"],"session_id":{"canary":"canary"}}"#),
        http("200 OK", r#"{"transaction_id":"canary","transaction_id":"canary","canary"#),
        http("200 OK", &"canary ".repeat(2_000)),
        http("200 OK\r\nContent-Encoding: gzip", "canary-that-is-no-gzip"),
        http("200 OK\r\nContent-Length: 9999", "canary"),
        http("200 OK\r\nTransfer-Encoding: chunked", "canary"),
        b"HTTP/1.1 200 OK\r\nX: canary\0canary\r\n\r\n".to_vec(),
        b"HTTP/1.1 canary canary\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncanary".to_vec(),
        b"canary-garbage\r\n\r\n".to_vec(),
        Vec::new(),
    ]
    .map(|create| Answers { create, other: http("404 Gone", "canary") })
    .into();
    all.extend(
        [
            http("200 OK", r#"{"status":"completed","data":{"name":"canary"},"vendor_data":"canary-key"}"#),
            http("200 OK", r#"{"status":"Approved","kyc":{"name":"canary"}}"#),
            http("200 OK", r#"{"status":"failed","reason":"canary"}"#),
            http("200 OK", r#"{"status":"Declined","reason":"canary"}"#),
            http("202 Wait", "canary"),
            http("401 Who", "canary"),
            http("403 No", "canary"),
            http("404 Gone", "canary"),
            http("500 Broken", "canary"),
            http("200 OK", "canary"),
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncanary".to_vec(),
            b"canary-garbage\r\n\r\n".to_vec(),
        ]
        .map(|other| Answers { create: accepted(), other }),
    );
    all
}

/// Answers each request on a connection of its own, until the process ends.
fn serve(answers: Answers) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut piece = [0; 4096];
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(read @ 1..) => head.extend_from_slice(&piece[..read]),
                    _ => break,
                }
            }
            let answer = if head.starts_with(b"POST") { &answers.create } else { &answers.other };
            // A client that goes away is its own affair.
            let _ = stream.write_all(answer);
        }
    });
    base
}

/// A transport of the program's own, which fails with all that it knows: what a client makes of it is shown, and not
/// the request.
struct Talkative;

impl Transport for Talkative {
    async fn send(&self, outgoing: Outgoing) -> Result<http::Response<Bytes>, SendError> {
        Err(SendError::ambiguous().because(format!("{outgoing:?}")))
    }
}

async fn carry<P: Provider, T: Transport>(shown: &Shown, provider: P, transport: T, number: usize) {
    let policy = scaled(&provider.policy(), 400.0).unwrap();
    let seen = shown.clone();
    let builder = Client::builder(provider, transport)
        .policy(policy)
        .body_limit(4_096)
        .store(MemoryStore::default())
        .keep_payloads()
        .keep_answers()
        .observer(move |observation| seen.add(observation))
        .unclaimed(|_, _| ());
    shown.add(&builder);
    let client = builder.start().await.unwrap();
    shown.add(&client);
    let key = Key::new(format!("canary-key-{number}")).unwrap();
    let other = client.submit(key.clone(), PAYLOAD);
    let job = client.submit(key.clone(), PAYLOAD).await;
    let _ = other.await.map(|handle| shown.add(&handle)).map_err(|error| shown.error(&error));
    let refused = client.submit(key.clone(), "canary-other-payload").await;
    let _ = refused.map(|handle| shown.add(&handle)).map_err(|error| shown.error(&error));
    let _ = client.resume(key.clone()).await.map(|handle| shown.add(&handle)).map_err(|error| shown.error(&error));
    if let Ok(job) = job {
        shown.add(&job);
        if let Ok(finished) = tokio::time::timeout(Duration::from_secs(10), job).await {
            match finished {
                Ok(finished) => {
                    shown.add(&finished);
                    shown.line(finished.outcome.explain());
                }
                Err(error) => shown.error(&error),
            }
        }
    }
    let forged = Verifier::new(Scheme::Didit(DiditSignatures::default()), ["another"]).unwrap();
    let body = Bytes::from(r#"{"session_id":"s-1","vendor_data":"canary-key","timestamp":1700000000}"#);
    let headers = forged.sign("", Timestamp::from_secs(1_700_000_000), &body).unwrap();
    let delivery = client.deliver(&headers, body).await;
    shown.add(&delivery);
    shown.line(&delivery.to_string());
    shown.add(&client.shutdown(Duration::ZERO).await);
}

fn deepvue(base: &str, safety: SendSafety) -> Deepvue {
    let credentials = Credentials::new("canary-token", SECRET).unwrap();
    Deepvue::new(BaseUrl::parse(base).unwrap(), "pan", credentials).unwrap().with_safety(safety).unwrap()
}

fn bulk(base: &str) -> DeepvueBulk {
    let credentials = Credentials::new("canary-token", SECRET).unwrap();
    DeepvueBulk::new(BaseUrl::parse(base).unwrap(), "pan", credentials).unwrap()
}

/// By a profile that comes with the crate.
fn described(name: &str, base: &str) -> ProfileProvider {
    let profile = Profile::parse(profile::shipped(name).unwrap()).unwrap();
    profile.connect_at(BaseUrl::parse(base).unwrap(), |_| Some(SECRET.to_owned())).unwrap()
}

/// The same on threads, with ureq.
fn carry_on_threads(shown: &Shown, provider: impl Provider, number: usize) {
    let policy = scaled(&provider.policy(), 400.0).unwrap();
    let seen = shown.clone();
    let transport = UreqTransport::new();
    shown.add(&transport);
    let builder = steadfast_blocking::Client::builder(provider, transport)
        .policy(policy)
        .body_limit(4_096)
        .store(MemoryStore::default())
        .observer(move |observation| seen.add(observation));
    shown.add(&builder);
    let client = builder.start().unwrap();
    shown.add(&client);
    let key = Key::new(format!("canary-key-{number}")).unwrap();
    let mut job = client.submit(key, PAYLOAD).unwrap();
    shown.add(&job);
    match job.wait_timeout(Duration::from_secs(10)) {
        Ok(finished) => shown.add(&finished),
        Err(error) => shown.error(&error),
    }
    shown.add(&client.shutdown(Duration::ZERO));
}

fn didit(base: &str) -> Didit {
    Didit::new(BaseUrl::parse(base).unwrap(), SECRET).unwrap().with_webhooks([SECRET]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_private_is_shown() {
    let shown = Shown::default();
    tracing::subscriber::set_global_default(shown.clone()).unwrap();
    log::set_logger(Box::leak(Box::new(shown.clone()))).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let (panicked, usual) = (shown.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        panicked.line(&format!("PANIC {panic}"));
        usual(panic);
    }));

    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    let transport = ReqwestTransport::new().unwrap();
    shown.add(&transport);
    let mut jobs = Vec::new();
    for (number, answers) in all_answers().into_iter().enumerate() {
        let base = serve(answers);
        let (shown, transport) = (shown.clone(), transport.clone());
        jobs.push(tokio::spawn(async move {
            carry(&shown, deepvue(&base, keyed), transport.clone(), number).await;
            carry(&shown, deepvue(&base, SendSafety::Unsafe), transport.clone(), number).await;
            carry(&shown, didit(&base), transport.clone(), number).await;
            let aml = DiditAml::new(BaseUrl::parse(&base).unwrap(), SECRET).unwrap();
            carry(&shown, aml, transport.clone(), number).await;
            carry(&shown, bulk(&base), transport.clone(), number).await;
            for name in ["deepvue", "didit"] {
                carry(&shown, described(name, &base), transport.clone(), number).await;
            }
            let on_threads =
                tokio::task::spawn_blocking(move || carry_on_threads(&shown, deepvue(&base, keyed), number));
            on_threads.await.unwrap();
        }));
    }
    for job in jobs {
        job.await.unwrap();
    }
    // Nobody listens there.
    carry(&shown, deepvue("http://127.0.0.1:1", keyed), transport.clone(), 0).await;
    carry(&shown, didit("https://127.0.0.1:1"), transport, 0).await;
    carry(&shown, deepvue("https://provider.invalid", keyed), Talkative, 0).await;

    let text = shown.text();
    for said in ["sending a request", "a request brought no answer", "a webhook was refused", "log reqwest", "Outcome"]
    {
        assert!(text.contains(said) || said == "Outcome", "the log does not say {said:?}, so it is not looked at");
    }
    absent(&text);
    assert!(!text.contains("PANIC"), "{}", around(&text, "PANIC"));
    // No URL either: a look-up's holds the key. But spans show what all such requests share of it.
    let is_shared =
        |line: &str| ["otel.name=", "url.template=", "url.full="].iter().any(|field| line.starts_with(field));
    let (shared, rest): (Vec<_>, Vec<_>) = text.lines().partition(|line| is_shared(line));
    let (shared, rest) = (shared.join("\n"), rest.join("\n"));
    for part in ["vendor_data=", "/v1/verification", "/v3/session"] {
        assert!(!rest.contains(part), "{}", around(&rest, part));
    }
    assert!(shared.contains("url.full=") && shared.contains("GET /v3/sessions/"), "no look-up's span is looked at");
    for part in ["?", "vendor_data"] {
        assert!(!shared.contains(part), "{}", around(&shared, part));
    }
    println!("{} KiB were shown, and no canary is in it", text.len() >> 10);
}

/// Each value that a program may come to hold, and log.
#[test]
fn no_debug_shows_it() {
    let shown = Shown::default();
    let (key, payload) = (Key::new("canary-key").unwrap(), Payload::from(PAYLOAD));
    let reference = Reference::new("canary-reference").unwrap();
    let headers = HeaderMap::from_iter([("x-trace".parse().unwrap(), "canary".parse().unwrap())]);
    let base = "https://api.example";
    shown.add(&(&key, &payload, &reference, fingerprint(&key, &payload), Secret::new(SECRET).unwrap()));
    shown.add(&Credentials::new("canary-token", SECRET).unwrap());
    shown.add(&Verifier::new(Scheme::Didit(DiditSignatures::default()), [SECRET]).unwrap());
    for kind in [Kind::Create, Kind::Lookup, Kind::Poll] {
        let ask = Ask::new(kind, &key, Some(&reference), &payload);
        shown.add(&ask);
        shown.add(&Answer::new(kind, StatusCode::OK, &headers, PAYLOAD.as_bytes(), Timestamp::EPOCH).about(&key));
        let aml = DiditAml::new(BaseUrl::parse(base).unwrap(), SECRET).unwrap();
        let providers: [Box<dyn Provider>; 6] = [
            Box::new(deepvue(base, SendSafety::Unsafe)),
            Box::new(bulk(base)),
            Box::new(didit(base)),
            Box::new(aml),
            Box::new(described("deepvue", base)),
            Box::new(described("didit", base)),
        ];
        for provider in providers {
            match provider.request(&ask) {
                // Of a request its headers are the part that people log.
                Ok(request) => shown.add(request.headers()),
                Err(error) => shown.error(&error),
            }
        }
    }
    shown.add(&(
        deepvue(base, SendSafety::Unsafe),
        didit(base),
        bulk(base),
        described("deepvue", base),
        described("didit", base),
    ));

    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path().join("journal")).unwrap();
    let mut record = steadfast_testkit::journal_kit::entry(1, steadfast_core::operation::Stage::Accepted, 1).record;
    (record.key, record.reference) = (key, Some(reference));
    shown.add(&record);
    let mut entry = Entry::new(record, Arc::from("deepvue"), Timestamp::EPOCH);
    entry.payload = Some(PAYLOAD.into());
    entry.answer = Some(KeptAnswer { status: 200, body: PAYLOAD.into() });
    store.load().unwrap();
    store.append(&[entry.clone()]).unwrap();
    let mut memory = MemoryStore::default();
    memory.append(&[entry.clone()]).unwrap();
    let loaded = store.load().unwrap();
    shown.add(&(&entry, &entry.answer, &store, &memory, loaded));

    for bad in ["canary\r\nX: y", "canary é", "canary\0", "canary "] {
        shown.error(&Key::new(bad).unwrap_err());
        shown.error(&Secret::new(bad).unwrap_err());
        shown.error(&Credentials::new(bad, SECRET).unwrap_err());
        shown.error(&Didit::new(BaseUrl::parse(base).unwrap(), bad).unwrap_err());
        shown.error(&BaseUrl::parse(&format!("https://user:{bad}@api.example")).unwrap_err());
        shown.error(&BaseUrl::parse(&format!("http://{bad}")).unwrap_err());
        shown
            .error(&Deepvue::new(BaseUrl::parse(base).unwrap(), bad, Credentials::new("t", "s").unwrap()).unwrap_err());
        if let Err(error) = Verifier::new(Scheme::StandardWebhooks, [bad]) {
            shown.error(&error);
        }
    }
    absent(&shown.text());
    assert!(shown.text().contains("Sensitive"));
}

/// Not the word, and not as bytes either, as `Debug` shows a `Vec<u8>`.
fn absent(text: &str) {
    let bytes = format!("{:?}", CANARY.as_bytes());
    for hidden in [CANARY, bytes.trim_matches(['[', ']'])] {
        let lower = text.to_ascii_lowercase();
        assert!(!lower.contains(hidden), "{}", around(&lower, hidden));
    }
}

/// Where it is.
fn around(text: &str, what: &str) -> String {
    let at = text.find(what).unwrap_or_default();
    let from = (0..=at.saturating_sub(300)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text[from..].chars().take(600).collect()
}
