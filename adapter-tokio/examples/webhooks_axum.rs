//! Didit's webhooks at a server of axum's: `cargo run -p steadfast-tokio --example webhooks_axum`.
//!
//! With any server it is the same three steps: read the body, bounded and unparsed; `client.deliver`; answer what it
//! says. Didit is played here as well: its person is done at once, and it posts a forged webhook, the true one, and the
//! true one again. The first poll would be due after 30 s; the webhook makes it due now.

use std::error::Error;
use std::future::IntoFuture;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use steadfast_core::{Key, Kind, Timestamp};
use steadfast_providers::BaseUrl;
use steadfast_providers::didit::Didit;
use steadfast_providers::webhook::{DiditSignatures, Scheme, Verifier};
use steadfast_tokio::{Client, Outgoing, SendError, Transport, WebhookPolicy};
use tokio::net::TcpListener;

/// As Didit shows it once, when a destination is made. Yours comes from where you keep secrets.
const SECRET: &str = "the destination's secret_shared_key";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await.map(drop)
}

/// What the sender was told: three statuses.
async fn run() -> Result<Vec<StatusCode>, Box<dyn Error>> {
    let didit = Didit::new(BaseUrl::parse(Didit::PRODUCTION)?, "YOUR_API_KEY")?.with_webhooks([SECRET])?;
    let client = Client::builder(didit, Played).start().await?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/didit", listener.local_addr()?);
    let server = Router::new()
        .route("/didit", post(receive))
        .layer(DefaultBodyLimit::max(WebhookPolicy::default().body_limit))
        .with_state(client.clone());
    tokio::spawn(axum::serve(listener, server).into_future());

    let job = client.submit(Key::new("order-42")?, r#"{"workflow_id":"d9e78474-6c8d-4f2a-bb90-6f5c2f3a1147"}"#).await?;
    let told = play(&url).await?;
    let finished = job.await?;
    println!("{}: {}", finished.outcome.name(), String::from_utf8_lossy(finished.body()));
    Ok(told)
}

/// What your own server has to do. Its answer is a promise: after a 2xx, what followed from the webhook is on disk (if
/// the client has a journal).
async fn receive(State(client): State<Client>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let delivery = client.deliver(&headers, body).await;
    println!("    {delivery}");
    delivery.status()
}

/// Didit's sender.
async fn play(url: &str) -> Result<Vec<StatusCode>, Box<dyn Error>> {
    let signer = Verifier::new(Scheme::Didit(DiditSignatures::default()), [SECRET])?;
    let now = Timestamp::from(SystemTime::now());
    let seconds = now.as_nanos() / 1_000_000_000;
    let body = format!(
        r#"{{"event_id":"evt-1","session_id":"s-1","status":"Approved","timestamp":{seconds},"vendor_data":"order-42","webhook_type":"status.updated"}}"#
    );
    let mut told = Vec::new();
    for (what, sent) in
        [("forged", body.replace("order-42", "order-43")), ("true", body.clone()), ("again", body.clone())]
    {
        // The signatures are of the true body, whatever is sent.
        let headers = signer.sign("", now, body.as_bytes())?;
        let answer = reqwest::Client::new().post(url).headers(headers).body(sent).send().await?;
        println!("{what}: the sender is told {}", answer.status());
        told.push(answer.status());
    }
    Ok(told)
}

/// Didit's API: accepts a session, and has its decision at once.
struct Played;

impl Transport for Played {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let (status, body) = match outgoing.attempt.kind {
            Kind::Create => {
                (StatusCode::CREATED, r#"{"session_id":"s-1","status":"Not Started","vendor_data":"order-42"}"#)
            }
            _ => (StatusCode::OK, r#"{"session_id":"s-1","status":"Approved","vendor_data":"order-42"}"#),
        };
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = status;
        Ok(response)
    }
}

#[cfg(test)]
#[tokio::test]
async fn the_forged_one_is_refused_and_the_true_one_ends_the_wait() {
    let began = std::time::Instant::now();
    assert_eq!(run().await.unwrap(), [400, 200, 200]);
    assert!(began.elapsed().as_secs() < 20, "the first poll would have been due after 30 s");
}
