//! How a process starts and how it dies: what it takes up from the disk, and what a crash leaves there.

use steadfast_core::engine::Engine;
use steadfast_core::operation::{Rejected, Stage};
use steadfast_core::{Gate, Kind, Outcome};

use super::callers::Wish;
use super::chaos::{CrashPoint, Fault};
use super::checks::ended;
use super::flaw::Flawed;
use super::gate::GateBooks;
use super::invariant::Invariant::R;
use super::process::Process;
use super::world::{Happening, World, ms, shifted};

impl World {
    /// A new life, from what the disk holds.
    pub(super) fn restart(&mut self) {
        let records = self.disk.open();
        if self.chaos.strikes(Fault::ClockWrong) {
            let before = std::mem::replace(&mut self.offset, self.dice.i64(-600..=600));
            if self.offset > before {
                self.books.accounts.iter_mut().for_each(|account| account.left_behind = None);
            }
        }
        let gate = match self.kept_gate.take() {
            Some(gate) if self.settings.keeps_gate => gate.restored(self.clock()),
            _ => Gate::new(self.settings.gate.clone(), self.seed),
        };
        let policy = self.flaw.map_or_else(|| self.settings.policy.clone(), |flaw| flaw.policy(&self.settings.policy));
        let mut engine = Engine::new(policy, gate, self.settings.limits, self.seed);
        engine.handle_timeout(self.clock());
        let mut twin = engine.clone();
        let (now, mut process) = (self.clock(), Process::new(Flawed::new(engine, self.flaw)));
        process.seen = now;
        self.books.gate = GateBooks::begin(now);
        for record in records {
            let job = self.job_of(record.key.as_str());
            let known = self.books.accounts[job].asked.contains(&record);
            self.books.hold(R(37), known, || format!("job {job}: the log holds what was never written"));
            let restored = process.engine.engine_mut().restore(record.clone(), now);
            let again = twin.restore(record.clone(), now);
            let same = restored == again && restored.is_ok();
            self.books.hold(R(36), same, || format!("job {job} was taken up in two ways: {restored:?}, {again:?}"));
            let Ok(id) = restored else { return };
            process.jobs.insert(id, job);
            process.latest.insert(job, id);
            let account = &mut self.books.accounts[job];
            if let Stage::Delivered(outcome) = record.stage {
                account.forget_resumption(outcome);
                account.life.delivered = true;
            }
            let life = &mut account.life;
            (life.known, life.recorded, life.admitted) = (true, true, record.creates);
            life.has_reference = record.reference.is_some();
            life.finished = life.delivered.then_some(now);
            life.decided = ended(record.stage);
            if let Some(operation) = process.engine.engine().operation(id) {
                let mine = operation.record();
                let same = (mine.fingerprint, &mine.reference, mine.creates.max(record.creates))
                    == (record.fingerprint, &record.reference, mine.creates)
                    && mine.creates <= record.creates + 1;
                self.books.hold(R(35), same, || format!("job {job}: restored as {mine:?} from {record:?}"));
            }
            if self.chaos.strikes(Fault::CrashAgain) {
                self.process = Some(process);
                return self.crash(CrashPoint::Recovery);
            }
        }
        for (job, account) in self.books.accounts.iter().enumerate() {
            // A reported outcome is on disk, so one that is not there was not reported.
            let told = account.outcome.or(account.resumed_from);
            let lost = told.is_some() && !account.life.known;
            let never = told == Some(Outcome::Rejected(Rejected::NotDurable));
            if lost && !never && self.books.violation.is_none() {
                let detail = format!("job {job} was told {told:?}, and is not on disk");
                return self.books.hold(R(14), false, || detail);
            }
        }
        self.books.hold(R(36), twin == *process.engine.engine(), || "two recoveries differ".into());
        self.process = Some(process);
        for job in 0..self.settings.jobs.len() {
            if self.books.accounts[job].life.known && self.chaos.strikes(Fault::PayloadAway) {
                self.soon(Happening::Caller(job, Wish::Withdraw));
            }
        }
        self.drain();
    }

    /// Everything that the process knew is gone.
    pub(super) fn crash(&mut self, point: CrashPoint) {
        let Some(process) = self.process.take() else { return };
        self.trace(None, || format!("CRASH at {}", point.name()));
        self.crashes_at[point as usize] += 1;
        self.life += 1;
        let patience = self.settings.policy.create().attempt_timeout();
        for flight in process.flights.values().filter(|flight| flight.in_the_air && flight.kind == Kind::Create) {
            let account = &mut self.books.accounts[flight.job];
            let until = account.life.intended.map(|at| shifted(at.saturating_add(patience), -self.offset));
            account.left_behind = account.left_behind.max(until);
        }
        self.kept_gate = Some(process.engine.engine().gate().clone());
        let left = self.dice.f64();
        let whole = self.dice.u8(..4) == 0;
        if self.disk.tear(if whole { 1.0 } else { left }) {
            self.chaos.note(Fault::CommitTorn);
        }
        let now = self.clock();
        self.books.crash(&self.disk, self.settings.jobs.iter().map(|job| &job.key), now);
        self.wake = None;
        let down = ms(self.dice.u64(100..20_000));
        self.after(down, Happening::Restart);
    }

    /// Whether the process dies here.
    pub(super) fn dies_at(&mut self, point: CrashPoint) -> bool {
        // Rare points get their share of crashes.
        let weight = if matches!(point, CrashPoint::Abandon | CrashPoint::SendLookup) { 6.0 } else { 1.0 };
        let hit = self.crash_dice.f64() < self.settings.crash_rate * weight;
        if !hit || self.chaos.is_over() || self.crashes_left == 0 || self.process.is_none() {
            return false;
        }
        self.crashes_left -= 1;
        self.crash(point);
        true
    }
}
