//! Finds one operation, by its key or by the label that stands for it in logs.

use std::error::Error;
use std::ops::ControlFlow;

use steadfast_core::Key;
use steadfast_store::SqliteStore;
use steadfast_store::sqlite::{Order, Stored};

use super::Trouble;
use super::words::operations;

/// The operation of this key; if there is none and the key looks like a label, the operation with that label. Labels
/// are hashes: if several operations share one, the caller has to give the key.
pub(crate) fn named(store: &mut SqliteStore, key: &Key) -> Result<Option<Stored>, Box<dyn Error>> {
    let by_key = store.look_up(key)?;
    if by_key.is_some() || !is_label(key) {
        return Ok(by_key);
    }
    let (mut found, mut damaged) = (Vec::new(), 0);
    store.browse(Order::NewestFirst, |stored| {
        let named = |stored: &Stored| stored.entry.record.key.label().to_string().eq_ignore_ascii_case(key.as_str());
        match stored {
            Ok(stored) => found.extend(Some(stored).filter(named)),
            Err(_) => damaged += 1,
        }
        ControlFlow::Continue(())
    })?;
    if found.is_empty() && damaged > 0 {
        let (which, is) = (operations(damaged), if damaged == 1 { "is" } else { "are" });
        let what = "and it may be this one: `ops FILE doctor` tells what to do";
        return Err(
            Trouble(format!("no operation that can be read has this label, but {which} {is} damaged, {what}")).into()
        );
    }
    if found.len() > 1 {
        let keys: Vec<&str> = found.iter().map(|stored| stored.entry.record.key.as_str()).collect();
        return Err(Trouble(format!("this label stands for several keys: name one of {}", keys.join(", "))).into());
    }
    Ok(found.pop())
}

/// Whether it looks like a label, which stands for a key in logs.
fn is_label(key: &Key) -> bool {
    let digits = key.as_str().strip_prefix('#').unwrap_or_default();
    digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}
