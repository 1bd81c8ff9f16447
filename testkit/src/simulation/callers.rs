//! The callers: they submit, join, cancel, come with the wrong payload, and come again.

use steadfast_core::engine::{Event, SubmitError, Submitted};
use steadfast_core::{Fingerprint, OperationId, Outcome};

use super::account::Life;
use super::chaos::Fault;
use super::invariant::Invariant::{I, R};
use super::world::{Happening, World, ms};

/// What a caller does with one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Submit,
    /// Submits a job that is under way, or has ended.
    Join,
    /// Submits the key with another payload.
    Mismatch,
    Cancel,
    /// Submits a rejected job again.
    Repeat,
    /// Asks for an unresolved job again.
    Resume,
    /// No caller's wish: the driver has no payload for the job.
    Withdraw,
}

impl World {
    pub(super) fn wish(&mut self, job: usize, wish: Wish) {
        if wish == Wish::Submit {
            self.submits_again.remove(&job);
            if self.books.accounts[job].outcome.is_some() {
                // A caller that has the outcome does not ask again.
                return;
            }
        }
        if self.process.is_none() {
            // The process is down; the caller tries again.
            if wish == Wish::Submit {
                return self.again(job);
            }
            let later = ms(self.dice.u64(500..3_000));
            return self.after(later, Happening::Caller(job, wish));
        }
        match wish {
            Wish::Submit => {
                self.submit(job);
            }
            // A job that may have been forgotten would begin anew.
            Wish::Join if self.must_know(job) || self.is_withdrawn(job) => {
                self.submit(job);
            }
            Wish::Join => {}
            Wish::Mismatch => self.mismatch(job),
            Wish::Cancel => self.cancel(job),
            Wish::Repeat => self.repeat(job),
            Wish::Resume => self.resume(job),
            Wish::Withdraw => self.withdraw(job),
        }
        self.drain();
    }

    /// The operation that was last begun or taken up for this job.
    pub(super) fn id_of(&self, job: usize) -> Option<OperationId> {
        let process = self.process.as_ref()?;
        process.latest.get(&job).copied().filter(|id| process.engine.engine().operation(*id).is_some())
    }

    /// The least and the greatest possible number of operations under way. For a rejected one it is not known when its
    /// key became free.
    fn live(&self) -> (usize, usize) {
        let live = || self.books.accounts.iter().filter(|it| it.life.known && it.life.finished.is_none());
        let sure = live().filter(|it| !matches!(it.outcome, Some(Outcome::Rejected(_)))).count();
        (sure, live().count())
    }

    fn is_withdrawn(&self, job: usize) -> bool {
        self.process.as_ref().is_some_and(|process| process.withdrawn.contains_key(&job))
    }

    /// Submits a job. Returns whether it was begun.
    fn submit(&mut self, job: usize) -> bool {
        // A submit brings the payload.
        self.give_back(self.life, job);
        let (key, print) = (self.settings.jobs[job].key.clone(), self.settings.jobs[job].fingerprint);
        let (must_know, (live, at_most), now) = (self.must_know(job), self.live(), self.clock());
        let limit = self.settings.limits.live as usize;
        let Some(process) = &mut self.process else { return false };
        process.seen = process.seen.max(now);
        let submitted = process.engine.submit(key, print, now);
        let books = &mut self.books;
        match submitted {
            Ok(Submitted::Started(id)) => {
                books.hold_all(&[I(3), R(11)], !must_know, || {
                    format!("job {job}, which was there, begins a second time")
                });
                books.hold_all(&[I(15), R(41)], live < limit, || format!("job {job} begins beside {live}, of {limit}"));
                process.jobs.insert(id, job);
                process.latest.insert(job, id);
                if books.accounts[job].outcome.is_some() {
                    books.accounts[job].begin_anew();
                }
                books.accounts[job].life = Life { known: true, ..Life::default() };
                self.operations += 1;
                self.trace(Some(job), || "submitted".into());
                self.plan(job);
                return true;
            }
            Ok(Submitted::Joined(id)) => {
                let (same, told) = (process.jobs.get(&id) == Some(&job), books.accounts[job].outcome);
                let outcome = process.engine.engine().operation(id).and_then(|operation| operation.outcome());
                let agrees = outcome.is_none() || told.is_none() || outcome == told;
                books.hold(R(11), same, || format!("job {job} is joined to {id:?}, which is another's"));
                books.hold(R(44), agrees, || format!("job {job} is joined as {outcome:?} and was told {told:?}"));
            }
            Err(SubmitError::Full { .. }) => {
                let full = at_most >= limit && !must_know;
                books.hold_all(&[I(15), R(41)], full, || {
                    format!("job {job} finds no room beside {at_most}, of {limit}")
                });
                self.again(job);
            }
            _ => books.hold(R(11), false, || format!("job {job} is refused: {submitted:?}")),
        }
        false
    }

    /// Plans what else the callers of a job will do.
    fn plan(&mut self, job: usize) {
        let wishes = [
            (Fault::CallerCancels, Wish::Cancel),
            (Fault::CallerJoins, Wish::Join),
            (Fault::CallerMismatches, Wish::Mismatch),
            (Fault::CallerResumes, Wish::Resume),
            (Fault::PayloadAway, Wish::Withdraw),
        ];
        for (fault, wish) in wishes {
            if self.chaos.strikes(fault) {
                let later = ms(self.dice.u64(..30_000));
                self.after(later, Happening::Caller(job, wish));
            }
        }
    }

    fn mismatch(&mut self, job: usize) {
        let Some(id) = self.id_of(job).filter(|_| self.must_know(job)) else { return };
        let (key, now) = (self.settings.jobs[job].key.clone(), self.clock());
        let Some(process) = &mut self.process else { return };
        process.seen = process.seen.max(now);
        let before = process.engine.engine().operation(id).map(|operation| operation.record());
        let refused = process.engine.submit(key, Fingerprint::new([0xEE; 16]), now);
        let after = process.engine.engine().operation(id).map(|operation| operation.record());
        let holds = refused == Err(SubmitError::FingerprintMismatch) && before == after;
        self.trace(Some(job), || "submitted with another payload".into());
        self.books.hold_all(&[I(4), R(12)], holds, || format!("job {job} with another payload: {refused:?}"));
    }

    fn cancel(&mut self, job: usize) {
        if let Some(id) = self.id_of(job) {
            self.trace(Some(job), || "cancelled by its caller".into());
            self.feed(Event::Cancel(id));
        }
    }

    /// A rejected job's key is free: nothing ran.
    fn repeat(&mut self, job: usize) {
        let rejected = matches!(self.books.accounts[job].outcome, Some(Outcome::Rejected(_)));
        if rejected && !self.submit(job) && !self.submits_again.contains(&job) {
            // Its delivery is not on disk yet: until then the key gives the old outcome.
            self.after(ms(500), Happening::Caller(job, Wish::Repeat));
        }
    }

    /// After a restart the callers submit all jobs without an outcome: those on disk are joined, the rest begin.
    pub(super) fn submit_again(&mut self) {
        for job in 0..self.settings.jobs.len() {
            if self.submitted[job] && self.books.accounts[job].outcome.is_none() {
                self.again(job);
            }
        }
    }

    fn again(&mut self, job: usize) {
        if self.submits_again.insert(job) {
            let later = ms(self.dice.u64(1_000..15_000));
            self.after(later, Happening::Caller(job, Wish::Submit));
        }
    }
}
