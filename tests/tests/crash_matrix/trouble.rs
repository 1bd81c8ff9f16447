//! The rows in which the disk fails, is full, or is put back from a copy. What a system's own failed sync does is in
//! `calls`.

use std::time::Duration;

use steadfast_core::notice::Notice;
use steadfast_core::operation::{Stage, Unresolved};
use steadfast_core::{Key, Kind, Outcome};
use steadfast_testkit::{Fault, Faults};
use steadfast_tokio::SubmitError;

use crate::disk::{Backup, On};
use crate::files::{MARK, refused};
use crate::life::{Crash, Life, Point};
use crate::rows::each;
use crate::world::{Case, PAYLOAD, SECOND, World, at_each_step, key};

/// A commit of which nobody knows whether it happened: nothing that depends on it leaves or is told while that is so,
/// and the next process reads what is there.
#[tokio::test(start_paused = true)]
async fn c15_a_flush_that_failed() {
    for (on, case) in each() {
        // Dead to the disk from before it was written, or from just after: the client is told the same. Of the intent,
        // and of the acceptance.
        for point in [1, 2].into_iter().flat_map(|commit| [Point::BeforeCommit(commit), Point::AfterCommit(commit)]) {
            at_each_step(async |step| {
                let world = World::new(on, case, false);
                let life = Life::new(Crash::At(point));
                let client = world.start(&life).await;
                let told = async { client.submit(key(), PAYLOAD).await.unwrap().await };
                let told = tokio::time::timeout(100 * SECOND, told).await;
                assert!(told.is_err(), "promised or denied what nobody knows: {told:?}");
                let intent = matches!(point, Point::BeforeCommit(1) | Point::AfterCommit(1));
                let sent: &[Kind] = if intent { &[] } else { &[Kind::Create] };
                assert_eq!(world.seen().sent, sent, "believed a flush that failed");
                let _ = client.shutdown(Duration::ZERO).await;

                let end = world.recover(step).await;
                match (case, point) {
                    (Case::Ignored, Point::BeforeCommit(1)) if end.twice => {}
                    (Case::Ignored, Point::AfterCommit(1) | Point::BeforeCommit(2)) => {
                        assert_eq!(end.finished.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
                    }
                    _ => assert_eq!(end.finished.outcome.name(), "completed", "{case:?}, {point:?}"),
                }
                end.twice
            })
            .await;
        }
    }
}

/// The disk is full when the job's answer comes: the answer is kept in memory and written when there is room. A crash
/// before that, or at any step of what follows when there is room, is C04 or later.
#[tokio::test(start_paused = true)]
async fn c16_disk_full() {
    for (on, case) in each() {
        for room in [false, true] {
            at_each_step(async |step| {
                let world = World::new(on, case, false);
                let life = Life::new(Crash::Never);
                life.fill_disk_at(2);
                let client = world.start(&life).await;
                let job = client.submit(key(), PAYLOAD).await.unwrap();
                tokio::time::sleep(60 * SECOND).await;
                assert_eq!(world.seen().sent, [Kind::Create], "acted on an answer that is not on disk");
                let is_degraded = |notice: &Notice| matches!(notice, Notice::PersistFailed { retry: Some(_), .. });
                assert!(world.seen().notices.iter().any(is_degraded), "nobody was told that the disk is full");
                let other = client.submit(Key::new("order-43").unwrap(), PAYLOAD).await;
                assert!(matches!(other, Err(SubmitError::NotDurable(_))), "{other:?}");
                assert_eq!(world.stage(), Some(Stage::InFlight), "what was there before");

                if room {
                    life.set_crash(Crash::Step(step));
                    life.make_room();
                    let finished = tokio::select! {
                        biased;
                        () = life.died() => None,
                        finished = job => Some(finished.unwrap()),
                    };
                    let _ = client.shutdown(if life.is_alive() { 60 * SECOND } else { Duration::ZERO }).await;
                    world.check();
                    if let Some(finished) = finished {
                        assert_eq!(
                            (finished.outcome.name(), world.creates()),
                            ("completed", 1),
                            "written when there is room"
                        );
                    }
                    let is_lost = world.stage() == Some(Stage::InFlight);
                    let end = world.recover(1_000).await;
                    let expected = if is_lost && case == Case::Ignored { "unresolved" } else { "completed" };
                    assert_eq!(end.finished.outcome.name(), expected);
                    return !life.is_alive();
                }
                life.kill();
                let _ = client.shutdown(Duration::ZERO).await;
                let end = world.recover(step).await;
                let expected = if case == Case::Ignored { "unresolved" } else { "completed" };
                assert_eq!(end.finished.outcome.name(), expected);
                end.twice
            })
            .await;
        }
    }
}

/// A copy of the disk from before the acceptance, or from before the job: the key is the caller's own, so it is the
/// same again.
#[tokio::test(start_paused = true)]
async fn c17_an_older_copy_of_the_journal() {
    for (on, case) in each() {
        for empty in [false, true] {
            // Of an empty journal only the provider's memory of the key is left.
            if empty && case != Case::Keyed {
                continue;
            }
            at_each_step(async |step| {
                let world = World::new(on, case, false);
                world.die(Point::BeforeSend(Kind::Create)).await;
                let older = world.disk().backup();
                if case == Case::Ignored {
                    // It was carried out by a process that the copy knows nothing of.
                    world.disk().wipe();
                }
                assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
                let creates = world.creates();
                if empty {
                    world.disk().wipe()
                } else {
                    world.disk().put_back(&older)
                }
                let end = world.recover(step).await;
                let again = world.creates() - creates;
                match case {
                    Case::Keyed => assert!(end.finished.outcome.name() == "completed" && (again == 1 || end.twice)),
                    Case::Lookup => assert_eq!((end.finished.outcome.name(), again), ("completed", 0)),
                    Case::Ignored => assert_eq!((end.finished.outcome.name(), again), ("unresolved", 0)),
                }
                end.twice
            })
            .await;
        }
    }
}

/// The copy was taken while the first create had been refused and was to be repeated: nothing had run then. Who says
/// that it is a copy has each job that it calls planned noted as perhaps run, before anything is sent; it need be said
/// until a client has started.
#[tokio::test(start_paused = true)]
async fn c17_an_older_copy_from_a_backoff() {
    let faults = Faults::none().on(Kind::Create, 1, Fault::Throttle);
    for (on, case) in each() {
        for kept in [true, false] {
            at_each_step(async |step| {
                let world = World::with_faults(on, case, kept, faults.clone());
                world.die(Point::AfterCommit(2)).await;
                assert_eq!(world.stage(), Some(Stage::Planned));
                let older = world.disk().backup();
                assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
                let sent = world.seen().sent.len();
                world.disk().put_back(&older);
                world.set_restored();
                let end = world.recover_beside(step, async |_, life| {
                    assert!(world.stage() != Some(Stage::Planned) || !life.is_alive(), "still planned");
                });
                let end = end.await;
                let expected = if case == Case::Ignored { "unresolved" } else { "completed" };
                assert_eq!((end.finished.outcome.name(), world.runs()), (expected, 1), "{on:?} {case:?}");
                match case {
                    Case::Ignored => assert_eq!(world.seen().sent.len(), sent),
                    Case::Lookup => assert_eq!(world.seen().sent[sent], Kind::Lookup),
                    Case::Keyed => assert_eq!(world.seen().sent[sent], Kind::Create),
                }
                end.twice
            })
            .await;
        }
    }
}

/// The same of a copy that `back_up` made, with its mark or without. It says by itself what it is, so nobody need say
/// it at any start, however many of them die.
#[tokio::test(start_paused = true)]
async fn c17_a_backup_that_nobody_calls_one() {
    let faults = Faults::none().on(Kind::Create, 1, Fault::Throttle);
    for case in Case::ALL {
        for is_marked in [true, false] {
            at_each_step(async |step| {
                let world = World::with_faults(On::Sqlite, case, true, faults.clone());
                world.die(Point::AfterCommit(2)).await;
                assert_eq!(world.stage(), Some(Stage::Planned));
                let mut older = world.disk().backed_up();
                assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
                let sent = world.seen().sent.len();
                if !is_marked {
                    older.remove(MARK);
                    world.disk().open_unmarked();
                }
                world.disk().lay_out(&older);
                let end = world.recover(step).await;
                let expected = if case == Case::Ignored { "unresolved" } else { "completed" };
                assert_eq!((end.finished.outcome.name(), world.runs()), (expected, 1), "{case:?}, marked: {is_marked}");
                match case {
                    Case::Ignored => assert_eq!(world.seen().sent.len(), sent),
                    Case::Lookup => assert_eq!(world.seen().sent[sent], Kind::Lookup),
                    Case::Keyed => assert_eq!(world.seen().sent[sent], Kind::Create),
                }
                end.twice
            })
            .await;
        }
    }
}

/// Only the file and its log were put back, and the newer mark tells that something is missing.
#[tokio::test(start_paused = true)]
async fn c17_an_older_copy_beside_the_newer_mark() {
    let world = World::new(On::Sqlite, Case::Ignored, false);
    world.die(Point::BeforeSend(Kind::Create)).await;
    let Backup::Files(mut older) = world.disk().backup() else { panic!("it has files") };
    world.disk().wipe();
    assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
    older.insert(MARK, world.disk().image()[MARK].clone());
    world.disk().lay_out(&older);
    let (_, said) = refused(&world).await;
    assert!(said.contains("damaged"), "{said}");
}
