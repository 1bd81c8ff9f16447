//! Thousands of deliveries that are not to be believed, under every scheme, while jobs stand in every state: nothing at
//! all changes.
//!
//! Which deliveries are refused is proved by the hundred thousand in the providers' tests; here it is that a refusal
//! has no consequence.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use steadfast_core::notice::Notice;
use steadfast_core::{Kind, Seed, Timestamp};
use steadfast_providers::webhook::{DiditSignatures, Encoding, Scheme, Verifier};
use steadfast_store::Store;
use steadfast_tokio::{Client, Delivery, Finished, Observation};
use tokio::time::{Instant, sleep};

use super::{SECOND, Telling};
use crate::support::{Kept, Scripted, answer, key};

/// Under each scheme.
const DELIVERIES: u64 = 600;

const SECRET: &str = "whsec_c3RlYWRmYXN0LWFkYXB0ZXItdGVzdHM=";
const OTHER: &str = "whsec_c29tZWJvZHktZWxzZQ==";

fn schemes() -> [Scheme; 5] {
    let header = HeaderName::from_static("x-hub-signature-256");
    [
        Scheme::StandardWebhooks,
        Scheme::Stripe,
        Scheme::Didit(DiditSignatures::default()),
        Scheme::Didit(DiditSignatures { simple: true, ..DiditSignatures::default() }),
        Scheme::Hmac { header, encoding: Encoding::Hex, prefix: "sha256=".into() },
    ]
}

fn body(dice: Seed, at: Timestamp, status: &str) -> String {
    let name = ["a", "b", "c", "z"][dice.derive(1).between(0, 3) as usize];
    let named = match dice.derive(2).between(0, 2) {
        0 => format!(r#""reference":"txn-{name}""#),
        1 => format!(r#""key":"{name}""#),
        _ => format!(r#""key":"{name}","reference":"txn-{name}""#),
    };
    let seconds = at.as_nanos() / 1_000_000_000;
    format!(
        r#"{{{named},"session_id":"txn-{name}","status":"{status}","timestamp":{seconds},"n":{}}}"#,
        dice.derive(3).value()
    )
}

/// Delivery number `n` that nobody may believe.
fn refused(scheme: &Scheme, n: u64) -> (HeaderMap, Bytes) {
    let dice = Seed::new(7).derive(n);
    let sign = |scheme: &Scheme, secret: &str, at, body: &str| {
        Verifier::new(scheme.clone(), [secret]).unwrap().sign(&format!("evt-{n}"), at, body.as_bytes()).unwrap()
    };
    let now = Timestamp::from(SystemTime::now());
    let old = now.saturating_sub(Duration::from_secs(400 + dice.derive(4).between(0, 100_000)));
    let status = ["ready", "failed", "undecided", "partial", "pending"][dice.derive(5).between(0, 4) as usize];
    let (truth, lie) = (body(dice, now, "changed"), body(dice, now, status));
    let mut headers = sign(scheme, SECRET, now, &truth);
    match dice.derive(6).between(0, 6) {
        0 => return (sign(scheme, OTHER, now, &lie), lie.into()),
        1 => return (headers, lie.into()),
        2 if !matches!(scheme, Scheme::Hmac { .. }) => {
            let lie = body(dice, old, status);
            return (sign(scheme, SECRET, old, &lie), lie.into());
        }
        3 => {
            let names: Vec<HeaderName> = headers.keys().cloned().collect();
            for name in names {
                headers.append(&name, headers[&name].clone());
            }
        }
        4 => headers.clear(),
        5 => {
            for value in headers.values_mut() {
                *value = HeaderValue::from_static("v1,t=1,v1=00");
            }
        }
        _ => {
            let others =
                schemes().into_iter().filter(|other| std::mem::discriminant(other) != std::mem::discriminant(scheme));
            let other = others.cycle().nth(dice.derive(7).between(0, 9) as usize).unwrap();
            headers = sign(&other, SECRET, now, &truth);
        }
    }
    (headers, truth.into())
}

/// Every notice, and when it was told.
type Told = Arc<Mutex<Vec<(Duration, Notice)>>>;

/// What can be seen of a client: what it told, what it sent, and what its store holds.
type State = (Vec<(Duration, Notice)>, Vec<Vec<Kind>>, Vec<String>);

fn state(told: &Told, transport: &Scripted, store: Option<&Kept>) -> State {
    let kept = store.map(|store| store.clone().load().unwrap()).unwrap_or_default();
    let sent = ["a", "b", "c"].map(|name| transport.sent(name)).into();
    (told.lock().unwrap().clone(), sent, kept.iter().map(|entry| format!("{entry:?}")).collect())
}

/// What was told when (by the name of it: the rest has wall times), how the jobs ended, what was sent.
type Course = (Vec<(Duration, String)>, Vec<Finished>, Vec<Vec<Kind>>);

/// One job accepted, one whose create is not answered yet, one that has ended; and so many deliveries among them. Then
/// how all of it went on.
async fn live(scheme: &Scheme, deliveries: u64, store: Option<Kept>) -> Course {
    let began = Instant::now();
    let transport = Scripted::new(move |kind, _, name| async move {
        Ok(match (kind, name.as_str()) {
            (Kind::Create, "b") => {
                sleep(8 * SECOND).await;
                answer(201, "txn-b")
            }
            (Kind::Create, _) => answer(201, format!("txn-{name}")),
            (_, "c") => answer(200, "polled"),
            _ if began.elapsed() < 60 * SECOND => answer(202, "not yet"),
            _ => answer(200, "polled"),
        })
    });
    let (telling, told) = (Telling::by(scheme.clone(), SECRET), Told::default());
    let seen = told.clone();
    let observer = move |seen_now: &Observation| seen.lock().unwrap().push((began.elapsed(), seen_now.notice.clone()));
    let builder = Client::builder(telling, transport.clone()).seed(Seed::new(7)).observer(observer);
    let builder = if let Some(store) = store.clone() { builder.store(store) } else { builder };
    let client = builder.start().await.unwrap();
    let ended = client.submit(key("c"), "{}").await.unwrap().await.unwrap();
    let accepted = client.submit(key("a"), "{}").await.unwrap();
    sleep(SECOND).await;
    let creating = client.submit(key("b"), "{}").await.unwrap();
    sleep(SECOND / 10).await;

    let before = state(&told, &transport, store.as_ref());
    for n in 0..deliveries {
        let (headers, body) = refused(scheme, n);
        let delivery = client.deliver(&headers, body).await;
        assert!(matches!(delivery, Delivery::Refused(_)), "{scheme:?}, delivery {n}: {delivery:?}");
        assert_eq!(delivery.status().as_u16(), 400);
    }
    assert_eq!(state(&told, &transport, store.as_ref()), before, "I16");
    let finished = vec![ended, accepted.await.unwrap(), creating.await.unwrap()];
    let (notices, sent, _) = state(&told, &transport, None);
    let name = |notice: &Notice| format!("{notice:?}").split(['{', '(']).next().unwrap_or_default().trim().to_owned();
    (notices.iter().map(|(at, notice)| (*at, name(notice))).collect(), finished, sent)
}

/// I16: neither what is told, sent or stored while they come, nor anything that follows, to the last notice and the
/// last millisecond.
#[tokio::test(start_paused = true)]
async fn i16_what_is_refused_changes_nothing_then_or_later() {
    for scheme in schemes() {
        let (with, without) = (live(&scheme, DELIVERIES, None).await, live(&scheme, 0, None).await);
        assert_eq!(with, without, "{scheme:?}");
        for store in Kept::both() {
            let (_, finished, ..) = live(&scheme, DELIVERIES, Some(store)).await;
            assert_eq!(finished, without.1, "{scheme:?}");
        }
    }
}
