//! Copies that a client can begin from, of journals in every state.

use super::*;

/// Copies it into a directory of its own.
fn copy(home: &Home, flags: &[&str]) -> (Home, Output) {
    let to = Home::new();
    let output = home.ops(&[&["copy", &to.journal()], flags].concat());
    (to, output)
}

/// The copy, in the place of a journal.
fn home_of_copy(copy: &Home) -> Home {
    let place = Home::new();
    fs::copy(copy.journal(), place.journal()).unwrap();
    place
}

fn names(home: &Home) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(&home.0).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_copy_of_a_closed_journal_is_the_journal() {
    let home = Home::with(&entries());
    let before = names(&home);
    let (to, output) = copy(&home, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    let name = to.journal();
    let expected =
        format!("{name} written, with {name}-mark beside it: 7 operations, 7 steps in all, verified, as of 20");
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.contains("`from_backup()`") && said.contains(&format!("remove {}-wal", home.journal())), "{said}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(names(&to), ["journal", "journal-mark"]);
    for file in names(&to) {
        assert_eq!(fs::metadata(to.0.join(&file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    let held = |home: &Home| {
        let mut store = home.open();
        (store.watermark(), store.load().unwrap())
    };
    assert_eq!(held(&to), held(&home));
    assert_eq!((to.json(&["doctor"])["mark"].as_str(), names(&home)), (Some("whole"), before));

    let (to, output) = copy(&home, &["--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["operations"], &told["sequence"]), (&7.into(), &7.into()), "{told}");
    assert_eq!(
        (&told["copy"], &told["mark"]),
        (&to.journal().into(), &format!("{}-mark", to.journal()).into()),
        "{told}"
    );
}

#[test]
fn a_copy_has_what_is_still_in_its_clients_log() {
    let home = Home::with(&entries());
    let mut client = home.open();
    client.append(&[entry("order-8", Stage::InFlight, 1)]).unwrap();
    let (to, output) = copy(&home, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(&to), ["journal", "journal-mark"]);
    // The client is not disturbed, and holds it still.
    client.append(&[entry("order-9", Stage::InFlight, 1)]).unwrap();
    assert!(text(&home.ops(&["purge", "--older-than", "1h", "--yes"]).stderr).contains("stop its client first"));
    assert_eq!((to.keys(&[]).len(), to.keys(&[])[0].as_str()), (8, "order-8"));
    assert!(text(&to.ops(&["doctor"]).stdout).contains("The files are what was written: rows, chain, head, mark,"));
    to.open().append(&[entry("order-9", Stage::Planned, 1)]).unwrap();
}

/// Pages of different moments are found, whatever the log does meanwhile.
#[test]
fn a_copy_is_whole_while_its_client_writes() {
    let home = Home::with(&entries());
    let mut client = home.open();
    let writer = std::thread::spawn(move || {
        for number in 0..200 {
            let key = |at: u64| format!("order-{}", 100 + (number * 20 + at) % 600);
            let batch: Vec<Entry> =
                (0..20).map(|at| entry(&key(at), Stage::Planned, 1).with_payload([7; 2_000])).collect();
            client.append(&batch).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut whole = 0;
    while !writer.is_finished() {
        let (to, output) = copy(&home, &[]);
        // One that would not do is refused, and nothing is left of it.
        if output.status.success() {
            assert!(to.open_read_only().verify().unwrap().problems.is_empty());
            assert_eq!(names(&to), ["journal", "journal-mark"]);
            whole += 1;
        } else {
            assert!(text(&output.stderr).contains("none of 20 copies"), "{output:?}");
            assert!(names(&to).is_empty());
        }
    }
    writer.join().unwrap();
    assert!(whole > 0);
}

#[test]
fn a_copy_overwrites_nothing_and_needs_its_directory() {
    let home = Home::with(&entries());
    for suffix in ["", "-mark", "-wal", "-journal"] {
        let to = Home::new();
        let taken = format!("{}{suffix}", to.journal());
        fs::write(&taken, "somebody's").unwrap();
        let output = home.ops(&["copy", &to.journal()]);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(text(&output.stderr).contains(&format!("{taken} exists already")), "{output:?}");
        assert_eq!((names(&to).len(), fs::read_to_string(&taken).unwrap().as_str()), (1, "somebody's"));
    }
    let itself = home.ops(&["copy", &home.journal()]);
    assert!(text(&itself.stderr).contains("exists already"), "{itself:?}");
    let nowhere = home.0.join("nodir/copy").display().to_string();
    let output = home.ops(&["copy", &nowhere]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(
        text(&output.stderr).contains(&format!("{nowhere} cannot be made: there is no such directory")),
        "{output:?}"
    );
    assert!(text(&home.ops(&["copy"]).stderr).contains("<OUT>"));
    // Without a directory in its name, it is made here.
    let here = Home::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    let output = command.args(["ops", &home.journal(), "copy", "backup"]).current_dir(&here.0).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names(&here), ["backup", "backup-mark"]);
}

#[test]
fn nothing_is_left_of_a_copy_for_which_there_is_no_room() {
    let mut many: Vec<Entry> = Vec::new();
    many.extend((0..200).map(|at| entry(&format!("order-{at}"), Stage::Planned, 1).with_payload([7; 2_000])));
    let home = Home::with(&many);
    let to = Home::new();
    // Files may have so many blocks of 512 or 1024 bytes: what is beyond cannot be written, as on a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec {} ops {} copy {}",
        env!("CARGO_BIN_EXE_steadfast"),
        home.journal(),
        to.journal()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("could not be written, and nothing is left of it"), "{said}");
    assert!(names(&to).is_empty() && output.stdout.is_empty(), "{said}");
}

#[test]
fn what_is_damaged_is_not_copied_and_what_has_no_mark_is_copied_without() {
    let home = Home::with(&entries());
    home.tamper(
        "UPDATE records SET body = CAST(substr(body, 1, 55) || x'09' || substr(body, 57) AS BLOB) WHERE first = 3",
    );
    let (to, output) = copy(&home, &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("damaged: row 3 of key #") && said.contains("was not copied"), "{said}");
    assert!(names(&to).is_empty() && output.stdout.is_empty(), "{said}");

    let home = Home::with(&entries());
    fs::remove_file(format!("{}-mark", home.journal())).unwrap();
    let (to, output) = copy(&home, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stderr).contains("the copy has no mark"), "{output:?}");
    let old = format!("remove {0}-wal and {0}-mark if they are there", home.journal());
    assert!(text(&output.stdout).contains(&old), "{output:?}");
    // As it says: what an old mark tells is not of the copy.
    let (place, mark) = (home_of_copy(&to), Home::with(&entries()));
    fs::copy(format!("{}-mark", mark.journal()), format!("{}-mark", place.journal())).unwrap();
    assert_eq!(place.ops(&[]).status.code(), Some(1));
    fs::remove_file(format!("{}-mark", place.journal())).unwrap();
    assert_eq!(place.keys(&[]).len(), 7);
    assert_eq!((names(&to), names(&home)), (vec!["journal".to_owned()], vec!["journal".to_owned()]));

    let nowhere = Home::new();
    let (_, output) = copy(&nowhere, &[]);
    assert_eq!((output.status.code(), names(&nowhere).len()), (Some(64), 0), "{output:?}");
    assert!(text(&output.stderr).contains("there is no journal at this path"), "{output:?}");
}

/// Its log and its mark lie beside the journal, not beside the link: what is copied without them may be an older state.
#[test]
fn a_link_to_a_journal_is_not_copied() {
    let (home, link) = (Home::with(&entries()), Home::new());
    std::os::unix::fs::symlink(home.journal(), link.journal()).unwrap();
    let (to, output) = copy(&link, &[]);
    assert_eq!((output.status.code(), names(&to).len()), (Some(64), 0), "{output:?}");
    assert!(text(&output.stderr).contains("is a symbolic link: name the file itself"), "{output:?}");
}

/// Damage is told with where copies come from.
#[test]
fn a_doctor_names_the_command_that_makes_copies() {
    let home = Home::with(&entries());
    assert!(!text(&home.ops(&["doctor"]).stdout).contains(" copy OUT"));
    home.tamper("DELETE FROM records WHERE first = 3");
    let said = text(&home.ops(&["doctor"]).stdout);
    assert!(said.contains("DAMAGED") && said.contains("`steadfast ops FILE copy OUT`"), "{said}");
    assert!(said.contains("`from_backup()`"), "{said}");
}
