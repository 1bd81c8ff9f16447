//! What a call that is well at once allocates: nothing.

use allocation_counter::measure;
use steadfast_blocking::{Breaker, RetryBudget, retry};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::retry::RetryPolicy;

#[test]
fn a_call_that_is_well_at_once_allocates_nothing() {
    let policy = RetryPolicy::default();
    let (breaker, budget) = (Breaker::new(BreakerPolicy::default()), RetryBudget::new(BudgetPolicy::default()));
    let calls = |count: u32| {
        for n in 0..count {
            assert_eq!(retry(&policy).call(|| Ok::<_, ()>(n)).unwrap(), n);
            assert_eq!(retry(&policy).breaker(&breaker).budget(&budget).call(|| Ok::<_, ()>(n)).unwrap(), n);
        }
    };
    calls(10); // what is made once
    let allocated = measure(|| calls(100));
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}
