//! The binary as a person or a script meets it.

use std::process::{Command, Output};

use steadfast_core::Kind;
use steadfast_testkit::{FakeDeepvue, Fault, Faults};

fn steadfast(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(args).env("DEEPVUE_ACCESS_TOKEN", "canary-token").env("DEEPVUE_CLIENT_SECRET", "canary-secret");
    command.output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn demo_prints_one_object_with_every_promised_field() {
    let output =
        steadfast(&["demo", "--operations", "60", "--faults", "0.4", "--seed", "3", "--speed", "100", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    assert_eq!((report["provider"].as_str(), report["seed"].as_u64()), (Some("deepvue"), Some(3)));
    let sum: u64 = report["outcomes"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(report["operations"].as_u64(), Some(sum), "{report}");
    for field in ["completed", "rejected", "failed", "unresolved"] {
        assert!(report["outcomes"][field].is_u64(), "{field}");
    }
    // On a machine that is busy with other things, few jobs may come as far as their polls in time.
    for (field, least) in [("create", 60), ("poll", 0)] {
        assert!(report["attempts"][field].as_u64().unwrap() > least, "{report}");
    }
    for field in ["executions", "keys"] {
        assert!(report["ledger"][field].as_u64().unwrap() > 0, "{report}");
    }
    for field in ["keys_run_more_than_once", "completed_but_never_run"] {
        assert_eq!(report["ledger"][field].as_u64(), Some(0), "{report}");
    }
    for field in ["p50", "p90", "p99", "max"] {
        assert!(report["latency_ms"][field].as_u64().unwrap() > 0, "{report}");
    }
    assert!(report["faults"]["lose_answer"].as_u64().unwrap() > 0 && report["elapsed_ms"].is_u64(), "{report}");
}

#[test]
fn demo_shows_what_the_breaker_makes_of_an_outage() {
    let output = steadfast(&[
        "demo",
        "--operations",
        "80",
        "--faults",
        "0",
        "--outage",
        "30s",
        "--seed",
        "3",
        "--speed",
        "50",
        "--json",
    ]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    let gate = &report["gate"];
    let states: Vec<&str> =
        gate["breaker"].as_array().unwrap().iter().map(|change| change["state"].as_str().unwrap()).collect();
    assert_eq!((states.first(), states.last()), (Some(&"open"), Some(&"closed")), "{gate}");
    assert!(states.contains(&"half_open"), "{gate}");
    assert!(gate["calls_saved"].as_u64().unwrap() > 0, "{gate}");
    let after = gate["sent_after_recovery"].as_array().unwrap();
    // 1000 a minute and 17 at once: no second sees more than 17 + 17, however many waited.
    assert!(after.iter().all(|count| count.as_u64().unwrap() <= 34), "{gate}");
    assert!(report["faults"]["outage"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["outcomes"]["completed"].as_u64(), Some(80), "an outage of 30 s costs no job: {report}");
}

#[test]
fn demo_shows_a_table_to_people() {
    let output = steadfast(&["demo", "--operations", "20", "--speed", "200", "--keys", "ignored"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "completed: the result is here",
        "keys run more than once",
        "never sent again",
        "Speed 200",
        "breaker opened",
        "requests ",
        "█",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Starts a fake provider and runs one job against it.
async fn run(fake: FakeDeepvue, payload: &str, more: &'static [&'static str]) -> Output {
    let server = fake.start().unwrap();
    let url = server.base_url();
    let path = std::env::temp_dir().join(format!("steadfast-{}-{}.json", std::process::id(), payload.len()));
    std::fs::write(&path, payload).unwrap();
    let file = path.display().to_string();
    let done = tokio::task::spawn_blocking(move || {
        let base = ["run", "--provider", "deepvue", "--base-url", &url, "--key", "order-42", "--payload", &file];
        steadfast(&[&base[..], more].concat())
    });
    let output = done.await.unwrap();
    std::fs::remove_file(path).unwrap();
    output
}

fn quick() -> FakeDeepvue {
    FakeDeepvue::new(1).with_speed(100.0)
}

const PAYLOAD: &str = r#"{"dl_number":"canary-number","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;

#[tokio::test]
async fn run_prints_the_result_and_a_timeline() {
    let output = run(quick(), PAYLOAD, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json(&output)["data"]["status"], "id_found");
    let timeline = String::from_utf8(output.stderr).unwrap();
    for part in ["→ create 1", "accepted", "next poll in 3 s", "→ poll 1", "completed"] {
        assert!(timeline.contains(part), "{part}: {timeline}");
    }
    assert!(!timeline.contains("canary"), "{timeline}");
}

#[tokio::test]
async fn run_tells_by_its_exit_code_how_the_job_ended() {
    let rejected = run(quick(), r#"{"consent":"N"}"#, &["--json"]).await;
    assert_eq!(rejected.status.code(), Some(2), "{rejected:?}");
    assert_eq!(json(&rejected)["outcome"], "rejected");
    assert_eq!(json(&rejected)["status"], 422);

    let failed = run(quick().with_failing(1.0), &format!("{PAYLOAD} "), &["--json"]).await;
    assert_eq!(failed.status.code(), Some(3), "{failed:?}");

    let lost = quick().with_faults(Faults::none().on(Kind::Create, 1, Fault::LoseAnswer));
    let unresolved = run(lost, &format!("{PAYLOAD}  "), &["--json"]).await;
    assert_eq!(unresolved.status.code(), Some(4), "{unresolved:?}");
    assert!(json(&unresolved)["reason"].as_str().unwrap().contains("do not resubmit"));
}

#[test]
fn wrong_calls_exit_with_64_and_say_what_to_change() {
    let run = ["run", "--payload", "/dev/null", "--base-url"];
    let cases: [(&[&str], &str); 10] = [
        (&["demo", "--faults", "2"], "from 0 (never) to 1 (always)"),
        (&["demo", "--speed", "0"], "from 1 (as in life)"),
        (&["demo", "--provider", "other"], "possible values: deepvue"),
        (&["run"], "--base-url"),
        (&[&run[..], &["example.com", "--key", "k"]].concat(), "begin it with https://"),
        (&[&run[..], &["http://example.com", "--key", "k"]].concat(), "begin it with https://"),
        (&[&run[..], &["https://example.com", "--key", "a b"]].concat(), "use letters, digits and punctuation only"),
        (&[&run[..], &["https://example.com", "--key", "k"]].concat(), "no JSON object"),
        (&["demo", "--outage", "5"], "a duration such as"),
        (&["run", "--payload", "/nonexistent", "--base-url", "https://example.com", "--key", "k"], "cannot be read"),
    ];
    for (args, says) in cases {
        let output = steadfast(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
    assert!(steadfast(&["--help"]).status.success());

    let mut without = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    let call = ["run", "--payload", "/dev/null", "--base-url", "https://example.com", "--key", "k"];
    let output =
        without.args(call).env_remove("DEEPVUE_ACCESS_TOKEN").env("DEEPVUE_CLIENT_SECRET", "").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("DEEPVUE_ACCESS_TOKEN and DEEPVUE_CLIENT_SECRET"), "{text}");
}
