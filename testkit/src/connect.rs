//! The client that fits a [`FakeDeepvue`](crate::FakeDeepvue): it knows what the fake does with keys, and how much
//! faster than life it runs.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use steadfast_core::engine::Limits;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Key, KeyError, Seed, SendSafety};
use steadfast_driver::Builder;
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_store::SqliteStore;
use steadfast_tokio::{Client, Observation, ReqwestTransport};

use crate::{Keys, WithLookup, scaled, scaled_gate};

/// The settings of a client for a fake provider, and its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct Connect {
    /// Where the provider is.
    pub base_url: String,
    /// What the provider does with a key that it has seen before.
    pub keys: Keys,
    /// How many times faster than life the provider is; the policy's delays and the gate's spans are divided by this.
    pub speed: f64,
    /// The seed of all jitter.
    pub seed: u64,
    /// How many jobs may be under way.
    pub live: u32,
    /// The journal's file, which keeps payloads and answers as well. Without one, a crash forgets everything.
    pub journal: Option<PathBuf>,
}

/// The job of this number: its key, and a payload that the fake accepts.
///
/// # Errors
/// None in practice: a key may hold any number.
pub fn job(seed: u64, number: u64) -> Result<(Key, String), KeyError> {
    let payload = format!(r#"{{"dl_number":"DL{number:010}","dob":"1990-01-01","consent":"Y","reason":"KYC"}}"#);
    Ok((Key::new(format!("order-{seed}-{number}"))?, payload))
}

const DAY: Duration = Duration::from_secs(86_400);

impl Connect {
    /// Starts the client on tokio.
    ///
    /// # Errors
    /// The journal cannot be opened, the base URL is not valid, or the speed is too high to divide the provider's
    /// policy by.
    pub async fn start(
        self,
        observer: impl Fn(&Observation) + Send + Sync + 'static,
    ) -> Result<Client, Box<dyn Error + Send + Sync>> {
        Ok(self.describe::<_, Client>(ReqwestTransport::new()?, observer)?.start().await?)
    }

    /// Makes the builder of the client for any adapter. Blocks while the journal is opened.
    ///
    /// # Errors
    /// As [`start`](Connect::start).
    pub fn describe<T, C>(
        self,
        transport: T,
        observer: impl Fn(&Observation) + Send + Sync + 'static,
    ) -> Result<Builder<WithLookup<Deepvue>, T, C>, Box<dyn Error + Send + Sync>> {
        let credentials = Credentials::new("demo-token", "demo-secret")?;
        let deepvue = Deepvue::new(BaseUrl::parse(&self.base_url)?, "driving-license", credentials)?;
        let safety = match self.keys {
            Keys::Honoured => SendSafety::Keyed { window: DAY },
            // The machine does not get faster with the speed: a request that it has not handled yet would look as if it
            // never ran.
            Keys::Lookup => SendSafety::Lookup {
                settle: Duration::from_secs(20).max(Duration::from_millis(400).mul_f64(self.speed)),
            },
            Keys::Ignored => SendSafety::Unsafe,
        };
        let policy = scaled(&deepvue.policy().with_safety(safety)?, self.speed)?;
        // The limits of Deepvue's largest plan. With a burst, since a sped-up client is woken too rarely to keep a
        // spacing of a millisecond.
        let rate = RatePolicy::new(1_000, Duration::from_secs(60))?.with_burst(17)?;
        let gate = GatePolicy::default().with_rate_limit(RateLimit { kinds: Kinds::ALL, rate });
        // The policy decides whether look-ups are used.
        let mut builder = Builder::new(WithLookup::new(deepvue, Duration::ZERO), transport)
            .policy(policy)
            .gate(scaled_gate(&gate, self.speed)?)
            .limits(Limits { live: self.live, ..Limits::default() })
            .seed(Seed::new(self.seed))
            .observer(observer);
        if let Some(journal) = self.journal {
            builder = builder.store(SqliteStore::open(journal)?).keep_payloads().keep_answers();
        }
        Ok(builder)
    }
}
