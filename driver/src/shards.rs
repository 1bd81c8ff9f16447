//! One client on several cores: each key belongs to one of several drivers, its *shard*.
//!
//! What is one job's alone (its state, its payload, its requests, who waits for it) is in its shard, and nobody else
//! touches it. What is the client's as a whole is there once: the gate, the credentials' renewal and the inbox for
//! webhooks (`driver/shared.rs`), and the store ([`CombinedStore`]). What bounds memory is divided.
//!
//! Which shard a key belongs to is drawn anew at each start: what the store had is dealt out then, so the number may be
//! another one each time.
//!
//! On one thread and a paused clock a run is the same each time, as with one shard. With a store, which is worked on by
//! threads, one thing is not: which of two shards' commits ends first.

use std::sync::Arc;

use steadfast_core::engine::Limits;
use steadfast_core::{Key, Seed};
use steadfast_providers::WebhookEvent;
use steadfast_store::CombinedStore;

use crate::builder::{Builder, Loaded, Settings, StartError};
use crate::driver::{Common, Shard};
use crate::webhook::WebhookPolicy;

/// The most shards of one client.
const MOST: usize = 64;

/// An adapter's client that can be carried by several drivers. Of any other, the setting is not there:
///
/// ```compile_fail
/// # fn f<P: steadfast_providers::Provider>(builder: steadfast_driver::Builder<P, (), ()>) {
/// let builder = builder.shards(2); // `()` is not `Sharded`
/// # }
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is carried by one driver: it has no shards")]
pub trait Sharded {}

impl<P, T, C: Sharded> Builder<P, T, C> {
    /// Carries the jobs by this many drivers, each a task of its own, so that they run on as many cores: for a client
    /// that one core cannot carry. 1 to 64. Default 1, without any of the costs below: one core carries tens of
    /// thousands of jobs a second, which is more than nearly every provider takes.
    ///
    /// Each key belongs to one shard, so it is still run once; which one is drawn anew at each start, so the number may
    /// change from one to the next.
    ///
    /// *Shared*, and so as with one: the gate (breaker, retry budget, bulkhead, rate limits, pauses, quotas, holds),
    /// the renewal of credentials, the inbox for early webhooks, and the store, in which what shards write at the same
    /// time goes to disk together. A provider that is down or throttles meets one client: what its answers teach one
    /// shard holds all of them from that moment, no more requests are in the air than the one bulkhead allows, and the
    /// one breaker has its probes once. A bulkhead of 2 among 4 shards is 2.
    ///
    /// *Divided*: [`Limits::live`] (a submit waits while its own shard is full, though others may have room),
    /// [`Limits::remember`], [`Limits::notices`], [`results_limit`](Builder::results_limit) and
    /// [`WebhookPolicy::remember`](crate::WebhookPolicy::remember).
    ///
    /// What it costs: a lock around each step of an engine, and one commit or a word between tasks where shards meet: a
    /// webhook that does not name its job by the caller's key asks all of them. Hooks ([`observer`](Builder::observer),
    /// [`unclaimed`](Builder::unclaimed)) are called by several tasks at a time. So n shards do not carry n times as
    /// many: measure it with your own store and requests. Where both cost next to nothing, two on two cores carried a
    /// tenth more jobs than one, for a quarter more of the processors' time (`benches`, section `tokio`). On one thread
    /// it is slower than one shard.
    ///
    /// ```
    /// # struct Client;
    /// # impl steadfast_driver::Sharded for Client {}
    /// # fn f<P: steadfast_providers::Provider>(builder: steadfast_driver::Builder<P, (), Client>) {
    /// let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    /// let builder = builder.shards(cores.min(8));
    /// # }
    /// ```
    ///
    /// A number that is not from 1 to 64, or more shards than jobs may be [live](Limits::live), is refused at the
    /// start: [`StartError::Shards`].
    pub fn shards(mut self, shards: usize) -> Self {
        self.settings.shards = shards;
        self
    }
}

/// Which of a client's drivers a key belongs to. The same for as long as the client lives.
#[derive(Clone, Copy, Debug)]
pub struct Shards {
    seed: Seed,
    count: usize,
}

impl Shards {
    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The shard of this key. Its number is less than [`count`](Shards::count).
    #[must_use]
    pub fn of(&self, key: &Key) -> usize {
        self.draw(key.as_str())
    }

    /// The shard to which an event is to be [delivered](crate::Driver::deliver): that of its key, if it names one.
    #[must_use]
    pub fn of_event(&self, event: &WebhookEvent) -> usize {
        match (&event.key, &event.reference) {
            (Some(key), _) => self.of(key),
            (None, Some(reference)) => self.draw(reference.as_str()),
            (None, None) => 0,
        }
    }

    fn draw(&self, name: &str) -> usize {
        let last = self.count.saturating_sub(1) as u64;
        self.seed.derive_bytes(name.as_bytes()).between(0, last) as usize
    }
}

impl Settings {
    pub(crate) const fn check_shards(&self) -> Result<(), StartError> {
        let (shards, live) = (self.shards, self.limits.live);
        if shards == 0 || shards > MOST || (shards > 1 && shards > live as usize) {
            return Err(StartError::Shards { shards, live });
        }
        Ok(())
    }

    /// One shard's part of what they say.
    fn part(&self, index: usize) -> Self {
        let part = |whole: usize| whole / self.shards + usize::from(index < whole % self.shards);
        let small = |whole: u32| u32::try_from(part(whole as usize)).unwrap_or(whole);
        let Limits { live, remember, remember_for, notices } = self.limits;
        let (live, remember, notices) = (small(live), small(remember), small(notices));
        let limits = Limits { live, remember, remember_for, notices };
        let webhooks = WebhookPolicy { remember: part(self.webhooks.remember), ..self.webhooks };
        self.like(limits, part(self.results_limit), webhooks)
    }
}

impl Loaded {
    /// How many drivers the client is to have: at least 1.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.settings.shards
    }

    /// For adapters whose clients are [`Sharded`]: what each of the client's drivers starts with, in the order of their
    /// numbers, and whose a key is. One, as it is, if there was no word of shards.
    #[must_use]
    pub fn into_shards(self) -> (Shards, Vec<Self>) {
        let count = self.settings.shards;
        let drawn = || self.settings.seed.unwrap_or_else(|| Seed::new(fastrand::u64(..)));
        if count <= 1 {
            return (Shards { seed: drawn(), count: 1 }, vec![self]);
        }
        let shards = Shards { seed: drawn().derive_bytes(b"shards"), count };
        let Settings { gate, hooks, webhooks, .. } = &self.settings;
        let common = Arc::new(Common::new(count, gate.clone(), drawn(), hooks.renew.clone(), webhooks));
        let store = self.store.map(CombinedStore::new);
        let mut parts: Vec<Self> = (0..count)
            .map(|index| Self {
                settings: self.settings.part(index),
                store: store.clone().map(|store| Box::new(store) as _),
                taken: Vec::new(),
                shard: Some(Shard { index, common: common.clone() }),
            })
            .collect();
        for taken in self.taken {
            if let Some(part) = parts.get_mut(shards.of(&taken.record.key)) {
                part.taken.push(taken);
            }
        }
        (shards, parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use steadfast_providers::BaseUrl;
    use steadfast_providers::deepvue::{Credentials, Deepvue};

    use super::*;

    struct Client;
    impl Sharded for Client {}

    fn described() -> Builder<Deepvue, (), Client> {
        let base = BaseUrl::parse("http://127.0.0.1:1").unwrap();
        Builder::new(Deepvue::new(base, "driving-license", Credentials::new("token", "secret").unwrap()).unwrap(), ())
    }

    fn start(shards: usize, live: u32) -> Result<Loaded, StartError> {
        let (_, (), settings) = described().limits(Limits { live, ..Limits::default() }).shards(shards).into_parts();
        settings.load("deepvue")
    }

    #[test]
    fn a_number_that_cannot_be_is_refused_at_the_start() {
        for (shards, live) in [(0, 100), (65, 100), (usize::MAX, 100), (3, 2)] {
            let error = start(shards, live).unwrap_err();
            let said = format!(
                "the client was not started: it was told to have {shards} shards, and room for {live} jobs; \
                 say 1 to 64 shards, and no more of them than jobs"
            );
            assert_eq!(error.to_string(), said);
        }
        for (shards, live) in [(1, 1), (64, 64), (2, u32::MAX)] {
            assert_eq!(start(shards, live).unwrap().into_shards().1.len(), shards);
        }
    }

    #[test]
    fn a_client_without_room_for_a_job_is_refused_at_the_start() {
        for shards in [1, 2] {
            let error = start(shards, 0).unwrap_err();
            assert!(matches!(error, StartError::NoRoom), "{error:?}");
            assert!(error.to_string().contains("`Limits::live` is 0"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_divided_adds_up_to_the_whole(shards in 1_usize..=64, live in 64_u32..100_000, whole in 0_usize..1 << 40) {
            let limits = Limits { live, remember: live / 7, notices: live / 3, ..Limits::default() };
            let webhooks = WebhookPolicy { remember: whole, ..WebhookPolicy::default() };
            let builder = described().limits(limits).results_limit(whole).webhooks(webhooks).shards(shards);
            let parts = builder.into_parts().2.load("deepvue").unwrap().into_shards().1;
            let sum = |of: fn(&Settings) -> usize| parts.iter().map(|part| of(&part.settings)).sum::<usize>();
            prop_assert_eq!(sum(|it| it.limits.live as usize), live as usize);
            prop_assert_eq!(sum(|it| it.limits.remember as usize), limits.remember as usize);
            prop_assert_eq!(sum(|it| it.limits.notices as usize), limits.notices as usize);
            prop_assert_eq!(sum(|it| it.results_limit), whole);
            prop_assert_eq!(sum(|it| it.webhooks.remember), whole);
            prop_assert!(parts.iter().all(|part| part.settings.limits.live > 0));
        }

        #[test]
        fn keys_are_spread_evenly_and_stay_where_they_are(count in 2_usize..=64, seed: u64) {
            let shards = Shards { seed: Seed::new(seed), count };
            let mut in_each = vec![0_usize; count];
            for n in 0..count * 200 {
                let key = Key::new(format!("order-{n}")).unwrap();
                prop_assert_eq!(shards.of(&key), shards.of(&key.clone()));
                in_each[shards.of(&key)] += 1;
            }
            prop_assert!(in_each.iter().all(|jobs| (100..300).contains(jobs)), "{in_each:?}");
        }
    }
}
