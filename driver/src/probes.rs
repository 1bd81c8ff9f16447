//! How long a half-open breaker waits for a probe: never for a shorter time than a request has.
//!
//! A probe's place goes to another when its lease ends, and what comes of it after that no longer counts. So of a
//! provider that is well, and takes longer than that, no probe would ever count: the breaker would stay half-open, and
//! let one request go in all that time.

use std::mem;

use steadfast_core::gate::{Gate, GatePolicy};
use steadfast_core::operation::OperationPolicy;

/// The gate, with probes that last as long as requests by this policy may take, and a little more: who gives up a
/// request tells the breaker then.
pub(crate) fn lasting(gate: &mut GatePolicy, policy: &OperationPolicy) {
    let polls = policy.poll().retry();
    let longest = [policy.create(), policy.lookup(), polls].into_iter().map(|retry| retry.attempt_timeout()).max();
    let least = longest.unwrap_or_default().saturating_add(Gate::RECHECK);
    let Some(breaker) = gate.breaker().filter(|breaker| breaker.probes().lease < least).cloned() else { return };
    let mut probes = breaker.probes();
    probes.lease = least;
    // Longer than what was valid already: it is not refused.
    if let Ok(breaker) = breaker.with_probes(probes) {
        *gate = mem::take(gate).with_breaker(Some(breaker));
    }
}
