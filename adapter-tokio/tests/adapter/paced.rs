//! Limits that clients share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Kind, Outcome};
use steadfast_tokio::{Client, Outgoing, PacedTransport, SendError, Transport};

use crate::support::{Plain, answer, key};

const SECOND: Duration = Duration::from_secs(1);

/// Keeps for how long it was told that answers to creates are waited for.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Duration>>>);

impl Transport for Told {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        if outgoing.attempt.kind == Kind::Create {
            self.0.lock().unwrap().push(outgoing.timeout);
            return Ok(answer(201, format!("txn-{}", outgoing.key.as_str())));
        }
        Ok(answer(200, "{}"))
    }
}

/// Else what stands behind it, another such limit perhaps, would wait for longer than anybody waits for it.
#[tokio::test(start_paused = true)]
async fn what_a_request_has_waited_for_its_turn_is_no_longer_left_to_it() {
    let told = Told::default();
    let transport = PacedTransport::new(told.clone(), [RatePolicy::new(1, 3 * SECOND).unwrap()]);
    let client = Client::builder(Plain, transport).start().await.unwrap();
    let jobs = [client.submit(key("a"), "{}").await.unwrap(), client.submit(key("b"), "{}").await.unwrap()];
    for job in jobs {
        assert!(matches!(job.await.unwrap().outcome, Outcome::Completed(_)));
    }
    let told = told.0.lock().unwrap();
    assert!(told[0] - told[1] >= 3 * SECOND, "{told:?}");
}
