//! Works out when attempts and polls start: the bounds from the policy itself, the middle from runs with seeds, all by
//! the core's own functions.
//!
//! *Earliest*, *median* and *latest* assume that each earlier attempt fails at once (a poll: is answered at once), so
//! they show the effect of jitter. *Slow* assumes that each lasts as long as it may.

use std::time::Duration;

use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryDecision, RetryPolicy};
use steadfast_core::{Seed, Timestamp};

/// An odd number, so that one of them is the median.
pub(super) const RUNS: u64 = 1_001;

/// Enough runs to say what hardly ever happens.
const FEW_RUNS: u64 = 101;

/// If a policy has more attempts than this, only the first ones are looked at.
pub(super) const MOST: u16 = 100;

/// When one attempt starts, counted from the first possible start (for polls: from the acceptance of the job). `None`:
/// never, since the deadline comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// From 1.
    pub(super) number: u16,
    pub(super) earliest: Option<Duration>,
    /// The median of the runs that reached this attempt.
    pub(super) median: Option<Duration>,
    /// The latest start before the deadline.
    pub(super) latest: Option<Duration>,
    /// The latest start if each earlier attempt lasted as long as it may.
    pub(super) slow: Option<Duration>,
    /// The starts in all runs that reached this attempt, sorted.
    pub(super) runs: Vec<Duration>,
}

impl Start {
    /// In how many of a hundred runs this attempt was reached, rounded down.
    pub(super) fn reached(&self) -> u64 {
        self.runs.len() as u64 * 100 / RUNS
    }
}

/// The most attempts that any of some runs makes: beyond [`MOST`] they are not listed one by one.
pub(super) fn most_attempts(policy: &RetryPolicy, seed: u64) -> u16 {
    let start = Timestamp::from_secs(1_700_000_000);
    let failure = Failure::new(Class::Transient, Certainty::NotExecuted);
    let run = |seed: Seed| {
        let (mut made, mut at) = (1, start);
        while let RetryDecision::At(next) = policy.decide(made, failure, start, at, true, seed) {
            (made, at) = (made + 1, next);
        }
        made
    };
    (0..FEW_RUNS).map(|number| run(Seed::new(seed).derive(number))).max().unwrap_or(0)
}

/// The same for polls.
pub(super) fn most_polls(policy: &PollPolicy, seed: u64) -> u16 {
    let run = |seed: Seed| {
        let (mut sent, mut at) = (0, Duration::ZERO);
        while sent < policy.polls() {
            at = at.saturating_add(policy.wait(sent, None, seed));
            if at >= policy.deadline() {
                break;
            }
            sent += 1;
        }
        sent
    };
    (0..FEW_RUNS).map(|number| run(Seed::new(seed).derive(number))).max().unwrap_or(0)
}

/// When the last poll of a job that stays pending is answered, if each wait is as long as it may be, and each answer
/// takes as long as it may.
pub(super) fn used_up(policy: &PollPolicy) -> Duration {
    let each = policy.retry().attempt_timeout();
    let waits = (1..=u32::from(policy.polls())).map(|pending| policy.schedule().bounds(pending).1);
    waits.fold(Duration::ZERO, |at, wait| at.saturating_add(wait).saturating_add(each))
}

/// When a request that keeps failing is sent.
pub(super) fn attempts(policy: &RetryPolicy, seed: u64) -> Vec<Start> {
    let count = policy.attempts().min(MOST);
    let start = Timestamp::from_secs(1_700_000_000);
    let failure = Failure::new(Class::Transient, Certainty::NotExecuted);
    let run = |seed: Seed| {
        let mut at = start;
        let mut starts = vec![Duration::ZERO];
        for made in 1..count {
            match policy.decide(made, failure, start, at, true, seed) {
                RetryDecision::At(next) => at = next,
                RetryDecision::GiveUp(_) => break,
            }
            starts.push(at.saturating_since(start));
        }
        starts
    };
    let waits = (0..count).map(|made| match made {
        0 => (Duration::ZERO, Duration::ZERO, Duration::ZERO),
        made => {
            let (shortest, longest) = policy.backoff().bounds(u32::from(made));
            (shortest, longest, policy.attempt_timeout().saturating_add(longest))
        }
    });
    starts(waits, policy.deadline(), seed, run)
}

/// When a job that stays pending is polled.
pub(super) fn polls(policy: &PollPolicy, seed: u64) -> Vec<Start> {
    let count = policy.polls().min(MOST);
    let run = |seed: Seed| {
        let waits = (0..count).map(|pending| policy.wait(pending, None, seed));
        let sums = waits.scan(Duration::ZERO, |at, wait| {
            *at = at.saturating_add(wait);
            Some(*at)
        });
        sums.take_while(|at| *at < policy.deadline()).collect()
    };
    let schedule: &BackoffPolicy = policy.schedule();
    let waits = (0..count).map(|pending| {
        let (shortest, longest) = schedule.bounds(u32::from(pending) + 1);
        let answered = if pending == 0 { Duration::ZERO } else { policy.retry().attempt_timeout() };
        (shortest, longest, answered.saturating_add(longest))
    });
    starts(waits, policy.deadline(), seed, run)
}

/// `waits`: the shortest and the longest wait before each start, and the longest after a slow attempt.
fn starts(
    waits: impl Iterator<Item = (Duration, Duration, Duration)>,
    deadline: Duration,
    seed: u64,
    run: impl Fn(Seed) -> Vec<Duration>,
) -> Vec<Start> {
    let runs: Vec<Vec<Duration>> = (0..RUNS).map(|number| run(Seed::new(seed).derive(number))).collect();
    let (mut earliest, mut latest, mut slow) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let in_time = |at: Duration| (at < deadline).then_some(at);
    let last = deadline.saturating_sub(Duration::from_nanos(1));
    let start = |(index, (shortest, longest, after_slow)): (usize, (Duration, Duration, Duration))| {
        earliest = earliest.saturating_add(shortest);
        latest = latest.saturating_add(longest);
        slow = slow.saturating_add(after_slow);
        let mut runs: Vec<Duration> = runs.iter().filter_map(|run| run.get(index).copied()).collect();
        runs.sort_unstable();
        Start {
            number: u16::try_from(index + 1).unwrap_or(u16::MAX),
            earliest: in_time(earliest),
            median: runs.get(runs.len() / 2).copied(),
            // If some runs reach this attempt, one may start just before the deadline.
            latest: in_time(earliest).map(|_| latest.min(last)),
            slow: in_time(slow),
            runs,
        }
    };
    waits.enumerate().map(start).collect()
}

#[cfg(test)]
mod tests {
    use steadfast_core::backoff::{Growth, Jitter};

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_schedule_without_jitter_has_one_time_for_each_poll() {
        let starts = polls(&PollPolicy::default(), 1);
        let at: Vec<_> = starts.iter().map(|start| start.median.map(|at| at.as_secs())).collect();
        assert_eq!(at[..8], [3, 9, 21, 45, 75, 105, 135, 165].map(Some));
        // The tenth would be due 45 s after the deadline.
        assert_eq!(at[8..], [None, None]);
        for start in &starts {
            assert_eq!((start.earliest, start.latest), (start.median, start.median), "{start:?}");
        }
        assert_eq!((starts[2].slow, starts[7].slow), (Some(secs(41)), None));
    }

    #[test]
    fn every_run_lies_between_the_ends_and_the_ends_are_near() {
        let jitters =
            [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Proportional { percent: 30 }, Jitter::Decorrelated];
        for jitter in jitters {
            let backoff = BackoffPolicy::new(Growth::doubling(secs(1)), secs(20), jitter).unwrap();
            let policy = RetryPolicy::new(6, secs(3_600), secs(10), backoff).unwrap();
            for start in attempts(&policy, 7) {
                let (first, last) = (start.runs[0], start.runs[start.runs.len() - 1]);
                let (earliest, latest) = (start.earliest.unwrap(), start.latest.unwrap());
                assert!(earliest <= first && last <= latest, "{jitter:?} {start:?}");
                assert_eq!((start.reached(), start.runs.len()), (100, 1_001));
                if start.number == 2 {
                    let near = |a: Duration, b: Duration| a.abs_diff(b) < Duration::from_millis(20);
                    assert!(near(earliest, first) && near(latest, last), "{jitter:?}: {earliest:?} {latest:?}");
                }
            }
        }
    }

    #[test]
    fn what_the_deadline_cuts_off_is_said() {
        let backoff = BackoffPolicy::new(Growth::Fixed(secs(30)), secs(30), Jitter::Full).unwrap();
        let starts = attempts(&RetryPolicy::new(5, secs(40), secs(30), backoff).unwrap(), 1);
        let last = &starts[4];
        assert_eq!(last.earliest, Some(Duration::ZERO), "all delays may be zero");
        assert!(last.reached() < 30 && last.latest.unwrap() < secs(40), "{:?}", last.reached());
        assert_eq!((starts[1].slow, starts[2].slow), (None, None), "one that lasts 30 s and waits 30 s is the last");
    }
}
