//! The strict books call out what breaks the protocol, and nothing else.

use std::sync::Arc;

use steadfast_core::operation::Event;
use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Seed, Timestamp};
use steadfast_store::{Entry, Store};
use steadfast_testkit::StrictWire;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// The records of a job that is cancelled before anything left.
fn cancelled(payload: u8) -> [Entry; 2] {
    let (policy, mut gate) = (OperationPolicy::default(), Gate::unlimited());
    let turn = &mut policy.turn(START, &mut gate);
    let (key, fingerprint) = (Key::new("order-42").unwrap(), Fingerprint::new([payload; 16]));
    let mut job = Operation::new(key, fingerprint, Seed::new(7), turn);
    let entry = |job: &Operation| Entry::new(job.record(), Arc::from("deepvue"), START);
    let intent = entry(&job);
    job.handle(Event::Cancel, turn);
    [intent, entry(&job)]
}

/// Whoever is told in vain, since the process dies, may send the payload again as it should be.
#[test]
fn a_rejected_jobs_key_is_free_also_if_nobody_was_told() {
    let wire = StrictWire::new();
    wire.store().append(&cancelled(1)).unwrap();
    wire.store().append(&cancelled(2)).unwrap();
    wire.assert_clean();
}

#[test]
fn no_other_jobs_payload_changes() {
    let wire = StrictWire::new();
    wire.store().append(&cancelled(1)[..1]).unwrap();
    wire.store().append(&cancelled(2)[..1]).unwrap();
    assert_eq!(wire.take_violations().len(), 1);
}
