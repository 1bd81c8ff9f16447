//! The world of one history: its clock, its agenda, and what happens next.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use fastrand::Rng;
use steadfast_core::operation::{AttemptId, Effect, RecordId};
use steadfast_core::{Engine, Gate, Kind, OperationId, Seed, Timestamp};

use super::account::Account;
use super::books::Books;
use super::callers::Wish;
use super::chaos::{Chaos, CrashPoint, Fault};
use super::disk::Disk;
use super::flaw::Flaw;
use super::invariant::Invariant::{I, R};
use super::mail::{Delivery, Forgery, Mail, Post};
use super::process::Process;
use super::provider::{Answer, Provider, Request};
use super::settings::{Fate, Job, Settings};
use super::{Entry, Options, What};

/// When every history begins.
const START: Timestamp = Timestamp::from_secs(1_700_000_000);
/// The longest that a history may take once all faults have stopped: far more than all deadlines together.
const PATIENCE: Duration = Duration::from_secs(6 * 3_600);
/// The most steps in one history.
const MOST_STEPS: u64 = 200_000;

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A future event.
#[derive(Debug)]
pub(super) enum Happening {
    /// A request reaches the provider.
    Arrive {
        life: u32,
        id: OperationId,
        attempt: AttemptId,
        request: Request,
    },
    /// An answer reaches the process that asked.
    Answer {
        life: u32,
        id: OperationId,
        attempt: AttemptId,
        answer: Answer,
    },
    /// The driver takes back a request that it had no room for.
    TakeBack {
        life: u32,
        id: OperationId,
        attempt: AttemptId,
    },
    /// A webhook reaches the process.
    Webhook(Delivery),
    /// A webhook that the provider did not send.
    Forged(Delivery),
    /// A webhook that came before its reference was known.
    Parked(Mail),
    /// A batch is on disk, or certainly not.
    Written {
        life: u32,
        fails: bool,
    },
    /// The process learns of it.
    Acknowledged {
        life: u32,
        number: RecordId,
        fails: bool,
    },
    /// A caller does something.
    Caller(usize, Wish),
    /// A caller has the outcome.
    Deliver {
        life: u32,
        id: OperationId,
    },
    /// The driver has the payload of a job that it had taken out of the engine.
    GiveBack {
        life: u32,
        job: usize,
    },
    Restart,
    Heal,
}

impl Happening {
    /// Whether the process must be running for it.
    const fn is_of_process(&self) -> bool {
        !matches!(self, Self::Arrive { .. } | Self::Written { .. } | Self::Restart | Self::Heal)
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: Seed,
    pub(super) settings: Settings,
    pub(super) chaos: Chaos,
    pub(super) flaw: Option<Flaw>,
    pub(super) dice: Rng,
    pub(super) crash_dice: Rng,
    /// Used by the checks alone, so that they change nothing.
    pub(super) check_dice: Rng,
    snapshot_dice: Option<Rng>,
    /// True time; the process's clock is off by `offset` seconds.
    pub(super) now: Timestamp,
    pub(super) offset: i64,
    /// The process stands still until then.
    paused_until: Timestamp,
    agenda: BTreeMap<(Timestamp, u64), Happening>,
    happened: u64,
    /// The engine's next deadline, and when its driver really wakes.
    pub(super) wake: Option<(Timestamp, Timestamp)>,
    pub(super) provider: Provider,
    post: Post,
    pub(super) disk: Disk,
    pub(super) process: Option<Process>,
    pub(super) kept_gate: Option<Gate>,
    pub(super) life: u32,
    pub(super) crashes_left: u32,
    pub(super) crashes_at: Vec<u64>,
    pub(super) submitted: Vec<bool>,
    /// Jobs that are not submitted.
    pub(super) left_out: Vec<usize>,
    /// Jobs whose callers will try to submit them again.
    pub(super) submits_again: BTreeSet<usize>,
    pub(super) operations: u64,
    pub(super) resumed: u64,
    pub(super) withdrawn: u64,
    pub(super) effects: u64,
    hasher: DefaultHasher,
    pub(super) books: Books,
    pub(super) probing: bool,
    pub(super) entries: Option<Vec<Entry>>,
}

impl World {
    pub(super) fn new(seed: u64, options: &Options, snapshots: bool) -> Self {
        let seed = Seed::new(seed);
        let settings = Settings::drawn(seed);
        let mut jobs = settings.jobs.clone();
        let probe = Job {
            key: steadfast_core::Key::new("canary-probe").expect("visible ASCII"),
            fingerprint: steadfast_core::Fingerprint::new([0xAA; 16]),
            fate: Fate::ReadyAtOnce,
            work: Duration::ZERO,
            submit_after: Duration::ZERO,
        };
        jobs.push(probe);
        let chaos = Chaos::drawn(seed, settings.clocks_may_fail(), &options.without_faults);
        let stream = |salt| Rng::with_seed(seed.derive(salt).value());
        let count = settings.jobs.len();
        let mut world = Self {
            seed,
            chaos,
            flaw: options.flaw,
            dice: stream(3),
            crash_dice: stream(4),
            check_dice: stream(5),
            snapshot_dice: snapshots.then(|| stream(6)),
            now: START,
            offset: 0,
            paused_until: START,
            agenda: BTreeMap::new(),
            happened: 0,
            wake: None,
            provider: Provider::new(&settings, jobs, seed),
            post: Post::new(),
            disk: Disk::default(),
            process: None,
            kept_gate: None,
            life: 0,
            crashes_left: if options.without_crashes { 0 } else { settings.most_crashes },
            crashes_at: vec![0; CrashPoint::ALL.len()],
            submitted: vec![false; count],
            left_out: options.without_jobs.clone(),
            submits_again: BTreeSet::new(),
            operations: 0,
            resumed: 0,
            withdrawn: 0,
            effects: 0,
            hasher: DefaultHasher::new(),
            books: Books::new(count),
            probing: false,
            entries: options.record.then(Vec::new),
            settings,
        };
        if options.without_crashes {
            world.settings.crash_rate = 0.0;
        }
        for job in (0..count).filter(|job| !options.without_jobs.contains(job)) {
            let later = world.settings.jobs[job].submit_after;
            world.after(later, Happening::Caller(job, Wish::Submit));
        }
        let heals = world.settings.heals_after;
        world.after(heals, Happening::Heal);
        world
    }

    /// Runs to the end, or to the first violation.
    pub(super) fn run(&mut self) {
        self.restart();
        while self.books.violation.is_none() && self.step() {}
    }

    pub(super) fn after(&mut self, span: Duration, happening: Happening) {
        self.happened += 1;
        self.agenda.insert((self.now.saturating_add(span), self.happened), happening);
    }

    pub(super) fn soon(&mut self, happening: Happening) {
        self.after(ms(0), happening);
    }

    /// Carries out the next event. Returns whether there is more to come.
    fn step(&mut self) -> bool {
        let patience = self.settings.heals_after * 2 + PATIENCE;
        let patient = self.now.saturating_since(START) < patience && self.happened < MOST_STEPS;
        self.books.hold(I(14), patient, || format!("no end after {} steps, at {:?}", self.happened, self.now));
        if self.is_at_rest() {
            return self.probe();
        }
        let happening = self.agenda.first_key_value().map(|(at, _)| *at);
        let wake = self.next_wake();
        match (happening, wake) {
            (None, None) => {
                self.check_rest();
                return false;
            }
            (Some((at, number)), wake) if wake.is_none_or(|wake| at <= wake) => {
                self.now = self.now.max(at);
                if let Some(happening) = self.agenda.remove(&(at, number)) {
                    self.let_happen(happening);
                }
            }
            (_, Some(wake)) => {
                self.now = self.now.max(wake);
                self.wake = None;
                self.happened += 1;
                self.hold_gate();
                self.wake_up();
            }
            (Some(_), None) => {}
        }
        true
    }

    fn let_happen(&mut self, happening: Happening) {
        if happening.is_of_process() {
            if self.now >= self.paused_until && self.chaos.strikes_with(Fault::ClockForward, 0.1) {
                self.trace(None, || "the process stands still".into());
                self.paused_until = self.now.saturating_add(ms(self.dice.u64(2_000..120_000)));
            }
            if self.now < self.paused_until {
                let later = self.paused_until.saturating_since(self.now);
                return self.after(later, happening);
            }
        }
        match happening {
            Happening::Arrive { life, id, attempt, request } => self.arrive(life, id, attempt, &request),
            Happening::Answer { life, id, attempt, answer } => self.answered(life, id, attempt, answer),
            Happening::TakeBack { life, id, attempt } => self.take_back(life, id, attempt),
            // A provider repeats a webhook that nobody accepted.
            Happening::Webhook(sealed) if self.process.is_none() => self.after(ms(5_000), Happening::Webhook(sealed)),
            Happening::Webhook(sealed) => self.opened(&sealed),
            Happening::Forged(sealed) => self.forged(&sealed),
            Happening::Parked(mail) => self.told(mail),
            Happening::Written { life, fails } => self.written(life, fails),
            Happening::Acknowledged { life, number, fails } => self.acknowledged(life, number, fails),
            Happening::Caller(job, wish) => {
                self.submitted[job] = true;
                self.wish(job, wish);
            }
            Happening::Deliver { life, id } => self.delivered(life, id),
            Happening::GiveBack { life, job } => {
                self.give_back(life, job);
                self.drain();
            }
            Happening::Restart => {
                self.trace(None, || "a new process starts".into());
                self.restart();
                self.submit_again();
            }
            Happening::Heal => {
                self.trace(None, || "from here on nothing goes wrong any more".into());
                self.chaos.end();
            }
        }
    }

    fn arrive(&mut self, life: u32, id: OperationId, attempt: AttemptId, request: &Request) {
        let ran_before = self.provider.runs_of(&request.key).count();
        let answer = self.provider.answer(request, &mut self.chaos, self.now);
        self.check_ran(&request.key, ran_before);
        if self.provider.runs_of(&request.key).count() > ran_before && self.settings.webhooks {
            for (at, mail) in self.provider.mail(&request.key, &mut self.chaos, self.now) {
                let travels = at.saturating_since(self.now) + ms(self.dice.u64(..500));
                if self.chaos.strikes(Fault::WebhookForged) {
                    let later = ms(self.dice.u64(..20_000));
                    let how = [Forgery::WrongSecret, Forgery::OtherWords, Forgery::Replay][self.dice.usize(..3)];
                    let lie = self.post.forge(&mail, how, self.now.saturating_add(later));
                    self.after(later, Happening::Forged(lie));
                }
                let sealed = self.post.seal(&mail, at);
                self.after(travels, Happening::Webhook(sealed));
            }
        }
        let Some(answer) = answer else { return };
        if self.chaos.strikes(Fault::AnswerLost) {
            return;
        }
        let policy = &self.settings.policy;
        let timeout = match request.kind {
            Kind::Create => policy.create().attempt_timeout(),
            Kind::Lookup => policy.lookup().attempt_timeout(),
            _ => policy.poll().retry().attempt_timeout(),
        };
        let mut travels = ms(self.dice.u64(..=self.settings.latency.as_millis() as u64));
        if self.chaos.strikes(Fault::AnswerLate) {
            travels += timeout.mul_f64(self.dice.f64() * 2.0);
        }
        if self.chaos.strikes(Fault::AnswerTwice) {
            let again = travels + ms(self.dice.u64(..5_000));
            self.after(again, Happening::Answer { life, id, attempt, answer: answer.clone() });
        }
        self.after(travels, Happening::Answer { life, id, attempt, answer });
    }

    /// A webhook counts if its signature is valid and fresh. A process whose clock is minutes off refuses genuine ones,
    /// too.
    fn opened(&mut self, sealed: &Delivery) {
        let opened = self.post.open(sealed, self.clock());
        let genuine = opened.is_some() || !sealed.is_fresh(self.clock());
        self.books.hold(I(16), genuine, || "a genuine webhook was refused".into());
        if let Some(mail) = opened {
            self.told(mail);
        }
    }

    /// A forged webhook: nothing of it may be believed.
    fn forged(&mut self, sealed: &Delivery) {
        let believed = self.process.is_some() && self.post.open(sealed, self.clock()).is_some();
        self.books.hold(I(16), !believed, || "a forged webhook was believed".into());
    }

    fn acknowledged(&mut self, life: u32, number: RecordId, fails: bool) {
        use steadfast_core::engine::Event::{PersistFailed, Persisted};
        if life == self.life {
            if let Some(process) = &mut self.process {
                process.is_writing = false;
            }
            self.feed(if fails { PersistFailed(number) } else { Persisted(number) });
            self.drain();
        }
    }

    /// An operator holds the gate for a while.
    fn hold_gate(&mut self) {
        let until = self.clock().saturating_add(ms(self.dice.u64(1_000..30_000)));
        if self.chaos.strikes_with(Fault::GateHeld, 0.1)
            && let Some(process) = &mut self.process
        {
            let seen = process.seen;
            process.engine.engine_mut().gate_mut().hold_until(until);
            self.books.gate.hold(seen, until);
        }
    }

    /// When the driver will next wake the engine: at its deadline, or a little late.
    fn next_wake(&mut self) -> Option<Timestamp> {
        let due = self.process.as_ref()?.engine.engine().next_deadline()?;
        let true_due = shifted(due, self.offset.saturating_neg());
        if self.wake.is_none_or(|(known, _)| known != due) {
            let late = if self.chaos.strikes_with(Fault::WakeLate, 0.3) { self.dice.u64(1..8_000) } else { 0 };
            self.wake = Some((due, true_due.saturating_add(ms(late))));
        }
        self.wake.map(|(_, at)| at.max(self.paused_until))
    }

    /// Everything has ended and nothing is under way.
    fn is_at_rest(&self) -> bool {
        let told = |job: usize| self.books.accounts[job].outcome.is_some() || self.left_out.contains(&job);
        let done = self.process.as_ref().is_some_and(|process| process.engine.engine().live() == 0);
        self.chaos.is_over() && done && self.agenda.is_empty() && (0..self.settings.jobs.len()).all(told)
    }

    /// I9: much later, a job goes through: nothing left over holds it up.
    fn probe(&mut self) -> bool {
        self.check_rest();
        if self.probing {
            let probed = self.books.accounts.last().and_then(|account| account.outcome);
            let through = matches!(probed, Some(steadfast_core::Outcome::Completed(_)));
            self.books.hold_all(&[I(9), I(8)], through, || format!("a job in a world that is well ends as {probed:?}"));
            return false;
        }
        self.probing = true;
        self.now = self.now.saturating_add(Duration::from_secs(2 * 3_600));
        self.settings.jobs.push(self.provider.probe());
        self.books.accounts.push(Account::default());
        self.submitted.push(false);
        self.soon(Happening::Caller(self.settings.jobs.len() - 1, Wish::Submit));
        true
    }

    /// The time by the process's clock.
    pub(super) fn clock(&self) -> Timestamp {
        self.now_of(self.now)
    }

    pub(super) fn now_of(&self, at: Timestamp) -> Timestamp {
        shifted(at, self.offset)
    }

    pub(super) fn job_of(&self, key: &str) -> usize {
        let at = self.settings.jobs.iter().position(|job| job.key.as_str() == key);
        at.expect("only jobs have keys")
    }

    pub(super) fn log(&mut self, id: OperationId, effect: Effect) {
        self.effects += 1;
        (self.now, id, effect).hash(&mut self.hasher);
    }

    /// Equal for equal histories.
    pub(super) fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    pub(super) fn trace(&mut self, job: Option<usize>, what: impl FnOnce() -> String) {
        if let Some(entries) = &mut self.entries {
            entries.push(Entry { at: self.now, job, what: What::World(what()) });
        }
    }

    /// Sometimes the engine is serialised, restored and continued.
    pub(super) fn snapshot_and_restore(&mut self) {
        let Some(dice) = &mut self.snapshot_dice else { return };
        if dice.u8(..32) > 0 {
            return;
        }
        self.hear_notices();
        let Some(process) = &mut self.process else { return };
        let engine = process.engine.engine_mut();
        let restored = engine.snapshot().and_then(|bytes| Engine::from_snapshot(&bytes));
        let same = restored.as_ref().is_ok_and(|restored| restored == engine);
        let refused = restored.as_ref().err().map(ToString::to_string);
        if let Ok(restored) = restored {
            *engine = restored;
        }
        self.books.hold_all(&[I(12), R(35)], same, || {
            format!("an engine that went through its snapshot is another; refused: {refused:?}")
        });
    }
}

pub(super) fn shifted(at: Timestamp, seconds: i64) -> Timestamp {
    let span = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { at.saturating_sub(span) } else { at.saturating_add(span) }
}
