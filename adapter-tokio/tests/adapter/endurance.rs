//! Days of jobs on one file: what is over goes as fast as others come, and its room is used again.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, process};

use steadfast_core::Kind;
use steadfast_store::{Entry, SqliteStore, Store};
use steadfast_tokio::Client;
use tokio::time::sleep;

use crate::support::{Plain, Scripted, answer, key};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_journal_is_no_larger_than_what_a_day_needs() {
    // In memory where there is such a place.
    let root = Some(PathBuf::from("/dev/shm")).filter(|root| root.is_dir()).unwrap_or_else(env::temp_dir);
    let home = root.join(format!("steadfast-endurance-{}", process::id()));
    fs::create_dir(&home).unwrap();
    let path = home.join("journal");
    let length = |suffix: &str| fs::metadata(home.join(format!("journal{suffix}"))).map_or(0, |found| found.len());
    let transport = Scripted::new(|kind, number, key| async move {
        Ok(match (kind, number) {
            (Kind::Create, _) if key.ends_with('7') => answer(422, "no"),
            (Kind::Create, _) => answer(201, format!("txn-{key}")),
            (_, ..3) => answer(202, ""),
            _ => answer(200, "verified ".repeat(50)),
        })
    });
    let store = SqliteStore::open(&path).unwrap();
    let client = Client::builder(Plain, transport).store(store).keep_payloads().keep_answers().start().await.unwrap();
    for day in 0..5 {
        for hour in 0..24 {
            let mut jobs = Vec::new();
            for number in 0..12 {
                let name = format!("order-{day}-{hour}-{number}");
                jobs.push(client.submit(key(&name), "payload ".repeat(50)).await.unwrap());
            }
            // Of some nobody waits for the outcome.
            jobs.truncate(9);
            for job in jobs {
                job.await.unwrap();
            }
            sleep(HOUR).await;
        }
    }
    assert_eq!(client.shutdown(HOUR).await, []);
    assert_eq!(length("-wal"), 0);
    // Some six hundred bytes for each operation that is kept.
    assert!(length("") < 512 << 10, "{} bytes", length(""));
    let mut store = SqliteStore::open(&path).unwrap();
    let kept = store.load().unwrap();
    assert!(kept.len() <= 25 * 12, "{}", kept.len());
    assert!(kept.iter().all(Entry::is_settled));
    assert!(store.verify().unwrap().problems.is_empty());
    drop(store);
    fs::remove_dir_all(&home).unwrap();
}
