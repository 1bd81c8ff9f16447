//! The crash matrix (`tests/oracles/crash_matrix.json`), row by row: where a process dies, what was durable, what the next one does, and what must
//! never be seen.
//!
//! `world` holds what outlives a process, a disk and a provider with its ledger, and lets processes die at chosen moments; `disk` is memory or a real
//! journal on SQLite, whose files stay as a dead process leaves them. `rows` are the rows whose crash has a place on the way of one job,
//! `webhooks` those in which the provider tells of it by itself;
//! `policies` those about clocks, gates and single events, of which C07, a part of C10 and a part of C23 drive an engine alone; `files` those about
//! the journal's files, which are torn and damaged under a real client. Every other row is run on both stores, against a provider that
//! honours keys, one that ignores them and one that can be asked, with the payload kept and with a caller who submits again. **Recoveries are
//! also crashed at each of their own steps** where a row goes through `row()`: C00 to C06, C08 to C10 and C12.

mod disk;
mod files;
mod policies;
mod rows;
mod webhooks;
mod world;

use serde_json::Value;

/// Rows that are shown elsewhere or cannot be met yet, and why.
const ELSEWHERE: [(&str, &str); 1] = [("C19", "several machines: needs a store with leases and fences")];

/// No row is skipped in silence: each has a test that bears its name, or a reason.
#[test]
fn every_row_has_its_test_or_a_reason() {
    let file: Value = serde_json::from_str(include_str!("../../oracles/crash_matrix.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(file["case_count"], cases.len());
    let tests =
        [include_str!("rows.rs"), include_str!("webhooks.rs"), include_str!("policies.rs"), include_str!("files.rs")]
            .concat();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let tested = tests.contains(&format!("fn {}_", id.to_lowercase()));
        let reason = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == id);
        match (tested, reason) {
            (true, None) => {}
            (false, Some((_, why))) => println!("{id} ({}): {why}", case["crash_point"]),
            (tested, _) => {
                panic!("{id}: {}", if tested { "a test and a reason" } else { "neither a test nor a reason" })
            }
        }
    }
    println!("{} of {} rows have tests here", cases.len() - ELSEWHERE.len(), cases.len());
}
