//! What is checked, and when: as a request leaves, as an end is reported, as an answer was processed, and after every
//! step.

use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::Event;
use steadfast_core::notice::{Notice, WakeReason};
use steadfast_core::operation::{Attempt, Completed, Reading, Record, Rejected, Stage, Unresolved};
use steadfast_core::{Fingerprint, Key, Kind, OperationId, Outcome, SendSafety, Timestamp};

use super::invariant::Invariant::{I, R};
use super::process::outcome_of;
use super::settings::Keys;
use super::waits::Rules;
use super::world::{World, ms};

impl World {
    /// A record is asked for: if it is the intent of another create, that create has just been admitted.
    pub(super) fn check_intent(&mut self, job: usize, record: &Record, now: Timestamp) {
        let life = &mut self.books.accounts[job].life;
        let begins = record.stage == Stage::InFlight && record.creates > life.admitted;
        if record.stage == Stage::InFlight {
            life.intended = Some(now);
        }
        if record.stage != Stage::InFlight
            && let Some(at) = life.writing.take()
        {
            self.books.gate.unsent(at);
        }
        if !begins {
            return;
        }
        let due = life.not_before;
        (life.admitted, life.writing, life.lookups) = (record.creates, Some(now), 0);
        self.books.hold_all(&[R(1), R(4)], now >= due, || format!("job {job}: a create at {now:?}, due at {due:?}"));
        self.books.admit(Kind::Create, now);
    }

    /// A request leaves.
    pub(super) fn check_send(
        &mut self,
        id: OperationId,
        job: usize,
        key: &Key,
        fingerprint: Fingerprint,
        attempt: Attempt,
    ) {
        let Some(process) = &self.process else { return };
        let (seen, ours) = (process.seen, &self.settings.jobs[job]);
        let alone = !process.flights.values().any(|flight| flight.job == job && flight.in_the_air);
        let found = process.engine.engine().find(&ours.key);
        let record = self.disk.latest(&ours.key);
        let what =
            || format!("job {job}, {:?} {}, on disk: {:?}", attempt.kind, attempt.number, record.map(|it| it.stage));
        let books = &mut self.books;
        books.hold_all(&[I(3), R(9)], alone, what);
        if attempt.kind == Kind::Poll {
            books.hold(R(29), alone, what);
        }
        books.hold(R(11), found == Some(id), || format!("{}: its key is that of {found:?}", what()));
        books.hold_all(&[I(4), R(10)], *key == ours.key && fingerprint == ours.fingerprint, what);
        let life = &books.accounts[job].life;
        let absorbed = !life.over && !life.ended && life.decided.is_none();
        books.hold_all(&[R(29), R(31)], absorbed, || format!("{}: after the end was heard", what()));
        let stage = record.map(|record| record.stage);
        let durable = match attempt.kind {
            Kind::Create => record.is_some_and(|it| it.stage == Stage::InFlight && it.creates >= attempt.number),
            Kind::Poll => record.is_some_and(|it| it.stage == Stage::Accepted && it.reference.is_some()),
            _ => matches!(stage, Some(Stage::Unknown | Stage::InFlight)),
        };
        books.hold_all(&[I(5), R(13)], durable, what);
        books.hold(I(4), record.is_none_or(|it| it.fingerprint == ours.fingerprint), what);
        if attempt.kind == Kind::Create {
            let submitted = record.map_or(seen, |it| it.submitted);
            self.check_create(job, attempt, submitted, seen);
        }
    }

    fn check_create(&mut self, job: usize, attempt: Attempt, submitted: Timestamp, seen: Timestamp) {
        let policy = self.settings.policy.create();
        let (limit, deadline) = (policy.attempts(), submitted.saturating_add(policy.deadline()));
        let may_repeat = self.may_repeat(job);
        let safety = self.settings.policy.safety();
        let (now, books) = (self.now, &mut self.books);
        let account = &mut books.accounts[job];
        account.life.writing = None;
        account.creates += 1;
        let has_reference = account.life.has_reference || account.resumed > 0;
        let (creates, refused, doubt) = (account.creates, account.refused, !account.doubtful.is_empty());
        let left_behind = account.left_behind.take();
        account.first_sent.get_or_insert(now);
        account.doubtful.insert(attempt.id);
        books.hold_all(&[I(2), R(2)], creates <= limit && attempt.number <= limit, || {
            format!("job {job}: create {creates}, as it says {}, of {limit}", attempt.number)
        });
        books.hold_all(&[I(2), R(3)], seen < deadline, || {
            format!("job {job}: a create at {seen:?}, after {deadline:?}")
        });
        books.hold(R(6), !refused, || format!("job {job}: a create after the provider refused it for good"));
        // What was looked up and not found did not run, whatever time it had left.
        let looks_up = matches!(safety, SendSafety::Lookup { .. });
        books.hold_all(&[I(3), R(9)], looks_up || left_behind.is_none_or(|until| now >= until), || {
            format!("job {job}: a create at {now:?}, and that of a dead process has until {left_behind:?}")
        });
        books.hold(I(3), !has_reference, || format!("job {job}: a create of what the provider has"));
        let repeats = format!("job {job}: a create while an earlier one may have run ({})", promise(safety));
        match safety {
            SendSafety::Unsafe | SendSafety::Lookup { .. } => {
                books.hold_all(&[I(7), R(17)], !doubt || may_repeat, || repeats.clone());
            }
            _ => books.hold(R(16), !doubt || may_repeat, || repeats),
        }
        if creates > 1 {
            books.gate.retried();
            books.check_budget(seen, &self.settings.gate, self.settings.refill);
        }
    }

    /// Whether a create may leave although an earlier one may have run.
    fn may_repeat(&self, job: usize) -> bool {
        match self.settings.policy.safety() {
            SendSafety::Idempotent => true,
            SendSafety::Keyed { window } => {
                let margin = self.settings.policy.create().attempt_timeout();
                let first = self.books.accounts[job].first_sent.unwrap_or(self.now);
                self.now < first.saturating_add(window).saturating_sub(margin)
            }
            _ => false,
        }
    }

    /// What must be on disk before an outcome is reported.
    fn durable_end(&self, job: usize, outcome: Outcome) -> bool {
        let stage = self.disk.latest(&self.settings.jobs[job].key).map(|record| record.stage);
        if outcome == Outcome::Rejected(Rejected::NotDurable) {
            // Nothing of this submit was ever durable; an earlier one of the key was rejected, or is so old that it was
            // forgotten.
            return stage.is_none_or(|stage| ended(stage).is_some());
        }
        stage == Some(Stage::Ended(outcome))
    }

    /// A poll was answered with *not found*: after the grace period there is nothing more to ask.
    pub(super) fn check_grace(&mut self, job: usize) {
        let Some(process) = &self.process else { return };
        let life = &mut self.books.accounts[job].life;
        let since = process.seen.saturating_since(life.polls_began);
        life.over |= since >= self.settings.policy.poll().not_found_grace();
    }

    /// Whether a correct engine has this key.
    pub(super) fn must_know(&self, job: usize) -> bool {
        let Some(process) = &self.process else { return false };
        let limits = self.settings.limits;
        let finished = self.books.accounts.iter().filter(|account| account.life.finished.is_some()).count();
        let account = &self.books.accounts[job];
        let crowded = account.life.finished.is_some() && finished > limits.remember as usize;
        !crowded && account.must_be_known(limits.remember_for, process.seen.max(self.clock()))
    }

    /// An outcome is about to be reported.
    pub(super) fn check_end(&mut self, job: usize, outcome: Outcome) {
        let durable = self.durable_end(job, outcome);
        let key = &self.settings.jobs[job].key;
        let runs = self.provider.runs_of(key).count();
        let said: Vec<&Reading> = self.provider.runs_of(key).flat_map(|run| &run.said).collect();
        let account = &self.books.accounts[job];
        let (before, again, doubt) = (account.outcome, account.life.ended, !account.doubtful.is_empty());
        let decided = account.life.decided;
        let true_end = match outcome {
            Outcome::Completed(Completed::Partial) => said.contains(&&Reading::Partial),
            Outcome::Completed(Completed::Undecided) => said.contains(&&Reading::Undecided),
            Outcome::Completed(_) => said.contains(&&Reading::Ready),
            Outcome::Failed => said.contains(&&Reading::Failed),
            Outcome::Rejected(_) | Outcome::Unresolved(_) => true,
        };
        let seen = self.process.as_ref().map_or(self.now, |process| process.seen);
        let books = &mut self.books;
        let what = || format!("job {job} ends as {outcome:?}, having run {runs} times");
        books.hold(R(14), durable, || format!("{}: that is not on disk", what()));
        books.hold(R(30), true_end, || format!("{}: the provider never said so", what()));
        books.hold(R(44), before.is_none_or(|it| it == outcome), || format!("{}: it was {before:?} before", what()));
        books.hold_all(&[R(19), R(31)], first_of(decided, Some(outcome)) == Some(outcome), || {
            format!("{}: it was decided as {decided:?}", what())
        });
        books.hold(R(34), !again, || format!("{}: a second time", what()));
        let unpolled = books.accounts[job].life.resumed_at;
        if let (Some(since), Outcome::Unresolved(Unresolved::PollDeadline)) = (unpolled, outcome) {
            let patience = self.settings.policy.poll().deadline();
            books.hold(R(31), seen >= since.saturating_add(patience), || {
                format!("{}: resumed at {since:?}, and not polled", what())
            });
        }
        match outcome {
            Outcome::Rejected(_) => {
                books.hold_all(&[I(7), I(17), R(15)], runs == 0 && !doubt, what);
            }
            Outcome::Completed(_) | Outcome::Failed => {
                let which = if matches!(self.settings.keys, Keys::Honoured(_)) { I(6) } else { I(7) };
                books.hold(which, runs == 1, what);
            }
            Outcome::Unresolved(_) => {}
        }
    }

    /// A request has reached the provider, which may have run it.
    pub(super) fn check_ran(&mut self, key: &Key, ran_before: usize) {
        let runs = self.provider.runs_of(key).count();
        if runs == ran_before {
            return;
        }
        let which = if matches!(self.settings.keys, Keys::Honoured(_)) { I(6) } else { I(7) };
        self.books.hold(which, runs == 1, || format!("a key ran {runs} times"));
        let job = self.job_of(key.as_str());
        let told = self.books.accounts[job].outcome;
        self.books
            .hold(R(15), !matches!(told, Some(Outcome::Rejected(_))), || format!("job {job} runs after {told:?}"));
    }

    /// What the next notices must report: that a second final answer contradicts the first.
    pub(super) fn expect_conflict(&mut self, id: OperationId, reading: Option<&Reading>) {
        let Some(process) = &mut self.process else { return };
        let decided = process.engine.engine().operation(id).and_then(|it| ended(it.record().stage));
        let now = reading.and_then(|reading| outcome_of(reading, true));
        if decided.is_some() && now.is_some() && decided != now {
            process.contradicted.push(id);
        }
    }

    /// After an answer or a webhook: its content is known.
    pub(super) fn check_learnt(&mut self, id: OperationId, job: usize, reading: Option<&Reading>) {
        let Some(process) = &self.process else { return };
        let Some(operation) = process.engine.engine().operation(id) else { return };
        let record = operation.record();
        if let Some(Reading::Accepted(_)) = reading {
            let moot = matches!(ended(record.stage), Some(outcome) if !matches!(outcome, Outcome::Unresolved(_)));
            let learnt = record.reference.is_some() || moot;
            self.books.hold(R(18), learnt, || {
                format!("job {job}: the reference in an answer was lost, at {:?}", record.stage)
            });
        }
        let accepts = self.settings.policy.poll().accepts_partial();
        let last = reading.and_then(|reading| outcome_of(reading, accepts));
        let account = &mut self.books.accounts[job];
        account.life.over |= last.is_some();
        if let (Some(last), None) = (last, account.life.decided) {
            let now = ended(record.stage);
            self.books.hold_all(&[R(30), R(31)], now == Some(last), || {
                format!("job {job}: {last:?} was heard, and it is {now:?}")
            });
        }
    }

    /// I16: repeating the same webhook changes nothing.
    pub(super) fn check_repeat(&mut self, id: OperationId, webhook: Event) {
        let Some(process) = &mut self.process else { return };
        // At the same time, so that a change due to time is not blamed on the webhook.
        let now = process.seen;
        let before = process.engine.engine().operation(id).map(|it| it.record());
        let mut again = process.engine.clone();
        again.handle(webhook, now);
        let same = again.engine().operation(id).map(|it| it.record()) == before;
        self.books.hold(I(16), same, || format!("a repeated webhook changes {id:?}"));
    }

    /// An engine that was told that a job has changed no longer waits for the schedule, unless the job's last poll
    /// failed.
    pub(super) fn check_hurry(&mut self, id: OperationId, job: usize) {
        let Some(process) = &self.process else { return };
        let failed = self.books.accounts[job].life.failed;
        let wake = process.engine.engine().operation(id).and_then(|it| it.next_wake());
        let idle = wake.filter(|wake| wake.reason == WakeReason::Poll && wake.at > process.seen && !failed);
        self.books.hold(R(31), idle.is_none(), || format!("job {job} is told to have changed, and waits: {idle:?}"));
    }

    /// Passes the notices to the checks and to the recorded history.
    pub(super) fn hear_notices(&mut self) {
        let Some(process) = &mut self.process else { return };
        let mut heard = Vec::new();
        while let Some(told) = process.engine.engine_mut().pop_notice() {
            heard.push(told);
        }
        let contradicted = std::mem::take(&mut process.contradicted);
        let (seen, jobs) = (process.seen, process.jobs.clone());
        for id in contradicted {
            let told = heard.iter().any(|(of, notice)| *of == id && *notice == Notice::Conflict);
            self.books.hold(R(19), told, || format!("{id:?} took in a contradiction and said nothing"));
        }
        for (id, notice) in heard {
            let Some(&job) = jobs.get(&id) else { continue };
            if self.check_dice.u8(..16) == 0 {
                self.check_canary(&notice);
            }
            let submitted = self.submitted(id).unwrap_or(seen);
            let rules = Rules { policy: &self.settings.policy, gate: &self.settings.gate };
            self.books.hear(job, &notice, rules, submitted, seen);
            if let Some(entries) = &mut self.entries {
                let what = super::What::Notice(seen, notice);
                entries.push(super::Entry { at: self.now, job: Some(job), what });
            }
        }
    }

    fn submitted(&self, id: OperationId) -> Option<Timestamp> {
        Some(self.process.as_ref()?.engine.engine().operation(id)?.record().submitted)
    }

    fn check_canary(&mut self, printed: &impl std::fmt::Debug) {
        let text = format!("{printed:?}");
        self.books.hold(R(42), !text.contains("canary"), || format!("a key or a reference is printed: {text}"));
    }

    /// After each step, when no effect is left to carry out.
    pub(super) fn check_step(&mut self) {
        let Some(process) = &mut self.process else { return };
        let seen = process.seen;
        let engine = process.engine.engine();
        let gate = engine.gate();
        let flying = process.flights.values().filter(|flight| flight.in_the_air).count();
        let writing = self.books.accounts.iter().filter(|account| account.life.writing.is_some()).count();
        let (in_flight, expected) = (gate.in_flight() as usize, flying + writing);
        let mut known = 0;
        for (id, job) in &process.jobs {
            let Some(operation) = engine.operation(*id) else {
                // Forgotten: it is finished, unless its job was begun anew under another id.
                let life = &mut self.books.accounts[*job].life;
                let gone = process.latest.get(job) == Some(id);
                let was_finished = life.finished.is_some();
                life.finished = life.finished.or_else(|| gone.then_some(seen));
                let over = was_finished || self.books.accounts[*job].outcome.is_some();
                self.books.hold(R(44), !gone || over, || format!("job {job} is forgotten, and has no outcome"));
                continue;
            };
            known += 1;
            let (stage, account) = (operation.record().stage, &mut self.books.accounts[*job]);
            let now = ended(stage);
            let spent = matches!(now, Some(Outcome::Unresolved(Unresolved::PollDeadline | Unresolved::Lookup)));
            let unasked = spent && account.life.decided.is_none() && account.has_overslept(&self.settings.policy, seen);
            let life = &mut account.life;
            let first = first_of(life.decided, now);
            life.decided = first;
            let delivered = matches!(stage, Stage::Delivered(_)) && operation.is_finished();
            if delivered && life.finished.is_none() {
                life.finished = Some(seen);
            }
            let recorded = life.recorded;
            self.books.hold_all(&[I(2), R(3)], !unasked, || {
                format!("job {job} is {now:?}, and nobody saw its deadline pass: what fell due was not asked")
            });
            self.books.hold_all(&[R(19), R(31)], now == first, || {
                format!("job {job} was decided as {first:?}, and is {now:?}")
            });
            self.books.hold(R(35), recorded, || format!("job {job} is under way, and a crash would forget it"));
        }
        let books = &mut self.books;
        books.check_rates(&self.settings.gate);
        books.hold_all(&[I(8), I(17)], in_flight == expected, || {
            format!("the gate counts {in_flight} requests in flight, and {expected} are")
        });
        if let Some((_, most)) = self.settings.gate.bulkhead().map(BulkheadPolicy::bounds) {
            books.hold(R(41), expected <= most as usize, || format!("{expected} requests at once, of {most}"));
        }
        if let (Some(tokens), Some(budget)) = (gate.budget_tokens(seen), self.settings.gate.budget()) {
            books.hold(R(7), tokens <= budget.capacity(), || {
                format!("{tokens} tokens in a budget of {}", budget.capacity())
            });
        }
        let remembered = known - engine.live() as usize;
        let most = self.settings.limits.remember as usize;
        let bounded = remembered <= most && engine.notices_dropped() == 0;
        books.hold_all(&[I(15), R(41)], bounded, || format!("{remembered} operations are remembered, of {most}"));
        if let Some((breaker, policy)) = process.engine.engine_mut().gate_mut().breaker_mut() {
            let (out, most) = (breaker.probes_out(seen), u32::from(policy.probes().at_once));
            books.hold(R(21), out <= most, || format!("{out} probes are out, of {most}"));
        }
        if self.check_dice.u8(..24) == 0 {
            self.check_backwards();
        }
        if self.check_dice.u8(..48) == 0 {
            let printed = self.process.as_ref().map(|it| format!("{:?}", it.engine.engine()));
            let leaks = printed.is_some_and(|text| text.contains("canary"));
            self.books.hold(R(42), !leaks, || "a key or a reference is in the engine's Debug".into());
        }
    }

    /// I11: an earlier time is treated as the latest one given.
    fn check_backwards(&mut self) {
        let Some(process) = &self.process else { return };
        let earlier = process.seen.saturating_sub(ms(self.check_dice.u64(1..60_000)));
        let mut told = process.engine.engine().clone();
        let mut engine = told.clone();
        told.handle_timeout(earlier);
        engine.handle_timeout(process.seen);
        self.books.hold(I(11), told == engine, || {
            let (before, after) = (format!("{engine:?}"), format!("{told:?}"));
            let at = before.bytes().zip(after.bytes()).position(|(a, b)| a != b).unwrap_or_default().saturating_sub(80);
            let part = |text: &str| text.chars().skip(at).take(240).collect::<String>();
            format!("told {earlier:?}, the engine becomes …{1}… and not …{0}…", part(&before), part(&after))
        });
    }

    /// At rest: everything has ended and all faults have stopped.
    pub(super) fn check_rest(&mut self) {
        let Some(process) = &self.process else { return };
        let (live, in_flight) = (process.engine.engine().live(), process.engine.engine().gate().in_flight());
        self.books.hold(I(8), live == 0 && in_flight == 0, || format!("{live} live, {in_flight} in flight at rest"));
        let ended = |job: usize| self.books.accounts[job].outcome.is_some() || self.left_out.contains(&job);
        let silent = (0..self.settings.jobs.len()).find(|job| !ended(*job));
        self.books.hold_all(&[I(14), R(44)], silent.is_none(), || format!("job {silent:?} never ended"));
    }
}

pub(super) const fn ended(stage: Stage) -> Option<Outcome> {
    match stage {
        Stage::Ended(outcome) | Stage::Delivered(outcome) => Some(outcome),
        _ => None,
    }
}

/// The end that was decided first stays; only that nothing of a rejected job reached the disk can become known later.
fn first_of(decided: Option<Outcome>, now: Option<Outcome>) -> Option<Outcome> {
    let not_durable = now == Some(Outcome::Rejected(Rejected::NotDurable));
    if not_durable && matches!(decided, Some(Outcome::Rejected(_))) { now } else { decided.or(now) }
}

const fn promise(safety: SendSafety) -> &'static str {
    match safety {
        SendSafety::Unsafe => "which this provider would run again",
        SendSafety::Lookup { .. } => "and nobody has looked it up",
        _ => "and its key may be forgotten",
    }
}
