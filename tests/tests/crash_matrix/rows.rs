//! The rows whose crash has its place on the way of one job. Its commits are: 1 in flight, 2 accepted, 3 ended, 4 delivered.

use std::time::Duration;

use steadfast_core::operation::{Rejected, Stage, Unresolved};
use steadfast_core::{Kind, Outcome};
use steadfast_testkit::{Fault, Faults};
use steadfast_tokio::{Finished, SubmitError};

use crate::disk::On;
use crate::world::{Case, Crash, Life, PAYLOAD, Point, World, key};

/// How a row came out.
struct End {
    world: World,
    case: Case,
    finished: Finished,
    /// Whether the recovery was crashed as well.
    twice: bool,
}

impl End {
    fn completed(&self) {
        assert_eq!(self.finished.outcome.name(), "completed", "{:?}: {:?}", self.case, self.finished);
    }

    /// Where keys are ignored, a create that may have run leaves a doubt, and nothing is sent after it.
    fn completed_or_in_doubt(&self) {
        if self.case == Case::Ignored {
            assert_eq!(self.finished.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
            assert_eq!(self.world.creates(), 1, "created again");
        } else {
            self.completed();
        }
    }
}

/// Every store with every provider.
fn each() -> impl Iterator<Item = (On, Case)> {
    On::BOTH.into_iter().flat_map(|on| Case::ALL.map(|case| (on, case)))
}

/// Runs a row: a process dies at `point`; `persisted` looks at what is left; the next one recovers, crashed at each of its own steps in turn and at
/// last not at all; `expect` looks at the end.
async fn row(faults: &Faults, point: Point, persisted: impl Fn(Case, &World), expect: impl Fn(&End)) {
    for (on, case) in each() {
        for kept in [false, true] {
            for step in 1.. {
                assert!(step < 60, "a recovery of so many steps");
                let world = World::with_faults(on, case, kept, faults.clone());
                assert_eq!(
                    world.live(Crash::At(point)).await,
                    None,
                    "{case:?}: the process does not come to {point:?}"
                );
                world.check();
                persisted(case, &world);
                let recovered = world.live(Crash::Step(step)).await;
                let twice = recovered.is_none();
                let finished = match recovered {
                    Some(finished) => finished,
                    None => world.live(Crash::Never).await.unwrap(),
                };
                assert_eq!(world.seen().rejected, 0, "{case:?}: a job that was taken in was given up");
                expect(&End { world: world.clone(), case, finished: finished.clone(), twice });
                // Whoever asks once more is told the same, and nothing more is sent.
                let sent = world.seen().sent.len();
                let again = world.live(Crash::Never).await.unwrap();
                assert_eq!((again.outcome, again.reference), (finished.outcome, finished.reference));
                assert_eq!(world.seen().sent.len(), sent, "{case:?}: sent after the end");
                if !twice {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c00_before_the_intent_commit_returns() {
    let nothing = |_: Case, world: &World| {
        assert_eq!(world.stage(), None);
        assert_eq!((world.handles(), world.creates()), (0, 0), "a handle or a request before the commit");
    };
    row(&Faults::none(), Point::BeforeCommit(1), nothing, |end| {
        // As if for the first time; crashed again, as in the other rows.
        if end.twice && end.finished.outcome == Outcome::Unresolved(Unresolved::Ambiguous) {
            return assert_eq!(end.case, Case::Ignored);
        }
        end.completed();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c01_intent_committed_and_no_byte_sent() {
    let intent = |_: Case, world: &World| {
        let record = world.record().unwrap();
        assert_eq!((record.stage, record.creates), (Stage::InFlight, 1));
        assert_eq!((world.handles(), world.creates()), (0, 0));
    };
    row(&Faults::none(), Point::AfterCommit(1), intent, |end| match end.case {
        // Nothing was sent, but that is not on disk: it cannot be told from C02.
        Case::Ignored => {
            assert_eq!(end.finished.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
            assert_eq!(end.world.creates(), 0);
        }
        Case::Keyed => end.completed(),
        Case::Lookup => {
            end.completed();
            assert_eq!(end.world.seen().sent[0], Kind::Lookup, "created before absence was proven");
        }
    })
    .await;
}

fn in_flight(case: Case, world: &World) {
    assert_eq!(world.stage(), Some(Stage::InFlight), "{case:?}");
    assert_eq!(world.creates(), 1);
}

#[tokio::test(start_paused = true)]
async fn c02_request_bytes_partly_sent() {
    let partly = |case: Case, world: &World| {
        in_flight(case, world);
        assert_eq!(world.runs(), 0);
    };
    row(&Faults::none(), Point::BeforeSend(Kind::Create), partly, |end| {
        end.completed_or_in_doubt();
        if end.case == Case::Keyed {
            assert!(end.world.creates() >= 2, "sent again; that the bytes are the same is checked for every row");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c03_request_sent_and_waiting() {
    let ran = |case: Case, world: &World| {
        in_flight(case, world);
        assert_eq!(world.runs(), 1);
    };
    row(&Faults::none(), Point::AfterSend(Kind::Create), ran, |end| {
        end.completed_or_in_doubt();
        if end.case == Case::Lookup {
            assert_eq!(end.world.creates(), 1, "found, and adopted");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c04_response_received_and_not_journaled() {
    let ran = |case: Case, world: &World| {
        in_flight(case, world);
        assert_eq!(world.runs(), 1);
        assert_eq!(world.seen().sent, [Kind::Create], "acted on an answer before it was journaled");
    };
    row(&Faults::none(), Point::BeforeCommit(2), ran, End::completed_or_in_doubt).await;
}

fn accepted(_: Case, world: &World) {
    let record = world.record().unwrap();
    assert_eq!(record.stage, Stage::Accepted);
    assert!(record.reference.is_some());
}

fn completed_with_one_create(end: &End) {
    end.completed();
    assert_eq!(end.world.creates(), 1, "{:?}: a second create", end.case);
}

#[tokio::test(start_paused = true)]
async fn c05_acceptance_journaled_and_the_caller_not_told() {
    row(&Faults::none(), Point::AfterCommit(2), accepted, completed_with_one_create).await;
}

/// The first create is throttled, so nothing ran; the second is due after a while.
#[tokio::test(start_paused = true)]
async fn c06_in_a_backoff() {
    let faults = Faults::none().on(Kind::Create, 1, Fault::Throttle);
    let waits = |_: Case, world: &World| {
        let record = world.record().unwrap();
        assert_eq!((record.stage, record.creates), (Stage::Planned, 1));
        assert!(record.due.is_some(), "when it goes on");
    };
    row(&faults, Point::AfterCommit(2), waits, |end| {
        if end.case == Case::Ignored && end.finished.outcome == Outcome::Unresolved(Unresolved::Ambiguous) {
            return assert!(end.twice, "the second create was cut off");
        }
        end.completed();
        assert!(end.finished.creates >= 2, "the attempt counter began anew");
        assert!(usize::from(end.finished.creates) >= end.world.creates());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c08_poll_in_flight() {
    for point in [Point::BeforeSend(Kind::Poll), Point::AfterSend(Kind::Poll)] {
        row(&Faults::none(), point, accepted, completed_with_one_create).await;
    }
    // And a poll that fails is no failure of the job.
    let faults = Faults::none().on(Kind::Poll, 1, Fault::ErrorBefore(500));
    row(&faults, Point::AfterSend(Kind::Poll), accepted, completed_with_one_create).await;
}

#[tokio::test(start_paused = true)]
async fn c12_result_journaled_and_the_delivered_mark_missing() {
    let undelivered = |_: Case, world: &World| assert!(matches!(world.stage(), Some(Stage::Ended(_))));
    for point in [Point::AfterCommit(3), Point::BeforeCommit(4)] {
        row(&Faults::none(), point, undelivered, |end| {
            completed_with_one_create(end);
            assert_eq!(end.world.seen().sent.last(), Some(&Kind::Poll), "what is known needs no further request");
        })
        .await;
    }
}

/// A commit of which nobody knows whether it happened: nothing leaves while that is so, and the next process reads what is there.
#[tokio::test(start_paused = true)]
async fn c15_a_flush_that_failed() {
    for (on, case) in each() {
        // Dead to the disk from the start, or from just after it was written: the client is told the same.
        for point in [Point::BeforeCommit(1), Point::AfterCommit(1)] {
            let world = World::new(on, case, false);
            let life = Life::new(Crash::At(point));
            let client = world.start(&life).await;
            let submit = tokio::time::timeout(Duration::from_secs(100), client.submit(key(), PAYLOAD)).await;
            assert!(submit.is_err(), "promised or denied what nobody knows: {submit:?}");
            assert_eq!(world.creates(), 0, "believed a flush that failed");
            client.shutdown(Duration::ZERO).await;
            let finished = world.live(Crash::Never).await.unwrap();
            match (case, point) {
                (Case::Ignored, Point::AfterCommit(_)) => assert_eq!(finished.outcome.name(), "unresolved"),
                _ => assert_eq!(finished.outcome.name(), "completed"),
            }
        }
    }
}

/// The disk is full when the job's answer comes: the answer is kept in memory and written when there is room. A crash before that is C04.
#[tokio::test(start_paused = true)]
async fn c16_disk_full() {
    for (on, case) in each() {
        for dies in [false, true] {
            let world = World::new(on, case, false);
            let life = Life::new(Crash::Never);
            life.fill_disk_at(2);
            let client = world.start(&life).await;
            let job = client.submit(key(), PAYLOAD).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(world.seen().sent, [Kind::Create], "acted on an answer that is not on disk");
            let other = client.submit(steadfast_core::Key::new("order-43").unwrap(), PAYLOAD).await;
            assert!(matches!(other, Err(SubmitError::NotDurable(_))), "{other:?}");
            if dies {
                life.kill();
                client.shutdown(Duration::ZERO).await;
                let finished = world.live(Crash::Never).await.unwrap();
                assert_eq!(finished.outcome.name(), if case == Case::Ignored { "unresolved" } else { "completed" });
            } else {
                life.make_room();
                assert_eq!(job.await.unwrap().outcome.name(), "completed");
                assert_eq!(world.creates(), 1);
            }
            world.check();
        }
    }
}

/// A copy of the disk from before the acceptance, or from before the job: the key is the caller's own, so it is the same again.
#[tokio::test(start_paused = true)]
async fn c17_an_older_copy_of_the_journal() {
    for (on, case) in each() {
        let world = World::new(on, case, false);
        assert_eq!(world.live(Crash::At(Point::BeforeSend(Kind::Create))).await, None);
        let older = world.disk().backup();
        if case == Case::Ignored {
            // It was carried out by a process that the copy knows nothing of.
            world.disk().wipe();
            assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
        } else {
            assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
        }
        let creates = world.creates();
        world.disk().put_back(&older);
        let finished = world.live(Crash::Never).await.unwrap();
        match case {
            Case::Keyed => assert_eq!((finished.outcome.name(), world.creates()), ("completed", creates + 1)),
            Case::Lookup => assert_eq!((finished.outcome.name(), world.creates()), ("completed", creates)),
            Case::Ignored => assert_eq!((finished.outcome.name(), world.creates()), ("unresolved", creates)),
        }
        if case == Case::Keyed {
            // Of an empty journal only the provider's memory of the key is left.
            world.disk().wipe();
            assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
        }
        world.check();
    }
}

/// The copy was taken while the first create had been refused and was to be repeated: nothing had run then.
#[tokio::test(start_paused = true)]
async fn c17_an_older_copy_from_a_backoff() {
    for (on, case) in each() {
        for kept in [true, false] {
            let faults = Faults::none().on(Kind::Create, 1, Fault::Throttle);
            let mut world = World::with_faults(on, case, kept, faults);
            assert_eq!(world.live(Crash::At(Point::AfterCommit(2))).await, None);
            assert_eq!(world.stage(), Some(Stage::Planned));
            let older = world.disk().backup();
            assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
            world.disk().put_back(&older);
            // That it is a copy need be said once: it is noted.
            world.set_restored(true);
            let dies = world.live(Crash::At(Point::BeforeSend(Kind::Create))).await;
            world.set_restored(false);
            let finished = match dies {
                Some(finished) => finished,
                None => world.live(Crash::Never).await.unwrap(),
            };
            let expected = if case == Case::Ignored { "unresolved" } else { "completed" };
            assert_eq!((finished.outcome.name(), world.runs()), (expected, 1), "{on:?} {case:?}");
            world.check();
        }
    }
}

/// The caller walks away: the job does not.
#[tokio::test(start_paused = true)]
async fn c23_the_caller_drops_its_future_in_flight() {
    for (on, case) in each() {
        let world = World::new(on, case, false);
        let client = world.start(&Life::new(Crash::Never)).await;
        drop(client.submit(key(), PAYLOAD).await.unwrap());
        assert!(matches!(world.stage(), Some(Stage::InFlight | Stage::Accepted)), "{:?}", world.stage());
        assert!(client.shutdown(Duration::from_secs(600)).await.is_empty(), "the job was lost");
        // Nobody has its outcome, so the journal keeps it until somebody asks.
        assert!(matches!(world.stage(), Some(Stage::Ended(Outcome::Completed(_)))), "{:?}", world.stage());
        let finished = world.live(Crash::Never).await.unwrap();
        assert_eq!((finished.outcome.name(), world.creates()), ("completed", 1));
        assert!(matches!(world.stage(), Some(Stage::Delivered(Outcome::Completed(_)))), "{:?}", world.stage());
    }
}

/// Crash upon crash, at moments drawn at random, up to twelve in a row.
#[tokio::test(start_paused = true)]
async fn c25_crashes_inside_recoveries() {
    let mut most = 0;
    for seed in 0..120 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let on = On::BOTH[usize::from(seed % 2 == 1)];
        let case = Case::ALL[dice.usize(..3)];
        let world = World::new(on, case, dice.bool());
        let mut lives = 0;
        let finished = loop {
            let crash = if lives < 12 { Crash::Step(dice.u32(1..8)) } else { Crash::Never };
            lives += 1;
            if let Some(finished) = world.live(crash).await {
                break finished;
            }
            world.check();
        };
        most = most.max(lives);
        match (case, finished.outcome) {
            (_, Outcome::Completed(_)) => {}
            (Case::Ignored, Outcome::Unresolved(Unresolved::Ambiguous)) => {}
            // Five attempts, each of which a crash cut off.
            (Case::Keyed, Outcome::Unresolved(Unresolved::Attempts)) => assert!(world.creates() <= 5 && lives > 5),
            // The same, and each was proven not to have run.
            (Case::Lookup, Outcome::Rejected(Rejected::Attempts)) => assert!(world.runs() == 0 && lives > 5),
            (case, outcome) => panic!("seed {seed}: {case:?}: {outcome:?} after {lives} lives"),
        }
    }
    assert!(most > 6, "{most}");
}
