//! A call's future can go to another thread if its timer's sleeps can. Those of a runtime of one thread, or of a
//! browser, cannot.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use steadfast_core::poll::PollPolicy;
use steadfast_driver::{AsyncTimer, Breaker, Call, Polled, Timer, VirtualTimer};

use super::{SECOND, policy};

/// What one thread keeps for itself.
#[derive(Clone, Default)]
struct Alone(Rc<Cell<Duration>>);

impl Timer for Alone {
    type Moment = Duration;

    fn now(&self) -> Duration {
        self.0.get()
    }

    fn since(&self, moment: Duration) -> Duration {
        self.0.get().saturating_sub(moment)
    }
}

impl AsyncTimer for Alone {
    async fn sleep(&self, span: Duration) {
        let passed = self.0.clone();
        std::future::ready(()).await;
        passed.set(passed.get() + span);
    }
}

#[test]
fn a_timer_that_stays_on_its_thread_is_a_timer() {
    let timer = Alone::default();
    let tries = Cell::new(0);
    let retried = Call::retry(policy(3, 60 * SECOND, SECOND), timer.clone()).run(|| async {
        tries.set(tries.get() + 1);
        if tries.get() < 3 { Err("busy") } else { Ok(tries.get()) }
    });
    let Poll::Ready(done) = pin!(retried).poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
    assert_eq!((done.ok(), timer.0.get()), (Some(3), 2 * SECOND));
}

#[test]
fn with_any_other_a_call_may_go_to_another_thread() {
    fn may_go<T: Send>(_: T) {}
    let breaker = Breaker::new(steadfast_core::breaker::BreakerPolicy::default());
    may_go(Call::retry(policy(3, 60 * SECOND, SECOND), VirtualTimer::new()).run(|| async { Ok::<_, String>(1) }));
    may_go(
        Call::poll_until(PollPolicy::default(), VirtualTimer::new())
            .breaker(&breaker)
            .run_with(|_| async { Polled::<_, String>::Ready(1) }),
    );
}
