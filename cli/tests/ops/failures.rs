//! With `--json` a failure is an object too: whoever reads stdout learns of it there. Exit codes, and what people read,
//! stay as they are.

use super::*;

#[test]
fn a_failure_is_an_object_where_one_was_asked_for() {
    let (home, broken, to) = (Home::with(&entries()), Home::with(&entries()), Home::new());
    broken.tamper(
        "UPDATE records SET body = CAST(substr(body, 1, 55) || x'09' || substr(body, 57) AS BLOB) WHERE first = 3",
    );
    let none = to.0.join("none").display().to_string();
    let (taken, backup) = (home.journal(), to.journal());
    let cases: [(&str, &[&str], i32, &str); 12] = [
        (&none, &[], 64, "there is no journal at this path"),
        (&none, &["doctor"], 64, "there is no journal at this path"),
        (&taken, &["--unresolved", "doctor"], 64, "filters go behind the command"),
        (&taken, &["frob"], 64, "is no command"),
        (&taken, &["--state", "done"], 64, "possible values: planned"),
        (&taken, &["show", "a b"], 64, "letters, digits and punctuation only"),
        (&taken, &["show", "order-99"], 1, "check its spelling"),
        (&taken, &["purge", "--key", "order-99", "--yes"], 1, "holds no operation of this key"),
        (&taken, &["purge", "--key", "order-5", "--yes"], 64, "order-5 is under way"),
        (&taken, &["copy", &taken], 64, "exists already"),
        (&taken, &["export", "--output", &taken], 64, "exists already"),
        (&broken.journal(), &["copy", &backup], 1, "is damaged, and was not copied"),
    ];
    for (file, args, code, says) in cases {
        let (plain, output) = (ops(file, args), ops(file, &[args, &["--json"]].concat()));
        assert!(plain.stdout.is_empty(), "{args:?}: {plain:?}");
        assert_eq!((plain.status.code(), output.status.code()), (Some(code), Some(code)), "{args:?}: {output:?}");
        assert_eq!(text(&plain.stderr), text(&output.stderr), "{args:?}");
        assert_eq!(text(&output.stdout).lines().count(), 1, "{args:?}: {output:?}");
        let failure: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(failure["error"].as_str().unwrap().contains(says), "{args:?}: {failure}");
        assert!(failure["because"].is_array(), "{args:?}: {failure}");
        assert_eq!(failure.as_object().unwrap().len(), 2, "{args:?}: {failure}");
    }
    // What lies beneath is told as well.
    let failure = broken.json(&["copy", &backup]);
    assert!(failure["because"][0].as_str().is_some_and(|what| what.contains("row 3")), "{failure}");
}

/// Nobody could count its lines else.
#[test]
fn an_export_that_has_begun_is_not_ended_by_an_object() {
    let home = Home::with(&entries());
    home.tamper(
        "UPDATE records SET body = CAST(substr(body, 1, 55) || x'09' || substr(body, 57) AS BLOB) WHERE first = 3",
    );
    let (plain, output) = (home.ops(&["export"]), home.ops(&["export", "--json"]));
    assert_eq!((output.status.code(), plain.status.code()), (Some(1), Some(1)), "{output:?}");
    let rows = |output: &Output| text(&output.stdout).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((rows(&output), rows(&output).len()), (rows(&plain), 6));
}
