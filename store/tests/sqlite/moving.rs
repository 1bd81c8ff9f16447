//! A journal's file that is removed or replaced while a client has it open: what was written into it would be lost, and another client could begin anew.

use super::*;

fn is_refused(store: &mut SqliteStore) {
    for _ in 0..2 {
        let error = store.append(&[entry("person-4711", Stage::Planned)]).unwrap_err();
        assert!(error.is_certain());
        let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(said.contains("stop the client") && said.contains("removed or replaced"), "{said}");
        assert!(!said.contains("4711"), "a key in an error: {said}");
        assert!(store.forget(Timestamp::NEVER, 1).is_err());
    }
}

#[test]
fn a_removed_one_takes_no_more_until_it_is_back() {
    let home = Home::new();
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned)]).unwrap();
    let aside = home.0.join("aside");
    fs::rename(home.journal(), &aside).unwrap();
    is_refused(&mut store);
    assert_eq!(store.load().unwrap().len(), 1, "what was kept can still be read");
    fs::rename(&aside, home.journal()).unwrap();
    store.append(&[entry("order-2", Stage::Planned)]).unwrap();
    drop(store);
    assert_eq!(home.open().load().unwrap().len(), 2);
}

#[test]
fn who_was_replaced_neither_writes_nor_tidies_up() {
    let home = Home::new();
    let mut old = home.open();
    old.append(&[entry("order-1", Stage::Planned)]).unwrap();
    for suffix in ["", "-wal", "-mark"] {
        fs::remove_file(beside(&home.journal(), suffix)).unwrap();
    }
    let mut new = home.open();
    new.append(&[entry("order-2", Stage::Planned)]).unwrap();
    is_refused(&mut old);
    drop(old);
    new.append(&[entry("order-3", Stage::Planned)]).unwrap();
    drop(new);
    let keys = [entry("order-2", Stage::Planned), entry("order-3", Stage::Planned)];
    assert_eq!(home.open().load().unwrap(), keys);
}
