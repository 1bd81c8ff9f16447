//! What `run` says when its journal cannot be used: which file, why, and what to do.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_an_object_where_one_was_asked_for() {
    let world = World::new(slow());
    let payload = world.file("payload");
    let _held = SqliteStore::open(world.file("journal")).unwrap();
    let wrong: [(&[&str], &str); 4] = [
        (&["--payload", &payload], "the journal is in use"),
        (&["--payload", "/nonexistent"], "cannot be read"),
        (&["--payload", &payload, "--product", "a b"], "product"),
        (&["--payload", &payload, "--provider", "other"], "possible values: deepvue, didit"),
    ];
    for (args, what) in wrong {
        let (plain, output) = (world.run(args).await, world.run(&[args, &["--json"]].concat()).await);
        says(&output, 64, what);
        assert_eq!((plain.stdout.len(), plain.stderr == output.stderr), (0, true), "{plain:?} {output:?}");
        let failure: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(failure["error"].as_str().unwrap().contains(what) && failure["because"].is_array(), "{failure}");
    }
}

/// A part of a journal is none, and a new one in its place would be the end of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_journal_is_made_where_a_part_of_one_belongs() {
    let world = World::new(slow());
    drop(SqliteStore::open(world.file("journal")).unwrap());
    let (url, payload, log) = (world.server.base_url(), world.file("payload"), world.file("journal-wal"));
    let args = ["run", "--base-url", &url, "--key", "order-42", "--journal", &log, "--payload", &payload];
    let mut command = steadfast(&args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    says(&output, 64, &format!("{log}: it belongs to the journal {}: name that one", world.file("journal")));
    assert!(!Path::new(&log).exists());
    assert_eq!(world.server.requests(Kind::Create), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_journal_is_told_who_may() {
    for suffix in ["", "-wal"] {
        let world = World::new(slow());
        let journal = world.file("journal");
        let mut client = SqliteStore::open(&journal).unwrap();
        client.append(&[entry("order-42", Stage::Accepted)]).unwrap();
        let open = |name: &str, mode| {
            std::fs::set_permissions(world.file(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        // As after a crash: its log is there, and nobody has it open.
        for suffix in ["", "-wal", "-mark"] {
            std::fs::copy(format!("{journal}{suffix}"), world.file(&format!("left{suffix}"))).unwrap();
            open(&format!("left{suffix}"), 0o666);
        }
        open(&format!("left{suffix}"), 0o000);
        let may_do_everything = std::fs::read(world.file(&format!("left{suffix}"))).is_ok();
        let (output, left) = (as_another(&world, "left", may_do_everything), world.file("left"));
        says(&output, 64, &format!("this user may not read {left}{suffix}: only its owner can"));
    }
}

/// What a `run` says to another user, if there is one that this one can become.
fn as_another(world: &World, journal: &str, may_become: bool) -> Output {
    // In a place that others can reach.
    std::fs::copy(env!("CARGO_BIN_EXE_steadfast"), world.file("program")).unwrap();
    std::fs::set_permissions(world.home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (url, journal) = (world.server.base_url(), world.file(journal));
    let mut command = Command::new(world.file("program"));
    command.args(["run", "--base-url", &url, "--key", "order-42", "--journal", &journal]).current_dir("/");
    command.env("DEEPVUE_ACCESS_TOKEN", "token").env("DEEPVUE_CLIENT_SECRET", "secret");
    if may_become {
        command.uid(65_534);
    }
    loop {
        match command.output() {
            // Another test's child still holds what was copied just now.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            other => return other.unwrap(),
        }
    }
}

/// Who may read and write it cannot keep others from reading it.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_own_the_journal_is_told_who_must_run_it() {
    let world = World::new(slow());
    let journal = world.file("journal");
    SqliteStore::open(&journal).unwrap().append(&[entry("order-42", Stage::Accepted)]).unwrap();
    std::fs::set_permissions(&journal, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&journal).is_err() {
        return; // This user can become no other one.
    }
    for name in ["journal", "journal-mark"] {
        std::fs::set_permissions(world.file(name), std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    let what = format!(
        "{journal} belongs to another user, and only that one can keep others from reading it: run this as its owner"
    );
    says(&as_another(&world, "journal", true), 64, &what);
    assert_eq!(world.server.requests(Kind::Create), 0);
}

/// A limit on the size of files is a full disk, and no reason to be killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_the_size_of_files_is_said_and_kills_nobody() {
    let world = World::new(slow());
    drop(SqliteStore::open(world.file("journal")).unwrap());
    let plain = world.command(&["--payload", &world.file("payload")]);
    let mut narrow = Command::new("sh");
    narrow.args(["-c", "ulimit -f 2; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    narrow.env("DEEPVUE_ACCESS_TOKEN", "token").env("DEEPVUE_CLIENT_SECRET", "secret").stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || narrow.output().unwrap()).await.unwrap();
    says(&output, 64, "any limit on the size of its files");
    assert_eq!(world.server.requests(Kind::Create), 0);
}
