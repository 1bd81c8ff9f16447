//! What the provider says of a job after it has ended: told once, in its own order, and never in the place of the
//! outcome.

use proptest::prelude::*;
use steadfast_tokio::{Revision, RevisionError, Revisions};
use tokio::time::timeout;

use super::*;

/// `Telling`, whose results say how they were decided.
#[derive(Clone)]
struct Deciding(Telling);

impl Provider for Deciding {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn policy(&self) -> OperationPolicy {
        self.0.policy()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        self.0.request(ask)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        self.0.read(answer)
    }

    fn decision(&self, answer: &Answer<'_>) -> Option<Box<str>> {
        std::str::from_utf8(answer.body).ok().map(Into::into)
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        self.0.webhook(headers, body, wall)
    }
}

fn deciding() -> Deciding {
    Deciding(Telling::new())
}

/// Accepts, and has decided at the first poll.
fn approved() -> Scripted {
    Scripted::new(|kind, _, key| async move {
        Ok(if kind == Kind::Create { answer(201, format!("txn-{key}")) } else { answer(200, "approved") })
    })
}

/// Some time after everything here has ended, in seconds since 1970, and so many seconds more.
fn later(seconds: u64) -> u64 {
    Timestamp::from(SystemTime::now()).as_nanos() / 1_000_000_000 + 100_000 + seconds
}

fn told(status: &str, at: u64) -> String {
    format!(r#"{{"reference":"txn-a","key":"a","status":"{status}","at":{at}}}"#)
}

async fn end(client: &Client) -> Finished {
    client.submit(key("a"), "{}").await.unwrap().await.unwrap()
}

/// All that can be had without waiting.
async fn all(revisions: &mut Revisions) -> Vec<Revision> {
    let mut all = Vec::new();
    while let Ok(Ok(revision)) = timeout(Duration::from_millis(1), revisions.next()).await {
        all.push(revision);
    }
    all
}

fn words(revisions: &[Revision]) -> Vec<(u32, &str)> {
    revisions.iter().map(|revision| (revision.revision, &*revision.status)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_later_decision_is_a_revision_and_the_outcome_stays() {
    let (provider, base) = (deciding(), later(0));
    let client = Client::builder(provider.clone(), approved()).start().await.unwrap();
    let mut revisions = client.revisions();
    let finished = end(&client).await;
    let tell = async |id: &str, status: &str, at: u64| provider.0.tell(&client, id, &told(status, base + at)).await;
    assert_eq!(tell("evt-1", "approved", 1).await, Delivery::Taken);
    assert_eq!(all(&mut revisions).await, [], "the decision itself is no new word");
    assert_eq!(tell("evt-2", "resubmitted", 10).await, Delivery::Taken);
    assert_eq!(tell("evt-3", "expired", 20).await, Delivery::Taken);
    assert_eq!(tell("evt-2", "resubmitted", 10).await, Delivery::Repeated);
    assert_eq!(tell("evt-4", "in progress", 5).await, Delivery::Taken, "it is older, and is absorbed");
    assert_eq!(provider.0.tell(&client, "evt-5", &told("ancient", 1_000)).await, Delivery::Taken);
    let heard = all(&mut revisions).await;
    assert_eq!(words(&heard), [(1, "resubmitted"), (2, "expired")]);
    assert_eq!((heard[0].key.as_ref(), heard[0].reference.as_str()), (Some(&key("a")), "txn-a"));
    assert_eq!(heard[1].at, Timestamp::from_secs(base + 20));
    assert_eq!(end(&client).await, finished, "the outcome was rewritten");

    // Of another job under the same key nothing is believed.
    let other = told("stolen", base + 30).replace("txn-a", "txn-b");
    assert_eq!(provider.0.tell(&client, "evt-6", &other).await, Delivery::Taken);
    assert_eq!(all(&mut revisions).await, []);
    let _ = client.shutdown(Duration::ZERO).await;
    assert_eq!(revisions.next().await, Err(RevisionError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_job_is_under_way_is_none() {
    let provider = deciding();
    let client = Client::builder(provider.clone(), pending_for_ever()).start().await.unwrap();
    let mut revisions = client.revisions();
    let job = client.submit(key("a"), "{}").await.unwrap();
    job.accepted().await.unwrap();
    assert_eq!(provider.0.tell(&client, "evt-1", &told("in progress", later(1))).await, Delivery::Taken);
    assert_eq!(provider.0.tell(&client, "evt-2", &told("ready", later(2))).await, Delivery::Taken);
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
    assert_eq!(all(&mut revisions).await, []);
}

/// Whichever shard has the job; and after a restart, whichever is to look into the store.
#[tokio::test(start_paused = true)]
async fn revisions_of_all_shards_come_to_one_subscription() {
    let (provider, base, store) = (deciding(), later(0), MemoryStore::default());
    for (round, shards) in [4, 3].into_iter().enumerate() {
        let builder = Client::builder(provider.clone(), approved()).store(store.clone()).keep_answers();
        let client = builder.shards(shards).start().await.unwrap();
        let mut revisions = client.revisions();
        for n in 0..12 {
            let name = format!("job-{n}");
            if round == 0 {
                client.submit(key(&name), "{}").await.unwrap().await.unwrap();
            }
            let status = format!("word-{round}");
            let word = format!(r#"{{"reference":"txn-{name}","key":"{name}","status":"{status}","at":{base}}}"#);
            let told = provider.0.tell(&client, &format!("evt-{round}-{n}"), &word).await;
            assert_eq!(told, Delivery::Taken, "{name}");
            let heard = all(&mut revisions).await;
            assert_eq!(words(&heard), [(1, &*status)]);
            assert_eq!(heard[0].reference.as_str(), format!("txn-{name}"));
        }
        let _ = client.shutdown(SECOND).await;
        assert_eq!(revisions.next().await, Err(RevisionError::Stopped));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever order they come in, however often: what is told rises in time, never says the same twice in a row, and ends with the last word.
    #[test]
    fn revisions_are_told_in_the_providers_order(
        events in prop::collection::vec((0_usize..4, 1_u64..30), 1..12).boxed(), repeats in prop::collection::vec(0_usize..12, 0..6).boxed(),
    ) {
        const STATUSES: [&str; 4] = ["approved", "resubmitted", "declined", "expired"];
        // The provider says one thing at a time.
        let mut events = events;
        let mut seen = std::collections::HashSet::new();
        events.retain(|(_, at)| seen.insert(*at));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let heard = runtime.block_on(async {
            let provider = deciding();
            let client = Client::builder(provider.clone(), approved()).start().await.unwrap();
            let mut revisions = client.revisions();
            end(&client).await;
            let base = later(0);
            let arrivals = (0..events.len()).chain(repeats.iter().map(|n| n % events.len()));
            for n in arrivals {
                let (status, at) = events[n];
                let delivery = provider.0.tell(&client, &format!("evt-{n}"), &told(STATUSES[status], base + at)).await;
                assert!(delivery.status().is_success());
            }
            all(&mut revisions).await
        });
        let mut last = "approved";
        for (n, revision) in (1..).zip(&heard) {
            prop_assert_eq!(revision.revision, n);
            prop_assert!(&*revision.status != last);
            last = &revision.status;
        }
        prop_assert!(heard.is_sorted_by_key(|revision| revision.at));
        let newest = events.iter().max_by_key(|(_, at)| *at).unwrap();
        prop_assert_eq!(last, STATUSES[newest.0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_how_many_it_missed_and_nobody_waits_for_it() {
    let (provider, base) = (deciding(), later(0));
    let client = Client::builder(provider.clone(), approved()).start().await.unwrap();
    let mut slow = client.revisions();
    end(&client).await;
    for n in 0..1_100 {
        let delivery = provider.0.tell(&client, &format!("evt-{n}"), &told(&format!("status {n}"), base + n)).await;
        assert_eq!(delivery, Delivery::Taken);
    }
    let Err(RevisionError::Missed(missed)) = slow.next().await else { panic!("it was told of none that it missed") };
    let rest = all(&mut slow).await;
    assert_eq!(missed as usize + rest.len(), 1_100);
    assert_eq!(rest.last().map(|last| last.revision), Some(1_100));
    // Who was not there is not told.
    assert_eq!(all(&mut client.revisions()).await, []);
}

/// The engine has forgotten it; the store has its key.
#[tokio::test(start_paused = true)]
async fn a_job_that_the_store_alone_knows_is_found_by_its_key() {
    for store in Faulty::both() {
        let (provider, base) = (deciding(), later(0));
        let start = async || {
            let builder = Client::builder(provider.clone(), approved()).store(store.clone()).keep_answers();
            builder.start().await.unwrap()
        };
        let client = start().await;
        let finished = end(&client).await;
        let _ = client.shutdown(SECOND).await;

        let client = start().await;
        let tell = async |id: &str, body: &str| provider.0.tell(&client, id, body).await;
        let unknown = Delivery::Unknown { repeat: false };
        assert_eq!(tell("evt-1", &told("resubmitted", base + 1)).await, unknown, "nobody wants to hear of it");
        let mut revisions = client.revisions();
        assert_eq!(tell("evt-2", &told("approved", base + 2)).await, Delivery::Taken);
        assert_eq!(tell("evt-3", &told("resubmitted", base + 3)).await, Delivery::Taken);
        assert_eq!(tell("evt-3", &told("resubmitted", base + 3)).await, Delivery::Repeated);
        assert_eq!(tell("evt-4", &told("declined", base + 1)).await, Delivery::Taken);
        let other = told("declined", base + 9);
        assert_eq!(tell("evt-5", &other.replace("txn-a", "txn-b")).await, unknown, "another job");
        assert_eq!(tell("evt-6", &other.replace(r#""a""#, r#""nobody""#)).await, unknown);
        assert_eq!(words(&all(&mut revisions).await), [(1, "resubmitted")]);

        store.set_unreadable(true);
        assert_eq!(tell("evt-7", &told("expired", base + 20)).await, Delivery::NotDurable, "it is to be sent again");
        store.set_unreadable(false);
        assert_eq!(tell("evt-7", &told("expired", base + 20)).await, Delivery::Taken);
        assert_eq!(words(&all(&mut revisions).await), [(2, "expired")]);
        assert_eq!(end(&client).await, finished, "the outcome was rewritten");
        // It is known here again.
        assert_eq!(tell("evt-8", &told("renewed", base + 30)).await, Delivery::Taken);
        assert_eq!(words(&all(&mut revisions).await), [(3, "renewed")]);
        drop(client);
    }
}

/// A 2xx says that it need not be sent again, so the store is asked as long as there is time.
#[tokio::test(start_paused = true)]
async fn while_the_client_stops_a_job_that_the_store_alone_knows_is_found_too() {
    for store in Kept::both() {
        let provider = deciding();
        let client = Client::builder(provider.clone(), approved()).store(store.clone()).start().await.unwrap();
        end(&client).await;
        let _ = client.shutdown(SECOND).await;

        let client = Client::builder(provider.clone(), pending_for_ever()).store(store).start().await.unwrap();
        let mut revisions = client.revisions();
        drop(client.submit(key("under-way"), "{}").await.unwrap());
        let stops = tokio::spawn(client.clone().shutdown(10 * SECOND));
        sleep(SECOND).await;
        let delivery = provider.0.tell(&client, "evt-1", &told("resubmitted", later(0))).await;
        assert_eq!((delivery, words(&all(&mut revisions).await)), (Delivery::Taken, vec![(1, "resubmitted")]));
        assert_eq!(stops.await.unwrap().len(), 1);
    }
}
