//! What a client costs that has nothing to do: a service may have hundreds of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Builder;

use steadfast_tokio::Client;

use crate::support::{Plain, Scripted};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_client_that_has_no_jobs_does_not_wake() {
    let parked = |clients: usize| {
        let parked = Arc::new(AtomicUsize::new(0));
        let parks = parked.clone();
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all().start_paused(true).on_thread_park(move || {
            parks.fetch_add(1, Ordering::Relaxed);
        });
        runtime.build().unwrap().block_on(async {
            let mut idle = Vec::new();
            for _ in 0..clients {
                idle.push(Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap());
            }
            tokio::time::sleep(HOUR).await;
            let begun = parked.load(Ordering::Relaxed);
            tokio::time::sleep(HOUR).await;
            parked.load(Ordering::Relaxed) - begun
        })
    };
    assert_eq!(parked(3), parked(0));
}
