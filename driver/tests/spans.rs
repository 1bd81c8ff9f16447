//! Spans and headers of whole jobs, by a driver in a loop without sockets, in virtual time: a provider that fails now
//! and then.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use proptest::prelude::*;
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, Kind, OperationPolicy, SendSafety, Timestamp};
use steadfast_driver::{
    Builder, CorrelationHeader, Driver, Finished, SendError, Submit, Task, TraceContext, TraceParent,
};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{Answer, Ask, BaseUrl, Provider, RequestError};
use steadfast_store::MemoryStore;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// What was told of one span.
#[derive(Clone, Debug, Default)]
struct Span {
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    follows: Vec<u64>,
    events: usize,
    closed: bool,
}

impl Span {
    fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

impl Visit for Span {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<BTreeMap<u64, Span>>>);

impl Collected {
    fn change(&self, id: &Id, change: impl FnOnce(&mut Span)) {
        change(self.0.lock().unwrap().entry(id.into_u64()).or_default());
    }

    fn named(&self, name: &str) -> Vec<(u64, Span)> {
        let spans = self.0.lock().unwrap();
        spans.iter().filter(|(_, span)| span.name == name).map(|(id, span)| (*id, span.clone())).collect()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collected {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| span.parent()).map(|parent| parent.id().into_u64());
        self.change(id, |span| {
            *span = Span { name: attributes.metadata().name(), parent, ..Span::default() };
            attributes.record(span);
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |span| values.record(span));
    }

    fn on_follows_from(&self, id: &Id, cause: &Id, _: Context<'_, S>) {
        self.change(id, |span| span.follows.push(cause.into_u64()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if let Some(span) = context.event_span(event) {
            self.change(&span.id(), |span| span.events += 1);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |span| span.closed = true);
    }
}

fn deepvue() -> Deepvue {
    let credentials = Credentials::new("canary-token", "canary-secret").unwrap();
    let provider =
        Deepvue::new(BaseUrl::parse("http://127.0.0.1:8080/api").unwrap(), "driving-license", credentials).unwrap();
    provider.with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap()
}

fn answer(status: u16, body: &str) -> Result<Response<Bytes>, SendError> {
    Ok(Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

/// A create that breaks, one that is accepted, a poll that is pending, one without an answer, one that is ready.
fn mostly_well(kind: Kind, number: u32) -> Result<Response<Bytes>, SendError> {
    match (kind, number) {
        (Kind::Create, 1) => answer(503, "{}"),
        (Kind::Create, _) => answer(201, r#"{"code":200,"transaction_id":"txn-1"}"#),
        (_, 3) => answer(202, r#"{"code":202}"#),
        (_, 4) => Err(SendError::timed_out()),
        _ => answer(200, r#"{"code":200,"data":{"name":"canary"}}"#),
    }
}

type Built<P = Deepvue> = Builder<P, (), ()>;

/// Carries one job to its end, and gives all requests that left.
fn carry<P: Provider>(
    builder: Built<P>,
    key: &str,
    mut answer: impl FnMut(Kind, u32) -> Result<Response<Bytes>, SendError>,
) -> (Finished, Vec<Request<Bytes>>) {
    let (provider, (), settings) = builder.into_parts();
    let traces = settings.trace_source();
    let loaded = settings.load(provider.name()).unwrap();
    let mut now = Timestamp::from_secs(1_700_000_000);
    let mut driver: Driver<()> = Driver::new(Arc::new(provider), loaded, now);
    let (reply, submitted) = oneshot::channel();
    driver.submit(Submit::new(Key::new(key).unwrap(), "{}".into(), reply).traced(traces.current()), now);
    driver.abandon();
    let mut sent = Vec::new();
    loop {
        while let Some(task) = driver.pop_task(now) {
            match task {
                Task::Send(sending) => {
                    let attempt = sending.outgoing.attempt;
                    sent.push(sending.outgoing.request);
                    let came = sending.reader.span().in_scope(|| {
                        tracing::info!("the transport's own");
                        answer(attempt.kind, attempt.id.0)
                    });
                    driver.answered(sending.reader.read(came, now), now);
                }
                Task::Work(work) => driver.worked(work.run_one(), now),
                _ => {}
            }
        }
        if driver.is_over() {
            break;
        }
        now = driver.next_deadline().unwrap_or(now).max(now);
        driver.handle_timeout(now);
    }
    (submitted.recv().unwrap().unwrap().finished.recv().unwrap().read(), sent)
}

fn builder() -> Built {
    Builder::new(deepvue(), ()).store(MemoryStore::default())
}

fn traced(
    builder: Built,
    key: &str,
    answer: impl FnMut(Kind, u32) -> Result<Response<Bytes>, SendError>,
) -> (Collected, Finished, Vec<Request<Bytes>>) {
    let collected = Collected::default();
    let (finished, sent) = with_default(Registry::default().with(collected.clone()), || carry(builder, key, answer));
    (collected, finished, sent)
}

/// The attributes are those that OpenTelemetry's conventions name, and nothing private is in them.
#[test]
fn a_job_has_a_span_and_each_request_one_below_it() {
    let (collected, finished, sent) = traced(builder(), "canary-key", mostly_well);
    assert_eq!((finished.outcome.name(), sent.len()), ("completed", 5));
    let jobs = collected.named("job");
    let [(id, job)] = &jobs[..] else { panic!("{jobs:?}") };
    assert!(job.closed && job.parent.is_none() && job.events > 5, "{job:?}");
    let expected = [
        ("otel.name", "job deepvue/driving-license"),
        ("otel.kind", "internal"),
        ("steadfast.begun", "submitted"),
        ("steadfast.reference", "txn-1"),
        ("steadfast.outcome", "completed"),
        ("steadfast.creates", "2"),
        ("steadfast.requests", "5"),
        ("otel.status_code", ""),
        ("error.type", ""),
    ];
    for (field, value) in expected {
        assert_eq!(job.get(field), value, "{field}");
    }
    let requests = collected.named("request");
    assert!(requests.iter().all(|(_, request)| request.parent == Some(*id) && request.closed && request.events > 0));
    let rows = |field| requests.iter().map(|(_, request)| request.get(field).to_owned()).collect::<Vec<_>>();
    let template = rows("url.template");
    assert!(template[0].starts_with("/api/v1/") && template[0].ends_with("post-driving-license"), "{template:?}");
    assert_eq!(rows("otel.name")[0], format!("POST {}", template[0]));
    assert_eq!(rows("url.full")[4], format!("http://127.0.0.1:8080{}", template[4]));
    assert_eq!(rows("otel.kind"), ["client"; 5]);
    assert_eq!(rows("http.request.method"), ["POST", "POST", "GET", "GET", "GET"]);
    assert_eq!(rows("server.address"), ["127.0.0.1"; 5]);
    assert_eq!(rows("server.port"), ["8080"; 5]);
    assert_eq!(rows("http.request.resend_count"), ["", "1", "", "", ""]);
    assert_eq!(rows("http.response.status_code"), ["503", "201", "202", "", "200"]);
    assert_eq!(rows("error.type"), ["503", "", "", "timed_out", ""]);
    assert_eq!(rows("otel.status_code"), ["ERROR", "", "", "ERROR", ""]);
    assert_eq!(rows("steadfast.kind"), ["create", "create", "poll", "poll", "poll"]);
    assert_eq!(rows("steadfast.attempt"), ["1", "2", "3", "4", "5"]);
    for (_, span) in collected.0.lock().unwrap().iter() {
        assert!(span.fields.values().all(|value| !value.contains("canary")), "{span:?}");
    }
}

/// What was not carried to an answer is an error, and says which.
#[test]
fn a_job_that_is_not_resolved_is_an_error() {
    let (collected, finished, _) = traced(builder(), "order-1", |_, _| answer(422, "{}"));
    assert_eq!(finished.outcome.name(), "rejected");
    let (_, job) = collected.named("job").remove(0);
    assert_eq!((job.get("otel.status_code"), job.get("error.type")), ("ERROR", "rejected.refused"));
}

/// `tracing` closes no parent before its children: the submit's span would stay open for as long as the job takes.
#[test]
fn a_job_follows_from_where_it_was_submitted_and_holds_it_not() {
    let collected = Collected::default();
    with_default(Registry::default().with(collected.clone()), || {
        let handler = info_span!("handler");
        let cause = handler.id().unwrap().into_u64();
        let submit = handler.in_scope(|| {
            let (reply, _) = oneshot::channel();
            Submit::new(Key::new("order-1").unwrap(), "{}".into(), reply)
        });
        drop(handler);
        let (provider, (), settings) = builder().into_parts();
        let loaded = settings.load(provider.name()).unwrap();
        let now = Timestamp::from_secs(1_700_000_000);
        let mut driver: Driver<()> = Driver::new(Arc::new(provider), loaded, now);
        driver.submit(submit, now);
        while let Some(task) = driver.pop_task(now) {
            if let Task::Work(work) = task {
                driver.worked(work.run_one(), now);
            }
        }
        let (_, job) = collected.named("job").remove(0);
        assert_eq!((&job.follows[..], job.closed), (&[cause][..], false));
        assert!(collected.named("handler").remove(0).1.closed);
        // What is given up with its request in the air.
        drop(driver);
        assert_eq!(collected.named("request").remove(0).1.get("error.type"), "abandoned");
    });
}

#[test]
fn nobody_is_told_of_spans_that_nobody_wants() {
    let collected = Collected::default();
    let wants_none = tracing_subscriber::filter::LevelFilter::WARN;
    with_default(Registry::default().with(collected.clone().with_filter(wants_none)), || {
        carry(builder(), "order-1", mostly_well);
    });
    assert!(collected.0.lock().unwrap().is_empty());
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn header<'a>(request: &'a Request<Bytes>, name: &str) -> Option<&'a str> {
    request.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn every_request_bears_its_correlation_id_in_the_header_that_was_chosen() {
    let observed = Arc::new(Mutex::new(Vec::new()));
    let seen = observed.clone();
    let own = CorrelationHeader::new("X-Correlation-Id").unwrap();
    let built = builder().correlation_header(own).observer(move |told| {
        if let steadfast_core::notice::Notice::Sending(_) = told.notice {
            seen.lock().unwrap().push(told.correlation_id.to_string());
        }
    });
    let (_, sent) = carry(built, "order-1", mostly_well);
    let ids: Vec<_> = sent.iter().map(|request| header(request, "x-correlation-id").unwrap().to_owned()).collect();
    assert_eq!(ids, *observed.lock().unwrap());
    assert!(
        sent.iter()
            .all(|request| header(request, "x-request-id").is_none() && header(request, "traceparent").is_none())
    );
}

/// A provider that drops repeats by the header that bears our correlation ids elsewhere.
struct Keyed(Deepvue);

impl Provider for Keyed {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn policy(&self) -> OperationPolicy {
        self.0.policy()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let mut request = self.0.request(ask)?;
        request.headers_mut().insert("x-request-id", HeaderValue::from_static("the key"));
        Ok(request)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        self.0.read(answer)
    }
}

#[test]
fn what_the_providers_request_says_already_stays() {
    let (_, sent) = carry(Builder::new(Keyed(deepvue()), ()), "order-1", mostly_well);
    assert!(sent.iter().all(|request| header(request, "x-request-id") == Some("the key")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// One trace, a span for each request that nobody else's is, and the same ones when the same job is sent again.
    #[test]
    fn requests_of_a_job_are_spans_of_the_trace_that_it_was_given(trace in 1..u128::MAX, span in 1..u64::MAX, flags in 0..4_u8, number: u32) {
        let parent = TraceParent::new(trace.to_be_bytes(), span.to_be_bytes(), flags).unwrap();
        let context = TraceContext::new(parent).with_state("congo=t61rcWkgMzE".parse().unwrap());
        let run = || {
            let context = context.clone();
            let built = builder().seed(steadfast_core::Seed::new(7)).trace_context(move || Some(context.clone()));
            carry(built, &format!("order-{number}"), mostly_well).1
        };
        let sent = run();
        let parents: Vec<TraceParent> = sent.iter().map(|request| header(request, "traceparent").unwrap().parse().unwrap()).collect();
        for (request, own) in sent.iter().zip(&parents) {
            prop_assert_eq!(own.trace_id(), parent.trace_id());
            prop_assert_eq!(own.is_sampled(), parent.is_sampled());
            prop_assert_eq!(header(request, "tracestate"), Some("congo=t61rcWkgMzE"));
            let id = header(request, "x-request-id").unwrap();
            prop_assert_eq!(&id[16..], &own.to_string()[36..52], "the log's id leads to the span");
        }
        let mut spans: Vec<_> = parents.iter().map(|own| own.span_id()).collect();
        spans.push(parent.span_id());
        spans.sort_unstable();
        spans.dedup();
        prop_assert_eq!(spans.len(), sent.len() + 1);
        let again: Vec<_> = run().iter().map(|request| header(request, "traceparent").unwrap().to_owned()).collect();
        prop_assert_eq!(again, parents.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
}

#[test]
fn the_trace_of_a_job_is_on_its_span() {
    let built = builder().trace_context(|| Some(TraceContext::new(PARENT.parse().unwrap())));
    let (collected, _, _) = traced(built, "order-1", mostly_well);
    assert_eq!(collected.named("job")[0].1.get("trace_id"), "4bf92f3577b34da6a3ce929d0e0e4736");
}
