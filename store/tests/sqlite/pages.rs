//! A page that cannot be read any more: what was on it is lost, and the rows of the others are shown all the same.

use std::ops::ControlFlow;

use steadfast_store::sqlite::{DamageError, Order, Stored};

use super::*;

const PAGE: usize = 4_096;

/// So many operations that they fill some ten pages, each with its own number.
const ALL: i64 = 150;

/// A journal whose page of this number, from 1, was overwritten, and how many pages it has.
fn with_a_lost_page(page: usize) -> (Home, usize) {
    let home = Home::new();
    let entries: Vec<Entry> = (1..=ALL).map(|number| entry(&format!("order-{number}"), Stage::Planned)).collect();
    home.open().append(&entries).unwrap();
    let mut bytes = fs::read(home.journal()).unwrap();
    let pages = bytes.len() / PAGE;
    if let Some(lost) = bytes.chunks_mut(PAGE).nth(page - 1) {
        lost.fill(0xff);
    }
    fs::write(home.journal(), bytes).unwrap();
    (home, pages)
}

/// The numbers of the operations that are shown, zero for what is told of damage.
fn shown(store: &mut SqliteStore, order: Order) -> Vec<i64> {
    let mut shown = Vec::new();
    let each = |stored: Result<Stored, DamageError>| {
        shown.push(stored.map_or(0, |it| it.entry.record.key.as_str()["order-".len()..].parse().unwrap()));
        ControlFlow::Continue(())
    };
    store.browse(order, each).unwrap();
    shown
}

#[test]
fn what_lies_before_and_behind_a_lost_page_is_shown_in_its_order() {
    let pages = with_a_lost_page(1_000).1;
    let mut between = 0;
    for page in 2..=pages {
        let (home, _) = with_a_lost_page(page);
        let Ok(mut store) = SqliteStore::open_read_only(home.journal()) else { continue };
        let report = store.verify().unwrap();
        let (forth, back) = (shown(&mut store, Order::OldestFirst), shown(&mut store, Order::NewestFirst));
        assert_eq!(forth, back.iter().rev().copied().collect::<Vec<_>>(), "page {page}");
        let rows: Vec<i64> = forth.iter().copied().filter(|number| *number > 0).collect();
        assert!(rows.is_sorted() && rows.len() < ALL as usize, "page {page}: {rows:?}");
        assert!(forth.contains(&0) && !report.problems.is_empty(), "page {page}: {forth:?}");
        assert_eq!(report.states.values().sum::<u64>(), rows.len() as u64, "page {page}: {:?}", report.problems);
        // What is lost is one page's worth, unless it is the page that tells where the others are.
        if rows.first() == Some(&1) && rows.last() == Some(&ALL) {
            between += 1;
            assert!(rows.len() as i64 > ALL * 3 / 4, "page {page}: {rows:?}");
        }
    }
    assert!(between >= 3, "{between} of {pages} pages");
}

/// What has happened to a key is asked for when something is wrong.
#[test]
fn a_key_is_found_behind_a_lost_page_and_not_denied() {
    let pages = with_a_lost_page(1_000).1;
    let (home, _) = with_a_lost_page(pages / 2 + 1);
    let mut store = SqliteStore::open_read_only(home.journal()).unwrap();
    let there = shown(&mut store, Order::OldestFirst);
    assert!(there.contains(&1) && there.contains(&ALL) && there.contains(&0), "{there:?}");
    for number in 1..=ALL {
        let found = store.look_up(&Key::new(format!("order-{number}")).unwrap());
        // Of what was on the page nobody can say that there is none.
        assert_eq!(found.is_ok_and(|found| found.is_some()), there.contains(&number), "{number}");
    }
    assert!(store.look_up(&Key::new("order-999").unwrap()).is_err());
}

#[test]
fn who_has_seen_enough_is_not_told_of_what_lies_behind() {
    let pages = with_a_lost_page(1_000).1;
    let (home, _) = with_a_lost_page(pages - 2);
    let mut store = SqliteStore::open_read_only(home.journal()).unwrap();
    let mut seen = 0;
    let each = |stored: Result<Stored, DamageError>| {
        seen += 1;
        if stored.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    store.browse(Order::OldestFirst, each).unwrap();
    assert!((2..ALL).contains(&seen), "{seen}");
}
