//! The rows whose crash has its place on the way of one job. Its commits are: 1 in flight, 2 accepted, 3 ended, 4
//! delivered.

use std::time::{Duration, SystemTime};

use steadfast_core::operation::{Rejected, Stage, Unresolved};
use steadfast_core::{Kind, Outcome, Timestamp};
use steadfast_testkit::{Fault, Faults};
use steadfast_tokio::Finished;
use tokio::time::Instant;

use crate::disk::On;
use crate::life::{Crash, Life, Point};
use crate::world::{Case, PAYLOAD, SECOND, World, at_each_step, key};

/// How a row came out.
pub(crate) struct End {
    pub(crate) world: World,
    pub(crate) case: Case,
    pub(crate) finished: Finished,
    /// Whether the recovery was crashed as well.
    pub(crate) twice: bool,
}

impl End {
    pub(crate) fn completed(&self) {
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
pub(crate) fn each() -> impl Iterator<Item = (On, Case)> {
    On::BOTH.into_iter().flat_map(|on| Case::ALL.map(|case| (on, case)))
}

/// Runs a row: a process dies at `point`; `persisted` looks at what is left; the next one recovers, crashed at each of
/// its own steps in turn and at last not at all; `expect` looks at the end.
async fn row(faults: &Faults, point: Point, persisted: impl Fn(Case, &World), expect: impl Fn(&End)) {
    for (on, case) in each() {
        for kept in [false, true] {
            let steps = at_each_step(async |step| {
                let world = World::with_faults(on, case, kept, faults.clone());
                world.die(point).await;
                persisted(case, &world);
                let end = world.recover(step).await;
                expect(&End { world, case, finished: end.finished, twice: end.twice });
                end.twice
            });
            let steps = steps.await;
            assert!(steps > 3, "{case:?}: a recovery of {steps} steps");
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
        Case::Keyed => {
            end.completed();
            assert!(end.finished.creates >= 2, "it is attempt 2 that is sent");
        }
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

/// Who can be asked is asked before anything else is sent.
fn asked_first(end: &End) {
    if end.case == Case::Lookup {
        assert_eq!(end.world.seen().sent[..2], [Kind::Create, Kind::Lookup], "created before it was asked");
    }
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
        asked_first(end);
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
        asked_first(end);
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
    row(&Faults::none(), Point::BeforeCommit(2), ran, |end| {
        end.completed_or_in_doubt();
        if end.case != Case::Ignored {
            assert_eq!(end.finished.reference.as_ref().map(|it| it.to_string()), end.world.transaction(), "its answer");
        }
        asked_first(end);
    })
    .await;
}

fn accepted(_: Case, world: &World) {
    let record = world.record().unwrap();
    assert_eq!(record.stage, Stage::Accepted);
    assert_eq!(record.reference.map(|reference| reference.to_string()), world.transaction());
    assert!(record.due.is_some(), "when it is polled");
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
    for (on, case) in each() {
        for kept in [false, true] {
            at_each_step(async |step| {
                let world = World::with_faults(on, case, kept, faults.clone());
                world.die(Point::AfterCommit(2)).await;
                let record = world.record().unwrap();
                assert_eq!((record.stage, record.creates), (Stage::Planned, 1));
                let due = record.due.expect("when it goes on");
                let wall = std::time::Instant::now();
                let (began, left) = (Instant::now(), due.saturating_since(Timestamp::from(SystemTime::now())));
                let (cap, attempts) = (case.policy().create().backoff().cap(), case.policy().create().attempts());
                let end = world.recover(step).await;

                // Unless it was begun anew and cut off: that is C01.
                let second = world.seen().sent_at.get(1).map(|at| at.duration_since(began));
                if let Some(second) = second.filter(|_| world.seen().sent[1] == Kind::Create) {
                    assert!(second + wall.elapsed() >= left, "sent after {second:?}, and it was due in {left:?}");
                    assert!(second <= 2 * cap + SECOND, "sent after {second:?} by at most two processes");
                }
                assert_eq!(world.record().unwrap().submitted, record.submitted, "its deadline began anew");
                if case == Case::Ignored && end.finished.outcome == Outcome::Unresolved(Unresolved::Ambiguous) {
                    assert!(end.twice, "the second create was cut off");
                    return end.twice;
                }
                assert_eq!(end.finished.outcome.name(), "completed", "{case:?}");
                assert!((2..=attempts).contains(&end.finished.creates), "the attempt counter began anew");
                assert!(usize::from(end.finished.creates) >= world.creates());
                end.twice
            })
            .await;
        }
    }
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

/// The program took the outcome, which nobody waited for, and that it did so is not on disk: it is told once more, and
/// the same.
#[tokio::test(start_paused = true)]
async fn c12_the_callback_ran_and_the_delivered_mark_is_missing() {
    let long = 600 * SECOND;
    for (on, case) in each() {
        at_each_step(async |step| {
            let mut world = World::new(on, case, true);
            world.set_claims();
            world.die(Point::AfterCommit(2)).await;
            assert_eq!(world.stand_by(Crash::At(Point::BeforeCommit(2)), long).await, None);
            let told = world.seen().unclaimed.clone();
            assert!(told.len() == 1 && matches!(world.stage(), Some(Stage::Ended(_))), "{told:?}, {:?}", world.stage());

            let recovered = world.stand_by(Crash::Step(step), long).await;
            let twice = recovered.is_none();
            if twice {
                let stage = world.stand_by(Crash::Never, long).await;
                assert!(matches!(stage, Some(Stage::Delivered(_))), "{stage:?}");
            }
            let all = world.seen().unclaimed.clone();
            assert!(all.len() > 1 && all.iter().all(|again| *again == told[0]), "{all:?}");
            // Once it is on disk that it was told, it is not told again.
            world.stand_by(Crash::Never, long).await;
            assert_eq!(world.seen().unclaimed.len(), all.len());
            assert_eq!((world.creates(), world.runs()), (1, 1));
            twice
        })
        .await;
    }
}

/// The caller walks away: the job does not, and neither does it when the process dies at any step after that.
#[tokio::test(start_paused = true)]
async fn c23_the_caller_drops_its_future_in_flight() {
    for (on, case) in each() {
        for kept in [false, true] {
            at_each_step(async |step| {
                let world = World::new(on, case, kept);
                let life = Life::new(Crash::Never);
                let client = world.start(&life).await;
                let handle = client.submit(key(), PAYLOAD).await.unwrap();
                life.set_crash(Crash::Step(step));
                drop(handle);
                assert!(matches!(world.stage(), Some(Stage::InFlight | Stage::Accepted)), "{:?}", world.stage());
                let unfinished = tokio::select! {
                    biased;
                    () = life.died() => None,
                    unfinished = client.clone().shutdown(600 * SECOND) => Some(unfinished),
                };
                world.check();
                if life.is_alive() {
                    assert!(unfinished.is_some_and(|left| left.is_empty()), "the job was lost");
                    // Nobody has its outcome, so the journal keeps it until somebody asks.
                    let stage = world.stage();
                    assert!(matches!(stage, Some(Stage::Ended(Outcome::Completed(_)))), "{stage:?}");
                }
                let _ = client.shutdown(Duration::ZERO).await;
                let was_in_doubt = world.stage() == Some(Stage::InFlight);
                let end = world.recover(if life.is_alive() { 1_000 } else { 1 + step % 24 }).await;
                if was_in_doubt && case == Case::Ignored {
                    assert_eq!(end.finished.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
                } else {
                    assert_eq!(end.finished.outcome.name(), "completed");
                }
                assert!(matches!(world.stage(), Some(Stage::Delivered(_))), "{:?}", world.stage());
                !life.is_alive()
            })
            .await;
        }
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
            let crash = if lives < 12 { Crash::Step(dice.u32(1..24)) } else { Crash::Never };
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
