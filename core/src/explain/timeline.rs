//! All that was told of one operation, a line for each notice, repeats folded.
//!
//! Two things are folded. A *round* of polling is three notices: the poll leaves, the job is still not done, the next
//! poll is due then. Rounds that follow each other with the same answer become one entry. And a notice that says the
//! same as the one before (the gate holds the same request back again, the disk fails again) is counted with it.
//! Whatever comes between ends the fold, so no order is lost.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::{Quoted, Span, explain};
use crate::notice::{Notice, WakeReason};
use crate::operation::{Attempt, Kind};
use crate::retry::Delay;
use crate::time::Timestamp;

type Told<'a> = (Timestamp, &'a Notice);

/// The recorded notices of one operation, to be shown: each line ends with a line break and begins with the time since
/// the first notice.
///
/// Notices that are not in order of time are put in order; those of the same time keep theirs. Allocates a place for
/// each notice.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::Timestamp;
/// use steadfast_core::explain::Timeline;
/// use steadfast_core::notice::Notice;
///
/// let start = Timestamp::from_secs(1_700_000_000);
/// let told = [Notice::Restored, Notice::Pending { hint: None }];
/// let later = start.saturating_add(Duration::from_millis(6_130));
/// let text = Timeline::new([start, later].into_iter().zip(&told)).to_string();
/// let lines: Vec<&str> = text.lines().collect();
/// assert_eq!(lines, ["         0 s    taken up again after a restart, from its record", "       6.1 s    still pending"]);
/// ```
#[derive(Clone, Debug)]
pub struct Timeline<'a> {
    told: Vec<Told<'a>>,
}

impl<'a> Timeline<'a> {
    /// Makes the timeline of one operation's notices, each with the time at which it was told.
    #[must_use]
    pub fn new(told: impl IntoIterator<Item = (Timestamp, &'a Notice)>) -> Self {
        let mut told: Vec<Told<'a>> = told.into_iter().collect();
        told.sort_by_key(|(at, _)| *at);
        Self { told }
    }

    /// The lines, one for each entry.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.told.as_slice();
        core::iter::from_fn(move || {
            let entry = Entry::first_of(rest)?;
            rest = rest.get(entry.told.len()..).unwrap_or_default();
            Some(entry)
        })
    }
}

impl fmt::Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.told.first().map_or(Timestamp::EPOCH, |(at, _)| *at);
        for entry in self.entries() {
            writeln!(f, "{:>12}  {} {entry}", Span(entry.at().saturating_since(start)), entry.mark())?;
        }
        Ok(())
    }
}

/// One line of a [`Timeline`]: a notice, or several that are told as one. Its `Display` is the sentence.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Never empty.
    told: &'a [Told<'a>],
    first: Told<'a>,
    last: Told<'a>,
    /// Whether they are rounds of polling.
    rounds: bool,
}

impl<'a> Entry<'a> {
    /// When the first of its notices was told.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.first.0
    }

    /// How many notices it tells of; at least one.
    #[must_use]
    pub const fn notices(&self) -> usize {
        self.told.len()
    }

    /// See [`Explained::mark`](super::Explained::mark).
    #[must_use]
    pub const fn mark(&self) -> char {
        if self.rounds { ' ' } else { explain(self.last.1, self.last.0).mark() }
    }

    fn first_of(told: &'a [Told<'a>]) -> Option<Self> {
        let first = *told.first()?;
        let like = Round::of(told);
        let rounds = told.chunks(Round::NOTICES).take_while(|round| like.is_some() && Round::of(round) == like).count();
        let (rounds, length) = if rounds > 1 {
            (true, rounds.saturating_mul(Round::NOTICES))
        } else {
            (false, told.iter().take_while(|(_, notice)| says_the_same(first.1, notice)).count())
        };
        let told = told.get(..length)?;
        Some(Self { told, first, last: *told.last()?, rounds })
    }

    fn write_rounds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.told.len() / Round::NOTICES;
        let mut polls = self.told.iter().filter_map(|(_, notice)| sent(notice));
        let first = polls.next().map_or(0, |attempt| attempt.number);
        let last = polls.next_back().map_or(first, |attempt| attempt.number);
        let over = Span(self.last.0.saturating_since(self.first.0));
        write!(f, "polled {count} times ({first} to {last}), ")?;
        match Round::of(self.told).map(|round| round.answer) {
            Some(Notice::Progress { done, total }) => write!(f, "still {done} of {total} done")?,
            Some(Notice::AwaitingPerson) => f.write_str("still waiting for a person")?,
            Some(Notice::Partial) => f.write_str("still only a part of the result")?,
            Some(Notice::UnknownStatus(status)) => {
                write!(f, "still the status {}, which is not known", Quoted(status))?
            }
            _ => f.write_str("still pending")?,
        }
        write!(f, ", over {over}; waits of ")?;

        let waits = || self.told.iter().filter_map(|(at, notice)| waited(*at, notice));
        let spans = || waits().map(|(wait, _)| wait);
        let (shortest, longest) = (spans().min().unwrap_or_default(), spans().max().unwrap_or_default());
        if shortest == longest {
            write!(f, "{}", Span(longest))?;
        } else {
            write!(f, "{} to {}", Span(shortest), Span(longest))?;
        }
        match waits().filter(|(_, delay)| delay.hint.is_some_and(|hint| hint.decides)).count() {
            0 => f.write_str(" by the schedule"),
            hints if hints == count => f.write_str(" by the provider's Retry-After"),
            hints => write!(f, " by the schedule, {hints} of them by the provider's Retry-After"),
        }
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rounds {
            return self.write_rounds(f);
        }
        let (at, notice) = self.last;
        if self.told.len() > 1 {
            let over = Span(at.saturating_since(self.first.0));
            write!(f, "{} times over {over}, the last: ", self.told.len())?;
        }
        write!(f, "{}", explain(notice, at))
    }
}

/// A poll leaves, is answered "not done", and the next one is due.
#[derive(Clone, Copy)]
struct Round<'a> {
    answer: &'a Notice,
}

impl<'a> Round<'a> {
    const NOTICES: usize = 3;

    /// The round that these notices begin with.
    fn of(told: &[Told<'a>]) -> Option<Self> {
        let [(_, left), (_, answer), (_, due), ..] = told else { return None };
        let polled = sent(left).is_some_and(|attempt| attempt.kind == Kind::Poll);
        let pending = matches!(
            answer,
            Notice::Pending { .. }
                | Notice::Progress { .. }
                | Notice::AwaitingPerson
                | Notice::Partial
                | Notice::UnknownStatus(_)
        );
        let polls_on = matches!(due, Notice::Waiting { reason: WakeReason::Poll, .. });
        (polled && pending && polls_on).then_some(Self { answer })
    }
}

impl PartialEq for Round<'_> {
    /// By what the provider says of the job: when it wants to be asked again may differ.
    fn eq(&self, other: &Self) -> bool {
        match (self.answer, other.answer) {
            (Notice::Pending { .. }, Notice::Pending { .. }) => true,
            (one, another) => one == another,
        }
    }
}

const fn sent(notice: &Notice) -> Option<&Attempt> {
    if let Notice::Sending(attempt) = notice { Some(attempt) } else { None }
}

fn waited(at: Timestamp, notice: &Notice) -> Option<(Duration, Delay)> {
    if let Notice::Waiting { until, delay, .. } = notice { Some((until.saturating_since(at), *delay)) } else { None }
}

/// Whether a notice repeats the one before it: all but its times is the same.
fn says_the_same(one: &Notice, another: &Notice) -> bool {
    match (one, another) {
        (Notice::Blocked { kind, refusal }, Notice::Blocked { kind: kind2, refusal: refusal2 }) => {
            kind == kind2 && refusal.why == refusal2.why
        }
        (Notice::PersistFailed { retry, .. }, Notice::PersistFailed { retry: retry2, .. }) => {
            retry.is_some() == retry2.is_some()
        }
        (one, another) => one == another,
    }
}
