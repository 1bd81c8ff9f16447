//! `ops FILE purge`: remove what was delivered long ago, after asking.

use std::error::Error;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use steadfast_core::Key;
use steadfast_core::explain::Span;
use steadfast_core::operation::Stage;
use steadfast_store::sqlite::{OpenError, Purge, Stored};
use steadfast_store::{SqliteStore, Store as _};

use super::Trouble;
use super::find;
use super::journal::{Look, now, or_newer};
use super::list::duration;
use super::words::operations;

/// Remove operations that were delivered long ago, or one by its key.
///
/// It never removes an operation that is under way, or whose outcome was not delivered; nor, unless you say so, one
/// that is unresolved, since it may have run. A removed key is free: submitting it again starts a new job. No client
/// may have the journal open; a running client forgets settled operations by itself, after its window
/// (`Limits::remember_for`), and never unresolved ones.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["older_than", "key"])))]
pub(crate) struct Args {
    /// Only operations that were delivered and have not changed for this long: `24h`, `30d`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Also unresolved ones. Ask the provider first whether they ran.
    #[arg(long)]
    unresolved_too: bool,
    /// Only this one, by its key or its label (`'#1b2c3d4e'`), whatever its outcome and age: use it when you know what
    /// became of it and want its key to be free.
    #[arg(long, value_name = "KEY", conflicts_with = "unresolved_too")]
    key: Option<String>,
    /// Only show what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Purged {
    dry_run: bool,
    /// The operation that was asked for, if by key or label.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    removed: u64,
    would_remove: u64,
    /// How many of those removed may have run.
    unresolved: u64,
    /// Old enough as well, but kept since they are unresolved.
    spared: u64,
}

pub(crate) fn purge(look: &Look, args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    if look.copy && !args.dry_run {
        return Err("what is removed would be gone from a copy only: leave --copy out to purge the journal itself, which no client may have open".into());
    }
    if let Some(key) = &args.key {
        return purge_one(look, args, key, json, out);
    }
    let older_than = args.older_than.unwrap_or(Duration::MAX);
    let purge = Purge { before: now().saturating_sub(older_than), unresolved_too: args.unresolved_too };
    let mut purged = count(look, args, purge)?;
    if !args.dry_run && purged.would_remove > 0 {
        if args.yes || asked(&question(look, older_than, &purged), &format!("{}, as --dry-run says", purged.what()))? {
            purged.removed = remove(&mut look.open_to_write()?, purge, purged.would_remove)?;
        } else {
            return nothing_removed(&purged, json, out);
        }
    }
    if json {
        writeln!(out, "{}", serde_json::to_string(&purged)?)?;
        return Ok(0);
    }
    match (args.dry_run, purged.would_remove) {
        (_, 0) => writeln!(out, "nothing to remove: no operation was settled over {} ago", Span(older_than))?,
        (true, _) => {
            let doubt = if purged.unresolved > 0 { ", so they may have run" } else { "" };
            writeln!(out, "{} would be removed{}{doubt}", operations(purged.would_remove), purged.of_them())?
        }
        (false, _) => writeln!(out, "{} removed", operations(purged.removed))?,
    }
    if purged.spared > 0 {
        writeln!(
            out,
            "{} spared: unresolved, so they may have run (--unresolved-too removes them, --key one of them)",
            operations(purged.spared)
        )?;
    }
    Ok(0)
}

impl Purged {
    /// `3 operations, 2 of them unresolved`: what would be removed.
    fn what(&self) -> String {
        format!("{}{}", operations(self.would_remove), self.of_them())
    }

    fn of_them(&self) -> String {
        match self.unresolved {
            0 => String::new(),
            unresolved => format!(", {unresolved} of them unresolved"),
        }
    }
}

/// The user declined.
fn nothing_removed(purged: &Purged, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    if json {
        writeln!(out, "{}", serde_json::to_string(purged)?)?;
    }
    eprintln!("steadfast: nothing was removed");
    Ok(0)
}

/// How many would be removed, and how many are spared. The journal is closed again before the user is asked.
fn count(look: &Look, args: &Args, purge: Purge) -> Result<Purged, Box<dyn Error>> {
    let (mut store, _) = open_to_look(look, args.dry_run)?;
    look.warn_of(store.mark());
    let settled = store.count_purgeable(Purge { unresolved_too: false, ..purge })?;
    let unresolved = store.count_purgeable(Purge { unresolved_too: true, ..purge })?.saturating_sub(settled);
    let (unresolved, spared) = if purge.unresolved_too { (unresolved, 0) } else { (0, unresolved) };
    let would_remove = settled.saturating_add(unresolved);
    Ok(Purged { dry_run: args.dry_run, key: None, removed: 0, would_remove, unresolved, spared })
}

/// Opens the journal without changing anything: it is not created if there is none, nor touched if there is nothing to
/// remove. One that could not be changed afterwards is refused, except for a dry run. Returns whether a client has it
/// open.
fn open_to_look(look: &Look, dry_run: bool) -> Result<(SqliteStore, Option<bool>), Box<dyn Error>> {
    if dry_run {
        let opened = look.open()?;
        return Ok((opened.store, opened.in_use));
    }
    SqliteStore::open_read_only(&look.file).map(|store| (store, Some(false))).map_err(|why| match why {
        OpenError::Locked { .. } => format!(
            "{} is in use, and only one process may change it: stop its client first, or let the client forget by itself, after its \
             window; --dry-run tells what would go all the same",
            look.name()
        )
        .into(),
        // A read-only copy can be read, but purging it frees nothing.
        OpenError::ReadOnly | OpenError::ReadOnlyUnclosed => {
            let name = look.name();
            format!(
                "{name}: the journal is read-only: give this user write access to it, to {name}-wal and {name}-mark, and to their directory; \
                 --dry-run tells what would go all the same"
            )
            .into()
        }
        why => look.cannot(why).into(),
    })
}

/// Removes one operation, if it was delivered.
fn purge_one(look: &Look, args: &Args, key: &str, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let asked_for = Key::new(key)?;
    let (mut store, in_use) = open_to_look(look, args.dry_run)?;
    let found = find::named(&mut store, &asked_for)?;
    // As with --older-than, the journal is closed while the user thinks.
    let mark = store.mark();
    drop(store);
    let Some(stored) = found else {
        let or_newer = or_newer(mark);
        let what = format!("{} holds no operation of this key{or_newer}: `ops FILE list` shows its keys", look.name());
        return Err(Trouble(what).into());
    };
    look.warn_of(mark);
    let key = &stored.entry.record.key;
    let outcome = match stored.entry.record.stage {
        Stage::Delivered(outcome) => outcome.name(),
        Stage::Ended(_) => {
            let what = "has ended, and nobody has its outcome yet: `client.resume(key)`, or `steadfast run` with its key and this journal, takes it";
            return Err(format!("{} {what}", key.as_str()).into());
        }
        _ => {
            let what = match in_use {
                Some(true) => "its client has the journal open, and carries it on",
                Some(false) => "start its client, which carries it on",
                None => "make sure that its client runs, which a copy cannot show",
            };
            return Err(format!("{} is under way: {what}", key.as_str()).into());
        }
    };
    let mut purged = Purged {
        dry_run: args.dry_run,
        key: Some(key.as_str().to_owned()),
        removed: 0,
        would_remove: 1,
        unresolved: u64::from(stored.is_unresolved()),
        spared: 0,
    };
    if !args.dry_run {
        if !args.yes && !asked(&format!("Remove {}, {outcome}? Its key becomes free.", key.as_str()), "it")? {
            return nothing_removed(&purged, json, out);
        }
        if !remove_one(look, &stored)? {
            let what = format!("nothing was removed: {} has changed meanwhile, so look at it again", key.as_str());
            return Err(Trouble(what).into());
        }
        purged.removed = 1;
    }
    if json {
        writeln!(out, "{}", serde_json::to_string(&purged)?)?;
    } else if args.dry_run {
        writeln!(out, "1 operation would be removed: {}, {outcome}", key.as_str())?;
    } else {
        writeln!(out, "1 operation removed: {}, {outcome}", key.as_str())?;
    }
    Ok(0)
}

/// Removes it if it is still as it was seen: the user agreed to no more than that. Returns whether it did.
fn remove_one(look: &Look, seen: &Stored) -> Result<bool, Box<dyn Error>> {
    let key = &seen.entry.record.key;
    let mut store = look.open_to_write()?;
    let is_same = store.find(key)?.is_some_and(|entry| entry == seen.entry);
    Ok(is_same && store.purge_one(key)?)
}

fn question(look: &Look, older_than: Duration, purged: &Purged) -> String {
    let (name, span) = (look.name(), Span(older_than));
    let doubt = if purged.unresolved > 0 { " Ask the provider first whether those ran." } else { "" };
    let (count, unresolved) = (operations(purged.would_remove), purged.of_them());
    format!("Remove {count} from {name}, delivered over {span} ago{unresolved}? Their keys become free.{doubt}")
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
    // Hidden if stderr is not a terminal, and gone at once if there is little to do.
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} removed, {eta} left") {
        bar.set_style(style);
    }
    let mut gone = 0;
    let removed = store.purge(purge, |count| {
        if gone == 0 {
            // All rows are verified before the first is removed; the estimate starts here.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use steadfast_core::operation::{Completed, Unresolved};
    use steadfast_core::{Fingerprint, Gate, Operation, OperationPolicy, Outcome, Seed, Timestamp};
    use steadfast_store::Entry;

    use super::*;

    #[test]
    fn whoever_is_asked_is_told_how_many_may_have_run() {
        let look = Look { file: "jobs.db".into(), copy: false };
        let asked = |unresolved| {
            let purged = Purged { dry_run: false, key: None, removed: 0, would_remove: 3, unresolved, spared: 0 };
            question(&look, Duration::from_secs(3_600), &purged)
        };
        assert_eq!(asked(0), "Remove 3 operations from jobs.db, delivered over 1 h ago? Their keys become free.");
        assert_eq!(
            asked(2),
            "Remove 3 operations from jobs.db, delivered over 1 h ago, 2 of them unresolved? Their keys become free. \
             Ask the provider first whether those ran."
        );
    }

    #[test]
    fn what_has_changed_since_it_was_seen_stays() {
        let home = tempfile::tempdir().unwrap();
        let look = Look { file: home.path().join("journal"), copy: false };
        let (now, policy) = (Timestamp::from_secs(1), OperationPolicy::default());
        let gate = &mut Gate::unlimited();
        let turn = &mut policy.turn(now, gate);
        let mut record =
            Operation::new(Key::new("order-1").unwrap(), Fingerprint::new([7; 16]), Seed::new(7), turn).record();
        let mut ended = |outcome| {
            record.stage = Stage::Delivered(outcome);
            Entry::new(record.clone(), Arc::from("deepvue"), now)
        };
        let [unresolved, completed] =
            [Outcome::Unresolved(Unresolved::Ambiguous), Outcome::Completed(Completed::Ready)].map(&mut ended);
        let key = unresolved.record.key.clone();
        let store = || look.open_to_write().unwrap();
        store().append(&[unresolved]).unwrap();
        let seen = store().look_up(&key).unwrap().unwrap();
        // Meanwhile somebody polled on, and the outcome is known now.
        store().append(&[completed]).unwrap();
        assert!(!remove_one(&look, &seen).unwrap());
        let seen = store().look_up(&key).unwrap().unwrap();
        assert!(remove_one(&look, &seen).unwrap());
        assert_eq!(store().count(), 0);
    }
}
