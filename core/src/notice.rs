//! What an observer may want to know. Notices decide nothing; ignoring them loses nothing.
//!
//! A [`Notice`] says what an operation did or met, in the words of the design; a driver turns each into a log line or a
//! metric. They are plain data without payloads, so logging one cannot leak one. [`explain`](crate::explain) says them
//! to a person. [`Wake`] says what an operation waits for, and until when.

use alloc::boxed::Box;
use core::time::Duration;

use crate::breaker::BreakerState;
use crate::gate::Refusal;
use crate::operation::{Attempt, AttemptId, Kind, Outcome, RecordId};
use crate::retry::{Delay, Failure};
use crate::time::Timestamp;

/// Something that an operation did or met.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Notice {
    /// A request is about to leave.
    Sending(Attempt),
    /// A request gave no usable answer.
    Failed {
        /// Which.
        attempt: Attempt,
        /// In what way. A time-out is a failure of class [`TimedOut`](crate::retry::Class::TimedOut).
        failure: Failure,
    },
    /// A create under a key was answered with the same failure as before: perhaps the provider has stored it for the
    /// key.
    SameAnswer {
        /// How many there have been in a row, the first included: at least 2.
        times: u8,
    },
    /// The next request is due at `until`.
    Waiting {
        /// What for.
        reason: WakeReason,
        /// Until when.
        until: Timestamp,
        /// Why so long.
        delay: Delay,
    },
    /// The gate did not let a request go.
    Blocked {
        /// What was to be sent.
        kind: Kind,
        /// Until when, and why.
        refusal: Refusal,
    },
    /// The upstream's breaker has changed, by what this operation met or by its asking.
    Breaker(BreakerState),
    /// The provider has the job; its reference is now known.
    Accepted,
    /// The job is not done.
    Pending {
        /// When the provider suggests to ask again.
        hint: Option<Duration>,
    },
    /// Part of the job is done: records of a batch.
    Progress {
        /// How many are done, with whatever result.
        done: u32,
        /// How many there are in all.
        total: u32,
    },
    /// The job waits for a person.
    AwaitingPerson,
    /// A partial result is there, and the policy waits for the whole.
    Partial,
    /// The provider gave a status that its profile does not know.
    UnknownStatus(Box<str>),
    /// The provider told of the job by itself. What it told is in the notices that follow.
    Webhook,
    /// A look-up proved that nothing ran.
    ProvenAbsent,
    /// An answer arrived to an attempt that was no longer waited for.
    LateAnswer(AttemptId),
    /// The provider gave a second reference, or a second final answer that differs. The first one is kept.
    Conflict,
    /// An event did not fit the state and changed nothing.
    Absorbed,
    /// A record could not be made durable.
    PersistFailed {
        /// Which record.
        record: RecordId,
        /// When the next try is due. `None`: it is not tried again, since nothing has happened that must be
        /// remembered.
        retry: Option<Timestamp>,
    },
    /// The operation was taken up again after a restart.
    Restored,
    /// The operation, which had ended as unresolved, is polled again.
    Resumed,
    /// The deadline of the polls, or of the look-ups, passed while the machine slept or the journal stood still. The
    /// request that fell due meanwhile is still sent, until it is answered once: see
    /// [`PollPolicy::deadline`](crate::poll::PollPolicy::deadline).
    Overslept,
    /// The operation ended.
    Ended(Outcome),
}

/// Why a machine wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WakeReason {
    /// A create attempt may start.
    Create,
    /// The intent of a create is still not on disk, and it may not start any more.
    CreateDeadline,
    /// A look-up may start.
    Lookup,
    /// A poll is due.
    Poll,
    /// The gate may let a request go.
    Gate,
    /// An attempt times out.
    AttemptTimeout,
    /// A record that could not be written is tried again.
    PersistRetry,
    /// An ended operation's key may be forgotten.
    Forget,
}

/// A deadline with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wake {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: WakeReason,
}

/// The notices of one step: a few, in place, so that telling allocates nothing and cannot fail. When full, further ones
/// are dropped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// In their order; those that were read are gone.
    notices: [Option<Notice>; 8],
    /// How many notices were told.
    count: u8,
}

impl Told {
    pub(crate) const NOTHING: Self = Self { notices: [const { None }; 8], count: 0 };

    fn tell(&mut self, notice: Notice) {
        if let Some(place) = self.notices.get_mut(usize::from(self.count)) {
            *place = Some(notice);
            self.count = self.count.saturating_add(1);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Notice> {
        let notice = self.notices.iter_mut().find_map(Option::take);
        if notice.is_none() {
            self.count = 0;
        }
        notice
    }

    /// Hands them out in order, and leaves the list empty.
    #[inline]
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Notice> + '_ {
        let count = core::mem::take(&mut self.count);
        self.notices.iter_mut().take(usize::from(count)).filter_map(Option::take)
    }
}

/// Where the notices of one step go.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack for one step, and a box would be an allocation for each"
)]
pub(crate) enum Notices<'a> {
    /// They are kept for the caller that made the step.
    Kept(Told),
    /// They are kept in a list that exists already, which its owner has emptied.
    Lent(&'a mut Told),
    /// Nobody hears them.
    Unheard,
}

impl Notices<'_> {
    #[inline]
    pub(crate) fn tell(&mut self, notice: Notice) {
        let told = match self {
            Self::Unheard => return,
            Self::Lent(told) => told,
            Self::Kept(told) => told,
        };
        told.tell(notice);
    }

    pub(crate) fn pop(&mut self) -> Option<Notice> {
        let Self::Kept(told) = self else { return None };
        told.pop()
    }
}
