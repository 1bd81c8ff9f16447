//! What reqwest's results mean, over real sockets.
#![cfg(feature = "reqwest")]

use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_tokio::{HttpError, ReqwestTransport, ResponseExt, classify_error, retry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

/// Reads a request's head from each connection, writes this, and closes it; without an answer it holds the connection
/// open.
async fn serve(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await?);
                }
                match answer {
                    Some(answer) => socket.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).await,
                    None => std::future::pending().await,
                }
            });
        }
    });
    format!("http://127.0.0.1:{port}/canary?token=canary")
}

async fn get(answer: &'static str) -> Result<Response, HttpError<Response>> {
    let client = ReqwestTransport::new().unwrap().client().clone();
    client.get(serve(Some(answer)).await).send().await.classify()
}

fn failure(result: Result<Response, HttpError<Response>>) -> Failure {
    let error = result.unwrap_err();
    // A URL may hold a reference, or a key.
    let mut shown = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(cause) = next {
        shown.push_str(&format!(" {cause} {cause:?}"));
        next = cause.source();
    }
    assert!(!shown.contains("canary"), "{shown}");
    error.failure()
}

#[tokio::test]
async fn a_2xx_is_good_and_every_other_status_is_what_the_table_says() {
    use Certainty::{MayHaveExecuted, NotExecuted};
    assert_eq!(get("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").await.unwrap().text().await.unwrap(), "ok");
    for (answer, class, certainty) in [
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Class::Permanent, NotExecuted),
        ("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n", Class::Throttled, NotExecuted),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", Class::Transient, MayHaveExecuted),
        ("HTTP/1.1 302 Found\r\nlocation: /canary\r\ncontent-length: 0\r\n\r\n", Class::Permanent, MayHaveExecuted),
        ("HTTP/1.1 308 Moved\r\nlocation: /canary\r\ncontent-length: 0\r\n\r\n", Class::Permanent, NotExecuted),
    ] {
        assert_eq!(failure(get(answer).await), Failure::new(class, certainty), "{answer}");
    }
}

#[tokio::test]
async fn a_retry_after_is_read_against_the_answers_own_date_and_the_body_is_still_there() {
    let error = get(concat!(
        "HTTP/1.1 503 Service Unavailable\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "retry-after: Sun, 06 Nov 1994 08:49:42 GMT\r\ncontent-length: 6\r\n\r\nlater!"
    ))
    .await
    .unwrap_err();
    assert_eq!(error.failure().retry_after, Some(Duration::from_secs(5)));
    assert_eq!(error.to_string(), "the answer's status is 503 Service Unavailable");
    assert_eq!(error.into_answer().unwrap().text().await.unwrap(), "later!");
}

#[tokio::test]
async fn a_request_without_an_answer_is_what_its_phase_says() {
    let client = ReqwestTransport::new().unwrap().client().clone();
    let unknown = |class| Failure::new(class, Certainty::MayHaveExecuted);

    // A port that is taken, so that nobody else gets it, and on which nobody listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = client.get(format!("http://{}/canary", socket.local_addr().unwrap())).send().await.classify();
    assert_eq!(failure(refused), Failure::new(Class::Transient, Certainty::NotExecuted));

    assert_eq!(failure(get("").await), unknown(Class::Transient), "closed without an answer");
    let silent = client.get(serve(None).await).timeout(Duration::from_millis(200)).send().await.classify();
    assert_eq!(failure(silent), unknown(Class::TimedOut));
    let unsendable = client.get("http://127.0.0.1/").header("canary\n", "canary").send().await.classify();
    assert_eq!(failure(unsendable), Failure::new(Class::Permanent, Certainty::NotExecuted));

    let broken = get("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\ncut").await.unwrap();
    assert_eq!(classify_error(broken.bytes().await.unwrap_err()).failure(), unknown(Class::Transient));
}

#[tokio::test]
async fn a_client_that_follows_redirects_in_circles_is_not_sent_round_again() {
    let client = Client::builder().redirect(Policy::limited(3)).no_proxy().build().unwrap();
    let url =
        serve(Some("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:PORT/canary\r\ncontent-length: 0\r\n\r\n")).await;
    let circles = client.get(url).send().await.classify();
    assert_eq!(failure(circles), Failure::new(Class::Permanent, Certainty::MayHaveExecuted));
}

#[tokio::test]
async fn an_error_that_was_made_of_a_status_is_known_by_it() {
    let client = ReqwestTransport::new().unwrap().client().clone();
    let url = serve(Some("HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n")).await;
    let error = classify_error(client.get(url).send().await.unwrap().error_for_status().unwrap_err());
    assert_eq!(error.failure(), Failure::new(Class::Throttled, Certainty::NotExecuted), "its headers are lost");
    assert!(error.into_answer().is_none());
}

#[tokio::test]
async fn a_retry_goes_by_what_the_answers_say() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client = ReqwestTransport::new().unwrap().client().clone();
    let server = tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 20\r\n\r\ncut",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\ndone",
        ] {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let pauses = BackoffPolicy::new(Growth::Fixed(Duration::ZERO), Duration::ZERO, Jitter::None).unwrap();
    let policy = RetryPolicy::new(5, Duration::from_secs(60), Duration::from_secs(20), pauses).unwrap();
    let body = retry(policy)
        .classify(HttpError::failure)
        .run(|| async { client.get(&url).send().await.classify()?.bytes().await.map_err(classify_error) })
        .await;
    assert_eq!(body.unwrap(), "done");
    server.await.unwrap();
}
