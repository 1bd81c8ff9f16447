//! hyper's client behind the layers: `cargo run -p steadfast-tokio --features tower --example tower`.
//!
//! The upstream is played here as well, over real HTTP on a loopback port: it throttles, cuts connections and answers
//! late before it does its work. A tonic channel is layered in the same way.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_tokio::tower::{GateLayer, HttpRequests, HttpStatus, LayerError, RetryLayer};
use steadfast_tokio::{Gate, RetryBudget};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (status, body, requests) = run().await?;
    println!("{status}: {body} (the upstream saw {requests} requests)");
    Ok(())
}

/// What a payment came to, and how many requests that took.
async fn run() -> Result<(StatusCode, String, u32), Box<dyn Error>> {
    let (upstream, requests) = play().await?;

    let millis = Duration::from_millis;
    let pauses = BackoffPolicy::new(Growth::doubling(millis(10)), millis(100), Jitter::Full)?;
    let policy = RetryPolicy::new(6, Duration::from_secs(60), millis(300), pauses)?;
    let second = RatePolicy::new(100, Duration::from_secs(1))?.with_burst(10)?;
    // Clones of it may be shared with other services, and with code that is no service.
    let gate = Gate::new(GatePolicy::default().with_rate_limit(RateLimit { kinds: Kinds::ALL, rate: second }));

    // Outermost the retries: every attempt passes all below, so an open breaker and a full bulkhead hold retries back
    // as well, and a pause between attempts holds no place in them.
    let retry = RetryLayer::new(policy.clone())
        .classify(HttpStatus::new().errors(|error: &LayerError<_>| error.failure(certainty)))
        .repeat(HttpRequests::new().keyed_by(HeaderName::from_static("idempotency-key")))
        .with_budget(RetryBudget::new(BudgetPolicy::default()));
    // Then the gate. It has the time-out, since a call that is cut off further out would tell its breaker nothing.
    let gated = GateLayer::new(gate.clone())
        .with_timeout(policy.attempt_timeout())
        .classify(HttpStatus::new().errors(certainty));
    // Innermost what sends.
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut service = ServiceBuilder::new().layer(retry).layer(gated).service(client);

    let request = Request::post(upstream)
        .header("idempotency-key", "order-42")
        .body(Full::from(r#"{"amount":"42.00","currency":"EUR"}"#))?;
    let response = service.ready().await?.call(request).await?;
    let status = response.status();
    let body = String::from_utf8(response.into_body().collect().await?.to_bytes().into())?;
    assert_eq!(gate.in_flight(), 0);
    Ok((status, body, requests.load(Ordering::Relaxed)))
}

/// What hyper knows for certain: without a connection nothing was executed.
fn certainty(error: &hyper_util::client::legacy::Error) -> Failure {
    let certainty = if error.is_connect() { Certainty::NotExecuted } else { Certainty::MayHaveExecuted };
    Failure::new(Class::Transient, certainty)
}

/// An upstream in trouble, which gets over it.
async fn play() -> Result<(String, Arc<AtomicU32>), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/payments", listener.local_addr()?);
    let requests = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            let answer = hyper::service::service_fn(move |_| answer(seen.fetch_add(1, Ordering::Relaxed)));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer));
        }
    });
    Ok((url, requests))
}

async fn answer(n: u32) -> Result<Response<Full<Bytes>>, Box<dyn Error + Send + Sync>> {
    match n {
        0 => Ok(Response::builder().status(429).header("retry-after", "0").body(Full::default())?),
        1 => Err("hyper closes the connection without an answer".into()),
        2 => std::future::pending().await,
        3 => Ok(Response::builder().status(503).body(Full::default())?),
        _ => Ok(Response::new(Full::from("paid"))),
    }
}

#[test]
fn it_runs() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, body, requests) = runtime.block_on(run())?;
    assert_eq!((status, body.as_str(), requests), (StatusCode::OK, "paid", 5));
    Ok(())
}
