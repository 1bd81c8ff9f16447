//! What a call that is well at once allocates: nothing. And what a client does that has no jobs: little.

use allocation_counter::measure;
use bytes::Bytes;
use http::Response;
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_providers::BaseUrl;
use steadfast_providers::didit::Didit;
use steadfast_tokio::{Breaker, Client, Outgoing, RetryBudget, SendError, Transport, retry};

#[test]
fn a_call_that_is_well_at_once_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let policy = RetryPolicy::default();
    let (breaker, budget) = (Breaker::new(BreakerPolicy::default()), RetryBudget::new(BudgetPolicy::default()));
    runtime.block_on(async {
        let calls = |count: u32| {
            let (policy, breaker, budget) = (&policy, &breaker, &budget);
            async move {
                for n in 0..count {
                    assert_eq!(retry(policy).run(|| async { Ok::<_, ()>(n) }).await.unwrap(), n);
                    let handled = retry(policy).breaker(breaker).budget(budget);
                    assert_eq!(handled.run(|| async { Ok::<_, ()>(n) }).await.unwrap(), n);
                }
            }
        };
        calls(10).await; // what is made once
        let mut counted = std::pin::pin!(calls(100));
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        let allocated = measure(|| assert!(Future::poll(counted.as_mut(), context).is_ready()));
        assert_eq!(allocated.count_total, 0, "{allocated:?}");
    });
}

struct Silent;

impl Transport for Silent {
    async fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        std::future::pending().await
    }
}

/// A service may have a client for each of its tenants, and most of them are quiet.
#[test]
fn a_client_without_jobs_holds_little_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = Didit::new(BaseUrl::parse(Didit::PRODUCTION).unwrap(), "key").unwrap();
    let builder = Client::builder(provider, Silent);
    let mut client = None;
    let allocated = measure(|| {
        client = runtime.block_on(async {
            let started = builder.start().await.unwrap();
            // Its loop has its first turn, and waits.
            tokio::task::yield_now().await;
            Some(started)
        });
    });
    assert!(client.is_some() && allocated.bytes_current < 64 << 10, "{allocated:?}");
}
