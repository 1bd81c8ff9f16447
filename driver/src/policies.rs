//! A client's policies from a file: how jobs are retried and polled, what holds requests back, and what bounds memory.
//!
//! A file says what it changes, down to a single field: all that it does not name stays as the provider has it. So a
//! file that slows polls down drops no deadline, no rate limit and no key window. Some fields are one thing: a list,
//! and what has become another kind of thing (a `growth` that was exponential and is now fixed).
//! [`Builder::policies`](crate::Builder::policies) takes the file. [`Policies`] are the result, to be looked at.
//!
//! ```
//! use std::time::Duration;
//! use steadfast_driver::Policies;
//! use steadfast_providers::document::{Document, Format};
//! # use steadfast_providers::BaseUrl;
//! # use steadfast_providers::didit::Didit;
//!
//! # let provider = Didit::new(BaseUrl::parse(Didit::PRODUCTION)?, "YOUR_API_KEY")?;
//! let own = Policies::of(&provider);
//! let file = Document::parse(r#"
//!     [policy.create]
//!     attempts = 3
//!     deadline = "1m30s"
//!     backoff = { cap = "5s" }
//!
//!     [gate]
//!     breaker = "none"
//! "#, Format::Toml)?;
//! let policies = own.changed_by(&file)?;
//! assert_eq!(policies.policy.create().attempts(), 3);
//! assert_eq!(policies.policy.create().backoff().growth(), own.policy.create().backoff().growth());
//! assert_eq!(policies.gate.breaker(), None);
//! assert_eq!(policies.gate.rate_limits(), own.gate.rate_limits()); // not named, so the provider's own
//!
//! let wrong = Document::parse("[policy.create]\nbackoff = { growth = { fixed = \"9s\" }, cap = \"3s\" }", Format::Toml)?;
//! assert_eq!(
//!     own.changed_by(&wrong).unwrap_err().to_string(),
//!     "line 2, policy.create.backoff.cap: is 3s: it must be at least the first delay, 9s"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The file
//!
//! All of it may be left out. Fields that are not listed are refused. *Default* is what a provider has that sets nothing
//! itself; Steadfast's providers and profiles set most of it. *Duration* is a text such as `"1m30s"`; a
//! *backoff* is `{ growth, cap, jitter }`: growth `{ fixed = "1s" }`, `{ linear = { first, step } }`, `{ exponential =
//! { first, factor } }`, `{ fibonacci = { first } }` or `{ table = ["1s", "5s"] }`; cap a duration; jitter `"none"`,
//! `"full"`, `"equal"`, `{ proportional = { percent = 10 } }` or `"decorrelated"`.
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `policy.safety` | word or table | `"unsafe"` | [`SendSafety`](steadfast_core::SendSafety): `"unsafe"`, `"idempotent"`, `{ keyed = { window = "24h" } }`, `{ lookup = { settle = "60s" } }` |
//! | `policy.create`, `.lookup` | table | as each field says | [`RetryPolicy`](steadfast_core::retry::RetryPolicy), below |
//! | `policy.poll` | table | as each field says | [`PollPolicy`](steadfast_core::poll::PollPolicy): `schedule` (a backoff: 3 s doubling to 30 s), `polls` (10), `deadline` (180 s), `retry` (a retry policy), `not_found_grace` (0 s), `accept_partial` (`false`) |
//! | `policy.persist` | backoff | 100 ms doubling to 10 s | pauses before a record that could not be written is tried again |
//! | `gate.breaker` | table or `"none"` | as each field says | [`BreakerPolicy`](steadfast_core::breaker::BreakerPolicy): `trip` (80 percent of 50 calls, of at least 20), `slow_calls` (none), `open` (a backoff: 5 s doubling to 60 s), `probes` (`at_once` 1, `successes` 2, `failures` 2, `lease` 30 s) |
//! | `gate.when_open` | word | `"wait"` | `"wait"` or `"refuse"` |
//! | `gate.budget` | table or `"none"` | [its own](steadfast_core::budget::BudgetPolicy::default) | [`BudgetPolicy`](steadfast_core::budget::BudgetPolicy): `capacity`, `initial` (the capacity), `keep`, `costs` (1 each: `transient`, `throttled`, `timed_out`), `per_request`, `per_success`, `per_second`, `refunds`; over `"none"` the capacity is needed, and all else is 0 or `false` |
//! | `gate.bulkhead` | table or `"none"` | 100, fixed | [`BulkheadPolicy`](steadfast_core::bulkhead::BulkheadPolicy): `initial` (needed over `"none"`), `least`, `most` (as `initial`), `percent` (50) |
//! | `gate.rate_limits` | list | none | [`RateLimit`](steadfast_core::gate::RateLimit): `rate = { count, per, burst (1) }`, `kinds` (all) |
//! | `gate.longest_pause` | duration | 1 h | how long a 429's `Retry-After` holds the gate at most |
//! | `gate.replicas` | number | 1 | [how many processes](steadfast_core::gate::GatePolicy::with_replicas) share the rate limits: each keeps to its part |
//! | `limits` | table | as each field says | [`ClientLimits`]: `live` (10,000; at least 1), `remember` (100,000), `remember_for` (24 h), `notices` (4,096), `body_bytes` (4 MiB; at least 1,000), `results_bytes` (64 MiB) |
//! | `webhooks` | table | as each field says | [`WebhookPolicy`]: `body_limit`, `unknown` (`"accept"`, `"repeat_if_early"`, `"repeat"`), `answer_within`, `inbox`, `inbox_bytes`, `inbox_for`, `remember`, `remember_for` |
//!
//! A retry policy is `attempts` (5, the first included), `deadline` (120 s; no attempt starts later), `attempt_timeout`
//! (10 s), `backoff` (1 s doubling to 20 s), `retry_after` (`{ floor = { ceiling = "1h" } }`; also `exact`, and
//! `clamped` with `extra`) and `identical` (3).
//!
//! Personal data and secrets do not belong in the file, and neither do the settings that decide about them: the
//! program itself says whether payloads are kept, how they are sealed, and which store with which durability is used.

use std::time::Duration;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use steadfast_core::OperationPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_providers::Provider;
use steadfast_providers::document::{Document, DocumentError};

use crate::webhook::{WebhookPolicy, body};

/// A client's policies: the provider's own, or what a file makes of them. See the [module](self) for the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct Policies {
    /// How jobs are retried and polled.
    pub policy: OperationPolicy,
    /// What holds requests back.
    pub gate: GatePolicy,
    /// What bounds memory.
    pub limits: ClientLimits,
    /// How webhooks are taken in.
    pub webhooks: WebhookPolicy,
}

impl Policies {
    /// Those of a client of this provider to which nothing else is said.
    #[must_use]
    pub fn of(provider: &(impl Provider + ?Sized)) -> Self {
        Self { policy: provider.policy(), gate: provider.gate(), ..Self::default() }
    }

    /// These, changed by what the file names.
    ///
    /// # Errors
    /// The first mistake in it, by line and field, and what would be right.
    pub fn changed_by(&self, file: &Document) -> Result<Self, DocumentError> {
        file.read_over(&Written(self))
    }
}

/// Policies as a file says them that leaves out what follows: a file that changes the size of a fixed bulkhead, or of a
/// budget that is full at first, need not name the numbers that go with it.
struct Written<'p>(&'p Policies);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut policies = serde_json::to_value(self.0).map_err(S::Error::custom)?;
        for (machine, number, follow) in
            [("/gate/bulkhead", "initial", &["least", "most"][..]), ("/gate/budget", "capacity", &["initial"])]
        {
            let Some(Value::Object(machine)) = policies.pointer_mut(machine) else { continue };
            if follow.iter().all(|field| machine.get(*field) == machine.get(number)) {
                machine.retain(|field, _| !follow.contains(&&**field));
            }
        }
        policies.serialize(serializer)
    }
}

/// What bounds a client's memory: the engine's [`Limits`], and bytes of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct ClientLimits {
    /// [`Limits::live`]. From a file at least 1: with 0 no client [starts](crate::StartError::NoRoom).
    #[serde(deserialize_with = "live")]
    pub live: u32,
    /// [`Limits::remember`].
    pub remember: u32,
    /// [`Limits::remember_for`].
    #[serde(with = "steadfast_core::policy::humane")]
    pub remember_for: Duration,
    /// [`Limits::notices`].
    pub notices: u32,
    /// [`Builder::body_limit`](crate::Builder::body_limit). Default 4 MiB; at least 1,000.
    #[serde(deserialize_with = "body")]
    pub body_bytes: usize,
    /// [`Builder::results_limit`](crate::Builder::results_limit). Default 64 MiB.
    pub results_bytes: usize,
}

impl ClientLimits {
    pub(crate) const fn new(limits: Limits, body_bytes: usize, results_bytes: usize) -> Self {
        let Limits { live, remember, remember_for, notices } = limits;
        Self { live, remember, remember_for, notices, body_bytes, results_bytes }
    }

    /// The engine's part.
    #[must_use]
    pub const fn engine(&self) -> Limits {
        let Self { live, remember, remember_for, notices, .. } = *self;
        Limits { live, remember, remember_for, notices }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self::new(Limits::default(), 4 << 20, 64 << 20)
    }
}

fn live<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(D::Error::custom("live is 0: it must be at least 1")),
        live => Ok(live),
    }
}
