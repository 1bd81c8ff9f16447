//! Kept connections, the most recently used first.
//!
//! ureq's own pool goes through all idle connections, several times for each request: with sixty of them that was a
//! quarter of a client's work. So here each kept connection lies in an agent of its own, which carries one request at
//! a time. And since the most recently used comes first, surplus connections grow old and are closed, while ureq's
//! pool takes turns.
//!
//! All these agents are made of the same parts, so that known names and TLS sessions are shared by all. Cookies are
//! not: a program that switches on ureq's cookie feature has a jar for each connection.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::{Authority, Scheme};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Agent, Error};

use super::request::{Marking, Underway};

pub(super) struct Connections {
    make: Box<dyn Fn(Whose) -> Agent + Send + Sync>,
    /// The last is the most recently used.
    idle: Mutex<VecDeque<Idle>>,
    /// How many are kept, and how many of them to one host.
    most: usize,
    most_to_one: usize,
    /// For how long.
    max_age: Duration,
}

/// A connection that is not used just now, in its agent.
struct Idle {
    since: Instant,
    to: Option<Origin>,
    agent: Agent,
    underway: Underway,
}

type Origin = (Scheme, Authority);

fn origin(to: &Uri) -> Option<Origin> {
    to.scheme().cloned().zip(to.authority().cloned())
}

/// What an agent is for.
#[derive(Clone)]
enum Whose {
    /// Jobs' requests, one at a time, whose configuration is the client's but for time-out and proxy.
    Ours(Underway),
    /// A program's own calls, each of which may be configured in its own way.
    Programs,
}

impl Connections {
    /// Keeps as many as this configuration's pool would keep.
    pub(super) fn new(config: Config, connector: impl Connector, resolver: impl Resolver) -> Self {
        let (most, most_to_one) = (config.max_idle_connections(), config.max_idle_connections_per_host());
        let max_age = config.max_idle_age();
        let (connector, resolver) = (Arc::new(connector), Arc::new(resolver));
        let make = move |whose: Whose| {
            Agent::with_parts(config.clone(), Part(connector.clone(), whose.clone()), Part(resolver.clone(), whose))
        };
        Self { make: Box::new(make), idle: Mutex::default(), most, most_to_one, max_age }
    }

    /// One more agent of the same parts, for the program's own calls.
    pub(super) fn agent(&self) -> Agent {
        (self.make)(Whose::Programs)
    }

    /// Has a request carried within `timeout`, by a connection that was idle for no longer than `most_idle`. If all
    /// goes well, and the answer is read to its end, the connection is kept.
    pub(super) fn carry<T, E>(
        &self,
        to: &Uri,
        timeout: Duration,
        most_idle: Duration,
        request: impl FnOnce(&Agent, &Underway) -> Result<T, E>,
    ) -> Result<T, E> {
        let to = origin(to);
        let (agent, underway) = self.find(to.as_ref(), most_idle, Instant::now()).unwrap_or_else(|| {
            let underway = Underway::default();
            ((self.make)(Whose::Ours(underway.clone())), underway)
        });
        underway.begin(timeout);
        let answer = request(&agent, &underway)?;
        self.keep(Idle { since: Instant::now(), to, agent, underway });
        Ok(answer)
    }

    fn find(&self, to: Option<&Origin>, most_idle: Duration, now: Instant) -> Option<(Agent, Underway)> {
        let mut idle = self.lock();
        let last = idle.iter().rposition(|idle| idle.to.as_ref() == to)?;
        if now.saturating_duration_since(idle.get(last)?.since) > most_idle {
            return None;
        }
        idle.remove(last).map(|idle| (idle.agent, idle.underway))
    }

    fn keep(&self, used: Idle) {
        let mut idle = self.lock();
        let is_old = |idle: &Idle| used.since.saturating_duration_since(idle.since) > self.max_age;
        let old = idle.iter().take_while(|idle| is_old(idle)).count();
        let mut closed: Vec<_> = idle.drain(..old).collect();
        // Where there are fewer than that in all, none has to be counted.
        if idle.len() >= self.most_to_one && idle.iter().filter(|idle| idle.to == used.to).count() >= self.most_to_one {
            let first = idle.iter().position(|idle| idle.to == used.to);
            closed.extend(first.and_then(|first| idle.remove(first)));
        }
        if self.most_to_one > 0 {
            idle.push_back(used);
        }
        let too_many = idle.len().saturating_sub(self.most);
        closed.extend(idle.drain(..too_many));
        // They are closed when nobody waits for the lock any more.
        drop(idle);
        drop(closed);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("idle", &self.lock().len()).field("most", &self.most).finish()
    }
}

/// Part of all agents.
struct Part<T>(Arc<T>, Whose);

impl<T: fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<In: Transport, C: Connector<In>> Connector<In> for Part<C> {
    type Out = Marking<C::Out>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let (connection, underway) = match &self.1 {
            Whose::Programs => (self.0.connect(details, chained)?, Underway::default()),
            // To ureq it is a configuration of this request's own, for which it would set up TLS anew, without the
            // sessions of earlier connections.
            Whose::Ours(underway) => {
                let step = || self.0.connect(&as_the_agents(details), chained);
                let connection = underway.connect(details.timeout, step)?;
                // What a proxy was asked came through here, and is not the request.
                underway.has_not_left();
                (connection, underway.clone())
            }
        };
        Ok(connection.map(|connection| Marking::new(connection, underway)))
    }
}

fn as_the_agents<'a>(details: &ConnectionDetails<'a>) -> ConnectionDetails<'a> {
    ConnectionDetails {
        uri: details.uri,
        addrs: details.addrs.clone(),
        config: details.config,
        request_level: false,
        resolver: details.resolver,
        now: details.now,
        timeout: details.timeout,
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
    }
}

impl<R: Resolver> Resolver for Part<R> {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.0.resolve(uri, config, timeout)
    }
}

#[cfg(test)]
mod tests {
    use ureq::unversioned::resolver::DefaultResolver;
    use ureq::unversioned::transport::DefaultConnector;

    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(15);

    /// With so many kept, and so many of them to one host.
    fn connections(most: usize, most_to_one: usize) -> Connections {
        let builder = Agent::config_builder().max_idle_connections(most).max_idle_connections_per_host(most_to_one);
        Connections::new(builder.max_idle_age(MAX_AGE).build(), DefaultConnector::default(), DefaultResolver::default())
    }

    fn uri(host: &str) -> Uri {
        format!("https://{host}.example/").parse().expect("a URI")
    }

    impl Connections {
        fn keep_one(&self, host: &str, since: Instant) {
            self.keep(Idle { since, to: origin(&uri(host)), agent: self.agent(), underway: Underway::default() });
        }

        /// Which are kept, the one used last at the end: the host's first letter, and since when.
        fn kept(&self, began: Instant) -> Vec<(String, u64)> {
            let host = |to: &Option<Origin>| to.as_ref().map_or_else(String::new, |to| to.1.host()[..1].to_owned());
            self.lock().iter().map(|idle| (host(&idle.to), (idle.since - began).as_secs())).collect()
        }
    }

    fn these(kept: &[(&str, u64)]) -> Vec<(String, u64)> {
        kept.iter().map(|(host, since)| ((*host).to_owned(), *since)).collect()
    }

    #[test]
    fn the_last_one_used_to_a_host_is_the_next() {
        let (connections, began) = (connections(8, 8), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        for (host, since) in [("a", 0), ("a", 1), ("b", 2)] {
            connections.keep_one(host, after(since));
        }
        let used: Result<_, ()> = connections.carry(&uri("a"), MAX_AGE, MAX_AGE, |_, _| Ok(connections.kept(began)));
        assert_eq!(used, Ok(these(&[("a", 0), ("b", 2)])));
        assert_eq!(connections.kept(began).len(), 3, "and is kept again");
        let another: Result<_, ()> =
            connections.carry(&uri("c"), MAX_AGE, MAX_AGE, |_, _| Ok(connections.kept(began).len()));
        assert_eq!((another, connections.kept(began).len()), (Ok(3), 4));
    }

    #[test]
    fn what_was_idle_for_too_long_is_left_to_others() {
        let (connections, began) = (connections(8, 8), Instant::now());
        for since in [0, 1] {
            connections.keep_one("a", began + Duration::from_secs(since));
        }
        let find = |most_idle| connections.find(origin(&uri("a")).as_ref(), most_idle, began + MAX_AGE / 2).is_some();
        assert!(!find(MAX_AGE / 4), "it has to have a connection of its own");
        assert_eq!(connections.kept(began), these(&[("a", 0), ("a", 1)]));
        assert!(find(MAX_AGE / 2));
        assert_eq!(connections.kept(began), these(&[("a", 0)]));
    }

    #[test]
    fn what_failed_is_not_kept() {
        let (connections, began) = (connections(8, 8), Instant::now());
        connections.keep_one("a", began);
        assert_eq!(connections.carry(&uri("a"), MAX_AGE, MAX_AGE, |_, _| Err::<(), _>("no answer")), Err("no answer"));
        assert_eq!(connections.kept(began), []);
    }

    #[test]
    fn what_is_too_many_is_closed_the_oldest_first() {
        let (connections, began) = (connections(4, 2), Instant::now());
        for (at, host) in ["a", "b", "a", "a", "c", "d"].into_iter().enumerate() {
            connections.keep_one(host, began + Duration::from_secs(at as u64));
        }
        assert_eq!(connections.kept(began), these(&[("a", 2), ("a", 3), ("c", 4), ("d", 5)]));
        let none = self::connections(8, 0);
        none.keep_one("a", began);
        assert_eq!(none.kept(began), []);
    }

    /// However many: none waits for a next request.
    #[test]
    fn all_that_are_too_old_are_closed_together() {
        let (connections, began) = (connections(64, 64), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        for second in 0..10 {
            connections.keep_one("a", after(second));
        }
        connections.keep_one("a", after(20));
        let kept: Vec<_> = connections.kept(began).into_iter().map(|(_, since)| since).collect();
        assert_eq!(kept, [5, 6, 7, 8, 9, 20]);
    }
}
