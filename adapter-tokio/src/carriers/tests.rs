//! What is left of a carrier whose request was cut off or never begun.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::yield_now;

use super::*;

struct Unused;

impl Transport for Unused {
    async fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        unreachable!("nothing is sent")
    }
}

fn carriers() -> Carriers<Unused> {
    Carriers::new(Arc::new(Unused), mpsc::unbounded_channel().0)
}

/// Its answer may be on its way while it is cut off.
#[tokio::test]
async fn one_that_was_cut_off_is_not_taken_back() {
    let mut carriers = carriers();
    let (cut_off, other) = (carriers.start(), carriers.start());
    cut_off.abort();
    carriers.back(cut_off);
    carriers.back(other);
    assert_eq!(carriers.idle.len(), 1);
}

#[tokio::test]
async fn one_that_nobody_holds_is_over_and_no_more_are_kept_than_may_wait() {
    let mut carriers = carriers();
    let more: Vec<_> = (0..MOST_IDLE + 9).map(|_| carriers.start()).collect();
    more.into_iter().for_each(|carrier| carriers.back(carrier));
    assert_eq!(carriers.idle.len(), MOST_IDLE);
    for left in [MOST_IDLE, 0] {
        carriers.idle.truncate(left);
        while alive() > left {
            yield_now().await;
        }
    }
}

/// A request that is in the air until its task is cut off.
fn in_the_air() -> Request {
    Request::Begun(Box::pin(std::future::pending()))
}

/// A request that says that it has left.
fn leaving() -> (Request, Arc<AtomicBool>) {
    let left = Arc::<AtomicBool>::default();
    let leaves = left.clone();
    let request = Request::Begun(Box::pin(async move {
        leaves.store(true, Ordering::Relaxed);
        std::future::pending().await
    }));
    (request, left)
}

fn alive() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_request_leaves_once_a_carrier_that_has_none_any_more_is_gone() {
    let (idle, next) = (carriers().start(), carriers().start());
    let (request, left) = leaving();
    next.carry(request, Some(idle));
    until(|| left.load(Ordering::Relaxed)).await;
    assert_eq!(alive(), 1);
}

/// Those between are cut off while they wait, or before they were begun.
#[tokio::test]
async fn no_request_leaves_while_one_from_long_before_is_in_the_air() {
    for begun in [true, false] {
        let carriers = carriers();
        let first = carriers.start();
        let first_ends = first.0.task().abort_handle();
        first.carry(in_the_air(), None);
        let mut before = first;
        for _ in 0..3 {
            let given_up = carriers.start();
            given_up.carry(in_the_air(), Some(before));
            if begun {
                yield_now().await;
            }
            given_up.abort();
            before = given_up;
        }
        let last = carriers.start();
        let (request, left) = leaving();
        last.carry(request, Some(before));
        until(|| alive() == 2).await;
        for _ in 0..100 {
            yield_now().await;
        }
        assert!(!left.load(Ordering::Relaxed), "the first has not gone");
        first_ends.abort();
        until(|| left.load(Ordering::Relaxed)).await;
        last.abort();
        until(|| alive() == 0).await;
    }
}

/// It was polled where the driver runs, and is cut off there before its task had its turn.
#[tokio::test]
async fn a_request_that_panics_when_it_is_cut_off_harms_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("it cannot be cut off");
        }
    }

    let carrier = carriers().start();
    let bomb = Bomb;
    carrier.carry(
        Request::Begun(Box::pin(async move {
            let _bomb = bomb;
            std::future::pending().await
        })),
        None,
    );
    carrier.abort();
    until(|| alive() == 0).await;
}
