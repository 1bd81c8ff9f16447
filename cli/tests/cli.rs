//! The binary as a person or a script meets it.

#[path = "cli/answers.rs"]
mod answers;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/shapes.rs"]
mod shapes;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use http::Response;
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

/// The same demo on either adapter: the same jobs, promises and report.
#[test]
fn demo_runs_on_threads_as_on_tokio() {
    for adapter in ["tokio", "blocking"] {
        for keys in ["honoured", "lookup", "ignored"] {
            let arguments = ["--operations", "40", "--faults", "0.3", "--seed", "3", "--speed", "100", "--json"];
            let output = steadfast(&[&["demo", "--adapter", adapter, "--keys", keys], &arguments[..]].concat());
            assert!(output.status.success(), "{output:?}");
            let report = json(&output);
            assert_eq!(report["adapter"].as_str(), Some(adapter));
            let sum: u64 = report["outcomes"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
            assert_eq!(sum, 40, "{report}");
            assert!(report["outcomes"]["completed"].as_u64().unwrap() > 0, "{report}");
            assert_eq!(report["ledger"]["keys_run_more_than_once"].as_u64(), Some(0), "{report}");
        }
    }
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
fn demo_of_didit_believes_no_forged_webhook_and_needs_none_that_is_lost() {
    let base = ["demo", "--provider", "didit", "--operations", "40", "--seed", "3", "--speed", "60", "--json"];
    let output = steadfast(&[&base[..], &["--webhooks", "--faults", "0.5"]].concat());
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    assert_eq!(report["provider"], "didit");
    let sum: u64 = report["outcomes"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!((sum, &report["ledger"]["keys_run_more_than_once"]), (40, &0.into()), "{report}");
    let webhooks = report["webhooks"].as_object().unwrap();
    let names: Vec<&str> = webhooks.keys().map(String::as_str).collect();
    assert_eq!(names, ["delivered", "duplicated", "early", "forged", "lost", "refused"]);
    for (name, count) in webhooks {
        // Few are drawn to be early, and of those the creates must have run at once.
        assert!(count.as_u64().unwrap() > 0 || name == "early", "{report}");
    }
    assert_eq!(webhooks["forged"], webhooks["refused"], "{report}");

    let output = steadfast(&[&base[..], &["--faults", "0"]].concat());
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    assert_eq!((&report["outcomes"]["completed"], report.get("webhooks")), (&40.into(), None), "{report}");
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
        let base = ["run", "--base-url", &url, "--key", "order-42", "--payload", &file];
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
async fn run_carries_a_job_by_a_profile_as_by_the_code() {
    let payload = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
    let by_code = run(quick(), payload, &["--provider", "deepvue", "--json"]).await;
    let by_file = run(quick(), payload, &["--profile", "deepvue", "--json"]).await;
    assert_eq!((by_code.status.code(), by_file.status.code()), (Some(0), Some(0)), "{by_file:?}");
    let [code, file] = [&by_code, &by_file].map(json);
    assert_eq!(code["outcome"], file["outcome"]);
    // The profile says where in the answer the result is.
    assert!(code["body"]["data"].is_object() && file["body"].is_object(), "{file}");
    assert!(file["body"].get("data").is_none(), "{file}");
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

/// What is logged is for people, and a job goes on without them.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_that_cannot_be_written_ends_no_job() {
    let server = quick().start().unwrap();
    let (url, home) = (server.base_url(), tempfile::tempdir().unwrap());
    let payload = home.path().join("payload");
    std::fs::write(&payload, PAYLOAD).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(["run", "--base-url", &url, "--key", "order-42", "--payload"]).arg(payload).stderr(full);
    command.env("DEEPVUE_ACCESS_TOKEN", "token").env("DEEPVUE_CLIENT_SECRET", "secret").env("RUST_LOG", "debug");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json(&output)["data"]["status"], "id_found");
}

/// What a refusal answers, and what is said of it.
#[tokio::test]
async fn run_tells_the_cause_of_a_refusal() {
    let cases = [
        (401, "HTTP 401 Unauthorized", Some("DEEPVUE_ACCESS_TOKEN and DEEPVUE_CLIENT_SECRET")),
        (403, "HTTP 403 Forbidden", Some("DEEPVUE_ACCESS_TOKEN and DEEPVUE_CLIENT_SECRET")),
        (404, "HTTP 404 Not Found", Some("--base-url")),
        (307, "HTTP 307 Temporary Redirect", Some("--base-url")),
        (422, "HTTP 422 Unprocessable Entity", None),
    ];
    for (status, line, hint) in cases {
        let answer = move |_| {
            let body = r#"{"message":"canary-body"}"#;
            let answer = Response::builder().status(status).header("location", "https://canary-host.example/");
            answer.header("x-canary", "canary-header").body(body.to_owned()).unwrap()
        };
        let server = steadfast_testkit::http::serve(answer).await.unwrap();
        let url = server.base_url();
        let path = std::env::temp_dir().join(format!("steadfast-cause-{}-{status}.json", std::process::id()));
        std::fs::write(&path, PAYLOAD).unwrap();
        let file = path.display().to_string();
        let call = move |json: &[&str]| {
            steadfast(&[&["run", "--base-url", &url, "--key", "canary-key", "--payload", &file], json].concat())
        };
        let outputs = tokio::task::spawn_blocking(move || [call(&[]), call(&["--json"])]).await.unwrap();
        std::fs::remove_file(path).unwrap();
        let [plain, with_json] = &outputs;
        let said = String::from_utf8_lossy(&plain.stderr);
        assert!(matches!(plain.status.code(), Some(2 | 4)), "{said}");
        let (cause, notice) = (said.find(line).expect(&said), said.find("✗ ").expect(&said));
        assert!(cause < notice, "{said}");
        assert!(hint.is_none_or(|hint| said.contains(hint)), "{said}");
        assert!(!said.contains("canary") && plain.stdout.is_empty(), "{plain:?}");
        let hinted = json(with_json)["hint"].as_str().unwrap_or_default().to_owned();
        assert!(hint.map_or(hinted.is_empty(), |hint| hinted.contains(hint)), "{hinted}");
    }
}

/// What only webhooks are known by is in no request, so it is not why one was refused.
#[tokio::test]
async fn run_names_no_webhook_secret_when_the_credentials_are_refused() {
    let answer = |_| Response::builder().status(401).body(String::new()).unwrap();
    let server = steadfast_testkit::http::serve(answer).await.unwrap();
    let (url, home) = (server.base_url(), tempfile::tempdir().unwrap());
    let payload = home.path().join("payload");
    std::fs::write(&payload, "{}").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(["run", "--profile", "assemblyai", "--base-url", &url, "--key", "order-42", "--payload"]).arg(payload);
    command.env("ASSEMBLYAI_API_KEY", "key").env("ASSEMBLYAI_WEBHOOK_TOKEN", "0123456789abcdef");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("check ASSEMBLYAI_API_KEY (") && !said.contains("WEBHOOK"), "{said}");
}

#[test]
fn run_tells_why_no_answer_came() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = std::env::temp_dir().join(format!("steadfast-refused-{}.json", std::process::id()));
    std::fs::write(&path, PAYLOAD).unwrap();
    let url = format!("http://{free}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(["run", "--base-url", &url, "--key", "canary-key", "--payload"]).arg(&path);
    command.env("DEEPVUE_ACCESS_TOKEN", "canary-token").env("DEEPVUE_CLIENT_SECRET", "canary-secret");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said.push(line.unwrap());
        if said.last().unwrap().contains("✗ ") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(path).unwrap();
    let cause = &said[said.len() - 2];
    assert!(cause.contains("no connection") && cause.contains("onnection refused"), "{said:?}");
    assert!(!said.concat().contains("canary"), "{said:?}");
}

#[test]
fn wrong_calls_exit_with_64_and_say_what_to_change() {
    let run = ["run", "--payload", "/dev/null", "--base-url"];
    let cases: [(&[&str], &str); 12] = [
        (&["demo", "--faults", "2"], "from 0 (never) to 1 (always)"),
        (&["demo", "--speed", "0"], "from 1 (as in life)"),
        (&["demo", "--provider", "other"], "possible values: deepvue, didit"),
        (&["demo", "--webhooks"], "add --provider didit"),
        (&["demo", "--provider", "didit", "--kill", "3"], "--provider deepvue"),
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
    assert!(text.contains("variables DEEPVUE_ACCESS_TOKEN and DEEPVUE_CLIENT_SECRET: they are"), "{text}");
    let mut one = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    let output =
        one.args(call).env_remove("DEEPVUE_ACCESS_TOKEN").env("DEEPVUE_CLIENT_SECRET", "canary").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("variable DEEPVUE_ACCESS_TOKEN: it is unset"), "{text}");
}

#[test]
fn a_profile_that_comes_with_the_program_is_told_and_tried() {
    let list = steadfast(&["profile", "list"]);
    let list = String::from_utf8(list.stdout).unwrap();
    assert_eq!(list.lines().count(), 12, "{list}");
    for line in list.lines() {
        let name = line.split_whitespace().next().unwrap();
        let check = steadfast(&["profile", "check", name, "--json"]);
        let report = json(&check);
        assert_eq!((check.status.code(), &report["well"]), (Some(0), &true.into()), "{report}");
        assert!(report["answers"].as_array().unwrap().len() > 5, "{name}");
    }
}

#[test]
fn a_wrong_profile_is_refused_by_line_and_field() {
    let directory = tempfile::tempdir().unwrap();
    let (file, answers) = (directory.path().join("acme.toml"), directory.path().join("answers.json"));
    let shown = String::from_utf8(steadfast(&["profile", "show", "replicate"]).stdout).unwrap();
    std::fs::write(&file, shown.replace(r#"succeeded = "ready""#, r#"succeeded = "redy""#)).unwrap();
    let refused = steadfast(&["profile", "check", file.to_str().unwrap()]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(
        said.contains("line ") && said.contains("poll.state.values") && said.contains("did you mean ready?"),
        "{said}"
    );

    std::fs::write(&file, shown).unwrap();
    std::fs::write(
        &answers,
        r#"{"answers":[{"name":"done","kind":"poll","status":200,"body":{"status":"succeeded"},"read":"failed"}]}"#,
    )
    .unwrap();
    let check = steadfast(&["profile", "check", file.to_str().unwrap(), "--answers", answers.to_str().unwrap()]);
    let said = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("✗") && said.contains("ready") && said.contains("failed"), "{said}");
}
