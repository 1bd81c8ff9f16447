//! The journal kit on the stores of this project.

use steadfast_store::{MemoryStore, SqliteStore};
use steadfast_testkit::journal_kit::{self, Depth};

#[test]
fn memory_keeps_the_contract() {
    journal_kit::check(MemoryStore::default);
}

#[test]
fn sqlite_survives_damaged_files() {
    journal_kit::check_files(Depth::Sample(300), |path| SqliteStore::open(path));
}

#[test]
#[ignore = "takes minutes: cargo test --release -p steadfast-testkit --test journal_kit -- --ignored"]
fn sqlite_survives_every_flipped_bit() {
    journal_kit::check_files(Depth::Every, |path| SqliteStore::open(path));
}
