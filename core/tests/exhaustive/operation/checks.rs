//! What must hold when a request leaves, when the operation ends, when the provider has told something, and at every
//! moment.

use steadfast_core::operation::{Attempt, Effect, Event, Rejected, Stage, Unresolved};
use steadfast_core::{Kind, Outcome};

use super::provider::{Answer, Fate, HINT};
use super::{Flight, Job, Refusal};

impl Job {
    /// The outcome, durable or not.
    pub(super) fn decided(&self) -> Option<Outcome> {
        match self.job.record().stage {
            Stage::Ended(outcome) | Stage::Delivered(outcome) => Some(outcome),
            _ => None,
        }
    }

    pub(super) fn sent(&mut self, attempt: Attempt) {
        assert!(self.air.is_none(), "I3: {attempt:?} leaves while {:?} is in the air", self.air);
        assert!(self.told.is_none(), "R31: {attempt:?} leaves after the end");
        let busy = self.books.busy.is_some_and(|(kind, until)| kind == attempt.kind && self.now < until);
        assert!(!busy && self.now >= self.books.not_before, "R4: {attempt:?} leaves before the provider wants it");
        let durable = self.durable.as_ref().expect("I5: nothing leaves without a durable record");
        let policy = self.provider.promise.policy();
        match attempt.kind {
            Kind::Create => {
                self.books.creates += 1;
                self.books.lookups = 0;
                assert_eq!(durable.stage, Stage::InFlight, "I5");
                assert!(durable.creates >= self.books.creates, "I5: the record counts this attempt");
                assert!(self.books.creates <= policy.create().attempts(), "I2: create {}", self.books.creates);
                assert!(self.now < self.books.submitted.saturating_add(policy.create().deadline()), "I2, R3");
                assert!(self.job.reference().is_none(), "no create after acceptance");
                assert_eq!(self.books.refused, Refusal::No, "R6: created again after a refusal");
                assert_eq!(self.books.resumed, None, "created again after it was resumed");
            }
            Kind::Poll => {
                assert_eq!(durable.stage, Stage::Accepted, "I5");
                assert!(durable.reference.is_some(), "I5: what is polled is on disk");
                assert!(self.books.pending < policy.poll().polls(), "I2: poll {}", self.books.pending);
            }
            _ => {
                self.books.lookups += 1;
                assert!(matches!(durable.stage, Stage::Unknown | Stage::InFlight), "I5: {:?}", durable.stage);
                assert!(self.books.lookups <= policy.lookup().attempts(), "I2: look-up {}", self.books.lookups);
            }
        }
        assert!(attempt.until > self.now, "an attempt has time");
        self.air = Some(Flight { attempt, sent: self.now, carried_out: false });
    }

    pub(super) fn ended(&mut self) {
        let outcome = self.job.outcome().expect("the end has an outcome");
        let poll = self.provider.promise.policy().poll();
        match (outcome, self.books.polls_began) {
            (Outcome::Unresolved(Unresolved::PollDeadline), Some(began)) => {
                // It ends when no poll can begin any more, and none waits longer than a hint.
                let patient = self.now.saturating_add(HINT) >= began.saturating_add(poll.deadline());
                assert!(patient, "resumed at {began:?}, and {outcome:?} at {:?}", self.now);
            }
            (Outcome::Unresolved(Unresolved::Polls), Some(_)) => assert_eq!(self.books.pending, poll.polls()),
            _ => {}
        }
        let durable = self.durable.as_ref().map(|record| record.stage);
        match durable {
            Some(stage) => assert_eq!(stage, Stage::Ended(outcome), "R14"),
            None => assert_eq!(outcome, Outcome::Rejected(Rejected::NotDurable), "R14: nothing is durable"),
        }
        assert!(self.told.is_none_or(|told| told == outcome), "R31: {:?}, and now {outcome:?}", self.told);
        self.told = Some(outcome);
        self.books.to_deliver = true;
    }

    /// R18: a reference that was heard of is not forgotten, unless it is known how the job ended; and what is final
    /// ends it, whoever tells it.
    pub(super) fn check_learnt(&self, answer: Answer) {
        let is_final = matches!(answer, Answer::Ready | Answer::Failed);
        assert!(!is_final || self.decided().is_some(), "the provider's last word is not heard");
        let open = matches!(self.decided(), None | Some(Outcome::Unresolved(_)));
        assert!(answer != Answer::Accepted || !open || self.job.reference().is_some(), "R18");
    }

    /// Whether somebody may want to know of it after all, and there is a way to.
    pub(super) fn can_resume(&self) -> bool {
        let unresolved = matches!(self.told, Some(Outcome::Unresolved(_))) && !self.books.to_deliver;
        unresolved && self.job.reference().is_some()
    }

    /// R31: nobody resumes what goes on, is known for good, or cannot be found at the provider.
    pub(super) fn check_resume(&self) {
        assert_eq!(self.job.can_resume(), self.can_resume());
        if !self.can_resume() {
            let (mut resumed, mut gate) = (self.job.clone(), self.gate.clone());
            resumed.handle(Event::Resume, &mut self.provider.promise.policy().turn(self.now, &mut gate));
            assert!(resumed == self.job && gate == self.gate, "resumed in vain, and {resumed:?}");
        }
    }

    /// Laws 1 and 2.
    pub(super) fn check_clock(&self) {
        let (mut woken, mut gate) = (self.job.clone(), self.gate.clone());
        woken.handle_timeout(&mut self.provider.promise.policy().turn(self.now, &mut gate));
        assert!(!woken.owes_effects() && woken == self.job, "law 1: waking early or twice changes nothing");
        let wake = self.job.next_wake();
        assert!(wake.is_none_or(|wake| wake.at > self.now), "law 2: {wake:?} at {:?}", self.now);
    }

    /// I3, I8, I17, law 8: what the driver has in the air is what the operation believes to be there, and it holds a
    /// permit for just that.
    pub(super) fn check_air(&self) {
        assert_eq!(self.air.map(|flight| flight.attempt), self.job.in_flight(), "I3, law 8");
        if let Some(Flight { attempt, .. }) = self.air {
            let (mut owed, mut gate) = (self.job.clone(), self.gate.clone());
            owed.handle(Event::Unsent(attempt.id), &mut self.provider.promise.policy().turn(self.now, &mut gate));
            if owed.in_flight().is_some() {
                assert_eq!(owed.pop_effect(), Some(Effect::Send(attempt)), "what was taken back is owed again");
                assert!(owed == self.job && gate == self.gate, "and nothing else has changed");
            } else {
                let forgotten = Stage::Ended(Outcome::Unresolved(Unresolved::KeyWindow));
                assert_eq!(owed.record().stage, forgotten, "there is no other reason not to send it");
            }
        }
        let held = self.job.in_flight().is_some() || self.job.record().stage == Stage::InFlight;
        assert_eq!(self.gate.in_flight(), u32::from(held), "I8, I17: {:?}", self.job);
    }

    /// I6, I7: the ledger bears out what was told.
    pub(super) fn check_outcome(&self) {
        assert!(self.provider.runs <= 1, "I6, I7: it ran {} times", self.provider.runs);
        if let (true, Some(record)) = (self.job.is_finished(), &self.durable) {
            assert_eq!(Some(record.stage), self.told.map(Stage::Delivered), "what is forgotten is on disk");
        }
        match self.told {
            Some(Outcome::Rejected(why)) => assert_eq!(self.provider.runs, 0, "rejected, {why:?}, and it ran"),
            Some(Outcome::Completed(_)) => assert_eq!(self.provider.fate, Fate::Ready),
            Some(Outcome::Failed) => assert_eq!(self.provider.fate, Fate::Failed),
            Some(Outcome::Unresolved(_)) | None => {}
        }
    }
}
