//! May a retry be sent, or have there been too many already?
//!
//! When an upstream is in trouble, every client that tries three times sends it three times the load. A [`RetryBudget`] bounds that over all
//! calls together: it is a bucket of tokens, each retry costs some, and what goes well brings some back. While most calls succeed nobody
//! notices it; in an outage it runs dry, and retries stop while first attempts go on.
//!
//! ```text
//!  first attempt ──→ + per_request          good end of a first attempt ──→ + per_success
//!  time          ──→ + per_second           good end of a retry ──→ + what it cost, if `refunds`
//!  retry asked   ──→ − its cost, or refused if that would leave less than `keep`
//! ```
//!
//! The bucket is shared, so it holds nothing of any one call: what a retry cost is its [`Charge`], which the caller keeps and gives back with the
//! call's end. (The AWS SDK keeps it in the shared object; overlapping calls then lose tokens until none is left.)
//!
//! Three forms are ready: [`BudgetPolicy::aws`], [`BudgetPolicy::grpc`], and [`BudgetPolicy::ratio`] after Finagle, which is the default with its
//! numbers. Polls that say *pending* are no retries and never touch it.
//!
//! Invariants, each a property test: tokens stay between 0 and the capacity; retries granted never cost more than what was there at first and
//! came in since (R7); a call that has ended holds nothing (R8). Amounts are exact: whole millionths of a token.
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

use core::num::NonZeroU8;
use core::time::Duration;

use crate::policy::PolicyError;
use crate::retry::Class;
use crate::time::{Timestamp, nanos};

/// A token in the bucket's own unit.
const TOKEN: u64 = 1_000_000;

/// An amount of tokens, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "f64", into = "f64"))]
pub struct Tokens(u64);

impl Tokens {
    /// None.
    pub const ZERO: Self = Self(0);

    /// Whole tokens.
    #[must_use]
    pub const fn whole(count: u32) -> Self {
        Self((count as u64).saturating_mul(TOKEN))
    }

    /// Millionths of a token.
    #[must_use]
    pub const fn millionths(count: u64) -> Self {
        Self(count)
    }
}

impl TryFrom<f64> for Tokens {
    type Error = PolicyError;

    /// From a number as a person writes it: `0.1`. Refused below 0 and above four thousand million.
    fn try_from(tokens: f64) -> Result<Self, PolicyError> {
        if !(0.0..=f64::from(u32::MAX)).contains(&tokens) {
            return Err(PolicyError::new("budget.tokens", tokens, "a number from 0 to 4294967295"));
        }
        Ok(Self((tokens * TOKEN as f64 + 0.5) as u64))
    }
}

impl From<Tokens> for f64 {
    fn from(tokens: Tokens) -> Self {
        tokens.0 as Self / TOKEN as Self
    }
}

/// What a retry costs, in tokens, by what made it necessary. 1 to 255 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct Costs {
    /// After a transient failure.
    #[cfg_attr(feature = "serde", serde(default = "one"))]
    pub transient: NonZeroU8,
    /// After the upstream asked for a slower pace.
    #[cfg_attr(feature = "serde", serde(default = "one"))]
    pub throttled: NonZeroU8,
    /// After a time-out.
    #[cfg_attr(feature = "serde", serde(default = "one"))]
    pub timed_out: NonZeroU8,
}

/// What a file that names some costs leaves out.
#[cfg(feature = "serde")]
const fn one() -> NonZeroU8 {
    NonZeroU8::MIN
}

impl Costs {
    /// The same cost whatever happened.
    #[must_use]
    pub const fn all(cost: NonZeroU8) -> Self {
        Self { transient: cost, throttled: cost, timed_out: cost }
    }

    const fn of(&self, class: Class) -> NonZeroU8 {
        match class {
            Class::Throttled => self.throttled,
            Class::TimedOut => self.timed_out,
            // What is permanent is not retried; if it is, it costs as much as any.
            Class::Transient | Class::Permanent | Class::Unauthorized => self.transient,
        }
    }
}

/// The settings of a [`RetryBudget`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct BudgetPolicy {
    capacity: u32,
    initial: u32,
    keep: u32,
    costs: Costs,
    per_request: Tokens,
    per_success: Tokens,
    per_second: Tokens,
    refunds: bool,
}

impl BudgetPolicy {
    /// A bucket of `capacity` tokens, full at first, from which each retry takes one; nothing comes back until the other methods say so.
    ///
    /// # Errors
    /// A capacity of zero: without retries, set the retry policy's attempts to 1.
    pub fn new(capacity: u32) -> Result<Self, PolicyError> {
        Self {
            capacity,
            initial: capacity,
            keep: 0,
            costs: Costs::all(NonZeroU8::MIN),
            per_request: Tokens::ZERO,
            per_success: Tokens::ZERO,
            per_second: Tokens::ZERO,
            refunds: false,
        }
        .checked()
    }

    /// AWS's SDKs (standard mode 2.1): 500 tokens; a retry costs 14, or 5 after throttling, which its good end gives back; the good end of a
    /// first attempt brings 1.
    #[must_use]
    pub const fn aws() -> Self {
        const fn cost(tokens: u8) -> NonZeroU8 {
            NonZeroU8::MIN.saturating_add(tokens.saturating_sub(1))
        }
        Self {
            capacity: 500,
            initial: 500,
            keep: 0,
            costs: Costs { transient: cost(14), throttled: cost(5), timed_out: cost(14) },
            per_request: Tokens::ZERO,
            per_success: Tokens::whole(1),
            per_second: Tokens::ZERO,
            refunds: true,
        }
    }

    /// gRPC's (proposal A6): 10 tokens; a retry costs 1 and is refused where 5 or fewer would be left; every good end brings 0.1.
    #[must_use]
    pub const fn grpc() -> Self {
        Self {
            capacity: 10,
            initial: 10,
            keep: 6,
            costs: Costs::all(NonZeroU8::MIN),
            per_request: Tokens::ZERO,
            per_success: Tokens::millionths(TOKEN / 10),
            per_second: Tokens::ZERO,
            refunds: false,
        }
    }

    /// Finagle's: one retry for so many in a hundred first attempts, and this many a second besides, of which ten seconds' worth are there
    /// at first.
    ///
    /// # Errors
    /// Neither attempts nor time bring anything.
    pub fn ratio(percent: u8, per_second: u16) -> Result<Self, PolicyError> {
        let reserve = u32::from(per_second).saturating_mul(10);
        Self {
            // Room for the reserve, and for what ten seconds of a thousand attempts each may bring.
            capacity: reserve.saturating_add(u32::from(percent).saturating_mul(100)),
            initial: reserve,
            keep: 0,
            costs: Costs::all(NonZeroU8::MIN),
            per_request: Tokens::millionths(u64::from(percent).saturating_mul(TOKEN / 100)),
            per_success: Tokens::ZERO,
            per_second: Tokens::whole(per_second as u32),
            refunds: false,
        }
        .checked()
    }

    /// The same, holding at most `capacity` tokens and so many at first.
    ///
    /// # Errors
    /// A capacity of zero, or less than what is there at first.
    pub fn with_capacity(mut self, capacity: u32, initial: u32) -> Result<Self, PolicyError> {
        self.capacity = capacity;
        self.initial = initial;
        self.checked()
    }

    /// The same, refusing a retry that would leave fewer than `keep` tokens.
    ///
    /// # Errors
    /// More than the capacity: no retry would ever go.
    pub fn with_keep(mut self, keep: u32) -> Result<Self, PolicyError> {
        self.keep = keep;
        self.checked()
    }

    /// The same with these costs.
    ///
    /// # Errors
    /// All costs are above the capacity less what is kept: no retry would ever go.
    pub fn with_costs(mut self, costs: Costs) -> Result<Self, PolicyError> {
        self.costs = costs;
        self.checked()
    }

    /// The same, with so many tokens coming in for each first attempt.
    #[must_use]
    pub const fn with_per_request(mut self, tokens: Tokens) -> Self {
        self.per_request = tokens;
        self
    }

    /// The same, with so many tokens coming in for each good end.
    #[must_use]
    pub const fn with_per_success(mut self, tokens: Tokens) -> Self {
        self.per_success = tokens;
        self
    }

    /// The same, with so many tokens coming in each second.
    #[must_use]
    pub const fn with_per_second(mut self, tokens: Tokens) -> Self {
        self.per_second = tokens;
        self
    }

    /// The same, giving a retry's cost back (instead of what a good end brings) when it ends well.
    #[must_use]
    pub const fn with_refunds(mut self, refunds: bool) -> Self {
        self.refunds = refunds;
        self
    }

    /// The most tokens it holds.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// What it holds at first.
    #[must_use]
    pub const fn initial(&self) -> u32 {
        self.initial
    }

    /// What comes in for each first attempt.
    #[must_use]
    pub const fn per_request(&self) -> Tokens {
        self.per_request
    }

    /// What comes in for each good end.
    #[must_use]
    pub const fn per_success(&self) -> Tokens {
        self.per_success
    }

    /// What comes in each second.
    #[must_use]
    pub const fn per_second(&self) -> Tokens {
        self.per_second
    }

    /// What retries cost.
    #[must_use]
    pub const fn costs(&self) -> Costs {
        self.costs
    }

    fn checked(self) -> Result<Self, PolicyError> {
        if self.capacity == 0 {
            return Err(PolicyError::new(
                "budget.capacity",
                self.capacity,
                "at least 1; for no retries allow 1 attempt",
            ));
        }
        if self.initial > self.capacity {
            let expected = alloc::format!("at most the capacity, {}", self.capacity);
            return Err(PolicyError::new("budget.initial", self.initial, expected));
        }
        if self.keep >= self.capacity {
            let expected = alloc::format!("less than the capacity, {}, or no retry ever goes", self.capacity);
            return Err(PolicyError::new("budget.keep", self.keep, expected));
        }
        let Costs { transient, throttled, timed_out } = self.costs;
        let cheapest = u32::from(transient.min(throttled).min(timed_out).get());
        if self.keep.saturating_add(cheapest) > self.capacity {
            let expected = alloc::format!("some at most the capacity, {}, less what is kept", self.capacity);
            return Err(PolicyError::new("budget.costs", self.costs, expected));
        }
        Ok(self)
    }
}

impl Default for BudgetPolicy {
    /// [`BudgetPolicy::ratio`] with Finagle's and tower's numbers: one retry for five first attempts, and ten a second.
    fn default() -> Self {
        Self {
            capacity: 2_100,
            initial: 100,
            keep: 0,
            costs: Costs::all(NonZeroU8::MIN),
            per_request: Tokens(TOKEN / 5),
            per_success: Tokens::ZERO,
            per_second: Tokens::whole(10),
            refunds: false,
        }
    }
}

/// What one retry cost. Kept by whoever sends it, never by the budget.
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
    /// A budget with what is there at first. Time brings its share from the first use on.
    #[must_use]
    pub const fn new(policy: &BudgetPolicy) -> Self {
        Self { held: Tokens::whole(policy.initial).0, counted: Timestamp::EPOCH, rest: 0 }
    }

    /// Pays for one retry after a failure of this class.
    ///
    /// # Errors
    /// There is not enough; nothing was taken. It does not wait: what to do instead is the caller's affair.
    #[cfg_attr(feature = "no-panic", no_panic::no_panic)]
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

    /// A first attempt is being sent.
    pub fn first_attempt(&mut self, policy: &BudgetPolicy, now: Timestamp) {
        self.refill(policy, now);
        self.put(policy, policy.per_request.0);
    }

    /// A first attempt was not sent after all.
    pub fn first_attempt_unsent(&mut self, policy: &BudgetPolicy) {
        self.held = self.held.saturating_sub(policy.per_request.0);
    }

    /// A request ended well: a first attempt, or a retry that cost this.
    #[cfg_attr(feature = "no-panic", no_panic::no_panic)]
    pub fn succeeded(&mut self, policy: &BudgetPolicy, charge: Option<Charge>, now: Timestamp) {
        self.refill(policy, now);
        match charge {
            Some(charge) if policy.refunds => self.put(policy, Tokens::whole(charge.tokens().into()).0),
            Some(_) | None => self.put(policy, policy.per_success.0),
        }
    }

    /// A retry that had been paid for was never sent.
    pub fn refund(&mut self, policy: &BudgetPolicy, charge: Charge) {
        self.put(policy, Tokens::whole(charge.tokens().into()).0);
    }

    /// Brings a stored budget back at this time. What the time between has brought is there.
    #[must_use]
    pub fn restored(self, now: Timestamp) -> Self {
        Self { counted: self.counted.min(now), ..self }
    }

    /// Whole tokens there now.
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

    /// What it is with what time has brought. What is less than a millionth is kept for later, so that asking often loses nothing.
    fn refilled(&self, policy: &BudgetPolicy, now: Timestamp) -> Self {
        let capacity = Tokens::whole(policy.capacity).0;
        if self.counted == Timestamp::EPOCH {
            return Self { held: self.held.min(capacity), counted: now, rest: 0 };
        }
        let passed = u128::from(nanos(now.saturating_since(self.counted)));
        let brought = passed.saturating_mul(policy.per_second.0.into()).saturating_add(self.rest.into());
        let whole = u64::try_from(brought / SECOND).unwrap_or(u64::MAX);
        Self {
            held: self.held.saturating_add(whole).min(capacity),
            counted: self.counted.max(now),
            rest: (brought % SECOND) as u32,
        }
    }
}

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// A policy as it stands in a file, before it has been looked at. What is left out is as in [`BudgetPolicy::new`].
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    capacity: u32,
    initial: Option<u32>,
    #[serde(default)]
    keep: u32,
    costs: Option<Costs>,
    #[serde(default)]
    per_request: Tokens,
    #[serde(default)]
    per_success: Tokens,
    #[serde(default)]
    per_second: Tokens,
    #[serde(default)]
    refunds: bool,
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for BudgetPolicy {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        Self {
            capacity: it.capacity,
            initial: it.initial.unwrap_or(it.capacity),
            keep: it.keep,
            costs: it.costs.unwrap_or(Costs::all(NonZeroU8::MIN)),
            per_request: it.per_request,
            per_success: it.per_success,
            per_second: it.per_second,
            refunds: it.refunds,
        }
        .checked()
    }
}
