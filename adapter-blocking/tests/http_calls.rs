//! What ureq's results mean, over real sockets.
#![cfg(feature = "ureq")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use http::Response;
use steadfast_blocking::{HttpError, ResponseExt, UreqTransport, classify_error};
use steadfast_core::retry::{Certainty, Class, Failure};
use ureq::{Agent, Body};

type Answered = Result<Response<Body>, HttpError<Response<Body>>>;

/// Reads a request's head from each connection, writes this, and closes it; without an answer it holds the connections
/// open. (Whom it serves twice must be told `connection: close`: else a second request may leave on a connection that
/// is closing.)
fn serve(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && socket.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            match answer {
                Some(answer) => drop(socket.write_all(answer.replace("PORT", &port.to_string()).as_bytes())),
                None => held.push(socket),
            }
        }
    });
    format!("http://127.0.0.1:{port}/canary?token=canary")
}

fn get(answer: &'static str) -> Answered {
    UreqTransport::new().agent().get(serve(Some(answer))).call().classify()
}

fn failure(result: Answered) -> Failure {
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

/// Of a port that is closed. (It is free again: nobody takes it up within the test.)
fn closed() -> String {
    format!("http://{}/canary", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

#[test]
fn a_2xx_is_good_and_every_other_status_is_what_the_table_says() {
    use Certainty::{MayHaveExecuted, NotExecuted};
    let mut good = get("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").unwrap();
    assert_eq!(good.body_mut().read_to_string().unwrap(), "ok");
    for (answer, class, certainty) in [
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Class::Permanent, NotExecuted),
        ("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n", Class::Throttled, NotExecuted),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", Class::Transient, MayHaveExecuted),
        ("HTTP/1.1 302 Found\r\nlocation: /canary\r\ncontent-length: 0\r\n\r\n", Class::Permanent, MayHaveExecuted),
        ("HTTP/1.1 308 Moved\r\nlocation: /canary\r\ncontent-length: 0\r\n\r\n", Class::Permanent, NotExecuted),
    ] {
        assert_eq!(failure(get(answer)), Failure::new(class, certainty), "{answer}");
    }
}

#[test]
fn a_retry_after_is_read_against_the_answers_own_date_and_the_body_is_still_there() {
    let error = get(concat!(
        "HTTP/1.1 503 Service Unavailable\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "retry-after: Sun, 06 Nov 1994 08:49:42 GMT\r\ncontent-length: 6\r\n\r\nlater!"
    ))
    .unwrap_err();
    assert_eq!(error.failure().retry_after, Some(Duration::from_secs(5)));
    assert_eq!(error.to_string(), "the answer's status is 503 Service Unavailable");
    assert_eq!(error.into_answer().unwrap().body_mut().read_to_string().unwrap(), "later!");
}

#[test]
fn a_request_without_an_answer_is_what_its_phase_says() {
    let transport = UreqTransport::new();
    let (agent, plain) = (transport.agent(), Agent::new_with_defaults());
    let unknown = |class| Failure::new(class, Certainty::MayHaveExecuted);
    for agent in [agent, &plain] {
        let refused = agent.get(closed()).call().classify();
        assert_eq!(failure(refused), Failure::new(Class::Transient, Certainty::NotExecuted));
    }
    assert_eq!(failure(get("")), unknown(Class::Transient), "closed without an answer");
    let short = Some(Duration::from_millis(200));
    let silent = agent.get(serve(None)).config().timeout_global(short).build().call().classify();
    assert_eq!(failure(silent), unknown(Class::TimedOut));
    let unsendable = agent.get("http://127.0.0.1/").header("canary\n", "canary").call().classify();
    assert_eq!(failure(unsendable), Failure::new(Class::Permanent, Certainty::NotExecuted));

    let mut broken = get("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\ncut").unwrap();
    assert_eq!(classify_error(broken.body_mut().read_to_vec().unwrap_err()).failure(), unknown(Class::Transient));
}

#[test]
fn an_agent_that_follows_redirects_in_circles_is_not_sent_round_again() {
    let url = serve(Some(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:PORT/canary\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ));
    let circles = Agent::new_with_defaults().get(url).call().classify();
    assert_eq!(failure(circles), Failure::new(Class::Permanent, Certainty::MayHaveExecuted));
}

#[test]
fn an_error_that_was_made_of_a_status_is_known_by_it() {
    let url = serve(Some("HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n"));
    let error = Agent::new_with_defaults().get(url).call().classify().unwrap_err();
    assert_eq!(error.failure(), Failure::new(Class::Throttled, Certainty::NotExecuted), "its headers are lost");
    assert!(error.into_answer().is_none());
}
