//! An engine's snapshot, of any bytes: refused, or an engine that is whole.
//!
//! - What is taken up is written as bytes that are taken up as the same engine, and are written so again: nothing is
//!   lost and nothing is made up.
//! - It can be driven on: drains are bounded by the operations that it has, no deadline lies in the past after a wake,
//!   and that stays so.
//! - Any bit of a snapshot changed, any tail cut, any byte added: refused (R38).
//!
//! A checksum would keep every input out, so each is tried as it is and *sealed*: with the right checksum put over its
//! body, as a forger would. And since few accidents leave JSON that is an engine, a forgery can be told in another way:
//! how an engine came about, and which of its values to alter.
//!
//! Input: a snapshot; or the JSON of one; or `script `, a script of the [engine target](super::engine), and on each
//! further line `N VALUE`: the Nth number, text, truth or null becomes this one.

use std::time::Duration;

use serde_json::Value;
use steadfast_core::Timestamp;
use steadfast_core::engine::{Engine, Event, SnapshotError};
use steadfast_core::operation::{Effect, Reading};

use super::{WALL_SECS, digest, number, trimmed};

/// See the [module](self).
pub fn holds(data: &[u8]) {
    if let Some(recipe) = data.strip_prefix(b"script ") {
        return forge(recipe);
    }
    check(data);
    // One that is whole without its checksum as well.
    let head = data.starts_with(b"steadfast-engine").then(|| data.iter().position(|byte| *byte == b'\n')).flatten();
    let body = &data[head.map_or(0, |at| at + 1)..];
    let sealed = seal(body);
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

fn seal(body: &[u8]) -> Vec<u8> {
    [format!("steadfast-engine 1 {:08x}\n", crc32fast::hash(body)).as_bytes(), body].concat()
}

/// An engine as it came about, with some of its values altered.
fn forge(recipe: &[u8]) {
    let mut lines = recipe.split(|byte| *byte == b'\n');
    let engine = super::engine::after(lines.next().unwrap_or_default());
    let mut stored = serde_json::to_value(engine).expect("it can be written");
    for line in lines.take(8) {
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (at, value) = (number(&line[..space]), serde_json::from_slice(trimmed(&line[space..])));
        if let (Some(at), Ok(value)) = (at, value) {
            let mut count = 0;
            visit(&mut stored, &mut |_| count += 1);
            let mut left = at % count.max(1);
            visit(&mut stored, &mut |scalar| {
                if left == 0 {
                    *scalar = Value::clone(&value);
                }
                left = left.wrapping_sub(1);
            });
        }
    }
    check(&seal(stored.to_string().as_bytes()));
}

fn visit(value: &mut Value, scalar: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, scalar)),
        Value::Object(members) => members.values_mut().for_each(|member| visit(member, scalar)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => scalar(value),
    }
}

fn refused(bytes: &[u8]) {
    let read = Engine::from_snapshot(bytes);
    assert!(
        matches!(read, Err(SnapshotError::NotASnapshot | SnapshotError::UnknownVersion(_) | SnapshotError::Damaged)),
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
        // A clock that is behind the engine's is taken for the engine's: one that is far ahead of all that it says is
        // not.
        let next = engine.next_deadline();
        if next.is_some_and(|next| next <= now) {
            panic!("law 2: {next:?} at {now:?}, {:?}", engine.next_wake());
        }
        for event in feed {
            engine.handle(event, now);
        }
        let far = now.saturating_add(Duration::from_secs(86_400));
        now = next.map_or(far, |next| next.min(far));
    }
}
