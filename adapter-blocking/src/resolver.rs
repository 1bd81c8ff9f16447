//! Names and their addresses, remembered for a short while.
//!
//! ureq resolves the host before *every* request, even if a connection to it is at hand, and if a time-out is set it
//! starts a thread for that: this was four fifths of the cost of a request over a kept connection. So addresses are
//! remembered for [`REMEMBERED`], which is less than the time for which a kept connection lives without its name being
//! asked again. Failures are not remembered, and they are certain: without an address nothing has been sent. If
//! connecting fails, the remembered addresses may be why (the host has moved), so the connector forgets them and the
//! next try asks anew.
//!
//! A lookup cannot be cut off: its thread stays until the system has an answer, for half a minute if a name server is
//! silent, or for ever if something hangs. ureq starts one for each request, also while earlier ones hang, so that a
//! name server's outage could use up the threads of the whole program. Here all who want the same addresses at a time
//! wait for the same lookup, and its answer counts for the next one even if all of them have gone by then. If it takes
//! long, another one is begun beside it, and the first address that any of them finds is everybody's.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::{Config, IpFamily};
use ureq::http::Uri;
use ureq::http::uri::{Authority, Scheme};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::ureq::{before_connection, no_thread, not_connected, same};

/// How long addresses are good for.
const REMEMBERED: Duration = Duration::from_secs(10);

/// A client has one provider, and perhaps a proxy; beyond this many hosts nothing is remembered.
const MOST_HOSTS: usize = 8;

/// If a lookup has no answer after this long, whoever waits for it or comes then begins another one: a packet may be
/// lost, the system's resolver may hang, or ask a name server of old. That is less than a request usually waits for its
/// name, so that it can have the other one's answer. Each further one is begun after twice as long, so that there are
/// few even if none of them ever ends.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Remembering<R> {
    resolver: Arc<R>,
    known: Addresses,
    under_way: UnderWay,
    /// As where a machine has no threads left.
    #[cfg(test)]
    starts_none: bool,
}

/// The remembered addresses: the resolver keeps them, the connector forgets them.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<Mutex<Vec<Known>>>);

struct Known {
    whose: Whose,
    addresses: Vec<SocketAddr>,
    until: Instant,
}

/// What addresses are asked for.
#[derive(Clone, PartialEq)]
struct Whose {
    /// Together with the authority, which usually names no port, it determines the port.
    scheme: Scheme,
    authority: Authority,
    /// A request's own configuration may ask for another address family than the agent's: its addresses are not for
    /// other requests.
    family: IpFamily,
}

impl Whose {
    /// `None` if the URI is incomplete, which the resolver has to say.
    fn of(uri: &Uri, config: &Config) -> Option<Self> {
        Some(Self { scheme: uri.scheme()?.clone(), authority: uri.authority()?.clone(), family: config.ip_family() })
    }
}

/// Lookups that have not ended, of one host the earliest first.
type UnderWay = Arc<Mutex<Vec<Arc<Lookup>>>>;

struct Lookup {
    whose: Whose,
    began: Instant,
    /// Its own answer, or what another one had found before that.
    came: Mutex<Option<Result<ResolvedSocketAddrs, Error>>>,
    comes: Condvar,
}

impl Lookup {
    /// Waits for its answer, for at most this long.
    fn wait(&self, timeout: Duration) -> Option<Result<ResolvedSocketAddrs, Error>> {
        let waited = self.comes.wait_timeout_while(lock(&self.came), timeout, |came| came.is_none());
        let (came, _) = waited.unwrap_or_else(PoisonError::into_inner);
        came.as_ref().map(|came| match came {
            Ok(addresses) => Ok(addresses.clone()),
            Err(error) => Err(same(error)),
        })
    }

    /// Unless it has one already.
    fn answer(&self, came: Result<ResolvedSocketAddrs, Error>) {
        lock(&self.came).get_or_insert(came);
        self.comes.notify_all();
    }

    fn is_answered(&self) -> bool {
        lock(&self.came).is_some()
    }
}

/// How long after the last of so many lookups, none of which has ended, another one may be begun.
fn patience(lookups: usize) -> Duration {
    let doubled = u32::try_from(lookups.saturating_sub(1)).unwrap_or(u32::MAX);
    ASKED_AGAIN.saturating_mul(2_u32.saturating_pow(doubled))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Resolver> Remembering<R> {
    pub(crate) fn new(resolver: R, known: Addresses) -> Self {
        Self {
            resolver: Arc::new(resolver),
            known,
            under_way: UnderWay::default(),
            #[cfg(test)]
            starts_none: false,
        }
    }

    fn resolve_at(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
        now: Instant,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let whose = Whose::of(uri, config);
        if let Some(addresses) = whose.as_ref().and_then(|whose| self.find(whose, now)) {
            return Ok(addresses);
        }
        match whose {
            Some(whose) if !timeout.after.is_not_happening() => self.wait(&whose, uri, config, timeout, now),
            whose => {
                // Without the lock: this may take long, and others may have their addresses already.
                let addresses = before_connection(|| self.resolver.resolve(uri, config, timeout))?;
                if let Some(whose) = whose {
                    self.known.remember(whose, &addresses, now);
                }
                Ok(addresses)
            }
        }
    }

    fn find(&self, whose: &Whose, now: Instant) -> Option<ResolvedSocketAddrs> {
        let known = self.known.lock();
        let known = known.iter().find(|known| known.whose == *whose && now < known.until)?;
        let mut addresses = self.resolver.empty();
        known.addresses.iter().for_each(|address| addresses.push(*address));
        Some(addresses)
    }

    /// Waits for a lookup, and begins another one if it takes too long.
    fn wait(
        &self,
        whose: &Whose,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
        mut now: Instant,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (mut lookup, mut patience) = self.lookup(whose, uri, config, timeout, now)?;
        let mut left = *timeout.after;
        loop {
            let began = Instant::now();
            if let Some(came) = lookup.wait(left.min(patience)) {
                return came;
            }
            let passed = began.elapsed();
            (left, now) = (left.saturating_sub(passed), now + passed);
            if left.is_zero() {
                return Err(not_connected(Error::Timeout(timeout.reason)));
            }
            // Without a thread for another one, this one may still end.
            (lookup, patience) = self.lookup(whose, uri, config, timeout, now).unwrap_or((lookup, left));
        }
    }

    /// The lookup to wait for, one that is under way or a new one, and for how long before asking for another.
    fn lookup(
        &self,
        whose: &Whose,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
        now: Instant,
    ) -> Result<(Arc<Lookup>, Duration), Error> {
        let mut under_way = lock(&self.under_way);
        let all = || under_way.iter().filter(|lookup| lookup.whose == *whose);
        let lookups = all().count();
        let left_of = |began: Instant, lookups| {
            let until = began.checked_add(patience(lookups));
            until.map_or(Duration::MAX, |until| until.saturating_duration_since(now))
        };
        if let Some(last) = all().next_back() {
            let left = left_of(last.began, lookups);
            // What another one has found was remembered then; by now it may have been forgotten for good reason.
            if !left.is_zero() && !last.is_answered() {
                return Ok((last.clone(), left));
            }
        }
        // What has ended since nothing was known has left it there.
        let known = self.find(whose, now).map(Ok);
        let is_known = known.is_some();
        let (whose, comes) = (whose.clone(), Condvar::new());
        let lookup = Arc::new(Lookup { whose, began: now, came: Mutex::new(known), comes });
        let left = left_of(now, lookups + 1);
        if is_known {
            return Ok((lookup, left));
        }
        let (its_own, resolver, known) = (lookup.clone(), self.resolver.clone(), self.known.clone());
        let (ends, uri, config) = (self.under_way.clone(), uri.clone(), config.clone());
        let unlimited = NextTimeout { after: ureq::unversioned::transport::time::Duration::NotHappening, ..timeout };
        let resolve = move || {
            let came = before_connection(|| resolver.resolve(&uri, &config, unlimited));
            if let Ok(addresses) = &came {
                known.remember(its_own.whose.clone(), addresses, Instant::now());
            }
            let mut under_way = lock(&ends);
            under_way.retain(|lookup| !Arc::ptr_eq(lookup, &its_own));
            if let Ok(addresses) = &came {
                // Those stay until they end by themselves: there must not be too many.
                let others = under_way.iter().filter(|lookup| lookup.whose == its_own.whose);
                others.for_each(|lookup| lookup.answer(Ok(addresses.clone())));
            }
            drop(under_way);
            its_own.answer(came);
        };
        let thread = thread::Builder::new().name("steadfast-resolve".to_owned());
        #[cfg(test)]
        let thread = if self.starts_none { thread.stack_size(usize::MAX / 2) } else { thread };
        thread.spawn(resolve).map_err(no_thread)?;
        under_way.push(lookup.clone());
        Ok((lookup, left))
    }
}

impl Addresses {
    /// Forgets all addresses of this host, whoever asked for them.
    pub(crate) fn forget(&self, uri: &Uri) {
        self.lock().retain(|known| uri.authority() != Some(&known.whose.authority));
    }

    fn remember(&self, whose: Whose, addresses: &ResolvedSocketAddrs, now: Instant) {
        let mut known = self.lock();
        known.retain(|known| now < known.until && known.whose != whose);
        if known.len() < MOST_HOSTS {
            known.push(Known { whose, addresses: addresses.to_vec(), until: now + REMEMBERED });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        lock(&self.0)
    }
}

impl<R: Resolver> Resolver for Remembering<R> {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.resolve_at(uri, config, timeout, Instant::now())
    }
}

impl<R> fmt::Debug for Remembering<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembering")
    }
}

#[cfg(test)]
mod tests;
