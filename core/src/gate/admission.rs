//! What a gate is asked, and what it answers.

use core::time::Duration;

use super::{Gate, Permit};
use crate::operation::Kind;
use crate::retry::Class;
use crate::time::Timestamp;

/// A request that wants to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Request {
    /// Create, look up or poll.
    pub kind: Kind,
    /// For a retry: the class of the failure that made it necessary. A retry is charged to the retry budget.
    pub retry_of: Option<Class>,
}

impl Request {
    /// A first attempt.
    #[must_use]
    pub const fn first(kind: Kind) -> Self {
        Self { kind, retry_of: None }
    }

    /// A retry after a failure of this class.
    #[must_use]
    pub const fn retry(kind: Kind, class: Class) -> Self {
        Self { kind, retry_of: Some(class) }
    }
}

/// The gate's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a request goes, waits or is refused")]
pub enum Admission {
    /// The request may leave.
    Go(Permit),
    /// Not now: ask again at the time it names.
    Wait(Refusal),
    /// No, and the gate cannot tell whether waiting would help.
    Refuse(Refusal),
}

impl Admission {
    /// The permit, if there is one.
    #[must_use]
    pub const fn permit(self) -> Option<Permit> {
        match self {
            Self::Go(permit) => Some(permit),
            Self::Wait(_) | Self::Refuse(_) => None,
        }
    }
}

/// Why a request may not leave now, and when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Refusal {
    /// When asking again makes sense; later than the `now` of the question. Where the end of another request may make
    /// room earlier, it is [`Gate::RECHECK`] from now at the latest.
    pub until: Timestamp,
    /// What stood in the way.
    pub why: Blocked,
}

impl Refusal {
    /// A refusal made by hand, to test an observer. Real ones come from [`Gate::admit`] and [`Gate::check`].
    ///
    /// ```
    /// use steadfast_core::gate::{Blocked, Refusal};
    /// use steadfast_core::notice::Notice;
    /// use steadfast_core::{Kind, Timestamp};
    ///
    /// let refusal = Refusal::new(Timestamp::from_secs(1_700_000_030), Blocked::Open);
    /// let notice = Notice::Blocked { kind: Kind::Create, refusal };
    /// assert!(matches!(notice, Notice::Blocked { refusal, .. } if refusal.why.is_timed()));
    /// ```
    #[must_use]
    pub const fn new(until: Timestamp, why: Blocked) -> Self {
        Self { until, why }
    }

    /// When to ask again if nothing may start at `deadline` or later; `None` if that is certainly too late.
    pub(crate) fn wait_within(self, deadline: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if self.until >= deadline && self.why.is_timed() {
            return None;
        }
        // Later than now in any case: a wait must end, but not at once.
        Some(self.until.min(deadline).max(now.saturating_add(Duration::from_nanos(1))))
    }

    /// When a retry that the budget refused may ask again: after its own pause once more, and not before there can be
    /// tokens.
    pub(crate) fn after_pause(self, pause: Duration, now: Timestamp) -> Timestamp {
        let refilled = self.until.min(now.saturating_add(Gate::RECHECK));
        now.saturating_add(pause).max(refilled)
    }

    pub(crate) const fn in_line(now: Timestamp) -> Self {
        Self { until: now.saturating_add(Gate::RECHECK), why: Blocked::Line }
    }
}

/// What stands in the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Blocked {
    /// The gate is held by [`Gate::hold_until`].
    Held,
    /// The provider asked for a pause.
    Paused,
    /// The breaker is open.
    Open,
    /// Somebody has isolated the breaker: only an operator ends that.
    Isolated,
    /// The breaker is half-open and its probes are out.
    Probing,
    /// The retry budget is spent.
    Budget,
    /// The bulkhead is full.
    Full,
    /// No request is left in the provider's own window.
    Quota,
    /// A rate limit is reached.
    Rate,
    /// Others come first: requests of its kind that have waited longer, in the line that an engine keeps, or those that
    /// [`Gate::stand_back`] puts before it.
    Line,
}

impl Blocked {
    /// Whether only time ends it, so that its `until` is a promise. A hold may be ended early by whoever made it.
    #[must_use]
    pub const fn is_timed(self) -> bool {
        matches!(self, Self::Paused | Self::Open | Self::Quota | Self::Rate)
    }

    /// `held`, `paused`, `open`, `isolated`, `probing`, `budget`, `full`, `quota`, `rate` or `line`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Open => "open",
            Self::Isolated => "isolated",
            Self::Probing => "probing",
            Self::Budget => "budget",
            Self::Full => "full",
            Self::Quota => "quota",
            Self::Rate => "rate",
            Self::Line => "line",
        }
    }
}
