//! `ops FILE purge`: remove what was delivered long ago, after asking.

use std::error::Error;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use steadfast_core::explain::Span;
use steadfast_store::SqliteStore;
use steadfast_store::sqlite::{OpenError, Purge};

use super::journal::{Look, now};
use super::list::duration;
use super::words::operations;

/// Remove operations that were delivered long ago.
///
/// Never one that is under way, or whose outcome nobody took; nor, unless you say so, one that is unresolved and has a reference, since it can still
/// be resumed. A key that is removed is free: whoever submits it again starts a new job. No client may have the journal open; one that runs
/// forgets by itself, after its window (`Limits::remember_for`).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what was delivered and did not change for so long: `24h`, `30d`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Duration,
    /// Also the unresolved that have a reference.
    #[arg(long)]
    unresolved_too: bool,
    /// Only tell how many would go.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Purged {
    dry_run: bool,
    removed: u64,
    would_remove: u64,
    /// Delivered long ago as well, and kept since they can be resumed.
    spared: u64,
}

pub(crate) fn purge(look: &Look, args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let purge = Purge { before: now().saturating_sub(args.older_than), unresolved_too: args.unresolved_too };
    let (would_remove, spared) = count(look, args, purge)?;
    let mut purged = Purged { dry_run: args.dry_run, removed: 0, would_remove, spared };
    if !args.dry_run && would_remove > 0 {
        if !args.yes && !agreed(look, args, would_remove)? {
            eprintln!("steadfast: nothing was removed");
            return Ok(0);
        }
        purged.removed = remove(&mut look.open_to_write()?, purge, would_remove)?;
    }
    if json {
        writeln!(out, "{}", serde_json::to_string(&purged)?)?;
        return Ok(0);
    }
    match (args.dry_run, would_remove) {
        (_, 0) => writeln!(out, "nothing to remove: no operation was delivered over {} ago", Span(args.older_than))?,
        (true, count) => writeln!(out, "{} would be removed", operations(count))?,
        (false, _) => writeln!(out, "{} removed", operations(purged.removed))?,
    }
    if spared > 0 {
        writeln!(
            out,
            "{} spared: unresolved, but to be resumed by reference (--unresolved-too removes them)",
            operations(spared)
        )?;
    }
    Ok(0)
}

/// How many go, and how many are spared. The journal is closed again before anybody is asked.
fn count(look: &Look, args: &Args, purge: Purge) -> Result<(u64, u64), Box<dyn Error>> {
    let mut store = if args.dry_run {
        look.open()?.store
    } else {
        SqliteStore::open_read_only(&look.file).map_err(|why| match why {
            OpenError::Locked => Box::<dyn Error>::from(format!(
                "{} is in use, and only one process may change it: stop its client first, or let the client forget by itself, after its \
                 window; --dry-run counts all the same",
                look.name()
            )),
            why => look.cannot(why).into(),
        })?
    };
    let goes = store.count_purgeable(purge)?;
    let all = store.count_purgeable(Purge { unresolved_too: true, ..purge })?;
    Ok((goes, all.saturating_sub(goes)))
}

fn agreed(look: &Look, args: &Args, count: u64) -> Result<bool, Box<dyn Error>> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(format!(
            "{} would be removed, and there is no terminal to ask at: give --yes to remove them, --dry-run to count them",
            operations(count)
        )
        .into());
    }
    eprint!(
        "Remove {} from {}, delivered over {} ago? Their keys become free. [y/N] ",
        operations(count),
        look.name(),
        Span(args.older_than)
    );
    stderr().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn remove(store: &mut SqliteStore, purge: Purge, count: u64) -> Result<u64, Box<dyn Error>> {
    // Hidden where stderr is no terminal, and too short to be seen if there is little to do.
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} removed, {eta} left") {
        bar.set_style(style);
    }
    let mut gone = 0;
    let removed = store.purge(purge, |count| {
        if gone == 0 {
            // All rows were verified before the first went.
            bar.reset_eta();
        }
        gone = count;
        bar.set_position(count);
    });
    bar.finish_and_clear();
    if removed.is_err() && gone > 0 {
        eprintln!("steadfast: {} were removed before this failed; the others are there", operations(gone));
    }
    Ok(removed?)
}
