//! Makes a found history small: removes faults, crashes and jobs for as long as the same invariant breaks.

use super::{Fault, Options, simulate};

/// Finds the smallest options under which the seed still breaks the invariant that it breaks now; with the recording
/// switched on.
///
/// Greedy, in two rounds, so some hundred histories at most. For a seed that breaks nothing, the options are returned
/// unchanged.
#[must_use]
pub fn shrink(seed: u64, options: &Options) -> Options {
    let mut best = Options { record: true, ..options.clone() };
    let found = simulate(seed, &best);
    let Some(violation) = found.violation else { return best };
    let breaks = |options: &Options| {
        let quiet = Options { record: false, ..options.clone() };
        simulate(seed, &quiet).violation.is_some_and(|it| it.invariant == violation.invariant)
    };
    for _ in 0..2 {
        let mut candidates = vec![Options { without_crashes: true, ..best.clone() }];
        candidates.retain(|candidate| *candidate != best);
        best = candidates.into_iter().find(breaks).unwrap_or(best);
        for job in 0..found.jobs {
            let mut fewer = best.clone();
            fewer.without_jobs.push(job);
            let one_is_left = fewer.without_jobs.len() < found.jobs;
            if one_is_left && !best.without_jobs.contains(&job) && breaks(&fewer) {
                best = fewer;
            }
        }
        for fault in Fault::ALL {
            let mut calmer = best.clone();
            calmer.without_faults.push(fault);
            if !best.without_faults.contains(&fault) && breaks(&calmer) {
                best = calmer;
            }
        }
    }
    best
}
