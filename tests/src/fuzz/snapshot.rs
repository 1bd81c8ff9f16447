//! An engine's snapshot, of any bytes: refused, or an engine that is whole.
//!
//! - What is taken up is written as bytes that are taken up as the same engine, and are written so again: nothing is lost and nothing is made up.
//! - It can be driven on: drains are bounded by the operations that it has, no deadline lies in the past after a wake, and that stays so.
//! - Any bit of a snapshot changed, any tail cut, any byte added: refused (R38).
//!
//! A checksum would keep every input out, so each is tried as it is and *sealed*: with the right checksum put over its body, as a forger would.
//!
//! Input: a snapshot, or the JSON of one.

use std::time::Duration;

use steadfast_core::Timestamp;
use steadfast_core::engine::{Engine, Event, SnapshotError};
use steadfast_core::operation::{Effect, Reading};

use super::{WALL_SECS, digest};

/// See the [module](self).
pub fn holds(data: &[u8]) {
    check(data);
    // One that is whole without its checksum as well.
    let head = data.starts_with(b"steadfast-engine").then(|| data.iter().position(|byte| *byte == b'\n')).flatten();
    let body = &data[head.map_or(0, |at| at + 1)..];
    let sealed = [format!("steadfast-engine 1 {:08x}\n", crc32fast::hash(body)).as_bytes(), body].concat();
    if sealed != data {
        check(&sealed);
    }
    let (at, bit) = (digest(data) % sealed.len(), (digest(data) >> 24) % 8);
    let mut flipped = sealed.clone();
    flipped[at] ^= 1 << bit;
    refused(&flipped);
    refused(&sealed[..at]);
    refused(&[&sealed[..], b" "].concat());
}

fn refused(bytes: &[u8]) {
    let read = Engine::from_snapshot(bytes);
    assert!(
        matches!(
            read,
            Err(SnapshotError::NotASnapshot | SnapshotError::UnknownVersion(_) | SnapshotError::Damaged)
        ),
        "R38: {}",
        bytes.escape_ascii()
    );
}

fn check(bytes: &[u8]) {
    let engine = match Engine::from_snapshot(bytes) {
        Ok(engine) => engine,
        Err(error) => return assert!(error.to_string().len() < 200, "an error that repeats its input"),
    };
    let written = engine.snapshot().expect("it can be written");
    let again = Engine::from_snapshot(&written);
    assert_eq!(again.as_ref(), Ok(&engine), "written and read, and not the same");
    assert_eq!(again.and_then(|again| again.snapshot()).as_ref(), Ok(&written), "written in two ways");
    drive(engine);
}

/// Whatever it holds, the driver's contract stands.
fn drive(mut engine: Engine) {
    // Each operation owes four effects at most, and there is none without its key in the JSON: 30 bytes would be few.
    let most = 4 * engine.snapshot().map_or(0, |bytes| bytes.len() / 30);
    let mut now = Timestamp::from_secs(WALL_SECS);
    for round in 0..6_u8 {
        engine.handle_timeout(now);
        let mut feed = Vec::new();
        let mut popped = 0;
        while let Some((id, effect)) = engine.pop_effect() {
            popped += 1;
            assert!(popped <= most, "a drain without end");
            feed.push(match effect {
                Effect::Persist(number) if round % 3 == 2 => Event::PersistFailed(number),
                Effect::Persist(number) => Event::Persisted(number),
                Effect::Send(attempt) => Event::Answered(id, attempt.id, Ok(Reading::Pending { hint: None })),
                Effect::End => Event::Delivered(id),
                _ => Event::Cancel(id),
            });
        }
        // A clock that is behind the engine's is taken for the engine's: one that is far ahead of all that it says is not.
        let next = engine.next_deadline();
        if next.is_some_and(|next| next <= now) {
            panic!("law 2: {next:?} at {now:?}, {:?}", engine.next_wake());
        }
        for event in feed {
            engine.handle(event, now);
        }
        let far = Duration::from_secs(86_400);
        now = next.map_or(now.saturating_add(far), |next| next.min(now.saturating_add(far)));
    }
}
