//! Bugs in what a program supplies: each costs what it was asked for, and no more. Whatever it panics with, the driver
//! goes on.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, OperationPolicy, Reference, Timestamp};
use steadfast_driver::{
    Builder, Delivery, Driver, Finished, Following, Mailbox, Renew, RenewError, RenewsBy, Seal, SealError, Submit,
    SubmitError, Task, WebhookPolicy,
};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// What some panic with: to drop it panics as well.
struct Rubble;

impl Drop for Rubble {
    fn drop(&mut self) {
        panic!("it cannot be dropped");
    }
}

/// Where there is a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nowhere,
    Request,
    Read,
    Decision,
    Observer,
    HasWebhooks,
    Unclaimed,
    Renew,
    Seal,
    Webhook,
}

#[derive(Clone, Copy)]
struct Bug {
    at: At,
    rubble: bool,
}

impl Bug {
    fn here(self, at: At) {
        if self.at == at {
            if self.rubble {
                panic_any(Rubble);
            }
            panic!("a bug");
        }
    }
}

/// Accepts what is created, and then is ready. The first create meets credentials that are over.
struct Buggy(Bug, AtomicU32);

impl Provider for Buggy {
    fn name(&self) -> &str {
        "buggy"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        self.0.here(At::Request);
        Request::builder().uri("https://buggy.test/").body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        self.0.here(At::Read);
        match answer.status.as_u16() {
            201 => Ok(Reading::Accepted(Reference::new("txn-1").unwrap())),
            200 => Ok(Reading::Ready),
            _ => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
        }
    }

    fn is_unauthorized(&self, answer: &Answer<'_>) -> bool {
        answer.status == 401
    }

    fn decision(&self, _: &Answer<'_>) -> Option<Box<str>> {
        self.0.here(At::Decision);
        None
    }

    fn has_webhooks(&self) -> bool {
        if self.1.fetch_add(1, Ordering::Relaxed) > 0 {
            self.0.here(At::HasWebhooks);
        }
        true
    }

    fn webhook(&self, _: &HeaderMap, _: &Bytes, _: Timestamp) -> Result<WebhookEvent, WebhookError> {
        self.0.here(At::Webhook);
        Err(WebhookError::Unsupported)
    }
}

impl Seal for Bug {
    fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        self.here(At::Seal);
        Ok(bytes.to_vec())
    }

    fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(sealed.to_vec())
    }
}

struct Client;

impl<F: Fn() + Send + Sync + 'static> RenewsBy<F, ()> for Client {
    fn hook(renew: F) -> Renew {
        Renew::by_call(move || {
            renew();
            Ok::<_, RenewError>(())
        })
    }
}

type Taken = oneshot::Receiver<Result<Following, SubmitError>>;

fn builder(bug: Bug) -> Builder<Buggy, (), Client> {
    Builder::<_, _, Client>::new(Buggy(bug, AtomicU32::default()), ())
        .observer(move |_| bug.here(At::Observer))
        .unclaimed(move |_, _| bug.here(At::Unclaimed))
        .renew_credentials(move || bug.here(At::Renew))
}

fn driver(builder: Builder<Buggy, (), Client>) -> Driver<()> {
    let (provider, (), settings) = builder.into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    Driver::new(Arc::new(provider), loaded, START)
}

fn submit(driver: &mut Driver<()>, now: Timestamp) -> Taken {
    let (reply, taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new("order-42").unwrap(), "{}".into(), reply), now);
    taken
}

/// Carries what there is to its end. Every second of a hundred.
fn carry(driver: &mut Driver<()>) {
    let mut sent = 0;
    for second in 0..100 {
        let now = START.saturating_add(Duration::from_secs(second));
        driver.handle_timeout(now);
        while let Some(task) = driver.pop_task(now) {
            match task {
                Task::Send(sending) => {
                    sent += 1;
                    let status = [401, 201, 200][usize::min(sent, 3) - 1];
                    let response = Response::builder().status(status).body(Bytes::new()).unwrap();
                    driver.answered(sending.reader.read(Ok(response), now), now);
                }
                Task::Work(work) => driver.worked(work.run(|_| {}), now),
                Task::Renew(renewing) => driver.renewed(renewing.run_blocking(), now),
                _ => {}
            }
        }
    }
}

fn finished(taken: Taken) -> Finished {
    taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read()
}

#[test]
fn a_bug_costs_what_was_asked_of_it_and_no_more() {
    for rubble in [false, true] {
        let ends = |at| {
            let mut driver = driver(builder(Bug { at, rubble }));
            let taken = submit(&mut driver, START);
            carry(&mut driver);
            finished(taken).outcome.name()
        };
        assert_eq!(ends(At::Nowhere), "completed");
        assert_eq!(ends(At::Request), "rejected", "nothing could be sent");
        assert_eq!(ends(At::Read), "unresolved", "it may have run");
        for at in [At::Decision, At::Observer, At::HasWebhooks, At::Renew] {
            assert_eq!(ends(at), "completed", "{at:?}");
        }
    }
}

#[test]
fn an_observer_that_panics_and_panics_again_when_it_goes_costs_the_notices() {
    for rubble in [false, true] {
        let broken = Broken { blocks: false, rubble };
        let bug = Bug { at: At::Observer, rubble };
        let observer = move |_: &_| {
            let _kept = &broken;
            bug.here(At::Observer);
        };
        let mut driver = driver(builder(bug).observer(observer));
        let taken = submit(&mut driver, START);
        carry(&mut driver);
        assert_eq!(finished(taken).outcome.name(), "completed");
    }
}

#[test]
fn a_hook_that_panics_leaves_the_outcome_to_a_later_client() {
    for rubble in [false, true] {
        let store = MemoryStore::default();
        let mut driver = driver(builder(Bug { at: At::Unclaimed, rubble }).store(store.clone()));
        drop(submit(&mut driver, START));
        carry(&mut driver);
        let kept = store.clone().find(&Key::new("order-42").unwrap()).unwrap().unwrap();
        assert!(kept.has_ended() && !kept.is_delivered());
    }
}

#[test]
fn a_seal_that_panics_costs_the_submit() {
    for rubble in [false, true] {
        let bug = Bug { at: At::Seal, rubble };
        let mut driver = driver(builder(bug).store(MemoryStore::default()).keep_payloads().seal(bug));
        let taken = submit(&mut driver, START);
        carry(&mut driver);
        assert!(matches!(taken.try_recv().unwrap(), Err(SubmitError::NotDurable(_))));
    }
}

/// Where it came in is the program's own server, which must not be what the bug costs.
#[test]
fn a_webhook_that_the_profile_panics_on_is_to_be_sent_again() {
    for rubble in [false, true] {
        let open = |at| {
            let mailbox =
                Mailbox::new(Arc::new(Buggy(Bug { at, rubble }, AtomicU32::default())), &WebhookPolicy::default());
            mailbox.open(&HeaderMap::new(), &Bytes::from_static(b"canary"), START).unwrap_err()
        };
        assert_eq!(open(At::Nowhere), Delivery::Refused(WebhookError::Unsupported));
        let panicked = open(At::Webhook);
        assert_eq!((panicked.status().as_u16(), panicked.name()), (503, "panicked"));
        assert!(!panicked.to_string().contains("canary"));
    }
}

/// A panic while it held its own lock, for instance: then to drop it panics as well.
struct Broken {
    blocks: bool,
    rubble: bool,
}

impl Store for Broken {
    fn append(&mut self, _: &[Entry]) -> Result<(), StoreError> {
        if self.rubble {
            panic_any(Rubble);
        }
        panic!("the store has a bug");
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(Vec::new())
    }

    fn find(&mut self, _: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }

    fn forget(&mut self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn blocks(&self) -> bool {
        self.blocks
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        panic!("its lock is poisoned");
    }
}

#[test]
fn a_store_that_panics_and_panics_again_when_it_goes_costs_the_journal() {
    for (blocks, rubble) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut driver = driver(builder(Bug { at: At::Nowhere, rubble }).store(Broken { blocks, rubble }));
        let taken = submit(&mut driver, START);
        carry(&mut driver);
        assert!(matches!(taken.try_recv().unwrap(), Err(SubmitError::Uncertain(_))));
        let refused = submit(&mut driver, START);
        carry(&mut driver);
        assert!(matches!(refused.try_recv().unwrap(), Err(SubmitError::Unreadable(_) | SubmitError::NotDurable(_))));
        driver.abandon();
        carry(&mut driver);
        assert!(driver.is_over());
    }
}
