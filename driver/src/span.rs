//! Spans: one for a job, from its submit to its end, and below it one for each request.
//!
//! Both are of level `INFO`. A job's is of OpenTelemetry's kind *internal*; a request's is an HTTP *client* span, with
//! the attributes of OpenTelemetry's semantic conventions (HTTP client spans, stable since their version 1.23.0;
//! `url.template` is still in development there). Their messaging conventions are not used: a job is handed to an API,
//! not to a broker. What those have no name for is under `steadfast.`:
//!
//! | span | attribute | |
//! | --- | --- | --- |
//! | both | `otel.name`, `otel.kind`, `otel.status_code` | as `tracing-opentelemetry` reads them; the status is `ERROR` or left unset |
//! | both | `error.type` | what went wrong: of a job its outcome and why (`unresolved.polls`), of a request that has no usable answer the HTTP status, else the failure's class, else `abandoned` |
//! | both | `steadfast.key` | the label that stands for the key, which may name a person |
//! | job | `steadfast.provider`, `steadfast.begun` | whose it is; `submitted`, `restored` after a restart, or `resumed` |
//! | job | `steadfast.reference`, `steadfast.outcome`, `steadfast.creates`, `steadfast.requests` | at its end |
//! | job | `trace_id` | if a [trace context](crate::TraceContext) came with the submit |
//! | request | `http.request.method`, `server.address`, `server.port` | |
//! | request | `url.template`, `url.full` | by the provider's [route](steadfast_providers::Provider::route): what differs from job to job is `{key}` or `{reference}` in the one, `REDACTED` in the other; never a query |
//! | request | `http.request.resend_count` | of creates and look-ups, from the second on; a poll is no resend |
//! | request | `http.response.status_code` | |
//! | request | `steadfast.kind`, `steadfast.attempt`, `steadfast.correlation_id` | as in the [events](crate::Observation); the id's last 16 digits are the span id in `traceparent` |
//!
//! **References are shown, URLs are not.** A reference is the provider's own id of a job: no personal data, and what
//! its support asks for. So it stands whole in `steadfast.reference`, as in the events. A URL may hold more than that,
//! by the provider's choice: the caller's key, which may name a person, a part of the payload, a token. So of a URL
//! only what the provider's route says that all jobs share is shown, and the reference is left out with the rest.
//!
//! The span in which a program submits is a cause and not a parent: the job's span *follows from* it (a link, in
//! OpenTelemetry), since `tracing` closes no parent before its children, and the job may take days.
//!
//! **Nobody interested, nothing held.** A span that no subscriber wants is not made, and a job without one holds a null
//! pointer. Spans are never entered across a wait: an adapter's request runs inside its own
//! ([`Reader::span`](crate::Reader::span)), and events of a job name it as their parent.

use http::{Request, Uri};
use steadfast_core::operation::{Attempt, Kind};
use steadfast_core::retry::Failure;
use steadfast_core::{Operation, Outcome};
use steadfast_providers::Provider;
use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use crate::caught::caught;
use crate::observe::{Begun, CorrelationId};
use crate::trace_context::TraceContext;

/// Where a submit comes from.
#[derive(Debug)]
pub(crate) struct Origin {
    cause: Span,
    context: Option<TraceContext>,
}

impl Origin {
    /// `None` if nobody traces.
    pub(crate) fn here(context: Option<TraceContext>) -> Option<Box<Self>> {
        let cause = Span::current();
        (!cause.is_none() || context.is_some()).then(|| Box::new(Self { cause, context }))
    }
}

/// A job's part in tracing.
pub(crate) struct JobTrace {
    span: Span,
    context: Option<TraceContext>,
}

impl JobTrace {
    /// `None` if nobody traces.
    pub(crate) fn begin(
        provider: &str,
        operation: &Operation,
        begun: Begun,
        origin: Option<Box<Origin>>,
    ) -> Option<Box<Self>> {
        let span = info_span!(
            parent: None,
            "job",
            otel.name = format_args!("job {provider}"),
            otel.kind = "internal",
            otel.status_code = Empty,
            error.type = Empty,
            steadfast.provider = provider,
            steadfast.begun = begun.name(),
            steadfast.key = %operation.key().label(),
            steadfast.reference = Empty,
            steadfast.outcome = Empty,
            steadfast.creates = Empty,
            steadfast.requests = Empty,
            trace_id = Empty,
        );
        let Origin { cause, context } =
            origin.map_or_else(|| Origin { cause: Span::none(), context: None }, |origin| *origin);
        if span.is_none() && context.is_none() {
            return None;
        }
        span.follows_from(cause.id());
        if let Some(context) = &context {
            span.record("trace_id", display(format_args!("{:032x}", context.parent().trace())));
        }
        Some(Box::new(Self { span, context }))
    }

    /// Another submit of the same key: the first one's trace goes on.
    pub(crate) fn joined(&self, origin: Option<Box<Origin>>) {
        if let Some(origin) = origin {
            self.span.follows_from(origin.cause.id());
        }
    }

    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) const fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    pub(crate) fn end(self, operation: &Operation, outcome: Outcome) {
        let Self { span, .. } = self;
        if let Some(reference) = operation.reference() {
            span.record("steadfast.reference", reference.as_str());
        }
        span.record("steadfast.outcome", outcome.name());
        span.record("steadfast.creates", operation.creates());
        span.record("steadfast.requests", operation.last_attempt().0);
        // A provider's own *failed* is an answer; that the client could not carry the job to one is an error.
        if let Outcome::Rejected(_) | Outcome::Unresolved(_) = outcome {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", display(format_args!("{}.{}", outcome.name(), outcome.reason())));
        }
    }
}

/// A request's span, until its answer was read. Dropped before that, nobody waits for the answer any more.
pub(crate) struct RequestTrace {
    span: Span,
    read: bool,
}

impl RequestTrace {
    /// `None` if nobody traces.
    pub(crate) fn begin<B>(
        job: Option<&JobTrace>,
        operation: &Operation,
        attempt: Attempt,
        request: &Request<B>,
        provider: &dyn Provider,
    ) -> Option<Box<Self>> {
        let parent = job.and_then(|job| job.span().id());
        let span = info_span!(
            parent: parent,
            "request",
            otel.name = Empty,
            otel.kind = "client",
            otel.status_code = Empty,
            error.type = Empty,
            http.request.method = request.method().as_str(),
            http.request.resend_count = Empty,
            http.response.status_code = Empty,
            server.address = Empty,
            server.port = Empty,
            url.full = Empty,
            url.template = Empty,
            steadfast.kind = attempt.kind.name(),
            steadfast.attempt = attempt.id.0,
            steadfast.key = %operation.key().label(),
            steadfast.correlation_id = %CorrelationId::of(operation, attempt.id),
        );
        if span.is_none() {
            return None;
        }
        let uri = request.uri();
        // A bug in a profile costs the path.
        let route = caught(|| provider.route(attempt.kind)).flatten();
        match &route {
            Some(route) => {
                span.record("otel.name", display(format_args!("{} {route}", request.method())));
                span.record("url.template", &**route);
            }
            None => {
                span.record("otel.name", request.method().as_str());
            }
        }
        if let Some(url) = redacted(uri, route.as_deref()) {
            span.record("url.full", &*url);
        }
        if let Some(host) = uri.host() {
            let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
            let port = uri.port_u16().unwrap_or(usual);
            span.record("server.address", host.trim_matches(['[', ']']));
            span.record("server.port", port);
        }
        if attempt.kind != Kind::Poll && attempt.number > 1 {
            span.record("http.request.resend_count", attempt.number - 1);
        }
        Some(Box::new(Self { span, read: false }))
    }

    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    /// Its answer's status, if there was an answer, and how that was understood.
    pub(crate) fn end(mut self, status: Option<u16>, failure: Option<&Failure>) {
        self.read = true;
        if let Some(status) = status {
            self.span.record("http.response.status_code", status);
        }
        // What the provider means by a status decides: a look-up's 404 is an answer.
        match (failure, status) {
            (None, _) => {}
            (Some(_), Some(status @ 400..)) => self.fail(display(status)),
            (Some(failure), _) => self.fail(display(failure.class.name())),
        }
    }

    fn fail(&self, what: impl tracing::Value) {
        self.span.record("otel.status_code", "ERROR");
        self.span.record("error.type", what);
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        if !self.read {
            self.fail("abandoned");
        }
    }
}

/// The URL as far as all such requests share it: no user, no query, and of the path what the provider's route says.
fn redacted(uri: &Uri, route: Option<&str>) -> Option<String> {
    let (scheme, host) = (uri.scheme_str()?, uri.host()?);
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let mut url = format!("{scheme}://{host}{port}");
    let mut rest = route.unwrap_or("/{}");
    while let Some((plain, variable)) = rest.split_once('{') {
        url.push_str(plain);
        url.push_str("REDACTED");
        rest = variable.split_once('}').map_or("", |(_, rest)| rest);
    }
    url.push_str(rest);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_what_every_job_shares() {
        let shown = |uri: &str, route| redacted(&uri.parse().unwrap(), route);
        let secret = "https://name:secret@a.b:8443/v3/session/alice/decision/?token=secret";
        let route = "/v3/session/{reference}/decision/";
        assert_eq!(shown(secret, Some(route)).unwrap(), "https://a.b:8443/v3/session/REDACTED/decision/");
        assert_eq!(shown(secret, Some("/x/a{key}b{payload./a/b}")).unwrap(), "https://a.b:8443/x/aREDACTEDbREDACTED");
        assert_eq!(shown("http://[::1]/alice", None).unwrap(), "http://[::1]/REDACTED");
        assert_eq!(shown("http://a.b/alice", Some("/v1/{broken")).unwrap(), "http://a.b/v1/REDACTED");
        assert_eq!(shown("/alice", Some("/v1")), None);
    }

    /// What a waiting job holds of all this when nobody traces, or somebody does.
    #[test]
    fn a_job_holds_a_pointer() {
        assert_eq!(size_of::<Option<Box<JobTrace>>>(), size_of::<usize>());
    }
}
