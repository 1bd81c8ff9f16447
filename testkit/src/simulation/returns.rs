//! Operations that come back: unresolved ones that a caller asks for again, and those that a driver takes out of the
//! engine until it has their payload.

use steadfast_core::engine::Event;
use steadfast_core::operation::{Record, Stage};
use steadfast_core::{OperationId, SendSafety};

use super::account::Life;
use super::checks::ended;
use super::invariant::Invariant::{I, R};
use super::world::{Happening, World, ms};

impl World {
    /// A caller wants an operation polled on, whether or not that is possible.
    pub(super) fn resume(&mut self, job: usize) {
        let Some(id) = self.id_of(job) else { return };
        let resumes = self.books.accounts[job].can_resume();
        let Some((before, live)) = self.state_of(id) else { return };
        let counted = self.books.accounts[job].life.finished.is_none();
        self.trace(Some(job), || format!("resumed by its caller{}", if resumes { "" } else { ", in vain" }));
        if resumes {
            self.resumed += 1;
            self.books.accounts[job].resume();
        }
        self.feed(Event::Resume(id));
        let Some((after, live_after)) = self.state_of(id) else { return };
        let (mut expected, mut live_expected) = (before, live);
        if resumes {
            (expected.stage, expected.polls) = (Stage::Accepted, 0);
            expected.due = self.process.as_ref().map(|process| process.seen);
            live_expected += u32::from(!counted);
        }
        // If it is under way, the same step may carry out what has become due.
        let same = if resumes || ended(expected.stage).is_some() {
            after == expected
        } else {
            (&after.reference, after.polls) == (&expected.reference, expected.polls)
        };
        self.books.hold(R(31), same, || format!("job {job}, resumed: {after:?}, where {expected:?} is expected"));
        self.books.hold_all(&[I(15), R(41)], live_after == live_expected, || {
            format!("job {job}, resumed: {live_after} live, where {live_expected} are")
        });
    }

    /// A driver has no payload for a create, and takes the operation out until it has one.
    pub(super) fn withdraw(&mut self, job: usize) {
        let Some(id) = self.id_of(job) else { return };
        let (Some((before, live)), now) = (self.state_of(id), self.clock()) else { return };
        let may_look_up = matches!(self.settings.policy.safety(), SendSafety::Lookup { .. });
        let waits = before.stage == Stage::Planned || before.stage == Stage::Unknown && !may_look_up;
        let Some(process) = &mut self.process else { return };
        process.seen = process.seen.max(now);
        let record = process.engine.engine_mut().withdraw(id, now);
        let gone = process.engine.engine().find(&before.key).is_none();
        let live_after = process.engine.engine().live();
        let expected = waits.then(|| before.clone());
        self.books.hold(R(11), record == expected && gone == waits, || {
            format!("job {job}, withdrawn: {record:?}, where {expected:?} is expected")
        });
        self.books.hold_all(&[I(15), R(41)], live_after == live - u32::from(waits), || {
            format!("job {job}, withdrawn: {live_after} live of {live}")
        });
        let Some(record) = record else { return };
        self.withdrawn += 1;
        if let Some(process) = &mut self.process {
            process.latest.remove(&job);
            process.withdrawn.insert(job, record);
        }
        let life = &mut self.books.accounts[job].life;
        *life = Life { recorded: life.recorded, ..Life::default() };
        self.trace(Some(job), || "taken out of the engine: its payload is away".into());
        let (later, life) = (ms(self.dice.u64(..60_000)), self.life);
        self.after(later, Happening::GiveBack { life, job });
    }

    /// The payload is available: the operation goes back into the engine, unless it is there already.
    pub(super) fn give_back(&mut self, life: u32, job: usize) {
        let now = self.clock();
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else { return };
        let Some(record) = process.withdrawn.remove(&job) else { return };
        process.seen = process.seen.max(now);
        let creates = record.creates;
        let restored = process.engine.engine_mut().restore(record, now);
        self.books.hold(R(11), restored.is_ok(), || format!("job {job} is not taken back: {restored:?}"));
        let Ok(id) = restored else { return };
        process.jobs.insert(id, job);
        process.latest.insert(job, id);
        let life = &mut self.books.accounts[job].life;
        (life.known, life.admitted) = (true, creates);
        self.trace(Some(job), || "back in the engine".into());
    }

    /// The record that an operation would write, and how many others are live.
    fn state_of(&self, id: OperationId) -> Option<(Record, u32)> {
        let engine = self.process.as_ref()?.engine.engine();
        Some((engine.operation(id)?.record(), engine.live()))
    }
}
