//! Times, and allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{IsTerminal as _, Write as _};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    run: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Subject<'a> {
    pub fn new(name: &'static str, run: impl FnMut(u64) + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// One object that two threads hammer at the same time. The time is that of one thread's calls.
    pub fn on_two_threads(name: &'static str, call: impl Fn(u64) + Sync + 'a) -> Self {
        Self::new(name, move |calls| {
            let start = Barrier::new(2);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        start.wait();
                        call(calls);
                    });
                }
            });
        })
    }
}

const ROUNDS: usize = 31;
const SLICE: Duration = Duration::from_millis(4);

/// Measures the subjects of one case in turns.
pub fn case(section: &'static str, case: &'static str, mut subjects: Vec<Subject<'_>>) -> Vec<Row> {
    let shown = std::io::stderr().is_terminal();
    let counts: Vec<u64> = subjects.iter_mut().map(|it| calibrate(&mut it.run)).collect();
    let mut samples = vec![Vec::with_capacity(ROUNDS); subjects.len()];
    for round in 0..ROUNDS {
        if shown {
            eprint!("\r{section}: {case}, round {} of {ROUNDS}   ", round + 1);
            let _ = std::io::stderr().flush();
        }
        for ((subject, count), samples) in subjects.iter_mut().zip(&counts).zip(&mut samples) {
            let (allocations, bytes) = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
            let began = Instant::now();
            (subject.run)(*count);
            let took = began.elapsed().as_nanos() as f64;
            let made = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
            let bytes = BYTES.load(Ordering::Relaxed) - bytes;
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

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

/// How many bytes are allocated and not given back.
pub fn live_bytes() -> u64 {
    BYTES.load(Ordering::Relaxed).saturating_sub(FREED.load(Ordering::Relaxed))
}

/// The system's allocator, counted.
struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counters beside it touch no memory of its.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size as u64, Ordering::Relaxed);
        FREED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size() as u64, Ordering::Relaxed);
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
