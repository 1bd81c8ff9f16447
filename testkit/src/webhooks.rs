//! The webhooks that a fake sends, and their deliberate faults.
//!
//! Each event's fault is drawn from the seed, from its job and from how many events of that job came before, so a
//! schedule depends neither on time nor on what the receiver answers. A *forged* delivery is sent beside the true
//! event, since a forger cannot hold that back: under another secret, with a body that was altered after it was signed,
//! or again, when it is too old for a receiver to believe.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use steadfast_core::Seed;

use crate::faults::share;

/// One thing that goes wrong with one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WebhookFault {
    /// Never sent.
    Lost,
    /// Sent twice, under one event id.
    Duplicated,
    /// Sent up to four minutes late (before the speed), so that later events may come before it.
    Delayed,
    /// For a job's first event: sent before the create's answer, which is held back.
    Early,
    /// A false event is sent beside it, signed with another secret.
    Forged,
    /// A false event is sent beside it, under the signatures of the true one.
    Altered,
    /// It is sent a second time as a recording: with valid signatures, and ten minutes old.
    Replayed,
}

impl WebhookFault {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Lost, Self::Duplicated, Self::Delayed, Self::Early, Self::Forged, Self::Altered, Self::Replayed];
}

/// A schedule of webhook faults.
///
/// ```
/// use steadfast_testkit::{WebhookFault, WebhookFaults};
///
/// let often = WebhookFaults::rate(0.5);
/// // Nothing comes at all: only polling finds out.
/// let silent = WebhookFaults::rate(1.0).only(&[WebhookFault::Lost]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookFaults {
    rate: f64,
    kinds: Vec<WebhookFault>,
}

impl WebhookFaults {
    /// A schedule without faults.
    #[must_use]
    pub fn none() -> Self {
        Self::rate(0.0)
    }

    /// This share of all events meets a fault, every possible kind equally often. Below 0 counts as 0, above 1 and NaN
    /// as 1.
    #[must_use]
    pub fn rate(rate: f64) -> Self {
        let rate = if rate.is_nan() { 1.0 } else { rate.clamp(0.0, 1.0) };
        Self { rate, kinds: WebhookFault::ALL.to_vec() }
    }

    /// Restricts the schedule to these kinds.
    #[must_use]
    pub fn only(mut self, kinds: &[WebhookFault]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// The fault of event number `nth` (from 0) of a job.
    #[must_use]
    pub fn draw(&self, seed: Seed, job: &str, nth: u64) -> Option<WebhookFault> {
        let draw = seed.derive_bytes(b"webhook faults").derive_bytes(job.as_bytes()).derive(nth);
        let fits = |fault: &WebhookFault| nth == 0 || *fault != WebhookFault::Early;
        let kinds: Vec<WebhookFault> = self.kinds.iter().copied().filter(fits).collect();
        if kinds.is_empty() || share(draw) >= self.rate {
            return None;
        }
        kinds.get(draw.derive(1).between(0, kinds.len() as u64 - 1) as usize).copied()
    }
}

/// What became of a provider's webhooks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookCounts {
    /// True events that were answered with a 2xx in time.
    pub delivered: u64,
    /// Events that the receiver has not accepted: deliberately not sent, or given up after its answers.
    pub lost: u64,
    /// Second copies, sent on purpose.
    pub duplicated: u64,
    /// Events that were sent while their create's answer was held back.
    pub early: u64,
    /// False and replayed deliveries that were answered, whatever the answer.
    pub forged: u64,
    /// Deliveries that were answered with a 4xx, forged or true.
    pub refused: u64,
    /// Forged deliveries that were answered with a 2xx.
    pub believed: u64,
}

/// One webhook to be sent now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WebhookPost {
    /// The URL to post to.
    pub url: Uri,
    /// Its headers, without `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// Its JSON body.
    pub body: Bytes,
    /// How long the sender waits for the answer.
    pub within: Duration,
    pub(crate) ticket: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_every_kind_occurs_where_it_fits() {
        let drawn = |faults: &WebhookFaults, nth| -> Vec<_> {
            (0..2_000).map(|n| faults.draw(Seed::new(1), &format!("job-{n}"), nth)).collect()
        };
        assert!(drawn(&WebhookFaults::none(), 0).iter().all(Option::is_none));
        let half = WebhookFaults::rate(0.5);
        for nth in [0, 1] {
            let hit: Vec<_> = drawn(&half, nth).into_iter().flatten().collect();
            assert!((900..1_100).contains(&hit.len()), "{}", hit.len());
            for kind in WebhookFault::ALL {
                assert_eq!(hit.contains(&kind), nth == 0 || kind != WebhookFault::Early, "{kind:?}");
            }
        }
        assert!(drawn(&WebhookFaults::rate(1.0).only(&[WebhookFault::Early]), 1).iter().all(Option::is_none));
        assert!(drawn(&WebhookFaults::rate(f64::NAN), 0).iter().all(Option::is_some));
    }
}
