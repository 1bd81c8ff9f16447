//! What `check` says of files of policies and of profiles.

use super::*;

/// Files that people copy are good, and what the README shows is what the program says.
#[test]
fn check_explains_the_examples_as_the_readme_shows() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let check = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
        let output = command.current_dir(root).arg("check").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (file, over) in [("deepvue.toml", "deepvue"), ("didit.yaml", "didit")] {
        let file = format!("cli/examples/policies/{file}");
        let report: serde_json::Value = serde_json::from_str(&check(&[&file, "--over", over, "--json"])).unwrap();
        assert_eq!(
            (report["kind"].as_str(), &report["doubts"]),
            (Some("policies"), &serde_json::json!([])),
            "{report}"
        );
        assert!(report["worst_case_ms"]["total"].is_u64() && report["creates"][0]["earliest_ms"] == 0, "{report}");
    }

    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    let (_, shown) = readme.split_once("$ steadfast check ").unwrap();
    let (args, shown) = shown.split_once('\n').unwrap();
    let (shown, _) = shown.split_once("\n```").unwrap();
    let said = check(&args.split(' ').collect::<Vec<_>>());
    let mut lines = said.lines();
    for line in shown.lines().filter(|line| *line != "…") {
        assert!(lines.any(|said| said == line), "the README shows a line that is not said there: {line}\n{said}");
    }
}

#[test]
fn check_tells_profiles_from_policies_and_what_is_wrong_or_doubtful() {
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        let output = steadfast(&["check", file.to_str().unwrap(), "--json"]);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let report = json(&steadfast(&["check", "stripe-identity", "--json"]));
    assert_eq!(
        (report["kind"].as_str(), report["name"].as_str()),
        (Some("profile"), Some("stripe/identity")),
        "{report}"
    );

    // What is wrong: named by line and field, whatever the format, and no text is repeated.
    for (name, text, expected) in [
        (
            "a.toml",
            "[policy.create]\nattemps = 3",
            "a.toml, line 2, policy.create.attemps: is no field here: did you mean attempts?",
        ),
        (
            "b.json",
            "{\"policy\":\n{\"poll\": {\"deadline\": \"canary\"}}}",
            "b.json, line 2, policy.poll.deadline: is not a duration such as",
        ),
        (
            "c.yaml",
            "policy:\n  poll:\n    accept_partial: no",
            "c.yaml, line 3, policy.poll.accept_partial: is a truth value in YAML 1.1",
        ),
        ("d.yml", "name: acme/scan\n", "d.yml, line 1, base_url: is missing"),
        ("e.conf", "{\"gate\": 1}", "e.conf, line 1, gate: is a whole number where a table is expected"),
        ("f.conf", "\u{feff}{\"gate\": 1}", "f.conf, line 1, gate: is a whole number where a table is expected"),
        (
            "k.toml",
            "[[gate.rate_limits]]\nkinds = []\nrate = { count = 1, per = \"1s\" }",
            "k.toml, line 2, gate.rate_limits[0].kinds: is []: it must be at least one of create, lookup and poll",
        ),
        ("g.toml", "[limits]\nlive = 0", "g.toml, line 2, limits.live: is 0: it must be at least 1"),
        ("g.yaml", "gate:\r  bulkhead: none\r", "g.yaml, line 1: a line ends in a carriage return (CR) alone"),
        ("h.toml", &format!("# {}", "é".repeat(200_000)), "h.toml cannot be read: it has more than 262144 bytes"),
        ("i.toml", &format!("#{}", "é".repeat(200_000)), "i.toml cannot be read: it has more than 262144 bytes"),
    ] {
        let (code, said) = check(name, text);
        assert!(code == Some(64) && said.contains(expected) && !said.contains("canary"), "{said}");
    }

    std::fs::write(directory.path().join("j.toml"), [b"[policy.create]\n# ", &b"\xe9"[..]].concat()).unwrap();
    let latin = steadfast(&["check", directory.path().join("j.toml").to_str().unwrap()]);
    let said = String::from_utf8(latin.stderr).unwrap();
    assert!(latin.status.code() == Some(64) && said.contains("j.toml, line 2: this is not UTF-8"), "{said}");

    // What is legal and doubtful.
    let (code, said) = check(
        "doubtful.toml",
        "[policy.create]\nattempts = 9\ndeadline = \"20s\"\nattempt_timeout = \"30s\"\n\
         backoff = { growth = { exponential = { first = \"9s\", factor = 2 } }, cap = \"9s\", jitter = \"none\" }\n\
         [policy.poll]\npolls = 20\n\
         [gate]\nbudget = { capacity = 5, initial = 0, per_request = 0, per_second = 0, costs = { throttled = 6 } }\n\
         rate_limits = [{ rate = { count = 1, per = \"1m\" } }]\n\
         [gate.breaker]\nprobes = { lease = \"1s\" }",
    );
    assert_eq!(code, Some(0), "{said}");
    for doubt in [
        "policy.create.deadline is 20 s: attempts 4 to 9 are never sent",
        "policy.create.attempt_timeout is 30 s, the deadline 20 s",
        "policy.create.backoff.cap is the first delay, 9 s",
        "policy.create.backoff.jitter is none",
        "policy.poll.deadline is 3 min: polls 9 to 20 are never sent",
        "gate.budget has no token",
        "gate.budget.costs.throttled is 6, and the budget never holds more than 5: no such retry is ever sent",
        "gate.breaker.probes.lease is 1 s",
        "gate.rate_limits[0] lets one request go every 1 min",
    ] {
        assert!(said.contains(doubt), "{doubt}: {said}");
    }

    // What never has an effect, or never happens.
    for (name, text, doubt) in [
        (
            "spent.toml",
            "[gate]\nbudget = { capacity = 5, initial = 5, per_request = 0, per_second = 0 }",
            "gate.budget takes no tokens in (per_request, per_success and per_second are 0): once it is spent, no retry is sent",
        ),
        (
            "refunds.toml",
            "[gate]\nbudget = { capacity = 5, initial = 5, per_request = 0, per_second = 0, refunds = true }",
            "gate.budget takes no tokens in (per_request, per_success and per_second are 0): once it is spent, no retry is sent",
        ),
        (
            "empty.toml",
            "[gate]\nbudget = { capacity = 5, initial = 0, per_request = 0, per_second = 0 }",
            "gate.budget has no token for a first retry, and takes none in: no retry is ever sent",
        ),
        (
            "keep.toml",
            "[gate]\nbudget = { capacity = 9, initial = 9, keep = 5, per_success = 1, costs = { timed_out = 5 } }",
            "gate.budget.costs.timed_out is 5, and the budget never gives more than 4: no such retry is ever sent",
        ),
        (
            "lookup.toml",
            "[policy]\nsafety = { lookup = { settle = \"1s\" } }\n[policy.lookup]\nattempts = 3\ndeadline = \"10s\"\n\
             attempt_timeout = \"5s\"\nbackoff = { growth = { fixed = \"10s\" }, cap = \"10s\", jitter = \"none\" }",
            "policy.lookup.deadline is 10 s: attempts 2 to 3 are never sent",
        ),
        (
            "first.toml",
            "[policy.create]\nattempts = 2\ndeadline = \"10s\"\nattempt_timeout = \"5s\"\n\
             backoff = { growth = { fixed = \"10s\" }, cap = \"10s\", jitter = \"none\" }",
            "policy.create.deadline is 10 s: attempt 2 is never sent",
        ),
        (
            "failed.toml",
            "[policy.poll]\ndeadline = \"30s\"\npolls = 3\n\
             retry = { backoff = { growth = { fixed = \"27s\" }, cap = \"27s\", jitter = \"none\" } }",
            "policy.poll.retry waits at least 27 s after a poll that failed, and the deadline is 30 s: a first poll that \
             fails is the last",
        ),
        (
            "slowest.toml",
            "[policy.poll]\ndeadline = \"30s\"\npolls = 3\nretry = { attempts = 1 }",
            "policy.poll.retry waits at least 30 s after a poll that failed",
        ),
        (
            "ends.toml",
            "[policy.poll]\nretry = { deadline = \"1m\" }",
            "policy.poll.retry.deadline is 1 min, and has no effect: polls end at policy.poll.deadline, 3 min",
        ),
        (
            "grace.toml",
            "[policy.poll]\nnot_found_grace = \"1h\"",
            "policy.poll.not_found_grace is 1 h, the deadline 3 min: that the provider does not know the job never ends it",
        ),
        (
            "slow.toml",
            "[gate.breaker]\nslow_calls = { longer_than = \"10s\", percent = 50 }",
            "gate.breaker.slow_calls.longer_than is 10 s, and no request may take longer than 10 s: none that is answered counts as slow",
        ),
        (
            "refuse.toml",
            "[gate]\nbreaker = \"none\"\nwhen_open = \"refuse\"",
            "gate.when_open is refuse, and has no effect without a breaker",
        ),
        (
            "burst.toml",
            "[gate]\nrate_limits = [{ kinds = [\"create\"], rate = { count = 1, per = \"5m\", burst = 1 } }]",
            "of 2 jobs submitted together one is rejected",
        ),
        (
            "bursts.toml",
            "[gate]\nrate_limits = [{ kinds = [\"create\"], rate = { count = 3, per = \"15m\", burst = 3 } }]",
            "of 4 jobs submitted together one is rejected",
        ),
        (
            "shared.toml",
            "[gate]\nreplicas = 3\nrate_limits = [{ kinds = [\"create\"], rate = { count = 1, per = \"1m\", burst = 3 } }]",
            "gate.rate_limits[0] divided by gate.replicas lets one request go every 3 min, and a create has 2 min: of 2 jobs submitted together one is rejected",
        ),
        (
            "crowded.toml",
            "[gate]\nreplicas = 3\nrate_limits = [{ kinds = [\"poll\"], rate = { count = 2, per = \"1s\" } }]",
            "gate.rate_limits[0] counts 2 in 1 s, and gate.replicas is 3: each process may send one at once, which together is more",
        ),
        (
            "uneven.toml",
            "[gate]\nreplicas = 3\nrate_limits = [{ kinds = [\"poll\"], rate = { count = 5, per = \"1s\" } }]",
            "gate.rate_limits[0] counts 5 in 1 s, which gate.replicas (3) does not divide: 2 of them stay unused",
        ),
        (
            "used-up.toml",
            "[policy.poll]\npolls = 20\ndeadline = \"7d\"",
            "policy.poll.polls is 20: a job that stays pending ends as unresolved after 12 min 5 s at the latest, and the deadline is 7 d",
        ),
        (
            "persist.toml",
            "[policy]\npersist = { growth = { exponential = { first = \"1s\", factor = 2 } }, cap = \"1s\" }",
            "policy.persist.cap is the first delay, 1 s: the delays never grow",
        ),
    ] {
        let (code, said) = check(name, text);
        let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let doubts = report["doubts"].as_array().unwrap();
        let is_said = doubts
            .iter()
            .any(|said| said.as_str().is_some_and(|said| said.starts_with(doubt) || said.ends_with(doubt)));
        assert!(code == Some(0) && is_said, "{name}: {doubt}: {doubts:?}");
        if name == "empty.toml" {
            assert_eq!(doubts.len(), 1, "one thing is said once: {doubts:?}");
        }
    }
    // A provider that names shorter waits is obeyed, so there is time for more.
    for (name, text) in [
        (
            "soon.toml",
            "[policy.poll]\ndeadline = \"30s\"\npolls = 3\nretry = { retry_after = { exact = { ceiling = \"1h\" } }, \
             backoff = { growth = { fixed = \"27s\" }, cap = \"27s\", jitter = \"none\" } }",
        ),
        (
            "told.toml",
            "[policy.create]\nattempts = 3\ndeadline = \"10s\"\nattempt_timeout = \"5s\"\nretry_after = { exact = { ceiling = \"1h\" } }\n\
             backoff = { growth = { fixed = \"10s\" }, cap = \"10s\", jitter = \"none\" }",
        ),
        (
            "sooner.toml",
            "[policy]\nsafety = { lookup = { settle = \"1s\" } }\n[policy.lookup]\nattempts = 3\ndeadline = \"10s\"\n\
             attempt_timeout = \"5s\"\nretry_after = { exact = { ceiling = \"1h\" } }\n\
             backoff = { growth = { fixed = \"10s\" }, cap = \"10s\", jitter = \"none\" }",
        ),
    ] {
        let (code, said) = check(name, text);
        let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let doubts = report["doubts"].to_string();
        let is_said = doubts.contains("a first poll that fails is the last") || doubts.contains("never sent");
        assert!(code == Some(0) && !is_said, "{name}: {doubts}");
    }
    let (code, said) = check("never.toml", "[policy.poll]\ndeadline = \"3s\"");
    assert!(code == Some(64) && said.contains("more than the wait before the first poll"), "{said}");

    let (code, said) = check("defaults.toml", "");
    assert!(code == Some(0) && !said.contains("\n! "), "the defaults are nothing to doubt: {said}");
}

/// Whoever copies a shipped profile copies nothing that is doubted.
#[test]
fn the_shipped_profiles_are_nothing_to_doubt() {
    for (name, _) in steadfast_providers::profile::SHIPPED {
        let report = json(&steadfast(&["check", name, "--json"]));
        assert_eq!(report["doubts"], serde_json::json!([]), "{name}");
    }
}
