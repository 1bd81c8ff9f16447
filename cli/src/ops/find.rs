//! One operation, by its key or by the label that stands for it in logs.

use std::error::Error;
use std::ops::ControlFlow;

use steadfast_core::Key;
use steadfast_store::SqliteStore;
use steadfast_store::sqlite::{Order, Stored};

/// The operation of this key; if there is none and it looks like a label, those that logs name so: one, as a rule, since labels are hashes.
pub(crate) fn named(store: &mut SqliteStore, key: &Key) -> Result<Vec<Stored>, Box<dyn Error>> {
    let mut found: Vec<Stored> = store.look_up(key)?.into_iter().collect();
    if !found.is_empty() || !is_label(key) {
        return Ok(found);
    }
    store.browse(Order::NewestFirst, |stored| {
        let named = |stored: &Stored| stored.entry.record.key.label().to_string().eq_ignore_ascii_case(key.as_str());
        // A damaged row is told by `list` and `doctor`.
        found.extend(stored.ok().filter(named));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Says that a label does not tell which.
pub(crate) fn complain_of_several(found: &[Stored]) {
    let keys: Vec<&str> = found.iter().map(|stored| stored.entry.record.key.as_str()).collect();
    eprintln!("steadfast: this label stands for several keys: name one of {}", keys.join(", "));
}

/// Whether it looks like what stands for a key in logs.
fn is_label(key: &Key) -> bool {
    let digits = key.as_str().strip_prefix('#').unwrap_or_default();
    digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}
