//! The fake Didit's webhooks: sent, signed and repeated as Didit's documentation has it, and spoilt as their faults
//! say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{DiditSignatures, Scheme, Verifier};
use steadfast_testkit::{Brain, FakeDidit, WebhookCounts, WebhookFault, WebhookFaults, WebhookPost};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const DAY: u64 = 86_400;

fn after(secs: u64) -> Timestamp {
    START.saturating_add(Duration::from_secs(secs))
}

fn fake() -> FakeDidit {
    FakeDidit::new(7).with_webhooks("http://127.0.0.1:1/didit".parse().unwrap(), "secret").unwrap()
}

/// The delays of their answers, too.
fn create(brain: &mut Brain, sessions: usize) -> Vec<Duration> {
    let one = |n: usize| {
        let body = json!({ "workflow_id": "w", "vendor_data": format!("order-{n}"), "metadata": { "name": "Zoë" } });
        let request = Request::post("/v3/session/").header("x-api-key", "key").body(Bytes::from(body.to_string()));
        brain.handle(&request.unwrap(), START).delay
    };
    (0..sessions).map(one).collect()
}

/// What is sent until then, each answered like this.
fn sent(brain: &mut Brain, until: Timestamp, status: Option<u16>) -> Vec<(Timestamp, WebhookPost)> {
    let mut sent = Vec::new();
    while let Some(at) = brain.next_webhook().filter(|at| *at <= until) {
        while let Some(post) = brain.pop_webhook(at) {
            brain.webhook_answered(&post, status.map(|status| StatusCode::from_u16(status).unwrap()), at);
            sent.push((at, post));
        }
        assert!(brain.next_webhook().is_none_or(|next| next > at));
    }
    sent
}

fn json(post: &WebhookPost) -> Value {
    serde_json::from_slice(&post.body).unwrap()
}

fn verifier(raw: bool, canonical: bool, simple: bool) -> Verifier {
    Verifier::new(Scheme::Didit(DiditSignatures { raw, canonical, simple }), ["secret"]).unwrap()
}

fn is_genuine(headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
    verifier(true, true, false).verify(headers, body, now).is_ok()
}

fn counts(of: impl Fn(&mut WebhookCounts)) -> WebhookCounts {
    let mut counts = WebhookCounts::default();
    of(&mut counts);
    counts
}

#[test]
fn every_status_is_told_under_all_three_signatures() {
    for business in [false, true] {
        let mut brain = fake().with_business(business).brain();
        assert_eq!(brain.next_webhook(), None);
        create(&mut brain, 60);
        let posts = sent(&mut brain, after(DAY), Some(200));
        let mut statuses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for (at, post) in &posts {
            for (raw, canonical, simple) in [(true, false, false), (false, true, false), (false, false, true)] {
                verifier(raw, canonical, simple).verify(&post.headers, &post.body, *at).unwrap();
            }
            assert!(
                post.body.is_ascii() && post.headers["user-agent"].to_str().unwrap().starts_with("DiditWebhook/2.0")
            );
            let (event, seconds) = (json(post), at.as_nanos() / 1_000_000_000);
            assert_eq!(post.headers["x-timestamp"].to_str().unwrap(), seconds.to_string());
            assert_ne!(post.headers["x-signature"], post.headers["x-signature-v2"], "a name is not ASCII");
            assert_eq!((&event["timestamp"], &event["webhook_type"]), (&seconds.into(), &"status.updated".into()));
            assert_eq!(event["created_at"].as_u64().unwrap(), seconds - 1, "a moment before");
            for field in ["application_id", "environment", "workflow_id", "vendor_data"] {
                assert!(event[field].is_string(), "{field}");
            }
            assert_eq!(event["metadata"]["name"], "Zoë");
            assert_eq!(event.get("business_session_id").is_some(), business);
            let status = event["status"].as_str().unwrap();
            let decided = ["Approved", "Declined", "In Review", "Abandoned"].contains(&status);
            assert_eq!(event.get("decision").is_some(), decided, "{status}");
            assert!(!decided || event["decision"]["status"] == status);
            assert!(ids.insert(event["event_id"].as_str().unwrap().to_owned()), "each event has an id of its own");
            statuses.entry(event["session_id"].as_str().unwrap().into()).or_default().push(status.into());
        }
        assert_eq!(statuses.len(), 60);
        assert!(statuses.values().all(|told| told[0] == "Not Started" && told.len() > 1));
        let of = |counts: &mut WebhookCounts| counts.delivered = posts.len() as u64;
        assert_eq!(brain.ledger().webhooks(), counts(of));
    }
}

/// ≈1 min and ≈4 min after a 5xx, a 404 or nothing; never after anything else.
#[test]
fn it_is_sent_three_times_at_most_each_time_signed_anew() {
    for speed in [1, 60] {
        for (status, tries) in [
            (Some(503), 3),
            (Some(500), 3),
            (Some(404), 3),
            (None, 3),
            (Some(200), 1),
            (Some(204), 1),
            (Some(302), 1),
            (Some(400), 1),
        ] {
            let mut brain = fake()
                .with_speed(speed as f64)
                .with_person_time(Duration::from_secs(DAY), Duration::from_secs(DAY))
                .brain();
            create(&mut brain, 1);
            let posts = sent(&mut brain, after(600), status);
            let posts: Vec<_> = posts.iter().filter(|(_, post)| json(post)["status"] == "Not Started").collect();
            assert_eq!(posts.len(), tries, "{status:?}");
            let waits: Vec<_> = posts.windows(2).map(|pair| pair[1].0.saturating_since(pair[0].0)).collect();
            assert_eq!(waits, [60, 240].map(|secs| Duration::from_secs(secs) / speed)[..tries - 1]);
            let (ids, times): (BTreeSet<String>, BTreeSet<String>) = posts
                .iter()
                .map(|(_, post)| (json(post)["event_id"].to_string(), json(post)["timestamp"].to_string()))
                .unzip();
            assert_eq!((ids.len(), times.len()), (1, tries), "one id, fresh times");
            assert!(posts.iter().all(|(at, post)| is_genuine(&post.headers, &post.body, *at)));
            assert!(
                posts
                    .iter()
                    .all(|(_, post)| post.within == (Duration::from_secs(5) / speed).max(Duration::from_millis(500)))
            );
        }
    }
    let mut brain = fake().brain();
    create(&mut brain, 1);
    let all = sent(&mut brain, after(DAY), Some(503)).len() as u64;
    assert_eq!(brain.ledger().webhooks(), counts(|counts| counts.lost = all / 3));
    let mut brain = fake().brain();
    create(&mut brain, 1);
    let all = sent(&mut brain, after(DAY), Some(400)).len() as u64;
    assert_eq!(brain.ledger().webhooks(), counts(|counts| (counts.lost, counts.refused) = (all, all)));
}

#[test]
fn each_fault_is_what_it_is_called() {
    let spoilt = |fault| {
        let mut brain = fake().with_webhook_faults(WebhookFaults::rate(1.0).only(&[fault])).brain();
        let delays = create(&mut brain, 20);
        let mut posts = Vec::new();
        while let Some(at) = brain.next_webhook() {
            let post = brain.pop_webhook(at).unwrap();
            let status = if is_genuine(&post.headers, &post.body, at) { 200 } else { 400 };
            brain.webhook_answered(&post, StatusCode::from_u16(status).ok(), at);
            posts.push((at, post, status));
        }
        (delays, posts, brain.ledger().webhooks())
    };
    let events = |posts: &[(Timestamp, WebhookPost, u16)]| -> Vec<String> {
        posts.iter().map(|(_, post, _)| json(post)["event_id"].to_string()).collect()
    };
    let (_, plain, _) = {
        let mut brain = fake().brain();
        create(&mut brain, 20);
        ((), sent(&mut brain, after(DAY), Some(200)), ())
    };
    let all = plain.len() as u64;

    let (_, posts, told) = spoilt(WebhookFault::Lost);
    assert_eq!((posts.len(), told), (0, counts(|counts| counts.lost = all)));

    let (_, posts, told) = spoilt(WebhookFault::Duplicated);
    let ids = events(&posts);
    assert!(ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 2));
    assert_eq!(told, counts(|counts| (counts.delivered, counts.duplicated) = (2 * all, all)));

    let (delays, posts, told) = spoilt(WebhookFault::Early);
    assert!(delays.iter().all(|delay| *delay == Duration::from_secs(3)));
    assert_eq!(posts.iter().filter(|(at, ..)| *at == START).count(), 20, "before the answers of their creates");
    assert_eq!(told, counts(|counts| (counts.delivered, counts.early) = (all, 20)));

    let (_, posts, told) = spoilt(WebhookFault::Delayed);
    let orders = |posts: Vec<String>| -> BTreeMap<usize, String> { posts.into_iter().enumerate().collect() };
    let in_order: Vec<_> = plain.iter().map(|(_, post)| json(post)["event_id"].to_string()).collect();
    assert_eq!(events(&posts).iter().collect::<BTreeSet<_>>(), in_order.iter().collect::<BTreeSet<_>>());
    assert_ne!(orders(events(&posts)), orders(in_order), "later ones come before them");
    assert_eq!(told, counts(|counts| counts.delivered = all));

    for fault in [WebhookFault::Forged, WebhookFault::Altered, WebhookFault::Replayed] {
        let (_, posts, told) = spoilt(fault);
        let refused: Vec<_> = posts.iter().filter(|(.., status)| *status == 400).collect();
        assert_eq!(
            told,
            counts(|counts| (counts.delivered, counts.forged, counts.refused) = (all, all, all)),
            "{fault:?}"
        );
        for (at, post, _) in refused {
            // Ten minutes ago it would have been believed, and altered or forged it never was.
            let then = at.saturating_sub(Duration::from_secs(600));
            assert_eq!(is_genuine(&post.headers, &post.body, then), fault == WebhookFault::Replayed);
            if fault != WebhookFault::Replayed {
                let (id, said) = (&json(post)["event_id"], &json(post)["status"]);
                let truth = plain.iter().map(|(_, post)| json(post)).find(|event| event["event_id"] == *id).unwrap();
                assert_ne!(truth["status"], *said, "a lie");
            }
        }
    }
    assert_eq!(WebhookFault::ALL.len(), 7, "all of them are here");
}

#[test]
fn a_schedule_of_faults_does_not_depend_on_the_receiver() {
    let run = |status| {
        let mut brain = fake().with_webhook_faults(WebhookFaults::rate(0.5)).brain();
        create(&mut brain, 30);
        let posts = sent(&mut brain, after(DAY), status);
        let first: BTreeSet<_> = posts
            .iter()
            .map(|(_, post)| (json(post)["event_id"].to_string(), json(post)["status"].to_string()))
            .collect();
        first
    };
    assert_eq!(run(Some(200)), run(Some(503)));
}

/// Over real HTTP: what is true is believed and what is forged is not, and the ledger knows how many of each there
/// were.
#[tokio::test]
async fn over_real_http_the_ledger_counts_what_the_receiver_saw() {
    let seen: Arc<Mutex<[u64; 2]>> = Arc::default();
    let books = seen.clone();
    let receiver = steadfast_testkit::http::serve(move |request: Request<Bytes>| {
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/didit"));
        let genuine = is_genuine(request.headers(), request.body(), SystemTime::now().into());
        books.lock().unwrap()[usize::from(genuine)] += 1;
        Response::builder().status(if genuine { 200 } else { 400 }).body(Full::new(Bytes::new())).unwrap()
    })
    .await
    .unwrap();
    let url = format!("{}/didit", receiver.base_url()).parse().unwrap();
    let minute = Duration::from_secs(60);
    let server = FakeDidit::new(7)
        .with_webhooks(url, "secret")
        .unwrap()
        .with_webhook_faults(WebhookFaults::rate(0.5))
        .with_person_time(minute, 2 * minute)
        .with_reviews(0.2, minute, 2 * minute)
        .with_undecided(0.0)
        .with_speed(300.0)
        .start()
        .unwrap();
    let url = format!("{}/v3/session/", server.base_url());
    for n in 0..40 {
        post(&url, &json!({ "workflow_id": "w", "vendor_data": format!("order-{n}") })).await;
    }
    let waited = std::time::Instant::now();
    let told = loop {
        let told = server.ledger().webhooks();
        if told.delivered + told.lost >= 120 + told.duplicated
            && told.early > 0
            && told.forged > 15
            && told.refused == told.forged
        {
            break told;
        }
        assert!(waited.elapsed() < minute, "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("{told:?}");
    let [forged, genuine] = *seen.lock().unwrap();
    assert!(forged >= told.refused && genuine >= told.delivered, "{told:?}, but {forged} and {genuine} were seen");
    assert!(told.lost > 0 && told.duplicated > 0 && told.delivered > told.forged, "{told:?}");
}

async fn post(url: &str, body: &Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (host, body) = (url.trim_start_matches("http://").split('/').next().unwrap(), body.to_string());
    let head = format!(
        "POST /v3/session/ HTTP/1.1\r\nhost: {host}\r\nx-api-key: key\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}
