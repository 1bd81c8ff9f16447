//! Turns one by one, without the thread that takes them.

use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::operation::{Reading, Rejected, Stage, Unresolved};
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, OperationPolicy, Outcome, SendSafety};
use steadfast_driver::{
    Builder, Following, Outgoing, Renew, RenewError, RenewsBy, SendError, Start, StartError, Stopped, SubmitError,
    caught,
};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider, RequestError};
use tracing::dispatcher::{Dispatch, with_default};
use tracing::span::{self, Attributes, Record};
use tracing::{Event, Metadata};

use super::*;
use crate::transport::Transport;

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
    bring(Command::Hold { span: Duration::from_secs(3_600), number: 0 });
    let [(_, first), (_, second)] = ["order-1", "order-2"].map(|key| submit(&turns, key));
    assert_eq!(turns.take(|this| (this.turn(), this.waiting.len()).1), Some(1));
    let first = first.try_recv().expect("it was told").expect("it is taken in");
    let (_, joins) = submit(&turns, "order-1");
    assert_eq!(turns.take(|this| (this.turn(), this.waiting.len()).1), Some(1), "it needs no room");
    assert!(joins.try_recv().expect("it was told").is_ok());
    bring(Command::Cancel(first.id.expect("it is under way")));
    assert_eq!(turns.take(|this| (this.turn(), this.waiting.len()).1), Some(0));
    assert!(second.try_recv().expect("it was told").is_ok());
}

/// One in the turn of the first, one in a turn after that, one that is still unread when it is over.
#[test]
fn all_who_shut_it_down_at_once_are_told_what_is_unfinished() {
    let builder = Builder::<_, _, Bare>::new(Nobody, Nobody);
    let Bare(turns) = builder.start().expect("it starts");
    turns.bring(Input::Command(Command::Hold { span: Duration::from_secs(3_600), number: 0 })).expect("it runs");
    let (_, _waits) = submit(&turns, "order-1");
    turns.take(Loop::turn);
    let shut_down = || {
        let (reply, unfinished) = oneshot::channel();
        let shutdown = Command::Shutdown { grace: Duration::ZERO, reply };
        turns.bring(Input::Command(shutdown)).expect("nobody has noticed yet that it is over");
        unfinished
    };
    let mut told = vec![shut_down(), shut_down()];
    turns.take(Loop::turn);
    assert_eq!(turns.take(|this| this.driver.is_closed()), Some(true));
    told.push(shut_down());
    turns.take(Loop::turn);
    told.push(shut_down());
    turns.end();
    for told in told {
        assert_eq!(told.recv().map(|unfinished| unfinished.len()), Ok(1));
    }
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

/// So much that a test itself takes none of it.
const LIMIT: Duration = Duration::from_secs(1_000);

/// One that has a job in the air, for [`LIMIT`] at most: tells what its requests are given, and lets them end.
fn one_in_the_air() -> (Arc<Turns>, Receiver<Duration>, Sender<()>) {
    let (turns, is_given, end) = one_to_be_sent();
    turns.take(Loop::turn);
    (turns, is_given, end)
}

fn one_to_be_sent() -> (Arc<Turns>, Receiver<Duration>, Sender<()>) {
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
    let _ = submit(&turns, "order-1");
    (turns, is_given, end)
}

/// Else it would be in the air for longer than anybody waits for it, and the next one would be held back in its turn.
#[test]
fn a_request_that_was_held_back_has_what_is_left_of_its_time() {
    const LATE: Duration = Duration::from_secs(400);
    let (turns, is_given, end) = one_in_the_air();
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

/// The process was stopped, or the machine slept: what was answered in time may not be read yet, and was given up by
/// whoever woke first.
#[test]
fn whoever_wakes_late_gives_nothing_up_before_others_have_had_their_turn() {
    let (turns, is_given, _end) = one_in_the_air();
    is_given.recv().expect("it leaves");
    let was_given_up = turns.take(|this| {
        let is_overdue = |this: &mut Loop| this.driver.next_deadline().is_some_and(|at| at <= this.clock.now());
        this.wait();
        this.clock.forward(2 * LIMIT);
        this.turn();
        let (early, wait) = (!is_overdue(this), this.wait());
        this.clock.forward(CATCHING_UP);
        this.turn();
        (early, wait.is_some_and(|wait| wait <= CATCHING_UP), !is_overdue(this))
    });
    assert_eq!(was_given_up, Some((false, true, true)));
}

/// One more than there are threads for, so that one waits. Each is given so much time that the test itself takes none
/// of it, and goes on when the test ends.
struct Crowd {
    turns: Arc<Turns>,
    jobs: Vec<Following>,
    given: Receiver<Duration>,
    ends: Sender<()>,
}

impl Crowd {
    const LIMIT: Duration = Duration::from_secs(1_000);

    /// Of jobs that may be sent once, unless the one before certainly was not.
    fn new() -> Self {
        Self::with(3, GatePolicy::none())
    }

    /// With so many attempts for each, behind such a gate.
    fn with(attempts: u16, gate: GatePolicy) -> Self {
        let url = BaseUrl::parse("http://127.0.0.1:1").expect("a URL");
        let deepvue = Deepvue::new(url, "product", Credentials::new("token", "secret").expect("credentials"));
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
        let soon = BackoffPolicy::new(Growth::Fixed(second), second, Jitter::None).expect("a policy");
        let create = RetryPolicy::new(attempts, hour, Self::LIMIT, soon).expect("a policy");
        let policy = OperationPolicy::default().with_create(create).expect("a policy");
        let policy = policy.with_safety(SendSafety::Unsafe).expect("a policy");
        let ((gives, given), (ends, end)) = (channel(), channel());
        let slow = Slow { given: Mutex::new(gives), ends: Mutex::new(end) };
        let builder = Builder::<_, _, Bare>::new(deepvue.expect("a provider"), slow).policy(policy);
        let Bare(turns) = builder.gate(gate).start().expect("it starts");
        let submitted: Vec<_> =
            (0..=MOST_THREADS.get()).map(|number| submit(&turns, &format!("order-{number}")).1).collect();
        turns.take(Loop::turn);
        let jobs = submitted.into_iter().map(|taken| taken.try_recv().expect("it was told").expect("it is taken in"));
        let crowd = Self { jobs: jobs.collect(), turns, given, ends };
        (0..MOST_THREADS.get()).for_each(|_| crowd.leaves());
        assert!(crowd.given.try_recv().is_err(), "there is no thread for the last");
        crowd
    }

    fn leaves(&self) {
        self.given.recv_timeout(Duration::from_secs(60)).expect("it leaves");
    }

    /// The one that waits, and the others.
    fn into_jobs(self) -> (Following, Vec<Following>) {
        let mut jobs = self.jobs;
        (jobs.pop().expect("the last"), jobs)
    }

    fn passes(&self, span: Duration) {
        self.turns.take(|this| {
            this.clock.forward(span);
            this.turn();
        });
    }
}

fn outcome(job: &Following) -> Option<Outcome> {
    job.finished.try_recv().ok().map(|finished| finished.read().outcome)
}

/// From the moment at which a thread has taken it, a request may have left; before that, it certainly has not.
#[test]
fn what_no_thread_had_taken_in_its_time_was_not_sent_and_goes_again() {
    let crowd = Crowd::new();
    crowd.passes(Crowd::LIMIT);
    let (last, others) = crowd.jobs.split_last().expect("the last");
    for job in others {
        assert_eq!(outcome(job), Some(Outcome::Unresolved(Unresolved::Ambiguous)));
    }
    assert_eq!(outcome(last), None);
    crowd.passes(Duration::from_secs(1));
    crowd.ends.send(()).expect("it waits");
    crowd.leaves();
    assert_eq!(outcome(last), None);
    crowd.passes(Crowd::LIMIT);
    assert_eq!(outcome(last), Some(Outcome::Unresolved(Unresolved::Ambiguous)), "now it may have left");
}

#[test]
fn what_no_thread_had_taken_when_the_client_stops_is_still_to_be_sent() {
    let crowd = Crowd::new();
    let (reply, unfinished) = oneshot::channel();
    let shutdown = Command::Shutdown { grace: Duration::ZERO, reply };
    crowd.turns.bring(Input::Command(shutdown)).expect("it runs");
    crowd.turns.take(Loop::turn);
    let unfinished = unfinished.try_recv().expect("it was told");
    let last = format!("order-{}", MOST_THREADS);
    for job in unfinished {
        let stage = if job.key.as_str() == last { Stage::Planned } else { Stage::InFlight };
        assert_eq!(job.stage, stage, "{:?}", job.key.as_str());
    }
}

#[test]
fn what_no_thread_had_taken_when_it_is_cancelled_has_not_run() {
    let crowd = Crowd::new();
    for job in &crowd.jobs {
        let id = job.id.expect("it is under way");
        crowd.turns.bring(Input::Command(Command::Cancel(id))).expect("it runs");
    }
    crowd.turns.take(Loop::turn);
    let (last, others) = crowd.into_jobs();
    assert_eq!(outcome(&last), Some(Outcome::Rejected(Rejected::Cancelled)));
    for job in others {
        assert_eq!(outcome(&job), Some(Outcome::Unresolved(Unresolved::Cancelled)));
    }
}

#[test]
fn what_no_thread_had_taken_of_its_last_attempt_when_it_is_cancelled_is_cancelled() {
    let crowd = Crowd::with(1, GatePolicy::none());
    let id = crowd.jobs.last().and_then(|job| job.id).expect("it is under way");
    crowd.turns.bring(Input::Command(Command::Cancel(id))).expect("it runs");
    crowd.turns.take(Loop::turn);
    assert_eq!(outcome(&crowd.into_jobs().0), Some(Outcome::Rejected(Rejected::Cancelled)));
}

/// It says nothing of the provider: else who has too few threads would find it ill.
#[test]
fn what_no_thread_had_taken_in_its_time_is_no_failure_to_the_breaker() {
    // What left has timed out as well: one more would be too much.
    let most = MOST_THREADS.get();
    let breaker = BreakerPolicy::consecutive(most + 1).expect("a policy");
    let crowd = Crowd::with(3, GatePolicy::none().with_breaker(Some(breaker)));
    crowd.passes(Crowd::LIMIT);
    crowd.passes(Duration::from_secs(1));
    crowd.ends.send(()).expect("it waits");
    crowd.leaves();
}

/// By the time that the loop tries again.
fn has_threads_again(this: &mut Loop) {
    this.pool.starts_none(false);
    this.clock.forward(NO_THREAD);
}

/// That the machine has none left says nothing of the provider, and no attempt was made.
#[test]
fn what_finds_no_thread_waits_for_one() {
    let (turns, is_given, _end) = one_to_be_sent();
    let looks_again = turns.take(|this| {
        this.pool.starts_none(true);
        this.turn();
        this.wait()
    });
    assert!(looks_again.flatten().is_some_and(|wait| wait <= NO_THREAD), "{looks_again:?}");
    assert_eq!(turns.take(|this| (has_threads_again(this), this.wait()).1.is_some()), Some(true));
    is_given.recv_timeout(Duration::from_secs(60)).expect("it leaves");
}

/// Whoever takes the turn in which a thread could not be started: the loop's own tries again.
#[test]
fn threads_that_could_not_be_started_are_tried_for_though_there_are_others() {
    let (turns, is_given, _end) = one_in_the_air();
    is_given.recv().expect("it leaves");
    let (_, _taken) = submit(&turns, "order-2");
    let woken = turns.take(|this| {
        this.wait();
        this.pool.starts_none(true);
        this.turn();
        // By a thread that has brought an answer, the first time.
        let first = this.is_sooner();
        (first, this.wait(), this.is_sooner())
    });
    let Some((true, Some(wait), false)) = woken else { panic!("{woken:?}") };
    assert!(wait <= NO_THREAD, "{wait:?}");
    turns.take(|this| (has_threads_again(this), this.wait()).1);
    is_given.recv_timeout(Duration::from_secs(60)).expect("it leaves, beside the other");
}

/// Else a busy client fills its log, and asks a machine that is short of threads for one in each turn.
#[test]
fn threads_that_could_not_be_started_are_tried_for_only_once_in_a_while() {
    let (turns, is_given, _end) = one_to_be_sent();
    let began = Instant::now();
    let tried = turns.take(|this| {
        this.pool.starts_none(true);
        let waits = [(); 100].map(|()| (this.turn(), this.wait()).1.expect("it goes on"));
        assert!(waits.iter().all(|wait| *wait <= NO_THREAD), "{waits:?}");
        // The first time, and again as often as it is time for it by the time that this is done.
        let tried = this.pool.tried();
        assert!(tried as u64 <= 1 + began.elapsed().as_secs(), "it tried {tried} times");
        this.clock.forward(NO_THREAD);
        this.wait();
        (tried, this.pool.tried())
    });
    assert!(tried.is_some_and(|(before, after)| before < after), "{tried:?}");
    turns.take(|this| (has_threads_again(this), this.wait()).1);
    is_given.recv_timeout(Duration::from_secs(60)).expect("it leaves");
}

/// Whoever else comes to what waits: nothing is tried for any more, and nobody wakes for it.
#[test]
fn what_is_taken_back_needs_no_thread_any_more() {
    let (turns, _is_given, _end) = one_to_be_sent();
    let waits = turns.take(|this| {
        this.pool.starts_none(true);
        this.turn();
        this.wait();
        assert!(this.is_stuck);
        assert!(this.pool.take_back(|_| true).is_some());
        (this.wait(), this.is_stuck)
    });
    assert!(matches!(waits, Some((Some(wait), false)) if wait > NO_THREAD), "{waits:?}");
}

impl<F: Fn() -> Result<(), RenewError> + Send + Sync + 'static> RenewsBy<F, ()> for Bare {
    fn hook(renew: F) -> Renew {
        Renew::by_call(renew)
    }
}

/// Answers, when it is told to, that the credentials are no good.
struct Refusing(Mutex<Receiver<()>>);

impl Transport for Refusing {
    fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        let _ = lock(&self.0).recv();
        Ok(Response::builder().status(401).body(Bytes::new()).expect("an answer"))
    }
}

/// All that needs credentials waits for them, and would for as long as a renewal may take.
#[test]
fn credentials_that_no_thread_could_renew_are_renewed_once_there_is_one() {
    let url = BaseUrl::parse("http://127.0.0.1:1").expect("a URL");
    let deepvue = Deepvue::new(url, "product", Credentials::new("token", "secret").expect("credentials"));
    let ((answers, answer), (renews, is_renewed)) = (channel(), channel());
    let builder = Builder::<_, _, Bare>::new(deepvue.expect("a provider"), Refusing(Mutex::new(answer)));
    let renews = Mutex::new(renews);
    let builder = builder.renew_credentials(move || Ok(lock(&renews).send(())?));
    let Bare(turns) = builder.start().expect("it starts");
    let (_, _taken) = submit(&turns, "order-1");
    turns.take(|this| (this.turn(), this.pool.starts_none(true)));
    answers.send(()).expect("it waits");
    while turns.take(|this| this.to_renew.is_none()) == Some(true) {
        thread::yield_now();
    }
    let waits = turns.take(|this| this.wait()).flatten();
    assert!(waits.is_some_and(|wait| wait <= NO_THREAD), "{waits:?}");
    assert!(is_renewed.try_recv().is_err());
    turns.take(|this| (has_threads_again(this), this.wait()).1);
    is_renewed.recv_timeout(Duration::from_secs(60)).expect("it is renewed");
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
    let ran = caught(|| with_default(&log, || turns.run()));
    assert!(ran.is_some(), "its thread goes down with it");
    assert!(!matches!(waits.try_recv(), Err(oneshot::TryRecvError::Empty)));
    assert_eq!(submit(&turns, "order-2").0, Err(Stopped));
}
