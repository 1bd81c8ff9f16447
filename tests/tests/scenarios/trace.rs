//! A job's notices as words: what a scenario says must come, and what is compared between runtimes.
//!
//! | words | notice |
//! | --- | --- |
//! | `create`, `look-up`, `poll` | such a request leaves |
//! | `transient/perhaps`, `throttled/no asks 1s` | it failed: its class, whether it ran, what the provider asked for |
//! | `4ms`, `30ms asked`, `30ms asked, cut` | waits so long: by its own policy; by the provider's word; by that, cut to the policy's ceiling |
//! | `6ms settle`, `budget`, `record` | the same before a look-up; for the retry budget; for what a record says was left (by the clock, so it bears no number) |
//! | `blocked: open`, `breaker: open` | at the gate |
//! | `accepted`, `pending`, `partial`, `unknown status`, `proven absent`, … | what an answer said |
//! | `completed: ready`, `rejected: attempts`, `unresolved: ambiguous`, `failed` | the end |
//!
//! Whether a request that was given up is heard of again depends on whether a runtime can cut it off. So that alone is
//! left out, with what it teaches if that is nothing new.

use std::time::Duration;

use steadfast_core::Outcome;
use steadfast_core::breaker::BreakerState;
use steadfast_core::notice::Notice;
use steadfast_core::retry::{Certainty, Delay, Failure, Ground};
use steadfast_driver::{JobStatus, Observation};

pub(crate) const THEN: &str = " > ";

/// All of them, in their order.
pub(crate) fn words(seen: &[Observation]) -> String {
    let mut last = None;
    let heard = seen.iter().filter(|seen| {
        let late = matches!(last, Some(Notice::LateAnswer(_))) && seen.notice == Notice::Absorbed;
        last = Some(seen.notice.clone());
        !late
    });
    let mut words: Vec<String> = heard.filter_map(|seen| word(&seen.notice)).collect();
    // How often it asks while it waits is not what matters.
    words.dedup_by(|next, word| next == word && word.starts_with("blocked"));
    words.join(THEN)
}

/// A request that leaves earlier than was decided, if there is one: R4.
pub(crate) fn early(seen: &[Observation]) -> Option<String> {
    let mut until = None;
    for seen in seen {
        match &seen.notice {
            Notice::Waiting { until: then, .. } => until = Some(*then),
            // What was told since may bring the next poll forward.
            Notice::Webhook | Notice::Restored | Notice::Resumed => until = None,
            Notice::Sending(attempt) => {
                if let Some(until) = until.take().filter(|until| seen.at < *until) {
                    return Some(format!("{attempt:?} left {:?} too early", until.saturating_since(seen.at)));
                }
            }
            _ => {}
        }
    }
    None
}

fn word(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::LateAnswer(_) => return None,
        Notice::Sending(attempt) => match attempt.kind {
            steadfast_core::Kind::Create => "create".into(),
            steadfast_core::Kind::Lookup => "look-up".into(),
            _ => "poll".into(),
        },
        Notice::Failed { failure, .. } => failed(failure),
        Notice::Waiting { delay, .. } => wait(delay),
        Notice::Blocked { refusal, .. } => format!("blocked: {}", refusal.why.name()),
        Notice::Breaker(BreakerState::Open { .. }) => "breaker: open".into(),
        Notice::Breaker(state) => format!("breaker: {}", state.name()),
        Notice::Accepted => "accepted".into(),
        Notice::Pending { hint: None } => "pending".into(),
        Notice::Pending { hint: Some(hint) } => format!("pending asks {}", span(*hint)),
        Notice::AwaitingPerson => "awaiting person".into(),
        Notice::Partial => "partial".into(),
        Notice::UnknownStatus(text) => format!("unknown status {text:?}"),
        Notice::Webhook => "webhook".into(),
        Notice::ProvenAbsent => "proven absent".into(),
        Notice::Conflict => "conflict".into(),
        Notice::Absorbed => "absorbed".into(),
        Notice::PersistFailed { retry, .. } => {
            format!("not written{}", if retry.is_some() { "" } else { ", for good" })
        }
        Notice::Restored => "restored".into(),
        Notice::Resumed => "resumed".into(),
        Notice::Ended(outcome) => ending(*outcome),
        other => format!("{other:?}"),
    })
}

/// How it ended, and why.
pub(crate) fn ending(outcome: Outcome) -> String {
    match outcome {
        Outcome::Completed(how) => format!("completed: {}", lower(how)),
        Outcome::Rejected(why) => format!("rejected: {}", lower(why)),
        Outcome::Failed => "failed".into(),
        Outcome::Unresolved(why) => format!("unresolved: {}", lower(why)),
    }
}

/// Where a job stands: its stage, or how it ended.
pub(crate) fn standing(status: &JobStatus) -> String {
    let stands = status.outcome().map_or_else(|| lower(status.stage), ending);
    format!("{stands}{}", if status.needs_payload { ", needs its payload" } else { "" })
}

fn failed(failure: &Failure) -> String {
    let ran = match failure.certainty {
        Certainty::NotExecuted => "no",
        Certainty::MayHaveExecuted => "perhaps",
        _ => "yes",
    };
    let asks = failure.retry_after.map(|wait| format!(" asks {}", span(wait))).unwrap_or_default();
    format!("{}/{ran}{asks}", lower(failure.class))
}

fn wait(delay: &Delay) -> String {
    match (delay.ground, delay.hint.filter(|hint| hint.decides)) {
        (Ground::Budget, _) => "budget".into(),
        (Ground::Record, _) => "record".into(),
        (Ground::Settle, _) => format!("{} settle", span(delay.wait())),
        (_, Some(hint)) => format!("{} asked{}", span(delay.wait()), if hint.cut { ", cut" } else { "" }),
        (_, None) => span(delay.wait()),
    }
}

fn span(span: Duration) -> String {
    format!("{span:?}")
}

/// `MayHaveExecuted` as `may have executed`.
pub(crate) fn lower(variant: impl std::fmt::Debug) -> String {
    let mut text = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
