//! The rows in which the provider tells of the job by itself: when it may be told 2xx, and what becomes of what it was
//! not told 2xx for.
//!
//! The sender outlives processes, as real ones do: it sends the same event again, freshly signed, until it has its 2xx,
//! and then never again.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Reading, Stage, Unresolved};
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::Failure;
use steadfast_core::{Kind, OperationPolicy, Outcome, Timestamp};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};
use steadfast_testkit::{Fault, Faults};
use steadfast_tokio::{Client, Delivery, Finished};
use tokio::time::sleep;

use crate::disk::On;
use crate::life::{Crash, Life, Point};
use crate::world::{Case, SECOND, World, at_each_step, key};

fn verifier() -> Verifier {
    Verifier::new(Scheme::StandardWebhooks, ["whsec_c3RlYWRmYXN0LWNyYXNoLW1hdHJpeA=="]).unwrap()
}

/// A provider that also tells of its jobs by itself.
pub(crate) struct Telling<P>(pub(crate) P);

impl<P: Provider> Provider for Telling<P> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn policy(&self) -> OperationPolicy {
        self.0.policy()
    }

    fn gate(&self) -> GatePolicy {
        self.0.gate()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        self.0.request(ask)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        self.0.read(answer)
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        self.0.quota(answer)
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(verifier().verify(headers, body, wall)?, body))
    }
}

/// How the event names its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Reference,
    Both,
}

/// Sends one event about the job until it has been told 2xx. Clones are the same one.
#[derive(Clone)]
struct Sender {
    world: World,
    named: Named,
    answers: Arc<Mutex<Vec<Told>>>,
}

/// What it was answered, and what was on disk at that moment.
type Told = (Delivery, Option<Stage>);

impl Sender {
    fn new(world: &World, named: Named) -> Self {
        Self { world: world.clone(), named, answers: Arc::default() }
    }

    async fn send(&self, client: &Client) -> Option<Delivery> {
        let reference = self.world.transaction()?;
        let key = if self.named == Named::Both { format!(r#""key":"{}","#, key().as_str()) } else { String::new() };
        let body = Bytes::from(format!(r#"{{{key}"reference":"{reference}","status":"ready"}}"#));
        let headers = verifier().sign("evt-1", Timestamp::from(SystemTime::now()), &body).unwrap();
        Some(client.deliver(&headers, body).await)
    }

    /// Sends again and again while this process lives.
    async fn insist(&self, client: &Client, life: &Life) {
        while !self.is_acknowledged() {
            if let Some(delivery) = self.send(client).await
                && life.is_alive()
            {
                let was_taken = delivery == Delivery::Taken;
                self.answers.lock().unwrap().push((delivery, self.world.stage()));
                if was_taken {
                    let again = self.send(client).await;
                    assert!(again == Some(Delivery::Repeated) || !life.is_alive(), "not known by its id: {again:?}");
                }
            }
            sleep(SECOND / 20).await;
        }
    }

    /// Sent twice more all the same, after the end: it has no effect.
    async fn changes_nothing(&self, finished: &Finished) {
        let (sent, record) = (self.world.seen().sent.len(), self.world.record());
        let late = async |client: &Client, _: &Life| {
            for _ in 0..2 {
                // While the key is looked up, it might be about that job.
                while let Some(delivery) = self.send(client).await.filter(|told| !told.status().is_success()) {
                    assert_eq!(delivery, Delivery::Early);
                }
            }
        };
        let same = self.world.live_beside(Crash::Never, late).await.unwrap();
        assert_eq!((same.outcome, &same.reference), (finished.outcome, &finished.reference));
        assert_eq!((self.world.seen().sent.len(), self.world.record()), (sent, record), "it had an effect");
    }

    fn is_acknowledged(&self) -> bool {
        self.answers.lock().unwrap().iter().any(|(delivery, _)| delivery.status().is_success())
    }

    /// No 2xx for what is not on disk; and the sender is never blamed for what is our trouble.
    fn check(&self) {
        for (delivery, stage) in &*self.answers.lock().unwrap() {
            assert!(!delivery.status().is_client_error(), "{delivery:?}");
            let learnt = matches!(stage, Some(Stage::Accepted | Stage::Ended(_) | Stage::Delivered(_)));
            assert!(!delivery.status().is_success() || learnt, "2xx for {delivery:?} at {stage:?}");
        }
    }
}

/// Every store with every provider, with the payload kept and not, for each of the ways to name the job.
fn each() -> impl Iterator<Item = (On, Case, bool, Named)> {
    let cases = On::BOTH.into_iter().flat_map(|on| Case::ALL.map(|case| (on, case)));
    cases.flat_map(|(on, case)| {
        [false, true]
            .into_iter()
            .flat_map(move |kept| [Named::Reference, Named::Both].map(|named| (on, case, kept, named)))
    })
}

/// The event comes when the job is accepted, and long before its first poll. The process dies at `point`, and each
/// recovery at each of its own steps too; `left` looks at what there is in between.
async fn row(point: Point, left: impl Fn(&World)) {
    for (on, case, kept, named) in each() {
        at_each_step(async |step| {
            let world = World::new(on, case, kept);
            let sender = Sender::new(&world, named);
            let beside = async |client: &Client, life: &Life| {
                while world.stage() != Some(Stage::Accepted) {
                    sleep(SECOND / 100).await;
                }
                sender.insist(client, life).await;
            };
            assert!(
                world.live_beside(Crash::At(point), beside).await.is_none(),
                "{case:?}: it does not come to {point:?}"
            );
            assert!(!sender.is_acknowledged(), "{case:?}: 2xx, and then it died at {point:?}");
            left(&world);
            let again = async |client: &Client, life: &Life| sender.insist(client, life).await;
            let end = world.recover_beside(step, again).await;
            sender.check();
            assert!(sender.is_acknowledged());
            assert_eq!(end.finished.outcome.name(), "completed", "{case:?}");
            assert_eq!((world.creates(), world.runs()), (1, 1), "{case:?}");
            sender.changes_nothing(&end.finished).await;
            end.twice
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn c09_webhook_verified_and_not_journaled() {
    row(Point::BeforeCommit(3), |world| assert_eq!(world.stage(), Some(Stage::Accepted))).await;
}

#[tokio::test(start_paused = true)]
async fn c10_webhook_journaled_and_2xx_not_sent() {
    let ended = |world: &World| {
        assert!(matches!(world.stage(), Some(Stage::Ended(Outcome::Completed(_)))), "{:?}", world.stage());
        assert_eq!(world.seen().sent, [Kind::Create], "it ended by a poll");
    };
    row(Point::AfterCommit(3), ended).await;
}

/// The create has run, and its answer is late: the event's reference is nobody's yet. The process dies while the event
/// waits in its inbox, or after it has said that the event came too early; or it lives, and its answer comes too late
/// to tell the reference.
#[tokio::test(start_paused = true)]
async fn c11_webhook_for_an_unknown_resource() {
    let faults = Faults::none().on(Kind::Create, 1, Fault::Late);
    for (on, case, kept, named) in each() {
        for dies_after in [Some(2 * SECOND), Some(5 * SECOND), None] {
            at_each_step(async |step| {
                let world = World::with_faults(on, case, kept, faults.clone());
                let sender = Sender::new(&world, named);
                let beside = async |client: &Client, life: &Life| {
                    let dies = async {
                        if let Some(span) = dies_after {
                            sleep(span).await;
                            life.kill();
                        }
                    };
                    tokio::join!(sender.insist(client, life), dies);
                };
                if world.live_beside(Crash::Never, beside).await.is_none() {
                    let matched = named == Named::Both;
                    assert_eq!(sender.is_acknowledged(), matched, "{case:?}: 2xx for what is only in memory");
                }
                let again = async |client: &Client, life: &Life| sender.insist(client, life).await;
                let end = world.recover_beside(step, again).await;
                assert!(sender.is_acknowledged(), "{case:?}: dropped");
                sender.check();
                match (case, named) {
                    // Nothing that could name the job to us came, or could come: a doubt, and the provider is to be
                    // asked.
                    (Case::Ignored, Named::Reference) => {
                        assert_eq!(end.finished.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
                    }
                    _ => {
                        let outcome = end.finished.outcome.name();
                        assert_eq!((outcome, world.runs()), ("completed", 1), "{case:?}, {named:?}");
                    }
                }
                if named == Named::Both {
                    assert_eq!(world.creates(), 1, "{case:?}: created again, though the provider had told of it");
                }
                sender.changes_nothing(&end.finished).await;
                // Of one that lived to the end there is nothing to recover.
                end.twice && dies_after.is_some()
            })
            .await;
        }
    }
}
