//! `ops FILE export`: all operations as JSON lines, to keep or to load elsewhere.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use steadfast_store::sqlite::{Order, Report, Stored, iso8601, part_of};
use tempfile::NamedTempFile;

use super::TROUBLE;
use super::journal::{Look, Opened};
use super::row::{Row, hex};
use super::words::{name, operations, plain};

/// Write all operations as JSON lines, the oldest first, to stdout or a new file.
///
/// The first line says what follows: format, version, the journal's watermark, how many operations. Payloads and
/// answers are left out unless asked for; they are as the client keeps them, so sealed if it seals. If the journal is
/// damaged, this writes what could be read and exits with 1; it writes nothing if the journal cannot be opened, because
/// it is older than its mark, for example.
///
/// A stream with fewer lines than its first line says was cut off, or the journal is damaged. A file gets its name only
/// once everything is written: until then it is called `.steadfast-…`, in the same directory, and is left behind only
/// if this is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to this file, which must not exist yet, and only its owner may read; `-` is stdout.
    #[arg(long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Include the payloads that are kept, in base64. They are personal data.
    #[arg(long)]
    with_payloads: bool,
    /// Include the answers that are kept, their bodies in base64. They are personal data.
    #[arg(long)]
    with_answers: bool,
}

/// The version of the lines' format, which a reader must know.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Header {
    format: &'static str,
    version: u32,
    /// When the journal held this.
    at: String,
    /// How far the journal had come: `Watermark::to_bytes` in hex.
    watermark: String,
    /// How many steps the journal had taken: records, and operations that it has forgotten.
    sequence: u64,
    /// How many lines follow.
    count: u64,
    with_payloads: bool,
    with_answers: bool,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

#[derive(Debug, Serialize)]
struct Answer {
    status: u16,
    body: String,
}

pub(crate) fn export(look: &Look, args: &Args, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let path = args.output.as_deref().filter(|path| path.as_os_str() != "-");
    if let Some(path) = path {
        is_free(path)?;
    }
    let opened = look.open()?;
    let Some(path) = path else { return write(look, opened, args, out) };
    let mut file = BufWriter::new(beside(path)?);
    let failed = |error: io::Error| format!("{} could not be written, and nothing is left of it: {error}", name(path));
    // An error of the journal stays one; it is not blamed on the output file.
    let code = write(look, opened, args, &mut file)
        .map_err(|error| error.downcast().map_or_else(|error| error, |error| failed(*error).into()))?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        ErrorKind::AlreadyExists => taken(path),
        _ => failed(error.error),
    })?;
    // A file whose name a crash could undo is not written.
    sync_directory(path).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })?;
    Ok(code)
}

/// Checks that there is no such file, and that the path does not belong to a journal.
fn is_free(path: &Path) -> Result<(), String> {
    if path.symlink_metadata().is_ok() {
        return Err(taken(path));
    }
    part_of(path).map_or(Ok(()), |journal| {
        let (out, journal) = (name(path), name(&journal));
        Err(format!("{out} would be taken for a part of the journal {journal}: name another file"))
    })
}

/// A file without its final name: half an export must not be taken for a whole one.
fn beside(path: &Path) -> Result<NamedTempFile, String> {
    // Readable by its owner only, as all files of this kind.
    tempfile::Builder::new().prefix(".steadfast-").tempfile_in(directory(path)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            format!("{} cannot be made: there is no such directory: make it first, or name another file", name(path))
        }
        // About the temporary file, not the final one.
        kind => format!("{} cannot be made: {kind}", name(path)),
    })
}

fn taken(path: &Path) -> String {
    format!("{} exists already, and is left as it is: name a new file", name(path))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory(path))?.sync_all() } else { Ok(()) }
}

fn write(look: &Look, opened: Opened, args: &Args, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let Opened { mut store, now, .. } = opened;
    // Verified first, so that the reader of a stream learns of damage at its end.
    let Report { problems, mark, .. } = store.verify()?;
    let (watermark, count) = (store.watermark(), store.count());
    let header = Header {
        format: "steadfast-journal-export",
        version: VERSION,
        at: iso8601(now),
        watermark: hex(&watermark.to_bytes()),
        sequence: watermark.sequence(),
        count,
        with_payloads: args.with_payloads,
        with_answers: args.with_answers,
    };
    writeln!(out, "{}", serde_json::to_string(&header)?)?;
    let (mut written, mut failed) = (0_u64, None);
    store.browse(Order::OldestFirst, |stored| {
        let Ok(stored) = stored else { return ControlFlow::Continue(()) };
        match line(&stored, args, out) {
            Ok(()) => {
                written += 1;
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    for problem in &problems {
        eprintln!("steadfast: damaged: {}\n  {}", plain(&problem.what), problem.advice);
    }
    look.warn_of(mark);
    if problems.is_empty() {
        return Ok(0);
    }
    eprintln!("steadfast: {} of {count} could be written; the export is not the whole journal", operations(written));
    Ok(TROUBLE)
}

fn line(stored: &Stored, args: &Args, out: &mut impl Write) -> io::Result<()> {
    let payload = stored.entry.payload.as_ref().filter(|_| args.with_payloads).map(|bytes| STANDARD.encode(bytes));
    let answer = stored.entry.answer.as_ref().filter(|_| args.with_answers);
    let answer = answer.map(|kept| Answer { status: kept.status, body: STANDARD.encode(&kept.body) });
    serde_json::to_writer(&mut *out, &Line { row: Row::of(stored), payload, answer })?;
    out.write_all(b"\n")
}
