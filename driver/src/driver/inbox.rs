//! Webhooks that came before their job was known. Oldest first, bounded in number, bytes and time. The shards of a
//! client have one inbox together.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use oneshot::Sender;
use steadfast_core::{Fingerprint, Key, Reference, Timestamp};
use steadfast_providers::WebhookEvent;
use steadfast_providers::webhook::Verified;

use super::shared::{Common, Shard};
use crate::webhook::{Delivery, WebhookPolicy};

/// What an event costs beside its result.
const EVENT: usize = 512;

/// What an event costs that waits.
pub(super) fn size(event: &WebhookEvent) -> usize {
    event.result.as_ref().map_or(0, |result| result.len()) + EVENT
}

/// What a repeated event is recognised by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Id(Box<str>),
    Body(Fingerprint),
}

impl Name {
    pub(super) fn of(verified: &Verified) -> Self {
        match verified.fingerprint() {
            Some(body) => Self::Body(body),
            None => Self::Id(verified.id.clone().unwrap_or_default()),
        }
    }
}

/// Where its senders are answered, and until when each of them waits.
pub(super) type Replies = Vec<(Timestamp, Sender<Delivery>)>;

/// An event that came before its job was known.
pub(super) struct Early {
    pub(super) event: WebhookEvent,
    pub(super) name: Name,
    until: Timestamp,
    pub(super) replies: Replies,
    /// Whether a shard may turn out to have its job, by what they have said so far.
    may_be: bool,
    /// How many other shards have not answered yet.
    unasked: usize,
    /// Its number, and its home: the shard that watches its time.
    number: u64,
    home: usize,
}

/// What the other shards are asked.
pub(super) struct Asking {
    pub(super) early: u64,
    pub(super) reference: Reference,
    pub(super) has_key: bool,
}

impl Early {
    pub(super) const fn new(
        event: WebhookEvent,
        name: Name,
        until: Timestamp,
        (may_be, unasked): (bool, usize),
    ) -> Self {
        Self { event, name, until, replies: Vec::new(), may_be, unasked, number: 0, home: 0 }
    }

    /// Asks the other shards again, unless they are being asked already: what they said the last time may no longer be
    /// true.
    pub(super) fn ask_again(&mut self, may_be: bool, others: usize) -> Option<Asking> {
        if self.unasked > 0 || others == 0 {
            return None;
        }
        (self.may_be, self.unasked) = (may_be, others);
        self.asking()
    }

    fn asking(&self) -> Option<Asking> {
        let reference = self.event.reference.clone().filter(|_| self.unasked > 0)?;
        Some(Asking { early: self.number, reference, has_key: self.event.key.is_some() })
    }

    /// Whether nobody has said so far that it may turn out to be theirs.
    const fn is_on_trial(&self) -> bool {
        self.unasked > 0 && !self.may_be
    }

    fn size(&self) -> usize {
        size(&self.event)
    }

    fn is_about(&self, key: &Key, reference: Option<&Reference>) -> bool {
        self.event.key.as_ref() == Some(key) || (reference.is_some() && self.event.reference.as_ref() == reference)
    }
}

/// What is to be told once the lock is free: the log, and a waker of who waits, are the program's code, may take their
/// time, and may wait for what another shard says.
enum ToTell {
    /// An event waited in vain, how many have by now, and why.
    Dropped(Early, u64, &'static str),
    /// A sender has waited for long enough.
    Late(Sender<Delivery>),
    /// The shard that watched it has ended: its senders learn that when they are dropped.
    Left(Early),
}

impl ToTell {
    /// Senders that still wait for an answer are told to send the webhook again.
    fn tell(self) {
        match self {
            Self::Dropped(early, dropped, why) => {
                tracing::info!(
                    reference = early.event.reference.as_ref().map_or("", Reference::as_str),
                    dropped,
                    why,
                    "a webhook waited in vain for its job: if there is one, a poll will find out"
                );
                for (_, reply) in early.replies {
                    let _ = reply.send(Delivery::Early);
                }
            }
            Self::Late(reply) => drop(reply.send(Delivery::Early)),
            Self::Left(early) => drop(early),
        }
    }
}

/// The events that lie in an inbox.
pub(crate) struct Board {
    policy: WebhookPolicy,
    /// Oldest first.
    early: VecDeque<Early>,
    bytes: usize,
    to_tell: Vec<ToTell>,
    /// Events that left it unmatched.
    dropped: u64,
    number: u64,
}

impl Board {
    pub(super) const fn new(policy: WebhookPolicy) -> Self {
        Self { policy, early: VecDeque::new(), bytes: 0, to_tell: Vec::new(), dropped: 0, number: 0 }
    }

    fn take(&mut self, is_it: impl Fn(&Early) -> bool) -> Option<Early> {
        let early = self.early.remove(self.early.iter().position(is_it)?)?;
        self.bytes = self.bytes.saturating_sub(early.size());
        Some(early)
    }

    fn keep(&mut self, mut early: Early, home: usize) -> Option<Asking> {
        self.number += 1;
        (early.number, early.home) = (self.number, home);
        let asking = early.asking();
        self.bytes += early.size();
        self.early.push_back(early);
        self.make_room();
        asking
    }

    /// Drops the oldest first. Events on trial take no room from the others, and get at most as much as those.
    fn make_room(&mut self) {
        for on_trial in [false, true] {
            let is_such = |early: &Early| early.is_on_trial() == on_trial;
            while self.early.len() > self.policy.inbox || self.bytes > self.policy.inbox_bytes {
                let such = self.early.iter().filter(|early| is_such(early));
                let (many, bytes) = such.fold((0, 0), |(many, bytes), early| (many + 1, bytes + early.size()));
                if many <= self.policy.inbox && bytes <= self.policy.inbox_bytes {
                    break;
                }
                self.drop_one(is_such, "there are too many");
            }
        }
    }

    /// Drops an event that waited in vain.
    fn drop_one(&mut self, is_it: impl Fn(&Early) -> bool, why: &'static str) {
        let Some(early) = self.take(is_it) else { return };
        self.dropped += 1;
        self.to_tell.push(ToTell::Dropped(early, self.dropped, why));
    }

    /// Looks after the events that this shard watches; all of them wait for the same span, so the oldest goes first.
    fn handle_timeout(&mut self, home: usize, now: Timestamp) {
        for early in self.early.iter_mut().filter(|early| early.home == home) {
            let late = early.replies.extract_if(.., |(at, _)| *at <= now);
            self.to_tell.extend(late.map(|(_, reply)| ToTell::Late(reply)));
        }
        let is_over = |early: &Early| early.home == home && early.until <= now;
        while self.early.iter().any(is_over) {
            self.drop_one(is_over, "its time is over");
        }
    }

    /// A shard has ended, so nobody would watch the time of its events: they go, and their senders are told to send
    /// them again.
    fn leave(&mut self, home: usize) {
        while let Some(early) = self.take(|early| early.home == home) {
            self.to_tell.push(ToTell::Left(early));
        }
    }

    fn next_deadline(&self, home: usize) -> Option<Timestamp> {
        let mine = self.early.iter().filter(|early| early.home == home);
        mine.flat_map(|early| early.replies.iter().map(|(at, _)| *at).chain([early.until])).min()
    }
}

impl Common {
    /// Runs this on the shards' common inbox, under its lock. What is to be told is for the caller, without the lock.
    fn with_board<T>(&self, work: impl FnOnce(&mut Board) -> T) -> (T, Vec<ToTell>) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut board);
        self.early.store(board.early.len(), Ordering::Release);
        (done, mem::take(&mut board.to_tell))
    }

    pub(super) fn leave_board(&self, home: usize) {
        let ((), to_tell) = self.with_board(|board| board.leave(home));
        to_tell.into_iter().for_each(ToTell::tell);
    }
}

/// A driver's way to its inbox: its own, or the one that shards share.
pub(super) enum Inbox {
    Own(Board),
    Shared(Arc<Common>, usize),
}

impl Inbox {
    pub(super) fn new(policy: WebhookPolicy, shard: Option<&Shard>) -> Self {
        match shard {
            Some(shard) => Self::Shared(shard.common.clone(), shard.index),
            None => Self::Own(Board::new(policy)),
        }
    }

    /// Runs this on the events, with the driver's own number among the shards, and then tells what came of it.
    fn with<T>(&mut self, work: impl FnOnce(&mut Board, usize) -> T) -> T {
        let (done, to_tell) = match self {
            Self::Own(board) => (work(board, 0), mem::take(&mut board.to_tell)),
            Self::Shared(common, home) => common.with_board(|board| work(board, *home)),
        };
        to_tell.into_iter().for_each(ToTell::tell);
        done
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Own(board) => board.early.is_empty(),
            Self::Shared(common, _) => common.early.load(Ordering::Acquire) == 0,
        }
    }

    /// Returns what the other shards are to be asked.
    pub(super) fn keep(&mut self, early: Early) -> Option<Asking> {
        self.with(|board, home| board.keep(early, home))
    }

    pub(super) fn has(&mut self, name: &Name) -> bool {
        !self.is_empty() && self.with(|board, _| board.early.iter().any(|early| early.name == *name))
    }

    /// In `work`, nobody may be told anything: it is under the lock.
    pub(super) fn with_one<T>(&mut self, name: &Name, work: impl FnOnce(&mut Early) -> T) -> Option<T> {
        self.with(|board, home| {
            let early = board.early.iter_mut().find(|early| early.name == *name)?;
            // The shard where it lay first may have ended.
            early.home = home;
            Some(work(early))
        })
    }

    pub(super) fn drop_one(&mut self, name: &Name, why: &'static str) {
        self.with(|board, _| board.drop_one(|early| early.name == *name, why));
    }

    /// The oldest about this job.
    pub(super) fn take_about(&mut self, key: &Key, reference: Option<&Reference>) -> Option<Early> {
        if self.is_empty() {
            return None;
        }
        self.with(|board, _| board.take(|early| early.is_about(key, reference)))
    }

    /// A shard that was asked does not know the event's job. Once all have answered, returns the senders that can be
    /// answered now.
    pub(super) fn is_not_theirs(&mut self, number: u64, may_be: bool, accept: bool) -> Option<Replies> {
        self.with(|board, _| {
            let early = board.early.iter_mut().find(|early| early.number == number)?;
            early.unasked = early.unasked.saturating_sub(1);
            early.may_be |= may_be;
            match (early.unasked, early.may_be) {
                (0, false) => board.take(|early| early.number == number).map(|early| early.replies),
                (0, true) => {
                    let replies = accept.then(|| mem::take(&mut early.replies));
                    board.make_room();
                    replies
                }
                _ => None,
            }
        })
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if !self.is_empty() {
            self.with(|board, home| board.handle_timeout(home, now));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Own(board) => board.next_deadline(0),
            Self::Shared(..) if self.is_empty() => None,
            Self::Shared(common, home) => {
                common.board.lock().unwrap_or_else(PoisonError::into_inner).next_deadline(*home)
            }
        }
    }
}
