//! What a log shows: each notice with its fields, and never a payload, a body, a credential or a key.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use steadfast_core::Kind;
use steadfast_tokio::{Client, SendError, SubmitError};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Plain, Scripted, answer, key};

/// Keeps every event's fields as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

#[derive(Default, Debug)]
struct Line(Vec<(&'static str, String)>);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

impl Line {
    fn has(&self, field: &str) -> bool {
        self.0.iter().any(|(name, value)| *name == field && !value.is_empty())
    }

    fn says(&self, text: &str) -> bool {
        self.0.iter().any(|(name, value)| *name == "message" && value == text)
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("steadfast")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// For the whole process: a subscriber for one thread races with the other tests' first use of each call site. They log
/// through it too.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    log
});

#[tokio::test(start_paused = true)]
async fn every_notice_is_logged_and_nothing_private_is() {
    let log = LazyLock::force(&LOG);
    let transport = Scripted::new(|kind, number, key| async move {
        match (kind, key.as_str(), number) {
            (Kind::Create, "canary-key-refused", _) => Ok(answer(422, "canary-error-body")),
            (Kind::Create, _, 1) => Err(SendError::ambiguous().because("reset by peer")),
            (Kind::Create, ..) => Ok(answer(201, "txn-1")),
            (_, _, 1) => Ok(answer(202, "canary-pending-body")),
            _ => Ok(answer(200, "canary-result-body")),
        }
    });
    let client = Client::builder(Plain, transport).start().await.unwrap();
    let job = client.submit(key("canary-key"), "canary-payload").await.unwrap();
    let refused = client.submit(key("canary-key-refused"), "canary-payload").await.unwrap();
    let joined = client.submit(key("canary-key"), "canary-other-payload").await;
    let shown = format!("{client:?} {job:?} {joined:?} {}", joined.as_ref().unwrap_err());
    let (job, refused) = (job.await.unwrap(), refused.await.unwrap());
    let shown = format!("{shown} {job:?} {refused:?} {:?}", log.0.lock().unwrap());
    assert!(!shown.contains("canary"), "{shown}");

    let lines = log.0.lock().unwrap();
    let ours = ["canary-key", "canary-key-refused"].map(|text| ("key", key(text).label().to_string()));
    let notices: Vec<&Line> = lines.iter().filter(|line| ours.iter().any(|field| line.0.contains(field))).collect();
    for line in &notices {
        assert!(line.has("key") && line.has("attempt") && line.has("correlation_id"), "{line:?}");
    }
    for text in [
        "sending a request",
        "a request gave no usable answer",
        "the provider has the job",
        "the job is not done",
        "the provider gave its final answer",
        "the provider refused the request, and nothing ran: correct it and submit again",
    ] {
        assert!(notices.iter().any(|line| line.says(text)), "no line says {text:?}: {notices:?}");
    }
    let accepted = notices.iter().find(|line| line.says("the provider has the job")).unwrap();
    assert!(accepted.0.contains(&("reference", "\"txn-1\"".into())), "{accepted:?}");
    let ids: Vec<_> = notices.iter().filter(|line| line.says("sending a request")).collect();
    let mut distinct: Vec<_> =
        ids.iter().flat_map(|line| &line.0).filter(|(name, _)| *name == "correlation_id").collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len(), "each attempt has a correlation id of its own");
}

/// A payload that cannot even be dropped: what nobody thought of.
struct Rubble;

impl AsRef<[u8]> for Rubble {
    fn as_ref(&self) -> &[u8] {
        b"{}"
    }
}

impl Drop for Rubble {
    fn drop(&mut self) {
        panic!("it cannot be dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_says_so_and_whoever_waits_is_told_that_it_has_stopped() {
    let log = LazyLock::force(&LOG);
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    let mut revisions = client.revisions();
    client.hold(Duration::from_secs(60));
    let other = client.submit(key("b"), "{}").await.unwrap();
    let job = client.submit(key("a"), Bytes::from_owner(Rubble)).await.unwrap();
    job.cancel();
    assert!(other.await.is_err());
    drop(job);
    assert!(matches!(client.submit(key("c"), "{}").await, Err(SubmitError::Stopped)));
    assert!(revisions.next().await.is_err());
    assert!(client.shutdown(Duration::from_secs(1)).await.is_empty());
    assert!(log.0.lock().unwrap().iter().any(|line| line.says("the driver panicked: the client stops")));
}
