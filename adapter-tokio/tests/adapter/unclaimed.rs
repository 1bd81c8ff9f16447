//! Outcomes that nobody waits for: kept until somebody does, handed over to the program's hook, or let go on purpose.
//! And whose jobs a client takes up. Virtual time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use steadfast_core::operation::{Reading, Stage};
use steadfast_core::retry::Failure;
use steadfast_core::{Kind, OperationPolicy, Outcome};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::Store;
use steadfast_tokio::{Builder, Client, ResumeError, StartError, SubmitError};

use crate::support::{DAY, Kept, Plain, Scripted, answer, key};

const SECOND: Duration = Duration::from_secs(1);

fn stage(store: &Kept, name: &str) -> Stage {
    store.clone().find(&key(name)).unwrap().unwrap().record.stage
}

fn creates(transport: &Scripted, name: &str) -> usize {
    transport.sent(name).iter().filter(|kind| **kind == Kind::Create).count()
}

fn builder(store: &Kept, transport: &Scripted) -> Builder<Plain, Scripted> {
    Client::builder(Plain, transport.clone()).store(store.clone()).keep_payloads()
}

/// A client dies with this job accepted or on its way.
async fn dies(store: &Kept, name: &str) {
    let hangs = Scripted::new(|kind, _, key| async move {
        match kind {
            Kind::Create => Ok(answer(201, format!("txn-{key}"))),
            _ => std::future::pending().await,
        }
    });
    let client = builder(store, &hangs).start().await.unwrap();
    let _job = client.submit(key(name), "{}").await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(client.shutdown(Duration::ZERO).await.iter().any(|job| job.key == key(name)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_kept_until_somebody_asks_in_this_process_or_a_later_one() {
    // While the engine remembers it, and long after its window: nobody has it yet.
    let cases = [(false, SECOND), (false, 2 * DAY), (true, SECOND), (true, 2 * DAY)];
    for ((later, wait), store) in cases.into_iter().flat_map(|case| Kept::both().map(|store| (case, store))) {
        dies(&store, "order-42").await;
        let transport = Scripted::well_behaved();
        let mut client = builder(&store, &transport).keep_answers().start().await.unwrap();
        tokio::time::sleep(600 * SECOND).await;
        assert!(matches!(stage(&store, "order-42"), Stage::Ended(Outcome::Completed(_))));
        if later {
            assert!(client.shutdown(SECOND).await.is_empty());
            client = builder(&store, &transport).keep_answers().start().await.unwrap();
        }
        tokio::time::sleep(wait).await;
        let told = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!(
            (told.outcome.name(), told.body()),
            ("completed", &br#"{"status":"verified"}"#[..]),
            "later: {later}"
        );
        tokio::time::sleep(SECOND).await;
        assert!(matches!(stage(&store, "order-42"), Stage::Delivered(_)), "later: {later}");
        assert_eq!(creates(&transport, "order-42"), 0, "it was accepted by the provider before");
        // And so it is forgotten in time.
        tokio::time::sleep(2 * DAY).await;
        assert_eq!(store.clone().load().unwrap(), []);
    }
}

/// The driver's own copy of the answer had to make room for another; the store's is whole.
#[tokio::test(start_paused = true)]
async fn its_answer_comes_from_the_store_if_it_was_dropped_here() {
    for (store, by_key) in
        Kept::both().into_iter().zip([false, true]).chain(Kept::both().into_iter().zip([true, false]))
    {
        dies(&store, "order-42").await;
        let transport = Scripted::well_behaved();
        let client = builder(&store, &transport).keep_answers().results_limit(1).start().await.unwrap();
        tokio::time::sleep(600 * SECOND).await;
        client.submit(key("another"), "{}").await.unwrap().await.unwrap();
        let told = match by_key {
            true => client.resume(key("order-42")).await.unwrap(),
            false => client.submit(key("order-42"), "{}").await.unwrap(),
        };
        assert_eq!(told.await.unwrap().body(), br#"{"status":"verified"}"#, "by key: {by_key}");
        tokio::time::sleep(SECOND).await;
        assert!(matches!(stage(&store, "order-42"), Stage::Delivered(_)), "by key: {by_key}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_can_be_claimed_by_its_key_alone() {
    for store in Kept::both() {
        dies(&store, "order-42").await;
        let client = builder(&store, &Scripted::well_behaved()).start().await.unwrap();
        tokio::time::sleep(600 * SECOND).await;
        assert!(client.shutdown(SECOND).await.is_empty());
        let client = builder(&store, &Scripted::well_behaved()).start().await.unwrap();
        assert_eq!(client.resume(key("order-42")).await.unwrap().await.unwrap().outcome.name(), "completed");
        tokio::time::sleep(SECOND).await;
        assert!(matches!(stage(&store, "order-42"), Stage::Delivered(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn who_drops_a_handle_lets_go_of_the_outcome_but_not_in_a_shutdown() {
    for store in Kept::both() {
        let transport = Scripted::well_behaved();
        let client = builder(&store, &transport).start().await.unwrap();
        drop(client.submit(key("let-go"), "{}").await.unwrap());
        tokio::time::sleep(600 * SECOND).await;
        assert!(matches!(stage(&store, "let-go"), Stage::Delivered(Outcome::Completed(_))));

        drop(client.submit(key("went-down"), "{}").await.unwrap());
        assert!(client.shutdown(600 * SECOND).await.is_empty());
        assert!(matches!(stage(&store, "went-down"), Stage::Ended(Outcome::Completed(_))));
    }
}

/// Handles go down with requests that are cut off, or are dropped by a server that has answered *accepted*: who gave a
/// hook wants to know all the same.
#[tokio::test(start_paused = true)]
async fn a_hook_takes_what_a_dropped_handle_let_go_of_with_a_store_or_without() {
    for store in Kept::both().into_iter().map(Some).chain([None]) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let take = taken.clone();
        let mut told = Client::builder(Plain, Scripted::well_behaved()).unclaimed(move |key, finished| {
            take.lock().unwrap().push((key.as_str().to_owned(), finished.outcome.name()))
        });
        if let Some(store) = &store {
            told = told.store(store.clone());
        }
        let client = told.start().await.unwrap();
        drop(client.submit(key("answered"), "{}").await.unwrap());
        let cut_off = tokio::spawn({
            let client = client.clone();
            async move { client.submit(key("cut-off"), "{}").await.unwrap().await }
        });
        let waits = client.submit(key("waited-for"), "{}").await.unwrap();
        drop(client.submit(key("waited-for"), "{}").await.unwrap());
        cut_off.abort();
        waits.await.unwrap();
        tokio::time::sleep(600 * SECOND).await;

        taken.lock().unwrap().sort();
        assert_eq!(*taken.lock().unwrap(), [("answered".to_owned(), "completed"), ("cut-off".to_owned(), "completed")]);
        if let Some(store) = &store {
            assert!(matches!(stage(store, "answered"), Stage::Delivered(_)));
        }
    }
}

/// Whoever held the handle for the acceptance alone, or was cut off before it had read the outcome, has not taken it.
/// Who asks again later, and drops that, has not let go of it a second time.
#[tokio::test(start_paused = true)]
async fn a_hook_takes_what_a_handle_was_told_and_nobody_read() {
    for store in Kept::both() {
        let refuses = Scripted::new(|_, _, _| async { Ok(answer(422, String::new())) });
        let taken = Arc::new(Mutex::new(Vec::new()));
        let take = taken.clone();
        let client = builder(&store, &refuses).unclaimed(move |key, finished| {
            take.lock().unwrap().push((key.as_str().to_owned(), finished.outcome.name()))
        });
        let client = client.start().await.unwrap();
        let job = client.submit(key("order-42"), "{}").await.unwrap();
        job.accepted().await.unwrap_err();
        tokio::time::sleep(SECOND).await;
        assert_eq!(*taken.lock().unwrap(), []);
        drop(job);
        tokio::time::sleep(SECOND).await;
        assert_eq!(*taken.lock().unwrap(), [("order-42".to_owned(), "rejected")]);

        drop(client.resume(key("order-42")).await.unwrap());
        client.submit(key("read"), "{}").await.unwrap().await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(taken.lock().unwrap().len(), 1);

        let job = client.submit(key("late"), "{}").await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert!(client.shutdown(SECOND).await.is_empty());
        drop(job);
        assert_eq!(taken.lock().unwrap().last(), Some(&("late".to_owned(), "rejected")), "the client has stopped");
    }
}

/// However closely a handle goes down behind the end of its job, or a submit behind its answer: the outcome is read, or
/// the hook has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_is_never_dropped_between_its_reader_and_the_hook() {
    let [ran, heard]: [Arc<AtomicUsize>; 2] = Default::default();
    let (runs, hears) = (ran.clone(), heard.clone());
    let refuses = Scripted::new(move |_, _, _| {
        runs.fetch_add(1, Ordering::Relaxed);
        async { Ok(answer(422, String::new())) }
    });
    let builder = Client::builder(Plain, refuses).unclaimed(move |_, _| {
        hears.fetch_add(1, Ordering::Relaxed);
    });
    let client = builder.start().await.unwrap();
    let mut read = 0;
    for n in 0..3_000 {
        let turns = |count| async move {
            for _ in 0..count {
                tokio::task::yield_now().await;
            }
        };
        let job = tokio::select! {
            biased;
            job = client.submit(key(&format!("job-{n}")), "{}") => job.unwrap(),
            () = turns(if n % 3 == 0 { n % 5 } else { usize::MAX }) => continue,
        };
        turns(n % 7).await;
        tokio::select! {
            biased;
            ended = job => read += usize::from(ended.is_ok()),
            () = std::future::ready(()) => {}
        }
    }
    assert!(client.shutdown(60 * SECOND).await.is_empty());
    assert_eq!(read + heard.load(Ordering::Relaxed), ran.load(Ordering::Relaxed));
}

/// It may be mended, and then it is told what it missed.
#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_has_not_taken_what_a_dropped_handle_let_go_of() {
    for store in Kept::both() {
        let client = builder(&store, &Scripted::well_behaved())
            .unclaimed(|_, _| -> () { panic!("a bug") })
            .start()
            .await
            .unwrap();
        drop(client.submit(key("order-42"), "{}").await.unwrap());
        tokio::time::sleep(600 * SECOND).await;
        assert!(matches!(stage(&store, "order-42"), Stage::Ended(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_takes_them_as_they_end_and_those_that_wait_in_the_store() {
    for store in Kept::both() {
        dies(&store, "first").await;
        let client = builder(&store, &Scripted::well_behaved()).keep_answers().start().await.unwrap();
        tokio::time::sleep(600 * SECOND).await;
        assert!(client.shutdown(SECOND).await.is_empty());
        assert!(matches!(stage(&store, "first"), Stage::Ended(_)));
        dies(&store, "second").await;

        // One that panics has taken nothing.
        let panics =
            builder(&store, &Scripted::well_behaved()).keep_answers().unclaimed(|_, _| -> () { panic!("a bug") });
        let client = panics.start().await.unwrap();
        tokio::time::sleep(600 * SECOND).await;
        assert!(client.shutdown(SECOND).await.is_empty());
        assert!(matches!((stage(&store, "first"), stage(&store, "second")), (Stage::Ended(_), Stage::Ended(_))));

        let taken = Arc::new(Mutex::new(Vec::new()));
        let take = taken.clone();
        let takes = builder(&store, &Scripted::well_behaved()).keep_answers().unclaimed(move |key, finished| {
            let body = String::from_utf8(finished.body().to_vec()).unwrap();
            take.lock().unwrap().push((key.as_str().to_owned(), finished.outcome.name(), body));
        });
        let client = takes.start().await.unwrap();
        tokio::time::sleep(600 * SECOND).await;
        let verified = |name: &str| (name.to_owned(), "completed", r#"{"status":"verified"}"#.to_owned());
        assert_eq!(*taken.lock().unwrap(), [verified("first"), verified("second")]);
        assert!(matches!(
            (stage(&store, "first"), stage(&store, "second")),
            (Stage::Delivered(_), Stage::Delivered(_))
        ));
        // Somebody waits for this one.
        client.submit(key("third"), "{}").await.unwrap().await.unwrap();
        assert_eq!(taken.lock().unwrap().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_leaves_alone_what_it_was_not_to_take_up() {
    for store in Kept::both() {
        dies(&store, "mine").await;
        dies(&store, "theirs").await;
        let transport = Scripted::well_behaved();
        let client = builder(&store, &transport).take_up(|key| key.as_str() == "mine").start().await.unwrap();
        tokio::time::sleep(600 * SECOND).await;
        assert!(matches!((stage(&store, "mine"), stage(&store, "theirs")), (Stage::Ended(_), Stage::Accepted)));
        assert!(transport.sent("theirs").is_empty());
        // Until it is asked for.
        assert_eq!(client.submit(key("theirs"), "{}").await.unwrap().await.unwrap().outcome.name(), "completed");
        assert_eq!(creates(&transport, "theirs"), 0);
    }
}

/// Its payload may be at hand, and else somebody must bring it: a create without one would end the job.
#[tokio::test(start_paused = true)]
async fn a_create_that_was_not_to_be_taken_up_is_resumed_with_its_payload_or_not_at_all() {
    for (kept, store) in [true, false].into_iter().flat_map(|kept| Kept::both().map(|store| (kept, store))) {
        let unanswered = Scripted::new(|_, _, _| std::future::pending());
        let mut dies = Client::builder(Plain, unanswered.clone()).store(store.clone());
        if kept {
            dies = dies.keep_payloads();
        }
        let client = dies.start().await.unwrap();
        let _job = client.submit(key("theirs"), "{}").await.unwrap();
        tokio::time::sleep(SECOND).await;
        let _ = client.shutdown(Duration::ZERO).await;
        assert_eq!(stage(&store, "theirs"), Stage::InFlight);

        let transport = Scripted::well_behaved();
        let client = builder(&store, &transport).take_up(|_| false).start().await.unwrap();
        let job = match client.resume(key("theirs")).await {
            Ok(job) => job,
            Err(refused) => {
                assert!(!kept && matches!(refused, ResumeError::PayloadNeeded), "{refused}");
                assert_eq!((stage(&store, "theirs"), creates(&transport, "theirs")), (Stage::InFlight, 0));
                client.submit(key("theirs"), "{}").await.unwrap()
            }
        };
        assert_eq!(job.await.unwrap().outcome.name(), "completed", "kept: {kept}");
        assert_eq!(creates(&transport, "theirs"), 1);
    }
}

struct Other;

impl Provider for Other {
    fn name(&self) -> &str {
        "other\u{1b}[2J"
    }

    fn policy(&self) -> OperationPolicy {
        Plain.policy()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Plain.request(ask)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        Plain.read(answer)
    }
}

/// Neither a reference nor a payload nor an outcome crosses over.
#[tokio::test(start_paused = true)]
async fn a_store_serves_one_provider() {
    for store in Kept::both() {
        dies(&store, "order-42").await;
        let transport = Scripted::well_behaved();
        let other = || Client::builder(Other, transport.clone()).store(store.clone());
        let refused = other().start().await.unwrap_err();
        assert!(matches!(refused, StartError::OtherProvider { .. }), "{refused:?}");
        assert!(!refused.to_string().contains('\u{1b}'), "no terminal is commanded by a name");

        // Also of what has ended.
        let client = builder(&store, &transport).start().await.unwrap();
        client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert!(client.shutdown(SECOND).await.is_empty());
        let sent = transport.sent("order-42").len();
        match other().start().await {
            Err(refused) => assert!(matches!(refused, StartError::OtherProvider { .. }), "{refused:?}"),
            Ok(client) => {
                let refused = client.submit(key("order-42"), "{}").await.unwrap_err();
                assert!(matches!(refused, SubmitError::Unreadable(_)), "{refused:?}");
                // The journal is whole: nobody is to look for what is wrong with it.
                let cause = std::error::Error::source(&refused).unwrap().to_string();
                assert!(refused.to_string().contains("do as the cause says"), "{refused}");
                assert!(cause.contains("give each provider a store of its own"), "{cause}");
                assert!(client.resume(key("order-42")).await.is_err());
            }
        }
        assert_eq!(transport.sent("order-42").len(), sent);
    }
}
