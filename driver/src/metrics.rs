//! What is counted and timed, by the [`metrics`](https://docs.rs/metrics) facade: the feature `metrics` of this crate and of both adapters.
//!
//! Names, types and labels, each of which bears `provider` ([`Provider::name`](steadfast_providers::Provider::name))
//! besides those listed:
//!
//! | name | type | labels | |
//! | --- | --- | --- | --- |
//! | `steadfast_operations_begun_total` | counter | `begun` | Jobs taken on: submitted, restored after a restart, or resumed. |
//! | `steadfast_operations_ended_total` | counter | `outcome`, `reason` | Jobs that ended, by outcome and why: see Outcome::name and Outcome::reason. |
//! | `steadfast_operation_seconds` | histogram | `outcome` | From a job's submit to its outcome, restarts included. |
//! | `steadfast_operation_attempts` | histogram | – | Attempts that one job took, of all kinds, with those that were given up before they left. |
//! | `steadfast_operation_polls` | histogram | – | Polls of one job that were answered with pending. |
//! | `steadfast_operations_live` | gauge | – | Jobs under way. |
//! | `steadfast_operations_parked` | gauge | – | Jobs that wait for their payload: somebody has to submit their keys again. |
//! | `steadfast_attempts_begun_total` | counter | `kind` | Requests about to leave: create, lookup or poll. |
//! | `steadfast_attempts_ended_total` | counter | `kind`, `class` | Requests with a usable answer (ok), or the class of their failure. Those that were no longer waited for are not counted. |
//! | `steadfast_attempt_seconds` | histogram | `kind` | From when a request was handed to the transport until its result was taken in. |
//! | `steadfast_attempts_in_flight` | gauge | – | Requests that hold a permit and are not settled. |
//! | `steadfast_retries_total` | counter | `kind` | Repeated requests: creates and look-ups from the second on, polls after one that failed. |
//! | `steadfast_gate_blocked_total` | counter | `kind`, `why` | How often the gate held a request back, and by what: see Blocked::name. |
//! | `steadfast_gate_wait_seconds` | histogram | `kind` | How long requests waited at the gate, if they had to wait. |
//! | `steadfast_breaker_state` | gauge | `state` | How many clients' breakers are in this state: see BreakerState::name. |
//! | `steadfast_breaker_changes_total` | counter | `state` | How often a breaker came into this state. |
//! | `steadfast_retry_budget_tokens` | gauge | – | Retries that the budget allows at once. Not there if the client starts without one. |
//! | `steadfast_bulkhead_limit` | gauge | – | Requests that may be in the air at once. Not there if the client starts without a bound. |
//! | `steadfast_journal_commits_total` | counter | `result` | Commits by result: durable, certainly failed, or unknown, which are tried again. |
//! | `steadfast_journal_commit_seconds` | histogram | – | How long the store took for a commit. |
//! | `steadfast_journal_commit_records` | histogram | – | Records that went to disk together. |
//! | `steadfast_journal_lag_seconds` | histogram | – | How old a commit's oldest record was when it was durable. |
//! | `steadfast_journal_pending_records` | gauge | – | Records that are not durable yet. |
//! | `steadfast_journal_oldest_pending_timestamp_seconds` | gauge | – | Since when the oldest record waits to be durable, in Unix time; 0 if none waits. It stays true while the store hangs. |
//! | `steadfast_webhooks_total` | counter | `verdict` | Webhooks by what their sender was told: see Delivery::name. |
//! | `steadfast_revisions_total` | counter | – | Reports of the provider about jobs that had ended. |
//! | `steadfast_renewals_total` | counter | `result` | Renewals of credentials: renewed, or failed. |
//! | `steadfast_notices_dropped_total` | counter | – | Notices lost because more came at once than Limits::notices allows: the other metrics lack as many. |
//!
//! Units are seconds where the name says so. **Every label's values are few and fixed**: words from enumerations, and
//! the provider's name, which the program chooses. No key, label of a key, reference, status text, host or path is
//! ever one. Clients of one provider in one process add up, gauges too; the oldest record's time is the oldest among
//! them, so a healthy client does not hide one whose store hangs. A client's shards add up to it; a commit that
//! several of them had written together counts as one for each.
//!
//! Metric handles are taken when a client starts, so install the recorder before. Without a recorder they do nothing.
//! A recorder that panics is not called again by that client, whose jobs go on; the log says so. With
//! `metrics-exporter-prometheus`, histograms need their buckets, and the `ops/` folder has a dashboard and alerts that
//! go with these names:
//!
//! ```
//! use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
//! use steadfast_driver::metrics::{MetricKind, TABLE}; // or an adapter's
//!
//! let histograms = TABLE.iter().filter(|metric| metric.kind == MetricKind::Histogram);
//! let builder = histograms.fold(Ok(PrometheusBuilder::new()), |builder, metric| {
//!     builder?.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
//! });
//! let handle = builder?.install_recorder()?; // what a scrape gets: `handle.render()`
//! # let _ = handle;
//! # Ok::<(), metrics_exporter_prometheus::BuildError>(())
//! ```
//!
//! What is not there: a gauge of *unresolved* jobs, since the client forgets them and the journal does not
//! (`steadfast ops FILE --unresolved` lists them); and rates, which queries compute.

/// One line of the [table](self).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, as the recorder is told.
    pub name: &'static str,
    /// Which type of metric it is.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
    /// For a histogram: suitable upper bounds of the buckets, ascending.
    pub buckets: &'static [f64],
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the facade has exactly these three")]
pub enum MetricKind {
    /// Only grows, while the process runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values, in buckets.
    Histogram,
}

/// Seconds of a request.
const SHORT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds of a job: a person may take a day.
const LONG: &[f64] = &[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

/// Seconds of a commit.
const COMMIT: &[f64] = &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// A number of things.
const COUNT: &[f64] = &[1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 100.0, 250.0, 1_000.0];

/// Everything that is counted or timed.
pub const TABLE: &[Metric] = &[
    Metric {
        name: OPERATIONS_BEGUN,
        kind: MetricKind::Counter,
        labels: &["provider", "begun"],
        help: "Jobs taken on: submitted, restored after a restart, or resumed.",
        buckets: &[],
    },
    Metric {
        name: OPERATIONS_ENDED,
        kind: MetricKind::Counter,
        labels: &["provider", "outcome", "reason"],
        help: "Jobs that ended, by outcome and why: see Outcome::name and Outcome::reason.",
        buckets: &[],
    },
    Metric {
        name: OPERATION_SECONDS,
        kind: MetricKind::Histogram,
        labels: &["provider", "outcome"],
        help: "From a job's submit to its outcome, restarts included.",
        buckets: LONG,
    },
    Metric {
        name: OPERATION_ATTEMPTS,
        kind: MetricKind::Histogram,
        labels: &["provider"],
        help: "Attempts that one job took, of all kinds, with those that were given up before they left.",
        buckets: COUNT,
    },
    Metric {
        name: OPERATION_POLLS,
        kind: MetricKind::Histogram,
        labels: &["provider"],
        help: "Polls of one job that were answered with pending.",
        buckets: COUNT,
    },
    Metric {
        name: OPERATIONS_LIVE,
        kind: MetricKind::Gauge,
        labels: &["provider"],
        help: "Jobs under way.",
        buckets: &[],
    },
    Metric {
        name: OPERATIONS_PARKED,
        kind: MetricKind::Gauge,
        labels: &["provider"],
        help: "Jobs that wait for their payload: somebody has to submit their keys again.",
        buckets: &[],
    },
    Metric {
        name: ATTEMPTS_BEGUN,
        kind: MetricKind::Counter,
        labels: &["provider", "kind"],
        help: "Requests about to leave: create, lookup or poll.",
        buckets: &[],
    },
    Metric {
        name: ATTEMPTS_ENDED,
        kind: MetricKind::Counter,
        labels: &["provider", "kind", "class"],
        help: "Requests with a usable answer (ok), or the class of their failure. Those that were no longer waited for are not counted.",
        buckets: &[],
    },
    Metric {
        name: ATTEMPT_SECONDS,
        kind: MetricKind::Histogram,
        labels: &["provider", "kind"],
        help: "From when a request was handed to the transport until its result was taken in.",
        buckets: SHORT,
    },
    Metric {
        name: ATTEMPTS_IN_FLIGHT,
        kind: MetricKind::Gauge,
        labels: &["provider"],
        help: "Requests that hold a permit and are not settled.",
        buckets: &[],
    },
    Metric {
        name: RETRIES,
        kind: MetricKind::Counter,
        labels: &["provider", "kind"],
        help: "Repeated requests: creates and look-ups from the second on, polls after one that failed.",
        buckets: &[],
    },
    Metric {
        name: GATE_BLOCKED,
        kind: MetricKind::Counter,
        labels: &["provider", "kind", "why"],
        help: "How often the gate held a request back, and by what: see Blocked::name.",
        buckets: &[],
    },
    Metric {
        name: GATE_WAIT,
        kind: MetricKind::Histogram,
        labels: &["provider", "kind"],
        help: "How long requests waited at the gate, if they had to wait.",
        buckets: LONG,
    },
    Metric {
        name: BREAKER_STATE,
        kind: MetricKind::Gauge,
        labels: &["provider", "state"],
        help: "How many clients' breakers are in this state: see BreakerState::name.",
        buckets: &[],
    },
    Metric {
        name: BREAKER_CHANGES,
        kind: MetricKind::Counter,
        labels: &["provider", "state"],
        help: "How often a breaker came into this state.",
        buckets: &[],
    },
    Metric {
        name: BUDGET,
        kind: MetricKind::Gauge,
        labels: &["provider"],
        help: "Retries that the budget allows at once. Not there if the client starts without one.",
        buckets: &[],
    },
    Metric {
        name: BULKHEAD,
        kind: MetricKind::Gauge,
        labels: &["provider"],
        help: "Requests that may be in the air at once. Not there if the client starts without a bound.",
        buckets: &[],
    },
    Metric {
        name: COMMITS,
        kind: MetricKind::Counter,
        labels: &["provider", "result"],
        help: "Commits by result: durable, certainly failed, or unknown, which are tried again.",
        buckets: &[],
    },
    Metric {
        name: COMMIT_SECONDS,
        kind: MetricKind::Histogram,
        labels: &["provider"],
        help: "How long the store took for a commit.",
        buckets: COMMIT,
    },
    Metric {
        name: COMMIT_RECORDS,
        kind: MetricKind::Histogram,
        labels: &["provider"],
        help: "Records that went to disk together.",
        buckets: COUNT,
    },
    Metric {
        name: LAG,
        kind: MetricKind::Histogram,
        labels: &["provider"],
        help: "How old a commit's oldest record was when it was durable.",
        buckets: COMMIT,
    },
    Metric {
        name: PENDING,
        kind: MetricKind::Gauge,
        labels: &["provider"],
        help: "Records that are not durable yet.",
        buckets: &[],
    },
    Metric {
        name: OLDEST,
        kind: MetricKind::Gauge,
        labels: &["provider"],
        help: "Since when the oldest record waits to be durable, in Unix time; 0 if none waits. It stays true while the store hangs.",
        buckets: &[],
    },
    Metric {
        name: WEBHOOKS,
        kind: MetricKind::Counter,
        labels: &["provider", "verdict"],
        help: "Webhooks by what their sender was told: see Delivery::name.",
        buckets: &[],
    },
    Metric {
        name: REVISIONS,
        kind: MetricKind::Counter,
        labels: &["provider"],
        help: "Reports of the provider about jobs that had ended.",
        buckets: &[],
    },
    Metric {
        name: RENEWALS,
        kind: MetricKind::Counter,
        labels: &["provider", "result"],
        help: "Renewals of credentials: renewed, or failed.",
        buckets: &[],
    },
    Metric {
        name: DROPPED,
        kind: MetricKind::Counter,
        labels: &["provider"],
        help: "Notices lost because more came at once than Limits::notices allows: the other metrics lack as many.",
        buckets: &[],
    },
];

pub(crate) const OPERATIONS_BEGUN: &str = "steadfast_operations_begun_total";
pub(crate) const OPERATIONS_ENDED: &str = "steadfast_operations_ended_total";
pub(crate) const OPERATION_SECONDS: &str = "steadfast_operation_seconds";
pub(crate) const OPERATION_ATTEMPTS: &str = "steadfast_operation_attempts";
pub(crate) const OPERATION_POLLS: &str = "steadfast_operation_polls";
pub(crate) const OPERATIONS_LIVE: &str = "steadfast_operations_live";
pub(crate) const OPERATIONS_PARKED: &str = "steadfast_operations_parked";
pub(crate) const ATTEMPTS_BEGUN: &str = "steadfast_attempts_begun_total";
pub(crate) const ATTEMPTS_ENDED: &str = "steadfast_attempts_ended_total";
pub(crate) const ATTEMPT_SECONDS: &str = "steadfast_attempt_seconds";
pub(crate) const ATTEMPTS_IN_FLIGHT: &str = "steadfast_attempts_in_flight";
pub(crate) const RETRIES: &str = "steadfast_retries_total";
pub(crate) const GATE_BLOCKED: &str = "steadfast_gate_blocked_total";
pub(crate) const GATE_WAIT: &str = "steadfast_gate_wait_seconds";
pub(crate) const BREAKER_STATE: &str = "steadfast_breaker_state";
pub(crate) const BREAKER_CHANGES: &str = "steadfast_breaker_changes_total";
pub(crate) const BUDGET: &str = "steadfast_retry_budget_tokens";
pub(crate) const BULKHEAD: &str = "steadfast_bulkhead_limit";
pub(crate) const COMMITS: &str = "steadfast_journal_commits_total";
pub(crate) const COMMIT_SECONDS: &str = "steadfast_journal_commit_seconds";
pub(crate) const COMMIT_RECORDS: &str = "steadfast_journal_commit_records";
pub(crate) const LAG: &str = "steadfast_journal_lag_seconds";
pub(crate) const PENDING: &str = "steadfast_journal_pending_records";
pub(crate) const OLDEST: &str = "steadfast_journal_oldest_pending_timestamp_seconds";
pub(crate) const WEBHOOKS: &str = "steadfast_webhooks_total";
pub(crate) const REVISIONS: &str = "steadfast_revisions_total";
pub(crate) const RENEWALS: &str = "steadfast_renewals_total";
pub(crate) const DROPPED: &str = "steadfast_notices_dropped_total";

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation is the table.
    #[test]
    fn the_documented_table_is_the_real_one() {
        let documented: Vec<&str> =
            include_str!("metrics.rs").lines().filter(|line| line.starts_with("//! | `")).collect();
        let real: Vec<String> = TABLE
            .iter()
            .map(|metric| {
                let labels: Vec<_> = metric.labels[1..].iter().map(|label| format!("`{label}`")).collect();
                let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
                let kind = format!("{:?}", metric.kind).to_lowercase();
                format!("//! | `{}` | {kind} | {labels} | {} |", metric.name, metric.help)
            })
            .collect();
        assert_eq!(documented, real);
    }

    /// Prometheus' own rules for names.
    #[test]
    fn names_say_their_units_and_kinds() {
        for metric in TABLE {
            assert_eq!(metric.labels[0], "provider", "{metric:?}");
            assert!(metric.name.starts_with("steadfast_"), "{metric:?}");
            assert_eq!(metric.kind == MetricKind::Counter, metric.name.ends_with("_total"), "{metric:?}");
            assert_eq!(metric.kind == MetricKind::Histogram, !metric.buckets.is_empty(), "{metric:?}");
            assert!(metric.buckets.is_sorted_by(|a, b| a < b), "{metric:?}");
            assert!(TABLE.iter().filter(|other| other.name == metric.name).count() == 1, "{metric:?}");
        }
    }
}
