//! The settings of a gate.

use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use crate::breaker::BreakerPolicy;
use crate::budget::BudgetPolicy;
use crate::bulkhead::BulkheadPolicy;
use crate::operation::Kind;
#[cfg(feature = "serde")]
use crate::policy::PolicyError;
use crate::rate_limit::{Quota, RatePolicy};

/// A set of request kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "Vec<Kind>", into = "Vec<Kind>")
)]
pub struct Kinds(u8);

impl Kinds {
    /// All kinds.
    pub const ALL: Self = Self(0b111);

    /// No kind.
    pub const NONE: Self = Self(0);

    /// The set of these kinds.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |bits, kind| bits | bit(*kind)))
    }

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | bit(kind))
    }

    /// This set without `kind`.
    #[must_use]
    pub const fn without(self, kind: Kind) -> Self {
        Self(self.0 & !bit(kind))
    }

    /// Whether `kind` is in this set.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & bit(kind) != 0
    }
}

const fn bit(kind: Kind) -> u8 {
    match kind {
        Kind::Create => 1,
        Kind::Lookup => 2,
        Kind::Poll => 4,
    }
}

impl From<Vec<Kind>> for Kinds {
    fn from(kinds: Vec<Kind>) -> Self {
        Self::of(&kinds)
    }
}

impl From<Kinds> for Vec<Kind> {
    fn from(kinds: Kinds) -> Self {
        [Kind::Create, Kind::Lookup, Kind::Poll].into_iter().filter(|kind| kinds.contains(*kind)).collect()
    }
}

/// One of a provider's rate limits: which requests it counts, and how many of them it allows.
///
/// A provider that names its count and its window in its answers is believed: each limit of that window takes the
/// count, whether it is higher or lower ([`Gate::learn`](super::Gate::learn)). So do not write one process's share
/// here, which the first answer would overwrite: say how many processes share the limit, by
/// [`GatePolicy::with_replicas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct RateLimit {
    /// Which requests. In a file a list such as `["create"]`, which must not be empty; all if left out.
    #[cfg_attr(feature = "serde", serde(default = "RateLimit::all", deserialize_with = "RateLimit::some"))]
    pub kinds: Kinds,
    /// How many of them.
    pub rate: RatePolicy,
}

impl RateLimit {
    pub(super) fn divided_among(self, replicas: NonZeroU32) -> Self {
        Self { rate: self.rate.divided_among(replicas), ..self }
    }

    /// Adopts the provider's count, if the request is of a kind that this limit counts and the window has the same
    /// length. Returns whether the count changed.
    pub(super) fn learn(&mut self, kind: Kind, quota: Quota) -> bool {
        let (Some(count), Some(window)) = (quota.limit.and_then(NonZeroU32::new), quota.window) else { return false };
        let is_this = self.kinds.contains(kind) && self.rate.per() == window;
        let learnt = self.rate.with_count(count);
        let changes = is_this && learnt != self.rate;
        if changes {
            self.rate = learnt;
        }
        changes
    }
}

#[cfg(feature = "serde")]
impl RateLimit {
    const fn all() -> Kinds {
        Kinds::ALL
    }

    /// A limit that is written down is meant to apply, so its list of kinds must not be empty.
    fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Kinds, D::Error> {
        let kinds = <Vec<Kind> as serde::Deserialize>::deserialize(deserializer)?;
        if kinds.is_empty() {
            let expected = "at least one of create, lookup and poll, or left out for all";
            return Err(serde::de::Error::custom(PolicyError::new("rate_limits.kinds", kinds, expected)));
        }
        Ok(Kinds::of(&kinds))
    }
}

/// What happens to requests while the breaker is open or isolated. While it probes they wait in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WhenOpen {
    /// They wait, against their own deadlines. Right for jobs, which have minutes; the default.
    #[default]
    Wait,
    /// They are refused at once. An operation that has sent nothing then ends as *rejected*; one that is under way
    /// waits all the same, since giving up would lose a job that may be running.
    Refuse,
}

/// Which machines a [`Gate`](super::Gate) has, with their settings.
///
/// The default has a breaker, a retry budget and a bulkhead with their own defaults, and no rate limit: those depend
/// on the provider. In a file each of the three may be `"none"`.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::breaker::BreakerPolicy;
/// use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
/// use steadfast_core::rate_limit::RatePolicy;
///
/// let second = RatePolicy::new(5, Duration::from_secs(1))?;
/// let minute = RatePolicy::new(500, Duration::from_secs(60))?.with_burst(10)?;
/// let policy = GatePolicy::default()
///     .with_breaker(Some(BreakerPolicy::consecutive(5)?))
///     .with_rate_limit(RateLimit { kinds: Kinds::ALL, rate: second })
///     .with_rate_limit(RateLimit { kinds: Kinds::ALL, rate: minute });
/// assert_eq!(policy.rate_limits().len(), 2);
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct GatePolicy {
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::or_none"))]
    breaker: Option<BreakerPolicy>,
    when_open: WhenOpen,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::or_none"))]
    budget: Option<BudgetPolicy>,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::or_none"))]
    bulkhead: Option<BulkheadPolicy>,
    rate_limits: Vec<RateLimit>,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    longest_pause: Duration,
    replicas: NonZeroU32,
}

impl GatePolicy {
    /// A policy without any machine.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            breaker: None,
            when_open: WhenOpen::Wait,
            budget: None,
            bulkhead: None,
            rate_limits: Vec::new(),
            longest_pause: Duration::from_secs(3_600),
            replicas: NonZeroU32::MIN,
        }
    }

    /// Sets the breaker, or removes it.
    #[must_use]
    pub fn with_breaker(mut self, breaker: Option<BreakerPolicy>) -> Self {
        self.breaker = breaker;
        self
    }

    /// Sets what happens to requests while the breaker is open.
    #[must_use]
    pub const fn with_when_open(mut self, when_open: WhenOpen) -> Self {
        self.when_open = when_open;
        self
    }

    /// Sets the retry budget, or removes it.
    #[must_use]
    pub fn with_budget(mut self, budget: Option<BudgetPolicy>) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the bulkhead, or removes it.
    #[must_use]
    pub fn with_bulkhead(mut self, bulkhead: Option<BulkheadPolicy>) -> Self {
        self.bulkhead = bulkhead;
        self
    }

    /// Adds a rate limit. One of [`Kinds::NONE`] limits nothing, and is left out.
    #[must_use]
    pub fn with_rate_limit(mut self, limit: RateLimit) -> Self {
        if limit.kinds != Kinds::NONE {
            self.rate_limits.push(limit);
        }
        self
    }

    /// Removes all rate limits: for a provider's ready-made gate, if your account has other limits.
    ///
    /// ```
    /// use core::time::Duration;
    /// use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
    /// use steadfast_core::rate_limit::RatePolicy;
    ///
    /// let slow = RateLimit { kinds: Kinds::ALL, rate: RatePolicy::new(1, Duration::from_secs(1))? };
    /// let fast = RateLimit { kinds: Kinds::ALL, rate: RatePolicy::new(50, Duration::from_secs(1))? };
    /// let preset = GatePolicy::default().with_rate_limit(slow);
    /// assert_eq!(preset.without_rate_limits().with_rate_limit(fast).rate_limits(), [fast]);
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    #[must_use]
    pub fn without_rate_limits(mut self) -> Self {
        self.rate_limits.clear();
        self
    }

    /// Sets how long a 429's `Retry-After` can hold the gate at most, however much it asks for. Default an hour.
    #[must_use]
    pub const fn with_longest_pause(mut self, longest: Duration) -> Self {
        self.longest_pause = longest;
        self
    }

    /// Sets how many processes send requests under the same limits, this one included: replicas of a service, under one
    /// API key. Default 1.
    ///
    /// Each process then keeps to its [part](RatePolicy::divided_among): of every rate limit, whether it is set here or
    /// named by the provider's answers, and of what such an answer says is left. The parts are equal and rounded down,
    /// so what one process does not need of a limit is not used by the others, and where an answer leaves fewer
    /// requests than there are processes, all wait until the provider's window ends. A burst is divided too, but each
    /// process may send one request at once: `replicas` of them may leave together, however small the burst.
    ///
    /// The other machines are for this process alone: it has its own breaker, budget and bulkhead. Settings that
    /// replace these need the number again.
    ///
    /// ```
    /// use core::num::NonZeroU32;
    /// use core::time::Duration;
    /// use steadfast_core::gate::{Admission, Gate, GatePolicy, Kinds, RateLimit, Request};
    /// use steadfast_core::rate_limit::RatePolicy;
    /// use steadfast_core::{Kind, Seed, Timestamp};
    ///
    /// let minute = RatePolicy::new(600, Duration::from_secs(60))?; // one each 100 ms, for all
    /// let policy = GatePolicy::none().with_rate_limit(RateLimit { kinds: Kinds::ALL, rate: minute });
    /// let four = NonZeroU32::new(4).expect("it is not zero");
    /// let mut gate = Gate::new(policy.with_replicas(four), Seed::new(1));
    /// let now = Timestamp::from_secs(1_700_000_000);
    /// assert!(matches!(gate.admit(Request::first(Kind::Poll), now), Admission::Go(_)));
    /// let Admission::Wait(no) = gate.admit(Request::first(Kind::Poll), now) else { panic!("it has had its part") };
    /// assert_eq!(no.until, now.saturating_add(Duration::from_millis(400)));
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    #[must_use]
    pub const fn with_replicas(mut self, replicas: NonZeroU32) -> Self {
        self.replicas = replicas;
        self
    }

    /// The breaker.
    #[must_use]
    pub const fn breaker(&self) -> Option<&BreakerPolicy> {
        self.breaker.as_ref()
    }

    /// What happens while it is open.
    #[must_use]
    pub const fn when_open(&self) -> WhenOpen {
        self.when_open
    }

    /// The retry budget.
    #[must_use]
    pub const fn budget(&self) -> Option<&BudgetPolicy> {
        self.budget.as_ref()
    }

    /// The bulkhead.
    #[must_use]
    pub const fn bulkhead(&self) -> Option<&BulkheadPolicy> {
        self.bulkhead.as_ref()
    }

    /// The rate limits, whole.
    #[must_use]
    pub fn rate_limits(&self) -> &[RateLimit] {
        &self.rate_limits
    }

    /// The longest pause that a provider can ask for.
    #[must_use]
    pub const fn longest_pause(&self) -> Duration {
        self.longest_pause
    }

    /// How many processes share the rate limits.
    #[must_use]
    pub const fn replicas(&self) -> NonZeroU32 {
        self.replicas
    }

    /// This process's part of each rate limit. Worked out anew each time, by a few divisions: what a provider names is
    /// the whole, and a stored gate keeps that alone.
    pub(super) fn shares(&self) -> impl Iterator<Item = RateLimit> {
        self.rate_limits.iter().map(|limit| limit.divided_among(self.replicas))
    }

    pub(super) fn rate_limits_mut(&mut self) -> &mut [RateLimit] {
        &mut self.rate_limits
    }
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self::none()
            .with_breaker(Some(BreakerPolicy::default()))
            .with_budget(Some(BudgetPolicy::default()))
            .with_bulkhead(Some(BulkheadPolicy::default()))
    }
}
