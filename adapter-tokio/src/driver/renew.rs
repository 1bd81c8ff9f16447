//! Credentials that are over, and their renewal by the program.
//!
//! An answer that says so ([`Provider::is_unauthorized`]) says nothing of the job, and nothing ran. If the program gave a way to renew
//! ([`Builder::renew_credentials`](crate::Builder::renew_credentials)), one renewal runs, however many requests were refused: what was sent with older
//! credentials than there are now asks for none. While it runs, the gate is held, since whatever left would be refused as well.
//!
//! What was refused is tried again by its own retry policy: polls and look-ups as often as that allows, a create once after a renewal. If the renewed
//! credentials are refused too, it is the provider's word.
//!
//! A renewal has to prove itself, by a usable answer to what was sent with its credentials. Until then the next one waits: 1 s, doubled, 60 s at most. So
//! neither a renewal that fails nor one that brings what is refused makes a hot loop.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, OperationId, Timestamp};
use steadfast_providers::Provider;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Driver;
use crate::transport::Transport;

/// Why credentials were not renewed.
pub(crate) type RenewError = Box<dyn std::error::Error + Send + Sync>;
type Renewing = Pin<Box<dyn Future<Output = Result<(), RenewError>> + Send>>;
/// What the program renews with.
pub(crate) type Renew = Arc<dyn Fn() -> Renewing + Send + Sync>;

/// How long one renewal may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The longest rest between renewals that have not proved themselves.
const LONGEST_REST: Duration = Duration::from_secs(60);

pub(super) struct Renewal {
    renew: Option<Renew>,
    /// How many there were: what is sent is sent with the credentials of this one.
    pub(super) generation: u32,
    running: Option<AbortHandle>,
    /// Renewals in a row that have not proved themselves.
    unproven: u32,
    rest_until: Timestamp,
    /// Until when an operator holds the gate, whatever a renewal does with it.
    pub(super) held_until: Timestamp,
    done: mpsc::UnboundedSender<Result<(), RenewError>>,
    results: mpsc::UnboundedReceiver<Result<(), RenewError>>,
}

impl Renewal {
    pub(super) fn new(renew: Option<Renew>) -> Self {
        let (done, results) = mpsc::unbounded_channel();
        Self {
            renew,
            generation: 0,
            running: None,
            unproven: 0,
            rest_until: Timestamp::EPOCH,
            held_until: Timestamp::EPOCH,
            done,
            results,
        }
    }

    pub(super) async fn result(&mut self) -> Option<Result<(), RenewError>> {
        self.results.recv().await
    }

    /// Runs it on a task of its own, so that a bug in it costs the renewal and no more.
    fn start(&mut self, renew: Renew) {
        let done = self.done.clone();
        let renewal = tokio::spawn(async move {
            let Ok(renewing) = catch_unwind(AssertUnwindSafe(|| renew())) else { return Err("it panicked".into()) };
            tokio::time::timeout(LIMIT, renewing).await.unwrap_or_else(|_| Err("it took too long".into()))
        });
        self.running = Some(renewal.abort_handle());
        tokio::spawn(async move {
            let result = renewal.await.unwrap_or_else(|_| Err("it panicked".into()));
            let _ = done.send(result);
        });
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl<P: Provider, T: Transport> Driver<P, T> {
    /// What an answer means, given whether it says that the credentials of this generation are over.
    pub(super) fn weigh_credentials(
        &mut self,
        id: OperationId,
        kind: Kind,
        generation: u32,
        unauthorized: bool,
        meaning: Result<Reading, Failure>,
    ) -> Result<Reading, Failure> {
        let Some(renew) = self.renewal.renew.clone() else { return meaning };
        if !unauthorized {
            if generation == self.renewal.generation && meaning.is_ok() {
                (self.renewal.unproven, self.renewal.rest_until) = (0, Timestamp::EPOCH);
            }
            return meaning;
        }
        let now = self.clock.now();
        let is_newest = generation == self.renewal.generation;
        if is_newest && self.renewal.running.is_none() && self.renewal.rest_until <= now && self.closing.is_none() {
            tracing::info!("the provider refuses the credentials: they are renewed");
            self.renewal.start(renew);
            self.hold_gate();
        }
        let Err(failure) = meaning else { return meaning };
        if failure.certainty != Certainty::NotExecuted {
            return meaning;
        }
        if kind == Kind::Create {
            let Some(job) = self.jobs.get_mut(&id) else { return meaning };
            match job.refused_with {
                Some(before) if before < generation => return meaning,
                _ => job.refused_with = Some(generation),
            }
        }
        let unauthorized = Failure::new(Class::Unauthorized, Certainty::NotExecuted);
        Err(unauthorized.with_retry_after(failure.retry_after))
    }

    pub(super) fn renewed(&mut self, result: Result<(), RenewError>) {
        self.renewal.running = None;
        match result {
            Ok(()) => {
                self.renewal.generation = self.renewal.generation.wrapping_add(1);
                tracing::info!("the credentials were renewed");
            }
            Err(error) => {
                let error = &*error as &dyn std::error::Error;
                tracing::error!(error, "the credentials were not renewed: what needs them is refused until they are");
            }
        }
        let rest = Duration::from_secs(1 << self.renewal.unproven.min(6)).min(LONGEST_REST);
        self.renewal.unproven = self.renewal.unproven.saturating_add(1);
        self.renewal.rest_until = self.clock.now().saturating_add(rest);
        self.hold_gate();
    }

    /// Holds the gate for as long as an operator, or a renewal, wants it. Those who wait there learn of it in the turn's own `handle_timeout`.
    pub(super) fn hold_gate(&mut self) {
        let renewal = self.renewal.running.as_ref().map(|_| self.clock.now().saturating_add(LIMIT));
        let until = renewal.into_iter().chain([self.renewal.held_until]).max();
        self.engine.gate_mut().hold_until(until.unwrap_or(Timestamp::EPOCH));
    }
}
