//! What a purge removes and spares, what one of a single key leaves alone, and how that is named.

use super::*;

/// The names in the directory, and what is in the files.
fn contents(home: &Home) -> Vec<(String, Vec<u8>)> {
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(&home.0).unwrap().map(file).collect();
    files.sort();
    files
}

#[test]
fn where_nothing_is_to_be_removed_nothing_is_written() {
    let nowhere = Home::new();
    let empty = Home::new();
    fs::write(empty.journal(), "").unwrap();
    let unmarked = Home::with(&entries());
    fs::remove_file(format!("{}-mark", unmarked.journal())).unwrap();
    let always: &[&[&str]] = &[&[], &["--yes"], &["--dry-run"]];
    let cases = [
        (&nowhere, "order-1", always, 64, "there is no journal at this path: check its name"),
        (&empty, "order-1", always, 64, "the file is empty"),
        (&unmarked, "order-99", always, 1, "holds no operation of this key"),
        (&unmarked, "order-5", always, 64, "under way"),
        // Somebody would have to be asked.
        (&unmarked, "order-1", &[&[]], 64, "no terminal to ask at"),
        (&unmarked, "order-1", &[&["--yes"]], 64, "writes the mark anew"),
    ];
    for (home, key, all_flags, code, says) in cases {
        for flags in all_flags {
            let before = contents(home);
            let output = home.ops(&[&["purge", "--key", key], *flags].concat());
            assert_eq!(output.status.code(), Some(code), "{key} {flags:?}: {output:?}");
            assert!(text(&output.stderr).contains(says), "{key} {flags:?}: {output:?}");
            assert!(contents(home) == before, "{key} {flags:?}");
        }
    }
}

#[test]
fn a_dry_run_of_one_key_tells_and_removes_nothing() {
    let home = Home::with(&entries());
    let before = contents(&home);
    let said = home.says(&["purge", "--key", "order-3", "--dry-run"]);
    assert_eq!(said, "1 operation would be removed: order-3, unresolved\n");
    let told = home.json(&["purge", "--key", "order-3", "--dry-run"]);
    let expected = serde_json::json!(
        {"dry_run": true, "key": "order-3", "removed": 0, "would_remove": 1, "unresolved": 1, "spared": 0}
    );
    assert_eq!(told, expected);
    assert!(contents(&home) == before);
    // By a copy, while its client runs.
    let client = home.open();
    assert!(home.says(&["purge", "--key", "order-3", "--dry-run"]).contains("would be removed: order-3"));
    let refused = home.ops(&["purge", "--key", "order-3", "--yes"]);
    assert!(text(&refused.stderr).contains("stop its client first"), "{refused:?}");
    drop(client);
}

#[test]
fn a_label_names_the_one_that_goes() {
    let home = Home::with(&entries());
    let label = |key: &str| Key::new(key).unwrap().label().to_string();
    let said = home.says(&["purge", "--key", &label("order-2"), "--yes"]);
    assert_eq!(said, "1 operation removed: order-2, unresolved\n");
    assert!(!home.keys(&[]).contains(&"order-2".to_owned()));
    let mut keys = std::collections::HashMap::new();
    let twins = (0_u32..).find_map(|number| {
        let key = format!("twin-{number}");
        keys.insert(label(&key), key.clone()).map(|other| [other, key])
    });
    let twins = twins.unwrap();
    let both = Home::with(&twins.clone().map(|key| entry(&key, Stage::Delivered(READY), HOUR)));
    let output = both.ops(&["purge", "--key", &label(&twins[0]), "--yes"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(twins.iter().all(|key| text(&output.stderr).contains(key.as_str())), "{output:?}");
    assert_eq!(both.keys(&[]).len(), 2);
}

#[test]
fn who_may_not_write_an_unclosed_journal_is_told_what_to_give() {
    let home = Home::new();
    let program = home.0.join("program");
    fs::copy(env!("CARGO_BIN_EXE_steadfast"), &program).unwrap();
    fs::set_permissions(&home.0, fs::Permissions::from_mode(0o755)).unwrap();
    let mut client = home.open();
    client.append(&entries()).unwrap();
    // As after a crash: its log is there, and nobody has it open.
    let left = Home::new();
    for suffix in ["", "-wal", "-mark"] {
        let (from, to) = (format!("{}{suffix}", home.journal()), format!("{}{suffix}", left.journal()));
        assert!(Command::new("cp").args([&from, &to]).status().unwrap().success());
        fs::set_permissions(&to, fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(&left.0, fs::Permissions::from_mode(0o755)).unwrap();
    for which in [&["--older-than", "1h"][..], &["--key", "order-1"]] {
        let mut command = Command::new(&program);
        command.args(["ops", &left.journal(), "purge", "--yes"]).args(which).current_dir("/");
        if fs::write(left.0.join("probe"), "").is_ok() {
            command.uid(65_534);
        }
        let output = copied(&mut command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("give this user write access to it") && said.contains("journal-mark"), "{said}");
        assert!(!said.contains("copy it with"), "{said}");
    }
}

#[test]
fn a_purge_asks_counts_and_spares() {
    let home = Home::with(&entries());
    let refused = home.ops(&["purge", "--older-than", "1h"]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(text(&refused.stderr).contains("no terminal to ask at: give --yes to remove 1 operation"), "{refused:?}");
    let said = home.says(&["purge", "--older-than", "1h", "--dry-run"]);
    assert!(said.contains("1 operation would be removed") && said.contains("2 operations spared"), "{said}");
    assert_eq!(home.keys(&[]), ALL);
    let purged = home.json(&["purge", "--older-than", "1h", "--yes"]);
    assert_eq!((&purged["removed"], &purged["spared"]), (&1.into(), &2.into()));
    assert_eq!(home.keys(&[]), ["order-7", "person-6", "order-5", "order-4", "order-3", "order-2"]);
    assert!(home.says(&["purge", "--older-than", "1h", "--yes"]).contains("nothing to remove"));
    assert!(home.says(&["purge", "--older-than", "99h", "--yes", "--unresolved-too"]).contains("operation"));
    assert!(home.says(&["purge", "--older-than", "1h", "--yes", "--unresolved-too"]).contains("operation"));
    assert_eq!(home.keys(&[]), ["order-7", "person-6", "order-5", "order-4"]);
}

/// Whoever agrees to it must know that they may have run.
#[test]
fn a_purge_tells_how_many_of_those_that_go_are_unresolved() {
    let home = Home::with(&entries());
    let all = ["purge", "--older-than", "1h", "--unresolved-too"];
    let said = home.says(&[&all[..], &["--dry-run"]].concat());
    assert_eq!(said, "3 operations would be removed, 2 of them unresolved, so they may have run\n");
    let asked = text(&home.ops(&all).stderr);
    assert!(asked.contains("give --yes to remove 3 operations, 2 of them unresolved"), "{asked}");
    let told = home.json(&[&all[..], &["--yes"]].concat());
    assert_eq!((&told["removed"], &told["unresolved"], &told["spared"]), (&3.into(), &2.into(), &0.into()), "{told}");
    let none = home.json(&["purge", "--older-than", "1h", "--dry-run"]);
    assert_eq!((&none["would_remove"], &none["unresolved"]), (&0.into(), &0.into()), "{none}");
}

/// Nothing is to be started where it runs.
#[test]
fn one_that_may_not_go_is_said_with_what_to_do_about_it() {
    let home = Home::with(&entries());
    let refused = |key: &str, copy: &[&str]| {
        let output = home.ops(&[&["purge", "--dry-run", "--key", key], copy].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{output:?}");
        text(&output.stderr)
    };
    assert!(refused("order-5", &[]).contains("order-5 is under way: start its client, which carries it on"));
    assert!(refused("order-5", &["--copy"]).contains("order-5 is under way: make sure that its client runs"));
    assert!(
        refused("order-4", &[]).contains("order-4 has ended, and nobody has its outcome yet: `client.resume(key)`")
    );
    let _client = home.open();
    assert!(
        refused("order-5", &[]).contains("order-5 is under way: its client has the journal open, and carries it on")
    );
}

#[test]
fn a_purge_frees_one_key_of_which_somebody_knows() {
    let home = Home::with(&entries());
    let refused = |key, what: &str| {
        let output = home.ops(&["purge", "--key", key, "--yes"]);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(text(&output.stderr).contains(what), "{output:?}");
    };
    refused("order-4", "nobody has its outcome yet");
    refused("a b", "use letters, digits and punctuation only");
    let asked = home.ops(&["purge", "--key", "order-2"]);
    assert!(text(&asked.stderr).contains("no terminal to ask at: give --yes to remove it"), "{asked:?}");
    assert_eq!(home.keys(&[]), ALL);
    assert_eq!(home.json(&["purge", "--key", "order-2", "--yes"])["removed"], 1);
    assert!(!home.keys(&[]).contains(&"order-2".to_owned()));
    assert!(text(&home.ops(&["doctor"]).stdout).contains("The files are what was written"));
}
