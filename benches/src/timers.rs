//! A million timers, due at random moments of a minute: added and fired in their order, or added and cancelled before
//! they fire.
//!
//! Adding is part of both; what cancelling costs is the time of the cancels alone. The clock moves by whole
//! milliseconds. A heap cannot cancel what is not on top: it crosses it out, and throws it away when it comes up; that
//! is counted too. `bytes_per_op` is what one timer that waits holds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::time::Duration;

use steadfast_core::Timestamp;
use steadfast_core::timers::Timers;
use tokio::runtime::{Builder, Runtime};
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::measure::{Row, live_bytes, thread_time};

const TIMERS: u32 = 1_000_000;
const MILLI: u64 = 1_000_000;
const MINUTE: u64 = 60_000;
const ROUNDS: usize = 5;
const START: u64 = 1_700_000_000_000;

/// Something that keeps timers, named by a number.
trait Keeper {
    fn add(&mut self, slot: u32, nanos: u64);
    fn cancel(&mut self, slot: u32);
    /// Fires what is due by then; tells how many.
    fn fire(&mut self, nanos: u64) -> u32;
}

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for cancel in [false, true] {
        rows.push(measure("steadfast", cancel, Timers::default));
        rows.push(measure("limit", cancel, || Calendar::new(START)));
        rows.push(measure("BinaryHeap", cancel, Heap::default));
        rows.push(measure("DelayQueue", cancel, Queue::new));
    }
    rows
}

fn measure<K: Keeper>(subject: &'static str, cancel: bool, keeper: impl FnOnce() -> K) -> Row {
    let (mut begun, mut chance) = (START, 0x9e37_79b9_7f4a_7c15_u64);
    let mut order: Vec<u32> = (0..TIMERS).collect();
    let mut next = move || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    for at in (1..order.len()).rev() {
        order.swap(at, (next() % (at as u64 + 1)) as usize);
    }
    let before = live_bytes();
    let mut keeper = keeper();
    let mut samples = Vec::new();
    let mut held = 0;
    for round in 0..=ROUNDS {
        let began = thread_time();
        for slot in 0..TIMERS {
            keeper.add(slot, begun * MILLI + next() % (MINUTE * MILLI));
        }
        held = live_bytes() - before;
        let added = thread_time();
        let mut left = TIMERS;
        if cancel {
            order.iter().for_each(|slot| keeper.cancel(*slot));
            left = 0;
        }
        let cancelled = thread_time();
        // A queue that rounds up fires the last of them a little later.
        for milli in begun..=begun + MINUTE + 2 {
            left -= keeper.fire(milli * MILLI);
        }
        assert_eq!(left, 0);
        begun += MINUTE + 3;
        // The first round grows what has to grow.
        if round > 0 {
            // What is due of nothing: only what crossing out left to do.
            let swept = if cancel { thread_time() - cancelled } else { Duration::ZERO };
            let took = if cancel { cancelled - added + swept } else { thread_time() - began };
            samples.push(took.as_nanos() as f64 / f64::from(TIMERS));
        }
    }
    samples.sort_by(f64::total_cmp);
    let case = if cancel { "1M, cancel" } else { "1M, add and fire" };
    let bytes_per_op = held as f64 / f64::from(TIMERS);
    Row { section: "timers", case, subject, ns_per_op: samples[ROUNDS / 2], allocs_per_op: 0.0, bytes_per_op }
}

impl Keeper for Timers {
    fn add(&mut self, slot: u32, nanos: u64) {
        self.set(slot, Some(Timestamp::from_nanos(nanos)));
    }

    fn cancel(&mut self, slot: u32) {
        self.set(slot, None);
    }

    fn fire(&mut self, nanos: u64) -> u32 {
        let mut fired = 0;
        while self.pop_due(Timestamp::from_nanos(nanos)).is_some() {
            fired += 1;
        }
        fired
    }
}

/// The floor: a page for each millisecond of the next minute, and where on it each timer stands. Within a page it knows
/// no order.
struct Calendar {
    pages: Vec<Vec<u32>>,
    /// By timer: its page and its place.
    places: Vec<(u32, u32)>,
    milli: u64,
}

impl Calendar {
    const PAGES: u64 = 1 << 16;

    fn new(milli: u64) -> Self {
        Self { pages: vec![Vec::new(); Self::PAGES as usize], places: Vec::new(), milli }
    }
}

impl Keeper for Calendar {
    fn add(&mut self, slot: u32, nanos: u64) {
        let page = (nanos.div_ceil(MILLI) % Self::PAGES) as u32;
        let timers = &mut self.pages[page as usize];
        let place = (page, timers.len() as u32);
        timers.push(slot);
        if self.places.len() <= slot as usize {
            self.places.resize(TIMERS as usize, (0, 0));
        }
        self.places[slot as usize] = place;
    }

    fn cancel(&mut self, slot: u32) {
        let (page, place) = self.places[slot as usize];
        let timers = &mut self.pages[page as usize];
        timers.swap_remove(place as usize);
        if let Some(moved) = timers.get(place as usize) {
            self.places[*moved as usize].1 = place;
        }
    }

    fn fire(&mut self, nanos: u64) -> u32 {
        let mut fired = 0;
        while self.milli <= nanos / MILLI {
            let page = &mut self.pages[(self.milli % Self::PAGES) as usize];
            fired += page.len() as u32;
            for slot in page.drain(..) {
                std::hint::black_box(slot);
            }
            self.milli += 1;
        }
        fired
    }
}

#[derive(Default)]
struct Heap {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    crossed_out: Vec<bool>,
}

impl Keeper for Heap {
    fn add(&mut self, slot: u32, nanos: u64) {
        self.heap.push(Reverse((nanos, slot)));
    }

    fn cancel(&mut self, slot: u32) {
        self.crossed_out.resize(TIMERS as usize, false);
        self.crossed_out[slot as usize] = true;
    }

    fn fire(&mut self, nanos: u64) -> u32 {
        let mut fired = 0;
        while let Some(Reverse((_, slot))) = self.heap.peek().filter(|top| top.0.0 <= nanos).copied() {
            self.heap.pop();
            match self.crossed_out.get_mut(slot as usize) {
                Some(out) if *out => *out = false,
                _ => fired += 1,
            }
        }
        fired
    }
}

/// tokio's, on a paused clock.
struct Queue {
    runtime: Runtime,
    queue: DelayQueue<u32>,
    keys: Vec<Key>,
    started: tokio::time::Instant,
}

impl Queue {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let started = runtime.block_on(async { tokio::time::Instant::now() });
        Self { runtime, queue: DelayQueue::new(), keys: Vec::new(), started }
    }
}

impl Keeper for Queue {
    fn add(&mut self, slot: u32, nanos: u64) {
        let at = self.started + Duration::from_nanos(nanos - START * MILLI);
        let _here = self.runtime.enter();
        let key = self.queue.insert_at(slot, at);
        if slot == 0 {
            self.keys.clear();
        }
        self.keys.push(key);
    }

    fn cancel(&mut self, slot: u32) {
        let _here = self.runtime.enter();
        let _ = self.queue.remove(&self.keys[slot as usize]);
    }

    fn fire(&mut self, nanos: u64) -> u32 {
        let (queue, until) = (&mut self.queue, self.started + Duration::from_nanos(nanos - START * MILLI));
        self.runtime.block_on(async {
            let mut fired = 0;
            tokio::time::advance(until.saturating_duration_since(tokio::time::Instant::now())).await;
            poll_fn(|cx| {
                while let std::task::Poll::Ready(Some(expired)) = queue.poll_expired(cx) {
                    std::hint::black_box(expired.into_inner());
                    fired += 1;
                }
                std::task::Poll::Ready(())
            })
            .await;
            fired
        })
    }
}
