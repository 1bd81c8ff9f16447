//! The model of a provider: what it runs, what it answers, and its own ledger of both.
//!
//! It knows nothing of engines. It sees requests and the time, and records every execution and every final answer that
//! it gave, so that an outcome given to a caller can be compared with the facts.

use std::time::Duration;

use fastrand::Rng;
use steadfast_core::operation::Reading;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Fingerprint, Key, Kind, Reference, Seed, Timestamp};

use super::chaos::{Chaos, Fault};
use super::mail::Mail;
use super::settings::{Fate, Job, Keys, Settings};

/// A request on the wire.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) key: Key,
    pub(super) fingerprint: Fingerprint,
    pub(super) reference: Option<Reference>,
}

/// An answer on the wire.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) said: Result<Reading, Failure>,
    pub(super) quota: Option<Quota>,
}

/// One execution.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) key: Key,
    pub(super) fingerprint: Fingerprint,
    pub(super) reference: Reference,
    pub(super) began: Timestamp,
    done_at: Timestamp,
    fate: Fate,
    /// The final answers that were given, to any request.
    pub(super) said: Vec<Reading>,
}

#[derive(Debug)]
pub(super) struct Provider {
    keys: Keys,
    jobs: Vec<Job>,
    runs: Vec<Run>,
    down_until: Timestamp,
    dice: Rng,
}

fn failed(class: Class, certainty: Certainty) -> Result<Reading, Failure> {
    Err(Failure::new(class, certainty))
}

impl Provider {
    pub(super) fn new(settings: &Settings, jobs: Vec<Job>, seed: Seed) -> Self {
        let dice = Rng::with_seed(seed.derive(2).value());
        Self { keys: settings.keys, jobs, runs: Vec::new(), down_until: Timestamp::EPOCH, dice }
    }

    /// The job that is submitted last, when all faults have stopped.
    pub(super) fn probe(&self) -> Job {
        self.jobs.last().cloned().expect("there is always the probe")
    }

    /// Every execution of this key.
    pub(super) fn runs_of(&self, key: &Key) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.key == *key)
    }

    /// Carries a request out, or does not; and answers it, or does not.
    pub(super) fn answer(&mut self, request: &Request, chaos: &mut Chaos, now: Timestamp) -> Option<Answer> {
        let said = self.reception(chaos, now).unwrap_or_else(|| match request.kind {
            Kind::Create => Some(self.create(request, chaos, now)),
            Kind::Lookup => Some(Ok(self.look_up(&request.key, now))),
            _ => Some(self.poll(request.reference.as_ref(), chaos, now)),
        })?;
        let quota = chaos.strikes(Fault::Quota).then(|| Quota {
            limit: Some(self.dice.u32(1..20)),
            window: Some(Duration::from_secs(self.dice.u64(1..60))),
            remaining: Some(self.dice.u32(..3)),
            reset: Some(Duration::from_secs(self.dice.u64(..40))),
        });
        Some(Answer { said, quota })
    }

    /// What happens before the work: outages, throttles, errors. `None`: the request is processed; `Some(None)`: there
    /// is no answer at all.
    #[expect(clippy::option_option, reason = "looked at, unheard, answered")]
    fn reception(&mut self, chaos: &mut Chaos, now: Timestamp) -> Option<Option<Result<Reading, Failure>>> {
        if chaos.strikes_with(Fault::Outage, 0.2) {
            self.down_until = now.saturating_add(Duration::from_secs(self.dice.u64(3..60)));
        }
        if now < self.down_until && !chaos.is_over() {
            return Some(match self.dice.u8(..3) {
                0 => None,
                _ => Some(self.unavailable()),
            });
        }
        if chaos.strikes(Fault::Throttled) {
            let wait = (self.dice.u8(..4) > 0).then(|| Duration::from_millis(self.dice.u64(..45_000)));
            return Some(Some(Err(Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(wait))));
        }
        chaos.strikes(Fault::ErrorBefore).then(|| Some(self.unavailable()))
    }

    /// A 5xx proves nothing about whether the job ran.
    fn unavailable(&mut self) -> Result<Reading, Failure> {
        let wait = self.dice.bool().then(|| Duration::from_millis(self.dice.u64(..30_000)));
        Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted).with_retry_after(wait))
    }

    fn create(&mut self, request: &Request, chaos: &mut Chaos, now: Timestamp) -> Result<Reading, Failure> {
        if chaos.strikes_with(Fault::UnknownStatus, 0.5) {
            // A refusal of a kind that the profile does not know: it cannot tell whether the job ran.
            return failed(Class::Permanent, Certainty::MayHaveExecuted);
        }
        let Some(job) = self.jobs.iter().find(|job| job.key == request.key).cloned() else {
            return failed(Class::Permanent, Certainty::NotExecuted);
        };
        if job.fate == Fate::Refused || self.is_taken(request) {
            return failed(Class::Permanent, Certainty::NotExecuted);
        }
        let index = self.known(request, now).unwrap_or_else(|| {
            self.runs.push(Run {
                key: request.key.clone(),
                fingerprint: request.fingerprint,
                reference: Reference::new(format!("canary-ref-{}", self.runs.len())).expect("visible ASCII"),
                began: now,
                done_at: now.saturating_add(job.work),
                fate: job.fate,
                said: Vec::new(),
            });
            self.runs.len() - 1
        });
        if chaos.strikes(Fault::ErrorAfter) {
            return failed(Class::Transient, Certainty::MayHaveExecuted);
        }
        if chaos.strikes(Fault::Garbled) {
            return Ok(Reading::Unknown("?".into()));
        }
        let run = &mut self.runs[index];
        match job.fate {
            Fate::ReadyAtOnce => {
                run.said.push(Reading::Ready);
                Ok(Reading::Ready)
            }
            Fate::FailedAtOnce => {
                run.said.push(Reading::Failed);
                if self.dice.bool() { Ok(Reading::Failed) } else { failed(Class::Permanent, Certainty::Executed) }
            }
            _ => Ok(Reading::Accepted(run.reference.clone())),
        }
    }

    /// A provider that stores keys refuses a known key with another body.
    fn is_taken(&self, request: &Request) -> bool {
        matches!(self.keys, Keys::Honoured(_))
            && self.runs_of(&request.key).any(|run| run.fingerprint != request.fingerprint)
    }

    fn known(&self, request: &Request, now: Timestamp) -> Option<usize> {
        let Keys::Honoured(window) = self.keys else { return None };
        let fresh = |run: &Run| run.key == request.key && now < run.began.saturating_add(window);
        self.runs.iter().position(fresh)
    }

    fn look_up(&self, key: &Key, now: Timestamp) -> Reading {
        let Keys::Lookup(lag) = self.keys else { return Reading::NotFound };
        let shown = self.runs_of(key).find(|run| run.began.saturating_add(lag) <= now);
        shown.map_or(Reading::NotFound, |run| Reading::Accepted(run.reference.clone()))
    }

    fn poll(&mut self, reference: Option<&Reference>, chaos: &mut Chaos, now: Timestamp) -> Result<Reading, Failure> {
        let Some(index) = self.runs.iter().position(|run| Some(&run.reference) == reference) else {
            return Ok(Reading::NotFound);
        };
        if chaos.strikes_with(Fault::NotFoundYet, 0.3) {
            return Ok(Reading::NotFound);
        }
        if chaos.strikes(Fault::Garbled) {
            return failed(Class::Transient, Certainty::MayHaveExecuted);
        }
        if chaos.strikes(Fault::UnknownStatus) {
            return Ok(Reading::Unknown("odd".into()));
        }
        let run = &self.runs[index];
        if now < run.done_at {
            let hint = self.dice.bool().then(|| Duration::from_millis(self.dice.u64(..10_000)));
            return Ok(match (run.fate, self.dice.u8(..5)) {
                (Fate::PartialFirst, _) => {
                    self.runs[index].said.push(Reading::Partial);
                    Reading::Partial
                }
                (_, 0) => Reading::AwaitingPerson { hint },
                _ => Reading::Pending { hint },
            });
        }
        Ok(self.final_answer(index, chaos))
    }

    /// The job's result; or, from a provider that contradicts itself, another one.
    fn final_answer(&mut self, index: usize, chaos: &mut Chaos) -> Reading {
        let run = &mut self.runs[index];
        let truth = match run.fate {
            Fate::Failed | Fate::FailedAtOnce => Reading::Failed,
            Fate::Undecided => Reading::Undecided,
            Fate::Ready | Fate::PartialFirst | Fate::ReadyAtOnce | Fate::Refused => Reading::Ready,
        };
        let other = if truth == Reading::Ready { Reading::Failed } else { Reading::Ready };
        let contradicts = chaos.strikes(Fault::Contradiction);
        let said = if contradicts { other } else { truth };
        run.said.push(said.clone());
        said
    }

    /// The webhooks that the latest execution of this key will bring, and when each leaves.
    pub(super) fn mail(&mut self, key: &Key, chaos: &mut Chaos, now: Timestamp) -> Vec<(Timestamp, Mail)> {
        let Some(index) = self.runs.iter().rposition(|run| run.key == *key && run.began == now) else {
            return Vec::new();
        };
        let mut mails = Vec::new();
        if chaos.strikes(Fault::WebhookEarly) {
            mails.push((now, self.mail_of(index, Some(Reading::Pending { hint: None }))));
            if self.dice.bool() {
                self.runs[index].done_at = now;
            }
        }
        let done_at = self.runs[index].done_at;
        if chaos.strikes(Fault::WebhookLost) {
            return mails;
        }
        let reading = (!chaos.strikes(Fault::WebhookBare)).then(|| self.final_answer(index, chaos));
        mails.push((done_at, self.mail_of(index, reading)));
        if chaos.strikes(Fault::WebhookTwice) {
            let again = mails.last().map(|(_, mail)| mail.clone());
            let later = done_at.saturating_add(Duration::from_millis(self.dice.u64(..9_000)));
            mails.extend(again.map(|mail| (later, mail)));
        }
        if chaos.strikes(Fault::WebhookReordered) {
            let later = done_at.saturating_add(Duration::from_millis(self.dice.u64(1..9_000)));
            mails.push((later, self.mail_of(index, Some(Reading::Pending { hint: None }))));
        }
        if chaos.strikes(Fault::Contradiction) {
            let later = done_at.saturating_add(Duration::from_millis(self.dice.u64(1..9_000)));
            let other = if self.runs[index].said.contains(&Reading::Failed) { Reading::Ready } else { Reading::Failed };
            self.runs[index].said.push(other.clone());
            mails.push((later, self.mail_of(index, Some(other))));
        }
        mails
    }

    fn mail_of(&self, index: usize, reading: Option<Reading>) -> Mail {
        let run = &self.runs[index];
        Mail { key: run.key.clone(), reference: run.reference.clone(), reading }
    }
}
