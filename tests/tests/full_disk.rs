//! A whole client on a disk that fills up and is cleared again: a real file, a real limit, real HTTP.
//!
//! The limit on the size of files is a process's own, so the client runs in a child, which is this executable once
//! more. The provider and its ledger are in the parent.

#![cfg(unix)]

use std::env;
use std::process::Command;
use std::sync::Arc;

use rlimit::Resource;
use steadfast_core::Kind;
use steadfast_core::notice::Notice;
use steadfast_testkit::connect::{Connect, job};
use steadfast_testkit::{FakeDeepvue, Keys};
use tokio::sync::Notify;

const SEED: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_that_cannot_be_written_and_all_goes_on_when_there_is_room() {
    let home = tempfile::tempdir().unwrap();
    let server = FakeDeepvue::new(SEED).with_keys(Keys::Ignored).with_speed(10.0).start().unwrap();
    // Told of a full disk by an error, not by a signal.
    let mut child = Command::new("sh");
    child.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    child.args(["--exact", "child", "--ignored", "--nocapture"]).env("PROVIDER", server.base_url());
    child.env("JOURNAL", home.path().join("journal"));
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let ledger = server.ledger();
    for number in [1, 2] {
        assert_eq!(ledger.executions(job(SEED, number).unwrap().0.as_str()).len(), 1, "job {number}");
    }
    // What was refused was not sent: each job left once, the second one when it could be written.
    assert_eq!(server.requests(Kind::Create), 2);
}

fn limit(bytes: u64) {
    let (_, hard) = rlimit::getrlimit(Resource::FSIZE).unwrap();
    rlimit::setrlimit(Resource::FSIZE, bytes.min(hard), hard).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of another, which runs it in a process of its own"]
async fn child() {
    let journal = env::var("JOURNAL").unwrap();
    let connect = Connect {
        base_url: env::var("PROVIDER").unwrap(),
        keys: Keys::Ignored,
        speed: 10.0,
        seed: SEED,
        live: 10,
        journal: Some(journal.clone().into()),
    };
    let (polled, failing) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (polls, failures) = (polled.clone(), failing.clone());
    let client = connect
        .start(move |seen| match &seen.notice {
            Notice::Sending(attempt) if attempt.kind == Kind::Poll => polls.notify_one(),
            Notice::PersistFailed { retry: Some(_), .. } => failures.notify_one(),
            _ => {}
        })
        .await
        .unwrap();
    let (key, payload) = job(SEED, 1).unwrap();
    let under_way = client.submit(key, payload).await.unwrap();
    polled.notified().await;

    // Room for the mark, and none in the log or the file, not even over what they have.
    limit(100);
    let (key, payload) = job(SEED, 2).unwrap();
    let refused = client.submit(key.clone(), payload.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("could not be written to the journal"), "{refused}");
    // Its answer has come, cannot be written, and so is told to nobody; it is tried again and again.
    failing.notified().await;
    failing.notified().await;

    limit(u64::MAX);
    assert_eq!(under_way.await.unwrap().outcome.name(), "completed");
    assert_eq!(client.submit(key, payload).await.unwrap().await.unwrap().outcome.name(), "completed");
}
