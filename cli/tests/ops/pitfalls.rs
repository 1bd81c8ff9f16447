//! Where a newcomer may be misled: what is refused, what is warned of, and how an operation is found by its label.

use super::*;

fn label(key: &str) -> String {
    Key::new(key).unwrap().label().to_string()
}

/// A journal that a client has open and never closed.
fn home_of(entries: &[Entry]) -> (Home, SqliteStore) {
    let home = Home::new();
    let mut store = home.open();
    store.append(entries).unwrap();
    (home, store)
}

#[test]
fn a_copy_is_not_purged() {
    let home = Home::with(&entries());
    for which in [&["--older-than", "1h"][..], &["--key", "order-2"]] {
        let output = home.ops(&[&["purge", "--yes", "--copy"], which].concat());
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(text(&output.stderr).contains("would be gone from a copy only: leave --copy out"), "{output:?}");
        assert_eq!(home.keys(&[]), ALL);
    }
    let counted = home.ops(&["purge", "--older-than", "1h", "--dry-run", "--copy"]);
    assert!(text(&counted.stdout).contains("1 operation would be removed"), "{counted:?}");
}

#[test]
fn a_doctor_warns_of_a_mark_that_cannot_testify() {
    let flip = |path: &str| {
        let mut mark = fs::read(path).unwrap();
        mark[20] ^= 1;
        fs::write(path, mark).unwrap();
    };
    let cut = |path: &str| fs::write(path, b"SFMARK1").unwrap();
    let remove = |path: &str| fs::remove_file(path).unwrap();
    let harms = [
        (remove as fn(&str), "missing", "there is no "),
        (flip, "unreadable", "is not what was written"),
        (cut, "unreadable", "is not what was written"),
    ];
    for (harm, state, what) in harms {
        let home = Home::with(&[entry("order-1", Stage::Delivered(READY), HOUR)]);
        assert_eq!(
            (home.json(&["doctor"])["mark"].as_str(), home.ops(&["doctor"]).status.code()),
            (Some("whole"), Some(0))
        );
        harm(&format!("{}-mark", home.journal()));
        for copy in [&["doctor"][..], &["doctor", "--copy"]] {
            let output = home.ops(copy);
            let said = text(&output.stdout);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            assert!(said.contains("WARNING: ") && said.contains(what) && said.contains("belong together"), "{said}");
            assert!(said.contains("what was written: rows, chain, head, and SQLite's own check"), "{said}");
            assert!(!said.contains("Nothing is unresolved"), "{said}");
            let report = home.json(copy);
            assert_eq!((&report["mark"], &report["healthy"]), (&state.into(), &false.into()), "{report}");
            assert!(report["warnings"][0]["what"].as_str().unwrap().contains(what), "{report}");
            assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
        }
        // The next record of one that opens it all the same writes it anew.
        SqliteStore::open_backup(home.journal())
            .unwrap()
            .append(&[entry("order-2", Stage::Delivered(READY), 1)])
            .unwrap();
        assert_eq!(home.ops(&["doctor"]).status.code(), Some(0));
    }
    let new = Home::with(&[]);
    assert_eq!(new.ops(&["doctor"]).status.code(), Some(0));
    // What a client wrote may still be in its log alone: a file without it can look as if it were new.
    let mut client = home_of(&[entry("order-1", Stage::Accepted, 1)]);
    let copy = Home::new();
    client.1.append(&[entry("order-2", Stage::Accepted, 1)]).unwrap();
    Command::new("cp").args([client.0.journal(), copy.journal()]).status().unwrap();
    let output = copy.ops(&["doctor"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stdout).contains("WARNING: there is no "), "{output:?}");
}

/// Nothing is lost while its client knows how far it had come.
#[test]
fn a_mark_that_is_gone_under_a_client_comes_back_with_its_next_record_as_a_doctor_says() {
    let (home, mut client) = home_of(&[entry("order-1", Stage::Accepted, 1)]);
    fs::remove_file(format!("{}-mark", home.journal())).unwrap();
    let output = home.ops(&["doctor"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        said.contains("WARNING: there is no ") && said.contains("written anew with its client's next record"),
        "{said}"
    );
    assert!(!said.contains("open_backup"), "{said}");
    // A copy cannot tell whether there is a client.
    assert!(text(&home.ops(&["doctor", "--copy"]).stdout).contains("open_backup"));
    client.append(&[entry("order-2", Stage::Accepted, 1)]).unwrap();
    assert_eq!(home.ops(&["doctor"]).status.code(), Some(0));
}

#[test]
fn a_journal_in_a_directory_that_cannot_be_written_is_looked_at_by_a_copy() {
    let home = Home::with(&entries());
    let program = home.0.join("program");
    fs::copy(env!("CARGO_BIN_EXE_steadfast"), &program).unwrap();
    for name in ["journal", "journal-mark"] {
        // Fails for who is nobody else already, and need not become so.
        let _ = std::os::unix::fs::chown(home.0.join(name), Some(65_534), None);
    }
    fs::set_permissions(&home.0, fs::Permissions::from_mode(0o555)).unwrap();
    let look = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["ops", &home.journal()]).args(args).current_dir("/").env("TMPDIR", "/tmp");
        if fs::write(home.0.join("probe"), "").is_ok() {
            command.uid(65_534);
        }
        copied(&mut command)
    };
    for args in [&[][..], &["show", "order-1"], &["doctor"], &["export"], &["purge", "--older-than", "1h", "--dry-run"]]
    {
        let output = look(args);
        assert!(matches!(output.status.code(), Some(0 | 2)), "{args:?}: {output:?}");
        let said = text(&output.stderr);
        assert!(said.contains("cannot be locked without write access") && said.contains("this is a copy"), "{said}");
    }
    let purge = look(&["purge", "--older-than", "1h", "--yes"]);
    assert_eq!(purge.status.code(), Some(64), "{purge:?}");
    assert!(text(&purge.stderr).contains("the journal is read-only"), "{purge:?}");
    fs::set_permissions(&home.0, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn who_may_not_read_one_of_a_journals_files_is_told_which() {
    let home = Home::new();
    let program = home.0.join("program");
    fs::copy(env!("CARGO_BIN_EXE_steadfast"), &program).unwrap();
    fs::set_permissions(&home.0, fs::Permissions::from_mode(0o777)).unwrap();
    let client = home_of(&entries());
    // As after a crash: its log is there, and nobody has it open.
    for suffix in ["", "-wal", "-mark"] {
        let (from, to) = (format!("{}{suffix}", client.0.journal()), format!("{}{suffix}", home.journal()));
        assert!(Command::new("cp").args([&from, &to]).status().unwrap().success());
    }
    let all = |mode| {
        for suffix in ["", "-wal", "-mark"] {
            fs::set_permissions(format!("{}{suffix}", home.journal()), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    for (suffix, says) in
        [("", "may not read it: "), ("-wal", "may not read its -wal"), ("-mark", "may not read its -mark")]
    {
        all(0o666);
        fs::set_permissions(format!("{}{suffix}", home.journal()), fs::Permissions::from_mode(0o000)).unwrap();
        for args in [&["doctor"][..], &["doctor", "--copy"], &["show", "order-1"]] {
            let mut command = Command::new(&program);
            command.args(["ops", &home.journal()]).args(args).current_dir("/");
            if fs::read(format!("{}{suffix}", home.journal())).is_ok() {
                command.uid(65_534);
            }
            let output = copied(&mut command);
            assert_eq!(output.status.code(), Some(64), "{suffix} {args:?}: {output:?}");
            assert!(text(&output.stderr).contains(says), "{suffix} {args:?}: {output:?}");
        }
    }
}

#[test]
fn a_label_finds_its_operation() {
    let literal = label("order-4");
    let mut all = entries();
    let home = Home::with(&all);
    for key in ALL {
        assert!(home.says(&["show", &label(key)]).starts_with(&format!("{key}, sent to ")), "{key}");
        assert_eq!(home.json(&["show", &label(key)])["key"], key);
        assert_eq!(home.json(&["--key-prefix", key])["operations"][0]["label"], label(key));
        assert!(home.says(&["show", key]).contains(&label(key)), "{key}");
    }
    let unknown = home.ops(&["show", "#00000000"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    // Labels are hashes, so two keys can share one.
    let mut keys = std::collections::HashMap::new();
    let twins = (0_u32..).find_map(|number| {
        let key = format!("twin-{number}");
        keys.insert(label(&key), key.clone()).map(|other| [other, key])
    });
    let twins = twins.unwrap();
    let both = Home::with(&twins.clone().map(|key| entry(&key, Stage::Accepted, 1)));
    let output = both.ops(&["show", &label(&twins[0])]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(twins.iter().all(|key| said.contains(key.as_str())), "{twins:?}: {said}");
    // A key may look like a label, and is found first.
    all.push(entry(&literal, Stage::Accepted, 1));
    let home = Home::with(&all);
    assert_eq!(home.json(&["show", &literal])["key"], literal);
}

#[test]
fn a_key_that_is_not_there_is_not_purged() {
    let home = Home::with(&entries());
    let output = home.ops(&["purge", "--key", "order-99", "--yes"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("holds no operation of this key"), "{output:?}");
    assert_eq!(home.keys(&[]), ALL);
}

#[test]
fn show_tells_how_a_shell_goes_on_and_whether_a_payload_is_kept() {
    let home = Home::with(&entries());
    let said = home.says(&["show", "order-2"]);
    assert!(
        said.contains("`steadfast run --base-url URL --key KEY --journal FILE`") && said.contains("client.resume(key)"),
        "{said}"
    );
    assert!(text(&home.ops(&["doctor"]).stdout).contains("`steadfast run --base-url URL --key KEY --journal FILE`"));
    assert!(said.contains("Payload    not kept"), "{said}");
    assert!(home.says(&["show", "person-6"]).contains("Payload    kept, 14 bytes"));
    let bytes = |key| home.json(&["show", key])["payload"].clone();
    assert_eq!((bytes("person-6"), bytes("order-2")), (serde_json::json!({"bytes": 14}), Value::Null));
    assert!(home.says(&["show", "order-7"]).contains("Requests   0\n"));
}

/// It exits as damage does, since that is what a monitor looks for.
#[test]
fn a_journal_that_lost_its_first_page_is_damaged_and_no_stranger() {
    let home = Home::with(&entries());
    let whole = fs::read(home.journal()).unwrap();
    fs::write(home.journal(), [&[0xff; 4096][..], &whole[4096..]].concat()).unwrap();
    for args in [&[][..], &["show", "order-1"], &["export"], &["doctor"], &["purge", "--key", "order-1", "--yes"]] {
        let output = home.ops(args);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("the journal is damaged (its first bytes") && said.contains("restore"),
            "{args:?}: {said}"
        );
    }
    // Without anything beside it, it may be anything.
    fs::remove_file(format!("{}-mark", home.journal())).unwrap();
    let output = home.ops(&["doctor"]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(text(&output.stderr).contains("this file is not a journal"), "{output:?}");
}

#[test]
fn the_help_tells_what_a_list_shows_and_what_it_does_not_verify() {
    let help = |args: &[&str]| text(&ops("journal", args).stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let list = help(&["list", "--help"]);
    for part in ["`CREATES`", "`REQUESTS`", "creates, polls and look-ups", "DUE", "`doctor` and `export` do"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    assert!(help(&["--help"]).contains("only `doctor`, `export` and `copy` verify the whole"));
}

/// It may be the one that is asked for.
#[test]
fn a_label_that_is_not_found_beside_damage_is_not_said_to_be_none() {
    let home = Home::with(&entries());
    let damaged =
        "UPDATE records SET body = CAST(substr(body, 1, 55) || x'09' || substr(body, 57) AS BLOB) WHERE first = 3";
    home.tamper(damaged);
    for args in [&["show", &label("order-3")][..], &["purge", "--key", &label("order-3"), "--yes"]] {
        let output = home.ops(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("1 operation is damaged") && said.contains("doctor"), "{args:?}: {said}");
        assert!(!said.contains("no operation of this key"), "{args:?}: {said}");
    }
    // Of one that can be read the others' damage says nothing.
    assert!(home.says(&["show", &label("order-1")]).contains("order-1"));
}

#[test]
fn a_part_of_a_journal_is_neither_a_journal_nor_a_place_for_one() {
    let (home, client) = home_of(&entries());
    let journal = home.journal();
    for suffix in ["-wal", "-mark"] {
        let part = format!("{journal}{suffix}");
        for args in [&[][..], &["doctor"], &["--copy"], &["purge", "--older-than", "1h", "--yes"]] {
            let output = ops(&part, args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{part} {args:?}: {said}");
            let name_that = format!("it belongs to the journal {journal}: name that one");
            assert!(said.contains(&name_that) && said.starts_with(&format!("steadfast: {part}: ")), "{args:?}: {said}");
        }
    }
    drop(client);
    // A log is there only while a client is, but what lay in its place would be taken for one.
    for suffix in ["-wal", "-journal", "-shm"] {
        let part = format!("{journal}{suffix}");
        for args in [["copy", &part].as_slice(), &["export", "--output", &part]] {
            let output = home.ops(args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
            assert!(said.contains("would be taken for a part of the journal"), "{args:?}: {said}");
            assert!(!Path::new(&part).exists(), "{args:?}");
        }
    }
    assert!(home.says(&[]).contains("order-1"));
    // Nor for what is of another one.
    let other = home.0.join("other");
    drop(SqliteStore::open(&other).unwrap());
    for suffix in ["-wal", "-journal"] {
        let part = format!("{}{suffix}", other.display());
        for args in [["copy", &part].as_slice(), &["export", "--output", &part]] {
            let output = home.ops(args);
            let said = text(&output.stderr);
            let what =
                format!("{part} would be taken for a part of the journal {}: name another file", other.display());
            assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
            assert!(said.contains(&what) && !Path::new(&part).exists(), "{args:?}: {said}");
        }
    }
}

#[test]
fn what_became_of_a_rejected_job_is_said_once() {
    let rejected = |key, stage: fn(Outcome) -> Stage, why| entry(key, stage(Outcome::Rejected(why)), HOUR);
    let home = Home::with(&[
        rejected("order-1", Stage::Delivered, Rejected::Refused),
        rejected("order-2", Stage::Delivered, Rejected::Deadline),
        rejected("order-3", Stage::Ended, Rejected::Refused),
    ]);
    for key in ["order-1", "order-2", "order-3"] {
        let said = home.says(&["show", key]);
        for once in ["submit", "nothing ran"] {
            let end = said.split_once("\nState").unwrap().1;
            assert!(end.matches(once).count() <= 1, "{key}, {once}: {end}");
        }
        assert!(said.contains("its key is free"), "{said}");
    }
}

/// A file that was copied alone is taken for an older journal, or an empty one: whoever believes it submits a job again
/// that has run.
#[test]
fn who_looks_at_a_journal_without_its_mark_is_told_that_newer_records_may_be_missing() {
    let home = Home::with(&entries());
    fs::remove_file(format!("{}-mark", home.journal())).unwrap();
    for args in [&["list"][..], &["show", "order-1"], &["purge", "--older-than", "1h", "--dry-run"]] {
        let output = home.ops(args);
        let said = text(&output.stderr);
        assert!(output.status.success() && said.contains("newer records may be missing"), "{args:?}: {output:?}");
    }
    assert_eq!(home.json(&["list"])["mark"], "missing");
    assert_eq!(home.json(&["show", "order-1"])["mark"], "missing");
    for (args, code) in [(&["show", "order-99"][..], 1), (&["purge", "--key", "order-99", "--dry-run"], 1)] {
        let output = home.ops(args);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output.stderr).contains("or is newer"), "{args:?}: {output:?}");
    }
}

/// A reference is the provider's, and a terminal that obeys it shows what follows in another order, as another key's.
#[test]
fn nothing_that_is_shown_is_turned_round() {
    let mut turned = entry("order-1", Stage::Delivered(AMBIGUOUS), HOUR);
    turned.record.reference = Reference::new("txn-\u{202e}1-redro\u{2066}\u{2028}").ok();
    let home = Home::with(&[turned]);
    for args in [&["list"][..], &["show", "order-1"], &["doctor"]] {
        let said = text(&home.ops(args).stdout);
        assert!(said.contains("txn-\\u{202e}1-redro\\u{2066}\\u{2028}"), "{args:?}: {said}");
        assert!(!said.contains(['\u{202e}', '\u{2066}', '\u{2028}']), "{args:?}: {said}");
    }
    // For a program it is what the provider wrote.
    assert_eq!(home.json(&["list"])["operations"][0]["reference"], "txn-\u{202e}1-redro\u{2066}\u{2028}");
}
