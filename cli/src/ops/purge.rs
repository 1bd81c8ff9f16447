//! `ops FILE purge`: remove what was delivered long ago, after asking.

use std::error::Error;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use steadfast_core::Key;
use steadfast_core::explain::Span;
use steadfast_core::operation::Stage;
use steadfast_store::sqlite::{OpenError, Purge};
use steadfast_store::{SqliteStore, Store as _};

use super::TROUBLE;
use super::journal::{Look, now};
use super::list::duration;
use super::words::operations;

/// Remove operations that were delivered long ago, or one by its key.
///
/// Never one that is under way, or whose outcome nobody took; nor, unless you say so, one that is unresolved, since it may have run. A key that is
/// removed is free: whoever submits it again starts a new job. No client may have the journal open; one that runs forgets by itself what is
/// settled, after its window (`Limits::remember_for`), and never what is unresolved.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["older_than", "key"])))]
pub(crate) struct Args {
    /// Only what was delivered and did not change for so long: `24h`, `30d`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Also the unresolved. Ask the provider first whether they ran.
    #[arg(long)]
    unresolved_too: bool,
    /// Only this one, however it ended and however long ago: you know what became of it, and its key shall be free.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["unresolved_too", "dry_run"])]
    key: Option<String>,
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
    /// Delivered long ago as well, and kept since they are unresolved.
    spared: u64,
}

pub(crate) fn purge(look: &Look, args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    if look.copy && !args.dry_run {
        return Err("what is removed would be gone from a copy only: leave --copy out to purge the journal itself, which no client may have open".into());
    }
    if let Some(key) = &args.key {
        return purge_one(look, key, args.yes, json, out);
    }
    let older_than = args.older_than.unwrap_or(Duration::MAX);
    let purge = Purge { before: now().saturating_sub(older_than), unresolved_too: args.unresolved_too };
    let (would_remove, spared) = count(look, args, purge)?;
    let mut purged = Purged { dry_run: args.dry_run, removed: 0, would_remove, spared };
    if !args.dry_run && would_remove > 0 {
        if !args.yes && !agreed(look, older_than, would_remove)? {
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
        (_, 0) => writeln!(out, "nothing to remove: no operation was settled over {} ago", Span(older_than))?,
        (true, count) => writeln!(out, "{} would be removed", operations(count))?,
        (false, _) => writeln!(out, "{} removed", operations(purged.removed))?,
    }
    if spared > 0 {
        writeln!(
            out,
            "{} spared: unresolved, so they may have run (--unresolved-too removes them, --key one of them)",
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

/// Removes one operation, if it was delivered.
fn purge_one(look: &Look, key: &str, yes: bool, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let key = Key::new(key)?;
    let mut store = look.open_to_write()?;
    let Some(entry) = store.find(&key)? else {
        eprintln!("steadfast: {} holds no operation of this key: `ops FILE list` shows its keys", look.name());
        return Ok(TROUBLE);
    };
    let outcome = match entry.record.stage {
        Stage::Delivered(outcome) => outcome.name(),
        _ => return Err("this operation is under way, or nobody has its outcome yet: start its client".into()),
    };
    if !yes && !asked(&format!("Remove {}, {outcome}? Its key becomes free.", key.as_str()), "it")? {
        eprintln!("steadfast: nothing was removed");
        return Ok(0);
    }
    let removed = u64::from(store.purge_one(&key)?);
    if json {
        let purged = Purged { dry_run: false, removed, would_remove: removed, spared: 0 };
        writeln!(out, "{}", serde_json::to_string(&purged)?)?;
    } else {
        writeln!(out, "{} removed", operations(removed))?;
    }
    Ok(0)
}

fn agreed(look: &Look, older_than: Duration, count: u64) -> Result<bool, Box<dyn Error>> {
    let (count, name, span) = (operations(count), look.name(), Span(older_than));
    asked(
        &format!("Remove {count} from {name}, delivered over {span} ago? Their keys become free."),
        &format!("{count}, as --dry-run says"),
    )
}

fn asked(question: &str, what: &str) -> Result<bool, Box<dyn Error>> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(format!("there is no terminal to ask at: give --yes to remove {what}").into());
    }
    eprint!("{question} [y/N] ");
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
