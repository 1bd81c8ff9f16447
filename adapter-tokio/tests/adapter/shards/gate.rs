//! One gate: what holds for one shard holds for all of them together, to the last request.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Kind, Seed};
use steadfast_tokio::Client;
use tokio::time::{Instant, sleep};

use super::{Openings, SECOND, Throttling, Upstream, breaker, carry, described, only, with};
use crate::support::{Plain, answer, key};

fn paced(count: u32, per: Duration) -> GatePolicy {
    let rate = RatePolicy::new(count, per).unwrap();
    only(|gate| gate.with_rate_limit(RateLimit { kinds: Kinds::ALL, rate }))
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_smaller_than_the_number_of_shards_is_kept_and_always_in_use() {
    for shards in [1, 2, 4, 7] {
        let upstream = Upstream::ready(SECOND);
        let gate = only(|gate| gate.with_bulkhead(Some(BulkheadPolicy::fixed(2).unwrap())));
        let client = described(Plain, &upstream, shards).gate(gate).start().await.unwrap();
        let began = Instant::now();
        assert!(carry(&client, 40).await.iter().all(|outcome| *outcome == "completed"));
        assert_eq!(upstream.seen.lock().unwrap().most_in_the_air, 2, "{shards} shards");
        // Twenty pairs of a second each, and some milliseconds for timers.
        assert!(began.elapsed() < Duration::from_millis(20_500), "{shards} shards: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_used_to_the_full_and_no_further() {
    let run = async |shards| {
        let upstream = Upstream::ready(Duration::from_millis(10));
        let client = described(Plain, &upstream, shards).gate(paced(10, SECOND)).start().await.unwrap();
        carry(&client, 60).await;
        upstream.times()
    };
    let alone = run(1).await;
    for shards in [2, 3, 8] {
        let together = run(shards).await;
        let apart = together.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
        assert!(apart >= Duration::from_millis(99), "{shards} shards: {apart:?} apart");
        let (last, of_one) = (together.last().unwrap(), alone.last().unwrap());
        assert!(last.abs_diff(*of_one) < Duration::from_millis(150), "{shards} shards: {last:?}, one: {of_one:?}");
    }
}

/// Nobody of one shard goes for ever before those of another.
#[tokio::test(start_paused = true)]
async fn shards_take_turns_at_a_gate_that_is_never_free() {
    let upstream = Upstream::ready(SECOND);
    let gate = only(|gate| gate.with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap())));
    let client = described(Plain, &upstream, 4).gate(gate).start().await.unwrap();
    carry(&client, 64).await;
    let shards = shards_of(4);
    let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, (_, name, _)) in upstream.seen.lock().unwrap().sent.iter().enumerate() {
        places.entry(shards.of(&key(name))).or_default().push(place);
    }
    assert_eq!(places.len(), 4);
    for places in places.values() {
        // One of each shard goes in each round of four, while all four have somebody; the first ones were there before
        // the others.
        assert!(places.len() >= 8);
        for (round, place) in places[..8].iter().enumerate() {
            assert!((4 * round).saturating_sub(4) <= *place && *place < 4 * round + 8, "{places:?}");
        }
    }
}

/// The client's own dealing of keys: drawn from its seed.
pub(super) fn shards_of(count: usize) -> steadfast_driver::Shards {
    let builder: steadfast_driver::Builder<_, (), Client> = steadfast_driver::Builder::new(Plain, ());
    let (_, (), settings) = builder.seed(Seed::new(7)).shards(count).into_parts();
    settings.load("plain").unwrap().into_shards().0
}

/// Polls wait for polls, not for creates that have a limit of their own.
#[tokio::test(start_paused = true)]
async fn a_limit_of_one_kind_holds_up_no_other_kind_in_another_shard() {
    let upstream = Upstream::new(Duration::from_millis(10), |_, _| answer(202, "pending"));
    let accepts = Upstream { answers: std::sync::Arc::new(|n, _| answer(201, format!("txn-{n}"))), ..upstream.clone() };
    let creates = RateLimit { kinds: Kinds::of(&[Kind::Create]), rate: RatePolicy::new(1, 20 * SECOND).unwrap() };
    let client = described(Plain, &accepts, 4).gate(only(|gate| gate.with_rate_limit(creates))).start().await.unwrap();
    for n in 0..4 {
        let client = client.clone();
        tokio::spawn(async move { client.submit(key(&format!("job-{n}")), "{}").await.unwrap().await });
    }
    sleep(50 * SECOND).await;
    let seen = upstream.seen.lock().unwrap();
    let at = |kind| seen.sent.iter().filter(|(.., it)| *it == kind).map(|(at, ..)| *at).collect::<Vec<_>>();
    assert_eq!(at(Kind::Create).len(), 3, "at 0 s, 20 s and 40 s");
    // By its schedule: 3 s, 6 s and so on after it was accepted, while the other creates waited.
    assert!(at(Kind::Poll).iter().any(|at| *at < 5 * SECOND), "{:?}", at(Kind::Poll));
    assert!(at(Kind::Poll).iter().filter(|at| **at < 20 * SECOND).count() >= 2, "{:?}", at(Kind::Poll));
}

#[tokio::test(start_paused = true)]
async fn after_one_shard_was_asked_to_wait_none_sends_anything() {
    for shards in [1, 4] {
        let upstream = Upstream::new(Duration::from_millis(100), |number, _| match number {
            0 => with(answer(429, ""), &[("retry-after", "30")]),
            _ => answer(200, "done"),
        });
        let client = described(Throttling, &upstream, shards).gate(GatePolicy::none()).start().await.unwrap();
        let first = client.submit(key("first"), "{}").await.unwrap();
        sleep(SECOND).await;
        carry(&client, 20).await;
        first.await.unwrap();
        let times = upstream.times();
        assert!(times[1..].iter().all(|at| *at >= 30 * SECOND), "{shards} shards: {times:?}");
        assert!(times[20] < 32 * SECOND, "{shards} shards: {times:?}");
    }
}

/// `Retry-After` takes precedence over the end of the window (RateLimit header fields, the IETF's draft of 2025); of a
/// longer one, nothing is taken.
#[tokio::test(start_paused = true)]
async fn what_the_provider_asks_for_counts_more_than_the_end_of_its_window() {
    for (asks, ends, goes) in [("5", "3600", 5), ("30", "5", 30), ("0", "20", 20)] {
        let upstream = Upstream::new(Duration::from_millis(100), move |number, _| match number {
            0 => with(answer(429, ""), &[("retry-after", asks), ("remaining", "0"), ("reset", ends)]),
            _ => answer(200, "done"),
        });
        let client = described(Throttling, &upstream, 1).gate(GatePolicy::none()).start().await.unwrap();
        assert_eq!(carry(&client, 1).await, ["completed"], "asked for {asks} s, its window ends in {ends} s");
        let again = upstream.times()[1];
        assert!(again >= goes * SECOND && again < (goes + 1) * SECOND, "{asks} s and {ends} s: {again:?}");
    }
}

/// What is left of the provider's window is left for all.
#[tokio::test(start_paused = true)]
async fn a_quota_that_one_shard_learns_bounds_them_all() {
    let upstream = Upstream::new(Duration::from_millis(100), |number, _| match number {
        0 => with(answer(200, "done"), &[("remaining", "5"), ("reset", "60")]),
        _ => answer(200, "done"),
    });
    let client = described(Throttling, &upstream, 4).gate(GatePolicy::none()).start().await.unwrap();
    carry(&client, 1).await;
    let more = client.clone();
    let rest = tokio::spawn(async move {
        let mut handles = Vec::new();
        for n in 1..21 {
            handles.push(more.submit(key(&format!("job-{n}")), "{}").await.unwrap());
        }
        for handle in handles {
            handle.await.unwrap();
        }
    });
    sleep(50 * SECOND).await;
    assert_eq!(upstream.times().len(), 1 + 5);
    rest.await.unwrap();
    assert_eq!(upstream.times().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_hold_holds_all_and_its_end_lets_all_go_and_so_do_other_settings() {
    let upstream = Upstream::ready(Duration::from_millis(10));
    let client = described(Plain, &upstream, 4).gate(paced(1, 3_600 * SECOND)).start().await.unwrap();
    client.hold(600 * SECOND);
    let more = client.clone();
    let carried = tokio::spawn(async move { carry(&more, 40).await });
    sleep(60 * SECOND).await;
    assert_eq!(upstream.times().len(), 0);
    client.hold(Duration::ZERO);
    sleep(SECOND).await;
    assert_eq!(upstream.times().len(), 1, "the rate limit is the whole client's");
    client.set_gate(GatePolicy::none());
    sleep(SECOND).await;
    assert_eq!(upstream.times().len(), 40);
    assert_eq!(carried.await.unwrap().len(), 40);
}

/// A budget that nothing refills: so many retries, whoever makes them.
#[tokio::test(start_paused = true)]
async fn retries_of_all_shards_are_paid_from_one_budget() {
    for shards in [1, 4] {
        let upstream = Upstream::new(Duration::from_millis(10), |_, _| answer(503, ""));
        let gate = only(|gate| gate.with_budget(Some(BudgetPolicy::new(7).unwrap())));
        let client = described(Plain, &upstream, shards).gate(gate).start().await.unwrap();
        carry(&client, 20).await;
        assert_eq!(upstream.times().len(), 20 + 7, "{shards} shards");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// An outage is no worse for the provider with more shards: never more in the air than the bulkhead allows, nothing while the breaker is open, and then
    /// one probe at a time.
    #[test]
    fn a_provider_that_is_down_sees_from_all_shards_what_it_sees_from_one(
        shards in 2_usize..9,
        jobs in 1_usize..60,
        fails_for in 1_u64..200,
        failures in 1_u32..6,
        most in 1_u32..10,
        seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let run = async |shards| {
                let fails_for = Duration::from_secs(fails_for);
                let takes = Duration::from_millis(50);
                let upstream = Upstream::new(takes, move |_, at| answer(if at < fails_for { 503 } else { 200 }, ""));
                let openings = Openings::default();
                let gate = only(|gate| {
                    let bulkhead = BulkheadPolicy::fixed(most).unwrap();
                    gate.with_breaker(breaker(failures)).with_bulkhead(Some(bulkhead))
                });
                let builder = described(Plain, &upstream, shards).gate(gate).seed(Seed::new(seed));
                let start = steadfast_core::Timestamp::from(std::time::SystemTime::now());
                let client = openings.watch(builder).start().await.unwrap();
                let _outcomes = carry(&client, jobs).await;
                let openings = openings.0.lock().unwrap().clone();
                (upstream, openings, start)
            };
            let (one, ..) = run(1).await;
            let (upstream, openings, _) = run(shards).await;
            let seen = upstream.seen.lock().unwrap();
            prop_assert!(seen.most_in_the_air <= most as usize);
            let one = one.seen.lock().unwrap().sent.iter().filter(|(at, ..)| at.as_secs() < fails_for).count();
            let all = seen.sent.iter().filter(|(at, ..)| at.as_secs() < fails_for).count();
            // Who probes is drawn by who comes first, and so are the waits that follow: a probe or two.
            prop_assert!(all <= one + 3, "{all} requests, of one shard {one}; {} openings", openings.len());
            // Between two openings there are at most the probes that the policy has, and those that were in the air when it opened first.
            let opened = openings.len();
            prop_assert!(all <= failures as usize + most as usize + 2 * opened, "{all} requests, opened {opened} times");
            Ok(())
        })?;
    }
}

/// What is refused in an outage is no turn: two shards that told each other to take it would never let time go by.
#[tokio::test(start_paused = true)]
async fn shards_that_fail_fast_do_not_call_each_other_for_ever() {
    let upstream = Upstream::new(Duration::from_millis(10), |n, at| {
        if at < Duration::from_secs(2) { answer(201, format!("txn-{n}")) } else { answer(503, "") }
    });
    let gate = only(|gate| gate.with_breaker(breaker(1)).with_when_open(WhenOpen::Refuse));
    let client = described(Plain, &upstream, 2).gate(gate).start().await.unwrap();
    let mut handles = Vec::new();
    for n in 0..8 {
        handles.push(client.submit(key(&format!("job-{n}")), "{}").await.unwrap());
    }
    sleep(20 * SECOND).await;
    assert!(upstream.times().len() > 8, "polls have left, and failed");
}

/// A driver that is over reads nothing any more, and the others must not depend on it.
#[tokio::test(start_paused = true)]
async fn a_hold_counts_for_all_shards_also_while_the_client_is_shut_down() {
    let upstream = Upstream::new(Duration::from_millis(10), |n, at| {
        if at < Duration::from_secs(2) { answer(201, format!("txn-{n}")) } else { answer(202, "") }
    });
    let client = described(Plain, &upstream, 4).gate(GatePolicy::none()).start().await.unwrap();
    let deal = shards_of(4);
    let mut handles = Vec::new();
    for key in (0..40).map(|n| key(&format!("job-{n}"))).filter(|key| deal.of(key) != 0) {
        handles.push(client.submit(key, "{}").await.unwrap());
    }
    sleep(SECOND).await;
    let mut down = std::pin::pin!(client.clone().shutdown(60 * SECOND));
    tokio::select! { biased; _ = &mut down => {}, () = std::future::ready(()) => {} }
    client.hold(600 * SECOND);
    let before = upstream.times().len();
    assert_eq!(down.await.len(), handles.len());
    assert_eq!(upstream.times().len(), before);
}
