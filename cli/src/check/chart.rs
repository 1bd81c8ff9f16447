//! Draws when attempts start: one line per attempt, in which the height of a column is the number of runs that started
//! in its time.

use std::time::Duration;

use steadfast_core::explain::Span;

use super::times::Start;
use crate::pulse::bar;

/// With more lines than this, the picture is of no use.
const LINES: usize = 16;

/// The starts in at most this many characters; empty if nothing starts at two different times.
pub(super) fn chart(what: &str, starts: &[Start], width: usize) -> String {
    let label = starts.iter().map(|start| format!("{what} {}", start.number).len()).max().unwrap_or(0);
    let columns = width.saturating_sub(label + 2).max(10);
    // The axis covers only the attempts that are drawn.
    let reached = starts.iter().filter(|start| !start.runs.is_empty()).take(LINES);
    let Some(end) = reached.clone().filter_map(|start| start.latest).max().filter(|end| !end.is_zero()) else {
        return String::new();
    };
    let column = |at: Duration| {
        let share = at.as_secs_f64() / end.as_secs_f64();
        ((share * columns as f64) as usize).min(columns - 1)
    };
    let mut lines: Vec<String> = Vec::new();
    for start in reached.clone() {
        let mut counts = vec![0_usize; columns];
        start.runs.iter().for_each(|at| counts[column(*at)] += 1);
        let most = counts.iter().copied().max().unwrap_or(1);
        let bars: String = counts.iter().map(|count| bar(*count, most)).collect();
        lines.push(format!("{:label$}  {}", format!("{what} {}", start.number), bars.trim_end()));
    }
    let end = Span(end).to_string();
    let room = columns.saturating_sub(end.chars().count() + 1);
    lines.push(format!("{:label$}  0{:>room$}{end}", "", ""));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use steadfast_core::poll::PollPolicy;

    use super::super::times;
    use super::*;

    #[test]
    fn each_start_stands_where_its_time_is() {
        let drawn = chart("poll", &times::polls(&PollPolicy::default(), 1), 40);
        let expected = "\
poll 1  █
poll 2   █
poll 3      █
poll 4          █
poll 5                █
poll 6                      █
poll 7                           █
poll 8                                 █
        0                     2 min 45 s";
        assert!(drawn.lines().all(|line| line.chars().count() <= 40), "{drawn}");
        let columns = |text: &str| text.lines().map(|line| line.find('█')).collect::<Vec<_>>();
        let steps = columns(&drawn);
        assert_eq!(steps.len(), columns(expected).len(), "{drawn}");
        assert!(steps[..8].windows(2).all(|pair| pair[0] < pair[1]), "{drawn}");
        assert!(drawn.ends_with("2 min 45 s"), "{drawn}");
    }

    #[test]
    fn what_starts_at_once_and_only_then_is_no_picture() {
        assert_eq!(chart("attempt", &[], 80), "");
    }
}
