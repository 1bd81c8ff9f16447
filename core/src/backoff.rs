//! How long to wait before trying again.
//!
//! A [`BackoffPolicy`] answers one question, [`delay`](BackoffPolicy::delay): how long before retry number *n*? The
//! answer is a pure function of policy, seed and *n*: no iterator to clone, no state to lose in a restart.
//!
//! ```text
//! growth (fixed, linear, exponential, Fibonacci, table) → cap → jitter inside the cap → delay
//! ```
//!
//! Invariants, each a property test: no delay exceeds the cap, jitter included (I1); the same policy, seed and number
//! give the same delay (I13); jitter still spreads once the cap is reached, so that a thousand clients do not come back
//! in step.
//!
//! All arithmetic is in whole nanoseconds and saturates: no exponent, factor or retry number overflows, and a delay
//! below a millisecond does not round to nothing.

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use crate::policy::PolicyError;
use crate::seed::Seed;
use crate::time::nanos;

/// How delays grow with the number of the retry. The first retry waits the first delay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum Growth {
    /// Always the same. `Duration::ZERO` means at once.
    Fixed(#[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))] Duration),
    /// `first`, `first + step`, `first + 2 step`, …
    Linear {
        /// The first delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        first: Duration,
        /// What each further delay adds.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        step: Duration,
    },
    /// `first`, `first × factor`, `first × factor²`, …
    Exponential {
        /// The first delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        first: Duration,
        /// What each further delay is multiplied by.
        factor: Factor,
    },
    /// `first` × 1, 1, 2, 3, 5, 8, …
    Fibonacci {
        /// The unit, which is also the first delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        first: Duration,
    },
    /// These delays in order; the last one again and again.
    Table(#[cfg_attr(feature = "serde", serde(with = "table"))] Box<[Duration]>),
}

impl Growth {
    /// Exponential with factor 2, the field's usual growth (AWS, gRPC, Google and Stripe all double or nearly so).
    #[must_use]
    pub const fn doubling(first: Duration) -> Self {
        Self::Exponential { first, factor: Factor::DOUBLE }
    }

    /// Delay number `n` (from 1) before cap and jitter.
    fn nth(&self, n: u32) -> u64 {
        let n = n.max(1);
        match self {
            Self::Fixed(delay) => nanos(*delay),
            Self::Linear { first, step } => {
                nanos(*first).saturating_add(nanos(*step).saturating_mul(u64::from(n.saturating_sub(1))))
            }
            Self::Exponential { first, factor } => factor.raise(nanos(*first), n.saturating_sub(1)),
            Self::Fibonacci { first } => nanos(*first).saturating_mul(fibonacci(n)),
            Self::Table(delays) => {
                let at = usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
                nanos(delays.get(at).or_else(|| delays.last()).copied().unwrap_or_default())
            }
        }
    }

    /// Whether the delay stays above zero however often it is asked for, as anything that must pause between tries
    /// needs. For a table, the last delay decides.
    pub(crate) fn rests(&self) -> bool {
        match self {
            Self::Table(delays) => delays.last().is_some_and(|last| !last.is_zero()),
            Self::Fixed(_) | Self::Linear { .. } | Self::Exponential { .. } | Self::Fibonacci { .. } => {
                !self.largest_configured().is_zero()
            }
        }
    }

    fn largest_configured(&self) -> Duration {
        match self {
            Self::Fixed(first)
            | Self::Linear { first, .. }
            | Self::Exponential { first, .. }
            | Self::Fibonacci { first } => *first,
            Self::Table(delays) => delays.iter().max().copied().unwrap_or_default(),
        }
    }
}

/// A finite multiplier of at least 1, kept as a fixed-point number so that every platform computes the same delays.
///
/// ```
/// use steadfast_core::backoff::Factor;
///
/// assert_eq!(Factor::new(2.0), Ok(Factor::DOUBLE));
/// assert!(Factor::new(f64::NAN).is_err());
/// assert!(Factor::new(0.5).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "f64", into = "f64"))]
pub struct Factor(u64);

impl Factor {
    /// 2.
    pub const DOUBLE: Self = Self(2 << 32);

    const LARGEST: f64 = 1_000_000.0;

    /// A factor from 1 to 1,000,000, with 32 binary places.
    ///
    /// # Errors
    /// NaN, infinity, and anything outside those bounds: a factor below 1 would shrink the delays of a struggling
    /// server's clients.
    pub fn new(factor: f64) -> Result<Self, PolicyError> {
        if !(1.0..=Self::LARGEST).contains(&factor) {
            return Err(PolicyError::new("backoff.factor", factor, "a number from 1 to 1000000"));
        }
        Ok(Self((factor * 4_294_967_296.0 + 0.5) as u64))
    }

    /// `start × self^exponent`, by squaring: at most 64 multiplications whatever the exponent.
    fn raise(self, start: u64, exponent: u32) -> u64 {
        if self == Self::DOUBLE {
            return match start.leading_zeros() {
                64 => 0,
                room if exponent <= room => start << exponent,
                _ => u64::MAX,
            };
        }
        let (mut power, mut square, mut rest) = (1_u64 << 32, self.0, exponent);
        while rest > 0 {
            if rest & 1 == 1 {
                power = multiply(power, square);
            }
            square = multiply(square, square);
            rest >>= 1;
        }
        // Rounded to the nearest nanosecond: 54 s must not come out as 53.999999999 s.
        let product = u128::from(start).saturating_mul(u128::from(power)).saturating_add(1 << 31) >> 32;
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

/// Fixed-point product with 32 binary places, rounded, saturating.
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a).saturating_mul(u128::from(b)).saturating_add(1 << 31) >> 32;
    u64::try_from(product).unwrap_or(u64::MAX)
}

impl TryFrom<f64> for Factor {
    type Error = PolicyError;

    fn try_from(factor: f64) -> Result<Self, PolicyError> {
        Self::new(factor)
    }
}

impl From<Factor> for f64 {
    fn from(factor: Factor) -> Self {
        factor.0 as Self / 4_294_967_296.0
    }
}

/// The `n`th Fibonacci number, or the largest below 2⁶⁴ (number 93).
fn fibonacci(n: u32) -> u64 {
    let (mut a, mut b) = (0_u64, 1_u64);
    for _ in 0..n.min(93) {
        (a, b) = (b, a.saturating_add(b));
    }
    a
}

/// How delays are spread, so that clients that failed together do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum Jitter {
    /// No spread: for schedules that a provider prescribes.
    None,
    /// Anything from zero to the delay. Spreads best (AWS, "Exponential backoff and jitter").
    Full,
    /// Half the delay, and anything up to the other half.
    Equal,
    /// The delay, up to this many percent less or more, never above the cap.
    Proportional {
        /// 0 to 100.
        percent: u8,
    },
    /// Anything from the first delay to three times the previous delay (AWS). Growth beyond the first delay is not
    /// used.
    Decorrelated,
}

/// Delays between tries: growth, cap, jitter.
///
/// The default is 1 s doubling to 20 s with full jitter (AWS SDKs' standard mode). In a file each of the three may be
/// left out; the cap is then at least the largest delay that is written.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::Seed;
/// use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
///
/// let secs = Duration::from_secs;
/// let polls = BackoffPolicy::new(Growth::doubling(secs(3)), secs(30), Jitter::None)?;
/// let delays: Vec<_> = (1..=6).map(|n| polls.delay(n, Seed::new(1)).as_secs()).collect();
/// assert_eq!(delays, [3, 6, 12, 24, 30, 30]);
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct BackoffPolicy {
    growth: Growth,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    cap: Duration,
    jitter: Jitter,
    #[cfg_attr(feature = "serde", serde(skip))]
    worked_out: WorkedOut,
}

/// What each delay needs, worked out once: that was half of what a delay cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct WorkedOut {
    cap: u64,
    /// The first of delays that double, the usual growth; 0 of any other.
    doubled: u64,
    /// How many of those are below the cap.
    below_cap: u32,
}

impl WorkedOut {
    const fn of(growth: &Growth, cap: Duration) -> Self {
        const DOUBLE: u64 = Factor::DOUBLE.0;
        let cap = nanos(cap);
        let doubled =
            if let Growth::Exponential { first, factor: Factor(DOUBLE) } = growth { nanos(*first) } else { 0 };
        let mut below_cap = 0_u32;
        // As far as no bit is lost at the top.
        while doubled > 0 && below_cap <= doubled.leading_zeros() && doubled << below_cap < cap {
            below_cap = below_cap.saturating_add(1);
        }
        Self { cap, doubled, below_cap }
    }
}

impl BackoffPolicy {
    /// Delays that grow by `growth`, never exceed `cap`, and are spread by `jitter`.
    ///
    /// # Errors
    /// A cap of zero with a growth that has delays, a cap below the first delay (or below any delay of a table), a
    /// growth that starts at zero and so never grows (use [`Growth::Fixed`] for "at once"), an empty table, or a
    /// jitter of more than 100 percent.
    pub fn new(growth: Growth, cap: Duration, jitter: Jitter) -> Result<Self, PolicyError> {
        let starts_at_zero = match &growth {
            Growth::Linear { first, .. } | Growth::Exponential { first, .. } | Growth::Fibonacci { first } => {
                first.is_zero()
            }
            Growth::Fixed(_) => false,
            Growth::Table(delays) if delays.is_empty() => {
                return Err(PolicyError::new("backoff.table", delays, "a list of at least one delay"));
            }
            Growth::Table(_) => false,
        };
        if starts_at_zero {
            return Err(PolicyError::new("backoff.first", Duration::ZERO, "more than zero, or it never grows"));
        }
        let largest = growth.largest_configured();
        if cap < largest {
            return Err(PolicyError::new("backoff.cap", cap, format!("at least the first delay, {largest:?}")));
        }
        if let Jitter::Proportional { percent } = jitter
            && percent > 100
        {
            return Err(PolicyError::new("backoff.jitter.percent", percent, "from 0 to 100"));
        }
        Ok(Self::trusted(growth, cap, jitter))
    }

    /// For this crate's own defaults, which a test shows to be what [`BackoffPolicy::new`] would accept.
    pub(crate) const fn trusted(growth: Growth, cap: Duration, jitter: Jitter) -> Self {
        let worked_out = WorkedOut::of(&growth, cap);
        Self { growth, cap, jitter, worked_out }
    }

    /// No delay ever exceeds this.
    #[must_use]
    pub const fn cap(&self) -> Duration {
        self.cap
    }

    /// How the delays grow.
    #[must_use]
    pub const fn growth(&self) -> &Growth {
        &self.growth
    }

    /// How the delays are spread.
    #[must_use]
    pub const fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// The first delay before jitter.
    pub(crate) fn first(&self) -> Duration {
        Duration::from_nanos(self.growth.nth(1)).min(self.cap)
    }

    /// The wait before retry number `n`; the first retry is number 1 (and so is 0).
    ///
    /// In a loop of your own, use a [seed](Seed) that differs in each process and for each call, or jitter spreads
    /// nothing:
    ///
    /// ```
    /// use std::hash::{BuildHasher, RandomState};
    /// use steadfast_core::Seed;
    /// use steadfast_core::backoff::BackoffPolicy;
    ///
    /// # let (mut answers, sleep) = ([Err("busy"), Err("busy"), Ok("hello")].into_iter(), |_: core::time::Duration| ());
    /// # let mut ask = || answers.next().unwrap();
    /// let (policy, seed) = (BackoffPolicy::default(), Seed::new(RandomState::new().hash_one("")));
    /// let mut retry = 0;
    /// let answer = loop {
    ///     match ask() {
    ///         Err(_) if retry < 4 => retry += 1,
    ///         last => break last,
    ///     }
    ///     sleep(policy.delay(retry, seed));
    /// };
    /// assert_eq!(answer, Ok("hello"));
    /// ```
    #[must_use]
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    #[inline]
    pub fn delay(&self, n: u32, seed: Seed) -> Duration {
        if let Jitter::Full = self.jitter
            && let Some(delay) = self.doubled(n)
        {
            return Duration::from_nanos(seed.derive(u64::from(n)).between(0, delay));
        }
        self.any_delay(n, seed)
    }

    /// Number `n` before jitter, if delays double.
    #[inline]
    const fn doubled(&self, n: u32) -> Option<u64> {
        let WorkedOut { cap, doubled, below_cap } = self.worked_out;
        let exponent = n.saturating_sub(1);
        if doubled == 0 {
            None
        } else if exponent < below_cap {
            Some(doubled.wrapping_shl(exponent))
        } else {
            Some(cap)
        }
    }

    // Out of line, so that the usual case is small enough to be part of its caller.
    #[inline(never)]
    fn any_delay(&self, n: u32, seed: Seed) -> Duration {
        let cap = self.worked_out.cap;
        let delay = self.doubled(n).unwrap_or_else(|| self.growth.nth(n).min(cap));
        let draw = seed.derive(u64::from(n));
        Duration::from_nanos(match self.jitter {
            Jitter::None => delay,
            Jitter::Full => draw.between(0, delay),
            Jitter::Equal => draw.between(delay.div_ceil(2), delay),
            Jitter::Proportional { percent } => {
                let part = (u128::from(delay).saturating_mul(u128::from(percent)) / 100) as u64;
                // Cut to the cap before the draw, not after: at the cap the draws still differ.
                draw.between(delay.saturating_sub(part), delay.saturating_add(part).min(cap))
            }
            Jitter::Decorrelated => self.decorrelated(n, seed, cap),
        })
    }

    /// The shortest and the longest that the wait before retry number `n` can be, whatever the seed.
    ///
    /// ```
    /// use core::time::Duration;
    /// use steadfast_core::backoff::BackoffPolicy;
    ///
    /// let secs = Duration::from_secs;
    /// assert_eq!(BackoffPolicy::default().bounds(3), (secs(0), secs(4))); // full jitter: anything from zero
    /// ```
    #[must_use]
    pub fn bounds(&self, n: u32) -> (Duration, Duration) {
        let cap = nanos(self.cap);
        let delay = self.growth.nth(n).min(cap);
        let (shortest, longest) = match self.jitter {
            Jitter::None => (delay, delay),
            Jitter::Full => (0, delay),
            Jitter::Equal => (delay.div_ceil(2), delay),
            Jitter::Proportional { percent } => {
                let part = (u128::from(delay).saturating_mul(u128::from(percent)) / 100) as u64;
                (delay.saturating_sub(part), delay.saturating_add(part).min(cap))
            }
            Jitter::Decorrelated => {
                let first = self.growth.nth(1).min(cap);
                (first, first.saturating_mul(3_u64.saturating_pow(n.max(1))).min(cap))
            }
        };
        (Duration::from_nanos(shortest), Duration::from_nanos(longest))
    }

    /// Walks the chain of previous delays, so that the delay needs no memory of them. Only the last 64 links are
    /// walked: each can triple the delay, so after 64 the chain no longer remembers where it began.
    fn decorrelated(&self, n: u32, seed: Seed, cap: u64) -> u64 {
        let first = self.growth.nth(1).min(cap);
        let n = n.max(1);
        let mut previous = first;
        for link in n.saturating_sub(64)..n {
            let draw = seed.derive(u64::from(link.saturating_add(1)));
            previous = draw.between(first, previous.saturating_mul(3).min(cap));
        }
        previous
    }
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self::trusted(Growth::doubling(Duration::from_secs(1)), Duration::from_secs(20), Jitter::Full)
    }
}

/// A policy as written in a file, before [`BackoffPolicy::new`] has checked it.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    growth: Option<Growth>,
    cap: Option<crate::policy::humane::Humane>,
    jitter: Option<Jitter>,
}

#[cfg(feature = "serde")]
impl Unchecked {
    /// What is left out comes from the default, except the jitter. A cap that was left out cannot be too low.
    fn over(self, default: BackoffPolicy) -> Result<BackoffPolicy, PolicyError> {
        let growth = self.growth.unwrap_or(default.growth);
        let cap = self.cap.map_or_else(|| default.cap.max(growth.largest_configured()), |cap| cap.0);
        BackoffPolicy::new(growth, cap, self.jitter.unwrap_or(Jitter::Full))
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for BackoffPolicy {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        it.over(Self::default())
    }
}

/// Reads a policy where another than [`BackoffPolicy::default`] is the default.
#[cfg(feature = "serde")]
pub(crate) fn read_over<'de, D: serde::Deserializer<'de>>(
    default: BackoffPolicy,
    deserializer: D,
) -> Result<BackoffPolicy, D::Error> {
    let it: Unchecked = serde::Deserialize::deserialize(deserializer)?;
    it.over(default).map_err(serde::de::Error::custom)
}

#[cfg(feature = "serde")]
mod table {
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::policy::humane::Humane;

    pub(super) fn serialize<S: Serializer>(delays: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(delays.iter().copied().map(Humane))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[Duration]>, D::Error> {
        Ok(Vec::<Humane>::deserialize(deserializer)?.into_iter().map(|Humane(delay)| delay).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worked_out_beforehand_is_what_growth_and_cap_say() {
        let spans = [1, 2, 3, 999, 1_000_000_000, 1 << 40, (1 << 40) + 1, u64::MAX >> 1, u64::MAX - 1, u64::MAX];
        for (first, cap) in spans.iter().flat_map(|first| spans.map(|cap| (*first, cap))).filter(|(a, b)| a <= b) {
            let growth = Growth::doubling(Duration::from_nanos(first));
            let policy = BackoffPolicy::new(growth.clone(), Duration::from_nanos(cap), Jitter::Full).unwrap();
            for n in (0..130).chain([u32::MAX]) {
                assert_eq!(policy.doubled(n), Some(growth.nth(n).min(cap)), "{first} {cap} {n}");
            }
        }
        let fixed = BackoffPolicy::new(Growth::Fixed(Duration::ZERO), Duration::ZERO, Jitter::Full).unwrap();
        assert_eq!(fixed.doubled(1), None);
    }
}
