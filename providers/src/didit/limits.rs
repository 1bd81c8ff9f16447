//! Didit's rate limits (docs.didit.me/integration/rate-limiting): per API key, each scope in a sliding window of its
//! own of 60 seconds.

use core::time::Duration;

use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Kind, PolicyError};

/// How many requests Didit accepts from one API key in any 60 seconds.
///
/// A create counts in two scopes: as a session create and as a write. Didit answers 429 as soon as either is used up.
///
/// They are settings, not constants: Didit's own pages differ (an older one allows 300 reads), and an account may have
/// others. They are the whole key's: where several processes share it, say how many by
/// [`GatePolicy::with_replicas`], or `gate.replicas` in a policy file.
///
/// ```
/// use steadfast_providers::BaseUrl;
/// use steadfast_providers::didit::{Didit, Limits};
///
/// let older = Limits { reads: 300, ..Limits::default() };
/// let didit = Didit::new(BaseUrl::parse(Didit::PRODUCTION)?, "YOUR_API_KEY")?.with_limits(older)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct Limits {
    /// Session creates. Default 600.
    pub creates: u32,
    /// Writes of all sorts. Default 300.
    pub writes: u32,
    /// Polls and look-ups: the generic GET limit, since v3's decision has none of its own. Default 600.
    pub reads: u32,
}

impl Default for Limits {
    /// The newest copy of the page: 600, 300, 600.
    fn default() -> Self {
        Self { creates: 600, writes: 300, reads: 600 }
    }
}

impl Limits {
    /// A gate that enforces these limits.
    pub(super) fn gate(self) -> Result<GatePolicy, PolicyError> {
        let (create, read) = (Kinds::of(&[Kind::Create]), Kinds::of(&[Kind::Lookup, Kind::Poll]));
        [(create, self.creates), (create, self.writes), (read, self.reads)]
            .into_iter()
            .try_fold(GatePolicy::default(), |gate, (kinds, count)| {
                Ok(gate.with_rate_limit(RateLimit { kinds, rate: in_a_minute(count)? }))
            })
    }

    /// The same for a client that only writes, under a key of whose other uses nothing is known.
    pub(super) fn writing(self) -> Result<GatePolicy, PolicyError> {
        let rate = in_a_minute(self.writes)?;
        Ok(GatePolicy::default().with_rate_limit(RateLimit { kinds: Kinds::of(&[Kind::Create]), rate }))
    }
}

/// At most `count` in any 60 seconds, a tenth of them at once after a quiet time.
fn in_a_minute(count: u32) -> Result<RatePolicy, PolicyError> {
    let burst = (count / 10).max(1);
    RatePolicy::new(count.saturating_sub(burst - 1), Duration::from_secs(60))?.with_burst(burst)
}
