//! The crash matrix (`tests/oracles/crash_matrix.json`), row by row: where a process dies, what was durable, what the
//! next one does, and what must never be seen.
//!
//! `world` holds what outlives a process, a disk and a provider with its ledger, and lets processes die at chosen
//! moments (`life`); `disk` is memory or a real journal on SQLite, whose files stay as a dead process leaves them.
//! `rows` are the rows whose crash has a place on the way of one job, `webhooks` those in which the provider tells of
//! it by itself, `trouble` those in which the disk fails, is full, or is a copy; `policies` those about clocks, gates
//! and single events, of which a part of C07, C10 and C23 drives an engine alone; `files` those about the journal's
//! files, which are torn and damaged under a real client; `calls` those in which a system call fails, or the process is
//! killed at it. Every other row is run on both stores, against a provider that honours keys, one that ignores them and
//! one that can be asked, with the payload kept and with a caller who submits again. **The recovery of every row is
//! also crashed at each of its own steps** (`world::at_each_step`), and so is refusing to open; with payloads kept in
//! files, what a client tells of is no step, and where a file is damaged at hundreds of places, at each step for some
//! of them and at one for each other.

#[cfg(target_os = "linux")]
mod calls;
mod disk;
mod files;
mod life;
mod policies;
mod rows;
mod trouble;
mod webhooks;
mod world;

use serde_json::Value;

/// Rows that are shown elsewhere or cannot be met yet, and why.
const ELSEWHERE: [(&str, &str); 1] = [("C19", "several machines: needs a store with leases and fences")];

/// Rows whose recovery is another than the matrix says: what is done instead, why that forbids the same, and the test
/// that shows it.
const OTHERWISE: [(&str, &str, &str); 9] = [
    (
        "C05",
        "What is told has no number of its own: a key has one outcome, and is told it under its key and reference, as often as it takes.",
        "c05_acceptance_journaled_and_the_caller_not_told",
    ),
    (
        "C07",
        "A breaker begins closed and a budget full: a half-open start would hold all jobs back for a probe after every restart of a healthy program. No storm: what a \
         restart creates again waits as a retry, takes from the budget, and is counted over restarts, so a loop of them sends no more than the attempts of each job. \
         Who wants the gate back takes core's snapshot of the engine.",
        "c07_processes_that_die_while_the_breaker_is_open",
    ),
    (
        "C10",
        "A repeat is known by its id in the process that took it; after a restart by what its job has become, which was on disk before the first 2xx: it is told 2xx, and \
         nothing follows.",
        "c10_webhook_journaled_and_2xx_not_sent",
    ),
    (
        "C11",
        "The inbox is in memory, and so no 2xx is said of what lies in it: who sends an event is told 503 until it has been matched and what follows is durable, so \
         after a crash it is sent again. It is dropped with a 2xx only once there is no job that it could be about.",
        "c11_webhook_for_an_unknown_resource",
    ),
    ("C12", "As C05: the key is the outcome's id.", "c12_the_callback_ran_and_the_delivered_mark_is_missing"),
    (
        "C15",
        "The handle goes on, but not by asking for the same sync again: what failed is written over with a small commit of its own, and only a sync of that is believed. \
         Until one goes well nothing is sent, promised or denied; a new handle reads what is there.",
        "c15_a_sync_that_failed",
    ),
    (
        "C17",
        "There is no epoch. Keys are the caller's own. A client is told that it starts on a copy, and then each job that the copy calls planned counts as perhaps run, on disk, \
         before anything is sent; the others do after any restart. A copy beside the newer mark is refused.",
        "c17_an_older_copy_from_a_backoff",
    ),
    (
        "C18",
        "There is no epoch in the header: the lock refuses the second, and should the lock be lost, the mark beside the file, which each writer reads before it writes, is \
         the fence (the store's own tests, `overtaking`).",
        "c18_second_process",
    ),
    (
        "C24",
        "There is no new file: SQLite copies the log's pages into the old one, and removes the log when they are on disk. A file of which only a part was copied is read \
         through its log.",
        "c24_killed_in_a_checkpoint",
    ),
];

/// No row is skipped in silence: each has a test that bears its name, or a reason; and where it is met otherwise, that
/// is said.
#[test]
fn every_row_has_its_test_or_a_reason() {
    let file: Value = serde_json::from_str(include_str!("../../oracles/crash_matrix.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(file["case_count"], cases.len());
    let tests = [
        include_str!("rows.rs"),
        include_str!("webhooks.rs"),
        include_str!("trouble.rs"),
        include_str!("policies.rs"),
        include_str!("files.rs"),
        include_str!("calls.rs"),
    ]
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
    for (id, instead, test) in OTHERWISE {
        let Some(case) = cases.iter().find(|case| case["id"] == id) else { panic!("{id}: no such row") };
        assert!(test.starts_with(&id.to_lowercase()) && tests.contains(&format!("fn {test}(")), "{id}: no test {test}");
        println!("{id} ({}): {instead} ({test})", case["crash_point"]);
    }
    println!("{} of {} rows have tests here", cases.len() - ELSEWHERE.len(), cases.len());
}
