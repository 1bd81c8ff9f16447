//! A process that was killed while it made its journal: nothing was ever kept in what it left.

use std::io::{BufRead, Write};

use steadfast_store::OpenError;

use super::*;

fn is_made_anew(home: &Home) {
    let looked = SqliteStore::open_read_only(home.journal());
    assert!(matches!(looked, Err(OpenError::Missing)), "{looked:?}");
    drop(looked);
    home.open().append(&[entry("order-1", Stage::Planned)]).unwrap();
    assert_eq!(home.open().load().unwrap(), [entry("order-1", Stage::Planned)]);
}

#[test]
fn one_without_tables_is_not_there_yet() {
    let home = Home::new();
    home.tamper("CREATE TABLE any (text TEXT); DROP TABLE any");
    assert!(fs::metadata(home.journal()).unwrap().len() > 0);
    is_made_anew(&home);
}

/// Some pages are in the file, and beside it is what takes them back.
#[test]
#[cfg(unix)]
fn one_whose_first_commit_did_not_end_is_not_there_yet() {
    let (half, home) = (Home::new(), Home::new());
    let connection = rusqlite::Connection::open(half.journal()).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size = 1; BEGIN EXCLUSIVE; PRAGMA application_id = 0x53664a31; PRAGMA user_version = 1; \
             CREATE TABLE operations (record BLOB); \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) \
             INSERT INTO operations SELECT zeroblob(4000) FROM n",
        )
        .unwrap();
    for suffix in ["", "-journal"] {
        let copied = fs::copy(beside(&half.journal(), suffix), beside(&home.journal(), suffix)).unwrap();
        assert!(copied > 0, "{suffix:?} is empty");
    }
    is_made_anew(&home);
}

/// Each is told to open the same new journal at the same moment, and then once more what the first round has left.
#[test]
fn of_many_processes_that_make_it_at_once_one_has_it_and_the_others_are_told_so() {
    let home = Home::new();
    let mut openers: Vec<_> = (0..4).map(|_| Opener::start(&home)).collect();
    let mut opened = 0;
    for round in 0..30 {
        let path = home.0.join(format!("journal-{}", round / 2));
        openers.iter_mut().for_each(|opener| opener.say(path.to_str().unwrap()));
        let told: Vec<String> = openers.iter_mut().map(Opener::hear).collect();
        assert!(told.iter().all(|told| told == "opened" || told == "locked"), "round {round}: {told:?}");
        let one = told.iter().filter(|told| *told == "opened").count();
        assert!(one <= 1, "round {round}: {told:?}");
        opened = if round % 2 == 0 { one } else { opened.max(one) };
        openers.iter_mut().for_each(|opener| opener.say("close"));
        openers.iter_mut().for_each(|opener| assert_eq!(opener.hear(), "closed"));
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.load().unwrap().len(), opened, "round {round}");
        assert!(store.verify().unwrap().problems.is_empty());
    }
}

struct Opener(process::Child, std::io::BufReader<process::ChildStdout>);

impl Opener {
    fn start(home: &Home) -> Self {
        let piped = || process::Stdio::piped();
        let mut child = child("making::child_makes", &home.journal()).stdin(piped()).stdout(piped()).spawn().unwrap();
        let said = std::io::BufReader::new(child.stdout.take().unwrap());
        Self(child, said)
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// What the test's own report says goes before it.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        while self.1.read_line(&mut line).unwrap() > 0 {
            if let Some((_, told)) = line.trim().split_once("told: ") {
                return told.to_owned();
            }
            line.clear();
        }
        panic!("it is gone");
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "a part of another, which runs it in processes of their own"]
fn child_makes() {
    let mut lines = std::io::stdin().lines().map_while(Result::ok);
    while let Some(path) = lines.next() {
        let opened = SqliteStore::open(&path);
        match &opened {
            Ok(_) => println!("told: opened"),
            Err(OpenError::Locked { .. }) => println!("told: locked"),
            Err(other) => println!("told: {other:?}"),
        }
        let _ = lines.next();
        if let Ok(mut store) = opened {
            store.append(&[entry("order-1", Stage::Planned)]).unwrap();
        }
        println!("told: closed");
    }
}
