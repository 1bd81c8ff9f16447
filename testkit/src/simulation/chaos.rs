//! What goes wrong in a history: each kind of fault has its own rate and its own dice.
//!
//! Every kind draws from a stream of its own, so leaving one kind out does not change the draws of the others: that
//! makes a found history shrink well.

use std::fmt;

use fastrand::Rng;
use steadfast_core::Seed;

/// A kind of fault, or of unusual behaviour of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The connection is refused: certainly nothing ran.
    Refused,
    /// The request is lost on its way; the connection is reset, or nothing is ever heard.
    RequestLost,
    /// The request travels for so long that it may be carried out after it was given up.
    RequestLate,
    /// The request is carried out and its answer is lost.
    AnswerLost,
    /// The answer comes after its time, or after the attempt was given up.
    AnswerLate,
    /// The answer comes twice.
    AnswerTwice,
    /// A 5xx without carrying the request out.
    ErrorBefore,
    /// A 5xx after carrying it out.
    ErrorAfter,
    /// A 429, mostly with a `Retry-After`.
    Throttled,
    /// A success with an unreadable body.
    Garbled,
    /// A status that the profile does not know.
    UnknownStatus,
    /// A job that exists is not found yet.
    NotFoundYet,
    /// The provider is down for a while.
    Outage,
    /// The provider reports its own rate limit.
    Quota,
    /// A webhook never comes.
    WebhookLost,
    /// A webhook comes before the create's answer.
    WebhookEarly,
    /// A webhook comes twice.
    WebhookTwice,
    /// An old webhook comes after a newer one.
    WebhookReordered,
    /// A webhook that the provider did not send: wrong secret, altered body or replayed too late.
    WebhookForged,
    /// A second final answer that contradicts the first.
    Contradiction,
    /// A commit takes seconds.
    CommitSlow,
    /// A commit fails; certainly nothing of it is on disk.
    CommitFailed,
    /// A crash leaves only a part of a commit on disk.
    CommitTorn,
    /// A crash comes after a commit and before its acknowledgement.
    AckLost,
    /// The process stands still while the world goes on, and its clock leaps forward.
    ClockForward,
    /// A call is given an earlier time than the one before.
    ClockBackward,
    /// The clock of a restarted process is minutes off, either way.
    ClockWrong,
    /// A timer fires late.
    WakeLate,
    /// An operator holds the gate for a while.
    GateHeld,
    /// A caller cancels.
    CallerCancels,
    /// A caller submits a job that is under way.
    CallerJoins,
    /// A caller submits the key with another payload.
    CallerMismatches,
    /// A caller submits a rejected job again.
    CallerRepeats,
    /// The process crashes again while it recovers.
    CrashAgain,
    /// A caller resumes a job, mostly one that ended as unresolved.
    CallerResumes,
    /// The driver has no payload for a job that is to be created, and takes it out of the engine for a while.
    PayloadAway,
    /// A webhook says that a job has changed, but not how.
    WebhookBare,
    /// The driver has no room for a request, which waits and is taken back before it leaves: perhaps late, or because
    /// its job is cancelled.
    TakenBack,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 38] = [
        Self::Refused,
        Self::RequestLost,
        Self::RequestLate,
        Self::AnswerLost,
        Self::AnswerLate,
        Self::AnswerTwice,
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::Throttled,
        Self::Garbled,
        Self::UnknownStatus,
        Self::NotFoundYet,
        Self::Outage,
        Self::Quota,
        Self::WebhookLost,
        Self::WebhookEarly,
        Self::WebhookTwice,
        Self::WebhookReordered,
        Self::WebhookForged,
        Self::Contradiction,
        Self::CommitSlow,
        Self::CommitFailed,
        Self::CommitTorn,
        Self::AckLost,
        Self::ClockForward,
        Self::ClockBackward,
        Self::ClockWrong,
        Self::WakeLate,
        Self::GateHeld,
        Self::CallerCancels,
        Self::CallerJoins,
        Self::CallerMismatches,
        Self::CallerRepeats,
        Self::CrashAgain,
        Self::CallerResumes,
        Self::PayloadAway,
        Self::WebhookBare,
        Self::TakenBack,
    ];

    /// A name for tables and JSON: `answer_lost`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::RequestLost => "request_lost",
            Self::RequestLate => "request_late",
            Self::AnswerLost => "answer_lost",
            Self::AnswerLate => "answer_late",
            Self::AnswerTwice => "answer_twice",
            Self::ErrorBefore => "error_before",
            Self::ErrorAfter => "error_after",
            Self::Throttled => "throttled",
            Self::Garbled => "garbled",
            Self::UnknownStatus => "unknown_status",
            Self::NotFoundYet => "not_found_yet",
            Self::Outage => "outage",
            Self::Quota => "quota",
            Self::WebhookLost => "webhook_lost",
            Self::WebhookEarly => "webhook_early",
            Self::WebhookTwice => "webhook_twice",
            Self::WebhookReordered => "webhook_reordered",
            Self::WebhookForged => "webhook_forged",
            Self::Contradiction => "contradiction",
            Self::CommitSlow => "commit_slow",
            Self::CommitFailed => "commit_failed",
            Self::CommitTorn => "commit_torn",
            Self::AckLost => "ack_lost",
            Self::ClockForward => "clock_forward",
            Self::ClockBackward => "clock_backward",
            Self::ClockWrong => "clock_wrong",
            Self::WakeLate => "wake_late",
            Self::GateHeld => "gate_held",
            Self::CallerCancels => "caller_cancels",
            Self::CallerJoins => "caller_joins",
            Self::CallerMismatches => "caller_mismatches",
            Self::CallerRepeats => "caller_repeats",
            Self::CrashAgain => "crash_again",
            Self::CallerResumes => "caller_resumes",
            Self::PayloadAway => "payload_away",
            Self::WebhookBare => "webhook_bare",
            Self::TakenBack => "taken_back",
        }
    }

    /// Faults of clocks, which happen only if no key expires within minutes: otherwise no promise could be kept.
    const fn is_of_clocks(self) -> bool {
        matches!(self, Self::ClockBackward | Self::ClockWrong)
    }
}

/// Where a crash can happen: before or after an effect is carried out, or at a moment without an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CrashPoint {
    /// A record is asked for.
    Persist,
    /// A create is sent.
    SendCreate,
    /// A look-up is sent.
    SendLookup,
    /// A poll is sent.
    SendPoll,
    /// A request is given up.
    Abandon,
    /// An outcome is reported.
    End,
    /// An answer has come but was not processed.
    Answer,
    /// A commit is done but was not acknowledged.
    Commit,
    /// The process restores itself.
    Recovery,
}

impl CrashPoint {
    /// Every point.
    pub const ALL: [Self; 9] = [
        Self::Persist,
        Self::SendCreate,
        Self::SendLookup,
        Self::SendPoll,
        Self::Abandon,
        Self::End,
        Self::Answer,
        Self::Commit,
        Self::Recovery,
    ];

    /// A name for tables and JSON: `send_create`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Persist => "persist",
            Self::SendCreate => "send_create",
            Self::SendLookup => "send_lookup",
            Self::SendPoll => "send_poll",
            Self::Abandon => "abandon",
            Self::End => "end",
            Self::Answer => "answer",
            Self::Commit => "commit",
            Self::Recovery => "recovery",
        }
    }
}

/// The faults of one history.
pub(super) struct Chaos {
    streams: Vec<Stream>,
    /// All faults have stopped.
    over: bool,
}

struct Stream {
    rate: f64,
    spared: bool,
    dice: Rng,
    met: u64,
}

impl Chaos {
    /// Rates drawn from the seed: a third of the kinds never happen, the others happen at rates up to `most`.
    pub(super) fn drawn(seed: Seed, clocks_may_fail: bool, spared: &[Fault]) -> Self {
        let mut dice = Rng::with_seed(seed.derive(0).value());
        // Some histories are calm, some wild.
        let most = [0.0, 0.03, 0.1, 0.2, 0.4][dice.usize(..5)];
        let streams = Fault::ALL.iter().zip(1_u64..).map(|(fault, salt)| {
            let rate = if dice.u8(..3) == 0 { 0.0 } else { dice.f64() * most };
            let impossible = fault.is_of_clocks() && !clocks_may_fail;
            let spared = impossible || spared.contains(fault);
            Stream { rate, spared, dice: Rng::with_seed(seed.derive(salt).value()), met: 0 }
        });
        Self { streams: streams.collect(), over: false }
    }

    /// Whether this fault happens now; counted if so.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        self.strikes_with(fault, 1.0)
    }

    /// The same at a rate multiplied by `weight`, for faults that are drawn rarely or very often.
    pub(super) fn strikes_with(&mut self, fault: Fault, weight: f64) -> bool {
        let over = self.over;
        let Some(stream) = self.streams.get_mut(fault as usize) else { return false };
        let hit = stream.dice.f64() < stream.rate * weight && !over && !stream.spared;
        stream.met += u64::from(hit);
        hit
    }

    /// Counts a fault that came about by itself.
    pub(super) fn note(&mut self, fault: Fault) {
        if let Some(stream) = self.streams.get_mut(fault as usize) {
            stream.met += 1;
        }
    }

    pub(super) const fn end(&mut self) {
        self.over = true;
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// How often each kind happened, in the order of [`Fault::ALL`].
    pub(super) fn met(&self) -> Vec<u64> {
        self.streams.iter().map(|stream| stream.met).collect()
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = Fault::ALL.iter().zip(&self.streams).filter(|(_, stream)| stream.rate > 0.0 && !stream.spared);
        f.debug_map().entries(rates.map(|(fault, stream)| (fault.name(), stream.rate))).finish()
    }
}
