//! Credentials that are over: who asks for a renewal, and who does not. The whole story, with a provider that speaks
//! Deepvue, is in the crate `tests`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use steadfast_core::{Kind, Outcome};
use steadfast_tokio::Client;
use tokio::time::sleep;

use crate::support::{Plain, Scripted, answer, key};

const SECOND: Duration = Duration::from_secs(1);

/// What was sent with the old credentials, and is refused after the renewal, asks for no other.
#[tokio::test(start_paused = true)]
async fn a_late_refusal_of_old_credentials_asks_for_nothing() {
    let (token, renewals) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let valid = token.clone();
    let transport = Scripted::new(move |kind, number, key| {
        let sent_with = valid.load(Ordering::Relaxed);
        async move {
            if kind == Kind::Create {
                return Ok(answer(201, format!("txn-{key}")));
            }
            // The second one's refusal is long on its way.
            sleep(if key == "slow" { 9 * SECOND } else { Duration::from_millis(10) }).await;
            Ok(match (sent_with, number) {
                (0, _) => answer(401, ""),
                (_, ..4) => answer(202, ""),
                _ => answer(200, "done"),
            })
        }
    });
    let (renewed, calls) = (token.clone(), renewals.clone());
    let client = Client::builder(Plain, transport).renew_credentials(move || {
        calls.fetch_add(1, Ordering::Relaxed);
        renewed.store(1, Ordering::Relaxed);
        async { Ok::<_, &str>(()) }
    });
    let client = client.start().await.unwrap();
    let mut jobs = Vec::new();
    for name in ["quick", "slow"] {
        jobs.push(client.submit(key(name), "{}").await.unwrap());
    }
    for job in jobs {
        assert!(matches!(job.await.unwrap().outcome, Outcome::Completed(_)));
    }
    assert_eq!(renewals.load(Ordering::Relaxed), 1);
}

/// A poll that is refused for its credentials would end the job where nobody renews them; here it goes on.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_a_provider_calls_permanent_waits_for_the_renewal() {
    let token = Arc::new(AtomicU32::new(0));
    let run = async |renews: bool| {
        let valid = token.clone();
        valid.store(0, Ordering::Relaxed);
        let transport = Scripted::new(move |kind, _, _| {
            let sent_with = valid.load(Ordering::Relaxed);
            async move {
                Ok(match (kind, sent_with) {
                    (Kind::Create, _) => answer(201, "txn-1"),
                    (_, 0) => answer(401, ""),
                    _ => answer(200, "done"),
                })
            }
        });
        let renewed = token.clone();
        let mut builder = Client::builder(Plain, transport);
        if renews {
            builder = builder.renew_credentials(move || {
                renewed.store(1, Ordering::Relaxed);
                async { Ok::<_, &str>(()) }
            });
        }
        let client = builder.start().await.unwrap();
        client.submit(key("a"), "{}").await.unwrap().await.unwrap().outcome.name()
    };
    assert_eq!((run(false).await, run(true).await), ("unresolved", "completed"));
}
