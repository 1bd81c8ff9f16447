//! Any call, repeated and polled on a thread: `cargo run -p steadfast-blocking --example retry`.
//!
//! An upstream, played here, that is down for its first two requests, busy at the third, and then runs a report that
//! takes three polls. By a virtual timer, so that it takes no time; leave that line out to wait in earnest.

use std::error::Error;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use steadfast_blocking::{Polled, VirtualTimer, http_response, poll_until, retry};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;

fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}

fn answer(status: StatusCode, retry_after: &'static str) -> Response<&'static str> {
    let mut answer = Response::new("busy");
    *answer.status_mut() = status;
    *answer.headers_mut() = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static(retry_after))]);
    answer
}

#[expect(clippy::result_large_err, reason = "the whole answer, as an HTTP client gives it")]
fn run() -> Result<(u64, &'static str), Box<dyn Error>> {
    let (timer, mut requests) = (VirtualTimer::new(), 0);
    let report = retry(RetryPolicy::default())
        .timer(timer.clone())
        .classify(http_response) // of answers that are returned as errors
        .call_with(|attempt| {
            // Give `attempt.limit` to your HTTP client as its time-out: a call that blocks cannot be cut off.
            println!("{:5.1} s: attempt {}, {:?} left", timer.elapsed().as_secs_f64(), attempt.number, attempt.left);
            requests += 1;
            match requests {
                1 | 2 => Err(answer(StatusCode::SERVICE_UNAVAILABLE, "2")),
                3 => Err(answer(StatusCode::TOO_MANY_REQUESTS, "20")),
                _ => Ok(7),
            }
        })
        .map_err(|error| error.to_string())?;

    let mut polls = 0;
    let text = poll_until(PollPolicy::default()).timer(timer.clone()).call(|| {
        polls += 1;
        println!("{:5.1} s: poll {polls}", timer.elapsed().as_secs_f64());
        if polls < 3 { Polled::Pending } else { Polled::<_, std::io::Error>::Ready("42 pages") }
    })?;
    assert!(timer.elapsed() >= Duration::from_secs(2 + 2 + 20 + 3 + 6 + 12));
    println!("{:5.1} s: report {report}: {text}", timer.elapsed().as_secs_f64());
    Ok((report, text))
}

#[test]
fn it_comes_through() -> Result<(), Box<dyn Error>> {
    assert_eq!(run()?, (7, "42 pages"));
    Ok(())
}
