//! Turns: what callers who take none leave to others.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use steadfast_tokio::{Client, Delivery};
use tokio::time::timeout;

use crate::support::{Plain, Scripted, key};
use crate::webhooks::Telling;

const HOUR: Duration = Duration::from_secs(3_600);

/// Polls a future once, and never again for as long as it is kept.
fn polled_once<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    future
}

/// A stream of buffered futures polls none of them while its own loop awaits something else. Those stood in a line for
/// the way to the driver, and everybody behind them waited for ever.
#[tokio::test(start_paused = true)]
async fn submits_that_are_polled_no_more_hold_up_no_other() {
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    let held: Vec<_> = (0..300).map(|n| polled_once(client.submit(key(&format!("order-{n}")), "{}"))).collect();
    let other = timeout(HOUR, client.submit(key("other"), "{}")).await.expect("it waits for none of them").unwrap();
    other.await.unwrap();
    for submit in held {
        drop(submit.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn webhooks_whose_senders_are_polled_no_more_hold_up_no_other() {
    let client = Client::builder(Telling::new(), Scripted::well_behaved()).start().await.unwrap();
    let told = Telling::new();
    let (ids, body) =
        ((0..300).map(|n| format!("msg-{n}")).collect::<Vec<_>>(), r#"{"reference":"txn","status":"ready"}"#);
    let held: Vec<_> = ids.iter().map(|id| polled_once(told.tell(&client, id, body))).collect();
    let other = timeout(HOUR, told.tell(&client, "other", body)).await.expect("it waits for none of them");
    assert_ne!(other, Delivery::Stopped);
    for tell in held {
        assert_ne!(tell.await, Delivery::Stopped);
    }
}
