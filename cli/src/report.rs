//! The result of `demo`: one structure, shown as a table to people and as JSON to machines.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;
use steadfast_testkit::WebhookCounts;

use crate::pulse::GateReport;

/// The whole result of a demo.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) provider: &'static str,
    /// What the client ran on: `tokio` or `blocking`.
    pub(crate) adapter: &'static str,
    pub(crate) seed: u64,
    pub(crate) operations: u64,
    pub(crate) outcomes: Outcomes,
    pub(crate) attempts: Attempts,
    /// The provider's faults, by kind.
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) ledger: Ledger,
    /// From submit to outcome, as measured (so divided by the speed).
    pub(crate) latency_ms: Latency,
    /// Unknown for a client that was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gate: Option<GateReport>,
    /// How often the client was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kills: Option<u32>,
    /// In which states the kills left jobs that had not ended, all kills together.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) left_by_kills: BTreeMap<&'static str, u64>,
    /// If the provider sends any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhooks: Option<Webhooks>,
    pub(crate) elapsed_ms: u64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcomes {
    pub(crate) completed: u64,
    pub(crate) rejected: u64,
    pub(crate) failed: u64,
    pub(crate) unresolved: u64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Attempts {
    pub(crate) create: u64,
    pub(crate) poll: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) lookup: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The provider's books beside what the client believes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Ledger {
    pub(crate) executions: u64,
    pub(crate) keys: u64,
    pub(crate) keys_run_more_than_once: u64,
    pub(crate) completed_but_never_run: u64,
    /// Reported as "nothing ran", although the provider ran it.
    pub(crate) rejected_but_run: u64,
}

/// What became of webhooks, by the provider's books.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Webhooks {
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) early: u64,
    pub(crate) forged: u64,
    pub(crate) refused: u64,
    /// Forged ones that were answered with a 2xx: if there is any, the report says so and the command fails.
    #[serde(skip)]
    pub(crate) believed: u64,
}

impl From<WebhookCounts> for Webhooks {
    fn from(counts: WebhookCounts) -> Self {
        let WebhookCounts { delivered, lost, duplicated, early, forged, refused, believed, .. } = counts;
        Self { delivered, lost, duplicated, early, forged, refused, believed }
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Latency {
    pub(crate) fn of(mut spans: Vec<Duration>) -> Self {
        spans.sort_unstable();
        // The nearest rank: the smallest span that is at least as long as that share of all.
        let at = |percent: usize| {
            let rank = (spans.len() * percent).div_ceil(100).max(1);
            spans.get(rank - 1).map_or(0, |span| span.as_millis() as u64)
        };
        Self { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

impl Outcomes {
    const fn total(&self) -> u64 {
        self.completed + self.rejected + self.failed + self.unresolved
    }
}

impl Report {
    /// The broken promises, in words: none must ever occur.
    pub(crate) fn broken_promises(&self) -> Vec<String> {
        let without_outcome = self.operations.saturating_sub(self.outcomes.total());
        // A webhook is counted when it is answered.
        let (forged, refused, believed) =
            self.webhooks.as_ref().map_or((0, 0, 0), |webhooks| (webhooks.forged, webhooks.refused, webhooks.believed));
        [
            (self.ledger.keys_run_more_than_once, "keys were run more than once"),
            (self.ledger.completed_but_never_run, "operations were reported completed and never ran"),
            (self.ledger.rejected_but_run, "operations were reported rejected and ran"),
            (without_outcome, "operations have no outcome"),
            (believed, "forged webhooks were believed"),
            (forged.saturating_sub(refused).saturating_sub(believed), "forged webhooks were not refused"),
            (refused.saturating_sub(forged), "true webhooks were refused"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["", "what", "count"]);
        let Outcomes { completed, rejected, failed, unresolved } = self.outcomes;
        rows(
            &mut table,
            "outcomes",
            [
                ("completed: the result is here", completed),
                ("rejected: nothing ran", rejected),
                ("failed: it ran, the provider says so", failed),
                ("unresolved: ask the provider, never resubmit", unresolved),
            ],
        );
        let Attempts { create, poll, lookup } = self.attempts;
        rows(&mut table, "requests", [("creates", create), ("polls", poll), ("look-ups", lookup)]);
        rows(&mut table, "faults", self.faults.iter().map(|(kind, count)| (kind.as_str(), *count)));
        let Ledger { executions, keys, keys_run_more_than_once, completed_but_never_run, rejected_but_run } =
            self.ledger;
        rows(
            &mut table,
            "provider's ledger",
            [
                ("keys seen", keys),
                ("jobs run", executions),
                ("keys run more than once", keys_run_more_than_once),
                ("completed, but never run", completed_but_never_run),
                ("rejected, but run", rejected_but_run),
            ],
        );
        if let Some(Webhooks { delivered, lost, duplicated, early, forged, refused, .. }) = self.webhooks {
            rows(
                &mut table,
                "webhooks",
                [
                    ("delivered: answered with a 2xx", delivered),
                    ("lost: polls found out", lost),
                    ("sent twice", duplicated),
                    ("before the create was answered", early),
                    ("forged, altered, or sent again too late", forged),
                    ("refused", refused),
                ],
            );
        }
        if let Some(kills) = self.kills {
            rows(&mut table, "kills", [("times the client was killed", u64::from(kills))]);
            rows(&mut table, "found by restarts", self.left_by_kills.iter().map(|(state, count)| (*state, *count)));
        }
        if let Some(GateReport { breaker, calls_saved, paced, sent_after_recovery }) = &self.gate {
            let opened = breaker.iter().filter(|change| change.state == "open").count() as u64;
            rows(
                &mut table,
                "gate",
                [
                    ("breaker opened", opened),
                    ("calls saved while it was open", *calls_saved),
                    ("waits for the rate limit", *paced),
                ],
            );
            if let Some(most) = sent_after_recovery.iter().max().filter(|_| opened > 0) {
                rows(&mut table, "", [("most in a second after recovery", *most)]);
            }
        }
        let Latency { p50, p90, p99, max } = self.latency_ms;
        rows(&mut table, "latency, ms, sped up", [("median", p50), ("90 %", p90), ("99 %", p99), ("longest", max)]);
        table
    }
}

fn rows<'a>(table: &mut Table, group: &str, rows: impl IntoIterator<Item = (&'a str, u64)>) {
    let mut group = Some(group);
    for (what, count) in rows {
        let count = Cell::new(count).set_alignment(CellAlignment::Right);
        table.add_row([Cell::new(group.take().unwrap_or_default()), Cell::new(what), count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let latency = Latency::of((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!((latency.p50, latency.p90, latency.p99, latency.max), (100, 180, 198, 200));
        let one = Latency::of(vec![Duration::from_millis(7)]);
        assert_eq!((one.p50, one.max), (7, 7));
        assert_eq!(Latency::of(Vec::new()).max, 0);
    }

    fn clean() -> Report {
        Report {
            provider: "deepvue",
            adapter: "tokio",
            seed: 1,
            operations: 2,
            outcomes: Outcomes { completed: 1, unresolved: 1, ..Outcomes::default() },
            attempts: Attempts::default(),
            faults: BTreeMap::new(),
            ledger: Ledger { executions: 1, keys: 2, ..Ledger::default() },
            latency_ms: Latency::default(),
            gate: Some(GateReport::default()),
            kills: None,
            left_by_kills: BTreeMap::new(),
            webhooks: Some(Webhooks { forged: 5, refused: 5, ..Webhooks::default() }),
            elapsed_ms: 1,
        }
    }

    #[test]
    fn each_broken_promise_is_named() {
        assert!(clean().broken_promises().is_empty());
        let breaks: [fn(&mut Report); 7] = [
            |report| report.ledger.keys_run_more_than_once = 1,
            |report| report.ledger.completed_but_never_run = 1,
            |report| report.ledger.rejected_but_run = 1,
            |report| report.operations = 3,
            |report| report.webhooks = Some(Webhooks { forged: 5, refused: 4, ..Webhooks::default() }),
            |report| report.webhooks = Some(Webhooks { forged: 5, refused: 5, believed: 1, ..Webhooks::default() }),
            |report| report.webhooks = Some(Webhooks { forged: 4, refused: 5, ..Webhooks::default() }),
        ];
        for broken in breaks {
            let mut report = clean();
            broken(&mut report);
            assert_eq!(report.broken_promises().len(), 1);
        }
    }
}
