//! What listens (subscribers, recorders, wakers) is the program's code: it may take its time, and may wait for what
//! another shard says. So it is called while neither of the shards' locks is held.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use oneshot::{AsyncReceiver, Receiver};
use steadfast_core::gate::GatePolicy;
use steadfast_core::{Key, Seed, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{BaseUrl, Provider, WebhookEvent};
use tracing::Subscriber;
use tracing_subscriber::layer::{Context as Layered, Layer, SubscriberExt};

use super::{Common, Shard};
use crate::builder::{Builder, Loaded};
use crate::driver::inbox::{Early, Inbox, Name};
use crate::driver::{Driver, Task};
use crate::shards::{Sharded, Shards};
use crate::webhook::{Delivery, Posted, WebhookPolicy};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Counts how often it is called, and how often under a lock.
struct Listener {
    common: Arc<Common>,
    called: AtomicUsize,
    under_lock: AtomicUsize,
}

impl Listener {
    fn new(common: &Arc<Common>) -> Arc<Self> {
        Arc::new(Self { common: common.clone(), called: AtomicUsize::new(0), under_lock: AtomicUsize::new(0) })
    }

    fn call(&self) {
        self.called.fetch_add(1, Ordering::Relaxed);
        if self.common.board.try_lock().is_err() || self.common.upstream.try_lock().is_err() {
            self.under_lock.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls since the last time; none was under a lock.
    #[track_caller]
    fn calls(&self) -> usize {
        assert_eq!(self.under_lock.load(Ordering::Relaxed), 0, "of {:?} calls", self.called);
        self.called.swap(0, Ordering::Relaxed)
    }
}

struct Log(Arc<Listener>);

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, _: &tracing::Event<'_>, _: Layered<'_, S>) {
        self.0.call();
    }
}

struct Woken(Arc<Listener>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.call();
    }
}

fn event(number: usize) -> WebhookEvent {
    let verifier = Verifier::new(Scheme::StandardWebhooks, ["whsec_c3RlYWRmYXN0"]).unwrap();
    let body = Bytes::from(format!(r#"{{"reference":"txn-{number}","status":"ready"}}"#));
    let headers = verifier.sign(&format!("evt-{number}"), START, &body).unwrap();
    WebhookEvent::plain(verifier.verify(&headers, &body, START).unwrap(), &body)
}

/// A sender that waits for its answer.
fn listen(told: Receiver<Delivery>, woken: &Arc<Listener>) -> AsyncReceiver<Delivery> {
    let mut told = told.into_future();
    let waker = Waker::from(Arc::new(Woken(woken.clone())));
    assert!(Pin::new(&mut told).poll(&mut Context::from_waker(&waker)).is_pending());
    told
}

/// Two shards' inbox, with room for so many events.
struct World {
    log: Arc<Listener>,
    woken: Arc<Listener>,
    inbox: Inbox,
    shard: Option<Shard>,
    came: usize,
    waiting: Vec<AsyncReceiver<Delivery>>,
}

impl World {
    fn run(room: usize, test: impl FnOnce(&mut Self)) {
        let policy = WebhookPolicy { inbox: room, ..WebhookPolicy::default() };
        let common = Arc::new(Common::new(2, GatePolicy::none(), Seed::new(7), None, &policy));
        let shard = Shard { index: 0, common: common.clone() };
        let (log, woken) = (Listener::new(&common), Listener::new(&common));
        let (inbox, waiting) = (Inbox::new(policy, Some(&shard)), Vec::new());
        let subscriber = tracing_subscriber::registry().with(Log(log.clone()));
        let mut world = Self { log, woken, inbox, shard: Some(shard), came: 0, waiting };
        tracing::subscriber::with_default(subscriber, || test(&mut world));
    }

    /// An event, and a sender that waits for 10 s; the event itself stays for a minute.
    fn early(&mut self, may_be: bool, unasked: usize) -> Name {
        self.came += 1;
        let event = event(self.came);
        let name = Name::of(&event.verified);
        let after = |span| START.saturating_add(Duration::from_secs(span));
        let mut early = Early::new(event, name.clone(), after(60), (may_be, unasked));
        let (reply, told) = oneshot::channel();
        early.replies.push((after(10), reply));
        self.waiting.push(listen(told, &self.woken));
        let _ = self.inbox.keep(early);
        name
    }

    /// How often the log and the senders were called since the last time.
    #[track_caller]
    fn calls(&self) -> (usize, usize) {
        (self.log.calls(), self.woken.calls())
    }
}

#[test]
fn an_event_that_makes_room_is_told_of_without_a_lock() {
    World::run(1, |world| {
        world.early(true, 0);
        assert_eq!(world.calls(), (0, 0));
        world.early(true, 0);
        assert_eq!(world.calls(), (1, 1));
        // One on trial has room of its own, until a shard says that it may be theirs.
        world.early(false, 1);
        assert_eq!(world.calls(), (0, 0));
        assert!(world.inbox.is_not_theirs(3, true, false).is_none());
        assert_eq!(world.calls(), (1, 1));
    });
}

#[test]
fn an_event_whose_time_is_over_is_told_of_without_a_lock() {
    World::run(9, |world| {
        world.early(true, 0);
        world.inbox.handle_timeout(START.saturating_add(Duration::from_secs(10)));
        assert_eq!(world.calls(), (0, 1), "its sender does not wait on");
        world.inbox.handle_timeout(START.saturating_add(Duration::from_secs(60)));
        assert_eq!(world.calls(), (1, 0));
        let name = world.early(true, 0);
        world.inbox.drop_one(&name, "no create is open");
        assert_eq!(world.calls(), (1, 1));
    });
}

#[test]
fn a_shard_that_ends_lets_senders_go_without_a_lock() {
    World::run(9, |world| {
        world.early(true, 0);
        world.shard = None;
        assert_eq!(world.calls(), (0, 1));
    });
}

struct Client;
impl Sharded for Client {}

/// Two shards, and what they have in common.
fn start(policy: WebhookPolicy) -> (Shards, Vec<Loaded>, Arc<dyn Provider>, Arc<Common>) {
    let base = BaseUrl::parse("http://127.0.0.1:1").unwrap();
    let deepvue = Deepvue::new(base, "driving-license", Credentials::new("token", "secret").unwrap()).unwrap();
    let builder = Builder::<_, (), Client>::new(deepvue, ()).webhooks(policy).shards(2);
    let (provider, (), settings) = builder.into_parts();
    let (shards, parts) = settings.load(provider.name()).unwrap().into_shards();
    let common = parts[0].shard.as_ref().unwrap().common.clone();
    (shards, parts, Arc::new(provider), common)
}

/// Submits a job and carries out all that there is to do, except that its create is not answered. Returns its shard.
fn submit(shards: Shards, drivers: &mut [Driver<()>], key: &str) -> usize {
    let key = Key::new(key).unwrap();
    let shard = shards.of(&key);
    let (reply, _submitted) = oneshot::channel();
    drivers[shard].submit(crate::Submit::new(key, "{}".into(), reply), START);
    let mut sent = 0;
    while let Some(task) = drivers[shard].pop_task(START) {
        sent += usize::from(matches!(task, Task::Send(_)));
    }
    assert_eq!(sent, 1);
    shard
}

#[test]
fn the_sender_of_an_event_that_is_repeated_too_often_is_answered_without_a_lock() {
    let (shards, parts, provider, common) = start(WebhookPolicy::default());
    let woken = Listener::new(&common);
    let mut drivers: Vec<Driver<()>> = parts.into_iter().map(|it| Driver::new(provider.clone(), it, START)).collect();
    let shard = submit(shards, &mut drivers, "order-1");
    let mut waiting = Vec::new();
    while woken.calls() == 0 {
        assert!(waiting.len() < 100, "each of them waits for the create's answer");
        let (reply, told) = oneshot::channel();
        waiting.push(listen(told, &woken));
        drivers[shard].deliver(Posted::new(event(1), reply), START);
    }
}

#[cfg(feature = "metrics")]
mod gauges {
    use metrics::{Counter, Gauge, GaugeFn, Histogram, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    struct Meters(Arc<Listener>);

    impl GaugeFn for Meters {
        fn increment(&self, _: f64) {
            self.0.call();
        }

        fn decrement(&self, _: f64) {
            self.0.call();
        }

        fn set(&self, _: f64) {
            self.0.call();
        }
    }

    impl Recorder for Meters {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &metrics::Key, _: &Metadata<'_>) -> Counter {
            self.0.call();
            Counter::noop()
        }

        fn register_gauge(&self, _: &metrics::Key, _: &Metadata<'_>) -> Gauge {
            self.0.call();
            Gauge::from_arc(Arc::new(Self(self.0.clone())))
        }

        fn register_histogram(&self, _: &metrics::Key, _: &Metadata<'_>) -> Histogram {
            self.0.call();
            Histogram::noop()
        }
    }

    #[test]
    fn the_gate_is_told_of_without_a_lock() {
        let (shards, parts, provider, common) = start(WebhookPolicy::default());
        let meters = Meters(Listener::new(&common));
        metrics::with_local_recorder(&meters, || {
            let mut drivers: Vec<Driver<()>> =
                parts.into_iter().map(|it| Driver::new(provider.clone(), it, START)).collect();
            let _registered = meters.0.calls();
            for n in 0..9 {
                submit(shards, &mut drivers, &format!("order-{n}"));
                assert!(meters.0.calls() > 0, "one more is in the air");
            }
        });
    }
}
