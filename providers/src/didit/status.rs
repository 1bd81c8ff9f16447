//! How far a session is, in Didit's words (docs.didit.me/integration/verification-statuses).

use core::fmt;

use crate::json::plain;

/// A session's status. Didit's words are exact: `In Review`, not `in_review`.
///
/// Whether a status is final depends on the question: a reviewer may [change a decision](Status::may_change) days
/// later.
///
/// ```
/// use steadfast_providers::didit::{Stage, Status};
///
/// assert_eq!(Status::parse("In Review").unwrap().stage(), Stage::AwaitingReview);
/// // Didit asks its clients to bear with statuses that are new to them.
/// assert_eq!(Status::parse("Under Appeal").unwrap().stage(), Stage::Pending);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// `Not Started`: nobody has opened it yet.
    NotStarted,
    /// `In Progress`.
    InProgress,
    /// `Awaiting User`: in a company's session, somebody at the company has to act.
    AwaitingUser,
    /// `Resubmitted`: open again, treated like *in progress*.
    Resubmitted,
    /// `In Review`: a reviewer has to decide, which takes hours to days.
    InReview,
    /// `Approved`.
    Approved,
    /// `Declined`.
    Declined,
    /// `Abandoned`: begun, but not finished by its user.
    Abandoned,
    /// `Expired`: never begun.
    Expired,
    /// `Kyc Expired`: approved once, lapsed since.
    KycExpired,
    /// Any other text: at most 64 characters of it, without control characters.
    Other(Box<str>),
}

/// Who has to act next, if anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Under way.
    Pending,
    /// The session's user must act.
    AwaitingUser,
    /// A reviewer must act.
    AwaitingReview,
    /// There is a decision.
    Decided,
    /// The session ended without a decision.
    EndedUndecided,
}

impl Status {
    /// Reads a status; `None` if the text is empty.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "Not Started" => Self::NotStarted,
            "In Progress" => Self::InProgress,
            "Awaiting User" => Self::AwaitingUser,
            "Resubmitted" => Self::Resubmitted,
            "In Review" => Self::InReview,
            "Approved" => Self::Approved,
            "Declined" => Self::Declined,
            "Abandoned" => Self::Abandoned,
            "Expired" => Self::Expired,
            "Kyc Expired" => Self::KycExpired,
            other => Self::Other(plain(other)?),
        })
    }

    /// Didit's word for it.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match self {
            Self::NotStarted => "Not Started",
            Self::InProgress => "In Progress",
            Self::AwaitingUser => "Awaiting User",
            Self::Resubmitted => "Resubmitted",
            Self::InReview => "In Review",
            Self::Approved => "Approved",
            Self::Declined => "Declined",
            Self::Abandoned => "Abandoned",
            Self::Expired => "Expired",
            Self::KycExpired => "Kyc Expired",
            Self::Other(text) => text,
        }
    }

    /// Who has to act next in a session of this status.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            Self::NotStarted | Self::InProgress | Self::Resubmitted | Self::Other(_) => Stage::Pending,
            Self::AwaitingUser => Stage::AwaitingUser,
            Self::InReview => Stage::AwaitingReview,
            Self::Approved | Self::Declined | Self::KycExpired => Stage::Decided,
            Self::Abandoned | Self::Expired => Stage::EndedUndecided,
        }
    }

    /// Whether Didit may give the session another status later: true for all but *expired* and *kyc expired*, which are
    /// final.
    #[must_use]
    pub const fn may_change(&self) -> bool {
        !matches!(self, Self::Expired | Self::KycExpired)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
