//! Who asks for something just as the client stops is told so, and does not wait for ever.

use std::time::Duration;

use steadfast_tokio::{Client, Delivery, SubmitError};
use tokio::time::timeout;

use crate::support::{Scripted, key};
use crate::webhooks::Telling;

/// Longer than anything takes here.
const WHILE: Duration = Duration::from_secs(10);

/// On threads: what somebody had begun to hand over as the loop ended was never taken out, and never dropped as long as there was a client.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_asks_while_the_client_stops_is_told_so() {
    for round in 0..3_000 {
        let transport = Scripted::new(|_, _, _| async { std::future::pending().await });
        let client = Client::builder(Telling::new(), transport).start().await.unwrap();
        let submits = (0..3).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                for again in 0.. {
                    match client.submit(key(&format!("order-{n}-{again}")), "{}").await {
                        Ok(_) => {}
                        Err(SubmitError::Stopped) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        let delivers = (0..3).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let body = format!(r#"{{"reference":"txn-{n}","status":"ready"}}"#);
                while Telling::new().tell(&client, &format!("msg-{n}"), &body).await != Delivery::Stopped {}
            })
        });
        let asking: Vec<_> = submits.chain(delivers).collect();
        tokio::task::yield_now().await;
        client.clone().shutdown(Duration::ZERO).await;
        for asks in asking {
            timeout(WHILE, asks).await.unwrap_or_else(|_| panic!("round {round}: it waits for ever")).unwrap();
        }
    }
}
