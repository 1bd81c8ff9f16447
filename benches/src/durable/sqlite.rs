//! SQLite alone: what the store's table, settings and statements cost without the store.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::{Pace, ROUNDS, Round};

/// As the store opens its file.
const SETTINGS: &str = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; \
     PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON; PRAGMA cache_size = -16384; \
     PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA journal_mode = WAL";
const TABLE: &str = "CREATE TABLE records (first INTEGER PRIMARY KEY, body BLOB NOT NULL, payload BLOB, answer_status INTEGER, answer_body BLOB) \
     STRICT; CREATE TABLE head (one INTEGER PRIMARY KEY, sequence INTEGER NOT NULL) STRICT; INSERT INTO head VALUES (1, 0)";
const INSERT: &str =
    "INSERT INTO records (first, body, payload, answer_status, answer_body) VALUES (?1, ?2, ?3, ?4, ?5)";
const UPDATE: &str = "UPDATE records SET body = ?2 WHERE first = ?1";
const HEAD: &str = "UPDATE head SET sequence = ?1 WHERE one = 1";

/// As long as an operation's are that has a reference.
const BODY: usize = 200;

/// Writes groups of this many records: each operation's first, and later its three others, so many operations being
/// under way.
pub fn measure(path: &Path, groups: &[u32], in_flight: usize, span: Duration) -> rusqlite::Result<Pace> {
    let connection = Connection::open(path)?;
    connection.execute_batch(SETTINGS)?;
    connection.execute_batch(TABLE)?;
    let (mut begin, mut commit) = (connection.prepare("BEGIN IMMEDIATE")?, connection.prepare("COMMIT")?);
    let (mut insert, mut update) = (connection.prepare(INSERT)?, connection.prepare(UPDATE)?);
    let mut head = connection.prepare(HEAD)?;
    let none = None::<i64>;
    let mut write = |number: usize| {
        let (first, stage) = (number / 4, number % 4);
        // The operations under way take turns: each stage of all of them, then the next.
        let (round, place) = (number / (4 * in_flight), number % (4 * in_flight));
        let (first, stage) =
            if in_flight == 1 { (first, stage) } else { (round * in_flight + place % in_flight, place / in_flight) };
        let (first, body) = (first as i64, [number as u8; BODY]);
        if stage == 0 {
            insert.execute(params![first, &body[..], none, none, none])
        } else {
            update.execute(params![first, &body[..]])
        }
    };
    let (mut next, mut number, mut best) = (groups.iter().cycle(), 0, Pace::default());
    for _ in 0..ROUNDS {
        let (before, mut round, began) = (number, Round::begin(), Instant::now());
        while began.elapsed() < span / ROUNDS {
            let Some(group) = next.next() else { break };
            let commit_began = Instant::now();
            begin.execute([])?;
            for _ in 0..*group {
                assert_eq!(write(number)?, 1);
                number += 1;
            }
            head.execute([number as i64])?;
            commit.execute([])?;
            round.commits.push(commit_began.elapsed());
        }
        best = best.or(round.end((number - before) as u64));
    }
    Ok(best)
}
