//! What a person who watches a job sees: one line per notice, with the time since the start.

use std::time::Instant;

use steadfast_core::Label;
use steadfast_core::explain::{Span, explain};
use steadfast_core::notice::Notice;
use steadfast_tokio::Observation;

use crate::ops::plain;

/// Prints observations to stderr.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Instant,
    /// The job to show: a journal may hold others.
    key: Label,
}

impl Timeline {
    pub(crate) fn start(key: Label) -> Self {
        Self { start: Instant::now(), key }
    }

    pub(crate) fn print(&self, seen: &Observation) {
        if seen.key != self.key {
            return;
        }
        let line = explain(&seen.notice, seen.at);
        eprintln!("{:>12}  {} {line}{}", Span(self.start.elapsed()), line.mark(), names(seen));
    }
}

/// What no notice contains: the ids under which the provider knows the request and the job.
fn names(seen: &Observation) -> String {
    match (&seen.notice, &seen.reference) {
        (Notice::Sending(_), _) => format!(" (request id {})", seen.correlation_id),
        (Notice::Accepted, Some(reference)) => format!(" (reference {})", plain(reference.as_str())),
        _ => String::new(),
    }
}
