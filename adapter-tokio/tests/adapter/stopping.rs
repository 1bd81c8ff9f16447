//! Who asks for something just as the client stops is told so, and does not wait for ever; who has stopped it may open
//! its store.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, Store, StoreError};
use steadfast_tokio::{Client, Delivery, ResumeError, SubmitError};
use tokio::runtime::{Builder, Handle};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::support::{Scripted, key};
use crate::webhooks::Telling;

/// Longer than anything takes here.
const WHILE: Duration = Duration::from_secs(10);

/// On threads: what somebody had begun to hand over as the loop ended was never taken out, and never dropped as long as
/// there was a client.
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
        let _ = client.clone().shutdown(Duration::ZERO).await;
        for asks in asking {
            timeout(WHILE, asks).await.unwrap_or_else(|_| panic!("round {round}: it waits for ever")).unwrap();
        }
    }
}

/// As above, where nothing is left that could take out what was handed over too late: the runtime went down, and with
/// it the loop.
#[test]
fn who_asks_while_the_runtime_goes_down_is_told_so() {
    let others = Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    for round in 0..1_000 {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let transport = Scripted::new(|_, _, _| async { std::future::pending().await });
        let client = runtime.block_on(Client::builder(Telling::new(), transport).start()).unwrap();
        let job = runtime.block_on(client.submit(key("order-42"), "{}")).unwrap();
        let job = Arc::new(job);
        let asking = (0..5).map(|asks| {
            let (client, job) = (client.clone(), job.clone());
            others.spawn(async move {
                let mut again = 0;
                let mut goes_on = async || {
                    again += 1;
                    match asks {
                        0 => client.submit(key(&format!("order-{again}")), "{}").await.is_ok(),
                        1 => !matches!(client.resume(key("order-0")).await, Err(ResumeError::Stopped)),
                        2 => {
                            let body = format!(r#"{{"reference":"txn-{again}","status":"ready"}}"#);
                            Telling::new().tell(&client, "msg", &body).await != Delivery::Stopped
                        }
                        3 => timeout(Duration::from_micros(50), job.accepted()).await.is_err(),
                        _ => {
                            let _ = client.clone().shutdown(Duration::MAX).await;
                            false
                        }
                    }
                };
                while goes_on().await {}
            })
        });
        let asking: Vec<_> = asking.collect();
        runtime.shutdown_background();
        others.block_on(async {
            for (asks, asked) in asking.into_iter().enumerate() {
                timeout(WHILE, asked).await.unwrap_or_else(|_| panic!("round {round}: {asks} waits for ever")).unwrap();
            }
        });
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
        self.ends.recv_timeout(WHILE).expect("others have their turn");
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

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
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
        let mut begun = spawn_blocking(move || begun.recv().unwrap());
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

/// As it was closed where tasks run, the whole of a runtime of one thread stood still meanwhile.
#[tokio::test]
async fn others_go_on_while_a_store_is_closed() {
    for shards in [1, 3] {
        let transport = Scripted::new(|_, _, _| async { std::future::pending().await });
        let ((begins, begun), (end, ends)) = (channel(), channel());
        let builder = Client::builder(Telling::new(), transport).shards(shards).store(Closing { begins, ends });
        let stops = tokio::spawn(builder.start().await.unwrap().shutdown(Duration::ZERO));
        let other = tokio::spawn(async move {
            while begun.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
            end.send(()).unwrap();
        });
        timeout(WHILE, async { (other.await.unwrap(), stops.await.unwrap()) }).await.expect("the store is closed");
    }
}

/// There may be one thread, and it waits for this.
#[test]
fn a_client_without_a_store_stops_though_the_pool_for_blocking_calls_is_full() {
    let runtime = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_all().build().unwrap();
    let stopped = runtime.block_on(async {
        let transport = Scripted::new(|_, _, _| async { std::future::pending().await });
        let client = Client::builder(Telling::new(), transport).start().await.unwrap();
        let here = Handle::current();
        timeout(WHILE, spawn_blocking(move || here.block_on(client.shutdown(Duration::ZERO)))).await
    });
    runtime.shutdown_background();
    stopped.expect("it stops").unwrap();
}

/// Writes until the transport is gone, and says when it is closed.
struct Writing {
    begins: Sender<()>,
    gone: Receiver<()>,
    is_closed: Arc<AtomicBool>,
}

impl Store for Writing {
    fn append(&mut self, _: &[Entry]) -> Result<(), StoreError> {
        self.begins.send(()).unwrap();
        let _ = self.gone.recv_timeout(WHILE);
        // Whoever does not wait for it is given time to be found out.
        (0..1_000).for_each(|_| std::thread::yield_now());
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

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_client_whose_runtime_goes_down_as_it_writes_is_shut_down_once_its_store_is_closed() {
    let others = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ((begins, begun), (goes, gone), is_closed) = (channel(), channel::<()>(), Arc::<AtomicBool>::default());
    // The loop has it, and nobody else.
    let transport = Scripted::new(move |_, _, _| {
        let _ = &goes;
        async { std::future::pending().await }
    });
    let store = Writing { begins, gone, is_closed: is_closed.clone() };
    let client = runtime.block_on(Client::builder(Telling::new(), transport).store(store).start()).unwrap();
    let submitting = client.clone();
    let submit = others.spawn(async move { submitting.submit(key("order-42"), "{}").await });
    begun.recv_timeout(WHILE).unwrap();
    let stops = others.spawn(client.shutdown(Duration::MAX));
    runtime.shutdown_background();
    others.block_on(async { timeout(WHILE, stops).await.expect("it stops").unwrap() });
    assert!(is_closed.load(Ordering::SeqCst));
    assert!(matches!(others.block_on(submit).unwrap(), Err(SubmitError::Stopped)));
}

/// As in a `select!` loop that goes on after the outcome: it was told, untruly, that the client had stopped.
#[tokio::test(start_paused = true)]
#[should_panic = "a handle was polled after it had given its job's outcome"]
async fn a_handle_that_has_given_its_outcome_says_nothing_of_its_client() {
    let client = Client::builder(Telling::new(), Scripted::well_behaved()).start().await.unwrap();
    let mut job = client.submit(key("order-42"), "{}").await.unwrap();
    (&mut job).await.unwrap();
    let again = (&mut job).await;
    assert!(again.is_ok(), "{client:?}, and it says {again:?}");
}

/// It started, and had stopped by the time of the first submit: why was in the log only.
#[test]
#[should_panic = "timers are disabled"]
fn a_client_does_not_start_on_a_runtime_without_a_timer() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let transport = Scripted::new(|_, _, _| async { std::future::pending().await });
    let client = runtime.block_on(Client::builder(Telling::new(), transport).start()).unwrap();
    let submitted = runtime.block_on(client.submit(key("order-42"), "{}"));
    assert!(submitted.is_ok(), "started, and {submitted:?}");
}
