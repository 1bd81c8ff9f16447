//! What the journal promises when the disk does not: virtual time, and a store that fails as told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast_core::engine::Limits;
use steadfast_core::notice::Notice;
use steadfast_core::{Key, Kind, Outcome, Timestamp};
use steadfast_store::{Entry, Store, StoreError};
use steadfast_tokio::{Client, Durability, Seal, SealError, StartError, SubmitError};
use tokio::time::{Instant, timeout};

use crate::support::{Commit, DAY, Faulty, Kept, Plain, Scripted, answer, key};

const SECOND: Duration = Duration::from_secs(1);

fn creates(transport: &Scripted, key: &str) -> usize {
    transport.sent(key).iter().filter(|kind| **kind == Kind::Create).count()
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_doubt_is_neither_promised_nor_denied_until_it_is_known() {
    let doubts = [Commit::InDoubtAndDone, Commit::InDoubtAndNot];
    for (doubt, store) in doubts.into_iter().flat_map(|doubt| Faulty::both().map(|store| (doubt, store))) {
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).start().await.unwrap();
        store.tell([doubt; 20]);
        let mut submit = Box::pin(client.submit(key("order-42"), "{}"));
        assert!(timeout(60 * SECOND, &mut submit).await.is_err(), "{doubt:?}: nobody knows, and it says so");
        assert!(transport.sent("order-42").is_empty(), "{doubt:?}: sent what may not be durable");
        assert!(store.left() < 20 && store.left() > 5, "it is tried again, ever more slowly: {} left", store.left());
        store.tell([]);
        let finished = submit.await.unwrap().await.unwrap();
        assert_eq!(finished.outcome.name(), "completed", "{doubt:?}");
        assert_eq!(creates(&transport, "order-42"), 1);
    }
}

/// The law behind it, over many fates: who is told *not durable* has no record on disk, and whoever is taken in
/// completes, created once.
#[tokio::test(start_paused = true)]
async fn not_durable_is_said_only_when_nothing_is_on_disk() {
    let mut refused = 0;
    for (seed, store) in (0..300).flat_map(|seed| Faulty::both().map(|store| (seed, store))) {
        let mut dice = fastrand::Rng::with_seed(seed);
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).start().await.unwrap();
        let fates = [Commit::Works, Commit::Fails, Commit::InDoubtAndDone, Commit::InDoubtAndNot];
        store.tell((0..24).map(|_| fates[dice.usize(..4)]));
        let mut jobs = Vec::new();
        for n in 0..4 {
            let name = format!("order-{n}");
            match client.submit(key(&name), "{}").await {
                Ok(job) => jobs.push((name, job)),
                Err(SubmitError::NotDurable(_)) => {
                    let found = store.inner.clone().find(&key(&name)).unwrap();
                    assert!(found.is_none(), "seed {seed}: {name} was denied, and is on disk: {found:?}");
                    assert!(transport.sent(&name).is_empty());
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        for (name, job) in jobs {
            assert_eq!(job.await.unwrap().outcome.name(), "completed", "seed {seed}: {name}");
            assert_eq!(creates(&transport, &name), 1);
        }
    }
    assert!(refused > 100, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_in_doubt_says_that_nobody_knows() {
    for store in Faulty::both() {
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).start().await.unwrap();
        store.tell([Commit::InDoubtAndDone; 1_000]);
        let other = client.clone();
        let submit = tokio::spawn(async move { other.submit(key("order-42"), "{}").await });
        tokio::time::sleep(SECOND).await;
        let unfinished =
            timeout(60 * SECOND, client.shutdown(SECOND)).await.expect("a broken store holds up no shutdown");
        assert_eq!(unfinished.len(), 1);
        let refused = submit.await.unwrap();
        assert!(matches!(refused, Err(SubmitError::Uncertain(_))), "{refused:?}");
        assert!(transport.sent("order-42").is_empty());

        // It was on disk: the next client knows the key, and the job runs once.
        store.tell([]);
        let client = Client::builder(Plain, transport.clone()).store(store).start().await.unwrap();
        let finished = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!((finished.outcome.name(), creates(&transport, "order-42")), ("completed", 1));
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_full_disk_submits_are_refused_and_jobs_under_way_go_on_when_it_is_back() {
    for store in Faulty::both() {
        let transport = Scripted::well_behaved();
        let told = Arc::new(Mutex::new(0));
        let count = told.clone();
        let client = Client::builder(Plain, transport.clone())
            .store(store.clone())
            .observer(move |seen| {
                if matches!(seen.notice, Notice::PersistFailed { retry: Some(_), .. }) {
                    *count.lock().unwrap() += 1;
                }
            })
            .start()
            .await
            .unwrap();
        let under_way = client.submit(key("under-way"), "{}").await.unwrap();
        store.tell([Commit::Fails; 1_000]);
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(transport.sent("under-way"), [Kind::Create], "no poll before the acceptance is on disk");
        let refused = client.submit(key("new"), "{}").await.unwrap_err();
        assert!(refused.to_string().contains("could not be written to the journal"), "{refused}");
        let cause = std::error::Error::source(&refused).and_then(std::error::Error::source).unwrap();
        assert_eq!(cause.to_string(), "no space left on device", "the cause can be found");
        assert!(transport.sent("new").is_empty());
        assert!(*told.lock().unwrap() > 3, "those under way say so");
        store.tell([]);
        assert_eq!(under_way.await.unwrap().outcome.name(), "completed");
        assert_eq!(creates(&transport, "under-way"), 1);
        assert_eq!(client.submit(key("new"), "{}").await.unwrap().await.unwrap().outcome.name(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_refuses_to_start_and_to_guess() {
    for store in Faulty::both() {
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).start().await.unwrap();
        store.set_unreadable(true);
        let refused = client.submit(key("order-42"), "{}").await;
        assert!(matches!(refused, Err(SubmitError::Unreadable(_))), "whether the key is new is not known: {refused:?}");
        assert!(transport.sent("order-42").is_empty());
        let second = Client::builder(Plain, transport.clone()).store(store.clone()).start().await;
        assert!(matches!(second, Err(StartError::Unreadable(_))), "{second:?}");
        store.set_unreadable(false);
        assert_eq!(client.submit(key("order-42"), "{}").await.unwrap().await.unwrap().outcome.name(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn durability_is_as_was_asked_for() {
    for store in Kept::both() {
        let volatile =
            Client::builder(Plain, Scripted::well_behaved()).store(store.clone()).durability(Durability::Volatile);
        let client = volatile.start().await.unwrap();
        assert_eq!(client.submit(key("order-42"), "{}").await.unwrap().await.unwrap().outcome.name(), "completed");
        assert!(store.clone().load().unwrap().is_empty());
        let homeless = Client::builder(Plain, Scripted::well_behaved()).durability(Durability::Durable).start().await;
        assert!(matches!(homeless, Err(StartError::NoStore)), "{homeless:?}");
    }
}

/// Turns every bit, and knows what it turned for whom.
struct Turned;

impl Seal for Turned {
    fn seal(&self, key: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(key.as_str().bytes().take(1).chain(bytes.iter().map(|byte| !byte)).collect())
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        match sealed {
            [first, rest @ ..] if *first == key.as_str().as_bytes()[0] => Ok(rest.iter().map(|byte| !byte).collect()),
            _ => Err("sealed for another".into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_personal_is_kept_unless_asked_for_and_then_as_sealed() {
    let asked = [(false, false), (true, false), (true, true)];
    for ((kept, sealed), store) in asked.into_iter().flat_map(|asked| Kept::both().map(|store| (asked, store))) {
        let mut builder = Client::builder(Plain, Scripted::well_behaved()).store(store.clone());
        if kept {
            builder = builder.keep_payloads().keep_answers();
        }
        if sealed {
            builder = builder.seal(Turned);
        }
        let client = builder.start().await.unwrap();
        let job = client.submit(key("order-42"), "canary").await.unwrap();
        let at_first = store.clone().find(&key("order-42")).unwrap().unwrap();
        let finished = job.await.unwrap();
        assert!(client.shutdown(SECOND).await.is_empty());
        let at_last = store.clone().find(&key("order-42")).unwrap().unwrap();
        assert_eq!(at_last.payload, None, "no longer than the job");
        let (payload, body) = (at_first.payload, at_last.answer.map(|answer| answer.body));
        match (kept, sealed) {
            (false, _) => assert_eq!((payload, body), (None, None)),
            (true, false) => {
                assert_eq!((payload.unwrap(), body.unwrap()), (b"canary".to_vec(), finished.body().to_vec()))
            }
            (true, true) => {
                assert_eq!(payload.unwrap(), Turned.seal(&key("order-42"), b"canary").unwrap());
                let sealed = Turned.seal(&key("order-42"), finished.body()).unwrap();
                assert_eq!(body.unwrap(), [b"\0sealed\0", &*sealed].concat());
            }
        }
    }
}

/// A seal with a bug.
struct Panics;

impl Seal for Panics {
    fn seal(&self, _: &Key, _: &[u8]) -> Result<Vec<u8>, SealError> {
        panic!("the seal has a bug")
    }

    fn open(&self, _: &Key, _: &[u8]) -> Result<Vec<u8>, SealError> {
        panic!("the seal has a bug")
    }
}

#[tokio::test(start_paused = true)]
async fn a_seal_that_panics_costs_the_submit_and_not_the_store() {
    for store in Kept::both() {
        let transport = Scripted::well_behaved();
        let builder = Client::builder(Plain, transport.clone()).store(store.clone());
        let client = builder.keep_payloads().seal(Panics).start().await.unwrap();
        for _ in 0..2 {
            let refused = client.submit(key("order-42"), "{}").await;
            assert!(matches!(refused, Err(SubmitError::NotDurable(_))), "nothing goes to disk unsealed: {refused:?}");
        }
        assert!(store.clone().load().unwrap().is_empty() && transport.sent("order-42").is_empty());
    }
}

/// A seal whose keys are out of reach.
struct Locked;

impl Seal for Locked {
    fn seal(&self, _: &Key, _: &[u8]) -> Result<Vec<u8>, SealError> {
        Err("the key server does not answer".into())
    }

    fn open(&self, _: &Key, _: &[u8]) -> Result<Vec<u8>, SealError> {
        Err("the key server does not answer".into())
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sealed_costs_the_submit_which_is_told_why_or_the_answer_and_not_its_job() {
    for store in Kept::both() {
        let transport = Scripted::well_behaved();
        let builder = Client::builder(Plain, transport.clone()).store(store.clone());
        let client = builder.keep_payloads().seal(Locked).start().await.unwrap();
        let refused = client.submit(key("order-42"), "{}").await.unwrap_err();
        let SubmitError::NotDurable(cause) = &refused else { panic!("{refused:?}") };
        let cause = std::iter::successors(Some(&**cause as &dyn std::error::Error), |cause| cause.source()).last();
        assert_eq!(cause.unwrap().to_string(), "the key server does not answer");
        assert!(store.clone().load().unwrap().is_empty() && transport.sent("order-42").is_empty());
        assert!(client.shutdown(SECOND).await.is_empty());

        let builder = Client::builder(Plain, transport.clone()).store(store.clone());
        let client = builder.keep_answers().seal(Locked).start().await.unwrap();
        let finished = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!((finished.outcome.name(), finished.body().is_empty()), ("completed", false));
        assert!(client.shutdown(SECOND).await.is_empty());
        assert_eq!(store.clone().find(&key("order-42")).unwrap().unwrap().answer, None);
    }
}

/// A seal with a bug that answers alone meet.
struct PanicsAtAnswers;

impl Seal for PanicsAtAnswers {
    fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        assert!(!bytes.windows(8).any(|part| part == b"verified"), "the seal has a bug");
        Ok(bytes.to_vec())
    }

    fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(sealed.to_vec())
    }
}

/// Else its record is never written: nobody is told how it ended, and whatever goes to disk with it is refused.
#[tokio::test(start_paused = true)]
async fn a_seal_that_panics_at_an_answer_costs_what_was_to_be_kept_and_not_the_job() {
    for store in Kept::both() {
        let transport = Scripted::well_behaved();
        let builder = Client::builder(Plain, transport.clone()).store(store.clone());
        let client = builder.keep_payloads().keep_answers().seal(PanicsAtAnswers).start().await.unwrap();
        let job = client.submit(key("order-42"), "{}").await.unwrap();
        let finished = timeout(60 * SECOND, job).await.expect("its outcome is told").unwrap();
        assert_eq!(finished.outcome.name(), "completed");
        assert!(!finished.body().is_empty());
        let again = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!((again.outcome, creates(&transport, "order-42")), (finished.outcome, 1));
        assert!(client.shutdown(SECOND).await.is_empty());
        let kept = store.clone().find(&key("order-42")).unwrap().unwrap();
        assert_eq!((kept.answer, kept.payload), (None, None), "nothing goes to disk unsealed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_submit_gets_its_outcome_from_the_store_when_the_engine_has_forgotten() {
    for store in Kept::both() {
        let transport = Scripted::well_behaved();
        let limits = Limits { remember: 0, ..Limits::default() };
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).limits(limits).keep_answers();
        let client = client.start().await.unwrap();
        let first = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        tokio::time::sleep(SECOND).await;
        let again = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!(first, again);
        let other = client.submit(key("order-42"), "other").await;
        assert!(matches!(other, Err(SubmitError::Refused(_))), "another payload: {other:?}");
        assert_eq!(creates(&transport, "order-42"), 1);
        drop(client);

        // And so does one of the next process.
        let client =
            Client::builder(Plain, transport.clone()).store(store).keep_answers().seal(NotAtAll).start().await.unwrap();
        let after = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!(after, first);
        assert_eq!(creates(&transport, "order-42"), 1);
    }
}

/// A seal that leaves all as it is.
struct NotAtAll;

impl Seal for NotAtAll {
    fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(bytes.to_vec())
    }

    fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(sealed.to_vec())
    }
}

/// Notes how many it was asked to forget and how many it forgot, where that was any.
#[derive(Clone)]
struct Counting {
    inner: Kept,
    forgot: Arc<Mutex<Vec<[usize; 2]>>>,
}

impl Store for Counting {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.inner.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.inner.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        let gone = self.inner.forget(before, most)?;
        self.forgot.lock().unwrap().extend((gone > 0).then_some([most, gone]));
        Ok(gone)
    }

    fn is_backup(&self) -> bool {
        self.inner.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.inner.take_into_use()
    }

    fn blocks(&self) -> bool {
        self.inner.blocks()
    }
}

/// While operations are forgotten nothing is written, so nobody's job shall wait for more than 256 of them.
#[tokio::test(start_paused = true)]
async fn ended_operations_are_kept_for_their_window_and_then_forgotten_in_small_batches() {
    for inner in Kept::both() {
        let store = Counting { inner, forgot: Arc::default() };
        let transport = Scripted::well_behaved();
        let limits = Limits { remember_for: 3_600 * SECOND, ..Limits::default() };
        let client =
            Client::builder(Plain, transport.clone()).store(store.clone()).limits(limits).start().await.unwrap();
        let mut jobs = Vec::new();
        for n in 0..600 {
            jobs.push(client.submit(key(&format!("order-{n}")), "{}").await.unwrap());
        }
        for job in jobs {
            job.await.unwrap();
        }
        let began = Instant::now();
        tokio::time::sleep(3_500 * SECOND).await;
        assert_eq!(store.clone().load().unwrap().len(), 600);
        // More than one batch, with nothing else to do.
        tokio::time::sleep(300 * SECOND).await;
        assert_eq!(store.clone().load().unwrap().len(), 0, "after {:?}", began.elapsed());
        assert_eq!(*store.forgot.lock().unwrap(), [[256, 256], [256, 256], [256, 88]]);
        let again = client.submit(key("order-1"), "{}").await.unwrap().await.unwrap();
        assert_eq!((again.outcome.name(), creates(&transport, "order-1")), ("completed", 2), "its key is free again");
    }
}

/// What is kept may be personal data, so it goes when its window is over, whether anybody comes meanwhile or not.
#[tokio::test(start_paused = true)]
async fn a_client_with_nothing_to_do_forgets_what_an_earlier_one_left() {
    for store in Kept::both() {
        let build = || Client::builder(Plain, Scripted::well_behaved()).store(store.clone()).keep_answers();
        let client = build().start().await.unwrap();
        client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert!(client.shutdown(SECOND).await.is_empty());
        let _idle = build().start().await.unwrap();
        tokio::time::sleep(DAY - 120 * SECOND).await;
        assert_eq!(store.clone().load().unwrap().len(), 1);
        tokio::time::sleep(240 * SECOND).await;
        assert_eq!(store.clone().load().unwrap(), []);
    }
}

/// A rejected job's key is free, also when only the store remembers it.
#[tokio::test(start_paused = true)]
async fn a_rejected_key_is_free_after_a_restart() {
    for store in Kept::both() {
        let refuses = Scripted::new(|_, _, _| async { Ok(answer(422, "no")) });
        let client = Client::builder(Plain, refuses).store(store.clone()).start().await.unwrap();
        let rejected = client.submit(key("order-42"), "wrong").await.unwrap().await.unwrap();
        assert!(matches!(rejected.outcome, Outcome::Rejected(_)));
        assert!(client.shutdown(SECOND).await.is_empty());
        let client = Client::builder(Plain, Scripted::well_behaved()).store(store).start().await.unwrap();
        let corrected = client.submit(key("order-42"), "right").await.unwrap().await.unwrap();
        assert_eq!(corrected.outcome.name(), "completed");
    }
}

fn is_delivered(store: &Faulty, name: &str) -> bool {
    store.inner.clone().find(&key(name)).unwrap().unwrap().is_delivered()
}

#[tokio::test(start_paused = true)]
async fn that_an_outcome_was_delivered_goes_with_the_next_commit() {
    for store in Faulty::both() {
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport).store(store.clone()).start().await.unwrap();
        store.tell([Commit::Works; 100]);
        client.submit(key("first"), "{}").await.unwrap().await.unwrap();
        let left = store.left();
        assert!(!is_delivered(&store, "first"), "nobody waits for that");
        let second = client.submit(key("second"), "{}").await.unwrap();
        assert!(is_delivered(&store, "first"));
        assert_eq!(store.left(), left - 1, "one commit for both");
        assert_eq!(second.await.unwrap().outcome.name(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn that_an_outcome_was_delivered_is_on_disk_soon_even_if_nothing_else_is_written() {
    for store in Faulty::both() {
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport).store(store.clone()).start().await.unwrap();
        client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        let waits = Duration::from_millis(100);
        tokio::time::sleep(waits / 2).await;
        assert!(!is_delivered(&store, "order-42"));
        tokio::time::sleep(waits).await;
        assert!(is_delivered(&store, "order-42"));
        client.submit(key("order-43"), "{}").await.unwrap().await.unwrap();
        assert!(client.shutdown(SECOND).await.is_empty());
        assert!(is_delivered(&store, "order-43"), "a shutdown leaves nothing for later");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_room_that_a_delivered_outcome_takes() {
    for store in Faulty::both() {
        let transport = Scripted::well_behaved();
        let limits = Limits { live: 1, ..Limits::default() };
        let client = Client::builder(Plain, transport).limits(limits).store(store).start().await.unwrap();
        let mut took = Vec::new();
        for name in ["first", "second", "third"] {
            let began = Instant::now();
            client.submit(key(name), "{}").await.unwrap().await.unwrap();
            took.push(began.elapsed());
        }
        assert!(took.windows(2).all(|pair| pair[0] == pair[1]), "{took:?}");
    }
}
