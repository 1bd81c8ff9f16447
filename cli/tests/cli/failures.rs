//! With `--json` a failure is an object too, and no name commands a terminal.

use super::*;

#[test]
fn a_failure_is_an_object_wherever_one_was_asked_for() {
    let cases: [(&[&str], &str); 7] = [
        (&["profile", "check", "/nonexistent"], "cannot be read"),
        (&["profile", "check", "replicate", "--answers", "/nonexistent"], "cannot be read"),
        (&["profile", "check", "replicate", "--answers", "/dev/null"], "/dev/null"),
        (&["check", "/nonexistent"], "cannot be read"),
        (&["demo", "--webhooks"], "add --provider didit"),
        (&["demo", "--faults", "2"], "from 0 (never) to 1 (always)"),
        (&["run"], "--base-url"),
    ];
    for (args, says) in cases {
        let (plain, output) = (steadfast(args), steadfast(&[args, &["--json"]].concat()));
        assert_eq!((plain.status.code(), output.status.code()), (Some(64), Some(64)), "{args:?}: {output:?}");
        let first = |output: &Output| String::from_utf8_lossy(&output.stderr).lines().next().map(str::to_owned);
        assert!(plain.stdout.is_empty() && first(&plain) == first(&output), "{args:?}: {output:?}");
        let failure = json(&output);
        assert!(failure["error"].as_str().unwrap().contains(says) && failure["because"].is_array(), "{failure}");
    }
    // What is behind `--` is no option.
    assert!(steadfast(&["check", "--", "--json"]).stdout.is_empty());
}

#[test]
fn no_name_commands_a_terminal() {
    let home = tempfile::tempdir().unwrap();
    let wrong = home.path().join("a\u{1b}[2J");
    let none = home.path().join("none\u{1b}[2J");
    std::fs::write(&wrong, "[").unwrap();
    let (wrong, none) = (wrong.to_str().unwrap(), none.to_str().unwrap());
    let run = ["run", "--base-url", "https://example.com", "--key", "k", "--payload"];
    let mut calls = vec![
        vec!["check", "examples/policies/deepvue.toml", "--over", none],
        vec!["profile", "check", "replicate", "--answers", none],
        vec!["profile", "check", "replicate", "--answers", wrong],
    ];
    for file in [none, wrong] {
        calls.extend([vec!["check", file], vec!["profile", "check", file], [&run[..], &[file]].concat()]);
    }
    for args in calls {
        let output = steadfast(&args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {said:?}");
        assert!(!said.contains('\u{1b}'), "{args:?}: {said:?}");
    }
}

#[test]
fn what_would_be_left_out_of_account_is_refused() {
    let run =
        ["run", "--base-url", "https://example.com", "--key", "k", "--payload", "/dev/null", "--provider", "didit"];
    let cases: [(&[&str], &str); 2] = [
        (&["check", "deepvue", "--over", "didit"], "--over goes with a file of policies"),
        (&[&run[..], &["--product", "pan"]].concat(), "--product is for --provider deepvue"),
    ];
    for (args, says) in cases {
        let output = steadfast(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn words_in_the_wrong_order_are_told_the_right_one() {
    let cases: [(&[&str], &str, &str); 10] = [
        (&["ops", "show", "jobs.db"], "`steadfast ops FILE show …`", "steadfast ops <FILE> show [OPTIONS] <KEY>"),
        (&["ops", "show", "jobs.db", "order-1"], "`steadfast ops FILE show …`", "<FILE> show [OPTIONS] <KEY>"),
        (&["ops", "--copy", "doctor"], "`steadfast ops FILE doctor …`", "<FILE> doctor [OPTIONS]"),
        (&["ops", "list", "--unresolved", "jobs.db"], "`steadfast ops FILE list …`", "<FILE> list [OPTIONS]"),
        (&["ops", "purge", "--key", "order-1", "jobs.db"], "`steadfast ops FILE purge …`", "<FILE> purge [OPTIONS]"),
        (&["ops", "copy", "jobs.db", "backup.db"], "`steadfast ops FILE copy …`", "<FILE> copy [OPTIONS] <OUT>"),
        (&["profile", "acme.toml", "check"], "`steadfast profile check …`", "profile check [OPTIONS] <FILE>"),
        (&["profile", "replicate", "show"], "`steadfast profile show …`", "profile show <NAME>"),
        (&["jobs.db", "ops"], "`steadfast ops …`", "steadfast ops [OPTIONS] <FILE>"),
        (&["acme.toml", "check"], "`steadfast check …`", "steadfast check [OPTIONS] <FILE>"),
    ];
    for (args, order, usage) in cases {
        let (plain, output) = (steadfast(args), steadfast(&[args, &["--json"]].concat()));
        let said = String::from_utf8_lossy(&plain.stderr);
        assert_eq!((plain.status.code(), output.status.code()), (Some(64), Some(64)), "{args:?}: {output:?}");
        assert!(said.contains(order) && said.contains(usage), "{args:?}: {said}");
        assert!(json(&output)["error"].as_str().unwrap().contains(order), "{args:?}: {output:?}");
    }
    // What else is wrong is still told.
    for (args, says) in [
        (&["profile", "shwo"][..], "unrecognized subcommand 'shwo'"),
        (&["porfile", "check", "acme.toml"], "a similar subcommand exists: 'profile'"),
        (&["ops", "jobs.db", "list", "order-1"], "unexpected argument 'order-1'"),
        (&["run", "order-1"], "unexpected argument 'order-1'"),
    ] {
        let said = String::from_utf8(steadfast(args).stderr).unwrap();
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_has_no_end_is_not_read_for_ever() {
    let run = ["run", "--base-url", "https://example.com", "--key", "k", "--payload"];
    let calls: [&[&str]; 5] = [
        &[&run[..], &["/dev/zero"]].concat(),
        &[&run[..], &["-"]].concat(),
        &["profile", "check", "replicate", "--answers", "/dev/zero"],
        &["profile", "check", "/dev/zero"],
        &["check", "/dev/zero"],
    ];
    for args in calls {
        // Who reads on is stopped by what memory there is.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\" < /dev/zero", env!("CARGO_BIN_EXE_steadfast")])
            .args(args);
        shell.env("DEEPVUE_ACCESS_TOKEN", "canary-token").env("DEEPVUE_CLIENT_SECRET", "canary-secret");
        let output = shell.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
        assert!(said.contains("bytes, and no more are read"), "{args:?}: {said}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn help_that_cannot_be_printed_is_no_success() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    let output = command.arg("--help").stdout(full).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("could not be written to standard output"), "{said}");
}

#[test]
#[cfg(unix)]
fn a_demo_that_is_interrupted_leaves_no_journal_behind() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(["demo", "--kill", "10000"]).env("TMPDIR", home.path());
    let mut demo = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(demo.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().starts_with("killed 1 of 10000 times"));
    assert!(Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap().success());
    let said: Vec<String> = said.map_while(Result::ok).collect();
    assert_eq!(demo.wait().unwrap().code(), Some(130), "{said:?}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
