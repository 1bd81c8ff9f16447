//! A journal's file that is removed, replaced or cut short while a client has it open: what was written into it would
//! be lost, and another client could begin anew.

use steadfast_store::OpenError;

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

/// What lies behind the cut could be saved yet, and what would be written there nobody would find.
#[test]
fn one_that_is_cut_short_takes_no_more_and_is_left_as_it_is() {
    // What is closed at once has asked for nothing since.
    let cuts = [("-wal", false), ("-wal", true), ("", false)].map(|cut| [(cut, 2), (cut, 0)]);
    for ((suffix, removes), appends) in cuts.into_iter().flatten() {
        let home = Home::new();
        let kept: Vec<Entry> = (0..50).map(|at| entry(&format!("order-{at}"), Stage::Planned)).collect();
        // So that its file has pages, too.
        home.open().append(&kept).unwrap();
        let mut store = home.open();
        store.append(&[entry("order-1", Stage::InFlight)]).unwrap();
        let file = beside(&home.journal(), suffix);
        let before = fs::metadata(&file).unwrap().len();
        if removes {
            fs::remove_file(&file).unwrap();
        } else {
            fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(before / 2).unwrap();
        }
        let files = || ["", "-wal"].map(|suffix| fs::read(beside(&home.journal(), suffix)).ok());
        let cut = files();
        for _ in 0..appends {
            let error = store.append(&[entry("person-4711", Stage::Planned)]).unwrap_err();
            let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
            assert!(error.is_certain() && said.contains("cut short or removed") && !said.contains("4711"), "{said}");
        }
        drop(store);
        assert!(files() == cut, "{suffix} was written to, or tidied up");
        let opened = SqliteStore::open(home.journal());
        assert!(
            opened.and_then(|mut store| store.load().map_err(|_| OpenError::Missing)).is_err(),
            "it opens as if nothing were"
        );
    }
}

/// A log that was begun anew is as long as it was, so neither file is shorter. What was appended to it would be lost:
/// the copy's log begins otherwise.
#[test]
fn an_older_copy_that_is_put_over_it_takes_no_more() {
    // The mark as a file of its own, too: to write it anew would say that all is well.
    older_copy_is_put_over(|path, bytes| {
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    });
    older_copy_is_put_over(|path, bytes| {
        let aside = beside(path, "-aside");
        fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, path)).unwrap();
    });
}

fn older_copy_is_put_over(put_mark: impl Fn(&Path, &[u8])) {
    let home = Home::new();
    let mut store = home.open();
    let mut rounds = |rounds: std::ops::Range<u8>| {
        for round in rounds {
            let large = |at| entry(&format!("order-{at}"), Stage::Planned).with_payload(vec![round; 50_000]);
            store.append(&(0..20).map(large).collect::<Vec<_>>()).unwrap();
        }
    };
    let read = || ["", "-wal", "-mark"].map(|suffix| fs::read(beside(&home.journal(), suffix)).unwrap());
    rounds(0..30);
    let older = read();
    rounds(30..50);
    let newer = read();
    assert!(older[1].len() == newer[1].len() && older[1][..32] != newer[1][..32], "the log was not begun anew");
    put_mark(&beside(&home.journal(), "-mark"), &older[2]);
    for (suffix, bytes) in ["", "-wal"].iter().zip(&older) {
        let mut file = fs::OpenOptions::new().write(true).open(beside(&home.journal(), suffix)).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    }
    let put = read();
    for _ in 0..2 {
        let error = store.append(&[entry("order-1", Stage::InFlight)]).unwrap_err();
        let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(error.is_certain() && said.contains("older copy") && said.contains("stop the client"), "{said}");
    }
    drop(store);
    assert!(read() == put, "something was written");
}

/// The log is written back into the file again and again, and begun anew: that is no cut.
#[test]
fn a_log_that_begins_anew_is_not_taken_for_cut() {
    let home = Home::new();
    let mut store = home.open();
    for round in 0..40 {
        let large = |at| entry(&format!("order-{at}"), Stage::Planned).with_payload(vec![round; 50_000]);
        store.append(&(0..20).map(large).collect::<Vec<_>>()).unwrap();
    }
    drop(store);
    assert_eq!(home.open().load().unwrap().len(), 20);
}
