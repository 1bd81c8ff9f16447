//! What is held for a request in the air: for as long as it is there, and no longer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, OperationId, OperationPolicy, SendSafety, Timestamp};
use steadfast_driver::{Builder, Driver, Outgoing, Reader, SendError, Submit, Task};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{Answer, Ask, BaseUrl, Provider, RequestError};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn driver() -> Driver<u32> {
    let credentials = Credentials::new("token", "secret").unwrap();
    let provider = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1").unwrap(), "driving-license", credentials).unwrap();
    // Creates may be repeated: a second one can follow one of which nothing was heard.
    let policy = provider.policy().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) });
    let described: Builder<_, _, ()> = Builder::new(provider, ()).policy(policy.unwrap());
    let (provider, (), settings) = described.into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    let mut driver = Driver::new(Arc::new(provider), loaded, START);
    let (reply, _taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new("order-42").unwrap(), "{}".into(), reply), START);
    driver
}

/// Carries out what there is to do, and gives the request that is to be sent, if there is one, and whether one is to be
/// cut off.
fn next(driver: &mut Driver<u32>, now: Timestamp) -> (Option<(OperationId, Option<u32>, Reader)>, bool) {
    let (mut sending, mut cut_off) = (None, false);
    while let Some(task) = driver.pop_task(now) {
        match task {
            Task::Send(send) => sending = Some((send.id(), send.previous, send.reader)),
            Task::Abort(_) => cut_off = true,
            _ => {}
        }
    }
    (sending, cut_off)
}

fn accepted() -> Response<Bytes> {
    Response::new(Bytes::from_static(br#"{"transaction_id":"6f1c1f5e-0a0e-4c0a-9d8e-0d6a4e6b7c11"}"#))
}

#[test]
fn what_is_held_for_a_request_is_let_go_when_it_is_answered() {
    let mut driver = driver();
    let (id, previous, reader) = next(&mut driver, START).0.expect("a create");
    assert_eq!(previous, None);
    driver.sent(id, 1);
    assert_eq!(driver.request(id), Some(&1));

    driver.answered(reader.read(Ok(accepted()), START), START);

    assert_eq!(driver.request(id), None, "the job waits for its first poll, and holds nothing");
}

#[test]
fn a_late_answer_does_not_let_go_of_the_request_that_followed() {
    let mut driver = driver();
    let (id, _, first) = next(&mut driver, START).0.expect("a create");
    driver.sent(id, 1);
    let mut given_up = false;
    let (now, previous) = loop {
        let now = driver.next_deadline().expect("it goes on");
        driver.handle_timeout(now);
        let (sending, cut_off) = next(&mut driver, now);
        given_up |= cut_off;
        if let Some((_, previous, _second)) = sending {
            break (now, previous);
        }
    };
    assert!(given_up, "nothing was heard of the first");
    assert_eq!(previous, Some(1), "it must be gone before the second leaves");
    driver.sent(id, 2);

    driver.answered(first.read(Ok(accepted()), now), now);

    assert_eq!(driver.request(id), Some(&2));
    assert!(next(&mut driver, now).1, "the job is accepted, so the second create is cut off");
}

#[test]
fn what_is_held_for_a_request_can_be_had_back_to_be_used_again() {
    let mut driver = driver();
    let (id, _, first) = next(&mut driver, START).0.expect("a create");
    driver.sent(id, 1);
    let answered = first.read(Ok(accepted()), START);
    assert_eq!(driver.take_request(&answered), Some(1));
    assert_eq!((driver.take_request(&answered), driver.request(id)), (None, None), "once");
    driver.answered(answered, START);
}

#[test]
fn what_is_held_for_a_request_that_followed_is_not_given_back_for_a_late_answer() {
    let mut driver = driver();
    let (id, _, first) = next(&mut driver, START).0.expect("a create");
    driver.sent(id, 1);
    let now = loop {
        let now = driver.next_deadline().expect("it goes on");
        driver.handle_timeout(now);
        if next(&mut driver, now).0.is_some() {
            break now;
        }
    };
    driver.sent(id, 2);
    assert_eq!(driver.take_request(&first.read(Ok(accepted()), now)), None);
    assert_eq!(driver.request(id), Some(&2));
}

/// Reads every poll as the end of its job, and notes by which reference it was told that it had been asked.
struct Noting(Deepvue, Mutex<Vec<Option<String>>>);

impl Provider for Noting {
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
        self.1.lock().unwrap().push(answer.reference.map(|reference| reference.as_str().to_owned()));
        self.0.read(answer)
    }
}

/// By it an answer about another job is known.
#[test]
fn whoever_reads_a_poll_is_told_by_which_reference_it_asked() {
    let credentials = Credentials::new("token", "secret").unwrap();
    let deepvue = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1").unwrap(), "driving-license", credentials).unwrap();
    let described: Builder<_, _, ()> = Builder::new(Noting(deepvue, Mutex::default()), ());
    let (provider, (), settings) = described.into_parts();
    let (provider, loaded) = (Arc::new(provider), settings.load("deepvue/driving-license").unwrap());
    let mut driver: Driver<u32> = Driver::new(provider.clone(), loaded, START);
    let (reply, _taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new("order-42").unwrap(), "{}".into(), reply), START);
    let (_, _, create) = next(&mut driver, START).0.expect("a create");
    driver.answered(create.read(Ok(accepted()), START), START);
    assert!(next(&mut driver, START).0.is_none(), "its first poll is not due yet");
    let (now, poll) = loop {
        let now = driver.next_deadline().expect("it goes on");
        driver.handle_timeout(now);
        if let Some((_, _, poll)) = next(&mut driver, now).0 {
            break (now, poll);
        }
    };
    driver.answered(poll.read(Ok(accepted()), now), now);
    let asked = Some("6f1c1f5e-0a0e-4c0a-9d8e-0d6a4e6b7c11".to_owned());
    assert_eq!(*provider.1.lock().unwrap(), [None, asked]);
}

/// A loop that carries one request at a time comes late to those behind it. One whose time went by meanwhile has not
/// left, so nothing ran; sent with no time left, it would be one of which nobody knows.
#[test]
fn a_request_whose_time_went_by_before_it_was_fetched_is_not_handed_out() {
    let credentials = Credentials::new("token", "secret").unwrap();
    let provider = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1").unwrap(), "driving-license", credentials).unwrap();
    let policy = provider.policy().with_safety(SendSafety::Unsafe).unwrap();
    let (provider, (), settings) = Builder::<_, _, ()>::new(provider, ()).policy(policy).into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    let mut driver: Driver<()> = Driver::new(Arc::new(provider), loaded, START);
    let taken = ["first", "second", "third"].map(|key| {
        let (reply, taken) = oneshot::channel();
        driver.submit(Submit::new(Key::new(key).unwrap(), "{}".into(), reply), START);
        taken
    });
    driver.abandon();
    let (mut now, mut turns) = (START, 0);
    while !driver.is_over() {
        turns += 1;
        assert!(turns < 100, "it turns for nothing");
        while let Some(task) = driver.pop_task(now) {
            let Task::Send(sending) = task else { continue };
            let Outgoing { key, timeout, .. } = &sending.outgoing;
            assert!(!timeout.is_zero(), "{sending:?} at {now:?}");
            let came = if key.as_str() == "first" {
                now = now.saturating_add(*timeout);
                Err(SendError::timed_out())
            } else {
                Ok(Response::builder().status(422).body(Bytes::new()).unwrap())
            };
            driver.answered(sending.reader.read(came, now), now);
        }
        now = driver.next_deadline().unwrap_or(now).max(now);
        driver.handle_timeout(now);
    }
    let outcomes = taken.map(|taken| {
        let finished = taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read();
        (finished.outcome.name(), finished.creates)
    });
    assert_eq!(outcomes, [("unresolved", 1), ("rejected", 2), ("rejected", 2)]);
}
