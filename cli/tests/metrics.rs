//! What Prometheus scrapes, against the documented table; and what the dashboard and the alerts ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use steadfast_tokio::metrics::{Metric, MetricKind, TABLE};

/// A demo that goes on serving, until the test is over.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a demo to its report, and gives what is scraped then.
fn scraped(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command
        .args(["demo", "--metrics", "127.0.0.1:0", "--linger", "--json", "--faults", "0.3", "--seed", "3"])
        .args(args);
    let demo = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut demo = Demo(demo);
    let mut said = BufReader::new(demo.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = said.find_map(|line| Some(line.split_once("http://")?.1.split_once("/metrics")?.0.to_owned()));
    let address = address.expect("the demo says where it serves");
    // It serves from the start, whatever there is yet.
    scrape(&address);
    assert!(said.any(|line| line.contains("until Ctrl-C")), "the demo comes to its end");
    scrape(&address)
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    body.to_owned()
}

/// The metric of a sample's name, which a histogram's samples add to.
fn metric(name: &str) -> Option<&'static Metric> {
    let plain = TABLE.iter().find(|metric| metric.name == name && metric.kind != MetricKind::Histogram);
    let endings = ["_bucket", "_sum", "_count"];
    plain.or_else(|| {
        let name = endings.iter().find_map(|ending| name.strip_suffix(ending))?;
        TABLE.iter().find(|metric| metric.name == name && metric.kind == MetricKind::Histogram)
    })
}

/// Every sample by its name and labels; each is of the table, and has its labels and no others.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap();
        let metric = metric(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let labels: Vec<_> =
            labels.trim_end_matches('}').split(',').map(|label| label.split_once('=').unwrap()).collect();
        let names: Vec<_> = labels.iter().map(|(name, _)| *name).filter(|name| *name != "le").collect();
        assert_eq!(names, metric.labels, "{line}");
        for (name, value) in &labels[1..] {
            let value = value.trim_matches('"');
            assert!(*name == "le" || value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
        }
        assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line}");
    }
    for metric in TABLE {
        assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{metric:?}");
        let kind = format!("{:?}", metric.kind).to_lowercase();
        assert!(text.contains(&format!("# TYPE {} {kind}", metric.name)), "{metric:?}");
    }
    samples
}

fn sum(samples: &BTreeMap<String, f64>, name: &str, part: &str) -> f64 {
    let of = |series: &&String| series.starts_with(&format!("{name}{{")) && series.contains(part);
    samples.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
}

#[test]
fn a_demo_is_scraped_as_the_table_says() {
    let directory = tempfile::tempdir().unwrap();
    for adapter in ["tokio", "blocking"] {
        let journal = directory.path().join(adapter);
        let journal = journal.to_str().unwrap();
        let args = ["--operations", "40", "--speed", "50", "--adapter", adapter, "--journal", journal];
        let samples = samples(&scraped(&args));
        let sum = |name: &str, part: &str| sum(&samples, name, part);
        assert_eq!(sum("steadfast_operations_begun_total", "submitted"), 40.0, "{adapter}");
        assert_eq!(sum("steadfast_operations_ended_total", ""), 40.0, "{adapter}");
        assert_eq!(sum("steadfast_operation_seconds_count", ""), 40.0, "{adapter}");
        assert!(sum("steadfast_attempts_begun_total", "create") >= 40.0, "{adapter}");
        assert!(sum("steadfast_attempt_seconds_bucket", "+Inf") > 0.0, "{adapter}");
        assert!(sum("steadfast_journal_commit_seconds_count", "") > 0.0, "{adapter}");
        assert!(sum("steadfast_journal_lag_seconds_bucket", "+Inf") > 0.0, "{adapter}");
        for gauge in ["operations_live", "attempts_in_flight", "journal_pending_records"] {
            assert_eq!(sum(&format!("steadfast_{gauge}"), ""), 0.0, "{adapter}: {gauge}");
        }
    }
}

#[test]
fn webhooks_are_scraped_by_their_verdicts() {
    let args = ["--provider", "didit", "--webhooks", "--operations", "40", "--speed", "50"];
    let samples = samples(&scraped(&args));
    let count = |verdict: &str| sum(&samples, "steadfast_webhooks_total", verdict);
    assert!(count("\"taken\"") > 0.0 && count("\"refused\"") > 0.0, "{samples:?}");
}

#[test]
fn an_address_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    let output = command.args(["demo", "--metrics", &address]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(64) && said.contains(&address) && said.contains("0 for any"), "{said}");
    for (args, expected) in [
        (&["--metrics", &address, "--kill", "1"][..], "cannot be used with"),
        (&["--linger"], "--metrics"),
        (&["--linger", "--kill", "1"], "cannot be used with"),
        (&["--metrics", "localhost:0"], "such as 127.0.0.1:9464"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
        let output = command.arg("demo").args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(64) && said.contains(expected), "{args:?}: {said}");
    }
}

/// All names of ours in a text, and the labels that stand beside them in braces or behind `by`.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("steadfast_")).collect()
}

fn ops(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops").join(file)).unwrap()
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    let (dashboard, alerts, tests) = (ops("grafana-dashboard.json"), ops("alerts.yml"), ops("alerts_test.yml"));
    for text in [&dashboard, &alerts, &tests] {
        for name in names(text) {
            assert!(metric(name).is_some(), "{name} is not in the table");
        }
    }
    let json: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = json["panels"].as_array().unwrap();
    let expressions: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(expressions.iter().all(|expression| !names(expression).is_empty()));
    // Nothing is counted that nobody is shown.
    let shown = expressions.join(" ");
    for metric in TABLE {
        assert!(shown.contains(metric.name), "{} is in no panel", metric.name);
    }
    // Every label that is grouped by or selected is one of ours.
    let labels: BTreeSet<_> = TABLE.iter().flat_map(|metric| metric.labels).copied().chain(["le"]).collect();
    for text in [shown.as_str(), &alerts] {
        for group in text.split("by (").skip(1) {
            for label in group.split_once(')').unwrap().0.split(',') {
                assert!(labels.contains(label.trim()), "{label}");
            }
        }
        for selector in text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)) {
            for label in selector.split(',').filter_map(|part| Some(part.split_once(['=', '!'])?.0.trim())) {
                assert!(labels.contains(label), "{label} in {selector}");
            }
        }
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    // Whoever is woken is told what to do.
    let count = |word: &str| alerts.matches(word).count();
    assert_eq!((count("- alert:"), count("summary:")), (count("description:"), count("severity:")));
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts")), "{alert} is never seen to fire");
    }
}
