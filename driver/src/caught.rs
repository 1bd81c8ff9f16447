//! Code of the program's, called so that a bug in it costs what it was asked for, and no more.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// None if it panics.
#[doc(hidden)]
pub fn caught<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(let_go).ok()
}

/// Drops what a panic left if it is a message, as nearly always: a profile that panics on each answer of some kind may
/// do so for months. Anything else is left where it is: to drop it may panic as well.
fn let_go(left: Box<dyn Any + Send>) {
    if !left.is::<String>() && !left.is::<&'static str>() {
        std::mem::forget(left);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;

    use allocation_counter::measure;

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("it cannot be dropped");
        }
    }

    #[test]
    fn of_a_bug_nothing_stays_and_what_it_left_does_no_more_harm() {
        let counted = measure(|| {
            for n in 0..100 {
                // As `panic!` does, without its report.
                assert_eq!(caught(|| -> () { resume_unwind(Box::new(format!("bug {n}"))) }), None);
                assert_eq!(caught(|| -> () { resume_unwind(Box::new("a bug")) }), None);
            }
        });
        assert_eq!((counted.count_current, counted.bytes_current), (0, 0));
        assert_eq!(caught(|| -> () { resume_unwind(Box::new(Bomb)) }), None);
        assert_eq!(caught(|| 7), Some(7));
    }
}
