//! The core alone, as firmware would drive it: four meters report to a gateway over a radio that loses frames, and
//! power fails.
//!
//! Nothing here is of std but what prints. Queues are arrays, time is a number that jumps to the next thing that
//! happens, and memory beyond the core's own is fixed when it is compiled. A *create* hands a reading to the gateway, a
//! *poll* asks whether it was passed on; the gateway knows a reading that it has by its key, so what was lost may be
//! sent again ([`SendSafety::Keyed`]).
//!
//! A reset leaves the flash, and the time: a counter that began at zero again would make every key's window begin
//! again. A device without a clock that goes on asks the gateway for the time before it restores anything.

use core::time::Duration;

use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::{Event, Limits};
use steadfast_core::gate::GatePolicy;
use steadfast_core::journal;
use steadfast_core::operation::{Attempt, Effect, Reading};
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

/// A page of flash, for one meter's latest record: its length, then its bytes. Real flash needs two pages for each and
/// a checksum, since power may fail while one is written.
#[derive(Clone, Copy)]
struct Page([u8; 1 + 127]);

impl Page {
    const BLANK: Self = Self([0; 128]);

    /// Whether it fits. It does if key and reference are short, and here both are the meter's name. A record that never
    /// fits would be asked for again and again, and its job would never end: what is longer must not be submitted, or
    /// fed as a reference.
    fn write(&mut self, record: &[u8]) -> bool {
        let [length, bytes @ ..] = &mut self.0;
        let place = bytes.get_mut(..record.len());
        let fits = place.map(|place| place.copy_from_slice(record)).is_some();
        if fits {
            *length = record.len() as u8;
        }
        fits
    }

    fn record(&self) -> Option<&[u8]> {
        let [length, bytes @ ..] = &self.0;
        bytes.get(..usize::from(*length)).filter(|bytes| !bytes.is_empty())
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

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// The air swallows it.
    Lost,
    /// The gateway hears it, and the air swallows its answer.
    AnswerLost,
    /// The gateway hears it, and power fails before its answer is here.
    Reset,
}

/// An engine that goes on with what the flash holds. To submit a key that it has found joins that job; whether power
/// failed before the first record was written need not be known.
fn boot(flash: &[Page; METERS], now: Timestamp) -> Result<Engine, Box<dyn core::error::Error>> {
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    let policy = OperationPolicy::default().with_safety(keyed)?;
    // One frame in the air at a time, so one place is enough.
    let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(1)?));
    let limits = Limits { live: METERS as u32, remember: METERS as u32, ..Limits::default() };
    // On a device, the seeds are its own number: jitter must not bring all of them to the gateway in step.
    let mut engine = Engine::new(policy, Gate::new(gate, Seed::new(1)), limits, Seed::new(7));
    for record in flash.iter().filter_map(Page::record) {
        engine.restore(journal::decode(record)?, now)?;
    }
    for (meter, key) in KEYS.into_iter().enumerate() {
        let _ = engine.submit(Key::new(key)?, Fingerprint::new([meter as u8; 16]), now)?;
    }
    Ok(engine)
}

/// Every reading on its way until each has its outcome. `fate` says what happens to the frame of a number.
pub(crate) fn report(fate: impl Fn(u32) -> Fate) -> Result<Report, Box<dyn core::error::Error>> {
    let (start, mut now) = (Timestamp::from_secs(1_700_000_000), Timestamp::from_secs(1_700_000_000));
    let (mut air, mut flash, mut bytes) = (Queue::<Frame, 1>::new(), [Page::BLANK; METERS], Vec::with_capacity(128));
    let (mut known, mut asked) = ([false; METERS], [0_u8; METERS]);
    let mut report =
        Report { outcomes: [None; METERS], passed_on: [0; METERS], frames: 0, lost: 0, took: Duration::ZERO };
    let mut engine = boot(&flash, now)?;
    loop {
        while let Some((id, effect)) = engine.pop_effect() {
            let Some(operation) = engine.operation(id) else { continue };
            let meter = KEYS.iter().position(|key| *key == operation.key().as_str()).unwrap_or_default();
            match effect {
                Effect::Persist(number) => {
                    bytes.clear();
                    journal::encode(&operation.record(), &mut bytes);
                    let written = flash[meter].write(&bytes);
                    engine.handle(if written { Event::Persisted(number) } else { Event::PersistFailed(number) }, now);
                }
                Effect::Send(attempt) => {
                    report.frames += 1;
                    let fate = fate(report.frames);
                    report.lost += u32::from(fate != Fate::Answered);
                    // What the gateway hears it takes on once, however often it comes.
                    if attempt.kind == Kind::Create && fate != Fate::Lost && !known[meter] {
                        (known[meter], report.passed_on[meter]) = (true, report.passed_on[meter] + 1);
                    }
                    // Of what is lost nothing comes back: the attempt times out.
                    let frame = Frame { id, attempt, meter, answered: now.saturating_add(ROUND_TRIP) };
                    if fate == Fate::Answered && !air.push(frame) {
                        return Err("two frames in the air".into());
                    }
                    if fate == Fate::Reset {
                        now = now.saturating_add(ROUND_TRIP);
                        (air, engine) = (Queue::new(), boot(&flash, now)?);
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
    let report = report(|frame| match frame {
        3 | 9 => Fate::Lost,
        5 => Fate::Reset,
        6 => Fate::AnswerLost,
        _ => Fate::Answered,
    })?;
    println!("{report:?}");
    Ok(())
}
