//! A retry budget that many calls share.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steadfast_core::Timestamp;
use steadfast_core::budget::{self, BudgetPolicy, Charge, Tokens};
use steadfast_core::retry::Class;

use super::clock::SharedClock;

/// A retry budget, shared by tasks and threads: cloning is cheap and shares it.
///
/// The [machine](steadfast_core::budget) is the core's. What a retry cost is its [`Charge`], which the call keeps,
/// never the budget.
///
/// ```
/// use steadfast_core::budget::BudgetPolicy;
/// use steadfast_core::retry::Class;
/// use steadfast_driver::RetryBudget;
///
/// let budget = RetryBudget::new(BudgetPolicy::new(2)?);
/// assert!(budget.withdraw(Class::Transient).is_ok());
/// let charge = budget.withdraw(Class::Transient)?;
/// assert!(budget.withdraw(Class::Transient).is_err()); // spent: first attempts go on, retries do not
/// budget.refund(charge); // it was not sent after all
/// assert_eq!(budget.tokens(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RetryBudget(Arc<Shared>);

struct Shared {
    policy: BudgetPolicy,
    machine: Mutex<budget::RetryBudget>,
    clock: SharedClock,
}

/// There are not enough tokens for a retry. Do not send it, so that retries do not add to an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the retry budget is spent: the retry is not sent, so that retries do not add to an outage")]
#[non_exhaustive]
pub struct BudgetSpent {
    /// When time alone will have brought enough; [`Duration::MAX`] if time brings nothing.
    pub retry_in: Duration,
}

impl RetryBudget {
    /// A budget with its initial tokens.
    #[must_use]
    pub fn new(policy: BudgetPolicy) -> Self {
        let machine = budget::RetryBudget::new(&policy);
        Self::with_clock(policy, machine, SharedClock::start())
    }

    /// A budget that was stored ([`snapshot`](RetryBudget::snapshot)), with the settings it had.
    #[must_use]
    pub fn restored(policy: BudgetPolicy, machine: budget::RetryBudget) -> Self {
        Self::with_clock(policy, machine, SharedClock::start())
    }

    /// A budget, new or stored, that goes by another clock than the machine's own: a runtime's, or a test's.
    #[must_use]
    pub fn with_clock(policy: BudgetPolicy, machine: budget::RetryBudget, clock: SharedClock) -> Self {
        let machine = Mutex::new(machine.restored(clock.now()));
        Self(Arc::new(Shared { policy, machine, clock }))
    }

    /// Records that a first attempt is being sent.
    #[inline]
    pub fn first_attempt(&self) {
        if self.0.policy.per_request() > Tokens::ZERO {
            self.0.lock().first_attempt(&self.0.policy, self.0.clock.now());
        }
    }

    /// Records that a first attempt was not sent after all.
    pub fn first_attempt_unsent(&self) {
        self.0.lock().first_attempt_unsent(&self.0.policy);
    }

    /// Pays for one retry after a failure of this class.
    ///
    /// # Errors
    /// There are not enough tokens; nothing was taken.
    pub fn withdraw(&self, why: Class) -> Result<Charge, BudgetSpent> {
        let now = self.0.clock.now();
        self.0.lock().withdraw(&self.0.policy, why, now).map_err(|spent| BudgetSpent {
            retry_in: match spent.until {
                Timestamp::NEVER => Duration::MAX,
                until => until.saturating_since(now),
            },
        })
    }

    /// Records that a request ended well: a first attempt, or a retry with its charge.
    #[inline]
    pub fn succeeded(&self, charge: Option<Charge>) {
        if charge.is_some() || self.0.policy.per_success() > Tokens::ZERO {
            self.0.lock().succeeded(&self.0.policy, charge, self.0.clock.now());
        }
    }

    /// Gives back the charge of a retry that was never sent.
    pub fn refund(&self, charge: Charge) {
        self.0.lock().refund(&self.0.policy, charge);
    }

    /// The whole tokens that are there now.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.0.lock().tokens(&self.0.policy, self.0.clock.now())
    }

    /// The machine as it is now, to be stored.
    #[must_use]
    pub fn snapshot(&self) -> budget::RetryBudget {
        *self.0.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, budget::RetryBudget> {
        // Its steps do not panic, so a poisoned lock holds a whole machine.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget").field("tokens", &self.tokens()).field("policy", &self.0.policy).finish()
    }
}
