//! The list of invariants, and how each is checked: here, in every history, or elsewhere, and why there.

use std::fmt;

/// One invariant: `I1` to `I18` are the engine's own, `R1` to `R45` come from a survey of failures in other people's
/// clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Invariant {
    /// One of the engine's own.
    I(u8),
    /// One from the survey.
    R(u8),
    /// Nothing panics, whatever happens.
    Total,
}

impl Invariant {
    const COUNT: usize = 64;

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Total => 0,
            Self::I(n) => n as usize,
            Self::R(n) => 18 + n as usize,
        }
    }

    /// Every invariant, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Total).chain((1..=18).map(Self::I)).chain((1..=45).map(Self::R))
    }

    /// Its text.
    #[must_use]
    pub fn says(self) -> &'static str {
        TABLE[self.index()].0
    }

    /// Why no history can show it, and what does instead; `None` if histories check it.
    #[must_use]
    pub fn elsewhere(self) -> Option<&'static str> {
        TABLE[self.index()].1
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I(n) => write!(f, "I{n}"),
            Self::R(n) => write!(f, "R{n}"),
            Self::Total => f.write_str("total"),
        }
    }
}

const PROPERTIES: Option<&str> =
    Some("a law of one machine over its own events: core/tests/laws and core/tests/exhaustive");
const ADAPTER: Option<&str> = Some("there is no caller's future here: tests of the adapters");
const WEBHOOKS: Option<&str> = Some(
    "the work of a driver that takes webhooks in; here the simulator's own driver does it, and repeats reach the engine",
);
const STORE: Option<&str> =
    Some("a matter of the store's file, which is only modelled here: to be proved of each store");

/// The text of each, and where it is proved if not here.
const TABLE: [(&str, Option<&str>); Invariant::COUNT] = [
    ("nothing panics", None),
    ("every delay is within its cap, after jitter; every Retry-After is honoured or the operation stops", None),
    ("attempts stay within the limit; none starts after the deadline, but for what fell due while nobody looked", None),
    (
        "at most one create in flight per key, across restarts: what a dead process sent has its time before it is repeated",
        None,
    ),
    ("every create attempt has the same key and fingerprint", None),
    ("nothing is sent before its record is durable", None),
    ("against a provider that honours keys, what completes ran exactly once", None),
    ("against a provider that ignores keys, a job ran at most once, and doubt is never told as a safe failure", None),
    ("no permit leaks", None),
    ("an open breaker lets a probe through in bounded time", None),
    ("no window of the rate limiter admits more than its limit", None),
    ("time running backwards changes nothing", None),
    ("snapshot, restore, continue is the same as continue", None),
    ("the same seed gives the same effects", None),
    ("every submitted operation ends", None),
    ("memory is bounded by the limits", None),
    ("a webhook that fails verification changes nothing; a repeated one changes nothing twice", None),
    ("a cancel leaves the gate as if nothing had been admitted, or says that it may have run", None),
    ("each drain ends, and the next deadline is later than now", None),
    ("delays stay within their bounds", None),
    ("attempts started stay within the limit, across restarts", None),
    ("no attempt starts at or after the deadline, and no wait leads there", None),
    ("no wait is shorter than an accepted hint", None),
    ("jitter of two operations differs", PROPERTIES),
    ("a refusal is followed by no further attempt", None),
    ("the retry budget stays between nothing and its size", None),
    ("the retry budget's tokens are not held by who has ended", PROPERTIES),
    ("at most one request in flight per key in the process", None),
    ("every attempt carries the same key and body", None),
    ("no two operations share a key", None),
    ("a key with another payload is refused before anything is sent", None),
    ("no byte is sent before its record is durable", None),
    ("no outcome is told before it is durable", None),
    ("doubt is never told as a safe failure", None),
    ("nothing is sent again once the provider may have forgotten the key", None),
    ("doubt is never sent again to a provider that knows no keys", None),
    ("a late answer is taken in, once", None),
    ("contradicting final answers are told, and the first is kept", None),
    ("the breaker changes only as it may", None),
    ("a half-open breaker lets no more probes out than it may", None),
    ("half-open ends by itself", PROPERTIES),
    ("results of an earlier state of the breaker change nothing", PROPERTIES),
    ("the breaker's window is a recount of what happened in it", PROPERTIES),
    ("the limiter never admits more than burst and rate allow", None),
    ("the limiter's hint is exact", PROPERTIES),
    ("a cancelled reservation gives back what it took", PROPERTIES),
    ("a clock that jumps admits nothing extra", None),
    ("polls of one job never overlap, and stop after the end", None),
    ("a poll's error never becomes the job's failure", None),
    ("the end is absorbing; what is resumed is polled on, and nothing else of it changes", None),
    ("a webhook that comes before the create's answer is parked and matched", WEBHOOKS),
    ("a webhook's id is applied once", WEBHOOKS),
    ("a poll and a webhook with the same answer end it once", None),
    ("a restart from the journal goes on as without one", None),
    ("recovery may crash and begin again, and the same log gives the same engine", None),
    ("any prefix of the log opens", None),
    ("any flipped bit is found", STORE),
    ("the journal's size is bounded", STORE),
    ("a second opener is refused", STORE),
    ("memory per operation is bounded", None),
    ("nothing of a key, a reference or a payload is in what is printed", None),
    ("a dropped future loses nothing", ADAPTER),
    ("every operation ends once, with one outcome", None),
    ("the same seed gives the same log of effects", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invariant_has_its_line() {
        assert_eq!(
            Invariant::all().map(Invariant::index).collect::<Vec<_>>(),
            (0..Invariant::COUNT).collect::<Vec<_>>()
        );
        assert_eq!(Invariant::I(18).says(), "each drain ends, and the next deadline is later than now");
        assert_eq!(Invariant::R(45).to_string(), "R45");
        assert!(Invariant::R(24).says().contains("recount"));
    }
}
