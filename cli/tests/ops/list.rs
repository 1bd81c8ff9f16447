//! `ops FILE list`: which operations, in which order, and what is said of those that are left out.

use super::*;

#[test]
fn a_list_has_a_line_for_each_the_newest_first() {
    let home = Home::with(&entries());
    let said = home.says(&[]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("KEY") && lines.len() == 8, "{said}");
    let keys: Vec<&str> = lines[1..].iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(keys, ALL);
    assert_eq!((home.keys(&[]), home.keys(&["list"])), (ALL.map(String::from).into(), ALL.map(String::from).into()));
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(lines[1]), "order-7 deepvue planned - - 0 0 2 h in 3 h 1 h ago");
    assert_eq!(squeezed(lines[3]), "order-5 deepvue accepted - txn-of-order-5 1 3 2 h 1 h ago 1 h ago");
    assert_eq!(squeezed(lines[5]), "order-3 deepvue delivered unresolved/ambiguous - 1 3 6 d 16 h - 3 d 8 h ago");
    assert!(!said.contains("canary") && lines.iter().all(|line| *line == line.trim_end()), "{said}");
}

#[test]
fn each_filter_leaves_what_it_says() {
    let home = Home::with(&entries());
    let cases: [(&[&str], &[&str]); 14] = [
        (&["--state", "planned"], &["order-7"]),
        (&["--state", "accepted", "--state", "ended"], &["order-5", "order-4"]),
        (&["--state", "delivered"], &["order-3", "order-2", "order-1"]),
        (&["--state", "unknown"], &["person-6"]),
        (&["--state", "in_flight"], &[]),
        (&["--outcome", "completed"], &["order-1"]),
        (&["--outcome", "failed", "--outcome", "unresolved"], &["order-4", "order-3", "order-2"]),
        (&["--provider", "other"], &["person-6"]),
        (&["--older-than", "3h"], &["order-4", "order-3", "order-2", "order-1"]),
        (&["--due"], &["person-6", "order-5"]),
        (&["--unresolved"], &["person-6", "order-3", "order-2"]),
        (&["--key-prefix", "person"], &["person-6"]),
        (&["--unresolved", "--older-than", "1h", "--provider", "deepvue"], &["order-3", "order-2"]),
        (&["--outcome", "rejected"], &[]),
    ];
    for (filters, expected) in cases {
        assert_eq!(home.keys(filters), expected, "{filters:?}");
        assert_eq!(home.keys(&[&["list"], filters].concat()), expected, "list {filters:?}");
    }
    let none = home.ops(&["--outcome", "rejected"]);
    assert!(none.stdout.is_empty() && text(&none.stderr).contains("no operation passes"), "{none:?}");
    assert!(!text(&none.stderr).contains("deepvue"), "{none:?}");
    let nobody = text(&home.ops(&["--provider", "deep"]).stderr);
    assert!(
        nobody.contains("no operation passes these filters: nothing was sent to deep, but to deepvue, other\n"),
        "{nobody}"
    );
    let done = text(&home.ops(&["--provider", "other", "--outcome", "failed"]).stderr);
    assert!(done.ends_with("no operation passes these filters\n"), "{done}");
}

#[test]
fn what_a_limit_leaves_out_is_said() {
    let home = Home::with(&entries());
    for (args, shown, left_out) in [
        (&["--limit", "2"][..], &ALL[..2], 5),
        (&["--limit", "7"], &ALL, 0),
        (&["--limit", "0"], &[], 7),
        (&["--limit", "1", "--unresolved"], &["person-6"], 2),
    ] {
        assert_eq!(
            (home.keys(args), &home.json(args)["left_out"]),
            (shown.iter().map(|key| (*key).to_owned()).collect(), &left_out.into())
        );
        let said = text(&home.ops(args).stderr);
        let expected = format!("{left_out} operations more left out");
        assert_eq!(said.contains(&expected), left_out > 0, "{args:?}: {said}");
    }
}

#[test]
fn json_names_what_is_on_record() {
    let home = Home::with(&entries());
    let listing = home.json(&["--key-prefix", "order-2"]);
    let row = &listing["operations"][0];
    let words = ["key", "provider", "state", "outcome", "reason", "reference"].map(|name| row[name].as_str().unwrap());
    assert_eq!(words, ["order-2", "deepvue", "delivered", "unresolved", "poll_deadline", "txn-of-order-2"]);
    assert_eq!((&row["creates"], &row["attempts"], &row["polls"]), (&1.into(), &3.into(), &0.into()));
    for time in ["submitted_at", "first_sent_at", "ended_at", "updated_at"] {
        assert!(row[time].as_str().unwrap().ends_with('Z'), "{time}: {row}");
    }
    assert!(row["due_at"].is_null() && row["accepted_at"].is_null(), "{row}");
    assert_eq!((&listing["in_use"], &row["fingerprint"]), (&false.into(), &"07".repeat(16).into()));
}

/// Its lock is held only while it reads: who pages through a list keeps no client from starting.
#[test]
fn a_list_that_nobody_reads_holds_no_lock() {
    let entries: Vec<Entry> = (0..2_000).map(|number| entry(&format!("order-{number}"), Stage::Accepted, 9)).collect();
    let home = Home::with(&entries);
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    let mut child = command.args(["ops", &home.journal(), "--limit", "9999"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("KEY"));
    home.open().append(&[entry("order-9999", Stage::Planned, 1)]).unwrap();
    assert_eq!(lines.count(), 2_000);
    child.wait().unwrap();
}

#[test]
fn a_row_that_is_damaged_is_not_said_to_be_left_out_by_the_limit() {
    let home = Home::with(&entries());
    home.tamper(
        "UPDATE records SET body = CAST(substr(body, 1, 55) || x'09' || substr(body, 57) AS BLOB) WHERE first = 7",
    );
    for (limit, left_out) in [("6", 0), ("5", 1)] {
        let listing = home.json(&["--limit", limit]);
        assert_eq!(listing["damaged"].as_array().unwrap().len(), 1, "{listing}");
        assert_eq!(listing["left_out"], left_out, "{listing}");
    }
}

/// Who joins what SQL shows with what `--json` does need not translate.
#[test]
fn sql_and_json_have_the_same_names() {
    let home = Home::with(&entries());
    let listing = home.json(&["--limit", "1"]);
    let connection = rusqlite::Connection::open(home.journal()).unwrap();
    let asked = connection.prepare("SELECT * FROM operations").unwrap();
    let columns = asked.column_names();
    for name in listing["operations"][0].as_object().unwrap().keys().filter(|name| *name != "label") {
        assert!(columns.contains(&name.as_str()), "{name} is not among {columns:?}");
    }
}
