//! A program's own store of results that is down when an outcome is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast_core::engine::Limits;
use steadfast_core::operation::{Outcome, Stage};
use steadfast_core::{SendSafety, Timestamp};
use steadfast_driver::{Builder, Command, Driver, Finished};

use super::support::{self, Plain, START, Slow, answer, created, polled, resume, run, shut_down, submit};

const SECOND: Duration = Duration::from_secs(1);

/// What it has, how often it was called, and whether it is down.
#[derive(Default)]
struct Table {
    rows: Vec<(String, &'static str)>,
    calls: usize,
    is_down: bool,
}

/// A store, and a table that is down.
fn down() -> (Slow, Arc<Mutex<Table>>) {
    (Slow::default(), Arc::new(Mutex::new(Table { is_down: true, ..Table::default() })))
}

/// Over this store, if there is one.
fn driver(store: Option<&Slow>, table: &Arc<Mutex<Table>>) -> Driver<()> {
    driver_with(store, table, |builder| builder)
}

fn driver_with(
    store: Option<&Slow>,
    table: &Arc<Mutex<Table>>,
    set: impl FnOnce(Builder<Plain, (), ()>) -> Builder<Plain, (), ()>,
) -> Driver<()> {
    let table = table.clone();
    let mut builder = set(Builder::new(Plain(SendSafety::Unsafe), ()));
    if let Some(store) = store {
        builder = builder.store(store.clone());
    }
    let mut driver = support::driver(builder.unclaimed(move |key, finished| {
        let mut table = table.lock().unwrap();
        table.calls += 1;
        if table.is_down {
            return Err("the table is down");
        }
        table.rows.push((key.as_str().to_owned(), finished.outcome.name()));
        Ok(())
    }));
    run(&mut driver, START);
    driver
}

/// Ends while nobody waits for it: rejected by the provider, or not known.
fn ends(driver: &mut Driver<()>, key: &str, now: Timestamp, status: u16) {
    let (following, create) = created(driver, key, now);
    drop(following);
    answer(driver, create, status, "", now);
    run(driver, now);
}

/// Every second, until then.
fn pass(driver: &mut Driver<()>, from: Timestamp, seconds: u32) -> Timestamp {
    (1..=seconds).fold(from, |_, second| {
        let now = from.saturating_add(second * SECOND);
        assert_eq!(run(driver, now).len(), 0);
        assert!(driver.next_deadline().is_some_and(|at| at > now), "it never spins");
        now
    })
}

fn row(key: &str, outcome: &'static str) -> (String, &'static str) {
    (key.to_owned(), outcome)
}

#[test]
fn what_the_hook_could_not_take_is_told_again_until_it_does() {
    for has_store in [true, false] {
        let (store, table) = down();
        let mut driver = driver(has_store.then_some(&store), &table);
        for number in 0..40 {
            ends(&mut driver, &format!("order-{number}"), START, 500);
        }
        assert_eq!(table.lock().unwrap().calls, 1, "while it is down, the others do not wait for it to fail");
        let now = pass(&mut driver, START, 200);
        assert!((5..=9).contains(&table.lock().unwrap().calls), "it is not called without end");
        if has_store {
            assert!(matches!(store.stage("order-0"), Stage::Ended(Outcome::Unresolved(_))), "a crash leaves it there");
        }
        table.lock().unwrap().is_down = false;
        let now = pass(&mut driver, now, 70);
        let mut rows = table.lock().unwrap().rows.clone();
        rows.sort();
        rows.dedup();
        assert_eq!((rows.len(), table.lock().unwrap().rows.len()), (40, 40));
        if has_store {
            assert!((0..40).all(|n| matches!(store.stage(&format!("order-{n}")), Stage::Delivered(_))));
        }
        ends(&mut driver, "order-40", now, 500);
        assert_eq!(
            table.lock().unwrap().rows.last(),
            Some(&row("order-40", "unresolved")),
            "it is asked at once again"
        );
    }
}

#[test]
fn what_is_left_when_the_client_stops_is_told_by_the_next() {
    let (store, table) = down();
    let mut first = driver(Some(&store), &table);
    ends(&mut first, "order-1", START, 500);
    let unfinished = shut_down(&mut first, SECOND, START);
    run(&mut first, START);
    assert!(first.is_over() && unfinished.try_recv().unwrap().is_empty());
    drop(first);
    table.lock().unwrap().is_down = false;
    driver(Some(&store), &table);
    assert_eq!(table.lock().unwrap().rows, [row("order-1", "unresolved")]);
}

/// A table that is written by key would be left with the older of two.
#[test]
fn what_was_rejected_is_not_told_once_its_key_was_submitted_again() {
    let (store, table) = down();
    let mut driver = driver(Some(&store), &table);
    ends(&mut driver, "order-1", START, 401);
    let now = pass(&mut driver, START, 1);
    table.lock().unwrap().is_down = false;
    ends(&mut driver, "order-1", now, 500);
    pass(&mut driver, now, 70);
    assert_eq!(table.lock().unwrap().rows, [row("order-1", "unresolved")]);
}

/// Else the key would be free again of a job that may have run.
#[test]
fn what_was_rejected_does_not_replace_a_later_job_that_is_forgotten_too() {
    let (store, table) = down();
    let limits = Limits { remember: 1, ..Limits::default() };
    let mut driver = driver_with(Some(&store), &table, |builder| builder.limits(limits));
    ends(&mut driver, "order-1", START, 401);
    let now = pass(&mut driver, START, 1);
    ends(&mut driver, "order-1", now, 500);
    ends(&mut driver, "order-2", now, 500);
    let now = pass(&mut driver, now, 1);
    table.lock().unwrap().is_down = false;
    pass(&mut driver, now, 70);
    assert_eq!(table.lock().unwrap().rows, [row("order-1", "unresolved"), row("order-2", "unresolved")]);
    assert!(!matches!(store.stage("order-1"), Stage::Delivered(Outcome::Rejected(_))));
}

#[test]
fn what_somebody_has_meanwhile_is_not_told_again() {
    let (store, table) = down();
    let mut driver = driver(Some(&store), &table);
    ends(&mut driver, "order-1", START, 500);
    let taken = submit(&mut driver, "order-1", START);
    run(&mut driver, START);
    assert_eq!(taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read().outcome.name(), "unresolved");
    table.lock().unwrap().is_down = false;
    pass(&mut driver, START, 70);
    assert_eq!(table.lock().unwrap().rows, []);
    assert!(matches!(store.stage("order-1"), Stage::Delivered(_)));
}

/// In the journal it is delivered, so nobody but the hook hears of it by itself.
#[test]
fn what_a_dropped_handle_gives_back_is_told_again_too() {
    let (store, table) = down();
    let mut driver = driver(Some(&store), &table);
    let (following, create) = created(&mut driver, "order-1", START);
    answer(&mut driver, create, 500, "", START);
    run(&mut driver, START);
    let finished = following.finished.try_recv().unwrap().read();
    driver.command(Command::Unread(finished), START);
    assert_eq!(table.lock().unwrap().calls, 1);
    table.lock().unwrap().is_down = false;
    pass(&mut driver, START, 1);
    assert_eq!(table.lock().unwrap().rows, [row("order-1", "unresolved")]);
}

/// Ends as told to a handle that goes down with it, unread. Gives how.
fn given_back(driver: &mut Driver<()>, key: &str, status: u16) -> Finished {
    let (following, create) = created(driver, key, START);
    answer(driver, create, status, "", START);
    run(driver, START);
    following.finished.try_recv().unwrap().read()
}

/// What is dropped unread, brought to the driver at once.
fn bring(driver: &mut Driver<()>, unread: &Mutex<Vec<Finished>>) {
    for finished in std::mem::take(&mut *unread.lock().unwrap()) {
        driver.command(Command::Unread(finished), START);
    }
}

fn gathered(driver: &mut Driver<()>) -> Arc<Mutex<Vec<Finished>>> {
    let unread = Arc::new(Mutex::new(Vec::new()));
    let to = unread.clone();
    driver.give_back_to(move |finished| {
        to.lock().unwrap().push(finished);
        Ok(())
    });
    unread
}

#[test]
fn what_was_given_back_and_not_taken_is_told_by_the_next_client() {
    let (store, table) = down();
    let mut first = driver(Some(&store), &table);
    let finished = given_back(&mut first, "order-1", 500);
    let now = pass(&mut first, START, 1);
    assert!(matches!(store.stage("order-1"), Stage::Delivered(_)));
    first.command(Command::Unread(finished.clone()), now);
    let now = pass(&mut first, now, 5);
    assert!(matches!(store.stage("order-1"), Stage::Ended(_)), "a crash leaves it there");
    // Taken late, it is delivered, as others are.
    table.lock().unwrap().is_down = false;
    let now = pass(&mut first, now, 70);
    assert!(matches!(store.stage("order-1"), Stage::Delivered(_)));

    *table.lock().unwrap() = Table { is_down: true, ..Table::default() };
    first.command(Command::Unread(finished), now);
    let _unfinished = shut_down(&mut first, SECOND, now);
    run(&mut first, now);
    assert!(first.is_over());
    drop(first);
    table.lock().unwrap().is_down = false;
    driver(Some(&store), &table);
    assert_eq!(table.lock().unwrap().rows, [row("order-1", "unresolved")]);
}

#[test]
fn what_was_given_back_and_then_read_is_not_told_again() {
    let (store, table) = down();
    let mut driver = driver(Some(&store), &table);
    let finished = given_back(&mut driver, "order-1", 500);
    driver.command(Command::Unread(finished), START);
    let taken = submit(&mut driver, "order-1", START);
    run(&mut driver, START);
    assert_eq!(taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read().outcome.name(), "unresolved");
    table.lock().unwrap().is_down = false;
    pass(&mut driver, START, 70);
    assert_eq!(table.lock().unwrap().rows, []);
}

#[test]
fn of_many_handles_that_go_down_unread_the_hook_hears_once_and_not_if_one_was_read() {
    for reads in [false, true] {
        let table = Arc::new(Mutex::new(Table::default()));
        let mut driver = driver(Some(&Slow::default()), &table);
        let unread = gathered(&mut driver);
        let (first, create) = created(&mut driver, "order-1", START);
        let second = submit(&mut driver, "order-1", START).try_recv().unwrap().unwrap();
        let third = submit(&mut driver, "order-1", START).try_recv().unwrap().unwrap();
        answer(&mut driver, create, 500, "", START);
        run(&mut driver, START);
        drop(first);
        if reads {
            let _ = second.finished.try_recv().unwrap().read();
        } else {
            drop(second);
        }
        drop(third);
        bring(&mut driver, &unread);
        assert_eq!(table.lock().unwrap().calls, usize::from(!reads));
    }
}

#[test]
fn what_was_resumed_and_read_is_not_told_any_more() {
    let (store, table) = down();
    let mut driver = driver(Some(&store), &table);
    let (following, _poll, now) = polled(&mut driver, "order-1");
    let id = following.id.unwrap();
    drop(following);
    driver.command(Command::Cancel(id), now);
    run(&mut driver, now);
    let resumed = resume(&mut driver, "order-1", now);
    run(&mut driver, now);
    let again = resumed.try_recv().unwrap().unwrap();
    driver.command(Command::Cancel(again.id.unwrap()), now);
    run(&mut driver, now);
    assert_eq!(again.finished.try_recv().unwrap().read().outcome.name(), "unresolved");
    table.lock().unwrap().is_down = false;
    pass(&mut driver, now, 70);
    assert_eq!(table.lock().unwrap().rows, []);
}

#[test]
fn without_a_store_what_was_asked_for_and_not_read_is_told_again() {
    let (_, table) = down();
    let mut driver = driver(None, &table);
    let unread = gathered(&mut driver);
    ends(&mut driver, "order-1", START, 500);
    let taken = submit(&mut driver, "order-1", START);
    run(&mut driver, START);
    drop(taken.try_recv().unwrap().unwrap());
    bring(&mut driver, &unread);
    table.lock().unwrap().is_down = false;
    pass(&mut driver, START, 70);
    assert_eq!(table.lock().unwrap().rows, [row("order-1", "unresolved")]);
}

#[test]
fn what_was_rejected_and_is_taken_late_is_not_told_by_the_next_client() {
    let (store, table) = down();
    let mut first = driver(Some(&store), &table);
    ends(&mut first, "order-1", START, 401);
    let now = pass(&mut first, START, 1);
    table.lock().unwrap().is_down = false;
    pass(&mut first, now, 70);
    assert!(matches!(store.stage("order-1"), Stage::Delivered(Outcome::Rejected(_))));
    drop(first);
    driver(Some(&store), &table);
    assert_eq!(table.lock().unwrap().rows, [row("order-1", "rejected")]);
}

#[test]
fn what_is_given_back_after_the_clients_end_goes_to_the_hook_itself() {
    let table = Arc::new(Mutex::new(Table::default()));
    let mut driver = driver(Some(&Slow::default()), &table);
    driver.give_back_to(|finished| Err(finished.into()));
    let (following, create) = created(&mut driver, "order-1", START);
    answer(&mut driver, create, 500, "", START);
    run(&mut driver, START);
    drop((driver, following));
    assert_eq!(table.lock().unwrap().rows, [row("order-1", "unresolved")]);
}

/// An error whose text panics, and so does its end.
#[derive(Debug)]
struct Bug;

impl std::fmt::Display for Bug {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("a bug in the error's text")
    }
}

impl std::error::Error for Bug {}

impl Drop for Bug {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a bug in the error's end")
        }
    }
}

#[test]
fn an_error_of_the_hooks_that_panics_costs_that_call_alone() {
    let builder = Builder::<_, _, ()>::new(Plain(SendSafety::Unsafe), ()).unclaimed(|_, _| Err(Bug));
    let mut driver = support::driver(builder);
    ends(&mut driver, "order-1", START, 500);
    pass(&mut driver, START, 3);
}
