//! Notices as sentences: what was decided, when and why.
//!
//! [`explain`] says one [`Notice`] in one line, for a person who watches a job live. A [`Timeline`] says all that is
//! recorded of one operation, a line for each, with the time since the first; immediate repeats are folded into one:
//!
//! ```text
//!         0 s  → create 1 leaves, to have the job run: up to 10 s for an answer
//!      250 ms  ✗ create 1 was throttled, Retry-After 6 s; it did not run
//!      250 ms  … next create in 6 s: Retry-After 6 s over backoff 4.2 s, 1.8 s longer
//!       6.3 s  → create 2 leaves, to have the job run: up to 10 s for an answer
//!       6.5 s  ✓ accepted: the provider has the job and gave its reference, so only its result is asked for now
//!       6.5 s  … next poll in 3 s: by the schedule, the provider named no time
//!       9.5 s    polled 12 times (1 to 12), still pending, over 3 min 20 s; waits of 3 s to 30 s by the schedule
//! ```
//!
//! Both are pure: the same notices give the same text. Invariants, each a property test: any notice can be explained;
//! each line is one line, without control characters, whatever text a provider gave; a timeline's lines are in order of
//! time, and tell of every notice.
//!
//! Nothing here can leak: notices hold no payload, key or reference. Of a provider's own words there is only an unknown
//! status, which is shown quoted, escaped and at most [`STATUS_SHOWN`] characters long.

mod span;
mod timeline;

pub use self::span::Span;
pub use self::timeline::{Entry, Timeline};

use core::fmt;

use crate::breaker::BreakerState;
use crate::gate::{Blocked, Refusal};
use crate::notice::{Notice, WakeReason};
use crate::operation::{Attempt, Kind};
use crate::retry::{Certainty, Class, Delay, Failure, Ground};
use crate::time::Timestamp;

/// The most characters that are shown of a provider's unknown status, escapes counted as they are printed.
pub const STATUS_SHOWN: usize = 64;

/// A notice that was told at this time, as one sentence without a line break. Allocates nothing.
///
/// ```
/// use steadfast_core::Timestamp;
/// use steadfast_core::explain::explain;
/// use steadfast_core::notice::Notice;
///
/// let now = Timestamp::from_secs(1_700_000_000);
/// let text = explain(&Notice::UnknownStatus("half\ndone".into()), now).to_string();
/// assert_eq!(text, r#"the provider gave the status "half\ndone", which is not known: it counts as pending"#);
/// ```
#[must_use]
pub const fn explain(notice: &Notice, at: Timestamp) -> Explained<'_> {
    Explained { notice, at }
}

/// A notice as a sentence, by its `Display`. Made by [`explain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained<'a> {
    notice: &'a Notice,
    at: Timestamp,
}

impl Explained<'_> {
    /// One character that shows from afar what kind of line it is; a space if it is an ordinary step.
    #[must_use]
    pub const fn mark(&self) -> char {
        match self.notice {
            Notice::Sending(_) => '→',
            Notice::Failed { .. } => '✗',
            Notice::Waiting { .. } | Notice::Blocked { .. } => '…',
            Notice::Accepted => '✓',
            Notice::Breaker(_) | Notice::UnknownStatus(_) | Notice::Conflict | Notice::PersistFailed { .. } => '!',
            Notice::Ended(_) => '■',
            Notice::SameAnswer { .. }
            | Notice::Progress { .. }
            | Notice::Pending { .. }
            | Notice::AwaitingPerson
            | Notice::Partial
            | Notice::Webhook
            | Notice::ProvenAbsent
            | Notice::LateAnswer(_)
            | Notice::Absorbed
            | Notice::Restored
            | Notice::Resumed
            | Notice::Overslept => ' ',
        }
    }
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        let left = |until: Timestamp| Span(until.saturating_since(at));
        match self.notice {
            Notice::Sending(attempt) => sending(f, attempt, left(attempt.until)),
            Notice::Failed { attempt, failure } => failed(f, attempt, *failure),
            Notice::Waiting { reason, until, delay } => {
                write!(f, "next {} in {}: ", step(*reason), left(*until))?;
                decided(f, *delay)
            }
            Notice::SameAnswer { times } => write!(
                f,
                "the same answer for the {times}{} time in a row: perhaps the provider has stored it for the key",
                ordinal(*times)
            ),
            Notice::Blocked { kind, refusal } => blocked(f, *kind, *refusal, at),
            Notice::Breaker(state) => match state {
                BreakerState::Closed => f.write_str("the breaker closed: the provider answers again"),
                BreakerState::Open { until } => {
                    write!(f, "the breaker opened: the provider is in trouble and is not asked for {}", left(*until))
                }
                BreakerState::HalfOpen => {
                    f.write_str("the breaker is half-open: a probe may go, to learn whether the provider is back")
                }
                BreakerState::Isolated => f.write_str("the breaker is isolated: nothing goes until somebody says so"),
                BreakerState::Disabled => f.write_str("the breaker is disabled: everything goes"),
            },
            Notice::Accepted => f.write_str(
                "accepted: the provider has the job and gave its reference, so only its result is asked for now",
            ),
            Notice::Pending { hint: None } => f.write_str("still pending"),
            Notice::Pending { hint: Some(hint) } => {
                write!(f, "still pending; the provider suggests to ask again in {}", Span(*hint))
            }
            Notice::Progress { done, total } => write!(f, "still pending: {done} of {total} done"),
            Notice::AwaitingPerson => f.write_str("the job waits for a person, its user or a reviewer: still pending"),
            Notice::Partial => f.write_str("a part of the result is there, and the policy waits for the whole"),
            Notice::UnknownStatus(status) => {
                write!(f, "the provider gave the status {}, which is not known: it counts as pending", Quoted(status))
            }
            Notice::Webhook => f.write_str("the provider told of the job by itself"),
            Notice::ProvenAbsent => f.write_str(
                "the look-up proved that nothing ran, so the job can be created again without running twice",
            ),
            Notice::LateAnswer(id) => {
                write!(f, "an answer to request {} came after its time: it counts for what it teaches", id.0)
            }
            Notice::Conflict => f.write_str("the provider contradicts itself: the first answer stands"),
            Notice::Absorbed => f.write_str("what came did not fit or was known already: it changed nothing"),
            Notice::PersistFailed { record, retry: Some(retry) } => {
                let (number, wait) = (record.0, left(*retry));
                write!(f, "record {number} could not be written: nothing goes until it is, tried again in {wait}")
            }
            Notice::PersistFailed { record, retry: None } => {
                write!(f, "record {} could not be written: nothing was sent yet, so nothing ran", record.0)
            }
            Notice::Restored => f.write_str("taken up again after a restart, from its record"),
            Notice::Resumed => f.write_str("resumed: it had ended as unresolved, and is polled on"),
            Notice::Overslept => {
                f.write_str("the deadline passed unseen, as if the machine had slept: what fell due is still asked")
            }
            Notice::Ended(outcome) => write!(f, "{}: {}", outcome.name(), outcome.explain()),
        }
    }
}

fn sending(f: &mut fmt::Formatter<'_>, attempt: &Attempt, left: Span) -> fmt::Result {
    let why = match attempt.kind {
        Kind::Create => "to have the job run",
        Kind::Lookup => "to learn whether the job runs",
        Kind::Poll => "to learn whether the job is done",
    };
    write!(f, "{} {} leaves, {why}: up to {left} for an answer", name(attempt.kind), attempt.number)
}

/// How it failed, and whether it ran: only the latter decides what may be sent next.
fn failed(f: &mut fmt::Formatter<'_>, attempt: &Attempt, failure: Failure) -> fmt::Result {
    let trouble = match (failure.class, failure.certainty) {
        (Class::Permanent, Certainty::Executed) => "failed at the provider",
        (class, _) => class.explain(),
    };
    write!(f, "{} {} {trouble}", name(attempt.kind), attempt.number)?;
    if let Some(wait) = failure.retry_after {
        write!(f, ", Retry-After {}", Span(wait))?;
    }
    f.write_str(match (attempt.kind, failure.certainty) {
        (Kind::Lookup | Kind::Poll, _) => "; it only asked, so nothing ran by it",
        (Kind::Create, Certainty::NotExecuted) => "; it did not run",
        (Kind::Create, Certainty::MayHaveExecuted) => "; it may have run",
        (Kind::Create, Certainty::Executed) => "; it ran",
    })
}

/// Why a wait is as long as it is: which part decided, and by how much.
fn decided(f: &mut fmt::Formatter<'_>, delay: Delay) -> fmt::Result {
    let Some(hint) = delay.hint else {
        return f.write_str(match delay.ground {
            Ground::Backoff => "by backoff, the provider named no time",
            Ground::Schedule => "by the schedule, the provider named no time",
            Ground::SlowestPace => "at the schedule's slowest pace, since the retries are used up",
            Ground::Settle => "by then the provider shows the job if it runs",
            Ground::Budget => "the retry budget is spent, so it pauses once more",
            Ground::Record => "what is left of the wait by its record",
        });
    };
    let ours = match delay.ground {
        Ground::Backoff => "backoff",
        Ground::Schedule => "the schedule's",
        Ground::SlowestPace => "the schedule's slowest pace of",
        Ground::Settle => "the settling time of",
        Ground::Budget => "the retry budget's pause of",
        Ground::Record => "the record's",
    };
    let cut = if hint.cut { " (cut to its ceiling)" } else { "" };
    let (own, theirs) = ((ours, delay.own, ""), ("Retry-After", hint.counts, cut));
    let (winner, loser) = if hint.decides { (theirs, own) } else { (own, theirs) };
    let (won, lost) = (winner.1, loser.1);
    let over = if won < lost { "in place of" } else { "over" };
    write!(f, "{} {}{} {over} {} {}{}, ", winner.0, Span(won), winner.2, loser.0, Span(lost), loser.2)?;
    let margin = Span(won.abs_diff(lost));
    match won.cmp(&lost) {
        core::cmp::Ordering::Less => write!(f, "{margin} shorter"),
        core::cmp::Ordering::Equal => f.write_str("which is as long"),
        core::cmp::Ordering::Greater => write!(f, "{margin} longer"),
    }
}

/// Which machine of the gate said no, why, and until when.
fn blocked(f: &mut fmt::Formatter<'_>, kind: Kind, refusal: Refusal, at: Timestamp) -> fmt::Result {
    let (machine, why) = match refusal.why {
        Blocked::Held => ("by a hold", "somebody holds the gate"),
        Blocked::Paused => ("by a pause", "the provider asked for it"),
        Blocked::Open => ("by the breaker", "it is open, since the provider is in trouble"),
        Blocked::Isolated => ("by the breaker", "somebody has isolated it"),
        Blocked::Probing => ("by the breaker", "it is half-open, and its probe is under way"),
        Blocked::Budget => ("by the retry budget", "there were too many retries lately"),
        Blocked::Full => ("by the bulkhead", "enough requests are in the air"),
        Blocked::Quota => ("by the quota", "none is left in the provider's own window"),
        Blocked::Rate => ("by the rate limit", "it would be too fast"),
        Blocked::Line => ("by the line", "others have waited longer"),
    };
    write!(f, "{} held back {machine}: {why}", name(kind))?;
    let left = Span(refusal.until.saturating_since(at));
    match refusal.why {
        // The time at which the gate is asked again is not when its turn in the line comes.
        Blocked::Line => f.write_str("; until its turn comes"),
        Blocked::Isolated => f.write_str("; until they end that"),
        _ if refusal.until.deadline().is_none() => f.write_str("; until further notice"),
        Blocked::Budget => write!(f, "; for {left} at least"),
        Blocked::Held => write!(f, "; for {left}, unless it is let go before"),
        Blocked::Probing | Blocked::Full => write!(f, "; asks again within {left}"),
        Blocked::Paused | Blocked::Open | Blocked::Quota | Blocked::Rate => write!(f, "; for {left}"),
    }
}

const fn ordinal(number: u8) -> &'static str {
    match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Create => "create",
        Kind::Lookup => "look-up",
        Kind::Poll => "poll",
    }
}

const fn step(reason: WakeReason) -> &'static str {
    match reason {
        WakeReason::Create => name(Kind::Create),
        WakeReason::Lookup => name(Kind::Lookup),
        WakeReason::Poll => name(Kind::Poll),
        WakeReason::Gate
        | WakeReason::CreateDeadline
        | WakeReason::AttemptTimeout
        | WakeReason::PersistRetry
        | WakeReason::Forget => "step",
    }
}

/// A provider's text between quotes: escaped, so that it can neither break the line nor reach the terminal, and cut.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = STATUS_SHOWN;
        f.write_str("\"")?;
        for c in self.0.chars() {
            let shown = c.escape_debug();
            let Some(rest) = room.checked_sub(shown.len()) else {
                f.write_str("…")?;
                break;
            };
            room = rest;
            write!(f, "{shown}")?;
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests;
