//! A history, told: a line for each thing that happened, with the time and the job.

use std::fmt::Write as _;
use std::time::Duration;

use steadfast_core::explain::explain;
use steadfast_testkit::simulation::{History, What};

/// What happened, a line each.
pub(crate) fn told(history: &History) -> String {
    let mut text = String::new();
    let start = history.entries.first().map(|entry| entry.at);
    for entry in &history.entries {
        let since = start.map_or(Duration::ZERO, |start| entry.at.saturating_since(start));
        let job = entry.job.map_or_else(|| "      ".into(), |job| format!("job {job:<2}"));
        let what = match &entry.what {
            What::World(text) => format!("· {text}"),
            What::Notice(clock, notice) => {
                let line = explain(notice, *clock);
                format!("{} {line}", line.mark())
            }
            _ => continue,
        };
        let _ = writeln!(text, "{:>11.3} s  {job}  {what}", since.as_secs_f64());
    }
    text
}
