//! How a run went over time: what was sent when, and the breaker's state, as two lines of characters.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use steadfast_core::Timestamp;
use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::Blocked;
use steadfast_core::notice::Notice;
use steadfast_tokio::Observation;

/// Collects the data while the jobs run.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<Beats>);

#[derive(Debug, Default)]
struct Beats {
    sent: Vec<Timestamp>,
    changes: Vec<(Timestamp, BreakerState)>,
    held_back: u64,
    paced: u64,
}

/// What the gate did, for the report.
#[derive(Debug, Default, Serialize)]
pub(crate) struct GateReport {
    /// Every change of the breaker: to what, and when, since the first request and before the speed is applied.
    pub(crate) breaker: Vec<Change>,
    /// Requests that the breaker kept from a provider known to be down.
    pub(crate) calls_saved: u64,
    /// Requests that waited for a rate limit or behind others.
    pub(crate) paced: u64,
    /// Requests sent in each second after the breaker closed for the last time, before the speed; at most ten.
    pub(crate) sent_after_recovery: Vec<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Change {
    pub(crate) at_ms: u64,
    pub(crate) state: &'static str,
}

impl Pulse {
    pub(crate) fn watch(&self, seen: &Observation) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = matches!(beats.changes.last(), None | Some((_, BreakerState::Closed)));
        match &seen.notice {
            Notice::Sending(_) => beats.sent.push(seen.at),
            Notice::Breaker(state) => beats.changes.push((seen.at, *state)),
            Notice::Blocked { .. } if !closed => beats.held_back += 1,
            Notice::Blocked { refusal, .. } if matches!(refusal.why, Blocked::Rate | Blocked::Line) => beats.paced += 1,
            _ => {}
        }
    }

    pub(crate) fn report(&self, speed: f64) -> GateReport {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = beats.sent.first().copied().unwrap_or_default();
        let since = |at: Timestamp, from: Timestamp| at.saturating_since(from).as_secs_f64() * speed;
        let mut after = Vec::new();
        if let Some((closed, BreakerState::Closed)) = beats.changes.last().copied() {
            for at in beats.sent.iter().filter(|at| **at >= closed) {
                let second = since(*at, closed) as usize;
                if second < 10 {
                    after.resize(after.len().max(second + 1), 0);
                    after[second] += 1;
                }
            }
        }
        let change = |(at, state): &(Timestamp, BreakerState)| Change {
            at_ms: (since(*at, start) * 1_000.0) as u64,
            state: state.name(),
        };
        GateReport {
            breaker: beats.changes.iter().map(change).collect(),
            calls_saved: beats.held_back,
            paced: beats.paced,
            sent_after_recovery: after,
        }
    }

    /// The whole run in `width` characters; empty if nothing was sent.
    pub(crate) fn chart(&self, width: usize, speed: f64) -> String {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(start), Some(end)) = (beats.sent.first().copied(), beats.sent.last().copied()) else {
            return String::new();
        };
        let span = end.saturating_since(start).max(Duration::from_nanos(1));
        let column = |at: Timestamp| {
            let share = at.saturating_since(start).as_secs_f64() / span.as_secs_f64();
            ((share * width as f64) as usize).min(width - 1)
        };
        let mut sent = vec![0_usize; width];
        for at in &beats.sent {
            sent[column(*at)] += 1;
        }
        let most = sent.iter().copied().max().unwrap_or(1).max(1);
        let mut state = vec![BreakerState::Closed; width];
        for (at, now) in &beats.changes {
            state[column(*at)..].fill(*now);
        }
        let bars: String = sent.iter().map(|count| bar(*count, most)).collect();
        let marks: String = state.iter().map(|state| mark(*state)).collect();
        let mut chart = format!("requests {bars}\nbreaker  {marks}");
        let seconds = span.as_secs_f64() * speed;
        let _ = write!(chart, "\n         (· closed, # open, ? half-open; {seconds:.0} s of the provider's time)");
        chart
    }
}

/// A column with anything sent is never drawn as empty.
pub(crate) fn bar(count: usize, most: usize) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if count == 0 { ' ' } else { BARS[(count * BARS.len()).div_ceil(most) - 1] }
}

const fn mark(state: BreakerState) -> char {
    match state {
        BreakerState::Closed => '·',
        BreakerState::HalfOpen => '?',
        _ => '#',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_only_for_nothing_and_full_only_for_the_most() {
        assert_eq!(bar(0, 9), ' ');
        assert_eq!(bar(1, 1_000), '▁');
        assert_eq!((bar(999, 1_000), bar(1_000, 1_000)), ('█', '█'));
        assert_eq!(bar(500, 1_000), '▄');
    }

    #[test]
    fn a_chart_shows_when_the_breaker_was_open() {
        let at = Timestamp::from_secs;
        let until = at(30);
        let pulse = Pulse::default();
        *pulse.0.lock().unwrap() = Beats {
            sent: vec![at(0), at(1), at(1), at(9)],
            changes: vec![(at(3), BreakerState::Open { until }), (at(7), BreakerState::Closed)],
            held_back: 5,
            paced: 0,
        };
        assert_eq!(
            pulse.chart(10, 1.0),
            "requests ▄█       ▄\nbreaker  ···####···\n         (· closed, # open, ? half-open; 9 s of the provider's time)"
        );
        let report = pulse.report(1.0);
        assert_eq!((report.calls_saved, report.sent_after_recovery), (5, vec![0, 0, 1]));
        assert_eq!(report.breaker.iter().map(|change| change.at_ms).collect::<Vec<_>>(), [3_000, 7_000]);
    }
}
