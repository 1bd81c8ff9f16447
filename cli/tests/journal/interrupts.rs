//! What `run` says when it is interrupted: where the job is found again, and never more than the journal holds.

use super::*;

/// What it said on stderr, its stdout and its exit code, when it was sent this signal once a line had said `what`.
async fn stopped(mut command: Command, signal: &'static str, what: &'static str) -> (Vec<String>, String, Option<i32>) {
    let stop = move || {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut said, mut stop) = (Vec::new(), Some(child.id().to_string()));
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            said.push(line.unwrap());
            if said.last().is_some_and(|line| line.contains(what))
                && let Some(child) = stop.take()
            {
                assert!(Command::new("kill").args([signal, &child]).status().unwrap().success());
            }
        }
        let output = child.wait_with_output().unwrap();
        (said, String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    tokio::task::spawn_blocking(stop).await.unwrap()
}

/// What the timeline said the provider calls the job.
fn reference(said: &[String]) -> String {
    let accepted = said.iter().find_map(|line| line.split_once("(reference ")).unwrap();
    accepted.1.trim_end_matches(')').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_leaves_the_reference_on_the_last_line_and_no_body() {
    for signal in ["-INT", "-TERM"] {
        let world = World::new(slower());
        let (url, payload) = (world.server.base_url(), world.file("payload"));
        let without = steadfast(&["run", "--base-url", &url, "--key", "order-42", "--payload", &payload]);
        let (said, stdout, code) = stopped(without, signal, "(reference ").await;
        assert_eq!((stdout.as_str(), code), ("", Some(4)), "{said:?}");
        assert!(said.last().unwrap().contains(&reference(&said)), "{said:?}");
        let told = steadfast(&["run", "--base-url", &url, "--key", "order-43", "--payload", &payload, "--json"]);
        let (_, stdout, _) = stopped(told, signal, "(reference ").await;
        let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        // The create's answer is at hand, and is none to the job.
        assert_eq!((&summary["has_answer"], summary["body"].is_null()), (&false.into(), true), "{summary}");

        let world = World::new(slower());
        let with = world.command(&["--payload", &world.file("payload")]);
        let (said, stdout, code) = stopped(with, signal, "→ poll 1").await;
        assert_eq!((stdout.as_str(), code), ("", Some(130)), "{said:?}");
        let last = said.last().unwrap();
        assert!(last.contains(&reference(&said)) && last.contains("run the same command again"), "{said:?}");
        assert!(last.contains(&world.file("journal")), "{said:?}");
        assert_eq!(stages(Path::new(&world.file("journal"))), [Stage::Accepted]);
        let told = world.command(&["--json"]);
        let (said, stdout, code) = stopped(told, signal, "→ poll 1").await;
        assert_eq!(code, Some(130), "{said:?}");
        let failure: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(failure["error"], said.last().unwrap().as_str(), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_journal_could_not_take_is_not_said_to_be_in_it() {
    // Room for one record, by what one takes of the log.
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("journal");
    drop(SqliteStore::open(&path).unwrap());
    let mut store = SqliteStore::open(&path).unwrap();
    store.append(&[entry("order-42", Stage::InFlight)]).unwrap();
    let one = std::fs::metadata(scratch.path().join("journal-wal")).unwrap().len();

    let world = World::new(slower());
    drop(SqliteStore::open(world.file("journal")).unwrap());
    let plain = world.command(&["--payload", &world.file("payload")]);
    let mut narrow = Command::new("sh");
    // Files end at this many blocks of 512 bytes; writing beyond is an error and no signal.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", one.div_ceil(512) + 2);
    narrow.args(["-c", &script]).arg(plain.get_program()).args(plain.get_args());
    narrow.env("DEEPVUE_ACCESS_TOKEN", "token").env("DEEPVUE_CLIENT_SECRET", "secret").stdin(Stdio::null());
    let (said, stdout, code) = stopped(narrow, "-INT", "could not be written: nothing goes until it is").await;
    assert_eq!((stdout.as_str(), code), ("", Some(130)), "{said:?}");
    let last = said.last().unwrap();
    assert!(last.contains("was not written") && !last.contains("the job is in"), "{said:?}");
    assert!(last.contains(&reference(&said)), "{said:?}");
    // The cause, from the log.
    assert!(said.iter().any(|line| line.contains("ERROR") && line.contains("SQLite says")), "{said:?}");
    assert_eq!(stages(Path::new(&world.file("journal"))), [Stage::InFlight]);
}
