//! A client goes on with what is live. The rest is verified, and costs a start no memory.

use std::process::Command;

use steadfast_store::KeptAnswer;

use super::*;

const ANSWERS: usize = 32;
const ANSWER_BYTES: usize = 1 << 20;
/// Beyond what the process had before: SQLite's cache of pages, and some answers; not nearly all of them.
const MOST_MEMORY: usize = (16 << 20) + ANSWERS * ANSWER_BYTES / 4;

fn delivered(number: usize) -> Entry {
    let answer = KeptAnswer { status: 200, body: vec![b'x'; ANSWER_BYTES] };
    entry(&format!("order-{number}"), Stage::Delivered(READY)).with_answer(answer)
}

#[test]
#[cfg(target_os = "linux")]
fn answers_that_were_delivered_take_no_memory_at_a_start() {
    let home = Home::new();
    let mut store = home.open();
    for number in 0..ANSWERS {
        store.append(&[delivered(number)]).unwrap();
    }
    drop(store);
    // In a process of its own: others would count.
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "live::child_loads", "--ignored", "--nocapture"]).env("JOURNAL", home.journal());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_loads() {
    let mut store = SqliteStore::open(env::var("JOURNAL").unwrap()).unwrap();
    let before = most_memory();
    assert_eq!(store.load_live().unwrap(), []);
    let after = most_memory();
    let mebibytes = (after - before) >> 20;
    println!("{mebibytes} MiB for no live operation");
    assert!(after - before < MOST_MEMORY, "it took {mebibytes} MiB");
}

/// The most that this process ever had, in bytes.
fn most_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

/// One that was not given is verified all the same, and so is what comes after.
#[test]
fn damage_to_what_was_delivered_stops_a_start() {
    let home = Home::new();
    let stages = [Stage::Accepted, Stage::Delivered(READY), Stage::Ended(AMBIGUOUS)];
    let entries: Vec<Entry> =
        stages.into_iter().zip(1..).map(|(stage, number)| entry(&format!("order-{number}"), stage)).collect();
    home.open().append(&entries).unwrap();
    let mut store = home.open();
    assert_eq!(store.load_live().unwrap(), [entries[0].clone(), entries[2].clone()]);
    store.append(&[entry("order-1", Stage::Delivered(READY))]).unwrap();
    assert_eq!(store.load_live().unwrap(), [entries[2].clone()]);
    drop(store);
    home.tamper("UPDATE records SET answer_status = 200, answer_body = x'00' WHERE first = 2");
    assert!(home.open().load_live().is_err());
}
