//! Reads all rows that can be reached, for a person who looks at a journal that may be damaged.
//!
//! A damaged row costs only itself. A page that cannot be read blocks the way to all rows behind it. So those are
//! approached from the other end, and then reported in the requested order: two such pages hide the rows between them,
//! a single one only its own.

use std::ops::ControlFlow;

use rusqlite::{Connection, Row};

use super::browse::Order;
use super::error::{Damage, Fault};
use super::row::read_columns;

/// Calls `each` with every row in its [`read_columns`], and with the damage that keeps rows from being reached, until
/// `each` breaks off.
pub(super) fn rows(
    connection: &Connection,
    order: Order,
    mut each: impl FnMut(Result<&Row<'_>, Damage>) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Fault> {
    let (mut from, mut last) = (begin(order), None);
    for is_last in [false, true] {
        let damage = match pass(connection, order, from, &mut last, |row| each(Ok(row))) {
            Err(Pass::Lost(damage)) => damage,
            Err(Pass::Failed(fault)) => return Err(fault),
            Ok(()) => return Ok(()),
        };
        if each(Err(damage))?.is_break() || is_last {
            break;
        }
        match nearest(connection, reversed(order), last)? {
            Some(behind) => from = behind,
            None => break,
        }
    }
    Ok(())
}

/// Why a pass stopped before the end.
enum Pass {
    /// The next row cannot be reached.
    Lost(Damage),
    Failed(Fault),
}

impl From<rusqlite::Error> for Pass {
    fn from(error: rusqlite::Error) -> Self {
        match Fault::from(error) {
            Fault::Damage(damage) => Self::Lost(damage),
            fault => Self::Failed(fault),
        }
    }
}

/// Goes through the rows from this one on, and notes the last one seen.
fn pass(
    connection: &Connection,
    order: Order,
    from: i64,
    last: &mut Option<i64>,
    mut each: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Pass> {
    let mut all = connection.prepare_cached(sql(order))?;
    let mut rows = all.query([from])?;
    while let Some(row) = rows.next()? {
        *last = Some(row.get(0)?);
        if each(row).map_err(Pass::Failed)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The last row before the one already seen that can be reached from the far end, if there is any.
fn nearest(connection: &Connection, order: Order, seen: Option<i64>) -> Result<Option<i64>, Fault> {
    let (mut nearest, mut last) = (None, None);
    let passed = pass(connection, order, begin(order), &mut last, |row| {
        let first = row.get(0)?;
        if seen == Some(first) {
            return Ok(ControlFlow::Break(()));
        }
        nearest = Some(first);
        Ok(ControlFlow::Continue(()))
    });
    match passed {
        Ok(()) | Err(Pass::Lost(_)) => Ok(nearest),
        Err(Pass::Failed(fault)) => Err(fault),
    }
}

const fn sql(order: Order) -> &'static str {
    match order {
        Order::OldestFirst => concat!("SELECT ", read_columns!(), " FROM records WHERE first >= ?1 ORDER BY first"),
        Order::NewestFirst => {
            concat!("SELECT ", read_columns!(), " FROM records WHERE first <= ?1 ORDER BY first DESC")
        }
    }
}

const fn begin(order: Order) -> i64 {
    match order {
        Order::OldestFirst => i64::MIN,
        Order::NewestFirst => i64::MAX,
    }
}

const fn reversed(order: Order) -> Order {
    match order {
        Order::OldestFirst => Order::NewestFirst,
        Order::NewestFirst => Order::OldestFirst,
    }
}
