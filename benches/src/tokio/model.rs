//! The work that all subjects do, and the chance in it.
//!
//! An operation is a create and three polls: two are *pending*, the third is *ready*. One request in ten fails, and is
//! sent again after a backoff. What comes of a request is a function of the operation's number and of how many requests
//! it has sent, so all subjects meet the same faults.

use std::time::Duration;

/// What a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The create is accepted.
    Accepted,
    /// The poll says: not yet.
    Pending,
    /// The poll says: done.
    Ready,
}

/// The connection broke.
#[derive(Clone, Copy, Debug)]
pub struct Fault;

/// What comes of an operation's request of this number, from 1.
pub fn answer(operation: u32, request: u32) -> Result<Answer, Fault> {
    if is_fault(operation, request) {
        return Err(Fault);
    }
    let answered = (1..request).filter(|earlier| !is_fault(operation, *earlier)).count();
    Ok(match answered {
        0 => Answer::Accepted,
        1 | 2 => Answer::Pending,
        _ => Answer::Ready,
    })
}

fn is_fault(operation: u32, request: u32) -> bool {
    scattered(u64::from(operation) << 8 | u64::from(request)).is_multiple_of(10)
}

/// A hash of a number: what all chance here is made of (splitmix64).
pub fn scattered(number: u64) -> u64 {
    let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

/// A key as many programs have them, 36 characters: a UUID, with the operation's number in its last group.
pub fn key(operation: u32) -> Box<str> {
    let hash = scattered(u64::from(operation));
    let (a, b, c, d) = (hash as u32, hash >> 32 & 0xffff, hash >> 48 & 0xfff, hash >> 60 & 0x3ff);
    format!("{a:08x}-{b:04x}-4{c:03x}-8{d:03x}-{operation:012x}").into()
}

/// Whose key it is.
pub fn number(key: &str) -> u32 {
    u32::from_str_radix(&key[24..], 16).expect("one of those above")
}

/// A provider's name for an operation: 24 hexadecimal digits.
pub fn reference(operation: u32) -> String {
    format!("{:016x}{operation:08x}", scattered(u64::from(operation)))
}

/// The waits before the three polls, and those before requests that failed are repeated.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Before the first poll; twice that before each further one. Half of each wait is drawn.
    pub unit: Duration,
}

impl Waits {
    /// In virtual time, which costs nothing.
    pub const VIRTUAL: Self = Self { unit: Duration::from_secs(1) };
    /// In real time: long enough that none ends before all have begun.
    pub const REAL: Self = Self { unit: Duration::from_millis(500) };

    /// Such that there is always something to do.
    pub const NEARLY_NONE: Self = Self { unit: Duration::from_millis(1) };

    /// No wait is longer.
    pub const fn cap(self) -> Duration {
        self.unit.saturating_mul(2)
    }

    /// Before a poll, of which so many were pending.
    pub fn before_poll(self, pending: u32, seed: u64) -> Duration {
        let whole = if pending == 0 { self.unit } else { self.cap() };
        whole / 2 + drawn(whole / 2, seed)
    }

    /// Before a repeat, after so many failures in a row: anything up to the unit, doubled each time.
    pub fn before_repeat(self, failures: u32, seed: u64) -> Duration {
        drawn(self.unit.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(self.cap()), seed)
    }
}

fn drawn(most: Duration, seed: u64) -> Duration {
    Duration::from_nanos(scattered(seed) % (most.as_nanos() as u64 + 1))
}
