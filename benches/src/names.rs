//! What jobs and the provider's references are called: it matters, since UUIDs and hexadecimal digits stand in place
//! wherever a name is kept, and any other name of more than 22 bytes is an allocation that all who have a copy count
//! in.

use clap::ValueEnum;
use serde::Serialize;
use steadfast_core::Key;

use crate::tokio::model;

/// What jobs and the provider's references are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// A UUID, and 24 hexadecimal digits.
    Uuid,
    /// Texts of 31 and 35 bytes.
    Text,
}

impl Names {
    pub fn key(self, number: u64) -> Key {
        match self {
            Self::Uuid => Key::new(model::key(number as u32)).expect("a key"),
            Self::Text => Key::new(text(number)).expect("a key"),
        }
    }

    /// For a table.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Uuid => "UUID, 24 digits",
            Self::Text => "31 and 35 bytes of text",
        }
    }

    /// What the provider calls the job of this key.
    pub fn reference(self, key: &Key) -> String {
        match self {
            Self::Uuid => key.as_str().split('-').skip(1).collect(),
            Self::Text => format!("txn-{}", key.as_str()),
        }
    }
}

/// Keys as people choose them: no order among them.
fn text(number: u64) -> String {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{scattered:016x}-order-{number:08}")
}
