//! What the provider says of a job that has ended, as a thread that subscribed hears it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use steadfast_blocking::{Client, Delivery, Outgoing, Revision, RevisionError, Revisions, SendError, Transport};
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, Kind, OperationPolicy, Reference, Timestamp};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};

/// Tells of its jobs by flat JSON under a signature.
#[derive(Clone)]
struct Telling(Verifier);

impl Provider for Telling {
    fn name(&self) -> &str {
        "telling"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let request = Request::post("https://provider.test/jobs").body(ask.payload.bytes().clone());
        request.map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        let accepted = || Reading::Accepted(Reference::new("txn-a").unwrap());
        Ok(if answer.kind == Kind::Create { accepted() } else { Reading::Ready })
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(self.0.verify(headers, body, wall)?, body))
    }
}

struct Willing;

impl Transport for Willing {
    fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        Ok(Response::new(Bytes::new()))
    }
}

fn telling() -> Telling {
    Telling(Verifier::new(Scheme::StandardWebhooks, ["whsec_c3RlYWRmYXN0LWFkYXB0ZXItdGVzdHM="]).unwrap())
}

/// Its n-th word on the job.
fn tell(client: &Client, n: u64) {
    let now = Timestamp::from(SystemTime::now());
    let at = now.as_nanos() / 1_000_000_000 + 100_000 + n;
    let body = format!(r#"{{"reference":"txn-a","key":"a","status":"status {n}","at":{at}}}"#);
    let headers = telling().0.sign(&format!("evt-{n}"), now, body.as_bytes()).unwrap();
    assert_eq!(client.deliver(&headers, body.into()), Delivery::Taken);
}

/// All that can be had without waiting, and how it ended, if it did.
fn all(revisions: &mut Revisions) -> (Vec<Revision>, Option<RevisionError>) {
    let mut all = Vec::new();
    loop {
        match revisions.next_timeout(Duration::ZERO) {
            Ok(Some(revision)) => all.push(revision),
            Ok(None) => return (all, None),
            Err(error) => return (all, Some(error)),
        }
    }
}

#[test]
fn a_slow_subscriber_misses_the_oldest_and_is_told_so_before_the_rest() {
    let client = Client::builder(telling(), Willing).start().unwrap();
    let (mut slow, gone) = (client.revisions(), client.revisions());
    client.call(Key::new("a").unwrap(), "{}").unwrap();
    for n in 1..=1_100 {
        tell(&client, n);
    }
    drop(gone);
    assert_eq!(slow.next_timeout(Duration::ZERO), Err(RevisionError::Missed(76)));
    let (rest, ended) = all(&mut slow);
    assert_eq!(ended, None);
    assert!(rest.iter().map(|revision| revision.revision).eq(77..=1_100));
    // Who was not there is not told.
    assert_eq!(all(&mut client.revisions()), (Vec::new(), None));
    // What was told before the end is had after it.
    tell(&client, 1_101);
    assert!(client.clone().shutdown(Duration::ZERO).is_empty());
    assert_eq!(slow.next().map(|revision| revision.revision), Ok(1_101));
    assert_eq!(slow.next(), Err(RevisionError::Stopped));
    assert_eq!(client.revisions().next(), Err(RevisionError::Stopped));
}

#[test]
fn a_thread_that_waits_is_woken_by_a_revision_and_by_the_end() {
    let client = Client::builder(telling(), Willing).start().unwrap();
    let mut revisions = client.revisions();
    let waiting = std::thread::spawn(move || (revisions.next(), revisions.next()));
    client.call(Key::new("a").unwrap(), "{}").unwrap();
    tell(&client, 1);
    let _ = client.shutdown(Duration::ZERO);
    let (first, second) = waiting.join().unwrap();
    assert_eq!((first.unwrap().revision, second), (1, Err(RevisionError::Stopped)));
}

/// It is told by the turn that it would wait in.
#[test]
fn a_hook_that_waits_for_a_revision_is_told_that_none_can_come() {
    let (here, there) = (Arc::<Mutex<Option<Revisions>>>::default(), mpsc::channel());
    let (revisions, tells) = (here.clone(), there.0);
    let builder = Client::builder(telling(), Willing).observer(move |_| {
        let Some(mut revisions) = revisions.lock().unwrap().take() else { return };
        let waits: [fn(&mut Revisions); 2] =
            [|revisions| drop(revisions.next()), |revisions| drop(revisions.next_timeout(Duration::from_millis(1)))];
        for waits in waits {
            let waited = catch_unwind(AssertUnwindSafe(|| waits(&mut revisions)));
            let said = waited.map_err(|why| why.downcast_ref::<&str>().copied().unwrap_or_default().to_owned());
            tells.send(said).unwrap();
        }
        // What can be had without waiting can be had here too.
        assert_eq!(revisions.next_timeout(Duration::ZERO), Ok(None));
    });
    let client = builder.start().unwrap();
    *here.lock().unwrap() = Some(client.revisions());
    // On a thread of its own: where the hook hangs, so does whoever submits.
    let job = std::thread::spawn(move || client.call(Key::new("a").unwrap(), "{}").is_ok());
    for _ in 0..2 {
        let said = there.1.recv_timeout(Duration::from_secs(10)).expect("the hook does not wait for ever");
        assert!(said.unwrap_err().contains("must not wait"));
    }
    assert!(job.join().unwrap());
}
