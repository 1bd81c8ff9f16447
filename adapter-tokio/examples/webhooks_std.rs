//! Webhooks at a server of `std::net` alone, on a thread: `cargo run -p steadfast-tokio --example webhooks_std`.
//!
//! The provider is an API of one's own, played here as well: it accepts a job, never finishes it when polled, and then
//! posts a signed webhook with the result (Standard Webhooks), a forged one before it, and the true one again.
//! `webhooks_axum` is the same for a provider that is built in.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, Timestamp};
use steadfast_providers::webhook::{MAX_BODY, Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};
use steadfast_tokio::{Client, Outgoing, SendError, Transport};
use tokio::runtime::Handle;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await.map(drop)
}

/// What the sender was told: three statuses.
async fn run() -> Result<Vec<StatusCode>, Box<dyn Error>> {
    let verifier = Verifier::new(Scheme::StandardWebhooks, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])?;
    let client = Client::builder(Ours(verifier.clone()), NeverDone).start().await?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/webhooks", listener.local_addr()?);
    let (deliver_to, runtime) = (client.clone(), Handle::current());
    std::thread::spawn(move || {
        // One after the other. A crowd of senders deserves a thread for each, or a server such as axum's.
        for stream in listener.incoming().flatten() {
            drop(receive(stream, &deliver_to, &runtime)); // who breaks the connection is told nothing
        }
    });

    let job = client.submit(Key::new("order-42")?, "{}").await?;
    let (mut told, body) = (Vec::new(), r#"{"key":"order-42","reference":"txn-1","status":"ready"}"#);
    for (what, sent) in [("forged", body.replace("ready", "failed")), ("true", body.into()), ("again", body.into())] {
        // The signature is over the true body, whatever is sent.
        let headers = verifier.sign("evt-1", Timestamp::from(SystemTime::now()), body.as_bytes())?;
        let answer = reqwest::Client::new().post(&url).headers(headers).body(sent).send().await?;
        println!("{what}: the sender is told {}", answer.status());
        told.push(answer.status());
    }
    let finished = job.await?;
    println!("{}: {}", finished.outcome.name(), String::from_utf8_lossy(finished.body()));
    Ok(told)
}

/// What your own server has to do: read headers and body, bounded and unparsed; deliver them; answer what that says.
fn receive(mut stream: TcpStream, client: &Client, runtime: &Handle) -> Result<(), Box<dyn Error>> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?).take(MAX_BODY as u64 + 65_536);
    let (mut line, mut headers) = (String::new(), HeaderMap::new());
    reader.read_line(&mut line)?; // POST /webhooks HTTP/1.1
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.try_append(HeaderName::try_from(name)?, HeaderValue::from_str(value.trim())?)?;
    }
    let length: u64 = headers.get(CONTENT_LENGTH).ok_or("no length")?.to_str()?.parse()?;
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let delivery = runtime.block_on(client.deliver(&headers, Bytes::from(body)));
    println!("    {delivery}");
    write!(stream, "HTTP/1.1 {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", delivery.status())?;
    Ok(())
}

/// An API of our own, which tells of its jobs by webhook.
struct Ours(Verifier);

impl Provider for Ours {
    fn name(&self) -> &str {
        "ours"
    }
    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default()
    }
    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let request = Request::builder().uri("https://provider.test/jobs").header("idempotency-key", ask.key.as_str());
        request.body(ask.payload.bytes().clone()).map_err(|_| RequestError::Unsendable("key"))
    }
    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        let reference =
            Reference::new("txn-1").map_err(|_| Failure::new(Class::Transient, Certainty::MayHaveExecuted))?;
        Ok(if answer.kind == Kind::Create { Reading::Accepted(reference) } else { Reading::Pending { hint: None } })
    }
    fn has_webhooks(&self) -> bool {
        true
    }
    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(self.0.verify(headers, body, wall)?, body)) // first verify, then read: here, flat JSON
    }
}

struct NeverDone;

impl Transport for NeverDone {
    async fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        Ok(Response::new(Bytes::new()))
    }
}

#[cfg(test)]
#[tokio::test]
async fn the_forged_one_is_refused_and_the_true_one_ends_the_job() {
    assert_eq!(run().await.unwrap(), [400, 200, 200]);
}
