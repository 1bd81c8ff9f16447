//! Credentials that the provider refuses, and their renewal by the program.
//!
//! An answer that says so ([`Provider::is_unauthorized`](steadfast_providers::Provider::is_unauthorized)) says nothing
//! about the job: nothing ran. If the program gave a way to renew
//! ([`Builder::renew_credentials`](crate::Builder::renew_credentials)), one renewal runs, however many requests were
//! refused: a refusal of older credentials than the present ones starts none. While it runs, the gate is held, since
//! any request that left would be refused as well.
//!
//! What was refused is tried again by its own retry policy: polls and look-ups as often as that allows, a create once
//! after a renewal. If the renewed credentials are refused too, that counts as the provider's answer.
//!
//! A renewal has to prove itself, by a usable answer to what was sent with its credentials. Until then the next one
//! waits: 1 s, doubled, 60 s at most. So neither a renewal that fails nor one that brings what is refused makes a hot
//! loop.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, OperationId, Timestamp};

use super::{Driver, Task};
use crate::caught::caught;

/// Why credentials were not renewed. It is logged, so it must show no secret.
pub type RenewError = Box<dyn std::error::Error + Send + Sync>;

type Renewal = Pin<Box<dyn Future<Output = Result<(), RenewError>> + Send>>;

/// A program's function that renews its credentials. An adapter makes it from what its users write: see
/// [`RenewsBy`](crate::RenewsBy).
#[derive(Clone)]
pub struct Renew(Arc<dyn Fn() -> Renewal + Send + Sync>);

impl Renew {
    /// Renews by a future.
    pub fn by_future<R, E>(renew: impl Fn() -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<RenewError>,
    {
        Self(Arc::new(move || {
            let renewing = renew();
            Box::pin(async move { renewing.await.map_err(Into::into) })
        }))
    }

    /// Renews by a call that may block.
    pub fn by_call<E: Into<RenewError>>(renew: impl Fn() -> Result<(), E> + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || {
            let result = renew().map_err(Into::into);
            Box::pin(async move { result })
        }))
    }
}

impl fmt::Debug for Renew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renew")
    }
}

/// A renewal to be carried out. Feed its result to [`Driver::renewed`]. If the program's code panics, only the renewal
/// fails.
#[must_use = "run it and feed the result to `Driver::renewed`: until then the gate is held"]
pub struct Renewing {
    renew: Renew,
    number: u32,
}

impl Renewing {
    /// Carries out the renewal, whether it is a future or a call.
    pub async fn run(self) -> Renewed {
        let Self { renew, number } = self;
        let mut renewal: Option<Renewal> = None;
        let result = poll_fn(|context| {
            let step = || renewal.get_or_insert_with(|| (renew.0)()).as_mut().poll(context);
            caught(step).unwrap_or_else(|| Poll::Ready(Err("it panicked".into())))
        });
        Renewed { number, result: result.await }
    }

    /// Fails the renewal without carrying it out.
    pub fn refuse(self, why: impl Into<RenewError>) -> Renewed {
        Renewed { number: self.number, result: Err(why.into()) }
    }

    /// Carries out a renewal by a call, on this thread, which it may block. A renewal by a future fails unless it is
    /// ready at once.
    pub fn run_blocking(self) -> Renewed {
        let number = self.number;
        let mut run = std::pin::pin!(self.run());
        match run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(renewed) => renewed,
            Poll::Pending => Renewed { number, result: Err("it is a future, and there is no runtime for it".into()) },
        }
    }
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Renewing({})", self.number)
    }
}

/// The result of a renewal.
#[derive(Debug)]
#[must_use = "feed it to `Driver::renewed`: until then the gate is held"]
pub struct Renewed {
    number: u32,
    result: Result<(), RenewError>,
}

/// What is logged and counted of renewals.
enum News {
    Begun,
    Over(Result<(), RenewError>),
}

/// How long one renewal may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The longest rest between renewals that have not proved themselves.
const LONGEST_REST: Duration = Duration::from_secs(60);

pub(super) struct Renewals {
    renew: Option<Renew>,
    /// How many renewals have succeeded: requests are sent with the credentials of the last one.
    pub(super) generation: u32,
    /// The number of the one that runs, and until when it may.
    running: Option<(u32, Timestamp)>,
    number: u32,
    /// Renewals in a row that have not proved themselves.
    unproven: u32,
    rest_until: Timestamp,
    /// Until when an operator holds the gate, whether or not a renewal holds it too.
    held_until: Timestamp,
    /// An operator's latest commands about that, and about the gate's settings.
    said: Said,
}

/// Commands by their numbers. All shards are told of each, and the first to hear carries it out, once for all of them.
/// A shard that hears it late may be behind commands that others have heard and carried out already.
#[derive(Default)]
struct Said {
    hold: Option<u64>,
    gate: Option<u64>,
}

/// Whether this is newer than what was heard.
fn hears(heard: &mut Option<u64>, number: u64) -> bool {
    let counts = Some(number) > *heard;
    *heard = Some(number).max(*heard);
    counts
}

impl Renewals {
    pub(super) fn new(renew: Option<Renew>) -> Self {
        let (epoch, said) = (Timestamp::EPOCH, Said::default());
        Self { renew, generation: 0, running: None, number: 0, unproven: 0, rest_until: epoch, held_until: epoch, said }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.running.map(|(_, until)| until)
    }

    pub(super) const fn has_hook(&self) -> bool {
        self.renew.is_some()
    }

    /// Copies from the shards' common one what is read without its lock: whether a renewal runs, and until when.
    pub(super) const fn look_like(&mut self, other: &Self) {
        self.running = other.running;
    }
}

impl<H> Driver<H> {
    /// Feeds the result of a renewal.
    pub fn renewed(&mut self, renewed: Renewed, now: Timestamp) {
        self.look_at_clock(now);
        let Renewed { number, result } = renewed;
        let news = self.in_common(|driver| {
            // One that took too long is given up already.
            let is_running = driver.renewals.running.is_some_and(|(running, _)| running == number);
            is_running.then(|| driver.end_renewal(result))
        });
        self.say(news);
    }

    pub(super) fn give_up_renewal(&mut self) {
        if self.renewal_is_late() {
            let news = self.in_common(Self::give_up_late_renewal);
            self.say(news);
        }
    }

    fn give_up_late_renewal(&mut self) -> Option<News> {
        self.renewal_is_late().then(|| self.end_renewal(Err("it took too long".into())))
    }

    /// Logs and counts. Not to be called under the shards' lock: a subscriber or a recorder is the program's code, may
    /// take its time, and may ask the client something.
    fn say(&self, news: impl IntoIterator<Item = News>) {
        for news in news {
            match news {
                News::Begun => tracing::info!("the provider refuses the credentials: they are renewed"),
                News::Over(result) => {
                    self.meter.renewed(result.is_ok());
                    match result {
                        Ok(()) => tracing::info!("the credentials were renewed"),
                        Err(error) => {
                            let error = &*error as &dyn std::error::Error;
                            tracing::error!(
                                error,
                                "the credentials were not renewed: what needs them is refused until they are"
                            );
                        }
                    }
                }
            }
        }
    }

    /// Gives up a renewal that was begun here: its result will not be heard. Another shard whose jobs wait for it
    /// begins its own.
    pub(super) fn leave_renewal(&mut self) {
        let Some(number) = self.renewal.take() else { return };
        self.in_common(|driver| {
            if driver.renewals.running.is_some_and(|(running, _)| running == number) {
                driver.renewals.running = None;
                driver.hold_gate();
            }
        });
    }

    fn renewal_is_late(&self) -> bool {
        self.renewals.next_deadline().is_some_and(|until| until <= self.now)
    }

    /// What an answer means, given whether it refuses the credentials of this generation.
    pub(super) fn weigh_credentials(
        &mut self,
        id: OperationId,
        kind: Kind,
        generation: u32,
        unauthorized: bool,
        meaning: Result<Reading, Failure>,
    ) -> Result<Reading, Failure> {
        if !self.renewals.has_hook() {
            return meaning;
        }
        let mut news = [None, None];
        let weighed = self.in_common(|driver| {
            // It may have been begun by another shard, which has ended since.
            news[0] = driver.give_up_late_renewal();
            driver.weigh_against_renewals(id, kind, generation, unauthorized, meaning, &mut news[1])
        });
        self.say(news.into_iter().flatten());
        weighed
    }

    fn weigh_against_renewals(
        &mut self,
        id: OperationId,
        kind: Kind,
        generation: u32,
        unauthorized: bool,
        meaning: Result<Reading, Failure>,
        news: &mut Option<News>,
    ) -> Result<Reading, Failure> {
        let Some(renew) = self.renewals.renew.clone() else { return meaning };
        if !unauthorized {
            if generation == self.renewals.generation && meaning.is_ok() {
                (self.renewals.unproven, self.renewals.rest_until) = (0, Timestamp::EPOCH);
            }
            return meaning;
        }
        let now = self.now;
        let is_newest = generation == self.renewals.generation;
        if is_newest && self.renewals.running.is_none() && self.renewals.rest_until <= now && !self.closed {
            *news = Some(News::Begun);
            self.renewals.number = self.renewals.number.wrapping_add(1);
            let number = self.renewals.number;
            self.renewals.running = Some((number, now.saturating_add(LIMIT)));
            self.renewal = Some(number);
            self.tasks.push_back(Task::Renew(Renewing { renew, number }));
            self.hold_gate();
        }
        let Err(failure) = meaning else { return meaning };
        if failure.certainty != Certainty::NotExecuted {
            return meaning;
        }
        if kind == Kind::Create {
            let Some(job) = self.jobs.get_mut(id) else { return meaning };
            match job.refused_with {
                Some(before) if before < generation => return meaning,
                _ => job.refused_with = Some(generation),
            }
        }
        let unauthorized = Failure::new(Class::Unauthorized, Certainty::NotExecuted);
        Err(unauthorized.with_retry_after(failure.retry_after))
    }

    fn end_renewal(&mut self, result: Result<(), RenewError>) -> News {
        self.renewals.running = None;
        if result.is_ok() {
            self.renewals.generation = self.renewals.generation.wrapping_add(1);
        }
        let rest = Duration::from_secs(1 << self.renewals.unproven.min(6)).min(LONGEST_REST);
        self.renewals.unproven = self.renewals.unproven.saturating_add(1);
        self.renewals.rest_until = self.now.saturating_add(rest);
        self.hold_gate();
        News::Over(result)
    }

    /// Holds the gate for this long, as an operator asked.
    pub(super) fn hold(&mut self, span: Duration, number: u64) {
        let is_alone = self.shard().is_none();
        self.in_common(|driver| {
            if is_alone || hears(&mut driver.renewals.said.hold, number) {
                driver.renewals.held_until = driver.now.saturating_add(span);
                driver.hold_gate();
            }
        });
    }

    /// Changes the gate's settings, as an operator asked.
    pub(super) fn set_gate(&mut self, policy: GatePolicy, number: u64) {
        let is_alone = self.shard().is_none();
        self.in_common(|driver| {
            if is_alone || hears(&mut driver.renewals.said.gate, number) {
                let now = driver.now;
                driver.engine.with_gate(now, |gate| gate.set_policy(policy, now));
            }
        });
    }

    /// Holds the gate for as long as an operator, or a renewal, wants it. Requests that wait there learn of it in the
    /// turn's own `handle_timeout`.
    fn hold_gate(&mut self) {
        let until = self.renewals.next_deadline().into_iter().chain([self.renewals.held_until]).max();
        let now = self.now;
        self.engine.with_gate(now, |gate| gate.hold_until(until.unwrap_or(Timestamp::EPOCH)));
    }
}
