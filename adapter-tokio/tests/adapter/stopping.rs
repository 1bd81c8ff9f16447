//! Who asks for something just as the client stops is told so, and does not wait for ever; who has stopped it may open its store.

use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, Store, StoreError};
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

/// A store that is being closed until somebody says that it is.
struct Closing {
    begins: Sender<()>,
    ends: Receiver<()>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.begins.send(()).unwrap();
        self.ends.recv().unwrap();
    }
}

impl Store for Closing {
    fn append(&mut self, _: &[Entry]) -> Result<(), StoreError> {
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(Vec::new())
    }

    fn find(&mut self, _: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }

    fn forget(&mut self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

/// Whoever opened it again just after a shutdown was told now and then that somebody has it open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_shut_down_has_closed_its_store() {
    for shards in [1, 3] {
        let transport = Scripted::new(|_, _, _| async { std::future::pending().await });
        let ((begins, begun), (end, ends)) = (channel(), channel());
        let builder = Client::builder(Telling::new(), transport).shards(shards).store(Closing { begins, ends });
        let client = builder.start().await.unwrap();
        let other = client.clone();
        let (mut stops, mut too) = (pin!(client.shutdown(Duration::ZERO)), pin!(other.shutdown(Duration::ZERO)));
        let mut begun = tokio::task::spawn_blocking(move || begun.recv().unwrap());
        tokio::select! {
            biased;
            _ = &mut stops => panic!("the store is not closed"),
            begun = &mut begun => begun.unwrap(),
        }
        for early in [timeout(Duration::ZERO, &mut stops).await, timeout(Duration::ZERO, &mut too).await] {
            assert!(early.is_err(), "{shards} shards: the store is still being closed");
        }
        end.send(()).unwrap();
        timeout(WHILE, async { (stops.await, too.await) }).await.unwrap();
    }
}
