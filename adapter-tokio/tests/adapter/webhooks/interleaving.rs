//! I16, and exactly one outcome, whatever comes in whatever order.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use steadfast_core::notice::Notice;
use steadfast_core::{Kind, Seed};
use steadfast_providers::webhook::Scheme;
use steadfast_store::MemoryStore;
use steadfast_tokio::{Client, Finished};
use tokio::time::{Instant, sleep, timeout};

use super::{SECOND, Telling, Told, is_ready};
use crate::support::{Scripted, answer, key};

/// What happens to one job, whose create and polls are answered after drawn delays, and which is ready at a drawn
/// moment.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// The provider tells the truth of now: a hint, or what is so. By key, by reference or by both.
    Tell {
        named: u8,
        meaning: bool,
    },
    /// Something that was told before is sent again.
    Again(usize),
    /// A lie, badly signed; or a true word that was altered.
    Forge {
        named: u8,
        altered: bool,
    },
    /// The truth about somebody else's job.
    Stranger,
}

fn steps() -> BoxedStrategy<Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u64..4_000).prop_map(Step::Wait),
        4 => (0_u8..3, any::<bool>()).prop_map(|(named, meaning)| Step::Tell { named, meaning }),
        2 => (0_usize..8).prop_map(Step::Again),
        3 => (0_u8..3, any::<bool>()).prop_map(|(named, altered)| Step::Forge { named, altered }),
        1 => Just(Step::Stranger),
    ];
    prop::collection::vec(step.boxed(), 0..24).boxed()
}

fn body(named: u8, name: &str, status: &str, n: usize) -> String {
    let named = match named {
        0 => format!(r#""reference":"txn-{name}""#),
        1 => format!(r#""key":"{name}""#),
        _ => format!(r#""key":"{name}","reference":"txn-{name}""#),
    };
    format!(r#"{{{named},"status":"{status}","n":{n}}}"#)
}

/// What was observed of the job: notices by name, its end, and what was sent.
type Seen = (Vec<String>, Finished, Vec<Kind>);

async fn live(steps: &[Step], delays: [u64; 3], forged: bool, stored: bool) -> Seen {
    let [create, poll, ready] = delays.map(Duration::from_millis);
    let began = Instant::now();
    let transport = Scripted::new(move |kind, _, key| async move {
        sleep(if kind == Kind::Create { create } else { poll }).await;
        Ok(match kind {
            Kind::Create => answer(201, format!("txn-{key}")),
            _ if began.elapsed() >= ready => answer(200, "polled"),
            _ => answer(202, "not yet"),
        })
    });
    let (telling, told) = (Telling::new(), Told::default());
    let stranger = Telling::by(Scheme::StandardWebhooks, "whsec_c29tZWJvZHktZWxzZQ==");
    let builder = told.watch(Client::builder(telling.clone(), transport.clone())).seed(Seed::new(7));
    let builder = if stored { builder.store(MemoryStore::default()) } else { builder };
    let client = builder.start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    let mut sent: Vec<(String, (HeaderMap, Bytes))> = Vec::new();
    let mut deliveries = tokio::task::JoinSet::new();
    for (n, step) in steps.iter().enumerate() {
        let post = |id: &str, signed: (HeaderMap, Bytes), genuine: bool| {
            let (client, id) = (client.clone(), id.to_owned());
            async move { (id, client.deliver(&signed.0, signed.1).await, genuine) }
        };
        match step {
            Step::Wait(ms) => sleep(Duration::from_millis(*ms)).await,
            Step::Tell { named, meaning } => {
                let status = match (meaning, began.elapsed() >= ready) {
                    (false, _) => "changed",
                    (true, true) => "ready",
                    (true, false) => "pending",
                };
                let id = format!("evt-{n}");
                let signed = telling.sign(&id, &body(*named, "a", status, n));
                sent.push((id.clone(), signed.clone()));
                deliveries.spawn(post(&id, signed, true));
            }
            Step::Again(which) if !sent.is_empty() => {
                let (id, signed) = sent[which % sent.len()].clone();
                deliveries.spawn(post(&id, signed, true));
            }
            Step::Again(_) => {}
            Step::Forge { named, altered } if forged => {
                let lie = body(*named, "a", "failed", n);
                let signed = match sent.last().filter(|_| *altered) {
                    Some((_, (headers, _))) => (headers.clone(), Bytes::from(lie)),
                    None => stranger.sign(&format!("evt-{n}"), &lie),
                };
                deliveries.spawn(post("forged", signed, false));
            }
            Step::Forge { .. } => {}
            Step::Stranger => {
                let id = format!("evt-{n}");
                deliveries.spawn(post(&id, telling.sign(&id, &body(2, "z", "failed", n)), true));
            }
        }
        tokio::task::yield_now().await;
    }
    let finished = timeout(3_600 * SECOND, job).await.expect("I14: it ends").unwrap();
    while let Some(delivered) = deliveries.join_next().await {
        let (_, delivery, genuine) = delivered.unwrap();
        let status = delivery.status().as_u16();
        assert!(if genuine { status == 200 || status == 503 } else { status == 400 }, "{delivery:?}");
    }
    // Everything once more, after the end, among it what was told to come again: it is taken now, and changes nothing.
    for (id, (headers, body)) in &sent {
        let delivery = client.deliver(headers, body.clone()).await;
        assert_eq!(delivery.status().as_u16(), 200, "{id}: {delivery:?}");
    }
    let again = client.submit(key("a"), "{}").await.unwrap().await.unwrap();
    assert_eq!(again, finished, "one outcome");
    assert!(client.shutdown(60 * SECOND).await.is_empty());
    assert_eq!(told.count(|notice| matches!(notice, Notice::Ended(_))), 1, "one outcome");
    let webhooks = told.count(|notice| matches!(notice, Notice::Webhook));
    assert!(webhooks <= 2 * sent.len(), "{webhooks} of {}: a repeat counted", sent.len());
    let name = |notice: &Notice| format!("{notice:?}").split(['{', '(']).next().unwrap_or_default().trim().to_owned();
    let notices = told.0.lock().unwrap().iter().map(name).collect();
    (notices, finished, transport.sent("a"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// I16, and exactly one outcome: whatever comes between the polls, the job ends once, and truly; what is forged changes nothing at all.
    #[test]
    fn i16_any_interleaving_of_polls_and_deliveries_gives_one_outcome(
        steps in steps(), create in 1_u64..6_000, poll in 1_u64..3_000, ready in 1_u64..20_000
    ) {
        let live = |forged, stored| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(live(&steps, [create, poll, ready], forged, stored))
        };
        let check = |(_, finished, sent): &Seen| {
            let body = finished.body();
            let creates = sent.iter().filter(|kind| **kind == Kind::Create).count();
            is_ready(finished) && creates == 1 && (body == b"polled" || body.windows(7).any(|it| it == b"\"ready\""))
        };
        let seen = [live(true, true), live(true, false)];
        for seen in &seen {
            prop_assert!(check(seen), "{seen:?}");
        }
        // A store's thread runs in real time, so only without one is a second run the same.
        prop_assert_eq!(&seen[1], &live(false, false));
    }
}
