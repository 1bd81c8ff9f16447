//! Subscriptions to what the provider says of jobs that have ended.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

use steadfast_driver::{REVISIONS, Revision, RevisionError, Subscribers};

use crate::turns::Turns;

/// A subscription to revisions. See [`Client::revisions`](crate::Client::revisions).
#[derive(Debug)]
pub struct Revisions {
    pub(crate) subscriber: Arc<Subscriber>,
    /// The turns that deliver revisions. It keeps no client alive.
    turns: Weak<Turns>,
}

impl Revisions {
    /// Waits for the next one.
    ///
    /// # Errors
    /// Some were missed, or there will be no more.
    ///
    /// # Panics
    /// If there is none yet and it is called in a function that the client itself calls and waits for (an observer, a
    /// seal): none would ever come.
    #[track_caller]
    #[expect(clippy::should_implement_trait, reason = "its name on tokio too")]
    pub fn next(&mut self) -> Result<Revision, RevisionError> {
        loop {
            if let Some(revision) = self.next_timeout(Duration::from_secs(3_600))? {
                return Ok(revision);
            }
        }
    }

    /// Waits for the next one, for at most this long. `None`: there is none yet.
    ///
    /// # Errors
    /// As [`next`](Revisions::next).
    ///
    /// # Panics
    /// As [`next`](Revisions::next), if it would wait.
    #[track_caller]
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Revision>, RevisionError> {
        if self.turns.upgrade().is_some_and(|turns| turns.are_elsewhere()) {
            return self.subscriber.left().and_then(|next| next.map(Some).ok_or(RevisionError::Stopped));
        }
        if !timeout.is_zero() {
            if let Some(revision) = self.next_timeout(Duration::ZERO)? {
                return Ok(Some(revision));
            }
            if let Some(turns) = self.turns.upgrade() {
                turns.panic_if_ours();
            }
        }
        let nothing = |queue: &mut Queue| queue.missed == 0 && queue.waiting.is_empty() && !queue.stopped;
        let waited = self.subscriber.arrived.wait_timeout_while(self.subscriber.queue(), timeout, nothing);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.next()
    }
}

/// One of those who have subscribed.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// The revisions that a subscriber was told and has not taken.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The oldest first.
    waiting: VecDeque<Revision>,
    /// How many older ones had to make room.
    pub(crate) missed: u64,
    /// There will be no more.
    stopped: bool,
}

impl Queue {
    fn next(&mut self) -> Result<Option<Revision>, RevisionError> {
        if self.missed > 0 {
            return Err(RevisionError::Missed(std::mem::take(&mut self.missed)));
        }
        match self.waiting.pop_front() {
            None if self.stopped => Err(RevisionError::Stopped),
            next => Ok(next),
        }
    }
}

impl Subscriber {
    /// What had come before this process was forked. A thread that did not come along may have had the lock, and then
    /// what is behind it is lost.
    fn left(&self) -> Result<Option<Revision>, RevisionError> {
        match self.queue.try_lock() {
            Ok(mut queue) => queue.next(),
            Err(TryLockError::Poisoned(queue)) => queue.into_inner().next(),
            Err(TryLockError::WouldBlock) => Err(RevisionError::Stopped),
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, revision: Revision) {
        let mut queue = self.queue();
        if queue.waiting.len() >= REVISIONS {
            queue.waiting.pop_front();
            queue.missed += 1;
        }
        queue.waiting.push_back(revision);
        drop(queue);
        self.arrived.notify_one();
    }

    fn stop(&self) {
        self.queue().stopped = true;
        self.arrived.notify_one();
    }
}

/// All subscribers, except those that are gone; `None` once the client has stopped. Shared by the clients and the
/// loop; only the loop closes it.
pub(crate) type Subscribed = Arc<Mutex<Option<Vec<Weak<Subscriber>>>>>;

pub(crate) fn subscribe(subscribed: &Subscribed, turns: Weak<Turns>) -> Revisions {
    let subscriber = Arc::<Subscriber>::default();
    if turns.upgrade().is_some_and(|turns| turns.are_elsewhere()) {
        // No revision comes to this process, and the lock may be held by a thread that did not come along.
        subscriber.stop();
        return Revisions { subscriber, turns };
    }
    match &mut *subscribed.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(all) => {
            // Subscribers that come and go while nothing is told must not be kept.
            all.retain(|subscriber| subscriber.strong_count() > 0);
            all.push(Arc::downgrade(&subscriber));
        }
        None => subscriber.stop(),
    }
    Revisions { subscriber, turns }
}

/// Tells all who have subscribed, until it is dropped with the loop.
pub(crate) struct Told(pub(crate) Subscribed);

impl Subscribers for Told {
    fn are_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|all| !all.is_empty())
    }

    fn tell(&self, revision: Revision) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = all.as_mut() else { return };
        all.retain(|subscriber| {
            let subscriber = subscriber.upgrade();
            if let Some(subscriber) = &subscriber {
                subscriber.tell(revision.clone());
            }
            subscriber.is_some()
        });
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        all.iter().flatten().filter_map(Weak::upgrade).for_each(|subscriber| subscriber.stop());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_forgotten_though_nothing_was_told() {
        let all: Subscribed = Arc::new(Mutex::new(Some(Vec::new())));
        let stays = subscribe(&all, Weak::new());
        for _ in 0..100 {
            drop(subscribe(&all, Weak::new()));
        }
        let known = all.lock().expect("no panic").take().unwrap_or_default();
        assert!(known.len() <= 2, "{} are known", known.len());
        assert!(known[0].ptr_eq(&Arc::downgrade(&stays.subscriber)));
    }
}
