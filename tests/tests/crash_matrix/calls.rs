//! The rows at the system's own calls: a sync that fails, and a process that is killed at whichever call it is at. A
//! process of its own does to the journal what a client would; `strace` has the call fail, or kills at it. Where that
//! is missing or not allowed, nothing is shown here, which is said.

use std::process::{Command, Output, Stdio};
use std::{env, fs, process};

use steadfast_core::operation::Stage;
use steadfast_core::{Kind, Reference};
use steadfast_store::{SqliteStore, Store as _};

use crate::disk::{Image, On, SUFFIXES};
use crate::files::{MARK, WAL, with};
use crate::life::Point;
use crate::world::{Case, World, at_each_step};

/// What changes a file, or makes a change last.
const CHANGES: [&str; 7] = ["pwrite64", "write", "ftruncate", "fdatasync", "fsync", "unlink", "rename"];

fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        eprintln!("not shown: `strace` is missing or not allowed");
    }
    can
}

/// Runs a test of this file's on the world's journal; what becomes of its calls about `suffixes` is injected. Gives
/// what it did of these calls, too.
fn traced(world: &World, child: &str, suffixes: &[&str], calls: &str, inject: &str) -> (Output, String) {
    let journal = world.disk().journal();
    let trace = journal.with_file_name("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", &format!("trace={calls}"), "-e", &format!("inject={inject}"), "-o"]).arg(&trace);
    for suffix in suffixes {
        command.arg("-P").arg(format!("{}{suffix}", journal.display()));
    }
    command.arg(env::current_exe().unwrap()).args(["--exact", child, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("JOURNAL", &journal).env("REFERENCE", world.transaction().unwrap_or_default());
    let output = command.output().unwrap();
    let told = fs::read_to_string(&trace).unwrap();
    fs::remove_file(trace).unwrap();
    (output, told)
}

/// The job is accepted, which is told to the journal until it says that it has it, five times at most. What it said is
/// printed.
#[test]
#[ignore = "a part of others, which run it in a process of its own"]
fn child_appends() {
    let mut store = SqliteStore::open(env::var("JOURNAL").unwrap()).unwrap();
    let mut entry = store.load().unwrap().pop().unwrap();
    entry.record.stage = Stage::Accepted;
    entry.record.reference = Some(Reference::new(env::var("REFERENCE").unwrap()).unwrap());
    for _ in 0..5 {
        match store.append(&[entry.clone()]) {
            Ok(()) => {
                println!("told: durable");
                break;
            }
            Err(error) => println!("told: {}", if error.is_certain() { "not there" } else { "nobody knows" }),
        }
    }
    // It dies; it does not close anything.
    process::exit(0);
}

#[test]
#[ignore = "a part of others, which run it in a process of its own"]
fn child_opens_and_closes() {
    match SqliteStore::open(env::var("JOURNAL").unwrap()).map(|mut store| store.load().is_err()) {
        Ok(false) => {}
        _ => process::exit(3),
    }
}

/// What the child was told, one after the other.
fn told(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter_map(|line| Some(line.split_once("told: ")?.1.to_owned())).collect()
}

/// The forbidden thing: a sync is asked for again, and believed, though what it was to bring to disk was not written
/// anew.
fn rewrites_before_it_believes(trace: &str) {
    let (mut begins, mut failed): (Option<u64>, Option<u64>) = (None, None);
    for line in trace.lines() {
        if line.contains("pwrite64(") && begins.is_none() {
            begins = line.split(") ").next().and_then(|call| call.rsplit(", ").next()).and_then(|at| at.parse().ok());
        } else if line.contains("sync(") {
            let wrote = begins.take();
            if line.contains("INJECTED") {
                failed = failed.or(wrote);
            } else if let Some(lost) = failed.take() {
                assert!(wrote.is_some_and(|at| at <= lost), "what failed at {lost} is believed without it:\n{trace}");
            }
        }
    }
    assert!(trace.contains("INJECTED"), "no sync failed:\n{trace}");
}

#[test]
#[should_panic(expected = "is believed without it")]
fn a_sync_that_is_asked_for_again_is_found() {
    rewrites_before_it_believes(
        "7 pwrite64(5</j-wal>, \"\"..., 4096, 8296) = 4096\n7 fdatasync(5</j-wal>) = -1 EIO (Input/output error) (INJECTED)\n7 fdatasync(5</j-wal>) = 0\n",
    );
}

/// The acceptance is written, and the sync of the log fails: once, twice, or from then on. Nobody is told that it is
/// durable before a sync went well of pages that were written after the failure; and a new process goes on from
/// whatever is there.
#[tokio::test(start_paused = true)]
async fn c15_a_sync_that_failed() {
    if !can_trace() {
        return;
    }
    for case in Case::ALL {
        let world = World::new(On::Sqlite, case, false);
        world.die(Point::AfterSend(Kind::Create)).await;
        let (image, transaction) = (world.disk().image(), world.transaction());
        let fails: [(&str, &[&str]); 3] =
            [("1", &["not there", "durable"]), ("1..2", &["nobody knows", "durable"]), ("1+", &["nobody knows"; 5])];
        for (when, expected) in fails {
            world.disk().lay_out(&image);
            let inject = format!("fdatasync,fsync:error=EIO:when={when}");
            let calls = "pwrite64,fdatasync,fsync";
            let (output, trace) = traced(&world, "calls::child_appends", &[WAL], calls, &inject);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(told(&output), expected, "{case:?}: syncs {when} fail:\n{trace}");
            rewrites_before_it_believes(&trace);
            let left = world.disk().image();
            at_each_step(async |step| {
                let world = World::new(On::Sqlite, case, false);
                world.die(Point::AfterSend(Kind::Create)).await;
                assert_eq!(world.transaction(), transaction);
                world.disk().lay_out(&left);
                let is_there = world.stage() == Some(Stage::Accepted);
                assert!(is_there || when == "1+", "{case:?}: told that it is durable, and it is not there");
                let end = world.recover(step).await;
                let in_doubt = case == Case::Ignored && !is_there;
                assert_eq!(end.finished.outcome.name(), if in_doubt { "unresolved" } else { "completed" });
                assert!(world.creates() == 1 || !is_there, "{case:?}: created again");
                end.twice
            })
            .await;
        }
    }
}

/// Kills the child at its first call of each kind, at its second, and so on; `left` looks at what it leaves, and is
/// told whose kill it was. Gives how many.
async fn killed_at_each_call(world: &World, image: &Image, child: &str, left: impl AsyncFn(u32)) -> u32 {
    let mut kills = 0;
    for call in CHANGES {
        for number in 1.. {
            assert!(number < 100, "so many calls of {call}");
            world.disk().lay_out(image);
            let (output, _) = traced(world, child, &SUFFIXES, call, &format!("{call}:signal=KILL:when={number}"));
            left(kills).await;
            if output.status.code().is_some() {
                break;
            }
            kills += 1;
        }
    }
    kills
}

/// A process is killed as it commits: what it wrote is all there for the next one, or nothing is.
#[tokio::test(start_paused = true)]
async fn c13_killed_in_a_commit() {
    if !can_trace() {
        return;
    }
    for case in [Case::Keyed, Case::Ignored] {
        let world = World::new(On::Sqlite, case, false);
        world.die(Point::AfterSend(Kind::Create)).await;
        let (image, before) = (world.disk().image(), world.record());
        let kills = killed_at_each_call(&world, &image, "calls::child_appends", async |kill| {
            let is_there = world.stage() == Some(Stage::Accepted);
            assert!(is_there || world.record() == before, "neither before nor after");
            let creates = world.creates();
            let end = world.recover(1 + kill % 24).await;
            let in_doubt = case == Case::Ignored && !is_there;
            assert_eq!(end.finished.outcome.name(), if in_doubt { "unresolved" } else { "completed" });
            assert!(world.creates() == creates || (!is_there && case == Case::Keyed), "{case:?}: created again");
        });
        let kills = kills.await;
        assert!(kills > 4, "{kills} calls");
    }
}

/// A process is killed while it tidies up: its log is brought into the file, and removed last.
#[tokio::test(start_paused = true)]
async fn c24_killed_in_a_checkpoint() {
    if !can_trace() {
        return;
    }
    let world = World::new(On::Sqlite, Case::Ignored, false);
    world.die(Point::AfterCommit(2)).await;
    let (image, record) = (world.disk().image(), world.record());
    let kills = killed_at_each_call(&world, &image, "calls::child_opens_and_closes", async |kill| {
        assert_eq!(world.record(), record, "kill {kill}");
        let end = world.recover(1 + kill % 24).await;
        assert_eq!((end.finished.outcome.name(), world.creates(), world.runs()), ("completed", 1, 1), "kill {kill}");
    });
    let kills = kills.await;
    assert!(kills > 5, "{kills} calls");
}

/// A process is killed while it refuses a journal: at no call is any of the files changed, and the next one refuses it
/// as well.
#[tokio::test(start_paused = true)]
async fn c14_killed_while_it_refuses() {
    if !can_trace() {
        return;
    }
    let world = World::new(On::Sqlite, Case::Keyed, false);
    world.die(Point::AfterSend(Kind::Create)).await;
    let first = world.disk().image()[WAL].len();
    world.die(Point::AfterCommit(2)).await;
    let whole = world.disk().image();
    let torn = with(&whole, WAL, |bytes| bytes.truncate(first - 100));
    let middle = with(&whole, WAL, |bytes| bytes[first - 100] ^= 1);
    let header = with(&whole, "", |bytes| bytes[0] ^= 1);
    let (mut unmarked, mut without) = (whole.clone(), whole.clone());
    unmarked.remove(MARK);
    without.remove(WAL);
    for (what, damaged) in [torn, middle, header, unmarked, without].into_iter().enumerate() {
        killed_at_each_call(&world, &damaged, "calls::child_opens_and_closes", async |kill| {
            let mut left = world.disk().image();
            left.retain(|suffix, bytes| damaged.contains_key(suffix) || !bytes.is_empty());
            assert!(left == damaged, "damage {what}, kill {kill}: changed");
            let (output, _) =
                traced(&world, "calls::child_opens_and_closes", &[WAL], "fsync", "fsync:error=EIO:when=99");
            assert_eq!(output.status.code(), Some(3), "damage {what}, kill {kill}: taken all the same");
        })
        .await;
    }
}
