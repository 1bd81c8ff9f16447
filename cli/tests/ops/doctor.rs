//! Whether what a doctor says is so, and what it says to do can be done as it says it.

use steadfast_core::operation::Rejected;

use super::*;

/// What stands between backticks and begins so.
fn command(said: &str, begin: &str) -> Vec<String> {
    let found = said.split('`').find(|part| part.starts_with(begin)).unwrap_or_else(|| panic!("{begin}: {said}"));
    found.split(' ').skip(1).map(str::to_owned).collect()
}

fn run(args: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.env("DEEPVUE_ACCESS_TOKEN", "token").env("DEEPVUE_CLIENT_SECRET", "secret");
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

/// What is left of it may be all that there is.
#[test]
fn what_can_be_read_of_a_journal_that_lost_a_page_is_told_and_exported() {
    let many: Vec<Entry> =
        (0..200).map(|number| entry(&format!("order-{number}"), Stage::Delivered(AMBIGUOUS), HOUR)).collect();
    let home = Home::with(&many);
    let mut bytes = fs::read(home.journal()).unwrap();
    let pages = bytes.len() / 4_096;
    bytes[(pages - 3) * 4_096..(pages - 2) * 4_096].fill(0xff);
    fs::write(home.journal(), bytes).unwrap();

    let report = home.json(&["doctor"]);
    assert!(!report["problems"].as_array().unwrap().is_empty(), "{report}");
    assert!(report["findings"][0]["count"].as_u64().unwrap() > 100, "{report}");
    let output = home.ops(&["doctor"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("DAMAGED: "), "{output:?}");

    let out = home.0.join("out.jsonl");
    let output = home.ops(&["export", "--output", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let written = fs::read_to_string(out).unwrap();
    assert!(written.contains("\"order-0\"") && written.contains("\"order-199\""), "{written}");
    let output = home.ops(&["list", "--state", "delivered", "--limit", "200"]);
    let said = text(&output.stdout);
    assert!(output.status.code() == Some(1) && said.contains("order-0 ") && said.contains("order-199 "), "{output:?}");
}

/// From cron it is told nothing of the client, which may well be polling on.
#[test]
fn of_a_copy_nobody_can_tell_whether_a_client_runs() {
    let home = Home::with(&entries());
    let _client = home.open();
    let output = home.ops(&["doctor", "--copy"]);
    let said = text(&output.stdout);
    assert!(!said.contains("OVERDUE") && !said.contains("nobody has the journal open"), "{said}");
    for args in [&["doctor", "--copy"][..], &["list", "--copy"], &["show", "order-5", "--copy"]] {
        assert!(home.json(args)["in_use"].is_null(), "{args:?}");
    }
    for key in ["order-4", "order-5", "person-6", "order-7"] {
        let said = home.says(&["show", key, "--copy"]);
        assert!(said.contains("make sure that its client runs") && !said.contains("start its client"), "{said}");
    }
    // A create that is late is late, whoever has the journal.
    let late = Home::with(&[entry("order-1", Stage::InFlight, HOUR)]);
    let said = text(&late.ops(&["doctor", "--copy"]).stdout);
    assert!(said.contains("1 OVERDUE: make sure that their client runs"), "{said}");
}

/// What nobody changes meanwhile is not torn by its being copied.
#[test]
fn of_a_copy_damage_is_told_as_damage() {
    let home = Home::with(&entries());
    home.tamper(
        "UPDATE records SET body = CAST(substr(body, 1, 55) || x'09' || substr(body, 57) AS BLOB) WHERE first = 3",
    );
    let is_told = |args: &[&str]| {
        let output = home.ops(args);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("damaged") && said.contains("row 3 of key #"), "{args:?}: {said}");
        assert!(!said.contains("in use") && !said.contains("faster"), "{args:?}: {said}");
    };
    let to = home.0.join("copy").display().to_string();
    let looks = [&["doctor", "--copy"][..], &["list", "--copy"], &["export", "--copy"], &["copy", &to, "--copy"]];
    looks.into_iter().for_each(is_told);
    assert_eq!(home.json(&["doctor", "--copy"])["healthy"], false);
    // One that a client has open is looked at so, too.
    let _client = home.open();
    [&["doctor"][..], &["list"], &["copy", &to]].into_iter().for_each(is_told);
}

/// Its key is free, so to submit it again is no way to hear of it.
#[test]
fn a_rejected_job_whose_outcome_nobody_took_is_not_to_be_submitted_for_it() {
    let home = Home::with(&[entry("order-1", Stage::Ended(Outcome::Rejected(Rejected::Refused)), 4 * HOUR)]);
    let said = text(&home.ops(&["doctor"]).stdout);
    assert!(said.contains("1 UNDELIVERED: ") && said.contains("one of those begins a new job"), "{said}");
    assert!(said.contains("`steadfast run --base-url URL --key KEY --journal FILE` without --payload"), "{said}");
    let said = home.says(&["show", "order-1"]);
    assert!(said.contains("begins a new job") && !said.contains("delivers the outcome to whoever submits"), "{said}");
}

#[test]
fn each_command_that_is_named_can_be_given() {
    let home = Home::with(&entries());
    for args in [&["doctor"][..], &["show", "order-2"]] {
        let said = text(&home.ops(args).stdout);
        // Only that there is no such journal is wrong with it.
        let nowhere = home.0.join("nowhere").display().to_string();
        let named = |word: &String| match word.as_str() {
            "URL" => "http://127.0.0.1:9".to_owned(),
            "KEY" => "order-2".to_owned(),
            "FILE" => nowhere.clone(),
            other => other.to_owned(),
        };
        let output = run(&command(&said, "steadfast run ").iter().map(named).collect::<Vec<_>>());
        assert!(text(&output.stderr).contains("there is no journal at this path"), "{output:?}");
    }
    let said = text(&home.ops(&["doctor"]).stdout);
    let journal = home.journal();
    let named = |word: &String| match word.as_str() {
        "KEY" => "order-2".to_owned(),
        "FILE" => journal.clone(),
        other => other.to_owned(),
    };
    let mut purge: Vec<String> = command(&said, "steadfast ops FILE purge").iter().map(named).collect();
    purge.push("--yes".to_owned());
    assert_eq!(text(&run(&purge).stdout), "1 operation removed: order-2, unresolved\n");
}

/// As a shell reads it, which takes a blank for an end.
#[test]
fn a_command_that_is_named_names_a_journal_of_any_name() {
    let home = Home::new();
    let journal = home.0.join("our jobs, it's 2").display().to_string();
    let late: Vec<Entry> = (0..30).map(|number| entry(&format!("order-{number}"), Stage::InFlight, HOUR)).collect();
    SqliteStore::open(&journal).unwrap().append(&late).unwrap();
    let said = text(&ops(&journal, &["doctor"]).stdout);
    let rest = said.split('`').find(|part| part.starts_with("steadfast ops ") && part.contains("list")).unwrap();
    let program = rest.replacen("steadfast", env!("CARGO_BIN_EXE_steadfast"), 1);
    let output = Command::new("sh").args(["-c", &program]).output().unwrap();
    assert_eq!(text(&output.stdout).lines().count(), 31, "{rest}: {output:?}");
}

/// What begins with a dash is an option, wherever it stands.
#[test]
fn a_command_that_is_named_names_a_journal_that_begins_with_a_dash() {
    let home = Home::new();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    demo.current_dir(&home.0).args(["demo", "--operations", "2", "--faults", "0", "--speed", "500", "--journal=-j"]);
    let said = text(&demo.stdin(Stdio::null()).output().unwrap().stdout);
    let named = command(&said, "steadfast ops ");
    let mut list = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    let output = list.current_dir(&home.0).args(&named).stdin(Stdio::null()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 3), "{named:?}: {output:?}");
}

#[test]
fn the_list_that_is_named_for_the_rest_has_all_of_them() {
    let ended = |number: u32, stage| entry(&format!("order-{number}"), stage, 4 * HOUR);
    let stages = [
        ("OVERDUE", Stage::InFlight),
        ("OVERDUE", Stage::Accepted),
        ("UNRESOLVED", Stage::Delivered(AMBIGUOUS)),
        ("UNDELIVERED", Stage::Ended(READY)),
    ];
    for (kind, stage) in stages {
        // A list stops at a hundred, unless it is told how many.
        for count in [30, 130] {
            let home = Home::with(&(0..count).map(|number| ended(number, stage)).collect::<Vec<_>>());
            let said = text(&home.ops(&["doctor"]).stdout);
            let more = format!("and {} more: ", count - 20);
            assert!(said.contains(&format!("{count} {kind}")) && said.contains(&more), "{said}");
            let output = run(&command(&said[said.find(&more).unwrap()..], "steadfast ops "));
            assert_eq!(text(&output.stdout).lines().count() as u32, count + 1, "{kind}: {output:?}");
        }
    }
}
