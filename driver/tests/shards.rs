//! Several drivers of one client, turned by hand: what they say to each other, and what becomes of the others if one
//! hangs or is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::GatePolicy;
use steadfast_core::{Key, Seed, Timestamp};
use steadfast_driver::{Builder, Command, Driver, Reader, Sharded, Shards, Submit, Task, Word};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

struct Client;
impl Sharded for Client {}

/// Two shards, with room for one request in the air.
struct Two {
    shards: Shards,
    drivers: [Option<Driver<()>>; 2],
    words: Vec<(usize, Word)>,
    now: Timestamp,
    submitted: usize,
}

impl Two {
    fn start() -> Self {
        let credentials = Credentials::new("token", "secret").unwrap();
        let provider = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1").unwrap(), "driving-license", credentials);
        let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap()));
        let builder: Builder<_, (), Client> = Builder::new(provider.unwrap(), ()).gate(gate).seed(Seed::new(7));
        let (provider, (), settings) = builder.shards(2).into_parts();
        let (shards, parts) = settings.load(provider.name()).unwrap().into_shards();
        let provider: Arc<dyn Provider> = Arc::new(provider);
        let drivers: Vec<_> = parts.into_iter().map(|it| Some(Driver::new(provider.clone(), it, START))).collect();
        let Ok(drivers) = drivers.try_into() else { panic!("there are two") };
        Self { shards, drivers, words: Vec::new(), now: START, submitted: 0 }
    }

    fn driver(&mut self, shard: usize) -> &mut Driver<()> {
        self.drivers[shard].as_mut().unwrap()
    }

    /// A new job of this shard.
    fn submit(&mut self, shard: usize) -> Vec<Reader> {
        let (reply, _) = oneshot::channel();
        let key = loop {
            self.submitted += 1;
            let key = Key::new(format!("order-{}", self.submitted)).unwrap();
            if self.shards.of(&key) == shard {
                break key;
            }
        };
        let now = self.now;
        self.driver(shard).submit(Submit::new(key, "{}".into(), reply), now);
        self.turn(shard)
    }

    /// What it sends. What it says to others waits until it is passed on.
    fn turn(&mut self, shard: usize) -> Vec<Reader> {
        let (now, mut sent) = (self.now, Vec::new());
        let driver = self.drivers[shard].as_mut().unwrap();
        driver.handle_timeout(now);
        while let Some(task) = driver.pop_task(now) {
            match task {
                Task::Send(sending) => sent.push(sending.reader),
                Task::Tell(other, word) => self.words.push((other, word)),
                _ => {}
            }
        }
        sent
    }

    /// The request is answered, and is the job's end.
    fn answer(&mut self, shard: usize, reader: Reader) -> Vec<Reader> {
        let refused = Response::builder().status(422).body(Bytes::new()).unwrap();
        let now = self.now;
        self.driver(shard).answered(reader.read(Ok(refused), now), now);
        self.turn(shard)
    }

    fn pass(&mut self, by: Duration) {
        self.now = self.now.saturating_add(by);
    }

    /// One in the air for shard 0, and one waiting in each.
    fn full() -> (Self, Reader) {
        let mut two = Self::start();
        let sent = two.submit(0).pop().unwrap();
        assert!(two.submit(0).is_empty() && two.submit(1).is_empty());
        (two, sent)
    }
}

#[test]
fn whoever_waits_elsewhere_is_told_when_it_is_their_turn() {
    let (mut two, sent) = Two::full();
    let next = two.answer(0, sent).pop().expect("it has waited for longest");
    assert!(two.submit(0).is_empty());
    assert!(two.answer(0, next).is_empty(), "now it is the other's turn");
    let told: Vec<_> = two.words.drain(..).collect();
    assert_eq!(told.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [1], "once");
    let now = two.now;
    for (shard, word) in told {
        two.driver(shard).hear(word, now);
    }
    assert_eq!(two.turn(1).len(), 1);
}

#[test]
fn a_shard_that_hangs_loses_its_turn_after_a_second() {
    let (mut two, sent) = Two::full();
    let next = two.answer(0, sent).pop().unwrap();
    assert!(two.submit(0).is_empty());
    assert!(two.answer(0, next).is_empty(), "it is the turn of one that does not come");
    two.pass(Duration::from_millis(900));
    assert!(two.turn(0).is_empty());
    two.pass(Duration::from_millis(200));
    let late = two.turn(0).pop().expect("nobody else came");
    // It comes after all, and has its turn as before.
    assert!(two.turn(1).is_empty());
    assert!(two.submit(0).is_empty());
    assert!(two.answer(0, late).is_empty());
    assert_eq!(two.turn(1).len(), 1);
}

#[test]
fn a_shard_that_is_gone_waits_for_nothing() {
    let (mut two, sent) = Two::full();
    two.drivers[1] = None;
    let next = two.answer(0, sent).pop().unwrap();
    assert!(two.submit(0).is_empty());
    assert_eq!(two.answer(0, next).len(), 1);
}

/// An operator holds requests back, and then lets them go: one shard has heard both before the other hears the first.
#[test]
fn what_an_operator_said_last_counts_whoever_hears_it_late() {
    let mut two = Two::start();
    let now = two.now;
    let hold = |span, number| Command::Hold { span, number };
    two.driver(0).command(hold(Duration::from_secs(3_600), 0), now);
    assert!(two.submit(0).is_empty());
    two.driver(0).command(hold(Duration::ZERO, 1), now);
    two.driver(1).command(hold(Duration::from_secs(3_600), 0), now);
    assert_eq!(two.turn(0).len(), 1);
    let nine = BulkheadPolicy::fixed(9).unwrap();
    let more = |bulkhead, number| {
        let policy = Box::new(GatePolicy::none().with_bulkhead(Some(bulkhead)));
        Command::Gate { policy, number }
    };
    two.driver(0).command(more(nine, 3), now);
    two.driver(1).command(more(BulkheadPolicy::fixed(1).unwrap(), 2), now);
    assert_eq!(two.submit(1).len(), 1, "there is room for another");
}

/// All are told, and it is one thing that is said: the last to hear holds nothing for longer, and puts nothing back
/// that was learnt since.
#[test]
fn what_an_operator_says_counts_from_when_the_first_hears_it() {
    let mut two = Two::start();
    let hold = || Command::Hold { span: Duration::from_secs(10), number: 0 };
    let now = two.now;
    two.driver(0).command(hold(), now);
    two.pass(Duration::from_secs(9));
    let late = two.now;
    two.driver(1).command(hold(), late);
    assert!(two.submit(0).is_empty() && two.submit(1).is_empty());
    two.pass(Duration::from_secs(1));
    assert_eq!(two.turn(0).len(), 1);
}

/// Ids are known to observers, which tell jobs apart by them.
#[test]
fn no_two_jobs_have_one_id() {
    let mut two = Two::start();
    let first = two.submit(0).pop().unwrap();
    let ended = two.answer(0, first);
    assert!(ended.is_empty());
    let mut ids = Vec::new();
    for shard in [0, 1] {
        let (now, driver) = (two.now, two.drivers[shard].as_mut().unwrap());
        let (reply, _) = oneshot::channel();
        let shards = two.shards;
        let mut keys = (0..).map(|n| Key::new(format!("other-{n}")).unwrap());
        let key = keys.find(|key| shards.of(key) == shard).unwrap();
        driver.submit(Submit::new(key, "{}".into(), reply), now);
        while let Some(task) = driver.pop_task(now) {
            if let Task::Send(sending) = task {
                ids.push(sending.id());
                let gone = Response::builder().status(422).body(Bytes::new()).unwrap();
                driver.answered(sending.reader.read(Ok(gone), now), now);
            }
        }
    }
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}
