//! The child's side: a client on the journal, which submits what it is told to and tells what becomes of it.
//!
//! Its orders come by standard input: a line of settings, then the numbers of jobs, then a dot when there are no more. When the input ends
//! before the dot, the parent is gone, and so is the child. What it tells goes to standard output, a line each, with a dot at the end to show that
//! the line is whole.

use std::error::Error;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::process;

use steadfast_core::Reference;
use steadfast_tokio::{Client, Finished};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;

use super::process::GRACE;
use crate::connect::{Connect, job};

/// A child's whole life. Call it from an executable that was started by [`KillDrill::run`](super::KillDrill::run)'s command, on a tokio runtime.
///
/// Returns when all jobs that it was given have ended, and ends the process when the parent is gone.
///
/// # Errors
/// It was started by somebody else, or its client could not be.
pub async fn child() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let settings = orders.next_line().await?.ok_or("this is a child of a drill: there is nothing to start by hand")?;
    let settings: Connect = serde_json::from_str(&settings)?;
    let seed = settings.seed;
    let client = settings.start(|_| {}).await?;
    say("ready");
    let mut jobs = JoinSet::new();
    loop {
        let Some(order) = orders.next_line().await? else { process::exit(1) };
        if order == "." {
            break;
        }
        jobs.spawn(carry(client.clone(), seed, order.parse()?));
    }
    let orphaned = tokio::spawn(async move { while let Ok(Some(_)) = orders.next_line().await {} });
    tokio::select! {
        _ = jobs.join_all() => {}
        _ = orphaned => process::exit(1),
    }
    let left = client.shutdown(GRACE).await;
    say(&format!("left {}", left.len()));
    Ok(())
}

async fn carry(client: Client, seed: u64, number: u64) {
    let Ok((key, payload)) = job(seed, number) else { return };
    let job = match client.submit(key, payload).await {
        Ok(job) => job,
        Err(error) => return say(&format!("refused {number} {error}")),
    };
    say(&format!("taken {number}"));
    match job.await {
        Ok(finished) => say(&ended(number, &finished)),
        Err(error) => say(&format!("refused {number} {error}")),
    }
}

fn ended(number: u64, finished: &Finished) -> String {
    let mut body = DefaultHasher::new();
    body.write(finished.body());
    let reference = finished.reference.as_ref().map_or("-", Reference::as_str);
    format!("ended {number} {} {reference} {:016x}", finished.outcome.name(), body.finish())
}

fn say(what: &str) {
    // Who does not hear it is gone.
    let _ = writeln!(std::io::stdout().lock(), "{what} .");
}
