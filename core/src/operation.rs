//! One job, one idempotency key: from the intent to run it to its outcome.
//!
//! An [`Operation`] is a state machine that does no I/O. Its driver feeds it what happened ([`Event`]), pops what must
//! be done ([`Effect`]), and wakes it at its next deadline. One rule gives most of the safety: **nothing is sent while
//! a record is outstanding**. Every change worth remembering asks for a [`Record`] to be made durable, and only its
//! acknowledgement lets the next request exist.
//!
//! ```text
//!            gate says go            durable             answered: accepted          durable, due
//! CreateWaiting ──────→ CreateWriting ─────→ Creating ──────────────────→ PollWaiting ───────────→ Polling
//!      ↑  ↑                                   │    │ may have run,           ↑   ↑                  │   │
//!      │  └── failed, may be repeated ────────┘    │ look-up possible        │   └── pending, failed┘   │ ready,
//!      │                                           ↓                         │                          │ failed,
//!      └────────── proven absent ───────── LookupWaiting ⇄ LookingUp ── found┘                          │ spent
//!                                                                                                       ↓
//!                    Delivered ←── delivered ── Ended ←── durable ── Ending ←───────────────────────────┘
//! ```
//!
//! Any state may go to *Ending*: through an answer, a webhook or a cancel, or because time or attempts have run out.
//! There is one way back: a job that was delivered as *unresolved*, and whose reference is known, may be
//! [resumed](Event::Resume). It is then polled again.
//!
//! **The contract**: after each `handle` or `handle_timeout`, pop effects until there are none; then sleep until
//! [`next_deadline`](Operation::next_deadline). The four verbs:
//!
//! - feed: [`handle`](Operation::handle), [`handle_timeout`](Operation::handle_timeout). Neither can fail: an event
//!   that does not fit (late, doubled, out of order) is absorbed and becomes a [`Notice`].
//! - pop: [`pop_effect`](Operation::pop_effect). Decides nothing; effects are a projection of state, so a restored
//!   operation owes what the lost one owed.
//! - look: [`next_deadline`](Operation::next_deadline) and the getters. Answers change only in the two verbs that feed.

mod create;
mod effect;
mod end;
mod event;
mod flight;
mod gate;
mod journal;
mod lookup;
mod outcome;
mod policy;
mod poll;
mod record;
mod restore;

pub use self::effect::{Attempt, AttemptId, Effect, Kind, RecordId};
pub use self::event::{Event, Reading};
use self::journal::Journal;
pub use self::outcome::{Completed, Outcome, Rejected, Unresolved};
pub use self::policy::{OperationPolicy, SendSafety, Turn};
pub use self::record::{Record, Stage};

use core::hint::black_box;
use core::num::NonZeroU32;

use crate::gate::{Permit, Settled};
use crate::key::{Fingerprint, Key, PackedKey, PackedReference, Reference};
use crate::notice::{Notice, Wake, WakeReason};
use crate::retry::{AnswerDigest, Class, Failure, GaveUp};
use crate::seed::Seed;
use crate::time::Timestamp;

/// One job at a provider. See the [module](self) for how it is driven.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Operation {
    key: PackedKey,
    fingerprint: Fingerprint,
    reference: Option<PackedReference>,
    seed: Seed,
    state: State,
    /// When it was submitted: the create deadline counts from here.
    submitted: Timestamp,
    /// When the look-up or the polling began: their deadlines count from here. While a create is being written, in the
    /// air or waited for: until when the create whose intent was asked for last may take (see `record`).
    #[cfg_attr(feature = "serde", serde(rename = "phase_began"))]
    phase: Timestamp,
    /// When the first create was about to leave, else `NEVER`.
    first_sent: Timestamp,
    /// The latest `now`: time never runs backwards for an operation.
    seen: Timestamp,
    journal: Journal,
    /// The driver has yet to be told to abandon this attempt, and all before it.
    abandon: Option<NonZeroU32>,
    due: Due,
    /// Requests of all kinds begun; the id of the latest.
    attempts: u32,
    /// Those of them since the look-up or the polling began.
    attempts_in_phase: u16,
    creates: u16,
    polls: u16,
    /// Look-ups made, or polls failed in a row.
    tries: u16,
    /// The latest complete answer with which a keyed create failed, and how many times in a row it has come. Not on
    /// disk: a restart begins a new count.
    #[cfg_attr(feature = "serde", serde(default))]
    answer: Option<AnswerDigest>,
    #[cfg_attr(feature = "serde", serde(default))]
    identical: u8,
    /// How the latest finished request failed, if it did. Not on disk: no decision depends on it.
    #[cfg_attr(feature = "serde", serde(default))]
    failed: Option<Class>,
    /// How often in a row a record could not be made durable.
    persist_failures: u16,
    /// Some create may have run.
    doubt: bool,
    /// The provider said no to a create, and would say so again.
    refused: bool,
    /// The provider told of a change while a poll was in the air.
    #[cfg_attr(feature = "serde", serde(default))]
    changed: bool,
    /// The deadline of the look-up or the polling passed while the driver did not run. It has a second one, only for
    /// the request that fell due in the meantime.
    #[cfg_attr(feature = "serde", serde(default))]
    overslept: bool,
}

/// Where the operation stands. Each variant holds exactly what it needs; each wait holds its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum State {
    /// The next create may begin at `at`; `after` is what made it necessary if it is a retry.
    CreateWaiting { at: Timestamp, reason: WakeReason, after: Option<Class> },
    /// The intent of a create is being made durable.
    CreateWriting { permit: Permit, until: Timestamp },
    /// A create is in the air.
    Creating { permit: Permit, until: Timestamp },
    /// The next look-up may begin at `at`.
    LookupWaiting { at: Timestamp, reason: WakeReason, after: Option<Class> },
    /// A look-up is in the air.
    LookingUp { permit: Permit, until: Timestamp },
    /// The next poll may begin at `at`.
    PollWaiting { at: Timestamp, reason: WakeReason, after: Option<Class> },
    /// A poll is in the air.
    Polling { permit: Permit, until: Timestamp },
    /// The outcome is being made durable.
    Ending { outcome: Outcome },
    /// The outcome is durable and has not been delivered.
    Ended { outcome: Outcome },
    /// The outcome has been delivered.
    Delivered { outcome: Outcome },
}

/// What the driver has yet to be told, beside what to abandon. At most one of each can be owed, so effects need no
/// queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Due {
    persist: bool,
    send: bool,
    end: bool,
}

/// Feed.
impl Operation {
    /// A new job. It asks the gate at once, and owes its first record.
    ///
    /// Give each operation a `seed` of its own: with the same one, operations wait alike and have the same correlation
    /// ids. [`Engine`](crate::Engine) derives it from its own seed and the key. After a restart it may be
    /// [another](Operation::restore).
    #[must_use]
    pub fn new(key: Key, fingerprint: Fingerprint, seed: Seed, turn: &mut Turn<'_>) -> Self {
        let mut operation = Self {
            key: key.into(),
            fingerprint,
            reference: None,
            seed,
            state: State::CreateWaiting { at: turn.now, reason: WakeReason::Create, after: None },
            submitted: turn.now,
            phase: turn.now,
            first_sent: Timestamp::NEVER,
            seen: turn.now,
            journal: Journal::EMPTY,
            abandon: None,
            due: Due::default(),
            attempts: 0,
            attempts_in_phase: 0,
            creates: 0,
            polls: 0,
            tries: 0,
            answer: None,
            identical: 0,
            failed: None,
            persist_failures: 0,
            doubt: false,
            refused: false,
            changed: false,
            overslept: false,
        };
        operation.advance(turn);
        if !operation.journal.has_records() && operation.journal.is_durable() {
            // The gate made it wait: a job that was taken on must survive a crash all the same.
            operation.ask_record();
        }
        operation
    }

    /// Takes in what happened. Never fails: an event that does not fit the state changes nothing and becomes a
    /// [`Notice`].
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        self.look_at_clock(turn);
        match event {
            Event::Persisted(record) => self.persisted(record, turn),
            Event::PersistFailed(record) => self.persist_failed(record, turn),
            Event::Answered(id, answer) => self.answered(id, answer, turn),
            Event::Unsent(id) => self.unsent(id, turn),
            Event::Webhook(reading) => {
                turn.tell(Notice::Webhook);
                self.learn(reading, turn);
            }
            Event::Changed => {
                turn.tell(Notice::Webhook);
                self.changed(turn);
            }
            Event::Cancel => self.cancel(turn),
            Event::Delivered => self.delivered(turn),
            Event::Resume => self.resume(turn),
        }
        self.advance(turn);
    }

    /// Does what time has made due. Early or repeated calls change nothing. Feed what has come first: see
    /// [`Engine::handle_timeout`](crate::Engine::handle_timeout).
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        self.look_at_clock(turn);
        self.advance(turn);
    }
}

/// Pop.
impl Operation {
    /// The next thing the driver must do; `None` when there is nothing left until the next event or deadline.
    #[must_use]
    #[doc(alias = "poll_output")]
    #[doc(alias = "poll_transmit")]
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn pop_effect(&mut self) -> Option<Effect> {
        if let Some(id) = self.abandon.take() {
            return Some(Effect::Abandon(AttemptId(id.get())));
        }
        if core::mem::take(&mut self.due.persist) {
            return Some(Effect::Persist(self.journal.asked()));
        }
        if core::mem::take(&mut self.due.send) {
            return self.in_flight().map(Effect::Send);
        }
        core::mem::take(&mut self.due.end).then_some(Effect::End)
    }
}

/// Look.
impl Operation {
    /// When to call [`handle_timeout`](Operation::handle_timeout), if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.next_at().deadline()
    }

    /// The same, with the reason.
    #[must_use]
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn next_wake(&self) -> Option<Wake> {
        let at = self.next_at().deadline()?;
        if self.journal.retry_at() == Some(at) {
            return Some(Wake { at, reason: WakeReason::PersistRetry });
        }
        let reason = match self.state {
            State::CreateWaiting { reason, .. }
            | State::LookupWaiting { reason, .. }
            | State::PollWaiting { reason, .. } => reason,
            State::Creating { .. } | State::LookingUp { .. } | State::Polling { .. } => WakeReason::AttemptTimeout,
            // A journal that does not answer must not hold the permit for ever.
            State::CreateWriting { .. } => WakeReason::CreateDeadline,
            State::Ending { .. } | State::Ended { .. } | State::Delivered { .. } => return None,
        };
        Some(Wake { at, reason })
    }

    /// When to wake it, for whatever reason; `NEVER` if time changes nothing.
    fn next_at(&self) -> Timestamp {
        let own = match self.state {
            // A wait that has ended, but is blocked by an outstanding record, is woken by the record's
            // acknowledgement, not by time.
            State::CreateWaiting { at, .. } | State::LookupWaiting { at, .. } | State::PollWaiting { at, .. }
                if self.journal.is_durable() =>
            {
                at
            }
            State::CreateWriting { until, .. }
            | State::Creating { until, .. }
            | State::LookingUp { until, .. }
            | State::Polling { until, .. } => until,
            State::CreateWaiting { .. }
            | State::LookupWaiting { .. }
            | State::PollWaiting { .. }
            | State::Ending { .. }
            | State::Ended { .. }
            | State::Delivered { .. } => Timestamp::NEVER,
        };
        own.min(self.journal.retry_at().unwrap_or(Timestamp::NEVER))
    }

    /// Whether [`pop_effect`](Operation::pop_effect) has something to say.
    #[must_use]
    pub const fn owes_effects(&self) -> bool {
        self.abandon.is_some() || self.due.persist || self.due.send || self.due.end
    }

    /// The caller's name for the job. Built anew at each call, since it is stored in a packed form.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::from(&self.key)
    }

    /// Reads one word of each cache line that it occupies, so that the loads of several operations overlap.
    pub(crate) fn touch(&self) {
        black_box((self.seed, self.seen, self.refused));
    }

    /// Whether this is its key.
    pub(crate) fn is_of(&self, key: &Key) -> bool {
        self.key.is(key)
    }

    /// The payload's hash.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The seed of its random draws.
    pub(crate) const fn seed(&self) -> Seed {
        self.seed
    }

    /// The latest time that it was told.
    #[cfg(feature = "serde")]
    pub(crate) const fn seen(&self) -> Timestamp {
        self.seen
    }

    /// The provider's name for the job, once known. Built anew at each call, like [`key`](Operation::key).
    #[must_use]
    pub fn reference(&self) -> Option<Reference> {
        self.reference.as_ref().map(Reference::from)
    }

    /// How it ended; `None` until the outcome is durable.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        if let State::Ended { outcome } | State::Delivered { outcome } = self.state { Some(outcome) } else { None }
    }

    /// Whether its outcome is decided, durable or not. Nothing that is learnt later changes it.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.state, State::Ending { .. } | State::Ended { .. } | State::Delivered { .. })
    }

    /// Whether it is finished: it has ended, its outcome was delivered, and that is on disk. Nothing more will come of
    /// it, and it may be forgotten.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_delivered() && self.journal.is_durable()
    }

    /// Whether its outcome was delivered; what was learnt since may still be on its way to the disk.
    pub(crate) const fn is_delivered(&self) -> bool {
        matches!(self.state, State::Delivered { .. })
    }

    /// Whether all that it asked to have recorded is on disk: what it has learnt so far survives a crash.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.journal.is_durable()
    }

    /// Whether [`Event::Resume`] would start its polling again: it ended as unresolved, that outcome was delivered,
    /// and the provider's reference is known.
    #[must_use]
    pub const fn can_resume(&self) -> bool {
        matches!(self.state, State::Delivered { outcome: Outcome::Unresolved(_) }) && self.reference.is_some()
    }

    /// The request in the air, or about to leave.
    #[must_use]
    pub const fn in_flight(&self) -> Option<Attempt> {
        let (kind, until, number) = match self.state {
            State::Creating { until, .. } => (Kind::Create, until, self.creates),
            State::LookingUp { until, .. } => (Kind::Lookup, until, self.attempts_in_phase),
            State::Polling { until, .. } => (Kind::Poll, until, self.attempts_in_phase),
            State::CreateWaiting { .. }
            | State::CreateWriting { .. }
            | State::LookupWaiting { .. }
            | State::PollWaiting { .. }
            | State::Ending { .. }
            | State::Ended { .. }
            | State::Delivered { .. } => return None,
        };
        Some(Attempt { id: AttemptId(self.attempts), kind, number, until })
    }

    /// The latest attempt begun; number 0 if there was none.
    #[must_use]
    pub const fn last_attempt(&self) -> AttemptId {
        AttemptId(self.attempts)
    }

    /// Create attempts begun.
    #[must_use]
    pub const fn creates(&self) -> u16 {
        self.creates
    }

    /// How the latest request that was answered or given up failed: tells a person why the job still waits. `None` if
    /// that request went well, or if there has been none since the operation was made or restored. No decision depends
    /// on it.
    #[must_use]
    pub const fn last_failure(&self) -> Option<Class> {
        self.failed
    }

    /// A 128-bit id for one attempt, for logs and headers: the same when the attempt is replayed, different for every
    /// other.
    #[must_use]
    pub const fn correlation_id(&self, attempt: AttemptId) -> u128 {
        let part = self.seed.derive(CORRELATION | attempt.0 as u64);
        (part.value() as u128) << 64 | part.derive(0).value() as u128
    }
}

/// Salts that keep the draws of the phases apart. Frozen: a journal must replay alike.
const CREATE: u64 = 1 << 32;
const LOOKUP: u64 = 2 << 32;
const POLL: u64 = 3 << 32;
const PERSIST: u64 = 4 << 32;
const CORRELATION: u64 = 5 << 32;

/// What every phase uses.
impl Operation {
    /// Time never runs backwards: a `now` from the past is the latest one seen (I11).
    fn look_at_clock(&mut self, turn: &mut Turn<'_>) {
        self.seen = self.seen.max(turn.now);
        turn.now = self.seen;
    }

    /// Does what is due, until nothing is. Each step leads to a state whose deadline is later, or that waits for a
    /// record, so this ends.
    fn advance(&mut self, turn: &mut Turn<'_>) {
        if self.journal.retries_by(turn.now) {
            if let State::CreateWriting { .. } = self.state {
                self.phase = self.attempt_end(turn);
            }
            self.ask_record();
        }
        while self.step(turn) {}
    }

    fn step(&mut self, turn: &mut Turn<'_>) -> bool {
        let now = turn.now;
        if let State::Creating { until, .. } | State::LookingUp { until, .. } | State::Polling { until, .. } =
            self.state
            && until <= now
        {
            self.timed_out(turn);
            return true;
        }
        if let State::CreateWriting { until, .. } = self.state
            && until <= now
        {
            self.leave_flight(Settled::Unsent, turn);
            self.create_gave_up(GaveUp::Deadline, turn);
            return true;
        }
        if !self.journal.is_durable() {
            return false;
        }
        match self.state {
            State::CreateWaiting { at, after, .. } if at <= now => self.begin_create(after, turn),
            State::CreateWriting { permit, .. } => self.send_create(permit, turn),
            State::LookupWaiting { at, after, .. } if at <= now => self.begin_lookup(after, turn),
            State::PollWaiting { at, after, .. } if at <= now => self.begin_poll(after, turn),
            State::Ending { outcome } => {
                self.state = State::Ended { outcome };
                self.due.end = true;
                turn.tell(Notice::Ended(outcome));
            }
            State::CreateWaiting { .. }
            | State::Creating { .. }
            | State::LookupWaiting { .. }
            | State::LookingUp { .. }
            | State::PollWaiting { .. }
            | State::Polling { .. }
            | State::Ended { .. }
            | State::Delivered { .. } => return false,
        }
        true
    }

    fn answered(&mut self, id: AttemptId, answer: Result<Reading, Failure>, turn: &mut Turn<'_>) {
        let current = match self.in_flight() {
            Some(attempt) if attempt.id == id && !self.due.send => attempt,
            Some(_) | None => {
                turn.tell(Notice::LateAnswer(id));
                // An answer to an attempt that timed out still counts for what it teaches. A late failure teaches
                // nothing.
                if let (Ok(reading), true) = (answer, id.0 <= self.attempts) {
                    self.learn(reading, turn);
                }
                return;
            }
        };
        match (current.kind, answer) {
            (Kind::Create, Ok(reading)) => self.create_answered(reading, turn),
            (Kind::Create, Err(failure)) => self.create_failed(current, failure, turn),
            (Kind::Lookup, Ok(reading)) => self.lookup_answered(current, reading, turn),
            (Kind::Lookup, Err(failure)) => self.lookup_failed(current, failure, turn),
            (Kind::Poll, Ok(reading)) => self.poll_answered(reading, turn),
            (Kind::Poll, Err(failure)) => self.poll_failed(current, failure, turn),
        }
    }
}
