//! The core alone, as firmware would drive it: four meters report to a gateway over a radio that loses frames.
//!
//! Nothing here is of std but what prints. Queues are arrays, time is a number that jumps to the next thing that happens, and memory beyond the
//! core's own is fixed when it is compiled. A *create* hands a reading to the gateway, a *poll* asks whether it was passed on; the gateway knows a
//! reading that it has by its key, so what was lost may be sent again ([`SendSafety::Keyed`]).

use core::time::Duration;

use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::{Event, Limits};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Attempt, Effect, Reading, Record};
use steadfast_core::{
    Engine, Fingerprint, Gate, Key, Kind, OperationId, OperationPolicy, Outcome, Reference, Seed, SendSafety, Timestamp,
};

pub(crate) const METERS: usize = 4;

/// How long a frame and its answer take.
const ROUND_TRIP: Duration = Duration::from_millis(40);

/// A queue in an array.
struct Queue<T, const N: usize> {
    places: [Option<T>; N],
    next: usize,
    length: usize,
}

impl<T, const N: usize> Queue<T, N> {
    const fn new() -> Self {
        Self { places: [const { None }; N], next: 0, length: 0 }
    }

    /// Whether there was room.
    fn push(&mut self, item: T) -> bool {
        let free = self.places.get_mut((self.next + self.length) % N).filter(|place| place.is_none());
        self.length += usize::from(free.is_some());
        free.map(|place| *place = Some(item)).is_some()
    }

    fn first(&self) -> Option<&T> {
        self.places[self.next].as_ref()
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.places[self.next].take()?;
        (self.next, self.length) = ((self.next + 1) % N, self.length - 1);
        Some(item)
    }
}

/// A request in the air, and when its answer is here.
struct Frame {
    id: OperationId,
    attempt: Attempt,
    meter: usize,
    answered: Timestamp,
}

/// What came of it all.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcomes: [Option<Outcome>; METERS],
    /// How often the gateway took each meter's reading on. Never more than once.
    pub(crate) passed_on: [u8; METERS],
    pub(crate) frames: u32,
    pub(crate) lost: u32,
    pub(crate) took: Duration,
}

/// Every reading on its way until each has its outcome. `loses` says of a frame's number whether the air swallows it (`Some(false)`) or its answer
/// (`Some(true)`).
pub(crate) fn report(loses: impl Fn(u32) -> Option<bool>) -> Result<Report, Box<dyn core::error::Error>> {
    let (start, mut now) = (Timestamp::from_secs(1_700_000_000), Timestamp::from_secs(1_700_000_000));
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    let policy = OperationPolicy::default().with_safety(keyed)?;
    // One frame in the air at a time, so one place is enough.
    let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(1)?));
    let limits = Limits { live: METERS as u32, remember: METERS as u32, ..Limits::default() };
    let mut engine = Engine::new(policy, Gate::new(gate, Seed::new(1)), limits, Seed::new(7));
    let (mut air, mut flash) = (Queue::<Frame, 1>::new(), [const { None::<Record> }; METERS]);
    let (mut known, mut asked) = ([false; METERS], [0_u8; METERS]);
    let mut report =
        Report { outcomes: [None; METERS], passed_on: [0; METERS], frames: 0, lost: 0, took: Duration::ZERO };
    for (meter, key) in KEYS.into_iter().enumerate() {
        let _ = engine.submit(Key::new(key)?, Fingerprint::new([meter as u8; 16]), now)?;
    }
    loop {
        while let Some((id, effect)) = engine.pop_effect() {
            let Some(operation) = engine.operation(id) else { continue };
            let meter = KEYS.iter().position(|key| *key == operation.key().as_str()).unwrap_or_default();
            match effect {
                Effect::Persist(number) => {
                    flash[meter] = Some(operation.record());
                    engine.handle(Event::Persisted(number), now);
                }
                Effect::Send(attempt) => {
                    report.frames += 1;
                    let lost = loses(report.frames);
                    report.lost += u32::from(lost.is_some());
                    // What the gateway hears it takes on once, however often it comes.
                    if attempt.kind == Kind::Create && lost != Some(false) && !known[meter] {
                        (known[meter], report.passed_on[meter]) = (true, report.passed_on[meter] + 1);
                    }
                    // Of what is lost nothing comes back: the attempt times out.
                    let frame = Frame { id, attempt, meter, answered: now.saturating_add(ROUND_TRIP) };
                    if lost.is_none() && !air.push(frame) {
                        return Err("two frames in the air".into());
                    }
                }
                Effect::End => {
                    report.outcomes[meter] = operation.outcome();
                    engine.handle(Event::Delivered(id), now);
                }
                _ => {} // what is in the air cannot be called back
            }
        }
        if engine.live() == 0 {
            break;
        }
        let answered = air.first().map(|frame| frame.answered);
        let Some(next) = answered.into_iter().chain(engine.next_deadline()).min() else { break };
        now = next.max(now);
        if answered.is_some_and(|at| at <= now)
            && let Some(Frame { id, attempt, meter, .. }) = air.pop()
        {
            asked[meter] += u8::from(attempt.kind == Kind::Poll);
            let reading = match attempt.kind {
                Kind::Create => Reading::Accepted(Reference::new(KEYS[meter])?),
                _ if asked[meter] < 2 => Reading::Pending { hint: None },
                _ => Reading::Ready,
            };
            engine.handle(Event::Answered(id, attempt.id, Ok(reading)), now);
        }
        engine.handle_timeout(now);
    }
    report.took = now.saturating_since(start);
    Ok(report)
}

const KEYS: [&str; METERS] = ["meter-1/2026-11-21", "meter-2/2026-11-21", "meter-3/2026-11-21", "meter-4/2026-11-21"];

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let report = report(|frame| (frame % 3 == 0).then_some(frame % 2 == 0))?;
    println!("{report:?}");
    Ok(())
}
