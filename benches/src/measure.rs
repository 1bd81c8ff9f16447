//! Times, and allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, LazyLock};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use serde::Serialize;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub section: &'static str,
    pub case: &'static str,
    /// `steadfast`, `limit`, or a peer's crate name.
    pub subject: &'static str,
    pub ns_per_op: f64,
    pub allocs_per_op: f64,
    pub bytes_per_op: f64,
}

/// What is measured: does its operation so many times.
pub struct Subject<'a> {
    name: &'static str,
    /// Says how long it took, on average over its threads.
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
    /// How many operations take a slice of time is found out by this.
    calibrated_by: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Subject<'a> {
    pub fn new(name: &'static str, run: impl FnMut(u64) + 'a) -> Self {
        let run = Rc::new(RefCell::new(run));
        let same = Rc::clone(&run);
        Self {
            name,
            run: Box::new(move |calls| timed(|| (run.borrow_mut())(calls))),
            calibrated_by: Box::new(move |calls| (same.borrow_mut())(calls)),
        }
    }

    /// One object that two threads hammer at the same time. The time is that of one thread's calls.
    ///
    /// Each thread times itself from when both have begun, and calibration runs on one: how long threads take to start,
    /// or wait for a processor that others use, is no part of a call.
    pub fn on_two_threads(name: &'static str, call: impl Fn(u64) + Send + Sync + 'a) -> Self {
        let call = Arc::new(call);
        let same = Arc::clone(&call);
        let run = move |calls| {
            let start = Barrier::new(2);
            let took: Duration = std::thread::scope(|scope| {
                let threads = [(), ()].map(|()| {
                    scope.spawn(|| {
                        start.wait();
                        timed(|| call(calls))
                    })
                });
                threads.map(|thread| thread.join().expect("a subject does not panic")).iter().sum()
            });
            took / 2
        };
        Self { name, run: Box::new(run), calibrated_by: Box::new(move |calls| same(calls)) }
    }
}

const ROUNDS: usize = 31;
const SLICE: Duration = Duration::from_millis(5);

/// Measures the subjects of one case in turns.
pub fn case(section: &'static str, case: &'static str, mut subjects: Vec<Subject<'_>>) -> Vec<Row> {
    let shown = std::io::stderr().is_terminal();
    let counts: Vec<u64> = subjects.iter_mut().map(|it| calibrate(&mut it.calibrated_by)).collect();
    let mut samples = vec![Vec::with_capacity(ROUNDS); subjects.len()];
    for round in 0..ROUNDS {
        if shown {
            eprint!("\r{section}: {case}, round {} of {ROUNDS}   ", round + 1);
            let _ = std::io::stderr().flush();
        }
        for ((subject, count), samples) in subjects.iter_mut().zip(&counts).zip(&mut samples) {
            let (made, bytes) = (allocations(), allocated_bytes());
            let took = (subject.run)(*count).as_nanos() as f64;
            let made = allocations() - made;
            let bytes = allocated_bytes() - bytes;
            let per = |total: f64| total / *count as f64;
            samples.push((per(took), per(made as f64), per(bytes as f64)));
        }
    }
    if shown {
        eprint!("\r{:60}\r", "");
    }
    let row = |(subject, mut samples): (Subject<'_>, Vec<(f64, f64, f64)>)| {
        samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ns_per_op, allocs_per_op, bytes_per_op) = samples[samples.len() / 2];
        Row { section, case, subject: subject.name, ns_per_op, allocs_per_op, bytes_per_op }
    };
    subjects.into_iter().zip(samples).map(row).collect()
}

fn timed(run: impl FnOnce()) -> Duration {
    let began = Instant::now();
    run();
    began.elapsed()
}

/// How many operations take about one slice of time. Warms the subject up, too.
fn calibrate(run: &mut dyn FnMut(u64)) -> u64 {
    let mut count = 1_000;
    loop {
        let began = Instant::now();
        run(count);
        let took = began.elapsed();
        if took >= SLICE {
            let scale = SLICE.as_secs_f64() / took.as_secs_f64();
            return ((count as f64 * scale) as u64).max(1);
        }
        count *= 2;
    }
}

/// What a thread has allocated and given back, in lines of memory of its own: threads that count in one wait for each
/// other at every allocation, and even alone each count would cost as much as an allocation does.
#[repr(align(128))]
struct Counters {
    allocations: AtomicU64,
    bytes: AtomicU64,
    freed: AtomicU64,
}

/// The last is shared by the threads that found no other free.
const COUNTERS: usize = 512;
const SHARED: usize = COUNTERS - 1;

static COUNTED: [Counters; COUNTERS] =
    [const { Counters { allocations: AtomicU64::new(0), bytes: AtomicU64::new(0), freed: AtomicU64::new(0) } };
        COUNTERS];

/// Which of them a thread counts in, as bits.
static TAKEN: [AtomicU64; COUNTERS / 64] = [const { AtomicU64::new(0) }; COUNTERS / 64];

/// Which of them this thread counts in; given back when the thread ends.
struct Place(Cell<Option<usize>>);

thread_local! {
    static PLACE: Place = const { Place(Cell::new(None)) };
}

impl Place {
    fn get(&self) -> usize {
        self.0.get().unwrap_or_else(|| {
            let free = (0..SHARED).find(|place| {
                let bit = 1 << (place % 64);
                TAKEN[place / 64].fetch_or(bit, Ordering::Acquire) & bit == 0
            });
            let place = free.unwrap_or(SHARED);
            self.0.set(Some(place));
            place
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(place) = self.0.get().filter(|place| *place != SHARED) {
            TAKEN[place / 64].fetch_and(!(1 << (place % 64)), Ordering::Release);
        }
    }
}

fn count(allocations: u64, bytes: usize, freed: usize) {
    // A thread that is ending has none of its own any more.
    let place = PLACE.try_with(Place::get).unwrap_or(SHARED);
    let counters = &COUNTED[place];
    for (counter, more) in
        [(&counters.allocations, allocations), (&counters.bytes, bytes as u64), (&counters.freed, freed as u64)]
    {
        if place == SHARED {
            counter.fetch_add(more, Ordering::Relaxed);
        } else {
            counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        }
    }
}

fn sum(counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
    COUNTED.iter().map(|counters| counter(counters).load(Ordering::Relaxed)).sum()
}

/// How long this thread has run. Where the system does not tell, the time that has passed: then others on the machine
/// count too.
pub fn thread_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = ran.and_then(|text| text.split(' ').next()?.parse().ok()).map(Duration::from_nanos);
    ran.unwrap_or_else(|| START.elapsed())
}

/// How many allocations there were, those that grew one included.
pub fn allocations() -> u64 {
    sum(|it| &it.allocations)
}

/// How many bytes were ever allocated.
pub fn allocated_bytes() -> u64 {
    sum(|it| &it.bytes)
}

/// How many bytes are allocated and not given back.
pub fn live_bytes() -> u64 {
    allocated_bytes().saturating_sub(sum(|it| &it.freed))
}

/// What the system holds in memory for this process (RSS).
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}

/// Processor time of this process, all threads together.
pub fn cpu_time() -> Duration {
    ProcessTime::now().as_duration()
}

/// The system's allocator, counted.
struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counters beside it touch no memory of its.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, 0, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does it so many times, and lets the optimiser drop none.
pub fn repeat<T>(count: u64, mut call: impl FnMut() -> T) {
    for _ in 0..count {
        let _ = std::hint::black_box(call());
    }
}
