//! The fake's faults, and when they happen.
//!
//! Each request's fault is drawn from the seed, from the key or job that it is about, and from how many of its kind
//! came before. So a schedule does not depend on how requests interleave: a failing seed can be run again. Only refused
//! connections are drawn by the connection's number, since a connection does not yet say what it is about.

use steadfast_core::{Kind, Seed};

/// One thing that goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The port refuses connections for a moment. If [scripted](Faults::on), this one request finds no connection; over
    /// sockets, where the connection exists by then, it is reset as for [`ResetBefore`](Self::ResetBefore).
    Refuse,
    /// The connection is reset before the request is looked at: nothing runs.
    ResetBefore,
    /// The request is carried out, then the connection is reset: the answer is lost.
    LoseAnswer,
    /// The request is carried out, and its answer comes after the client has stopped waiting.
    Late,
    /// A 500, 502, 503 or 504 without carrying the request out.
    ErrorBefore(u16),
    /// The same after carrying it out.
    ErrorAfter(u16),
    /// A 429 with `Retry-After` in seconds. Nothing runs.
    Throttle,
    /// A 429 with `Retry-After` as a date. Nothing runs.
    ThrottleUntil,
    /// The request is carried out, and its JSON is cut in half.
    Truncate,
    /// The request is carried out, and answered with status 200 and an HTML page.
    Html,
    /// The request is carried out, and its answer declares more bytes than it has.
    WrongLength,
}

impl Fault {
    /// Every kind; for the errors, with a 500.
    pub const ALL: [Self; 11] = [
        Self::Refuse,
        Self::ResetBefore,
        Self::LoseAnswer,
        Self::Late,
        Self::ErrorBefore(500),
        Self::ErrorAfter(500),
        Self::Throttle,
        Self::ThrottleUntil,
        Self::Truncate,
        Self::Html,
        Self::WrongLength,
    ];

    /// A name for tables: `lose_answer`, `error_after`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::ResetBefore => "reset_before",
            Self::LoseAnswer => "lose_answer",
            Self::Late => "late",
            Self::ErrorBefore(_) => "error_before",
            Self::ErrorAfter(_) => "error_after",
            Self::Throttle => "throttle",
            Self::ThrottleUntil => "throttle_until",
            Self::Truncate => "truncate",
            Self::Html => "html",
            Self::WrongLength => "wrong_length",
        }
    }

    /// Whether the request is carried out all the same.
    #[must_use]
    pub const fn executes(self) -> bool {
        match self {
            Self::Refuse | Self::ResetBefore | Self::ErrorBefore(_) | Self::Throttle | Self::ThrottleUntil => false,
            Self::LoseAnswer | Self::Late | Self::ErrorAfter(_) | Self::Truncate | Self::Html | Self::WrongLength => {
                true
            }
        }
    }
}

/// A schedule of faults.
///
/// ```
/// use steadfast_core::Kind;
/// use steadfast_testkit::{Fault, Faults};
///
/// let never = Faults::none();
/// let often = Faults::rate(0.5);
/// let only_lost = Faults::rate(0.5).only(&[Fault::LoseAnswer]);
/// // The first create of each key loses its answer, and nothing else goes wrong.
/// let scripted = Faults::none().on(Kind::Create, 1, Fault::LoseAnswer);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    rate: f64,
    kinds: Vec<Fault>,
    script: Vec<(Kind, u32, Fault)>,
}

impl Faults {
    /// A schedule without faults.
    #[must_use]
    pub fn none() -> Self {
        Self::rate(0.0)
    }

    /// This share of all requests meets a fault, every kind equally often. Below 0 counts as 0, above 1 and NaN as 1.
    #[must_use]
    pub fn rate(rate: f64) -> Self {
        let rate = if rate.is_nan() { 1.0 } else { rate.clamp(0.0, 1.0) };
        Self { rate, kinds: Fault::ALL.to_vec(), script: Vec::new() }
    }

    /// Restricts the schedule to these kinds.
    #[must_use]
    pub fn only(mut self, kinds: &[Fault]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// Adds this fault for request number `nth` (from 1) of this kind, for each key or job.
    #[must_use]
    pub fn on(mut self, kind: Kind, nth: u32, fault: Fault) -> Self {
        self.script.push((kind, nth, fault));
        self
    }

    /// The fault of request number `nth` (from 1) of this kind about `whom`.
    #[must_use]
    pub fn draw(&self, seed: Seed, whom: &str, kind: Kind, nth: u32) -> Option<Fault> {
        if let Some((.., fault)) = self.script.iter().find(|(on, at, _)| *on == kind && *at == nth) {
            return Some(*fault);
        }
        let draw = seed.derive_bytes(whom.as_bytes()).derive(kind as u64).derive(u64::from(nth));
        self.pick(draw, |fault| fault != Fault::Refuse)
    }

    /// Whether the port refuses connections for a moment after connection number `nth`.
    #[must_use]
    pub fn refuses(&self, seed: Seed, nth: u64) -> bool {
        let draw = seed.derive_bytes(b"connections").derive(nth);
        // One kind of many: its share of the rate is the same as the others'.
        self.kinds.contains(&Fault::Refuse) && share(draw) < self.rate / self.kinds.len() as f64
    }

    fn pick(&self, draw: Seed, fits: impl Fn(Fault) -> bool) -> Option<Fault> {
        let kinds: Vec<Fault> = self.kinds.iter().copied().filter(|fault| fits(*fault)).collect();
        if kinds.is_empty() || share(draw) >= self.rate {
            return None;
        }
        let at = draw.derive(1).between(0, kinds.len() as u64 - 1);
        let code = || [500, 502, 503, 504][draw.derive(2).between(0, 3) as usize];
        Some(match kinds[at as usize] {
            Fault::ErrorBefore(500) => Fault::ErrorBefore(code()),
            Fault::ErrorAfter(500) => Fault::ErrorAfter(code()),
            fault => fault,
        })
    }
}

/// A number from 0 up to, but not including, 1.
pub(crate) fn share(draw: Seed) -> f64 {
    draw.derive(0).between(0, (1 << 53) - 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(faults: &Faults) -> Vec<Option<Fault>> {
        (0..2_000).map(|n| faults.draw(Seed::new(1), &format!("key-{n}"), Kind::Create, 1)).collect()
    }

    #[test]
    fn a_rate_is_kept_and_every_kind_occurs() {
        assert!(drawn(&Faults::none()).iter().all(Option::is_none));
        assert!(drawn(&Faults::rate(1.0)).iter().all(Option::is_some));
        let half = drawn(&Faults::rate(0.5));
        let hit: Vec<Fault> = half.iter().copied().flatten().collect();
        assert!((900..1_100).contains(&hit.len()), "{}", hit.len());
        for kind in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Refuse) {
            assert!(hit.iter().any(|fault| fault.name() == kind.name()), "{kind:?}");
        }
    }

    #[test]
    fn a_schedule_does_not_depend_on_the_order_of_requests() {
        let faults = Faults::rate(0.5);
        let forward = drawn(&faults);
        let backward: Vec<_> =
            (0..2_000).rev().map(|n| faults.draw(Seed::new(1), &format!("key-{n}"), Kind::Create, 1)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        let other_seed: Vec<_> =
            (0..2_000).map(|n| faults.draw(Seed::new(2), &format!("key-{n}"), Kind::Create, 1)).collect();
        assert_ne!(forward, other_seed);
    }

    #[test]
    fn a_script_says_which_request_fails() {
        let faults = Faults::none().on(Kind::Create, 2, Fault::Html);
        let nth = |n| faults.draw(Seed::new(1), "key", Kind::Create, n);
        assert_eq!([nth(1), nth(2), nth(3)], [None, Some(Fault::Html), None]);
    }

    #[test]
    fn nonsense_rates_are_bounded() {
        assert!(drawn(&Faults::rate(-1.0)).iter().all(Option::is_none));
        assert!(drawn(&Faults::rate(f64::NAN)).iter().all(Option::is_some));
    }
}
