//! Turns one by one, without the thread that takes them.

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::engine::Limits;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, OperationPolicy, SendSafety};
use steadfast_driver::{Builder, Following, Outgoing, Start, StartError, SubmitError};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider, RequestError};
use tracing::dispatcher::{Dispatch, with_default};
use tracing::span::{self, Attributes, Record};
use tracing::{Event, Metadata};

use super::*;

/// Of whom nothing is asked.
struct Nobody;

impl Provider for Nobody {
    fn name(&self) -> &'static str {
        "nobody"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Err(RequestError::Unsendable("anything"))
    }

    fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(Reading::Ready)
    }
}

impl Transport for Nobody {
    fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        Err(SendError::not_sent())
    }
}

struct Bare(Arc<Turns>);

impl<P: Provider, T: Transport> Start<P, T> for Bare {
    type Started = Result<Self, StartError>;

    fn start(builder: Builder<P, T, Self>) -> Self::Started {
        let (provider, transport, settings) = builder.into_parts();
        let loaded = settings.load(provider.name())?;
        let mut clock = Clock::start();
        let driver = Driver::new(Arc::new(provider), loaded, clock.now());
        Turns::new(driver, clock, transport, false).map_err(StartError::NoThread).map(Self)
    }
}

type Reply = oneshot::Receiver<Result<Following, SubmitError>>;

fn submit(turns: &Turns, key: &str) -> (Result<(), Stopped>, Reply) {
    let (reply, taken) = oneshot::channel();
    let submit = Submit::new(Key::new(key).expect("a key"), Payload::default(), reply);
    (turns.bring(Input::Submit(submit)), taken)
}

#[test]
fn after_a_panic_in_a_turn_whoever_waits_is_told() {
    let Bare(turns) = Builder::<_, _, Bare>::new(Nobody, Nobody).start().expect("it starts");
    let (brought, waits) = submit(&turns, "order-1");
    assert_eq!((brought, turns.is_ours()), (Ok(()), false));
    // With it at hand, and before it is taken in.
    assert_eq!(turns.take(|_| panic!("as it was told to")), None::<()>);
    assert!(!turns.is_ours());
    assert_eq!(turns.take(|_| ()), None, "it is over");
    let (_, too_late) = submit(&turns, "order-2");
    turns.run();
    assert!(waits.recv().is_err() && too_late.recv().is_err(), "the client has stopped");
    assert_eq!(submit(&turns, "order-3").0, Err(Stopped));
}

#[test]
fn what_is_done_in_a_turn_makes_room_in_the_same_turn() {
    let limits = Limits { live: 1, ..Limits::default() };
    let builder = Builder::<_, _, Bare>::new(Nobody, Nobody).limits(limits);
    let Bare(turns) = builder.start().expect("it starts");
    let bring = |command| turns.bring(Input::Command(command)).expect("it runs");
    bring(Command::Hold(Duration::from_secs(3_600)));
    let [(_, first), (_, second)] = ["order-1", "order-2"].map(|key| submit(&turns, key));
    assert_eq!(turns.take(|this| (this.turn(), this.waiting.len()).1), Some(1));
    let first = first.try_recv().expect("it was told").expect("it is taken in");
    bring(Command::Cancel(first.id.expect("it is under way")));
    assert_eq!(turns.take(|this| (this.turn(), this.waiting.len()).1), Some(0));
    assert!(second.try_recv().expect("it was told").is_ok());
}

/// Tells how long it is given for each request, and takes as long as the test likes.
struct Slow {
    given: Mutex<Sender<Duration>>,
    ends: Mutex<Receiver<()>>,
}

impl Transport for Slow {
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let _ = lock(&self.given).send(outgoing.timeout);
        let _ = lock(&self.ends).recv();
        Err(SendError::ambiguous())
    }
}

/// Else it would be in the air for longer than anybody waits for it, and the next one would be held back in its turn.
#[test]
fn a_request_that_was_held_back_has_what_is_left_of_its_time() {
    /// So much that the test itself takes none of it.
    const LIMIT: Duration = Duration::from_secs(1_000);
    const LATE: Duration = Duration::from_secs(400);
    let url = BaseUrl::parse("http://127.0.0.1:1").expect("a URL");
    let deepvue = Deepvue::new(url, "product", Credentials::new("token", "secret").expect("credentials"));
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    let (policy, hour) = (OperationPolicy::default(), Duration::from_secs(3_600));
    let create = RetryPolicy::new(3, hour, LIMIT, policy.create().backoff().clone()).expect("a policy");
    let policy = policy.with_create(create).and_then(|policy| policy.with_safety(keyed)).expect("a policy");
    let ((given, is_given), (end, ends)) = (channel(), channel());
    let slow = Slow { given: Mutex::new(given), ends: Mutex::new(ends) };
    let Bare(turns) =
        Builder::<_, _, Bare>::new(deepvue.expect("a provider"), slow).policy(policy).start().expect("it starts");
    let (_, _waits) = submit(&turns, "order-1");
    turns.take(Loop::turn);
    assert!(is_given.recv().is_ok_and(|given| given <= LIMIT && given > LATE));
    // It takes too long, and the next one is due.
    while turns.take(|this| this.held.is_empty()) == Some(true) {
        turns.take(|this| {
            let wait = this.clock.wait_for(this.driver.next_deadline());
            this.clock.forward(wait);
            this.turn();
        });
    }
    turns.take(|this| this.clock.forward(LATE));
    end.send(()).expect("it waits");
    let given = is_given.recv().expect("it leaves");
    assert!(given <= LIMIT - LATE, "it was given {given:?} when it had {:?} left", LIMIT - LATE);
}

/// Whose log is broken: a closed pipe, say.
struct Broken;

impl tracing::Subscriber for Broken {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        panic!("nobody can be told");
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn after_a_panic_of_the_log_itself_whoever_waits_is_told() {
    let Bare(turns) = Builder::<_, _, Bare>::new(Nobody, Nobody).start().expect("it starts");
    let (brought, waits) = submit(&turns, "order-1");
    assert_eq!(brought, Ok(()));
    // Of one alone, what another test's thread comes by first would be taken for what nobody hears.
    let [log, _other] = [(); 2].map(|()| Dispatch::new(Broken));
    let ran = catch_unwind(AssertUnwindSafe(|| with_default(&log, || turns.run())));
    assert!(ran.is_ok(), "its thread goes down with it");
    assert!(!matches!(waits.try_recv(), Err(oneshot::TryRecvError::Empty)));
    assert_eq!(submit(&turns, "order-2").0, Err(Stopped));
}
