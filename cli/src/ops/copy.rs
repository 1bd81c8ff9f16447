//! `ops FILE copy OUT`: a backup, taken while a client writes on.
//!
//! As the store's own copies are: mark, file and log are copied in this order, since the mark only tells of what was durable before it was written; and
//! what is torn, made of pages of different moments, is not prevented but found, and thrown away. Everything is verified, the log is brought into the file,
//! and only then do the files get their names, the journal's own last: what has that name is whole.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use steadfast_core::Key;
use steadfast_store::sqlite::{OpenError, Problem, Watermark, iso8601};
use steadfast_store::{SqliteStore, Store as _};
use tempfile::{TempDir, TempPath};

use super::TROUBLE;
use super::journal::{Look, now};
use super::row::hex;
use super::words::{day_and_time, operations, plain};

/// Write a checked copy of the journal, whether its client runs or not: a backup.
///
/// The copy is whole: every row, the chain, the head and SQLite's own structures were verified, and nothing that was durable when copying began is
/// missing (without a FILE-mark nothing can tell that). It is one file, with OUT-mark beside it, and only its owner may read them. A journal that is damaged is not copied. Until all is
/// verified the copy lies in a directory `.steadfast-…` beside OUT, which is left behind only if this is killed.
///
/// To go on from it, put it with its mark in the journal's place, remove FILE-wal there (and FILE-mark, if the copy has none), and have the client begin with
/// `from_backup()`: what the copy calls planned may have been sent since.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The copy: a file that does not exist yet, in a directory that does.
    out: PathBuf,
}

/// How many copies are taken at most until one is whole.
const TRIES: u32 = 20;

/// So many that are not whole while nobody has the journal open are damage: a client that came and went can only be behind one.
const CALM_TRIES: u32 = 2;

/// A log's header: its salts change whenever it is begun anew.
const LOG_HEADER: u64 = 32;

#[derive(Debug, Serialize)]
struct Copied {
    /// The copy is not older than this.
    at: String,
    copy: String,
    /// Its mark; `null` if the journal had none that could testify.
    mark: Option<String>,
    operations: u64,
    /// How many records the journal had taken.
    sequence: u64,
    /// How far the journal had come, as `Watermark::to_bytes` says it, in hex.
    watermark: String,
}

pub(crate) fn copy(look: &Look, args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let (to, mark) = (&args.out, beside(&args.out, "-mark"));
    let name = |path: &Path| plain(&path.display().to_string()).into_owned();
    is_free(to)?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !directory.is_dir() {
        let what = "there is no such directory: make it first, or name another file";
        return Err(format!("{} cannot be made: {what}", name(to)).into());
    }
    // Nobody is locked out as long as nothing is wrong, and with --copy in no case.
    let may_change_now = || if look.copy { Ok(true) } else { may_change(look) };
    let (now, mut may_change) = (now(), true);
    let (mut tries, mut calm_tries) = (0, 0);
    let whole = loop {
        let failed =
            |error: io::Error| format!("{} could not be written, and nothing is left of it: {error}", name(to));
        let problems = match take(look, directory)? {
            Taken::Whole(whole) => break whole,
            Taken::NotWritten(error) => return Err(failed(error).into()),
            Taken::Torn(problems) => problems,
        };
        tries += 1;
        let could_change = std::mem::replace(&mut may_change, may_change_now()?);
        calm_tries = if could_change || may_change { 0 } else { calm_tries + 1 };
        if calm_tries == CALM_TRIES {
            for problem in &problems {
                eprintln!("steadfast: {problem}");
            }
            eprintln!(
                "steadfast: {} is damaged, and was not copied: to keep what is left, copy FILE, FILE-wal and FILE-mark as they are",
                look.name()
            );
            return Ok(TROUBLE);
        }
        if tries == TRIES {
            return Err(format!(
                "none of {TRIES} copies of {} was whole: its client changes it faster than it is copied, or it is damaged; name a file on a \
                 faster disk, or stop its client and copy again",
                look.name()
            )
            .into());
        }
    };
    let has_mark = whole.has_mark;
    let copied = Copied {
        at: iso8601(now),
        copy: name(to),
        mark: has_mark.then(|| name(&mark)),
        operations: whole.operations,
        sequence: whole.sequence,
        watermark: whole.watermark.clone(),
    };
    whole.name(to, &mark, directory).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(to),
        _ => format!("{} could not be written, and nothing is left of it: {error}", name(to)),
    })?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&copied)?)?;
    } else {
        print(look, &copied, &day_and_time(now), out)?;
    }
    if !has_mark {
        eprintln!(
            "steadfast: the copy has no mark, since the journal has none that can testify: `steadfast ops {} doctor` tells what that means",
            look.name()
        );
    }
    Ok(0)
}

fn print(look: &Look, copied: &Copied, at: &str, out: &mut impl Write) -> io::Result<()> {
    let Copied { copy, mark, sequence, .. } = copied;
    let name = look.name();
    // What an old log or mark says is not of the copy.
    let (beside, steps) = match mark {
        Some(mark) => (
            format!(", with {mark} beside it"),
            format!("copy {copy} and {mark} to their places, remove {name}-wal if it is there"),
        ),
        None => {
            let steps = format!(
                "copy {copy} to its place, remove {name}-wal and {name}-mark if they are there, open it with `SqliteStore::open_backup`"
            );
            (String::new(), steps)
        }
    };
    writeln!(
        out,
        "{copy} written{beside}: {}, {sequence} records in all, verified, as of {at}.",
        operations(copied.operations)
    )?;
    writeln!(
        out,
        "To go on from it: {steps}, and start the client with `from_backup()` on its builder, since jobs \
         that the copy calls planned may have been sent meanwhile."
    )
}

/// What came of copying the files once.
enum Taken {
    Whole(Whole),
    /// Pages of different moments, or damage: what is wrong.
    Torn(Vec<String>),
    NotWritten(io::Error),
}

/// A copy that was verified, closed and not yet given its name.
struct Whole {
    home: TempDir,
    has_mark: bool,
    operations: u64,
    sequence: u64,
    watermark: String,
}

/// Whether it may change while it is copied: a client has it open, or nobody can tell. What cannot be opened at all is said here.
fn may_change(look: &Look) -> Result<bool, Box<dyn Error>> {
    match SqliteStore::open_read_only(&look.file) {
        Ok(_) => Ok(false),
        // Without write access there is no lock to ask for, and to read is enough.
        Err(OpenError::Locked | OpenError::ReadOnly | OpenError::ReadOnlyUnclosed) => Ok(true),
        Err(why) => Err(look.cannot(why).into()),
    }
}

fn take(look: &Look, directory: &Path) -> Result<Taken, Box<dyn Error>> {
    let home = match tempfile::Builder::new().prefix(".steadfast-").tempdir_in(directory) {
        Ok(home) => home,
        Err(error) => return Ok(Taken::NotWritten(error)),
    };
    let staged = home.path().join("journal");
    let from = |suffix| beside(&look.file, suffix);
    let read = |error: io::Error| -> Box<dyn Error> { look.cannot(error.into()).into() };

    let log = from("-wal");
    let Some(mut file) = opened(&look.file).map_err(read)? else { return Err(look.cannot(OpenError::Missing).into()) };
    let mark = read_mark(&from("-mark")).map_err(read)?;
    if let Some(mark) = &mark
        && let Err(error) = fs::write(beside(&staged, "-mark"), mark.to_bytes())
    {
        return Ok(Taken::NotWritten(error));
    }
    let before = header(&log).map_err(read)?;
    if let Err(error) = put(&mut file, &staged) {
        return Ok(Taken::NotWritten(error));
    }
    if let Some(mut log) = opened(&log).map_err(read)?
        && let Err(error) = put(&mut log, &beside(&staged, "-wal"))
    {
        return Ok(Taken::NotWritten(error));
    }
    let copied = header(&beside(&staged, "-wal")).map_err(read)?;
    if before != copied || before != header(&log).map_err(read)? {
        return Ok(Taken::Torn(Vec::new()));
    }
    close(look, home, &staged, mark.is_some())
}

/// Verifies a copy, and makes one file of it.
fn close(look: &Look, home: TempDir, staged: &Path, has_mark: bool) -> Result<Taken, Box<dyn Error>> {
    let torn = |why: OpenError| match why {
        why @ OpenError::Damaged(_) => Ok(Taken::Torn(vec![why.to_string()])),
        OpenError::Io(error) => Ok(Taken::NotWritten(error)),
        // There is no room, say.
        why @ OpenError::Sqlite(_) => Ok(Taken::NotWritten(io::Error::other(why))),
        why => Err(look.cannot(why).into()),
    };
    // First so, since who opens to write would make a journal of an empty file, and a new one of an old one.
    let mut store = match SqliteStore::open_read_only(staged).map(drop).and_then(|()| SqliteStore::open_backup(staged))
    {
        Ok(store) => store,
        Err(why) => return torn(why),
    };
    let report = store.verify()?;
    if !report.problems.is_empty() {
        let problem = |it: &Problem| format!("damaged: {}\n  {}", plain(&it.what), it.advice);
        return Ok(Taken::Torn(report.problems.iter().map(problem).collect()));
    }
    // The log is brought into a file whose rows were all found whole by whoever may write it; which one is asked for is all the same.
    store.find(&Key::new("any")?)?;
    let (watermark, operations) = (store.watermark(), store.count());
    drop(store);
    let mark = beside(staged, "-mark");
    let finish = || -> io::Result<()> {
        if beside(staged, "-wal").exists() {
            return Err(io::Error::other("its log could not be brought into the file: is there no room?"));
        }
        if has_mark {
            // What was copied may be a little behind.
            fs::write(&mark, watermark.to_bytes())?;
            File::open(&mark)?.sync_all()?;
        }
        File::open(staged)?.sync_all()
    };
    Ok(match finish() {
        Ok(()) => {
            let (sequence, watermark) = (watermark.sequence(), hex(&watermark.to_bytes()));
            Taken::Whole(Whole { home, has_mark, operations, sequence, watermark })
        }
        Err(error) => Taken::NotWritten(error),
    })
}

impl Whole {
    /// Gives the files their names, the journal's own last. Overwrites nothing.
    fn name(self, to: &Path, mark: &Path, directory: &Path) -> io::Result<()> {
        let named = |from: &str, to: &Path| {
            TempPath::try_from_path(self.home.path().join(from))?.persist_noclobber(to).map_err(|failed| failed.error)
        };
        if self.has_mark {
            named("journal-mark", mark)?;
        }
        named("journal", to).inspect_err(|_| {
            if self.has_mark {
                // A mark alone would say that its journal was lost.
                let _ = fs::remove_file(mark);
            }
        })?;
        if cfg!(unix) {
            // What a crash could undo is not written.
            File::open(directory).and_then(|directory| directory.sync_all()).inspect_err(|_| {
                let _ = fs::remove_file(to);
                if self.has_mark {
                    let _ = fs::remove_file(mark);
                }
            })?;
        }
        Ok(())
    }
}

/// That nothing has its name, nor what SQLite would take for a part of it.
fn is_free(to: &Path) -> Result<(), String> {
    for suffix in ["", "-mark", "-wal", "-journal", "-shm"] {
        let taken = beside(to, suffix);
        if taken.symlink_metadata().is_ok() {
            return Err(exists(&taken));
        }
    }
    Ok(())
}

fn exists(path: &Path) -> String {
    let name = path.display().to_string();
    format!("{} exists already, and is left as it is: name a new file", plain(&name))
}

/// The file of this name that belongs to the journal.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn opened(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// What the mark testifies, if it does. One that is being written just now may be half of each; one that stays so says nothing.
fn read_mark(path: &Path) -> io::Result<Option<Watermark>> {
    for _ in 0..3 {
        let Some(mut file) = opened(path)? else { return Ok(None) };
        let mut bytes = [0; Watermark::LENGTH];
        match file.read_exact(&mut bytes).map(|()| Watermark::from_bytes(&bytes)) {
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            other => return other,
        }
    }
    Ok(None)
}

fn header(log: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(log) = opened(log)? {
        log.take(LOG_HEADER).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn put(from: &mut File, to: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(to).and_then(|mut to| io::copy(from, &mut to)).map(drop)
}
