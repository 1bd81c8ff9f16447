//! Permission for an attempt, from what calls to one upstream share: a breaker, a retry budget, a rate limiter.
//!
//! They are asked in the [gate](steadfast_core::gate)'s order, and none is charged unless all agree: a breaker that
//! refuses uses up no limiter's place, and a retry's payment is given back if the limiter makes it wait. Nothing is
//! held over a wait except a place in the limiter's line, which keeps the order of arrival, and is given back when it
//! is dropped.

use std::time::Duration;

use steadfast_core::breaker::{BreakerState, Health};
use steadfast_core::budget::Charge;
use steadfast_core::gate::{Gate, WhenOpen};
use steadfast_core::retry::Class;

use super::error::StopReason;
use crate::handles::{Breaker, Permit, Place, RateLimiter, RetryBudget};

/// What calls to one upstream share.
#[derive(Debug)]
pub(super) struct Upstream<'h> {
    breaker: Option<&'h Breaker>,
    when_open: WhenOpen,
    budget: Option<&'h RetryBudget>,
    limiter: Option<&'h RateLimiter>,
    /// In the limiter's line, waited for.
    place: Option<Place<'h>>,
}

/// What the attempt asks the budget for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A first attempt: brings the budget its share, and so does its end.
    First,
    /// A retry: must be paid for.
    Retry(Class),
    /// A poll after one that said *pending*: the budget is not involved.
    Poll,
}

/// Whether an attempt may leave.
#[derive(Debug)]
pub(super) enum Leaving<'h> {
    Go(Leave<'h>),
    /// Ask again after this; it is below what was left.
    Wait(Duration),
    Stop(StopReason),
}

impl<'h> Upstream<'h> {
    #[inline]
    pub(super) const fn new(
        breaker: Option<&'h Breaker>,
        when_open: WhenOpen,
        budget: Option<&'h RetryBudget>,
        limiter: Option<&'h RateLimiter>,
    ) -> Self {
        Self { breaker, when_open, budget, limiter, place: None }
    }

    pub(super) const fn is_free(&self) -> bool {
        self.breaker.is_none() && self.budget.is_none() && self.limiter.is_none()
    }

    /// `left`: until the deadline. `fair_chance`: what an attempt needs of that, if it has to stand in line for it.
    pub(super) fn leave(&mut self, purpose: Purpose, left: Duration, fair_chance: Duration) -> Leaving<'h> {
        let wait = self.place.as_mut().map_or(Duration::ZERO, Place::next_wait);
        if !wait.is_zero() {
            return Leaving::Wait(wait.min(left));
        }
        let permit = match self.breaker.map(Breaker::acquire).transpose() {
            Ok(permit) => permit,
            Err(retry_in) => return self.refused(retry_in, left),
        };
        let Ok(charge) = self.charge(purpose) else {
            self.place = None;
            return Leaving::Stop(StopReason::Budget);
        };
        // From here on, dropping it gives all of it back.
        let leave =
            Leave { permit, budget: self.budget.map(|budget| Account { budget, purpose, charge, sent: false }) };
        match self.place.take() {
            Some(place) => place.take(),
            None => {
                if let Err(stopped) = self.stand_in_line(left, fair_chance) {
                    return stopped;
                }
            }
        }
        Leaving::Go(leave.sent())
    }

    fn charge(&self, purpose: Purpose) -> Result<Option<Charge>, ()> {
        match (self.budget, purpose) {
            (Some(budget), Purpose::Retry(class)) => budget.withdraw(class).map(Some).map_err(|_| ()),
            (Some(budget), Purpose::First) => {
                budget.first_attempt();
                Ok(None)
            }
            (Some(_), Purpose::Poll) | (None, _) => Ok(None),
        }
    }

    fn stand_in_line(&mut self, left: Duration, fair_chance: Duration) -> Result<(), Leaving<'h>> {
        let Some(limiter) = self.limiter else { return Ok(()) };
        if limiter.try_acquire().is_ok() {
            return Ok(());
        }
        let place = limiter.reserve();
        let wait = place.wait();
        if wait.is_zero() {
            place.take();
            return Ok(());
        }
        if wait >= left || left.saturating_sub(wait) < fair_chance {
            return Err(Leaving::Stop(StopReason::RateLimited { retry_in: wait }));
        }
        Err(Leaving::Wait(self.place.insert(place).next_wait()))
    }

    fn refused(&mut self, retry_in: Duration, left: Duration) -> Leaving<'h> {
        // The place's time has come and it cannot be used: if it were kept, it would let one too many leave at once.
        self.place = None;
        // While probes are out the breaker can only say when the last of them will have been given up. It may close at
        // any moment.
        let wait = match self.breaker.map(|breaker| breaker.state()) {
            Some(BreakerState::HalfOpen | BreakerState::Closed) => retry_in.min(Gate::RECHECK),
            _ => retry_in,
        };
        if self.when_open == WhenOpen::Refuse || wait >= left {
            return Leaving::Stop(StopReason::BreakerOpen { retry_in });
        }
        // Later than now in any case.
        Leaving::Wait(wait.max(Duration::from_nanos(1)))
    }
}

/// Permission for one attempt. If it is dropped, no result is recorded, and the breaker's place is free again. What a
/// retry paid stays paid, since it was sent.
#[derive(Debug)]
pub(super) struct Leave<'h> {
    permit: Option<Permit<'h>>,
    budget: Option<Account<'h>>,
}

#[derive(Debug)]
struct Account<'h> {
    budget: &'h RetryBudget,
    purpose: Purpose,
    charge: Option<Charge>,
    sent: bool,
}

impl<'h> Leave<'h> {
    pub(super) const FREE: Self = Self { permit: None, budget: None };

    fn sent(mut self) -> Self {
        if let Some(account) = &mut self.budget {
            account.sent = true;
        }
        self
    }

    /// The attempt has ended: with an answer, or with a failure of this class.
    #[inline(always)]
    pub(super) fn settle(self, failed: Option<Class>) {
        if self.permit.is_some() || self.budget.is_some() {
            self.tell(failed);
        }
    }

    #[inline(never)]
    fn tell(self, failed: Option<Class>) {
        if let Some(permit) = self.permit {
            permit.settle(failed.map_or(Health::Healthy, Class::health));
        }
        if let Some(account) = self.budget
            && failed.is_none()
            && account.purpose != Purpose::Poll
        {
            account.budget.succeeded(account.charge);
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if self.sent {
            return;
        }
        match (self.purpose, self.charge.take()) {
            (_, Some(charge)) => self.budget.refund(charge),
            (Purpose::First, None) => self.budget.first_attempt_unsent(),
            (Purpose::Retry(_) | Purpose::Poll, None) => {}
        }
    }
}
