//! What a call that is well at once allocates: nothing.

use allocation_counter::measure;
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_tokio::{Breaker, RetryBudget, retry};

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
