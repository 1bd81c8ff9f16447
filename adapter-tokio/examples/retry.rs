//! Any call, repeated and polled: `cargo run -p steadfast-tokio --example retry`.
//!
//! An upstream, played here, that is down for its first two requests, busy at the third, and then runs a report that
//! takes three polls. In virtual time, so that it takes none.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Class, RetryPolicy};
use steadfast_core::{Key, Seed};
use steadfast_tokio::{Attempt, Breaker, Polled, Retrying, http_failure, poll_until, retry};
use tokio::time::Instant;

#[derive(Debug)]
enum Trouble {
    Refused,
    Status(StatusCode, HeaderMap),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("the connection was refused"),
            Self::Status(status, _) => write!(f, "it answered {status}"),
        }
    }
}

impl Error for Trouble {}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::pause();
    run().await.map(drop)
}

async fn run() -> Result<(u64, String), Box<dyn Error>> {
    let (start, requests, polls) = (Instant::now(), Cell::new(0), Cell::new(0));
    let breaker = Breaker::new(BreakerPolicy::consecutive(5)?);
    let key = Key::new("report-7")?;

    let create = async |attempt: Attempt<'_>| {
        assert_eq!(attempt.key.map(Key::as_str), Some("report-7"));
        requests.set(requests.get() + 1);
        match requests.get() {
            1 | 2 => Err(Trouble::Refused),
            3 => {
                let wait = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("20"))]);
                Err(Trouble::Status(StatusCode::TOO_MANY_REQUESTS, wait))
            }
            _ => Ok(7),
        }
    };
    let report = retry(RetryPolicy::default())
        .key(&key)
        .breaker(&breaker)
        .seed(Seed::new(1))
        .classify(|trouble: &Trouble| match trouble {
            Trouble::Refused => Class::Transient.into(),
            Trouble::Status(status, headers) => http_failure(*status, headers),
        })
        .notify(|retrying: Retrying<'_, Trouble>| {
            let cause = retrying.cause.map_or_else(|| "no answer".into(), ToString::to_string);
            println!("attempt {}: {cause}; the next one in {:.1?}", retrying.attempt, retrying.wait);
        })
        .run_with(create)
        .await?;
    println!("report {report} was begun after {:.1?}", start.elapsed());

    let text = poll_until(PollPolicy::default())
        .breaker(&breaker)
        .run(|| async {
            polls.set(polls.get() + 1);
            Ok::<_, Trouble>(if polls.get() < 3 { Polled::Pending } else { Polled::Ready("42 pages".to_owned()) })
        })
        .await?;
    assert!(start.elapsed() >= Duration::from_secs(20 + 3 + 6 + 12));
    println!("after {:.0?} and {} polls: {text}", start.elapsed(), polls.get());
    Ok((report, text))
}

#[tokio::test(start_paused = true)]
async fn it_comes_through() -> Result<(), Box<dyn Error>> {
    assert_eq!(run().await?, (7, "42 pages".into()));
    Ok(())
}
