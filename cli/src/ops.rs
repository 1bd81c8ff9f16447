//! `steadfast ops`: look into a client's journal, check its health, copy it, export its contents, and remove what is
//! old.
//!
//! Nothing but `purge` changes the journal. A journal that a client has open is looked at by a copy ([`journal`]), so
//! that the client is never disturbed. Keys and references are shown, since an operator needs them; payloads and
//! answers only when asked for by name.

mod copy;
mod doctor;
mod export;
mod find;
mod journal;
mod list;
mod purge;
mod row;
mod show;
mod words;

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::failure;

pub(crate) use self::list::duration;
pub(crate) use self::words::{argument, name, plain};

/// Look into a journal: list its operations, show one, check its health, copy or export it, or remove what is old.
///
/// Without a command it lists. A journal that a client has open is copied to a private temporary directory (TMPDIR),
/// and the copy is looked at; one that nobody has open is locked while it is looked at, so no client can open it
/// meanwhile (`--copy` avoids that).
///
/// Exit codes: 0 done, and with `doctor` all is well; 1 the journal or a row of it that was read is damaged, it could
/// not be read or written to the end (on a full disk, for example), or there is no such key (only `doctor`, `export`
/// and `copy` verify the whole journal, so 0 from another command says nothing about rows that it did not read); 2
/// (`doctor` only) the files are what was written, but some operations need a person, or FILE-mark cannot tell whether
/// records are lost; 64 called wrongly, or the journal could not be opened.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The journal: the file that the client was given.
    file: PathBuf,
    #[command(flatten)]
    list: list::Filters,
    /// Print one JSON object instead of text, also of a failure: {"error": …, "because": […]}. `export` prints JSON
    /// lines in any case.
    #[arg(long, global = true)]
    json: bool,
    /// Look at a copy even if nobody has the journal open, so that a client can open it meanwhile. Not with `purge`,
    /// unless it is a --dry-run.
    #[arg(long, global = true)]
    copy: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Filters),
    Show(show::Args),
    /// Check the files, and find the operations that need a person
    ///
    /// Verifies every row, the chain, head, mark and SQLite's own structures; then lists what is unresolved, what was
    /// due over five minutes ago, and what ended over an hour ago and whose outcome was not delivered. Changes nothing.
    ///
    /// With `--copy` it cannot be told whether a client is running, and a running client writes no record for each
    /// poll: then accepted operations are never called overdue.
    Doctor,
    Export(export::Args),
    Copy(copy::Args),
    Purge(purge::Args),
    /// Any other word.
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

/// There is damage, or there is no such key.
const TROUBLE: u8 = 1;
/// Some operations, or the mark, need a person.
const NEEDS_A_PERSON: u8 = 2;

pub(crate) fn ops(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let Args { file, list, json, copy, command } = args;
    if command.is_some() && list != list::Filters::default() {
        return Err("filters go behind the command that they are for, as in `ops FILE list --unresolved`".into());
    }
    let look = journal::Look { file, copy };
    let mut out = Out { stdout: BufWriter::new(io::stdout().lock()), begun: false, failed: None };
    let done = match command {
        None => list::list(&look, &list, json, &mut out),
        Some(Command::List(filters)) => list::list(&look, &filters, json, &mut out),
        Some(Command::Show(args)) => show::show(&look, args, json, &mut out),
        Some(Command::Doctor) => doctor::doctor(&look, json, &mut out),
        Some(Command::Export(args)) => export::export(&look, &args, &mut out),
        Some(Command::Copy(args)) => copy::copy(&look, &args, json, &mut out),
        Some(Command::Purge(args)) => purge::purge(&look, &args, json, &mut out),
        Some(Command::Unknown(words)) => return Err(unknown(&words).into()),
    };
    let done = done.and_then(|code| out.flush().map(|()| code).map_err(Box::from));
    if let Some(error) = out.failed {
        // The rest is dropped: writing it would only fail again.
        drop(out.stdout.into_parts());
        crate::stdout_failed(&error);
    }
    match done {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            // Behind the first lines of an export, the object would be taken for another line.
            failure::tell(&*error, json && !out.begun);
            Ok(ExitCode::from(if is_trouble(&*error) { TROUBLE } else { crate::USAGE }))
        }
    }
}

/// The call was right, but what it asked for is not there.
#[derive(Debug)]
struct Trouble(String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Trouble {}

/// The standard output, which notes its own failures: they are handled differently from those of files and terminals.
struct Out<W: Write> {
    stdout: BufWriter<W>,
    /// Something was printed.
    begun: bool,
    failed: Option<io::Error>,
}

impl<W: Write> Out<W> {
    fn noting<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        // An interrupted write is tried again.
        done.inspect_err(|error| {
            let kind = error.kind();
            if kind == io::ErrorKind::Interrupted {
                return;
            }
            self.failed = Some(error.raw_os_error().map_or_else(|| kind.into(), io::Error::from_raw_os_error));
        })
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun = true;
        let done = self.stdout.write(bytes);
        self.noting(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.stdout.flush();
        self.noting(done)
    }
}

/// An error that lists the commands, in the order of the help.
fn unknown(words: &[OsString]) -> String {
    let commands = Command::augment_subcommands(clap::Command::new("ops"));
    let names: Vec<&str> = commands.get_subcommands().map(clap::Command::get_name).collect();
    let word = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    format!("`ops FILE {}` is no command: name one of {}", plain(&word), names.join(", "))
}

/// Whether the failure came after opening the journal: then it is damage, no such key, or a failing disk.
fn is_trouble(error: &(dyn Error + 'static)) -> bool {
    let opening = error.downcast_ref::<journal::CannotOpen>();
    opening.is_some_and(|error| error.is_damage) || error.is::<steadfast_store::StoreError>() || error.is::<Trouble>()
}
