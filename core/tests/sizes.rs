//! What one operation costs in memory. Bytes per waiting operation are the headline of this crate; growing them is a
//! decision, not an accident.

use core::mem::size_of;

use steadfast_core::breaker::Ticket;
use steadfast_core::budget::RetryBudget;
use steadfast_core::gate::Permit;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Attempt, Effect, Outcome};
use steadfast_core::rate_limit::RateLimiter;
use steadfast_core::{Operation, Seed, Timestamp};

const _: () = assert!(size_of::<Effect>() <= 16);
const _: () = assert!(size_of::<Attempt>() <= 16);
const _: () = assert!(size_of::<Outcome>() <= 2);
const _: () = assert!(size_of::<Timestamp>() == 8 && size_of::<Seed>() == 8);
// One machine alone; a gate holds one of each.
const _: () = assert!(size_of::<RateLimiter>() == 8 && size_of::<RetryBudget>() == 24);
const _: () = assert!(size_of::<Ticket>() <= 12 && size_of::<Permit>() <= 12);
const _: () = assert!(size_of::<Operation>() <= 176);
// One step has room for eight on its stack.
const _: () = assert!(size_of::<Notice>() <= 64);
