//! How large the bucket is, what comes in, and what a retry costs.

use core::num::NonZeroU8;

use crate::policy::PolicyError;
use crate::retry::Class;

/// A token in the bucket's own unit.
pub(super) const TOKEN: u64 = 1_000_000;

/// An amount of tokens, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "f64", into = "f64"))]
pub struct Tokens(pub(super) u64);

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

/// The cost where a file that names some costs leaves one out.
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

    pub(super) const fn of(&self, class: Class) -> NonZeroU8 {
        match class {
            Class::Throttled => self.throttled,
            Class::TimedOut => self.timed_out,
            // What is permanent is not retried; if it is, it costs as much as any.
            Class::Transient | Class::Permanent | Class::Unauthorized => self.transient,
        }
    }
}

/// The settings of a [`RetryBudget`](super::RetryBudget).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct BudgetPolicy {
    pub(super) capacity: u32,
    pub(super) initial: u32,
    pub(super) keep: u32,
    pub(super) costs: Costs,
    pub(super) per_request: Tokens,
    pub(super) per_success: Tokens,
    pub(super) per_second: Tokens,
    pub(super) refunds: bool,
}

impl BudgetPolicy {
    /// A bucket of `capacity` tokens, full at first, from which each retry takes one; nothing comes back until the
    /// other methods say so.
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

    /// AWS's SDKs (standard mode 2.1): 500 tokens; a retry costs 14, or 5 after throttling, which its good end gives
    /// back; the good end of a first attempt brings 1.
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

    /// gRPC's (proposal A6): 10 tokens; a retry costs 1 and is refused where 5 or fewer would be left; every good end
    /// brings 0.1.
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

    /// Finagle's: `percent` retries for a hundred first attempts, and `per_second` a second besides, of which ten
    /// seconds' worth are there at first. More than 100 percent allows more than one retry for each.
    ///
    /// # Errors
    /// Both are zero: nothing would ever come in.
    pub fn ratio(percent: u8, per_second: u16) -> Result<Self, PolicyError> {
        if percent == 0 && per_second == 0 {
            return Err(PolicyError::new("budget.percent", percent, "at least 1 where nothing comes by the second"));
        }
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

    /// Sets how many tokens it holds at most, and how many at first.
    ///
    /// # Errors
    /// A capacity of zero, or one below what is there at first. Also one that is not above what is
    /// [kept](BudgetPolicy::with_keep), or in which no retry finds its cost beside that: none would ever go.
    pub fn with_capacity(mut self, capacity: u32, initial: u32) -> Result<Self, PolicyError> {
        self.capacity = capacity;
        self.initial = initial;
        self.checked()
    }

    /// Refuses a retry that would leave fewer than `keep` tokens.
    ///
    /// # Errors
    /// As much as the capacity or more, or so much that what is left is below the cost of any retry: none would ever
    /// go.
    pub fn with_keep(mut self, keep: u32) -> Result<Self, PolicyError> {
        self.keep = keep;
        self.checked()
    }

    /// Sets what retries cost.
    ///
    /// # Errors
    /// All costs are above the capacity less what is kept: no retry would ever go. If only one is, as in a small
    /// bucket with botocore's costs, no retry of its kind goes.
    pub fn with_costs(mut self, costs: Costs) -> Result<Self, PolicyError> {
        self.costs = costs;
        self.checked()
    }

    /// Sets how many tokens come in for each first attempt.
    #[must_use]
    pub const fn with_per_request(mut self, tokens: Tokens) -> Self {
        self.per_request = tokens;
        self
    }

    /// Sets how many tokens come in for each good end.
    #[must_use]
    pub const fn with_per_success(mut self, tokens: Tokens) -> Self {
        self.per_success = tokens;
        self
    }

    /// Sets how many tokens come in each second.
    #[must_use]
    pub const fn with_per_second(mut self, tokens: Tokens) -> Self {
        self.per_second = tokens;
        self
    }

    /// Sets whether a retry that ends well gets its cost back (instead of what a good end brings).
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

    /// How many tokens a retry must leave.
    #[must_use]
    pub const fn keep(&self) -> u32 {
        self.keep
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

/// A policy as written in a file, before it has been checked. What is left out is as in [`BudgetPolicy::new`].
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
