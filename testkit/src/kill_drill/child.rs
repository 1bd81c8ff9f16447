//! The child's side: a client on the journal, which submits the jobs that it is given and reports what becomes of them.
//!
//! Its orders come by standard input: a line of settings, then the numbers of jobs, then a dot when there are no more.
//! If the input ends before the dot, the parent is gone, and the child exits too. Its reports go to standard output,
//! one per line, with a dot at the end to show that the line is complete.

use std::error::Error;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::process;

use steadfast_blocking::UreqTransport;
use steadfast_core::{Key, Reference};
use steadfast_driver::Finished;
use steadfast_tokio::ReqwestTransport;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::{self, JoinSet};

use super::Adapter;
use super::books::NO_REFERENCE;
use super::process::{GRACE, Settings};
use crate::connect::{Connect, job};

type AnyError = Box<dyn Error + Send + Sync>;

/// Runs a child's whole life. Call it from an executable that was started by
/// [`KillDrill::run`](super::KillDrill::run)'s command, on a tokio runtime.
///
/// Returns when all its jobs have ended, and ends the process when the parent is gone.
///
/// # Errors
/// The process was not started by a drill, or its client could not be started.
pub async fn child() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let settings = orders.next_line().await?.ok_or("this is a child of a drill: there is nothing to start by hand")?;
    let Settings { adapter, connect } = serde_json::from_str(&settings)?;
    let seed = connect.seed;
    let client = Client::start(adapter, connect).await?;
    say("ready");
    let mut jobs = JoinSet::new();
    loop {
        let Some(order) = orders.next_line().await? else { process::exit(1) };
        if order == "." {
            break;
        }
        let number = order.parse()?;
        let (key, payload) = job(seed, number)?;
        client.carry(&mut jobs, number, key, payload);
    }
    let orphaned = tokio::spawn(async move { while let Ok(Some(_)) = orders.next_line().await {} });
    tokio::select! {
        _ = jobs.join_all() => {}
        _ = orphaned => process::exit(1),
    }
    say(&format!("left {}", client.shutdown().await?));
    Ok(())
}

enum Client {
    Tokio(steadfast_tokio::Client),
    Blocking(steadfast_blocking::Client),
}

impl Client {
    async fn start(adapter: Adapter, connect: Connect) -> Result<Self, AnyError> {
        Ok(match adapter {
            Adapter::Tokio { shards } => {
                let builder = connect.describe::<_, steadfast_tokio::Client>(ReqwestTransport::new()?, |_| {})?;
                Self::Tokio(builder.shards(shards).start().await?)
            }
            Adapter::Blocking => {
                task::spawn_blocking(|| {
                    let builder = connect.describe::<_, steadfast_blocking::Client>(UreqTransport::new(), |_| {})?;
                    Ok::<_, AnyError>(Self::Blocking(builder.start()?))
                })
                .await??
            }
        })
    }

    /// On a task or a thread of its own.
    fn carry(&self, jobs: &mut JoinSet<()>, number: u64, key: Key, payload: String) {
        match self {
            Self::Tokio(client) => {
                let client = client.clone();
                jobs.spawn(async move {
                    let job = match client.submit(key, payload).await {
                        Ok(job) => job,
                        Err(error) => return refused(number, &error),
                    };
                    say(&format!("taken {number}"));
                    job.await.map_or_else(|stopped| refused(number, &stopped), |finished| ended(number, &finished));
                });
            }
            Self::Blocking(client) => {
                let client = client.clone();
                jobs.spawn_blocking(move || {
                    let job = match client.submit(key, payload) {
                        Ok(job) => job,
                        Err(error) => return refused(number, &error),
                    };
                    say(&format!("taken {number}"));
                    job.wait().map_or_else(|stopped| refused(number, &stopped), |finished| ended(number, &finished));
                });
            }
        }
    }

    /// Returns how many jobs were unfinished.
    async fn shutdown(self) -> Result<usize, AnyError> {
        Ok(match self {
            Self::Tokio(client) => client.shutdown(GRACE).await.len(),
            Self::Blocking(client) => task::spawn_blocking(|| client.shutdown(GRACE).len()).await?,
        })
    }
}

fn refused(number: u64, why: &dyn Error) {
    say(&format!("refused {number} {why}"));
}

fn ended(number: u64, finished: &Finished) {
    let mut body = DefaultHasher::new();
    body.write(finished.body());
    let reference = finished.reference.as_ref().map_or(NO_REFERENCE, Reference::as_str);
    say(&format!("ended {number} {} {reference} {:016x}", finished.outcome.name(), body.finish()));
}

fn say(what: &str) {
    // If nobody reads it, the parent is gone.
    let _ = writeln!(std::io::stdout().lock(), "{what} .");
}
