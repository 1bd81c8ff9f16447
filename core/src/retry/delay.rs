//! How long to wait: our own delay, and what the provider's `Retry-After` does to it.

use core::time::Duration;

/// What a provider's `Retry-After` does to our own delay. All three are in use by well-known clients; see each variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum RetryAfter {
    /// The longer of the two (Azure's clients; Didit's documentation).
    Floor {
        /// No hint counts for more than this, however large.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        ceiling: Duration,
    },
    /// The hint instead of our own delay (gRPC's pushback, go-retryablehttp). For a pending job a hint of zero is
    /// ignored: polling must rest.
    Exact {
        /// No hint counts for more than this, however large. If this is zero, hints are ignored and our own delay
        /// stands.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        ceiling: Duration,
    },
    /// The hint, but no less than our own delay and no more than that plus `extra` (AWS, `extra` = 5 s).
    Clamped {
        /// How far above our own delay a hint may lead.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        extra: Duration,
    },
}

impl RetryAfter {
    /// The wait that results from our own `delay` and the provider's `hint`.
    #[must_use]
    pub fn apply(self, delay: Duration, hint: Option<Duration>) -> Duration {
        self.weigh(Ground::Backoff, delay, hint).wait()
    }

    /// The same, with what determined the wait. `ground` says where our own delay comes from.
    ///
    /// ```
    /// use core::time::Duration;
    /// use steadfast_core::retry::{Ground, RetryAfter};
    ///
    /// let secs = Duration::from_secs;
    /// let delay = RetryAfter::Floor { ceiling: secs(60) }.weigh(Ground::Backoff, secs(4), Some(secs(90)));
    /// let hint = delay.hint.unwrap();
    /// assert!(hint.decides && hint.cut);
    /// assert_eq!(delay.wait(), secs(60));
    /// ```
    #[must_use]
    pub fn weigh(self, ground: Ground, own: Duration, asked: Option<Duration>) -> Delay {
        let hint = asked.map(|asked| {
            let ceiling = match self {
                Self::Floor { ceiling } | Self::Exact { ceiling } => ceiling,
                Self::Clamped { extra } => own.saturating_add(extra),
            };
            let counts = asked.min(ceiling);
            let instead = matches!(self, Self::Exact { ceiling } if !ceiling.is_zero());
            let decides = instead || counts > own;
            Hint { counts, cut: asked > ceiling, decides }
        });
        Delay { own, ground, hint }
    }
}

impl Default for RetryAfter {
    /// A floor of at most an hour. The operation's deadline is usually shorter: then a longer hint stops the attempts.
    fn default() -> Self {
        Self::Floor { ceiling: Duration::from_secs(3600) }
    }
}

/// A wait and what determined it, to explain why it is so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Delay {
    /// Our own part, before the provider is heard.
    pub own: Duration,
    /// Where our own part comes from.
    pub ground: Ground,
    /// The provider's part. `None` if it asked for nothing, or if no hint applies here.
    pub hint: Option<Hint>,
}

impl Delay {
    /// Our own part alone.
    #[must_use]
    pub const fn own(ground: Ground, own: Duration) -> Self {
        Self { own, ground, hint: None }
    }

    /// How long the wait is: the provider's part if that decides, else our own.
    #[must_use]
    pub fn wait(self) -> Duration {
        self.hint.filter(|hint| hint.decides).map_or(self.own, |hint| hint.counts)
    }

    /// The same, but never shorter than our own part.
    pub(crate) fn no_shorter(mut self) -> Self {
        if let Some(hint) = &mut self.hint {
            hint.decides &= hint.counts >= self.own;
        }
        self
    }
}

/// A provider's part in a [`Delay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Hint {
    /// What it asked for, as far as the policy lets it count.
    pub counts: Duration,
    /// Whether it asked for more than that.
    pub cut: bool,
    /// Whether it decides how long the wait is.
    pub decides: bool,
}

/// Where our own part of a [`Delay`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Ground {
    /// The retry policy's backoff.
    Backoff,
    /// The poll schedule.
    Schedule,
    /// The poll schedule's slowest pace: the retries of failing polls are used up.
    SlowestPace,
    /// A look-up waits until the provider certainly shows the job if it runs.
    Settle,
    /// The retry budget was spent, so the retry pauses once more.
    Budget,
    /// After a restart: what the record says was left of a wait, at most one capped delay. For the repeat of a create
    /// that was in flight: what was left of that create's
    /// [time-out](crate::retry::RetryPolicy::attempt_timeout), and then the backoff.
    Record,
}
