//! The rows about the files themselves, on SQLite: torn, damaged, opened twice, half tidied. Whatever was done to them,
//! a client either starts with exactly what was durable, or does not start, says why, sends nothing, and leaves them as
//! they are.

use std::error::Error;
use std::process::Command;
use std::{env, process};

use steadfast_core::operation::{Completed, Stage};
use steadfast_core::{Kind, Outcome};
use steadfast_store::{OpenError, SqliteStore, Store as _};
use steadfast_testkit::journal_kit::entry;
use steadfast_tokio::{Client, StartError};

use crate::disk::{Image, On, SUFFIXES};
use crate::life::{Crash, Life, Point};
use crate::world::{Case, DAY, NoStart, PAYLOAD, SECOND, World, at_each_step, key};

pub(crate) const WAL: &str = "-wal";
pub(crate) const MARK: &str = "-mark";

/// A process dies at this point of the job.
async fn died(case: Case, point: Point) -> World {
    let world = World::new(On::Sqlite, case, false);
    die(&world, point).await;
    world
}

async fn die(world: &World, point: Point) {
    world.die(point).await;
    assert!(world.disk().image()[WAL].len() > 1, "a process that died has closed its files");
}

/// Why no client starts. Nothing is sent, the files stay as they are, and whoever dies at any step of this leaves them
/// so, for the next to say the same.
pub(crate) async fn refused(world: &World) -> (NoStart, String) {
    // An empty log is none: a process that is killed leaves it where it would have been removed.
    let image = || world.disk().image().into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect::<Image>();
    let (sent, found) = (world.seen().sent.len(), image());
    let (first, said) = no_start(world, &Life::new(Crash::Never)).await;
    at_each_step(async |step| {
        let life = Life::new(Crash::Step(step));
        let (_, again) = no_start(world, &life).await;
        assert!(image() == found, "it was changed by who refused it at step {step}: {said}");
        assert!(again == said || !life.is_alive(), "told otherwise the next time: {said}, and then {again}");
        !life.is_alive()
    })
    .await;
    tokio::time::sleep(DAY).await;
    assert_eq!(world.seen().sent.len(), sent, "sent on the word of a damaged journal");
    assert!(
        ["restore ", "check ", "put the mark back "].iter().any(|advice| said.contains(advice)),
        "no advice: {said}"
    );
    assert!(!said.contains(key().as_str()), "a key in an error: {said}");
    (first, said)
}

async fn no_start(world: &World, life: &Life) -> (NoStart, String) {
    let refused = world.try_start(life).await.expect_err("it starts all the same");
    let said = match &refused {
        NoStart::Store(error) => chain(error),
        NoStart::Client(error) => chain(error),
    };
    (refused, said)
}

fn chain(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

/// The same files, one of them changed.
pub(crate) fn with(image: &Image, suffix: &'static str, change: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = image.clone();
    change(image.entry(suffix).or_default());
    image
}

/// Each step at some of many places, and one of them at each other place.
async fn at_steps(place: usize, row: impl AsyncFn(u32) -> bool) {
    if place.is_multiple_of(4) {
        at_each_step(row).await;
    } else {
        row(1 + place as u32 % 24).await;
    }
}

fn length(image: &Image, suffix: &str) -> usize {
    image.get(suffix).map_or(0, Vec::len)
}

/// The commit of the intent is torn at any byte. As it was not acknowledged, nothing left on its account, and it is as
/// if it had never begun.
#[tokio::test(start_paused = true)]
async fn c13_torn_tail_of_a_commit_that_nobody_was_told_of() {
    for case in Case::ALL {
        let world = World::new(On::Sqlite, case, false);
        assert_eq!(world.live(Crash::At(Point::BeforeCommit(1))).await, None);
        let before = world.disk().image();
        die(&world, Point::AfterCommit(1)).await;
        let after = world.disk().image();
        assert_eq!(world.stage(), Some(Stage::InFlight));
        let (from, to) = (length(&before, WAL), length(&after, WAL));
        assert!(to > from + 4_096, "a commit of {from} to {to} bytes");
        for (place, cut) in (from..to).step_by(1_021).chain([to - 1]).enumerate() {
            // The mark is written after the commit.
            let mut torn = with(&after, WAL, |bytes| bytes.truncate(cut));
            torn.insert(MARK, before[MARK].clone());
            at_steps(place, async |step| {
                let world = World::new(On::Sqlite, case, false);
                world.disk().lay_out(&torn);
                assert_eq!(world.stage(), None, "{case:?}: {cut} of {to} bytes");
                let end = world.recover(step).await;
                if end.twice && case == Case::Ignored && end.finished.outcome.name() == "unresolved" {
                    return end.twice;
                }
                assert_eq!((end.finished.outcome.name(), world.runs()), ("completed", 1), "{cut}");
                assert!(world.creates() == 1 || end.twice, "{cut}: created {} times", world.creates());
                end.twice
            })
            .await;
        }
    }
}

/// The same tear in a commit that had been acknowledged, so that a create left: the file alone could not tell,
/// `FILE-mark` can.
#[tokio::test(start_paused = true)]
async fn c13_torn_tail_of_a_commit_that_was_acknowledged() {
    for case in Case::ALL {
        let world = World::new(On::Sqlite, case, false);
        assert_eq!(world.live(Crash::At(Point::BeforeCommit(1))).await, None);
        let before = world.disk().image();
        die(&world, Point::AfterSend(Kind::Create)).await;
        assert_eq!((world.stage(), world.runs()), (Some(Stage::InFlight), 1));
        let whole = world.disk().image();
        let (from, to) = (length(&before, WAL), length(&whole, WAL));
        for cut in (from..to).step_by(1_021).chain([to - 1]) {
            world.disk().lay_out(&with(&whole, WAL, |bytes| bytes.truncate(cut)));
            let (why, said) = refused(&world).await;
            assert!(matches!(why, NoStart::Store(OpenError::Damaged(_))), "{cut} of {to} bytes: {why:?}");
            assert!(said.contains("records up to sequence 1 were durable, and the file ends at 0"), "{said}");
        }
        // What was advised.
        at_each_step(async |step| {
            let world = died(case, Point::AfterSend(Kind::Create)).await;
            world.disk().lay_out(&whole);
            let end = world.recover(step).await;
            let expected = if case == Case::Ignored { "unresolved" } else { "completed" };
            assert_eq!((end.finished.outcome.name(), world.runs()), (expected, 1));
            end.twice
        })
        .await;
    }
}

/// Others' records after the job's, of operations that had ended.
fn followed_by_others(world: &World) {
    let delivered = Stage::Delivered(Outcome::Completed(Completed::Ready));
    let others = [1, 2, 3].map(|number| {
        let mut other = entry(number, delivered, 1);
        other.provider = "deepvue/driving-license".into();
        other
    });
    world.disk().append(&others);
}

/// Any bit of any file flips, with records before and after it. A client that starts all the same has found what was
/// there; the others find nothing, least of all a journal that ends before the damage.
#[tokio::test(start_paused = true)]
async fn c14_damage_in_the_middle() {
    for closed in [false, true] {
        let world = died(Case::Keyed, Point::AfterSend(Kind::Create)).await;
        if closed {
            followed_by_others(&world);
        } else {
            // Of two more lives, so that whole commits follow the first.
            die(&world, Point::BeforeSend(Kind::Create)).await;
            die(&world, Point::AfterCommit(2)).await;
        }
        let (whole, record) = (world.disk().image(), world.record());
        assert_eq!(whole.contains_key(WAL), !closed);
        let (mut right, mut no) = (0, 0);
        for suffix in SUFFIXES {
            for place in (0..length(&whole, suffix) * 8).step_by(if suffix == MARK { 7 } else { 401 }) {
                world.disk().lay_out(&with(&whole, suffix, |bytes| bytes[place / 8] ^= 1 << (place % 8)));
                let life = Life::new(Crash::Never);
                match world.try_start(&life).await {
                    Ok(client) => {
                        right += 1;
                        assert_eq!(world.record(), record, "journal{suffix}, bit {place}: another state");
                        life.kill();
                        let _ = client.shutdown(std::time::Duration::ZERO).await;
                        // And goes on from there, at whichever step it is crashed.
                        let end = world.recover(1 + right % 24).await;
                        assert_eq!((end.finished.outcome.name(), world.runs()), ("completed", 1), "bit {place}");
                    }
                    Err(_) => {
                        no += 1;
                        world.disk().lay_out(&with(&whole, suffix, |bytes| bytes[place / 8] ^= 1 << (place % 8)));
                        match refused(&world).await {
                            (NoStart::Store(OpenError::Damaged(_) | OpenError::Foreign | OpenError::Sqlite(_)), _) => {}
                            (NoStart::Store(OpenError::Unmarked { .. }), _) if suffix == MARK => {}
                            (NoStart::Client(StartError::Unreadable(_)), _) => {}
                            (other, _) => panic!("journal{suffix}, bit {place}: {other:?}"),
                        }
                    }
                }
            }
        }
        println!("closed: {closed}: {right} right, {no} refused");
        assert!(right > 20 && no > 20, "{right} right, {no} refused");
        at_each_step(async |step| {
            world.disk().lay_out(&whole);
            let end = world.recover(step).await;
            assert_eq!((end.finished.outcome.name(), world.runs()), ("completed", 1));
            end.twice
        })
        .await;
    }
}

/// Whole records follow the damage in the log. Who refuses to open it must not tidy it away: they may be all that is
/// left of them.
#[tokio::test(start_paused = true)]
async fn c14_what_is_refused_is_left_as_it_is() {
    let world = died(Case::Keyed, Point::AfterSend(Kind::Create)).await;
    let first = length(&world.disk().image(), WAL);
    die(&world, Point::AfterCommit(2)).await;
    let damaged = with(&world.disk().image(), WAL, |bytes| bytes[first - 100] ^= 1);
    world.disk().lay_out(&damaged);
    let (_, said) = refused(&world).await;
    assert!(said.contains("were durable, and the file ends at"), "{said}");
    assert!(world.disk().image() == damaged, "what is left of it was changed");
}

/// Two processes would each send what the other has sent. The second is refused at once, and the first does not notice,
/// whichever step it is at; if it dies at that, whoever comes next goes on with what it knew.
#[tokio::test(start_paused = true)]
async fn c18_second_opener() {
    at_each_step(async |step| {
        let world = World::new(On::Sqlite, Case::Ignored, false);
        let intrude = async |_: &Client, life: &Life| {
            while life.is_alive() && world.seen().handles == 0 {
                let found = world.record();
                let second = world.try_start(&Life::new(Crash::Never)).await;
                assert!(
                    matches!(second, Err(NoStart::Store(OpenError::Locked { .. }))),
                    "two have one journal: {second:?}"
                );
                assert!(world.record() == found, "changed by who may not");
                tokio::time::sleep(SECOND / 100).await;
            }
        };
        let end = world.recover_beside(step, intrude).await;
        let is_cut_off = end.twice && end.finished.outcome.name() == "unresolved";
        assert!(is_cut_off || (end.finished.outcome.name(), world.creates(), world.runs()) == ("completed", 1, 1));
        end.twice
    })
    .await;
}

/// The same of another process, which is what the lock is for.
#[tokio::test(start_paused = true)]
async fn c18_second_process() {
    let world = World::new(On::Sqlite, Case::Ignored, false);
    let client = world.start(&Life::new(Crash::Never)).await;
    let job = client.submit(key(), PAYLOAD).await.unwrap();
    let began = std::time::Instant::now();
    assert!(!opens_elsewhere(&world), "two processes have one journal");
    assert!(began.elapsed().as_secs() < 5, "it waited for the other");
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
    assert!(client.shutdown(60 * SECOND).await.is_empty());
    world.check();
    assert!(opens_elsewhere(&world), "the lock outlived its process");
    let again = world.live(Crash::Never).await.unwrap();
    assert_eq!((again.outcome.name(), world.creates(), world.runs()), ("completed", 1, 1));
}

/// Whether a process of its own can open it.
fn opens_elsewhere(world: &World) -> bool {
    let mut other = Command::new(env::current_exe().unwrap());
    let other = other.args(["--exact", "files::child_opens", "--ignored"]).env("JOURNAL", world.disk().journal());
    other.output().unwrap().status.success()
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_opens() {
    if let Err(error) = SqliteStore::open(env::var("JOURNAL").unwrap()) {
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        process::exit(3);
    }
}

/// SQLite's compaction is the checkpoint: the log's pages are copied into the file, and only when that is durable the
/// log goes. A crash at any byte of it leaves a file that is neither old nor new beside a whole log.
#[tokio::test(start_paused = true)]
async fn c24_crash_during_snapshot() {
    for case in Case::ALL {
        let world = died(case, Point::AfterCommit(2)).await;
        let (crashed, record) = (world.disk().image(), world.record());
        // Not before all of it was found whole.
        SqliteStore::open(world.disk().journal()).unwrap().load().unwrap();
        let closed = world.disk().image();
        assert!(!closed.contains_key(WAL) && closed[""] != crashed[""], "closing is a checkpoint");
        let (old, new) = (&crashed[""], &closed[""]);
        for (place, cut) in (0..=new.len()).step_by(1_021).chain([new.len()]).enumerate() {
            let partial: Vec<u8> = new[..cut].iter().chain(old.iter().skip(cut)).copied().collect();
            let partial = with(&crashed, "", |bytes| *bytes = partial);
            at_steps(place, async |step| {
                world.disk().lay_out(&partial);
                assert_eq!(world.record(), record, "{case:?}: {cut} bytes copied");
                let end = world.recover(step).await;
                let found = (end.finished.outcome.name(), world.creates(), world.runs());
                assert_eq!(found, ("completed", 1, 1), "{case:?}: {cut} bytes copied");
                end.twice
            })
            .await;
        }

        // What must not happen, and does if somebody removes the log: that is not taken for a shorter journal. Nor is a
        // file that is all by itself.
        let mut without = crashed.clone();
        without.remove(WAL);
        world.disk().lay_out(&without);
        let (_, said) = refused(&world).await;
        assert!(said.contains("damaged"), "{said}");
        without.remove(MARK);
        world.disk().lay_out(&without);
        let (why, _) = refused(&world).await;
        assert!(matches!(why, NoStart::Store(OpenError::Unmarked { .. })), "{why:?}");
    }
}
