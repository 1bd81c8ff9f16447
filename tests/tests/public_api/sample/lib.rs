//! One of everything, for the test of the reader. It is parsed, never compiled.

mod private;
pub mod outer;
#[cfg(feature = "extra")]
pub mod extra {
    pub const LIMIT: usize = 7;
}

use core::time::Duration;

use bytes::Bytes;
use other::Thing as Renamed;

pub use crate::outer::Deep;
pub use crate::private::{Hidden, make};
pub use elsewhere::Type;

/// A struct with a private field.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Open<T> {
    pub shown: Bytes,
    secret: T,
}

impl<T: Clone> Open<T> {
    pub const MOST: u8 = 3;

    #[must_use]
    pub fn get(&self, mut wait: Duration) -> Option<&Renamed> {
        None
    }

    fn not_shown(&self) {}

    #[doc(hidden)]
    pub fn hidden(&self) {}
}

pub enum Choice {
    Nothing,
    One(u8, Bytes),
    Named { at: Duration },
}

impl From<u8> for Choice {
    fn from(_: u8) -> Self {
        Self::Nothing
    }
}

pub trait Does: Send {
    const COUNT: usize;
    type Output: Clone;
    fn must(&mut self) -> Self::Output;
    fn may(&self) {}
}

impl Does for Box<dyn Does> {}

trait Private {}
impl Private for Choice {}

pub type Alias<T> = Result<T, Choice>;

pub async fn free<T>(items: &[T], then: impl Fn(&T) -> bool) -> (usize, usize)
where
    T: Clone,
{
    (0, 0)
}

pub(crate) fn not_shown() {}

#[cfg(test)]
mod tests {
    pub fn not_shown() {}
}
