//! Connections that are kept, the one used last first.
//!
//! ureq's own pool goes through all connections that are idle, several times for each request: with sixty of them that was a quarter of a client's work. So
//! here each connection that is kept lies in an agent of its own, which carries one request at a time; all of them are made of the same parts, so that names
//! and TLS sessions are known to all. And since the one used last comes first, those that are too many for what is going on grow old and are closed,
//! where ureq's takes turns.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Agent, Error, http};

pub(super) struct Connections {
    make: Box<dyn Fn() -> Agent + Send + Sync>,
    /// With what they are kept in, and since when they are idle. The last is the one used last.
    idle: Mutex<VecDeque<(Instant, Agent)>>,
    /// How many are kept.
    most: usize,
    /// For how long.
    max_age: Duration,
}

impl Connections {
    /// As many are kept as this configuration's pool would keep.
    pub(super) fn new(config: Config, connector: impl Connector, resolver: impl Resolver) -> Self {
        let most = config.max_idle_connections().min(config.max_idle_connections_per_host());
        let max_age = config.max_idle_age();
        let (connector, resolver) = (Arc::new(connector), Arc::new(resolver));
        let make = move || Agent::with_parts(config.clone(), Part(connector.clone()), Part(resolver.clone()));
        Self { make: Box::new(make), idle: Mutex::default(), most, max_age }
    }

    /// One more, of the same parts.
    pub(super) fn agent(&self) -> Agent {
        (self.make)()
    }

    /// Has a request carried. If all goes well, and the answer is read to its end, the connection is kept.
    pub(super) fn carry<T, E>(&self, request: impl FnOnce(&Agent) -> Result<T, E>) -> Result<T, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
        let agent = idle.map_or_else(|| self.agent(), |(_, agent)| agent);
        let answer = request(&agent)?;
        drop(self.keep(agent, Instant::now()));
        Ok(answer)
    }

    /// Gives what is not kept any more, to be closed where nobody waits for it.
    fn keep(&self, agent: Agent, now: Instant) -> Option<(Instant, Agent)> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push_back((now, agent));
        let is_old = idle.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > self.max_age);
        if is_old || idle.len() > self.most { idle.pop_front() } else { None }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Connections").field("idle", &idle).field("most", &self.most).finish()
    }
}

/// Part of all agents.
struct Part<T>(Arc<T>);

impl<T: fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<In: Transport, C: Connector<In>> Connector<In> for Part<C> {
    type Out = C::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<C::Out>, Error> {
        self.0.connect(details, chained)
    }
}

impl<R: Resolver> Resolver for Part<R> {
    fn resolve(&self, uri: &http::Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.0.resolve(uri, config, timeout)
    }
}

#[cfg(test)]
mod tests {
    use ureq::unversioned::resolver::DefaultResolver;
    use ureq::unversioned::transport::DefaultConnector;

    use super::*;

    const MOST: usize = 3;
    const MAX_AGE: Duration = Duration::from_secs(15);

    fn connections() -> Connections {
        let builder = Agent::config_builder().max_idle_connections(MOST).max_idle_connections_per_host(MOST);
        Connections::new(builder.max_idle_age(MAX_AGE).build(), DefaultConnector::default(), DefaultResolver::default())
    }

    /// Since when those are idle that are kept.
    fn idle(connections: &Connections) -> Vec<Instant> {
        connections.idle.lock().expect("no panic").iter().map(|(since, _)| *since).collect()
    }

    #[test]
    fn the_last_one_used_is_the_next() {
        let connections = connections();
        let since = [0, 1, 2].map(|seconds| Instant::now() + Duration::from_secs(seconds));
        for at in since {
            assert!(connections.keep(connections.agent(), at).is_none());
        }
        let used: Result<_, ()> = connections.carry(|_| Ok(idle(&connections)));
        assert_eq!(used, Ok(since[..2].to_vec()));
        assert_eq!(idle(&connections).len(), MOST, "and is kept again");
    }

    #[test]
    fn what_failed_is_not_kept() {
        let connections = connections();
        let _ = connections.keep(connections.agent(), Instant::now());
        assert_eq!(connections.carry(|_| Err::<(), _>("no answer")), Err("no answer"));
        assert_eq!(idle(&connections), []);
    }

    #[test]
    fn what_is_too_many_or_too_old_is_let_go_of() {
        let connections = connections();
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let kept = |at| connections.keep(connections.agent(), at).map(|(since, _)| since);
        assert_eq!([0, 1, 2].map(|seconds| kept(after(seconds))), [None; MOST]);
        assert_eq!(kept(after(3)), Some(after(0)), "too many");
        assert_eq!(connections.carry(|_| Err::<(), _>(())), Err(()));
        assert_eq!(kept(after(16)), None);
        let _ = connections.idle.lock().expect("no panic").pop_back();
        assert_eq!(kept(after(17)), Some(after(1)), "too old");
    }
}
