//! A server that takes webhooks in, and a job that ends by one: `cargo run -p steadfast-tokio --example webhooks`.
//!
//! The server is hyper's; with another one it is the same three steps: read the body, bounded and unparsed; `client.deliver`; answer what it says.
//! The provider is played here as well: it accepts a job, never finishes it when polled, and then posts a signed webhook, a forged one, and the
//! true one again.

use std::convert::Infallible;
use std::error::Error;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, Timestamp};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};
use steadfast_tokio::{Client, Outgoing, SendError, Transport, WebhookPolicy};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // As the provider's dashboard shows it. Yours comes from where you keep secrets.
    let verifier = Verifier::new(Scheme::StandardWebhooks, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])?;
    let client = Client::builder(Ours { verifier: verifier.clone() }, NeverDone).start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/webhooks", listener.local_addr()?);
    tokio::spawn(serve(listener, client.clone()));

    let job = client.submit(Key::new("order-42")?, "{}").await?;
    let body = r#"{"key":"order-42","reference":"txn-1","status":"ready"}"#;
    let forged = r#"{"key":"order-42","reference":"txn-1","status":"failed"}"#;
    for (what, body_sent) in [("forged", forged), ("true", body), ("true, and again", body)] {
        // The signature is over the true body, whatever is sent.
        let headers = verifier.sign("evt-1", Timestamp::from(SystemTime::now()), body.as_bytes())?;
        let answer = reqwest::Client::new().post(&address).headers(headers).body(body_sent).send().await?;
        println!("{what}: the sender is told {}", answer.status());
    }
    let finished = job.await?;
    println!("{}: {}", finished.outcome.name(), String::from_utf8_lossy(finished.body()));
    Ok(())
}

async fn serve(listener: TcpListener, client: Client) {
    while let Ok((stream, _)) = listener.accept().await {
        let client = client.clone();
        let service = service_fn(move |request| {
            let client = client.clone();
            async move { Ok::<_, Infallible>(receive(&client, request).await) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// What your own server has to do.
async fn receive(client: &Client, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let status = match Limited::new(body, WebhookPolicy::default().body_limit).collect().await {
        Ok(body) => {
            let delivery = client.deliver(&parts.headers, body.to_bytes()).await;
            println!("    {delivery}");
            delivery.status()
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => StatusCode::PAYLOAD_TOO_LARGE,
        // The connection broke: nobody reads the answer.
        Err(_) => StatusCode::BAD_REQUEST,
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// An API of our own, which tells of its jobs by webhook.
struct Ours {
    verifier: Verifier,
}

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
        match answer.kind {
            Kind::Create => Reference::new("txn-1")
                .map(Reading::Accepted)
                .map_err(|_| Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
            _ => Ok(Reading::Pending { hint: None }),
        }
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        // First verify, then read: here, flat JSON.
        let verified = self.verifier.verify(headers, body, wall)?;
        Ok(WebhookEvent::plain(verified, body))
    }
}

struct NeverDone;

impl Transport for NeverDone {
    async fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        Ok(Response::new(Bytes::new()))
    }
}
