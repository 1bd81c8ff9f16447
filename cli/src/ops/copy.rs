//! `ops FILE copy OUT`: a backup, taken while a client writes on, as [`SqliteStore::back_up`] makes it.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use steadfast_store::SqliteStore;
use steadfast_store::sqlite::{BackUpError, MayLock, Problem, iso8601};

use super::TROUBLE;
use super::journal::{Look, now};
use super::row::hex;
use super::words::{argument, day_and_time, name, operations, plain, steps};
use crate::failure;

/// Write a checked copy of the journal, whether its client runs or not: a backup.
///
/// The copy is whole: every row, the chain, the head and SQLite's own structures are verified, and nothing that was
/// durable when copying began is missing (without a FILE-mark that cannot be checked). It is one file, with OUT-mark
/// beside it, and only its owner may read them. A damaged journal is not copied. Until all is verified the copy lies in
/// a directory `.steadfast-…` beside OUT, which is left behind only if this is killed; then OUT-mark may be left
/// without OUT as well, and can be removed.
///
/// To restore it, put it with its mark in the journal's place, remove FILE-wal there (and FILE-mark, if the copy has
/// none), and have the client start with `from_backup()`: what the copy calls planned may have been sent since.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The copy: a file that does not exist yet, in a directory that does.
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Copied {
    /// The copy is not older than this.
    at: String,
    copy: String,
    /// Its mark; `null` if the journal had none that could vouch for it.
    mark: Option<String>,
    operations: u64,
    /// How many steps the journal had taken: records, and operations that it has forgotten.
    sequence: u64,
    /// How far the journal had come: `Watermark::to_bytes` in hex.
    watermark: String,
}

pub(crate) fn copy(look: &Look, args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let (to, now) = (&args.out, now());
    let lock = if look.copy { MayLock::Never } else { MayLock::IfTorn };
    let before = look.stamps();
    let backup = match SqliteStore::back_up(&look.file, to, lock) {
        Ok(backup) => backup,
        Err(BackUpError::Damaged { problems, .. }) => return Ok(damaged(look, &problems, json)),
        Err(BackUpError::Torn { problems, .. }) if !problems.is_empty() && before == look.stamps() => {
            return Ok(damaged(look, &problems, json));
        }
        Err(BackUpError::NotOpened { source, .. }) => return Err(look.cannot(source).into()),
        Err(BackUpError::NotWritten { source, .. }) => {
            return Err(format!("{} could not be written, and nothing is left of it: {source}", name(to)).into());
        }
        Err(why) => return Err(plain(&why.to_string()).into()),
    };
    let copied = Copied {
        at: iso8601(now),
        copy: name(to),
        mark: backup.mark.as_deref().map(name),
        operations: backup.operations,
        sequence: backup.watermark.sequence(),
        watermark: hex(&backup.watermark.to_bytes()),
    };
    if json {
        writeln!(out, "{}", serde_json::to_string(&copied)?)?;
    } else {
        print(look, &copied, &day_and_time(now), out)?;
    }
    if copied.mark.is_none() {
        eprintln!(
            "steadfast: the copy has no mark, since the journal has none that can testify: `steadfast ops {} doctor` tells what that means",
            argument(&look.file)
        );
    }
    Ok(0)
}

fn damaged(look: &Look, problems: &[Problem], json: bool) -> u8 {
    for problem in problems {
        eprintln!("steadfast: damaged: {}\n  {}", plain(&problem.what), problem.advice);
    }
    let what = format!(
        "{} is damaged, and was not copied: to keep what is left, copy FILE, FILE-wal and FILE-mark as they are",
        look.name()
    );
    eprintln!("steadfast: {what}");
    if json {
        let because: Vec<String> =
            problems.iter().map(|problem| format!("{}: {}", problem.what, problem.advice)).collect();
        failure::object(&what, &because);
    }
    TROUBLE
}

fn print(look: &Look, copied: &Copied, at: &str, out: &mut impl Write) -> io::Result<()> {
    let Copied { copy, mark, sequence, .. } = copied;
    let name = look.name();
    // An old log or mark says nothing about the copy.
    let (beside, how) = match mark {
        Some(mark) => (
            format!(", with {mark} beside it"),
            format!("copy {copy} and {mark} to their places, remove {name}-wal if it is there"),
        ),
        None => {
            let what = format!(
                "copy {copy} to its place, remove {name}-wal and {name}-mark if they are there, open it with `SqliteStore::open_backup`"
            );
            (String::new(), what)
        }
    };
    writeln!(
        out,
        "{copy} written{beside}: {}, {} in all, verified, as of {at}.",
        operations(copied.operations),
        steps(*sequence)
    )?;
    writeln!(
        out,
        "To go on from it: {how}, and start the client with `from_backup()` on its builder (`steadfast run --from-backup`), since jobs \
         that the copy calls planned may have been sent meanwhile."
    )
}
