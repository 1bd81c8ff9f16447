//! The journal of a `run`: opens it, looks up the key, names it in every error, and reads it again after an
//! interruption.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use steadfast_core::engine::Limits;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Outcome, Reference, Timestamp};
use steadfast_store::sqlite::OpenError;
use steadfast_store::{Entry, SqliteStore, Store as _};
use steadfast_tokio::Unfinished;

use crate::ops::{name, plain};

/// `FILE-mark` is unusable, in words for this command.
const UNMARKED: &str = "FILE-mark beside it is missing or not what was written, so that nothing shows whether the journal has lost its newest records, and \
                        jobs that ran would run again: put FILE-mark back with the FILE-wal of the same moment, or if this is a copy that was put back, \
                        say so with --from-backup";

const IN_USE: &str = "the journal is in use by another process, which carries its jobs, or looks into it: nothing was sent; run this again when it has \
                      ended, and look meanwhile with `steadfast ops FILE`";

/// An error of the journal at this path.
#[derive(Debug)]
struct At {
    path: PathBuf,
    error: Box<dyn Error>,
}

/// Names the path of the journal that an error is about.
pub(super) fn at(path: &Path, error: impl Into<Box<dyn Error>>) -> Box<dyn Error> {
    Box::new(At { path: path.to_owned(), error: error.into() })
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", name(&self.path), self.error)
    }
}

impl Error for At {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Opens the journal, and returns what it knows of the key. Without a payload no journal is created, and the key must
/// be known: otherwise a mistyped file name would run a job again that is in another journal.
pub(super) fn open(
    path: &Path,
    key: &Key,
    has_payload: bool,
    is_backup: bool,
) -> Result<(SqliteStore, Option<Entry>), Box<dyn Error>> {
    let is_new = matches!(SqliteStore::open_read_only(path), Err(OpenError::Missing));
    if is_new && is_backup {
        return Err(at(
            path,
            "there is no journal at this path, and none was made: a backup is one that was put back, so check its name",
        ));
    }
    if is_new && !has_payload {
        let what = "there is no journal at this path, and none was made: check its name; only a job that never ran anywhere begins with --payload";
        return Err(at(path, what));
    }
    let opened = if is_backup { SqliteStore::open_backup(path) } else { SqliteStore::open(path) };
    let mut journal = opened.map_err(|error| match error {
        OpenError::Unmarked { .. } => at(path, UNMARKED),
        OpenError::Locked { .. } => at(path, IN_USE),
        error => at(path, error),
    })?;
    if is_new {
        eprintln!("a new journal was made at {}", name(path));
    }
    let mut known = journal.find(key).map_err(|error| at(path, error))?;
    if journal.is_backup() {
        // As its client will treat it.
        known = known.map(|entry| entry.doubted().unwrap_or(entry));
    }
    if known.is_none() && !has_payload {
        let what = "this journal does not know this key: check both (`steadfast ops FILE` lists its keys); only a job that never ran anywhere begins \
                    with --payload";
        return Err(at(path, what));
    }
    Ok((journal, known))
}

/// Says what is known of a job that is in the journal.
pub(super) fn greet(entry: &Entry) -> String {
    let at = known_as(entry.record.reference.as_ref());
    match entry.record.stage {
        Stage::Planned => "the journal has this job: nothing of it has run, and it goes on".to_owned(),
        Stage::Accepted => format!("the journal has this job: the provider has accepted it{at}, and it is polled on"),
        Stage::Ended(outcome) | Stage::Delivered(outcome) => match outcome {
            Outcome::Unresolved(_) if !at.is_empty() => {
                format!(
                    "the journal has this job: it ended as unresolved, is known to the provider{at}, and is polled on"
                )
            }
            Outcome::Rejected(_) => "the journal has this job: it has ended as rejected: nothing ran, so its key is free, and with a payload it begins anew".to_owned(),
            outcome => format!("the journal has this job: it has ended as {}", outcome.name()),
        },
        _ => "the journal has this job: a create may have run, and it goes on as the provider allows".to_owned(),
    }
}

fn known_as(reference: Option<&Reference>) -> String {
    reference.map(|it| format!(" as {}", plain(it.as_str()))).unwrap_or_default()
}

/// The limits for a client that is asked for this job: it must remember the job itself however long ago it ended, since
/// it would run it again otherwise.
pub(super) fn limits(entry: &Entry, now: Timestamp) -> Limits {
    let limits = Limits::default();
    let age = now.saturating_since(entry.at);
    Limits { remember_for: limits.remember_for.saturating_add(age), ..limits }
}

/// The one-line message about an interrupted job, with its reference, from what the client knew when it stopped and
/// what the journal holds.
pub(super) fn left(path: &Path, key: &Key, known: Option<&Unfinished>) -> String {
    let journal = name(path);
    let reference = known.and_then(|known| known.reference.as_ref());
    let keep = match reference {
        Some(reference) => format!("keep its reference: {}", plain(reference.as_str())),
        None => "ask the provider whether it ran before you run it again elsewhere".to_owned(),
    };
    let held = match look_up(path, key) {
        Ok(held) => held,
        Err(error) => return format!("interrupted: {journal} could not be read again ({error}); {keep}"),
    };
    let is_ahead = |held: &Entry| {
        known.is_some_and(|known| known.stage != held.record.stage || known.reference != held.record.reference)
    };
    match (held, known) {
        (None, Some(known)) if known.stage != Stage::Planned => {
            format!("interrupted: what became of the job was not written, {journal} does not have it; {keep}")
        }
        (None, _) => {
            format!("interrupted: nothing was sent, and {journal} does not have the job; run the same command again")
        }
        (Some(held), Some(known)) if is_ahead(&held) => {
            let (was, has) = (stage(known.stage), stage(held.record.stage));
            format!(
                "interrupted: the last of it was not written: the job was {was}, and {journal} has it as {has}; {keep}"
            )
        }
        (Some(held), _) => {
            let at = known_as(held.record.reference.as_ref());
            format!("interrupted: the job is in {journal}{at}; run the same command again to go on")
        }
    }
}

/// The journal's entry for the key, after its client has closed it.
fn look_up(path: &Path, key: &Key) -> Result<Option<Entry>, Box<dyn Error>> {
    let mut tries = 0;
    let mut journal = loop {
        match SqliteStore::open_read_only(path) {
            // The client has reported what is unfinished, and is about to close the journal.
            Err(OpenError::Locked { .. }) if tries < 100 => {
                tries += 1;
                thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    };
    Ok(journal.look_up(key)?.map(|stored| stored.entry))
}

const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Planned => "planned",
        Stage::InFlight => "in flight",
        Stage::Accepted => "accepted",
        Stage::Ended(_) | Stage::Delivered(_) => "ended",
        _ => "one that may have run",
    }
}

#[cfg(test)]
mod tests {
    use steadfast_testkit::journal_kit::entry;

    use super::*;

    /// A planned create may have been sent since the copy was made.
    #[test]
    fn of_a_backup_it_is_not_said_that_nothing_has_run() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("journal");
        let planned = entry(42, Stage::Planned, 1);
        SqliteStore::open(&path).unwrap().append(std::slice::from_ref(&planned)).unwrap();
        for (is_backup, expected) in [(false, "nothing of it has run"), (true, "a create may have run")] {
            let (_, known) = open(&path, &planned.record.key, false, is_backup).unwrap();
            let said = greet(&known.unwrap());
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_reference_cannot_have_the_terminal_show_what_follows_in_another_order() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("journal");
        let mut accepted = entry(42, Stage::Accepted, 1);
        accepted.record.reference = Reference::new("txn-\u{202e}1-redro").ok();
        SqliteStore::open(&path).unwrap().append(std::slice::from_ref(&accepted)).unwrap();
        for said in [greet(&accepted), left(&path, &accepted.record.key, None)] {
            assert!(said.contains("txn-\\u{202e}1-redro") && !said.contains('\u{202e}'), "{said}");
        }
    }
}
