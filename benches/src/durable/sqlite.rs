//! SQLite alone: what the store's table, settings and statements cost without the store.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::ROUNDS;

/// As the store opens its file.
const SETTINGS: &str = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; \
     PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON; PRAGMA cache_size = -16384; \
     PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA journal_mode = WAL";
const TABLE: &str = "CREATE TABLE operations (first INTEGER PRIMARY KEY, key TEXT NOT NULL, provider TEXT NOT NULL, state TEXT NOT NULL, \
     outcome TEXT, reason TEXT, reference TEXT, creates INTEGER NOT NULL, attempts INTEGER NOT NULL, polls INTEGER NOT NULL, \
     created_at TEXT NOT NULL, updated_at TEXT NOT NULL, next_due TEXT, accepted_at TEXT, ended_at TEXT, fingerprint BLOB NOT NULL, \
     sequence INTEGER NOT NULL, record BLOB NOT NULL, payload BLOB, answer_status INTEGER, answer_body BLOB, previous BLOB NOT NULL, \
     hash BLOB NOT NULL) STRICT; \
     CREATE INDEX operations_delivered ON operations (updated_at) WHERE state = 'delivered'";
const INSERT: &str = "INSERT INTO operations (first, key, state, outcome, reason, reference, creates, attempts, polls, updated_at, next_due, \
     sequence, record, previous, hash, accepted_at, ended_at, provider, created_at, fingerprint, payload, answer_status, answer_body) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";
const UPDATE: &str = "UPDATE operations SET state = ?3, outcome = ?4, reason = ?5, reference = ?6, creates = ?7, attempts = ?8, polls = ?9, \
     updated_at = ?10, next_due = ?11, sequence = ?12, record = ?13, previous = ?14, hash = ?15, accepted_at = coalesce(accepted_at, ?16), \
     ended_at = iif(outcome IS ?4 AND reason IS ?5 AND ?17 IS NOT NULL, coalesce(ended_at, ?17), ?17), provider = ?18 \
     WHERE first = ?1 AND key = ?2";

/// Writes groups of this many records: each operation's first, and later its three others, so many operations being under way.
pub fn records_per_s(path: &Path, groups: &[u32], in_flight: usize, span: Duration) -> rusqlite::Result<f64> {
    let connection = Connection::open(path)?;
    connection.execute_batch(SETTINGS)?;
    connection.execute_batch(TABLE)?;
    let (mut begin, mut commit) = (connection.prepare("BEGIN IMMEDIATE")?, connection.prepare("COMMIT")?);
    let (mut insert, mut update) = (connection.prepare(INSERT)?, connection.prepare(UPDATE)?);
    let (at, hash, none) = ("2026-11-21T08:54:49.123456789Z", [5_u8; 16], None::<i64>);
    let record = [7_u8; 130];
    let mut write = |number: usize| {
        let (first, stage) = (number / 4, number % 4);
        // The operations under way take turns: each stage of all of them, then the next.
        let (round, place) = (number / (4 * in_flight), number % (4 * in_flight));
        let (first, stage) =
            if in_flight == 1 { (first, stage) } else { (round * in_flight + place % in_flight, place / in_flight) };
        let key = KEYS[first % KEYS.len()];
        let (accepted, ended) = ((stage >= 1).then_some(key), (stage >= 2).then_some(at));
        let state = ["in_flight", "accepted", "ended", "delivered"][stage];
        let (outcome, reason) = ((stage >= 2).then_some("completed"), (stage >= 2).then_some("ready"));
        let (due, taken) = ((stage == 1).then_some(at), (stage == 1).then_some(at));
        let first = first as i64;
        if stage == 0 {
            let values = params![
                first,
                key,
                state,
                outcome,
                reason,
                accepted,
                1,
                1,
                0,
                at,
                due,
                number as i64,
                record,
                hash,
                hash,
                taken,
                ended,
                "stub",
                at,
                hash,
                none,
                none,
                none
            ];
            insert.execute(values)
        } else {
            let values = params![
                first,
                key,
                state,
                outcome,
                reason,
                accepted,
                1,
                1,
                0,
                at,
                due,
                number as i64,
                record,
                hash,
                hash,
                taken,
                ended,
                "stub"
            ];
            update.execute(values)
        }
    };
    let (mut next, mut number, mut best) = (groups.iter().cycle(), 0, 0_f64);
    for _ in 0..ROUNDS {
        let (before, began) = (number, Instant::now());
        while began.elapsed() < span / ROUNDS {
            let Some(group) = next.next() else { break };
            begin.execute([])?;
            for _ in 0..*group {
                assert_eq!(write(number)?, 1);
                number += 1;
            }
            commit.execute([])?;
        }
        best = best.max((number - before) as f64 / began.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// As long as the keys of the operations, and as the references, nearly.
const KEYS: [&str; 2] = ["9e3779b97f4a7c15-order-00000001", "3c6ef372fe94f82a-order-00000002"];
