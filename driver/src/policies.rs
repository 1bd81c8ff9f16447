//! A client's policies from a file: how jobs are retried and polled, what holds requests back, and what bounds memory.
//!
//! A file replaces the tables that it names (`policy.create`, `policy.poll`, `gate.breaker` and so on), each as a whole:
//! the other tables stay as the provider has them, so a file that slows polls down drops no rate limit and no key
//! window, but what a named table leaves out has its default value, not the provider's. [`Builder::policies`](crate::Builder::policies) takes it.
//!
//! ```
//! use std::time::Duration;
//! use steadfast_driver::Policies;
//!
//! let policies = Policies::from_toml(r#"
//!     [policy.create]
//!     attempts = 3
//!     deadline = "1m30s"
//!     backoff = { growth = { exponential = { first = "500ms", factor = 2 } }, cap = "5s", jitter = "equal" }
//!
//!     [gate]
//!     breaker = "none"
//! "#)?;
//! assert_eq!(policies.policy.create.as_ref().unwrap().attempts(), 3);
//! assert_eq!(policies.gate.breaker, Some(None));
//! assert_eq!(policies.gate.budget, None); // not named, so the provider's own
//!
//! let wrong = Policies::from_toml("[policy.create]\nbackoff = { growth = { fixed = \"9s\" }, cap = \"3s\" }").unwrap_err();
//! assert_eq!(
//!     wrong.to_string(),
//!     "line 2, policy.create.backoff.cap: is 3s: it must be at least the first delay, 9s"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The file
//!
//! All of it may be left out. Fields that are not listed are refused. *Duration* is a text such as `"1m30s"`; a
//! *backoff* is `{ growth, cap, jitter }`: growth `{ fixed = "1s" }`, `{ linear = { first, step } }`, `{ exponential =
//! { first, factor } }`, `{ fibonacci = { first } }` or `{ table = ["1s", "5s"] }`; cap a duration; jitter `"none"`,
//! `"full"` (the default), `"equal"`, `{ proportional = { percent = 10 } }` or `"decorrelated"`.
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `policy.safety` | word or table | the provider's | [`SendSafety`]: `"unsafe"`, `"idempotent"`, `{ keyed = { window = "24h" } }`, `{ lookup = { settle = "60s" } }` |
//! | `policy.create`, `.lookup` | table | the provider's | [`RetryPolicy`], below |
//! | `policy.poll` | table | the provider's | [`PollPolicy`]: `schedule` (a backoff: 3 s doubling to 30 s), `polls` (10), `deadline` (180 s), `retry` (a retry policy), `not_found_grace` (0 s), `accept_partial` (`false`) |
//! | `policy.persist` | backoff | the provider's | pauses before a record that could not be written is tried again |
//! | `gate.breaker` | table or `"none"` | the provider's | [`BreakerPolicy`]: `trip` (80 percent of 50 calls, of at least 20), `slow_calls` (none), `open` (a backoff: 5 s doubling to 60 s), `probes` (`at_once` 1, `successes` 2, `failures` 2, `lease` 30 s) |
//! | `gate.when_open` | word | the provider's | `"wait"` or `"refuse"` |
//! | `gate.budget` | table or `"none"` | the provider's | [`BudgetPolicy`]: `capacity` (needed), `initial` (the capacity), `keep` (0), `costs` (1 each: `transient`, `throttled`, `timed_out`), `per_request`, `per_success`, `per_second` (0), `refunds` (`false`) |
//! | `gate.bulkhead` | table or `"none"` | the provider's | [`BulkheadPolicy`]: `initial` (needed), `least`, `most` (as `initial`), `percent` (50) |
//! | `gate.rate_limits` | list | the provider's | [`RateLimit`]: `rate = { count, per, burst (1) }`, `kinds` (all) |
//! | `gate.longest_pause` | duration | the provider's | how long a 429's `Retry-After` holds the gate at most |
//! | `limits` | table | as each says | [`ClientLimits`]: `live` (10,000; at least 1), `remember` (100,000), `remember_for` (24 h), `notices` (4,096), `body_bytes` (4 MiB; at least 1,000), `results_bytes` (64 MiB) |
//! | `webhooks` | table | as each says | [`WebhookPolicy`]: `body_limit`, `unknown` (`"accept"`, `"repeat_if_early"`, `"repeat"`), `answer_within`, `inbox`, `inbox_bytes`, `inbox_for`, `remember`, `remember_for` |
//!
//! A retry policy is `attempts` (5, the first included), `deadline` (120 s; no attempt starts later), `attempt_timeout`
//! (10 s), `backoff` (1 s doubling to 20 s), `retry_after` (`{ floor = { ceiling = "1h" } }`; also `exact`, and
//! `clamped` with `extra`) and `identical` (3).
//!
//! Personal data and secrets do not belong in the file, and neither do the settings that decide about them: the
//! program itself says whether payloads are kept, how they are sealed, and which store with which durability is used.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::{GatePolicy, RateLimit, WhenOpen};
use steadfast_core::policy::humane::Humane;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{OperationPolicy, PolicyError, SendSafety};
use steadfast_providers::document::{Document, DocumentError, Format};

use crate::webhook::{WebhookPolicy, body};

/// A client's policies, as far as a file names them. See the [module](self) for the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct Policies {
    /// How jobs are retried and polled.
    #[serde(skip_serializing_if = "is_default")]
    pub policy: OperationPolicies,
    /// What holds requests back.
    #[serde(skip_serializing_if = "is_default")]
    pub gate: GatePolicies,
    /// What bounds memory. `None`: the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ClientLimits>,
    /// How webhooks are taken in. `None`: the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<WebhookPolicy>,
}

/// The parts of an [`OperationPolicy`]; `None` stands for the provider's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct OperationPolicies {
    /// What a create may do when an earlier one's fate is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety: Option<SendSafety>,
    /// How creates are tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<RetryPolicy>,
    /// How look-ups are tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<RetryPolicy>,
    /// How jobs are polled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<PollPolicy>,
    /// The pauses between tries to write a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persist: Option<BackoffPolicy>,
}

/// The parts of a [`GatePolicy`]; `None` stands for the provider's own, and `Some(None)` switches the machine off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct GatePolicies {
    /// The breaker.
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Option<BreakerPolicy>>,
    /// What happens while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_open: Option<WhenOpen>,
    /// The retry budget.
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    pub budget: Option<Option<BudgetPolicy>>,
    /// The bulkhead.
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<Option<BulkheadPolicy>>,
    /// All rate limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limits: Option<Vec<RateLimit>>,
    /// The longest pause that a provider can ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_pause: Option<Humane>,
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
    /// The engine's part.
    #[must_use]
    pub const fn engine(&self) -> Limits {
        let Self { live, remember, remember_for, notices, .. } = *self;
        Limits { live, remember, remember_for, notices }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        let Limits { live, remember, remember_for, notices } = Limits::default();
        Self { live, remember, remember_for, notices, body_bytes: 4 << 20, results_bytes: 64 << 20 }
    }
}

impl Policies {
    /// Reads TOML.
    ///
    /// # Errors
    /// The first mistake in it, by line and field, and what would be right.
    pub fn from_toml(text: &str) -> Result<Self, DocumentError> {
        Self::read_from(&Document::parse(text, Format::Toml)?)
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml).
    pub fn from_json(text: &str) -> Result<Self, DocumentError> {
        Self::read_from(&Document::parse(text, Format::Json)?)
    }

    /// Reads YAML. Needs the feature `yaml`.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml); also what YAML's readers do not agree about
    /// ([`document`](steadfast_providers::document)).
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str) -> Result<Self, DocumentError> {
        Self::read_from(&Document::parse(text, Format::Yaml)?)
    }

    /// Reads a document. [`Format::of`] tells a file's format by its name.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml).
    pub fn read_from(document: &Document) -> Result<Self, DocumentError> {
        document.read()
    }
}

impl OperationPolicies {
    /// The provider's own policy, changed by what is named here.
    ///
    /// # Errors
    /// The two do not fit together: a create's time-out that is not shorter than the provider's key window.
    pub fn over(&self, own: OperationPolicy) -> Result<OperationPolicy, PolicyError> {
        let safety = self.safety.unwrap_or_else(|| own.safety());
        // Each is checked with the others: in the end, and not before.
        let mut policy = own.with_safety(SendSafety::Unsafe)?;
        if let Some(create) = &self.create {
            policy = policy.with_create(create.clone())?;
        }
        if let Some(lookup) = &self.lookup {
            policy = policy.with_lookup(lookup.clone());
        }
        if let Some(poll) = &self.poll {
            policy = policy.with_poll(poll.clone());
        }
        if let Some(persist) = &self.persist {
            policy = policy.with_persist(persist.clone())?;
        }
        policy.with_safety(safety)
    }
}

impl GatePolicies {
    /// The provider's own gate, changed by what is named here.
    #[must_use]
    pub fn over(&self, own: &GatePolicy) -> GatePolicy {
        let gate = GatePolicy::none()
            .with_breaker(self.breaker.clone().unwrap_or_else(|| own.breaker().cloned()))
            .with_budget(self.budget.clone().unwrap_or_else(|| own.budget().cloned()))
            .with_bulkhead(self.bulkhead.clone().unwrap_or_else(|| own.bulkhead().cloned()))
            .with_when_open(self.when_open.unwrap_or_else(|| own.when_open()))
            .with_longest_pause(self.longest_pause.map_or_else(|| own.longest_pause(), |Humane(pause)| pause));
        let limits = self.rate_limits.as_deref().unwrap_or_else(|| own.rate_limits());
        limits.iter().fold(gate, |gate, limit| gate.with_rate_limit(*limit))
    }
}

fn live<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(D::Error::custom("live is 0: it must be at least 1")),
        live => Ok(live),
    }
}

fn is_default<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

/// The parts as written in a file, before they have been checked together.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unchecked {
    safety: Option<SendSafety>,
    create: Option<RetryPolicy>,
    lookup: Option<RetryPolicy>,
    poll: Option<PollPolicy>,
    persist: Option<BackoffPolicy>,
}

impl TryFrom<Unchecked> for OperationPolicies {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        let Unchecked { safety, create, lookup, poll, persist } = it;
        let parts = Self { safety, create, lookup, poll, persist };
        parts.over(OperationPolicy::default())?;
        Ok(parts)
    }
}

/// A setting that was named, possibly as `"none"`.
mod given {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use steadfast_core::policy::or_none;

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        given: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        or_none::serialize(given.as_ref().unwrap_or(&None), serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        or_none::deserialize(deserializer).map(Some)
    }
}
