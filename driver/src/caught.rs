//! Code of the program's, called so that a bug in it costs what it was asked for, and no more.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// None if it panics. What it panicked with is left where it is: to drop it may panic as well.
#[doc(hidden)]
pub fn caught<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(std::mem::forget).ok()
}
