//! A seal that cannot open what it has sealed, or panics, now and then; and who takes outcomes for which nobody waits.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;
use steadfast_core::Key;
use steadfast_driver::{Finished, Seal, SealError};

use crate::plan::{Taker, Wax};
use crate::world::{World, number};

pub(crate) struct Sealer {
    pub(crate) world: Arc<World>,
    pub(crate) wax: Wax,
    pub(crate) rng: Mutex<Rng>,
}

impl Sealer {
    fn is_bad(&self, wax: Wax) -> bool {
        self.wax == wax && self.rng.lock().unwrap_or_else(PoisonError::into_inner).u32(..10) == 0
    }

    fn may_panic(&self) {
        if self.is_bad(Wax::Panics) {
            resume_unwind(Box::new("a seal that is broken on purpose"));
        }
    }
}

/// What is sealed begins so, and goes on backwards.
fn begins(key: &Key) -> Vec<u8> {
    [b"sealed for ", key.as_str().as_bytes(), b": "].concat()
}

impl Seal for Sealer {
    fn seal(&self, key: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        self.may_panic();
        Ok(begins(key).into_iter().chain(bytes.iter().rev().copied()).collect())
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.may_panic();
        if self.is_bad(Wax::Crumbles) {
            return Err("it has crumbled".into());
        }
        let Some(rest) = sealed.strip_prefix(&*begins(key)) else {
            self.world.book.violated(key.as_str(), "what was kept was not sealed for it");
            return Err("it is another's".into());
        };
        Ok(rest.iter().rev().copied().collect())
    }
}

/// Where nobody waits.
pub(crate) fn take(world: &World, rng: &Mutex<Rng>, key: &Key, finished: &Finished) {
    let refuses = world.plan.taker == Taker::Panics && rng.lock().unwrap_or_else(PoisonError::into_inner).bool();
    world.book.note(key.as_str(), format!("handed over: {:?}, refused: {refuses}", finished.outcome));
    if refuses {
        resume_unwind(Box::new("who takes outcomes is broken on purpose"));
    }
    match number(key) {
        Some(number) => world.ended(number, Ok(finished.clone())),
        None => world.book.violated(key.as_str(), "nobody submitted it"),
    }
}
