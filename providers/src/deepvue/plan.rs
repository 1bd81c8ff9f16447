//! The rate limits of Deepvue's plans (docs.deepvue.ai/rate-limits): per API key, all three windows enforced
//! independently.

use std::time::Duration;

use steadfast_core::PolicyError;
use steadfast_core::gate::{Kinds, RateLimit};
use steadfast_core::rate_limit::RatePolicy;

/// A Deepvue plan: how many requests an account may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Plan {
    /// 1 a second, 30 a minute, 1,000 a day.
    Starter,
    /// 2 a second, 100 a minute, 10,000 a day.
    Business,
    /// 5 a second, 500 a minute, 20,000 a day.
    Growth,
    /// 17 a second, 1,000 a minute, 50,000 a day.
    Enterprise,
}

impl Plan {
    /// The plan's three limits. Each request counts in all of them, and they are kept strictly: no span of a second, a
    /// minute or a day sees more than the plan allows. They count per API key, so products and processes that share a
    /// key must share them too: several processes by [`RatePolicy::divided_among`], strictly
    /// too if there are no more of them than requests in the second.
    ///
    /// Requests are spaced evenly over seconds and minutes. Over a day they are not: a fifth of the day's requests may
    /// go at once, and the rest at an even pace.
    ///
    /// # Errors
    /// None with the current plans.
    ///
    /// ```
    /// use steadfast_providers::deepvue::Plan;
    ///
    /// let [second, ..] = Plan::Growth.rates()?;
    /// assert_eq!((second.count(), second.per().as_secs()), (5, 1));
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    pub fn rates(self) -> Result<[RatePolicy; 3], PolicyError> {
        let (second, minute, day) = match self {
            Self::Starter => (1, 30, 1_000),
            Self::Business => (2, 100, 10_000),
            Self::Growth => (5, 500, 20_000),
            Self::Enterprise => (17, 1_000, 50_000),
        };
        let secs = Duration::from_secs;
        let burst = day / 5;
        Ok([
            RatePolicy::new(second, secs(1))?,
            RatePolicy::new(minute, secs(60))?,
            RatePolicy::new(day - burst, secs(86_400))?.with_burst(burst)?,
        ])
    }

    pub(super) fn limits(self) -> Result<[RateLimit; 3], PolicyError> {
        Ok(self.rates()?.map(|rate| RateLimit { kinds: Kinds::ALL, rate }))
    }
}
