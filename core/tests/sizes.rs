//! What one operation costs in memory. Bytes per waiting operation are the headline of this crate; growing them is a decision, not an accident.

use core::mem::size_of;

use steadfast_core::operation::{Attempt, Effect, Outcome};
use steadfast_core::{Gate, Operation, Seed, Timestamp};

const _: () = assert!(size_of::<Effect>() <= 16);
const _: () = assert!(size_of::<Attempt>() <= 16);
const _: () = assert!(size_of::<Outcome>() <= 2);
const _: () = assert!(size_of::<Timestamp>() == 8 && size_of::<Seed>() == 8);
const _: () = assert!(size_of::<Gate>() <= 16);
const _: () = assert!(size_of::<Operation>() <= 168);

#[test]
fn sizes_are_within_their_bounds() {
    println!(
        "operation {} B, effect {} B, attempt {} B",
        size_of::<Operation>(),
        size_of::<Effect>(),
        size_of::<Attempt>()
    );
}
