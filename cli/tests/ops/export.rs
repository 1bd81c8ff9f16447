//! What is left of an export that does not come to its end.

use std::os::unix::process::ExitStatusExt;

use super::*;

/// Some hundred kilobytes of lines.
fn large() -> Home {
    let entries: Vec<Entry> = (0..300).map(|at| entry(&format!("order-{at}"), Stage::Accepted, HOUR)).collect();
    Home::with(&entries)
}

fn names(home: &Home) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(&home.0).unwrap().map(name).collect();
    names.sort();
    names
}

/// Whether an export was killed in the middle of it, and did not come to its end before.
fn killed(home: &Home, out: &Path) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(["ops", &home.journal(), "export", "--output", out.to_str().unwrap()]).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let is_begun = |name: &String| {
        name.starts_with(".steadfast-") && fs::metadata(home.0.join(name)).is_ok_and(|found| found.len() > 0)
    };
    while child.try_wait().unwrap().is_none() && !names(home).iter().any(is_begun) {}
    let _ = child.kill();
    child.wait().unwrap().signal().is_some()
}

#[test]
fn an_export_that_is_killed_leaves_nothing_under_its_name() {
    let home = large();
    let out = home.0.join("out.jsonl");
    while !killed(&home, &out) {
        fs::remove_file(&out).unwrap();
    }
    assert!(!out.exists(), "half an export would be taken for a whole one");
    // What is left tells what it is by its name, and keeps nobody from trying again.
    let left: Vec<String> = names(&home).into_iter().filter(|name| !name.starts_with("journal")).collect();
    assert!(left.iter().all(|name| name.starts_with(".steadfast-")), "{left:?}");
    for name in left {
        assert_eq!(fs::metadata(home.0.join(&name)).unwrap().permissions().mode() & 0o077, 0, "{name}");
    }
    assert_eq!(home.ops(&["export", "--output", out.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 301);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A limit on the size of files is a full disk, and no reason to be killed.
#[test]
fn an_export_for_which_there_is_no_room_says_so_and_leaves_nothing() {
    let home = large();
    let (before, out) = (names(&home), home.0.join("out.jsonl"));
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_steadfast"), "ops"]);
    shell.args([&home.journal(), "export", "--output", out.to_str().unwrap()]).stdin(Stdio::null());
    let output = shell.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("could not be written, and nothing is left of it: File too large"), "{said}");
    assert_eq!(names(&home), before);
}

#[test]
fn an_export_to_a_place_that_cannot_be_says_what_to_name_and_leaves_nothing() {
    let home = large();
    let before = names(&home);
    let export = |to: &str| {
        let output = home.ops(&["export", "--output", &home.0.join(to).display().to_string()]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{output:?}");
        text(&output.stderr)
    };
    assert!(export("nodir/out").contains("no such directory: make it first, or name another file"));
    for taken in ["journal", "journal-mark"] {
        assert!(export(taken).contains("exists already, and is left as it is: name a new file"));
    }
    std::os::unix::fs::symlink("nowhere", home.0.join("dangling")).unwrap();
    assert!(export("dangling").contains("exists already"));
    fs::remove_file(home.0.join("dangling")).unwrap();
    assert_eq!(names(&home), before);
}

#[test]
fn a_dash_is_the_standard_output() {
    let home = Home::with(&entries());
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(["ops", "journal", "export", "--output", "-"]).current_dir(&home.0).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 8), "{output:?}");
    assert_eq!(names(&home), ["journal", "journal-mark"]);
}

/// Its rows are whole, and it is all that is left of what it knew.
#[test]
fn of_a_journal_that_is_older_than_its_mark_it_is_said_how_its_contents_are_had() {
    let home = Home::with(&entries());
    let (journal, older) = (home.journal(), home.0.join("older").display().to_string());
    fs::copy(&journal, &older).unwrap();
    home.open().append(&[entry("order-8", Stage::Accepted, 1)]).unwrap();
    fs::copy(format!("{journal}-mark"), format!("{older}-mark")).unwrap();
    let export = || ops(&older, &["export"]);
    let output = export();
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("a copy of FILE and FILE-wal alone, without the -mark"), "{said}");
    // As it says: the mark is left out.
    fs::remove_file(format!("{older}-mark")).unwrap();
    let output = export();
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 8), "{said}");
    assert!(said.contains("has no mark that can testify") && said.contains("doctor"), "{said}");
}
