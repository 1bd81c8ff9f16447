//! May a retry be sent, or have there been too many already?
//!
//! When an upstream is in trouble, every client that tries three times sends it three times the load. A [`RetryBudget`]
//! bounds that over all calls together: it is a bucket of tokens, each retry costs some, and what goes well brings some
//! back. While most calls succeed nobody notices it; in an outage it runs dry, and retries stop while first attempts go
//! on.
//!
//! ```text
//!  first attempt ──→ + per_request          good end of a first attempt ──→ + per_success
//!  time          ──→ + per_second           good end of a retry ──→ + what it cost, if `refunds`
//!  retry asked   ──→ − its cost, or refused if that would leave less than `keep`
//! ```
//!
//! The bucket is shared, so it holds nothing of any one call: what a retry cost is its [`Charge`], which the caller
//! keeps and gives back when the call ends. (The AWS SDK keeps it in the shared object; overlapping calls then lose
//! tokens until none is left.)
//!
//! Three forms are ready: [`BudgetPolicy::aws`], [`BudgetPolicy::grpc`], and [`BudgetPolicy::ratio`] after Finagle,
//! which is the default with its numbers. Polls that say *pending* are no retries and never touch it.
//!
//! Invariants, each a property test: tokens stay between 0 and the capacity; retries granted never cost more than what
//! was there at first and came in since (R7); a call that has ended holds nothing (R8). Amounts are exact: whole
//! millionths of a token.
//!
//! ```
//! use steadfast_core::Timestamp;
//! use steadfast_core::budget::{BudgetPolicy, RetryBudget};
//! use steadfast_core::retry::Class;
//!
//! let policy = BudgetPolicy::aws();
//! let mut budget = RetryBudget::new(&policy);
//! let now = Timestamp::from_secs(1_700_000_000);
//! let charge = budget.withdraw(&policy, Class::Transient, now).expect("there are 500 tokens");
//! assert_eq!(budget.tokens(&policy, now), 486);
//! budget.succeeded(&policy, Some(charge), now);
//! assert_eq!(budget.tokens(&policy, now), 500);
//! ```

mod policy;

pub use self::policy::{BudgetPolicy, Costs, Tokens};

use core::num::NonZeroU8;
use core::time::Duration;

use self::policy::TOKEN;
use crate::retry::Class;
use crate::time::{Timestamp, nanos};

/// What one retry cost. The sender of the retry keeps it, never the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
#[must_use = "its good end gives the charge back"]
pub struct Charge(NonZeroU8);

impl Charge {
    /// In tokens.
    #[must_use]
    pub const fn tokens(self) -> u8 {
        self.0.get()
    }

    pub(crate) const fn of(tokens: u8) -> Option<Self> {
        match NonZeroU8::new(tokens) {
            Some(tokens) => Some(Self(tokens)),
            None => None,
        }
    }
}

/// There are not enough tokens for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the retry budget is spent: the retry is not sent, so that retries do not add to an outage")]
#[non_exhaustive]
pub struct Exhausted {
    /// When time alone will have brought enough; [`Timestamp::NEVER`] if time brings nothing.
    pub until: Timestamp,
}

/// A bucket of tokens for retries; 24 bytes. See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RetryBudget {
    held: u64,
    /// Up to when time has brought what it brings.
    counted: Timestamp,
    /// What it has brought of the next millionth, in billionths of that.
    rest: u32,
}

impl RetryBudget {
    /// A budget with its initial tokens. Tokens that come with time are counted from the first use on.
    #[must_use]
    pub const fn new(policy: &BudgetPolicy) -> Self {
        Self { held: Tokens::whole(policy.initial).0, counted: Timestamp::EPOCH, rest: 0 }
    }

    /// Pays for one retry after a failure of this class.
    ///
    /// # Errors
    /// There are not enough tokens; nothing was taken. It does not wait: what to do instead is up to the caller.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn withdraw(&mut self, policy: &BudgetPolicy, why: Class, now: Timestamp) -> Result<Charge, Exhausted> {
        self.refill(policy, now);
        self.check(policy, why, now)?;
        let cost = policy.costs.of(why);
        self.held = self.held.saturating_sub(Tokens::whole(cost.get().into()).0);
        Ok(Charge(cost))
    }

    /// What [`withdraw`](RetryBudget::withdraw) would say; nothing changes.
    ///
    /// # Errors
    /// As [`withdraw`](RetryBudget::withdraw).
    pub fn check(&self, policy: &BudgetPolicy, why: Class, now: Timestamp) -> Result<(), Exhausted> {
        let cost = u32::from(policy.costs.of(why).get());
        let needed = Tokens::whole(policy.keep.saturating_add(cost)).0;
        let held = self.refilled(policy, now).held;
        match needed.checked_sub(held) {
            None | Some(0) => Ok(()),
            // More than it can ever hold.
            Some(_) if needed > Tokens::whole(policy.capacity).0 => Err(Exhausted { until: Timestamp::NEVER }),
            Some(lacking) => {
                let wait = u128::from(lacking).saturating_mul(1_000_000_000).checked_div(policy.per_second.0.into());
                let wait = wait.map_or(u64::MAX, |wait| u64::try_from(wait).unwrap_or(u64::MAX)).saturating_add(1);
                Err(Exhausted { until: now.saturating_add(Duration::from_nanos(wait)) })
            }
        }
    }

    /// Records that a first attempt is being sent.
    pub fn first_attempt(&mut self, policy: &BudgetPolicy, now: Timestamp) {
        self.refill(policy, now);
        self.put(policy, policy.per_request.0);
    }

    /// Records that a first attempt was not sent after all.
    pub fn first_attempt_unsent(&mut self, policy: &BudgetPolicy) {
        self.held = self.held.saturating_sub(policy.per_request.0);
    }

    /// Records that a request ended well: a first attempt, or a retry with its charge.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn succeeded(&mut self, policy: &BudgetPolicy, charge: Option<Charge>, now: Timestamp) {
        self.refill(policy, now);
        match charge {
            Some(charge) if policy.refunds => self.put(policy, Tokens::whole(charge.tokens().into()).0),
            Some(_) | None => self.put(policy, policy.per_success.0),
        }
    }

    /// Gives back the charge of a retry that was never sent.
    pub fn refund(&mut self, policy: &BudgetPolicy, charge: Charge) {
        self.put(policy, Tokens::whole(charge.tokens().into()).0);
    }

    /// Restores a stored budget at this time, with what the time between has brought.
    #[must_use]
    pub fn restored(self, now: Timestamp) -> Self {
        Self { counted: self.counted.min(now), ..self }
    }

    /// The whole tokens that are there now.
    #[must_use]
    pub fn tokens(&self, policy: &BudgetPolicy, now: Timestamp) -> u32 {
        u32::try_from(self.refilled(policy, now).held.checked_div(TOKEN).unwrap_or_default()).unwrap_or(u32::MAX)
    }

    fn put(&mut self, policy: &BudgetPolicy, amount: u64) {
        self.held = self.held.saturating_add(amount).min(Tokens::whole(policy.capacity).0);
    }

    fn refill(&mut self, policy: &BudgetPolicy, now: Timestamp) {
        *self = self.refilled(policy, now);
    }

    /// Its state with what time has brought. What is less than a millionth is kept for later, so that asking often
    /// loses nothing.
    fn refilled(&self, policy: &BudgetPolicy, now: Timestamp) -> Self {
        let capacity = Tokens::whole(policy.capacity).0;
        if self.counted == Timestamp::EPOCH {
            return Self { held: self.held.min(capacity), counted: now, rest: 0 };
        }
        let passed = u128::from(nanos(now.saturating_since(self.counted)));
        let brought = passed.saturating_mul(policy.per_second.0.into()).saturating_add(self.rest.into());
        let whole = u64::try_from(brought / SECOND).unwrap_or(u64::MAX);
        let held = self.held.saturating_add(whole).min(capacity);
        // A full one keeps nothing beyond its size, however little.
        let rest = if held == capacity { 0 } else { (brought % SECOND) as u32 };
        Self { held, counted: self.counted.max(now), rest }
    }
}

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;
