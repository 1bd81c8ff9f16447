//! I15, over months, on tokio: whatever becomes of jobs, of their callers and of their requests, nothing of them stays.

use std::panic::resume_unwind;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, Seed, SendSafety, Timestamp};
use steadfast_providers::webhook::{Scheme, Verifier, WebhookError};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookEvent};
use steadfast_tokio::{Client, Outgoing, SendError, Transport, WebhookPolicy};
use tokio::time::{sleep, timeout};

const DAY: Duration = Duration::from_secs(86_400);

fn verifier() -> Verifier {
    Verifier::new(Scheme::StandardWebhooks, ["whsec_c3RlYWRmYXN0"]).unwrap()
}

struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default().with_safety(SendSafety::Keyed { window: DAY }).unwrap()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Request::builder()
            .method(Method::POST)
            .uri("https://plain.test/")
            .body(Bytes::new())
            .map_err(|_| RequestError::Unsendable("URL"))
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, now: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(verifier().verify(headers, body, now)?, body))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.status.as_u16() {
            422 => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            202 => Ok(Reading::Pending { hint: None }),
            200 => Ok(Reading::Ready),
            _ => Ok(Reading::Accepted(Reference::new(String::from_utf8_lossy(answer.body).as_ref()).unwrap())),
        }
    }
}

/// The last letter of a key says what becomes of its requests.
struct Wire;

impl Transport for Wire {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let key = outgoing.key.as_str().to_owned();
        let (it, kind, number) = (key.chars().last().unwrap(), outgoing.attempt.kind, outgoing.attempt.number);
        let answer = |status: u16, body: String| Ok(Response::builder().status(status).body(body.into()).unwrap());
        match (it, kind) {
            // At once, without a task.
            ('a', Kind::Create) => return answer(201, format!("txn-{key}")),
            ('h', _) => std::future::pending::<()>().await,
            ('s', Kind::Create) if number < 3 => sleep(outgoing.timeout * 2).await,
            ('t', Kind::Create) if number < 3 => resume_unwind(Box::new("a bug".to_owned())),
            _ => sleep(Duration::from_millis(50)).await,
        }
        match (it, kind, number) {
            ('c', ..) => answer(422, "no".repeat(50)),
            ('x', Kind::Create, ..4) => Err(SendError::ambiguous()),
            (_, Kind::Create, _) => answer(201, format!("txn-{key}")),
            ('p', Kind::Poll, _) => answer(202, String::new()),
            (_, _, 1) => answer(202, String::new()),
            _ => answer(200, "verified ".repeat(20)),
        }
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn deliver(client: &Client, id: String, body: String) {
    let body = Bytes::from(body);
    let headers = verifier().sign(&id, std::time::SystemTime::now().into(), &body).unwrap();
    let _ = timeout(Duration::from_millis(1), client.deliver(&headers, body.clone())).await;
    let _ = timeout(Duration::from_millis(1), client.deliver(&headers, body)).await;
}

/// The last letters of keys: what becomes of their requests, and of their callers.
const ENDINGS: &str = "abcdehlpqstwx";

async fn wave(client: &Client, number: u32, jobs: usize) {
    for n in 0..jobs {
        for it in ENDINGS.chars() {
            let name = format!("{number:04}-{n:05}-{it}");
            // Of many the caller has gone before there was room.
            let patience = Duration::from_millis(if it == 'w' { 1 } else { 20_000 });
            let Ok(Ok(mut handle)) = timeout(patience, client.submit(key(&name), "payload ".repeat(5))).await else {
                continue;
            };
            match it {
                'a' => drop(timeout(Duration::from_millis(500), handle).await),
                'b' => {
                    let _ = timeout(Duration::from_secs(60), &mut handle).await;
                }
                'd' => handle.cancel(),
                'e' => {
                    sleep(Duration::from_millis(25)).await;
                    handle.cancel();
                }
                'q' => {
                    let _ = timeout(Duration::from_millis(1), handle.accepted()).await;
                    drop(timeout(Duration::from_millis(1), client.submit(key(&name), "payload ".repeat(5))).await);
                }
                'l' => {
                    let _ = client.submit(key(&name), "another").await;
                    deliver(client, format!("evt-{name}"), format!(r#"{{"reference":"txn-{name}","status":"ready"}}"#))
                        .await;
                    let now = Timestamp::from(std::time::SystemTime::now()).as_nanos() / 1_000_000_000 + 400_000_000;
                    deliver(
                        client,
                        format!("evu-{name}"),
                        format!(r#"{{"reference":"txn-{name}","status":"expired","at":{now}}}"#),
                    )
                    .await;
                    deliver(
                        client,
                        format!("evv-{name}"),
                        format!(r#"{{"reference":"none-{name}","status":"ready"}}"#),
                    )
                    .await;
                }
                _ => {}
            }
        }
    }
    sleep(DAY / 4).await;
    for n in 0..jobs {
        let name = format!("{number:04}-{n:05}-p");
        drop(timeout(Duration::from_millis(1), client.resume(key(&name))).await);
        let _ = client.status(key(&name)).await;
    }
    sleep(3 * DAY).await;
}

/// Tables grow now and then, and a few requests that were cut off are remembered until there are many. What stays of each
/// job of a kind shows as a block for each of them.
#[test]
fn nothing_stays_of_jobs_their_callers_and_their_requests() {
    const JOBS: usize = 40;
    const WAVES: u32 = 24;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let webhooks = WebhookPolicy { remember: 100, remember_for: DAY / 2, ..WebhookPolicy::default() };
    let builder = Client::builder(Plain, Wire).limits(Limits { live: 40, ..Limits::default() }).webhooks(webhooks);
    let builder = builder.gate(GatePolicy::none()).seed(Seed::new(7));
    let client = runtime.block_on(async { builder.start().await.unwrap() });
    let (mut blocks, mut bytes) = (0, 0);
    for number in 0..WAVES {
        let counted = measure(|| runtime.block_on(wave(&client, number, JOBS)));
        if number >= WAVES / 2 {
            (blocks, bytes) = (blocks + counted.count_current, bytes + counted.bytes_current);
        }
    }
    let later = i64::from(WAVES / 2) * JOBS as i64;
    assert!(blocks.abs() < later / 2, "{blocks} blocks, {bytes} bytes");
    assert!(bytes < 16 * later * ENDINGS.len() as i64, "{blocks} blocks, {bytes} bytes");
    // Those that wait for a next request, and the client's own.
    assert!(runtime.metrics().num_alive_tasks() <= 1 + 256);
}
