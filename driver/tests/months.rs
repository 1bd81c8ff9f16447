//! I15, over months: whatever way jobs end, nothing of them stays once their keys' window has passed. Waves of jobs go
//! through every ending, and after each wave as many bytes are held as after the one before.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, Seed, SendSafety, Timestamp};
use steadfast_driver::{
    Builder, Command, Driver, Finished, Following, Mailbox, Posted, ResumeError, Revision, SendError, Sending, Submit,
    SubmitError, Subscribers, Task, WebhookPolicy,
};
use steadfast_providers::webhook::{Scheme, Verifier, WebhookError};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookEvent};
use steadfast_store::{Entry, Store, StoreError};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

/// An answer's status says what is true of the job; a create's answer is the reference.
struct Plain;

fn verifier() -> Verifier {
    Verifier::new(Scheme::StandardWebhooks, ["whsec_c3RlYWRmYXN0"]).unwrap()
}

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Request::builder().uri("https://plain.test/").body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, now: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(verifier().verify(headers, body, now)?, body))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.status.as_u16() {
            422 => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            500 => Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
            404 => Ok(Reading::NotFound),
            202 => Ok(Reading::Pending { hint: None }),
            200 => Ok(Reading::Ready),
            _ => Ok(Reading::Accepted(Reference::new(String::from_utf8_lossy(answer.body).as_ref()).unwrap())),
        }
    }
}

/// Fails as it is told.
#[derive(Clone, Default)]
struct Shelf {
    kept: Arc<Mutex<HashMap<Key, Entry>>>,
    fails: Arc<AtomicU32>,
}

const WELL: u32 = 0;
const FULL: u32 = 1;
const IN_DOUBT: u32 = 2;

impl Store for Shelf {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        match self.fails.load(Ordering::Relaxed) {
            FULL => return Err(StoreError::write("the disk is full")),
            IN_DOUBT => return Err(StoreError::uncertain("the disk is gone")),
            _ => {}
        }
        let mut kept = self.kept.lock().unwrap();
        for entry in entries {
            let entry = match kept.remove(&entry.record.key) {
                Some(earlier) => entry.clone().after(earlier),
                None => entry.clone(),
            };
            kept.insert(entry.record.key.clone(), entry);
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(Vec::new())
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        if self.fails.load(Ordering::Relaxed) == IN_DOUBT {
            return Err(StoreError::read("the disk is gone"));
        }
        Ok(self.kept.lock().unwrap().get(key).cloned())
    }

    /// Unresolved ones too, as if an operator had seen to them.
    fn forget(&mut self, before: Timestamp, _: usize) -> Result<usize, StoreError> {
        self.kept.lock().unwrap().retain(|_, entry| !entry.has_ended() || entry.at >= before);
        Ok(0)
    }

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

type Seen = Arc<Mutex<BTreeSet<(&'static str, &'static str)>>>;

/// Outcomes that were told, and dropped unread.
type Back = Arc<Mutex<Vec<Finished>>>;

/// Wants to hear of revisions, and keeps none.
struct Listening;

impl Subscribers for Listening {
    fn are_there(&self) -> bool {
        true
    }

    fn tell(&self, _: Revision) {}
}

struct World {
    seen: Seen,
    back: Back,
    drivers: Vec<Driver<()>>,
    shards: steadfast_driver::Shards,
    mailbox: Mailbox,
    shelf: Option<Shelf>,
    hook_fails: Arc<AtomicBool>,
    now: Timestamp,
    sent: VecDeque<(usize, Sending<()>)>,
    events: u64,
    drawn: u64,
    holds: u64,
}

type Taken = oneshot::Receiver<Result<Following, SubmitError>>;

impl World {
    fn new(count: usize, with_store: bool, has_hook: bool, gate: GatePolicy) -> Self {
        Self::with(count, with_store, has_hook, gate, PollPolicy::default())
    }

    fn with(count: usize, with_store: bool, has_hook: bool, gate: GatePolicy, poll: PollPolicy) -> Self {
        let shelf = with_store.then(Shelf::default);
        let hook_fails = Arc::<AtomicBool>::default();
        let seen = Seen::default();
        let told = seen.clone();
        let limits = Limits { remember: 100_000, ..Limits::default() };
        let policy = OperationPolicy::default().with_safety(SendSafety::Keyed { window: DAY }).unwrap().with_poll(poll);
        let mut builder = Builder::<_, _, Client>::new(Plain, ())
            .limits(limits)
            .gate(gate)
            .policy(policy)
            .observer(move |observation| {
                if let Notice::Ended(outcome) = observation.notice {
                    told.lock().unwrap().insert((outcome.name(), outcome.reason()));
                }
            })
            .shards(count)
            .webhooks(WebhookPolicy { remember: 300, remember_for: DAY / 2, ..WebhookPolicy::default() })
            .seed(Seed::new(7));
        if let Some(shelf) = &shelf {
            builder = builder.store(shelf.clone()).keep_answers().keep_payloads();
        }
        if has_hook {
            let fails = hook_fails.clone();
            builder = builder.unclaimed(move |_, _| {
                if fails.load(Ordering::Relaxed) { Err(std::io::Error::other("its database is down")) } else { Ok(()) }
            });
        }
        let (provider, (), settings) = builder.into_parts();
        let (shards, loaded) = settings.load("plain").unwrap().into_shards();
        let provider: Arc<dyn Provider> = Arc::new(provider);
        let mailbox = Mailbox::new(provider.clone(), &WebhookPolicy::default());
        let back = Back::default();
        let drivers = loaded.into_iter().map(|loaded| {
            let (mut driver, back) = (Driver::new(provider.clone(), loaded, START), back.clone());
            driver.tell_revisions_to(Box::new(Listening));
            driver.give_back_to(move |finished| {
                back.lock().unwrap().push(finished);
                Ok(())
            });
            driver
        });
        let drivers = drivers.collect();
        let sent = VecDeque::new();
        Self {
            seen,
            back,
            drivers,
            shards,
            mailbox,
            shelf,
            hook_fails,
            now: START,
            sent,
            events: 0,
            drawn: 1,
            holds: 0,
        }
    }

    fn store_is(&self, how: u32) {
        if let Some(shelf) = &self.shelf {
            shelf.fails.store(how, Ordering::Relaxed);
        }
    }

    fn run(&mut self) {
        let mut again = true;
        self.drivers.iter_mut().for_each(|driver| driver.handle_timeout(self.now));
        while again {
            again = false;
            for finished in std::mem::take(&mut *self.back.lock().unwrap()) {
                let at = self.shards.of(&finished.key);
                self.drivers[at].command(Command::Unread(finished), self.now);
            }
            for at in 0..self.drivers.len() {
                while let Some(task) = self.drivers[at].pop_task(self.now) {
                    again = true;
                    match task {
                        Task::Send(sending) => {
                            self.drivers[at].sent(sending.id(), ());
                            self.sent.push_back((at, *sending));
                        }
                        Task::Work(work) => self.drivers[at].worked(work.run_one(), self.now),
                        Task::Tell(to, word) => {
                            self.drivers[to].hear(word, self.now);
                            self.drivers[to].handle_timeout(self.now);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn until(&mut self, until: Timestamp, answer: impl Fn(&str, Kind, u16, u64) -> Option<(u16, String)>) {
        loop {
            self.run();
            while let Some((at, sending)) = self.sent.pop_front() {
                self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (key, attempt) = (sending.outgoing.key.as_str().to_owned(), sending.outgoing.attempt);
                match answer(&key, attempt.kind, attempt.number, self.drawn >> 33) {
                    Some((0, _)) => {
                        let answered = sending.reader.read(Err(SendError::not_sent()), self.now);
                        self.drivers[at].answered(answered, self.now);
                    }
                    Some((status, body)) => {
                        let response = Response::builder().status(status).body(Bytes::from(body)).unwrap();
                        let answered = sending.reader.read(Ok(response), self.now);
                        self.drivers[at].answered(answered, self.now);
                    }
                    None => {
                        // Never answered, or late.
                        if self.drawn >> 33 & 3 == 0 {
                            let answered = sending.reader.read(Err(SendError::ambiguous()), self.now);
                            self.drivers[at].answered(answered, self.now);
                        }
                    }
                }
                self.run();
            }
            let next = self.drivers.iter().filter_map(|driver| driver.next_deadline()).min();
            match next.filter(|at| *at <= until) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.now = until;
        self.run();
    }

    /// Nothing leaves for this long.
    fn hold(&mut self, span: Duration) {
        self.holds += 1;
        let number = self.holds;
        self.drivers.iter_mut().for_each(|driver| driver.command(Command::Hold { span, number }, self.now));
    }

    fn submit(&mut self, key: &str, payload: &'static str) -> Taken {
        let key = Key::new(key).unwrap();
        let (reply, taken) = oneshot::channel();
        let at = self.shards.of(&key);
        self.drivers[at].submit(Submit::new(key, payload.into(), reply), self.now);
        taken
    }

    fn resume(&mut self, key: &str) -> oneshot::Receiver<Result<Following, ResumeError>> {
        let key = Key::new(key).unwrap();
        let (reply, taken) = oneshot::channel();
        let at = self.shards.of(&key);
        self.drivers[at].command(Command::Resume { key, reply }, self.now);
        taken
    }

    fn status(&mut self, key: &str) {
        let key = Key::new(key).unwrap();
        let at = self.shards.of(&key);
        self.drivers[at].command(Command::Status { key, reply: oneshot::channel().0 }, self.now);
    }

    fn command(&mut self, key: &str, command: Command) {
        let at = self.shards.of(&Key::new(key).unwrap());
        self.drivers[at].command(command, self.now);
    }

    fn deliver(&mut self, body: String) {
        self.events += 1;
        let body = Bytes::from(body);
        let headers = verifier().sign(&format!("evt-{}", self.events), self.now, &body).unwrap();
        for _ in 0..2 {
            let event = self.mailbox.open(&headers, &body, self.now).unwrap();
            let at = self.shards.of_event(&event);
            let (reply, _) = oneshot::channel();
            self.drivers[at].deliver(Posted::new(event, reply), self.now);
        }
    }
}

struct Client;
impl steadfast_driver::Sharded for Client {}

/// The last letters of keys: what becomes of their jobs, and of those who ask for them.
const ENDINGS: &str = "abcdefghijklmnopqrs";

fn wave(world: &mut World, number: u32, jobs: usize) {
    world.drawn = 7;
    world.hook_fails.store(true, Ordering::Relaxed);
    let start = world.now;
    let names: Vec<(char, String)> =
        (0..jobs).flat_map(|n| ENDINGS.chars().map(move |it| (it, format!("{number:04}-{n:05}-{it}")))).collect();
    let mut held = Vec::new();
    for (n, (it, key)) in names.iter().enumerate() {
        match it {
            'o' => world.store_is(FULL),
            'p' => world.store_is(IN_DOUBT),
            'd' => world.hold(DAY),
            _ => {}
        }
        let taken = world.submit(key, "{\"name\":\"somebody\"}");
        if *it == 'm' {
            drop(taken);
            world.status(key);
            continue;
        }
        if *it == 'l' {
            drop(world.submit(key, "another"));
            for _ in 0..5 {
                drop(world.submit(key, "{\"name\":\"somebody\"}"));
            }
        }
        world.run();
        if matches!(it, 'o' | 'p') {
            world.store_is(WELL);
            world.status(key);
        }
        let following = taken.try_recv().ok().and_then(Result::ok);
        if let Some(following) = following {
            let id = following.id.unwrap();
            match it {
                'a' | 'h' | 'i' | 'k' => held.push((*it, following)),
                'd' => {
                    world.command(key, Command::Cancel(id));
                    world.hold(Duration::ZERO);
                }
                'e' => {
                    world.run();
                    world.command(key, Command::Cancel(id));
                    drop(world.resume(key));
                }
                'q' => {
                    for _ in 0..20 {
                        world.command(key, Command::Accepted { id, reply: oneshot::channel().0 });
                    }
                }
                _ => {}
            }
        } else if *it == 'p' {
            drop(taken);
        }
        if n % 64 == 0 {
            world.now = world.now.saturating_add(Duration::from_secs(1));
            world.run();
        }
        if matches!(it, 'j' | 'k') {
            let status = if *it == 'j' { "pending" } else { "ready" };
            world.deliver(format!(r#"{{"reference":"txn-{key}","status":"{status}"}}"#));
        }
        if *it == 'r' {
            world.deliver(format!(r#"{{"reference":"none-{key}","status":"ready"}}"#));
            world.deliver(format!(r#"{{"key":"none-{key}","status":"ready"}}"#));
            drop(world.resume(&format!("none-{key}")));
            world.status(&format!("none-{key}"));
        }
    }
    let answer = |key: &str, kind: Kind, number: u16, drawn: u64| {
        let it = key.chars().last().unwrap();
        let create = || Some((201, format!("txn-{key}")));
        match (it, kind) {
            ('c', _) => Some((422, "no".repeat(50))),
            ('f', _) => None,
            ('s', Kind::Create) => Some((0, String::new())),
            ('g', _) => Some((500, String::new())),
            (_, Kind::Lookup) => Some((404, String::new())),
            ('n', Kind::Poll) => Some((404, String::new())),
            ('h' | 'i', Kind::Poll) => Some((202, "pending ".repeat(20))),
            (_, Kind::Create) if drawn.is_multiple_of(5) && number < 3 => None,
            (_, Kind::Create) => create(),
            (_, _) if drawn.is_multiple_of(4) => Some((202, String::new())),
            (_, _) if drawn.is_multiple_of(17) => None,
            (_, _) => Some((200, "verified ".repeat(20))),
        }
    };
    world.until(start.saturating_add(DAY / 4), answer);
    world.hook_fails.store(false, Ordering::Relaxed);
    world.until(start.saturating_add(DAY / 3), answer);
    for (it, key) in &names {
        match it {
            'h' => drop(world.resume(key)),
            'i' => {
                let taken = world.resume(key);
                world.run();
                if let Ok(Ok(Following { id: Some(id), .. })) = taken.try_recv() {
                    world.command(key, Command::Cancel(id));
                }
            }
            'k' => world.deliver(format!(
                r#"{{"reference":"txn-{key}","status":"expired","at":{}}}"#,
                world.now.as_nanos() / 1_000_000_000
            )),
            'b' | 'm' | 'g' => drop(world.submit(key, "{\"name\":\"somebody\"}")),
            _ => {}
        }
    }
    world.until(start.saturating_add(DAY / 2), answer);
    drop(held);
    for (_, key) in &names {
        drop(world.submit(key, "{\"name\":\"somebody\"}"));
    }
    world.until(start.saturating_add(4 * DAY), answer);
}

/// What is held grows with the most jobs at a time, which differs a little from wave to wave, as chance has it: tables
/// grow now and then, for fewer jobs each time. What stays of each job of a kind shows as a block for each of them, or
/// as bytes in a table of fixed entries.
fn waves(shards: usize, with_store: bool, has_hook: bool, gate: GatePolicy) {
    const JOBS: usize = 20;
    const WAVES: u32 = 24;
    let mut world = World::new(shards, with_store, has_hook, gate);
    let (mut blocks, mut bytes) = (0, 0);
    for number in 0..WAVES {
        let counted = measure(|| wave(&mut world, number, JOBS));
        if number >= WAVES / 2 {
            (blocks, bytes) = (blocks + counted.count_current, bytes + counted.bytes_current);
        }
    }
    let later = i64::from(WAVES / 2) * JOBS as i64;
    let what = format!("{shards} shards, a store: {with_store}, a hook: {has_hook}: {blocks} blocks, {bytes} bytes");
    assert!(blocks.abs() < later / 8, "{what}");
    assert!(bytes < 16 * later * ENDINGS.len() as i64, "{what}");
    let seen = world.seen.lock().unwrap();
    assert!(seen.len() >= if with_store { 10 } else { 9 }, "{seen:?}");
}

#[test]
fn nothing_stays_of_jobs_however_they_ended_and_whoever_asked_for_them() {
    waves(1, false, false, GatePolicy::none());
    waves(1, true, true, GatePolicy::none());
    waves(3, false, true, GatePolicy::default());
    waves(3, true, false, GatePolicy::none());
}

/// A person takes months to decide, say, and somebody asks for the job every hour.
#[test]
fn nothing_stays_of_what_is_asked_of_a_job_that_lives_for_months() {
    for with_store in [false, true] {
        let schedule = BackoffPolicy::new(Growth::Fixed(HOUR), HOUR, Jitter::None).unwrap();
        let poll = PollPolicy::new(schedule, u16::MAX, 365 * DAY, RetryPolicy::default()).unwrap();
        let mut world = World::with(1, with_store, true, GatePolicy::none(), poll);
        let key = "lives-for-months";
        let taken = world.submit(key, "{}");
        let answer = |_: &str, kind: Kind, _, _| {
            Some(if kind == Kind::Create { (201, format!("txn-{key}")) } else { (202, "pending ".repeat(20)) })
        };
        world.until(START, answer);
        let followed = taken.try_recv().unwrap().unwrap();
        let id = followed.id.unwrap();
        let month = |world: &mut World| {
            for _ in 0..30 * 24 {
                drop(world.submit(key, "{}"));
                drop(world.submit(key, "another"));
                drop(world.resume(key));
                world.status(key);
                world.command(key, Command::Accepted { id, reply: oneshot::channel().0 });
                world.deliver(format!(r#"{{"reference":"txn-{key}","status":"waiting"}}"#));
                world.until(world.now.saturating_add(HOUR), answer);
            }
        };
        month(&mut world);
        let counted = measure(|| (0..3).for_each(|_| month(&mut world)));
        assert!(followed.finished.try_recv().is_err(), "it lives");
        assert!(counted.count_current.abs() < 16 && counted.bytes_current < 4_096, "{counted:?}");
    }
}
