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
//! wait for the same lookup, and its answer counts for the next one even if all of them have gone by then.

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

/// If a lookup has no answer after this long, another one is begun for those who come then: the system's may hang, or
/// ask a name server of old. Each further one is begun after twice as long, so that there are few even if none of them
/// ever ends.
const ASKED_AGAIN: Duration = Duration::from_secs(5);

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

/// Lookups that have no answer yet, of one host the earliest first.
type UnderWay = Arc<Mutex<Vec<Arc<Lookup>>>>;

struct Lookup {
    whose: Whose,
    began: Instant,
    came: Mutex<Option<Result<ResolvedSocketAddrs, Error>>>,
    ends: Condvar,
}

impl Lookup {
    /// Waits for its answer.
    fn wait(&self, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let waited = self.ends.wait_timeout_while(lock(&self.came), *timeout.after, |came| came.is_none());
        match &*waited.unwrap_or_else(PoisonError::into_inner).0 {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err(error)) => Err(same(error)),
            None => Err(not_connected(Error::Timeout(timeout.reason))),
        }
    }

    fn answer(&self, came: Result<ResolvedSocketAddrs, Error>) {
        *lock(&self.came) = Some(came);
        self.ends.notify_all();
    }
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
            Some(whose) if !timeout.after.is_not_happening() => {
                self.lookup(whose, uri, config, timeout, now)?.wait(timeout)
            }
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

    /// The lookup to wait for: one that is under way, or a new one.
    fn lookup(
        &self,
        whose: Whose,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
        now: Instant,
    ) -> Result<Arc<Lookup>, Error> {
        let mut under_way = lock(&self.under_way);
        let (mut patience, mut last) = (ASKED_AGAIN, None);
        for lookup in under_way.iter().filter(|lookup| lookup.whose == whose) {
            (patience, last) = (last.map_or(patience, |_| patience.saturating_mul(2)), Some(lookup));
        }
        if let Some(last) = last.filter(|last| now.saturating_duration_since(last.began) < patience) {
            return Ok(last.clone());
        }
        // What has ended since nothing was known has left it there.
        let known = self.find(&whose, now).map(Ok);
        let is_known = known.is_some();
        let lookup = Arc::new(Lookup { whose, began: now, came: Mutex::new(known), ends: Condvar::new() });
        if is_known {
            return Ok(lookup);
        }
        let (its_own, resolver, known) = (lookup.clone(), self.resolver.clone(), self.known.clone());
        let (ends, uri, config) = (self.under_way.clone(), uri.clone(), config.clone());
        let unlimited = NextTimeout { after: ureq::unversioned::transport::time::Duration::NotHappening, ..timeout };
        let resolve = move || {
            let came = before_connection(|| resolver.resolve(&uri, &config, unlimited));
            if let Ok(addresses) = &came {
                known.remember(its_own.whose.clone(), addresses, Instant::now());
            }
            lock(&ends).retain(|lookup| !Arc::ptr_eq(lookup, &its_own));
            its_own.answer(came);
        };
        let thread = thread::Builder::new().name("steadfast-resolve".to_owned());
        #[cfg(test)]
        let thread = if self.starts_none { thread.stack_size(usize::MAX / 2) } else { thread };
        thread.spawn(resolve).map_err(no_thread)?;
        under_way.push(lookup.clone());
        Ok(lookup)
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
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use ureq::Agent;

    use super::*;
    use crate::ureq::NotConnected;

    /// Gives another address each time, and none to whom it does not know.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Resolver for Counting {
        fn resolve(&self, uri: &Uri, config: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
            let asked = self.0.fetch_add(1, Ordering::SeqCst) as u16;
            let mut addresses = self.empty();
            addresses.push(match config.ip_family() {
                IpFamily::Ipv6Only => SocketAddr::from((Ipv6Addr::LOCALHOST, asked)),
                _ => SocketAddr::from((Ipv4Addr::LOCALHOST, asked)),
            });
            match uri.host() {
                Some("nobody.example") => Err(Error::HostNotFound),
                Some("canary.example") => Err(Error::BadUri(uri.to_string())),
                Some("panic.example") => panic!("as it was told to"),
                _ => Ok(addresses),
            }
        }
    }

    fn remembering() -> Remembering<Counting> {
        Remembering::new(Counting::default(), Addresses::default())
    }

    fn resolve(
        resolver: &Remembering<Counting>,
        uri: &str,
        family: IpFamily,
        now: Instant,
    ) -> Result<SocketAddr, Error> {
        let agent = Agent::config_builder().ip_family(family).build().new_agent();
        let uri = uri.parse::<Uri>().expect("a URI");
        resolver.resolve_at(&uri, agent.config(), NextTimeout::default(), now).map(|addresses| addresses[0])
    }

    fn ask(resolver: &Remembering<Counting>, uri: &str, now: Instant) -> Option<u16> {
        match resolve(resolver, uri, IpFamily::Any, now) {
            Ok(address) => Some(address.port()),
            Err(Error::Other(error)) if error.is::<NotConnected>() => None,
            Err(error) => panic!("it is not certain that nothing was sent: {error}"),
        }
    }

    #[test]
    fn a_host_is_resolved_once_in_a_while_and_each_by_itself() {
        let (resolver, start) = (remembering(), Instant::now());
        let late = start + REMEMBERED;
        assert_eq!(ask(&resolver, "https://a.example/1", start), Some(0));
        assert_eq!(ask(&resolver, "https://a.example/2", late - Duration::from_nanos(1)), Some(0));
        assert_eq!(ask(&resolver, "http://a.example/", start), Some(1), "another port");
        assert_eq!(ask(&resolver, "https://a.example:8443/", start), Some(2), "another port");
        assert_eq!(ask(&resolver, "https://b.example/", start), Some(3), "another host");
        assert_eq!(ask(&resolver, "https://a.example/1", late), Some(4), "it is over");
        assert_eq!(ask(&resolver, "https://a.example/1", late), Some(4));
    }

    #[test]
    fn nobody_is_given_addresses_of_a_family_that_it_did_not_ask_for() {
        let (resolver, now) = (remembering(), Instant::now());
        let ask = |family| resolve(&resolver, "https://a.example/", family, now).expect("an address");
        assert_eq!(ask(IpFamily::Any).port(), 0);
        assert_eq!(ask(IpFamily::Ipv6Only), SocketAddr::from((Ipv6Addr::LOCALHOST, 1)));
        assert_eq!(ask(IpFamily::Ipv4Only), SocketAddr::from((Ipv4Addr::LOCALHOST, 2)));
        let again = [IpFamily::Any, IpFamily::Ipv6Only, IpFamily::Ipv4Only].map(|family| ask(family).port());
        assert_eq!(again, [0, 1, 2], "each is remembered by itself");
    }

    #[test]
    fn what_is_forgotten_is_one_host_whole() {
        let (resolver, now) = (remembering(), Instant::now());
        let asked = ["https://a.example/", "http://a.example/", "https://b.example/"];
        assert_eq!(asked.map(|uri| ask(&resolver, uri, now)), [Some(0), Some(1), Some(2)]);
        resolver.known.forget(&Uri::from_static("https://a.example/other"));
        assert_eq!(asked.map(|uri| ask(&resolver, uri, now)), [Some(3), Some(4), Some(2)]);
    }

    #[test]
    fn a_failure_is_certain_and_not_remembered() {
        let (resolver, now) = (remembering(), Instant::now());
        assert_eq!(ask(&resolver, "https://nobody.example/", now), None);
        assert_eq!(ask(&resolver, "https://nobody.example/", now), None);
        assert_eq!(resolver.resolver.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_machine_without_threads_is_told_of_and_asked_again() {
        let mut resolver = Remembering::new(Unanswered::default(), Addresses::default());
        resolver.resolver.answer(SocketAddr::from((Ipv4Addr::LOCALHOST, 443)));
        resolver.starts_none = true;
        let came = ask_within(&resolver, "https://a.example/", Instant::now(), LONG).expect_err("there is no thread");
        assert_eq!(came.to_string(), "other: no thread could be started to look up the host");
        let Error::Other(source) = came else { panic!("it is not certain that nothing was sent: {came}") };
        assert!(source.is::<NotConnected>() && source.source().is_some(), "{source:?}");
        resolver.starts_none = false;
        assert!(ask_within(&resolver, "https://a.example/", Instant::now(), LONG).is_ok());
    }

    #[test]
    fn a_panic_is_certain_and_what_comes_after_it_is_resolved() {
        let (resolver, now) = (remembering(), Instant::now());
        assert_eq!(ask(&resolver, "https://panic.example/", now), None);
        assert_eq!(ask(&resolver, "https://a.example/", now), Some(1));
    }

    /// As ureq's own: whoever has limited time is left by a thread that stays until the name server has answered.
    #[derive(Clone, Debug, Default)]
    struct Unanswered(Arc<Asked>);

    #[derive(Debug, Default)]
    struct Asked {
        threads: AtomicUsize,
        answer: Mutex<Option<SocketAddr>>,
        answers: Condvar,
    }

    impl Unanswered {
        fn answer(&self, address: SocketAddr) {
            *self.0.answer.lock().expect("no panic") = Some(address);
            self.0.answers.notify_all();
        }
    }

    impl Resolver for Unanswered {
        fn resolve(&self, _: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
            self.0.threads.fetch_add(1, Ordering::SeqCst);
            if !timeout.after.is_not_happening() {
                return Err(Error::Timeout(timeout.reason));
            }
            let answer = self.0.answer.lock().expect("no panic");
            let answer = self.0.answers.wait_while(answer, |answer| answer.is_none()).expect("no panic");
            let mut addresses = self.empty();
            answer.iter().for_each(|address| addresses.push(*address));
            Ok(addresses)
        }
    }

    fn ask_within(
        resolver: &Remembering<Unanswered>,
        uri: &str,
        now: Instant,
        after: Duration,
    ) -> Result<SocketAddr, Error> {
        let (uri, agent) = (uri.parse().expect("a URI"), Agent::config_builder().build().new_agent());
        let within = NextTimeout { after: after.into(), reason: ureq::Timeout::Resolve, ..NextTimeout::default() };
        resolver.resolve_at(&uri, agent.config(), within, now).map(|addresses| addresses[0])
    }

    const LONG: Duration = Duration::from_secs(60);

    fn goes_in_vain(resolver: &Remembering<Unanswered>, uri: &str, now: Instant) {
        let came = ask_within(resolver, uri, now, Duration::from_nanos(1));
        assert!(matches!(&came, Err(Error::Other(error)) if error.is::<NotConnected>()), "{came:?}");
    }

    /// Nobody can tell when a thread comes to what it was started for.
    fn has_threads(unanswered: &Unanswered, threads: usize) {
        while unanswered.0.threads.load(Ordering::SeqCst) < threads {
            thread::yield_now();
        }
        assert_eq!(unanswered.0.threads.load(Ordering::SeqCst), threads);
    }

    /// A name server that says nothing for half a minute, and requests that have a second: each left a thread behind.
    #[test]
    fn a_name_that_takes_long_is_asked_for_once_by_all_who_want_it_and_its_answer_is_not_lost() {
        let (unanswered, now) = (Unanswered::default(), Instant::now());
        let resolver = Remembering::new(unanswered.clone(), Addresses::default());
        (0..100).for_each(|_| goes_in_vain(&resolver, "https://a.example/", now));
        has_threads(&unanswered, 1);
        goes_in_vain(&resolver, "https://b.example/", now);
        has_threads(&unanswered, 2);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 443));
        let waits = thread::scope(|scope| {
            let ask = || ask_within(&resolver, "https://a.example/", now, LONG).expect("an address");
            let waits = [(); 8].map(|()| scope.spawn(ask));
            unanswered.answer(address);
            waits.map(|waits| waits.join().expect("no panic"))
        });
        assert_eq!(waits, [address; 8]);
        has_threads(&unanswered, 2);
        while !lock(&resolver.under_way).is_empty() {
            thread::yield_now();
        }
        // With nobody to wait for it, the other host's is there as well.
        assert!(resolver.known.lock().iter().any(|known| known.whose.authority == "b.example"));
    }

    /// One that hangs for ever must not be the last.
    #[test]
    fn a_name_without_an_answer_is_asked_for_again_more_and_more_seldom() {
        let (unanswered, began) = (Unanswered::default(), Instant::now());
        let resolver = Remembering::new(unanswered.clone(), Addresses::default());
        for (second, threads) in [(0, 1), (4, 1), (5, 2), (14, 2), (15, 3), (34, 3), (35, 4), (74, 4), (75, 5)] {
            goes_in_vain(&resolver, "https://a.example/", began + Duration::from_secs(second));
            has_threads(&unanswered, threads);
        }
        unanswered.answer(SocketAddr::from((Ipv4Addr::LOCALHOST, 443)));
        assert!(ask_within(&resolver, "https://a.example/", began, LONG).is_ok());
    }

    #[test]
    fn all_who_wait_for_a_name_are_told_what_is_wrong_with_it() {
        let (resolver, agent) = (remembering(), Agent::config_builder().build().new_agent());
        let within = NextTimeout { after: LONG.into(), ..NextTimeout::default() };
        let ask = |uri: &str| resolver.resolve(&uri.parse().expect("a URI"), agent.config(), within);
        for host in ["nobody.example", "panic.example"] {
            let came = ask(&format!("https://{host}/"));
            assert!(matches!(&came, Err(Error::Other(error)) if error.is::<NotConnected>()), "{came:?}");
        }
        let came = ask("https://canary.example/");
        assert!(matches!(came, Err(Error::BadUri(_))), "{came:?}");
        assert!(lock(&resolver.under_way).is_empty());
    }

    /// Repeating it cannot help, which "not connected" would promise.
    #[test]
    fn a_request_that_names_no_address_stays_at_fault() {
        let came = resolve(&remembering(), "https://canary.example/", IpFamily::Any, Instant::now());
        assert!(matches!(came, Err(Error::BadUri(_))), "{came:?}");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (resolver, now) = (remembering(), Instant::now());
        for host in 0..100 {
            assert!(ask(&resolver, &format!("https://host-{host}.example/"), now).is_some());
        }
        assert_eq!(resolver.known.lock().len(), MOST_HOSTS);
    }
}
