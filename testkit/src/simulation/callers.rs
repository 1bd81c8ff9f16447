//! The callers: they submit, join, cancel, come with the wrong payload, and come again.

use steadfast_core::engine::{Event, SubmitError, Submitted};
use steadfast_core::{Fingerprint, OperationId, Outcome};

use super::chaos::Fault;
use super::invariant::Invariant::{I, R};
use super::world::{Happening, World, ms};

/// What a caller does with one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Submit,
    /// Submits what is under way, or has ended.
    Join,
    /// Submits the key with another payload.
    Mismatch,
    Cancel,
    /// Submits what was rejected.
    Repeat,
}

impl World {
    pub(super) fn wish(&mut self, job: usize, wish: Wish) {
        if wish == Wish::Submit {
            self.submits_again.remove(&job);
            if self.books.accounts[job].outcome.is_some() {
                // Who has the outcome does not ask again.
                return;
            }
        }
        if self.process.is_none() {
            // Nobody is there; the caller tries again.
            if wish == Wish::Submit {
                return self.again(job);
            }
            let later = ms(self.dice.u64(500..3_000));
            return self.after(later, Happening::Caller(job, wish));
        }
        match wish {
            Wish::Submit => self.submit(job),
            Wish::Join => self.join(job),
            Wish::Mismatch => self.mismatch(job),
            Wish::Cancel => self.cancel(job),
            Wish::Repeat => self.repeat(job),
        }
        self.drain();
    }

    fn find(&self, job: usize) -> Option<OperationId> {
        self.process.as_ref()?.engine.engine().find(&self.settings.jobs[job].key)
    }

    fn submit(&mut self, job: usize) {
        let (key, print) = (self.settings.jobs[job].key.clone(), self.settings.jobs[job].fingerprint);
        let (known, now) = (self.find(job), self.clock());
        let Some(process) = &mut self.process else { return };
        process.seen = process.seen.max(now);
        let full = !process.engine.engine().has_room();
        let submitted = process.engine.submit(key, print, now);
        let as_it_should = match submitted {
            Ok(Submitted::Started(_)) => known.is_none(),
            Ok(Submitted::Joined(id)) => known == Some(id),
            Err(SubmitError::Full { .. }) => full && known.is_none(),
            _ => false,
        };
        self.books.hold(R(11), as_it_should, || format!("job {job}: {submitted:?}, with {known:?} there"));
        match submitted {
            Ok(Submitted::Started(id)) => {
                process.jobs.insert(id, job);
                self.operations += 1;
                self.trace(Some(job), || "submitted".into());
                self.plan(job);
            }
            Ok(Submitted::Joined(_)) => {}
            Err(_) => self.again(job),
        }
    }

    /// What else the callers of a job will do.
    fn plan(&mut self, job: usize) {
        let wishes = [
            (Fault::CallerCancels, Wish::Cancel),
            (Fault::CallerJoins, Wish::Join),
            (Fault::CallerMismatches, Wish::Mismatch),
        ];
        for (fault, wish) in wishes {
            if self.chaos.strikes(fault) {
                let later = ms(self.dice.u64(..30_000));
                self.after(later, Happening::Caller(job, wish));
            }
        }
    }

    fn join(&mut self, job: usize) {
        let Some(id) = self.find(job) else { return };
        let told = self.books.accounts[job].outcome;
        self.submit(job);
        let Some(process) = &self.process else { return };
        let outcome = process.engine.engine().operation(id).and_then(|operation| operation.outcome());
        let same = outcome.is_none() || told.is_none() || outcome == told;
        self.books.hold(R(44), same, || format!("job {job} is joined as {outcome:?} and was told {told:?}"));
    }

    fn mismatch(&mut self, job: usize) {
        let Some(id) = self.find(job) else { return };
        let (key, now) = (self.settings.jobs[job].key.clone(), self.clock());
        let Some(process) = &mut self.process else { return };
        process.seen = process.seen.max(now);
        let before = process.engine.engine().operation(id).map(|operation| operation.record());
        let refused = process.engine.submit(key, Fingerprint::new([0xEE; 16]), now);
        let after = process.engine.engine().operation(id).map(|operation| operation.record());
        // An old key may have been forgotten by now: then this is a job of its own, which nobody wants.
        let holds = refused == Err(SubmitError::FingerprintMismatch) && before == after;
        self.trace(Some(job), || "submitted with another payload".into());
        self.books.hold_all(&[I(4), R(12)], holds, || format!("job {job} with another payload: {refused:?}"));
    }

    fn cancel(&mut self, job: usize) {
        if let Some(id) = self.find(job) {
            self.trace(Some(job), || "cancelled by its caller".into());
            self.feed(Event::Cancel(id));
        }
    }

    /// A rejected job's key is free: nothing ran.
    fn repeat(&mut self, job: usize) {
        if !matches!(self.books.accounts[job].outcome, Some(Outcome::Rejected(_))) {
            return;
        }
        if self.find(job).is_some() {
            // That it was delivered is not on disk yet: until then the key gives the old outcome.
            return self.after(ms(500), Happening::Caller(job, Wish::Repeat));
        }
        self.books.accounts[job].begin_anew();
        self.submit(job);
    }

    /// After a restart the callers submit what they have no outcome of, and what is not taken up.
    pub(super) fn submit_again(&mut self) {
        for job in 0..self.settings.jobs.len() {
            let waits = self.submitted[job] && self.books.accounts[job].outcome.is_none();
            if waits && self.find(job).is_none() {
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
