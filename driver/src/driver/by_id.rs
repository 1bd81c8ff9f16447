//! Tables by operation, which the driver looks into a dozen times for each of them.
//!
//! Ids are the engine's own numbers: nobody can choose them so that they fall together, so they need no hash that
//! withstands it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use steadfast_core::OperationId;

pub(super) type ById<T> = HashMap<OperationId, T, BuildHasherDefault<Numbers>>;
pub(super) type Ids = HashSet<OperationId, BuildHasherDefault<Numbers>>;

#[derive(Debug, Default)]
pub(super) struct Numbers(u64);

impl Hasher for Numbers {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(32) ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // A table takes its places from the low bits, and tells entries apart by the high ones.
        self.0 ^ self.0 >> 32
    }
}
