//! What `--json` prints has the names that the README lists, and no other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// The names in this row of the README's table.
fn listed(what: &str) -> BTreeSet<String> {
    let readme = include_str!("../../README.md");
    let row = readme.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")));
    let row = row.unwrap_or_else(|| panic!("no row of {what}"));
    row.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap_or_else(|| panic!("{object}")).keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_for_programs_is_listed() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| home.path().join(name).display().to_string();
    let (journal, copy) = (file("journal"), file("copy"));
    let demo = json(&steadfast(&["demo", "--operations", "6", "--speed", "200", "--json", "--journal", &journal]));
    assert_eq!(names(&demo), listed("`demo`"));
    assert_eq!(names(&json(&steadfast(&["check", "deepvue", "--json"]))), listed("`check`"));
    let profile = json(&steadfast(&["profile", "check", "didit", "--json"]));
    assert_eq!(names(&profile), listed("`profile check`"));
    assert_eq!(names(&profile["answers"][0]), listed("each of its `answers`"));
    assert_eq!(names(&json(&run(quick(), PAYLOAD, &["--json"]).await)), listed("`run`"));

    let ops = |args: &[&str]| json(&steadfast(&[&["ops", &journal], args, &["--json"]].concat()));
    let list = ops(&["list"]);
    assert_eq!(names(&list), listed("`ops FILE list`"));
    let (row, key) = (&list["operations"][0], list["operations"][0]["key"].as_str().unwrap());
    let operation = listed("an operation");
    assert_eq!(names(row), operation);
    let show = names(&ops(&["show", key]));
    assert!(show.is_superset(&operation), "{show:?}");
    assert_eq!(&show - &operation, listed("`ops FILE show`, beside an operation's"));
    assert_eq!(names(&ops(&["doctor"])), listed("`ops FILE doctor`"));
    assert_eq!(names(&ops(&["copy", &copy])), listed("`ops FILE copy`"));
    assert_eq!(names(&ops(&["purge", "--key", key, "--dry-run"])), listed("`ops FILE purge`"));
    assert_eq!(names(&json(&steadfast(&["ops", "/nonexistent", "--json"]))), listed("what failed"));
    let export = steadfast(&["ops", &journal, "export"]).stdout;
    let mut lines = export.split(|byte| *byte == b'\n').map(|line| serde_json::from_slice::<Value>(line).unwrap());
    assert_eq!(names(&lines.next().unwrap()), listed("the first line of `ops FILE export`"));
    assert_eq!(names(&lines.next().unwrap()), operation);
}
