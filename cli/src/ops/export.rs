//! `ops FILE export`: all operations as JSON lines, to keep or to load elsewhere.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use steadfast_store::sqlite::{Order, Stored, iso8601};

use super::TROUBLE;
use super::journal::{Look, Opened};
use super::row::{Row, hex};
use super::words::{operations, plain};

/// Write all operations as JSON lines, the oldest first, to stdout or a new file.
///
/// The first line says what follows: format, version, the journal's watermark, how many operations. Payloads and answers are left out unless
/// asked for; they are as the client keeps them, so sealed if it seals. Exits with 1 if the journal is damaged; what could be read is written then.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to this file, which must not exist yet, and only its owner may read.
    #[arg(long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// With the payloads that are kept, in base64. They are personal data.
    #[arg(long)]
    with_payloads: bool,
    /// With the answers that are kept, their bodies in base64. They are personal data.
    #[arg(long)]
    with_answers: bool,
}

/// The version of the lines' format: what a reader must know.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Header {
    format: &'static str,
    version: u32,
    /// When the journal held this.
    at: String,
    /// How far the journal had come, as `Watermark::to_bytes` says it, in hex.
    watermark: String,
    /// How many records the journal had taken.
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
    let opened = look.open()?;
    let Some(path) = &args.output else { return write(opened, args, out) };
    let file = create(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!("{} exists already, and is left as it is: name a new file", path.display()),
        _ => format!("{} cannot be made: {error}", path.display()),
    })?;
    let mut file = BufWriter::new(file);
    let written = write(opened, args, &mut file)
        .and_then(|code| file.flush().and_then(|()| file.get_ref().sync_all()).map(|()| code).map_err(Box::from));
    written.map_err(|error| {
        // Half an export would be taken for a whole one.
        let _ = fs::remove_file(path);
        format!("{} could not be written, and was removed: {error}", path.display()).into()
    })
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write(opened: Opened, args: &Args, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let Opened { mut store, now, .. } = opened;
    // First, so that whoever reads a stream learns of damage at its end, and not never.
    let problems = store.verify()?.problems;
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
    if problems.is_empty() {
        return Ok(0);
    }
    eprintln!("steadfast: {} of {count} could be written; the export is not the whole journal", operations(written));
    Ok(TROUBLE)
}

fn line(stored: &Stored, args: &Args, out: &mut impl Write) -> std::io::Result<()> {
    let payload = stored.entry.payload.as_ref().filter(|_| args.with_payloads).map(|bytes| STANDARD.encode(bytes));
    let answer = stored.entry.answer.as_ref().filter(|_| args.with_answers);
    let answer = answer.map(|kept| Answer { status: kept.status, body: STANDARD.encode(&kept.body) });
    serde_json::to_writer(&mut *out, &Line { row: Row::of(stored), payload, answer })?;
    out.write_all(b"\n")
}
