//! What the machines cost: time and allocations.
//!
//! ```text
//! cargo bench -p steadfast-core
//! ```
//!
//! `operation` carries one job by hand, `engine` carries a thousand at once, each created and polled until the fourth
//! poll is ready; divide the engine's figures by a thousand.

use divan::{AllocProfiler, Bencher, black_box};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::operation::{self, Attempt, Effect, Reading};
use steadfast_core::retry::Failure;
use steadfast_core::{Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Reference, Seed, Timestamp};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const JOBS: usize = 1_000;

fn main() {
    divan::main();
}

#[divan::bench]
fn backoff_doubling_full_jitter(bencher: Bencher<'_, '_>) {
    let policy = BackoffPolicy::default();
    bencher.bench(|| black_box(&policy).delay(black_box(4), black_box(Seed::new(7))));
}

#[divan::bench]
fn backoff_decorrelated(bencher: Bencher<'_, '_>) {
    let second = core::time::Duration::from_secs(1);
    let policy = BackoffPolicy::new(Growth::doubling(second), second * 20, Jitter::Decorrelated).unwrap();
    bencher.bench(|| black_box(&policy).delay(black_box(4), black_box(Seed::new(7))));
}

/// Create and four polls, with the journal protocol, one operation by hand.
#[divan::bench]
fn operation(bencher: Bencher<'_, '_>) {
    let policy = OperationPolicy::default();
    bencher.with_inputs(|| (key(0), Gate::unlimited())).bench_values(|(key, mut gate)| {
        let mut now = START;
        let print = Fingerprint::new([0; 16]);
        let mut job = Operation::new(key, print, Seed::new(7), &mut policy.turn(now, &mut gate));
        loop {
            while let Some(effect) = job.pop_effect() {
                let event = match effect {
                    Effect::Persist(number) => operation::Event::Persisted(number),
                    Effect::Send(attempt) => operation::Event::Answered(attempt.id, answer(attempt)),
                    _ => return (job, gate),
                };
                job.handle(event, &mut policy.turn(now, &mut gate));
            }
            now = job.next_deadline().unwrap();
            job.handle_timeout(&mut policy.turn(now, &mut gate));
        }
    });
}

/// The same for a thousand operations in one engine, from submit to finished.
#[divan::bench]
fn engine_1000_operations(bencher: Bencher<'_, '_>) {
    let limits = Limits { remember: 0, notices: 0, ..Limits::default() };
    let mut engine = Engine::new(OperationPolicy::default(), Gate::unlimited(), limits, Seed::new(1));
    let mut now = START;
    bencher.with_inputs(|| (0..JOBS).map(key).collect::<Vec<_>>()).bench_local_values(|keys| {
        for key in keys {
            let _ = engine.submit(key, Fingerprint::new([0; 16]), now).unwrap();
        }
        while engine.live() > 0 {
            let mut last = None;
            while let Some((id, effect)) = engine.pop_effect() {
                match effect {
                    Effect::Persist(number) => last = Some(number),
                    Effect::Send(attempt) => engine.handle(Event::Answered(id, attempt.id, answer(attempt)), now),
                    Effect::End => engine.handle(Event::Delivered(id), now),
                    _ => {}
                }
            }
            match last {
                // One acknowledgement for the whole batch.
                Some(number) => engine.handle(Event::Persisted(number), now),
                None => {
                    now = engine.next_deadline().unwrap();
                    engine.handle_timeout(now);
                }
            }
        }
    });
}

/// A key and a reference as long as they usually are: a UUID, and 24 bytes.
fn key(n: usize) -> Key {
    Key::new(format!("8e03978e-40d5-43e8-bc93-{n:012x}")).unwrap()
}

fn answer(attempt: Attempt) -> Result<Reading, Failure> {
    Ok(match attempt.kind {
        Kind::Create => Reading::Accepted(Reference::new("65f0c1a2b3c4d5e6f7a8b9c0").unwrap()),
        _ if attempt.number < 4 => Reading::Pending { hint: None },
        _ => Reading::Ready,
    })
}
