//! A restart that finds very many accepted operations: how long until it holds them all, and how much memory each
//! takes.
//!
//! The journal is a real file, written by the store itself. All operations are accepted and have references; their next
//! polls are due an hour from now, but for the last one's, which is due at once: once that poll has left, the engine
//! holds all of them and is at work. Time counts from `Builder::start` until then. Memory is what the process has
//! allocated and not given back by then, less what it had before it opened the store; and what the system holds for it
//! (RSS), which includes what loading needed for a moment. UUIDs and hexadecimal digits stand in an operation;
//! other names of more than 22 bytes stand beside it, so it matters which there are.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use serde::Serialize;
use steadfast_core::engine::Limits;
use steadfast_core::operation::Stage;
use steadfast_core::{Fingerprint, Gate, Operation, OperationPolicy, Reference, Seed, Timestamp};
use steadfast_store::{Entry, Store};
use steadfast_tokio::{Client, Outgoing, SendError, Transport};
use tokio::sync::mpsc;

use crate::durable::{Home, Stub};
use crate::measure::{live_bytes, resident_bytes};
use crate::names::Names;

const BATCH: u64 = 10_000;

#[derive(Clone, Debug, Serialize)]
struct Row {
    operations: u64,
    names: Names,
    seconds: f64,
    bytes_per_operation: f64,
    rss_bytes_per_operation: f64,
}

pub fn run(operations: u64, names: Names, json: bool) -> std::io::Result<()> {
    let home = Home::new()?;
    fill(&home, operations, names);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let row = runtime.block_on(resume(&home, operations, names));
    let mut out = std::io::stdout().lock();
    if json {
        return writeln!(out, "{}", serde_json::to_string(&row)?);
    }
    writeln!(
        out,
        "| operations | names | seconds | bytes each | RSS bytes each |\n| ---: | --- | ---: | ---: | ---: |"
    )?;
    let Row { operations, names, seconds, bytes_per_operation, rss_bytes_per_operation } = row;
    let names = names.told();
    writeln!(out, "| {operations} | {names} | {seconds:.2} | {bytes_per_operation:.0} | {rss_bytes_per_operation:.0} |")
}

fn fill(home: &Home, operations: u64, names: Names) {
    let mut store = home.open();
    let (policy, now) = (OperationPolicy::default(), Timestamp::from(std::time::SystemTime::now()));
    let provider: Arc<str> = Arc::from("stub");
    let accepted = |number: u64| {
        let print = Fingerprint::new(u128::from(number).to_le_bytes());
        let gate = &mut Gate::unlimited();
        let turn = &mut policy.turn(now, gate);
        let mut record = Operation::new(names.key(number), print, Seed::new(number), turn).record();
        record.stage = Stage::Accepted;
        record.reference = Some(Reference::new(names.reference(&record.key)).expect("a reference"));
        let wait = if number + 1 == operations { Duration::ZERO } else { Duration::from_secs(3_600) };
        record.due = Some(now.saturating_add(wait));
        Entry::new(record, provider.clone(), now)
    };
    for from in (0..operations).step_by(BATCH as usize) {
        let batch: Vec<_> = (from..operations.min(from + BATCH)).map(accepted).collect();
        store.append(&batch).expect("it is durable");
    }
}

async fn resume(home: &Home, operations: u64, names: Names) -> Row {
    let (bytes, rss) = (live_bytes(), resident_bytes());
    let store = home.open();
    let limits = Limits { live: u32::try_from(operations).unwrap_or(u32::MAX).saturating_add(1), ..Limits::default() };
    let (sent, mut left) = mpsc::unbounded_channel();
    let builder = Client::builder(Stub::polling_first_after(Duration::from_secs(3_600)), Watched(sent));
    let began = Instant::now();
    let client = builder.limits(limits).store(store).start().await.expect("it starts");
    left.recv().await.expect("a poll leaves");
    let seconds = began.elapsed().as_secs_f64();
    let each = |total: u64| total as f64 / operations as f64;
    let row = Row {
        operations,
        names,
        seconds,
        bytes_per_operation: each(live_bytes() - bytes),
        rss_bytes_per_operation: each(resident_bytes().saturating_sub(rss)),
    };
    assert_eq!(client.shutdown(Duration::ZERO).await.len() as u64, operations);
    row
}

/// Tells when a request leaves, and never answers.
struct Watched(mpsc::UnboundedSender<()>);

impl Transport for Watched {
    async fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        let _ = self.0.send(());
        std::future::pending().await
    }
}
