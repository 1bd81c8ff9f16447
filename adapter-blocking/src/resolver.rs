//! Names and their addresses, remembered for a short while.
//!
//! ureq resolves the host before *every* request, even if a connection to it is at hand, and if a time-out is set it
//! starts a thread for that: this was four fifths of the cost of a request over a kept connection. So addresses are
//! remembered for [`REMEMBERED`], which is less than the time for which a kept connection lives without its name being
//! asked again. Failures are not remembered, and they are certain: without an address nothing has been sent. If
//! connecting fails, the remembered addresses may be why (the host has moved), so the connector forgets them and the
//! next try asks anew.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::{Config, IpFamily};
use ureq::http::Uri;
use ureq::http::uri::{Authority, Scheme};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::ureq::before_connection;

/// How long addresses are good for.
const REMEMBERED: Duration = Duration::from_secs(10);

/// A client has one provider, and perhaps a proxy; beyond this many hosts nothing is remembered.
const MOST_HOSTS: usize = 8;

pub(crate) struct Remembering<R> {
    resolver: R,
    known: Addresses,
}

/// The remembered addresses: the resolver keeps them, the connector forgets them.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<Mutex<Vec<Known>>>);

struct Known {
    /// Together with the authority, which usually names no port, it determines the port.
    scheme: Scheme,
    authority: Authority,
    /// A request's own configuration may ask for another address family than the agent's: its addresses are not for
    /// other requests.
    family: IpFamily,
    addresses: Vec<SocketAddr>,
    until: Instant,
}

impl<R: Resolver> Remembering<R> {
    pub(crate) const fn new(resolver: R, known: Addresses) -> Self {
        Self { resolver, known }
    }

    fn resolve_at(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
        now: Instant,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let family = config.ip_family();
        if let Some(addresses) = self.find(uri, family, now) {
            return Ok(addresses);
        }
        // Without the lock: this may take long, and others may have their addresses already.
        let addresses = before_connection(|| self.resolver.resolve(uri, config, timeout))?;
        self.remember(uri, family, &addresses, now);
        Ok(addresses)
    }

    fn find(&self, uri: &Uri, family: IpFamily, now: Instant) -> Option<ResolvedSocketAddrs> {
        let known = self.known.lock();
        let known = known.iter().find(|known| known.is_of(uri, family) && now < known.until)?;
        let mut addresses = self.resolver.empty();
        known.addresses.iter().for_each(|address| addresses.push(*address));
        Some(addresses)
    }

    fn remember(&self, uri: &Uri, family: IpFamily, addresses: &ResolvedSocketAddrs, now: Instant) {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return };
        let mut known = self.known.lock();
        known.retain(|known| now < known.until && !known.is_of(uri, family));
        if known.len() < MOST_HOSTS {
            let (scheme, authority) = (scheme.clone(), authority.clone());
            known.push(Known { scheme, authority, family, addresses: addresses.to_vec(), until: now + REMEMBERED });
        }
    }
}

impl Addresses {
    /// Forgets all addresses of this host, whoever asked for them.
    pub(crate) fn forget(&self, uri: &Uri) {
        self.lock().retain(|known| uri.authority() != Some(&known.authority));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_of(&self, uri: &Uri, family: IpFamily) -> bool {
        self.family == family && uri.scheme() == Some(&self.scheme) && uri.authority() == Some(&self.authority)
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
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// ureq's own panics where it can start no thread for it.
    #[test]
    fn a_panic_is_certain_and_what_comes_after_it_is_resolved() {
        let (resolver, now) = (remembering(), Instant::now());
        assert_eq!(ask(&resolver, "https://panic.example/", now), None);
        assert_eq!(ask(&resolver, "https://a.example/", now), Some(1));
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
