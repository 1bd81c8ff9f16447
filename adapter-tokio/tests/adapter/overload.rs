//! More jobs than the provider takes, for ten minutes: how many are carried to their ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::operation::Rejected;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Kind, Outcome, Seed};
use steadfast_tokio::{Client, Outgoing, SendError, Transport};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::{Plain, answer, key};

const SECOND: Duration = Duration::from_secs(1);

/// Answers in 300 ms; a job is ready when it is first asked for.
#[derive(Clone, Default)]
struct Upstream(Arc<AtomicUsize>);

impl Transport for Upstream {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(300)).await;
        Ok(if outgoing.attempt.kind == Kind::Create {
            answer(201, outgoing.key.as_str().to_owned())
        } else {
            answer(200, "{}")
        })
    }
}

/// With the default policies. The line grows to be as long as a create's deadline, and then each of those that wait is
/// late; none of them must leave only to be cut off.
#[tokio::test(start_paused = true)]
async fn at_twice_the_load_half_of_the_jobs_complete_and_the_others_are_rejected() {
    for shards in [1, 4] {
        let upstream = Upstream::default();
        let rate = RateLimit { kinds: Kinds::ALL, rate: RatePolicy::new(10, SECOND).unwrap() };
        let gate = GatePolicy::default().with_rate_limit(rate);
        let client = Client::builder(Plain, upstream.clone()).seed(Seed::new(7)).shards(shards).gate(gate);
        let client = client.start().await.unwrap();
        let (start, mut jobs) = (Instant::now(), JoinSet::new());
        for n in 0..6 * 600 {
            let client = client.clone();
            jobs.spawn(async move {
                let job = client.submit(key(&format!("job-{n}")), "{}").await.unwrap().await.unwrap();
                (start.elapsed().as_secs() / 60, job.outcome)
            });
            sleep_until(start + SECOND * (n + 1) / 10).await;
        }
        let mut completed = [0; 9];
        for (minute, outcome) in jobs.join_all().await {
            match outcome {
                Outcome::Completed(_) => completed[minute as usize] += 1,
                outcome => assert_eq!(outcome, Outcome::Rejected(Rejected::Deadline), "{shards} shards"),
            }
        }
        // A create and a poll for each, at ten requests a second.
        assert!(completed[1..7].iter().all(|n| (290..=320).contains(n)), "{shards} shards: {completed:?}");
        assert_eq!(upstream.0.load(Ordering::Relaxed), 2 * completed.iter().sum::<usize>(), "{shards} shards");
    }
}
