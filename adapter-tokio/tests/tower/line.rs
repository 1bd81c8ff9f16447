//! The rules of the gate's line when callers lose patience, one script for each: who goes next.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use steadfast_core::Kind;
use steadfast_core::gate::{Request, Settled};
use steadfast_tokio::{Gate, GatePermit, Refused};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::support::{SECOND, bulkhead, poll};

const CREATE: Request = Request::first(Kind::Create);

type Wait = Pin<Box<dyn Future<Output = Result<GatePermit, Refused>>>>;

/// Callers with names, at a gate that lets one go at a time. They are polled by hand, and time stands still.
struct Line {
    gate: Gate,
    waiting: Vec<(u32, Wait)>,
}

impl Line {
    /// A line of these callers, behind one that has not waited and has this permit.
    fn behind_one(names: &[u32]) -> (Self, GatePermit) {
        let gate = Gate::new(bulkhead(1));
        let held = gate.try_acquire(CREATE).unwrap();
        let mut line = Self { gate, waiting: Vec::new() };
        line.join(names);
        (line, held)
    }

    /// A line of these callers without the first, which has waited and has this permit.
    fn behind_the_first(names: &[u32]) -> (Self, GatePermit) {
        let (mut line, held) = Self::behind_one(names);
        held.settle(Settled::Answered);
        let (first, permit) = line.next();
        assert_eq!(first, names[0]);
        (line, permit)
    }

    fn join(&mut self, names: &[u32]) {
        for name in names {
            let mut wait = self.come();
            assert!(poll(&mut wait).is_pending(), "{name} did not have to wait");
            self.waiting.push((*name, wait));
        }
        assert_eq!(self.gate.waiting(), self.waiting.len());
    }

    fn come(&self) -> Wait {
        let gate = self.gate.clone();
        Box::pin(async move { gate.acquire(CREATE).await })
    }

    fn leave(&mut self, names: &[u32]) {
        self.waiting.retain(|(name, _)| !names.contains(name));
        assert_eq!(self.gate.waiting(), self.waiting.len());
    }

    /// All ask, and one goes.
    fn next(&mut self) -> (u32, GatePermit) {
        let mut gone = Vec::new();
        self.waiting.retain_mut(|(name, wait)| match poll(wait) {
            Poll::Ready(permit) => {
                gone.push((*name, permit.unwrap()));
                false
            }
            Poll::Pending => true,
        });
        assert_eq!(gone.len(), 1, "{gone:?} go together");
        gone.remove(0)
    }

    /// The order in which all go whose calls end like this, once this one has ended so.
    async fn order(mut self, permit: GatePermit, end: fn(GatePermit)) -> Vec<u32> {
        end(permit);
        let mut order = Vec::new();
        while !self.waiting.is_empty() {
            // A task is let poll so often in a row.
            yield_now().await;
            let (name, permit) = self.next();
            order.push(name);
            end(permit);
        }
        assert_eq!((self.gate.in_flight(), self.gate.waiting()), (0, 0));
        order
    }
}

fn answered(permit: GatePermit) {
    permit.settle(Settled::Answered);
}

#[tokio::test(start_paused = true)]
async fn after_a_call_that_was_given_up_the_last_goes_first_but_never_twice_in_a_row() {
    let (line, first) = Line::behind_the_first(&[1, 2, 3, 4, 5, 6]);
    assert_eq!(line.order(first, drop).await, [6, 2, 5, 3, 4]);
}

/// If another were called, the permit would lie idle until the last looks in by itself.
#[tokio::test(start_paused = true)]
async fn the_last_is_called_at_once_when_it_is_next() {
    let gate = Gate::new(bulkhead(1));
    let held = gate.acquire(CREATE).await.unwrap();
    let (gone, mut going) = unbounded_channel();
    for name in 1..=3 {
        let (gate, gone) = (gate.clone(), gone.clone());
        tokio::spawn(async move { gone.send((name, gate.acquire(CREATE).await.unwrap())) });
        yield_now().await;
    }
    assert_eq!(gate.waiting(), 3);
    let start = Instant::now();
    held.settle(Settled::Answered);
    for expected in [1, 3, 2] {
        let (name, permit) = going.recv().await.unwrap();
        assert_eq!((name, start.elapsed()), (expected, Duration::ZERO));
        drop(permit);
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_the_last_is_next_is_the_last_and_goes() {
    let (line, first) = Line::behind_the_first(&[1, 2, 3]);
    drop(first);
    let Poll::Ready(Ok(newcomer)) = poll(&mut line.come()) else { panic!("it has to wait") };
    assert_eq!(line.order(newcomer, answered).await, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_given_up_goes_to_the_next_that_comes() {
    let (mut line, held) = Line::behind_one(&[1, 2, 3, 4]);
    line.leave(&[2]);
    line.join(&[5, 6]);
    assert_eq!(line.order(held, answered).await, [1, 5, 3, 4, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_given_up_is_lost_once_one_behind_it_has_gone() {
    let (mut line, first) = Line::behind_the_first(&[1, 2, 3, 4, 5]);
    line.leave(&[2]);
    answered(first);
    let (name, third) = line.next();
    assert_eq!(name, 3);
    line.join(&[6]);
    assert_eq!(line.order(third, answered).await, [4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_given_up_is_kept_when_the_last_has_gone_out_of_turn() {
    let (mut line, first) = Line::behind_the_first(&[1, 2, 3, 4, 5]);
    line.leave(&[2]);
    drop(first);
    let (name, fifth) = line.next();
    assert_eq!(name, 5);
    line.join(&[6]);
    assert_eq!(line.order(fifth, answered).await, [6, 3, 4]);
}

/// It shows when others have come behind it without taking it: those who came while the last was next.
#[tokio::test(start_paused = true)]
async fn a_place_that_nobody_stands_behind_is_none() {
    let (mut line, first) = Line::behind_the_first(&[1, 2, 3]);
    line.leave(&[3]);
    line.gate.work(|machine, now| machine.hold_until(now.saturating_add(SECOND)));
    drop(first);
    line.join(&[4, 5]);
    line.gate.work(|machine, now| machine.hold_until(now));
    let (name, fifth) = line.next();
    assert_eq!(name, 5);
    line.join(&[6]);
    assert_eq!(line.order(fifth, answered).await, [2, 4, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_has_been_empty_begins_with_its_first() {
    let (mut line, first) = Line::behind_the_first(&[1, 2]);
    drop(first);
    line.leave(&[2]);
    let held = line.gate.try_acquire(CREATE).unwrap();
    line.join(&[3, 4, 5]);
    assert_eq!(line.order(held, answered).await, [3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_call_given_up_by_a_caller_that_had_not_waited_changes_no_order() {
    let (mut line, held) = Line::behind_one(&[1, 2, 3]);
    drop(held);
    let (name, first) = line.next();
    assert_eq!(name, 1);
    assert_eq!(line.order(first, answered).await, [2, 3]);
}

/// Or, after a rush, all who come would go before those who have stayed.
#[tokio::test(start_paused = true)]
async fn places_that_were_given_up_are_at_most_as_many_as_wait_and_the_foremost_are_lost() {
    let (mut line, held) = Line::behind_one(&[1, 2, 3, 4, 5]);
    line.leave(&[1]);
    line.leave(&[3]);
    line.leave(&[4]);
    line.join(&[6, 7, 8]);
    assert_eq!(line.order(held, answered).await, [2, 6, 7, 5, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_call_given_up_when_nobody_waits_changes_no_order() {
    let (mut line, only) = Line::behind_the_first(&[1]);
    drop(only);
    let held = line.gate.try_acquire(CREATE).unwrap();
    line.join(&[2, 3, 4]);
    assert_eq!(line.order(held, answered).await, [2, 3, 4]);
}
