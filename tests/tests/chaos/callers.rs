//! What callers do to a client, all at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderValue};
use steadfast_core::Outcome;
use steadfast_driver::{Delivery, ResumeError, SubmitError};

use crate::plan::KEYS;
use crate::provider::verifier;
use crate::world::{Client, World, key, payload};

/// One of several. Gives back the jobs that it has not waited for.
pub(crate) async fn call<C: Client>(
    world: Arc<World>,
    client: C,
    number: usize,
    caller: usize,
) -> Vec<(usize, C::Job)> {
    let mut rng = world.plan.rng(&[number as u64, caller as u64]);
    // Of its own, so that a seed draws the same calls as before there were other gates.
    let mut gates = world.plan.rng(&[number as u64, caller as u64, 13]);
    let mut jobs = Vec::new();
    for _ in 0..world.plan.calls {
        if gates.u32(..100) < world.plan.gates {
            client.set_gate(world.plan.other_gate(&mut gates));
        }
        if rng.u32(..100) < world.plan.stops {
            let grace = Duration::from_millis(rng.u64(..8));
            world.reported(&client.clone().shutdown(grace).await);
            continue;
        }
        let which = rng.usize(..KEYS);
        match rng.u32(..100) {
            0..50 if !world.may_be_submitted(which) => {}
            0..40 => jobs.extend(submit(&world, &client, which, &mut rng).await),
            40..50 => {
                if let Ok(job) = client.resume(key(which)).await {
                    world.book.note(key(which).as_str(), "resumed");
                    jobs.push((which, job));
                }
            }
            50..60 => deliver(&world, &client, which, &mut rng).await,
            60..63 => client.hold(Duration::from_millis(rng.u64(..4))),
            _ if jobs.is_empty() => {}
            63..73 => {
                let (which, job) = &jobs[rng.usize(..jobs.len())];
                world.book.note(key(*which).as_str(), "cancelled");
                C::cancel(job);
            }
            73..80 => {
                let (which, job) = jobs.swap_remove(rng.usize(..jobs.len()));
                let (job, accepted) = C::accepted(job).await;
                jobs.push((which, job));
                let known = world.book.look(key(which).as_str(), |page| page.reference.clone());
                if accepted.is_ok_and(|accepted| Some(accepted.reference.as_str()) != known.as_deref()) {
                    world.book.violated(key(which).as_str(), "accepted under a reference that is not its own");
                }
            }
            80..87 => drop(jobs.swap_remove(rng.usize(..jobs.len()))),
            _ => {
                let (which, job) = jobs.swap_remove(rng.usize(..jobs.len()));
                let ended = C::ended(job).await;
                world.ended(which, ended);
            }
        }
    }
    jobs
}

async fn submit<C: Client>(world: &World, client: &C, which: usize, rng: &mut Rng) -> Option<(usize, C::Job)> {
    // Now and then with another payload than the key has.
    let other = rng.u32(..10) == 0 && world.plan.copy.is_none();
    let with = if other { 1 } else { world.taken_in(which).unwrap_or(0) };
    let submitted = client.submit(key(which), payload(which, with)).await;
    match &submitted {
        Ok(_) => {
            world.take_in(which, with);
            world.book.note(key(which).as_str(), format!("taken in with payload {with}"));
        }
        Err(error) => {
            world.book.note(key(which).as_str(), format!("payload {with} is not taken in: {}", name(error)));
        }
    }
    submitted.ok().map(|job| (which, job))
}

fn name(error: &SubmitError) -> String {
    let text = format!("{error:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

/// A webhook: genuine or not, of a job that the provider has, or has not.
async fn deliver<C: Client>(world: &World, client: &C, which: usize, rng: &mut Rng) {
    let (is_genuine, is_final) = (rng.u32(..4) > 0, rng.bool());
    let end = rng.u32(..4) == 0;
    // A final one is the provider's word.
    let (reference, end) = world.book.look(key(which).as_str(), |page| {
        let reference = page.reference.clone().filter(|_| page.ran > 0);
        let is_there = reference.is_some();
        let end = (is_final && is_genuine && is_there).then(|| *page.end.get_or_insert(end));
        (reference, end.or(page.end).filter(|_| is_there))
    });
    let status = match end {
        Some(failed) if is_final => {
            if failed {
                "failed"
            } else {
                "ready"
            }
        }
        _ => ["pending", "changed"][rng.usize(..2)],
    };
    let status = if is_genuine { status } else { ["ready", "failed"][rng.usize(..2)] };
    let named = reference.unwrap_or_else(|| format!("ref-of-nobody-{which}"));
    let with_key = if rng.bool() { format!(r#","key":"{}""#, key(which).as_str()) } else { String::new() };
    let with_key = if named.starts_with("ref-of-nobody") { String::new() } else { with_key };
    let body = Bytes::from(format!(r#"{{"reference":"{named}","status":"{status}"{with_key}}}"#));
    let mut headers = HeaderMap::new();
    if is_genuine || rng.bool() {
        let id = format!("msg-{}", rng.u32(..1_000));
        headers = verifier().sign(&id, SystemTime::now().into(), &body).unwrap();
    }
    if !is_genuine && !headers.is_empty() {
        headers.insert("webhook-id", HeaderValue::from_static("msg-of-another"));
    }
    let delivery = client.deliver(&headers, body).await;
    world.book.note(key(which).as_str(), format!("webhook of {status}, genuine {is_genuine}: {delivery:?}"));
    if !is_genuine && !matches!(delivery, Delivery::Refused(_)) {
        world.book.violated(key(which).as_str(), format!("a forged webhook: {delivery:?}"));
    }
}

/// What the last client, to which nothing happens, must be able to tell of every key.
pub(crate) async fn settle<C: Client>(world: &World, client: &C) {
    for which in 0..KEYS {
        let name = key(which);
        let Some(with) = world.taken_in(which).filter(|_| world.may_be_submitted(which)) else { continue };
        let resumed = client.resume(name.clone()).await;
        world.book.note(
            name.as_str(),
            format!("at last, resumed: {:?}", resumed.as_ref().err().map(|error| error.to_string())),
        );
        let job = match resumed {
            Ok(job) => Some(job),
            Err(ResumeError::UnknownKey)
                if !world.is_put_back() && world.book.look(name.as_str(), |page| page.ran) > 0 =>
            {
                world.book.violated(name.as_str(), "it ran, and nobody knows the key");
                None
            }
            Err(ResumeError::UnknownKey | ResumeError::NoReference(_) | ResumeError::PayloadNeeded) => None,
            Err(error) => {
                world.book.violated(name.as_str(), format!("is not resumed: {error:?}"));
                None
            }
        };
        if let Some(job) = job {
            let ended = C::ended(job).await;
            world.ended(which, ended);
        }
        // Of several that were taken in one after the other, who knows which was the last.
        let mut submitted = client.submit(name.clone(), payload(which, with)).await;
        if matches!(submitted, Err(SubmitError::Refused(_))) {
            submitted = client.submit(name.clone(), payload(which, 1 - with)).await;
        }
        match submitted {
            Ok(job) => match C::ended(job).await {
                Ok(finished) => {
                    let ran = world.book.look(name.as_str(), |page| page.ran);
                    // As it was told by a copy, which knows nothing of the next job of this key.
                    if matches!(finished.outcome, Outcome::Rejected(_)) && ran > 0 && !world.is_lost(which) {
                        world.book.violated(name.as_str(), "rejected at last, though it ran");
                    }
                    world.ended(which, Ok(finished));
                }
                Err(stopped) => world.book.violated(name.as_str(), format!("has no end: {stopped}")),
            },
            Err(error) => world.book.violated(name.as_str(), format!("is not taken in at last: {error:?}")),
        }
    }
}
