//! A half-open breaker, and a provider whose answers take longer than a probe's lease.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::breaker::{BreakerPolicy, BreakerState};
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, OperationPolicy, Reference, Timestamp};
use steadfast_driver::{Answered, Builder, Command, Driver, Submit, Task};
use steadfast_providers::{Answer, Ask, Provider, RequestError};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// Down for its first requests; then it answers, in its time.
struct Slow;

impl Provider for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn policy(&self) -> OperationPolicy {
        let retry = RetryPolicy::new(20, 3_600 * SECOND, 60 * SECOND, BackoffPolicy::default()).unwrap();
        let poll = PollPolicy::new(BackoffPolicy::default(), 1_000, 3_600 * SECOND, retry.clone()).unwrap();
        OperationPolicy::default().with_create(retry).unwrap().with_poll(poll)
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Request::post("https://slow.test/").body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.status.as_u16() {
            201 => Ok(Reading::Accepted(Reference::new("txn-1").unwrap())),
            _ => Err(Failure::new(Class::Transient, Certainty::NotExecuted)),
        }
    }
}

/// What the breaker is doing after so long, with a gate that the client starts with, or is told of later.
fn after(span: Duration, told_later: bool) -> BreakerState {
    let gate = GatePolicy::none().with_breaker(Some(BreakerPolicy::consecutive(3).unwrap()));
    let state = Arc::new(Mutex::new(BreakerState::Closed));
    let seen = state.clone();
    let (provider, (), settings) = Builder::<_, _, ()>::new(Slow, ())
        .gate(if told_later { GatePolicy::none() } else { gate.clone() })
        .observer(move |observation| {
            if let Notice::Breaker(now) = observation.notice {
                *seen.lock().unwrap() = now;
            }
        })
        .into_parts();
    let mut driver = Driver::<()>::new(Arc::new(provider), settings.load("slow").unwrap(), START);
    if told_later {
        driver.command(Command::Gate { policy: Box::new(gate), number: 0 }, START);
    }
    let mut in_the_air: Vec<(Timestamp, Answered)> = Vec::new();
    for second in 0..span.as_secs() {
        let now = START.saturating_add(Duration::from_secs(second));
        if second % 10 == 0 {
            let key = Key::new(format!("order-{second}")).unwrap();
            driver.submit(Submit::new(key, "{}".into(), oneshot::channel().0), now);
        }
        for (_, answered) in in_the_air.extract_if(.., |(at, _)| *at <= now) {
            driver.answered(answered, now);
        }
        driver.handle_timeout(now);
        while let Some(task) = driver.pop_task(now) {
            if let Task::Send(sending) = task {
                let (status, takes) = if second < 60 { (503, 0) } else { (201, 40) };
                let (response, at) = (Response::builder().status(status), now.saturating_add(takes * SECOND));
                in_the_air.push((at, sending.reader.read(Ok(response.body(Bytes::new()).unwrap()), at)));
            }
        }
    }
    *state.lock().unwrap()
}

#[test]
fn i9_a_breaker_closes_whose_probes_are_answered_well_within_the_time_that_they_have() {
    for told_later in [false, true] {
        assert!(matches!(after(60 * SECOND, told_later), BreakerState::Open { .. } | BreakerState::HalfOpen));
        assert_eq!(after(900 * SECOND, told_later), BreakerState::Closed, "told later: {told_later}");
    }
}
