//! The built-in transport: ureq, made safe.
//!
//! ureq follows redirects and takes the API key and the idempotency key along to the other host. So redirects are off,
//! always. Bodies are read in pieces and counted after decoding, so that a megabyte of gzip cannot become a gigabyte
//! of memory. Requests carry credentials, so plain `http` goes only to this machine itself. Each connection marks
//! whether anything was handed to it: whatever ends a request before that, nothing ran. For calls that are not jobs,
//! errors say by themselves whether there was a connection.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::retry::Certainty;
use steadfast_driver::{Outgoing, SendError};
use steadfast_providers::is_secure;
use ureq::config::{Config, ConfigBuilder};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Error, Proxy};

use crate::pool::MOST_THREADS;
use crate::resolver::{Addresses, Remembering};
use crate::transport::Transport;

mod certain;
mod certificate;
mod connections;
mod early;
mod proxy;
mod request;
mod response_ext;

use self::certain::Certain;
pub(crate) use self::certain::{NotConnected, before_connection, no_thread, not_connected, same};
use self::connections::Connections;
use self::proxy::Way;
use self::request::Underway;
pub use self::response_ext::{ResponseExt, classify_error};

/// How long connecting may take, if the request has time enough: "could not connect", after which certainly nothing
/// has run, is told apart from "no answer", after which it may have.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A create, or whatever else may not be repeated, uses only a connection that was in use this recently, or a new one.
/// Many servers close idle connections after two to five seconds; a request that is written to one just then may have
/// run, for all we know.
const IN_USE: Duration = Duration::from_secs(1);

/// A body is read in pieces of this.
const PIECE: usize = 16 << 10;

/// Sends by [`ureq`](https://docs.rs/ureq).
///
/// A create never uses a connection that was idle for more than a second: many servers close idle ones after two to
/// five, and if a create is written to one just then, nobody can say whether it ran.
///
/// Looking up a host takes a thread, which cannot be cut off while the name server is silent. Requests that need the same
/// host share it, and its answer is good for ten seconds.
///
/// ureq itself logs (by the `log` crate) URLs and some headers at the level *debug*, and at *trace* what goes over the
/// wire, byte for byte, with credentials and payloads. That cannot be switched off in ureq: a program that logs at
/// these levels should leave out the targets `ureq` and `ureq_proto`.
///
/// ```
/// use steadfast_blocking::UreqTransport;
///
/// let transport = UreqTransport::new();
/// ```
#[derive(Clone, Debug)]
pub struct UreqTransport {
    /// For jobs.
    connections: Arc<Connections>,
    /// For calls that are not jobs.
    agent: Agent,
    way: Way,
}

impl Default for UreqTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl UreqTransport {
    /// A transport with ureq's defaults except for redirects (off), the time-out for connecting (5 s, and no more than
    /// half of the attempt's), idle connections (kept for as many requests as a client has in the air,
    /// [`MOST_THREADS`]) and proxies: the one that the environment names (`HTTPS_PROXY`, else `ALL_PROXY`, less what
    /// `NO_PROXY` excepts) carries encrypted requests only, and none of them goes around it. If it is not a URL,
    /// nothing is sent. Plain `http`, which is for this machine, never leaves it.
    #[must_use]
    pub fn new() -> Self {
        let most = MOST_THREADS.get() as usize;
        let builder = Agent::config_builder().proxy(None).timeout_connect(Some(CONNECT_TIMEOUT));
        let this = Self::from_builder(builder.max_idle_connections(most).max_idle_connections_per_host(most));
        Self { way: Way::of_environment(), ..this }
    }

    /// A transport with your own settings: proxies, certificates, pool sizes. The environment's proxy is among them
    /// unless you switch it off (`.proxy(None)`), as ureq reads it: `ALL_PROXY` comes first, and plain `http` goes by
    /// it too, which [`new`](UreqTransport::new) never allows. Redirects are switched off in any case, and every
    /// status is an answer. ureq's own default keeps three idle connections to a host: with more requests in the air
    /// than that, most would begin with a new connection. Clones share the kept connections. Resolving a name takes no
    /// more than a quarter of an attempt's time, and connecting no more than half of it, so that it is known that
    /// nothing was sent.
    #[must_use]
    pub fn from_builder(builder: ConfigBuilder<AgentScope>) -> Self {
        let config: Config =
            builder.max_redirects(0).max_redirects_will_error(false).http_status_as_error(false).build();
        Self::from_parts(config, early::connector(), DefaultResolver::default())
    }

    fn from_parts(config: Config, connector: impl Connector, resolver: impl Resolver) -> Self {
        let known = Addresses::default();
        let (connector, resolver) = (Certain::new(connector, known.clone()), Remembering::new(resolver, known));
        let connections = Connections::new(config, connector, resolver);
        Self { agent: connections.agent(), connections: Arc::new(connections), way: Way::Configured }
    }

    /// An agent with the same settings, for calls that are not jobs: its errors say whether there was a connection
    /// ([`ResponseExt`]). A proxy that the environment names is not among its settings. It keeps connections of its
    /// own.
    #[must_use]
    pub const fn agent(&self) -> &Agent {
        &self.agent
    }
}

impl Transport for UreqTransport {
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let Outgoing { request, timeout, body_limit, .. } = outgoing;
        if !is_secure(request.uri()) {
            return Err(SendError::insecure());
        }
        self.exchange(request, timeout, body_limit)
    }
}

impl UreqTransport {
    fn exchange(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        body_limit: usize,
    ) -> Result<Response<Bytes>, SendError> {
        let to = request.uri().clone();
        let most_idle = if request.method().is_safe() { Duration::MAX } else { IN_USE };
        self.connections.carry(&to, timeout, most_idle, |agent, underway| {
            self.send_by(agent, underway, request, timeout, body_limit)
        })
    }

    fn send_by(
        &self,
        agent: &Agent,
        underway: &Underway,
        request: Request<Bytes>,
        timeout: Duration,
        body_limit: usize,
    ) -> Result<Response<Bytes>, SendError> {
        let answer = self.ask(agent, request, timeout);
        let answer = answer.map_err(|error| if underway.has_left() { classify(error) } else { unsent(error) })?;
        let (parts, body) = answer.into_parts();
        Ok(Response::from_parts(parts, read(body.into_reader(), body_limit)?))
    }

    fn ask(&self, agent: &Agent, request: Request<Bytes>, timeout: Duration) -> Result<Response<ureq::Body>, Error> {
        let proxy = match &self.way {
            _ if request.uri().scheme_str() != Some("https") => None,
            Way::Configured => None,
            Way::By(proxy) => Some(proxy.clone()),
            Way::Nowhere => return Err(Error::InvalidProxyUrl),
        };
        let (parts, body) = request.into_parts();
        if body.is_empty() && parts.method.is_safe() {
            run(agent, Request::from_parts(parts, ()), timeout, proxy)
        } else {
            run(agent, Request::from_parts(parts, &body[..]), timeout, proxy)
        }
    }
}

fn run(
    agent: &Agent,
    request: Request<impl ureq::AsSendBody>,
    timeout: Duration,
    proxy: Option<Proxy>,
) -> Result<Response<ureq::Body>, Error> {
    let most = agent.config().timeouts();
    let no_more = |most: Option<Duration>, time| Some(most.map_or(time, |most| most.min(time)));
    // If no connection came about, it is certain that nothing ran; if no answer came, it is not. So some time must be
    // left when the former is known. When all time is used up, the connection says so: ureq would leave unread what
    // came in time.
    let mut request = agent
        .configure_request(request)
        .timeout_global(None)
        .timeout_resolve(no_more(most.resolve, timeout / 4))
        .timeout_connect(no_more(most.connect, timeout / 2));
    if proxy.is_some() {
        request = request.proxy(proxy);
    }
    agent.run(request.build())
}

fn read(mut body: impl Read, limit: usize) -> Result<Bytes, SendError> {
    let (mut whole, mut piece) = (Vec::new(), [0; PIECE]);
    loop {
        match body.read(&mut piece) {
            Ok(0) => return Ok(whole.into()),
            Ok(read) if whole.len() + read > limit => return Err(SendError::body_too_large()),
            Ok(read) => whole.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken_off(error.into())),
        }
    }
}

/// The error that ends an answer whose head has come. Whatever the error says of connections, there was one: the
/// request has left.
fn broken_off(error: Error) -> SendError {
    match error {
        Error::Timeout(_) => SendError::timed_out(),
        Error::Io(error) => SendError::ambiguous().because(error),
        _ => SendError::ambiguous(),
    }
}

/// For a request of which nothing has left, the only question is whether it may be sent another time.
fn unsent(error: Error) -> SendError {
    match error {
        Error::InvalidProxyUrl => SendError::not_sent()
            .because("what HTTPS_PROXY or ALL_PROXY names is no proxy's URL: correct it, or unset it"),
        Error::Protocol(_) | Error::BodyExceedsLimit(_) => {
            SendError::unsendable().because("ureq does not send such: its method, its version, or one of its headers")
        }
        Error::Timeout(_) => SendError::not_sent().because("all of its time went by before it could leave"),
        Error::Io(error) => SendError::not_sent().because(error),
        error => {
            let told = classify(error);
            if told.failure().certainty == Certainty::NotExecuted { told } else { SendError::not_sent() }
        }
    }
}

/// What ureq knows for certain. The error's text is not used, and not shown: it may hold the URL.
fn classify(error: Error) -> SendError {
    match error {
        Error::Other(source) if source.is::<NotConnected>() => SendError::not_sent().because(source),
        Error::HostNotFound => SendError::not_sent().because("the host has no address"),
        Error::ConnectionFailed => SendError::not_sent(),
        // Of an agent with another connector. Nothing but `connect` is refused.
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => SendError::not_sent().because(error),
        Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
            SendError::not_sent().because("no connection came about in time")
        }
        Error::Http(_) | Error::BadUri(_) | Error::RequireHttpsOnly(_) => SendError::unsendable(),
        Error::RedirectFailed | Error::TooManyRedirects => SendError::misdirected(),
        Error::Timeout(_) => SendError::timed_out(),
        Error::Io(error) if certificate::is_refused(&error) => SendError::not_sent().because(error),
        Error::Io(error) => SendError::ambiguous().because(error),
        _ => SendError::ambiguous(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier, Mutex};
    use std::thread;

    use steadfast_core::retry::{Certainty, Class, Failure};
    use ureq::http::Uri;
    use ureq::tls::{TlsConfig, TlsProvider};
    use ureq::unversioned::resolver::ResolvedSocketAddrs;
    use ureq::unversioned::transport::{ConnectionDetails, DefaultConnector, NextTimeout, Transport as Connection};

    use super::*;

    const CALLERS: usize = 16;
    const ROUNDS: usize = 4;

    /// Longer than anything here takes.
    const WHILE: Duration = Duration::from_secs(30);

    /// A server that counts its connections, and answers each request on them for as long as they are there.
    fn serve() -> io::Result<(String, Arc<AtomicUsize>)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (uri, made) = (format!("http://{}/", listener.local_addr()?), Arc::new(AtomicUsize::new(0)));
        let count = made.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || answer(&connection));
            }
        });
        Ok((uri, made))
    }

    fn answer(mut connection: &TcpStream) {
        for line in BufReader::new(connection).lines().map_while(Result::ok) {
            if line.is_empty() && connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                break;
            }
        }
    }

    /// All are in the air together: as many connections are idle after a round as were busy in it.
    #[test]
    fn as_many_connections_as_requests_in_the_air_are_used_again() {
        let (uri, made) = serve().expect("a port is free");
        let (transport, together) = (UreqTransport::new(), Barrier::new(CALLERS));
        let call = || {
            let answers = [(); ROUNDS].map(|()| {
                together.wait();
                let request = Request::get(&uri).body(Bytes::new()).expect("a request");

                let answer = transport.connections.carry(&request.uri().clone(), WHILE, WHILE, |agent, underway| {
                    let answer = transport.send_by(agent, underway, request, WHILE, 2);
                    together.wait();
                    answer
                });
                answer.map(Response::into_body)
            });
            answers.into_iter().all(|answer| matches!(answer, Ok(body) if body == "ok"))
        };
        let answered = thread::scope(|scope| {
            let callers = [(); CALLERS].map(|()| scope.spawn(call));
            callers.into_iter().all(|caller| caller.join().is_ok_and(|answered| answered))
        });
        assert!(answered);
        let made = made.load(Ordering::SeqCst);
        assert!(made <= CALLERS, "{made} connections for {CALLERS} requests at a time");
    }

    /// Knows one address after the other for whatever host, the last one for good, and who was asked for.
    #[derive(Clone, Debug)]
    struct Moving(Arc<Mutex<(Vec<SocketAddr>, Vec<String>)>>);

    impl Moving {
        fn new(addresses: impl Into<Vec<SocketAddr>>) -> Self {
            Self(Arc::new(Mutex::new((addresses.into(), Vec::new()))))
        }

        fn asked(&self) -> Vec<String> {
            self.0.lock().expect("no panic").1.clone()
        }
    }

    impl Resolver for Moving {
        fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
            let (addresses, asked) = &mut *self.0.lock().expect("no panic");
            asked.extend(uri.host().map(ToOwned::to_owned));
            let mut resolved = self.empty();
            resolved.push(if addresses.len() > 1 { addresses.remove(0) } else { addresses[0] });
            Ok(resolved)
        }
    }

    /// Of a port that nobody listens to any more.
    fn closed() -> io::Result<SocketAddr> {
        TcpListener::bind("127.0.0.1:0")?.local_addr()
    }

    fn certainly_not_sent(came: Result<Response<ureq::Body>, Error>) {
        let failure = classify(came.expect_err("nobody is there")).failure();
        assert_eq!(failure, Failure::new(Class::Transient, Certainty::NotExecuted));
    }

    #[test]
    fn a_host_that_has_moved_is_found_by_the_next_try() {
        let (uri, _) = serve().expect("a port is free");
        let there = uri.parse::<Uri>().ok().and_then(|uri| uri.authority()?.as_str().parse().ok()).expect("an address");
        let resolver = Moving::new([closed().expect("a port is free"), there]);
        let config = Agent::config_builder().proxy(None).build();
        let agent = UreqTransport::from_parts(config, DefaultConnector::default(), resolver.clone()).agent;
        certainly_not_sent(agent.get("http://moved.example/").call());
        assert!(agent.get("http://moved.example/").call().is_ok());
        assert!(agent.get("http://moved.example/").call().is_ok());
        assert_eq!(resolver.asked().len(), 2, "where it is now is remembered");
    }

    /// Asks for its proxy's addresses itself, as ureq's for SOCKS does, and reaches nobody.
    #[derive(Debug)]
    struct Socks;

    impl Connector for Socks {
        type Out = Box<dyn Connection>;

        fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
            let proxy = details.config.proxy().ok_or(Error::InvalidProxyUrl)?;
            details.resolver.resolve(proxy.uri(), details.config, details.timeout)?;
            Err(Error::ConnectionFailed)
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_reached_is_asked_for_again() {
        let proxied = |proxy| {
            let proxy = Proxy::new(proxy).expect("a proxy");
            Agent::config_builder().proxy(Some(proxy)).build()
        };
        let resolver = Moving::new([closed().expect("a port is free")]);
        let http = proxied("http://proxy.example:3128");
        let connect = UreqTransport::from_parts(http, DefaultConnector::default(), resolver.clone());
        let socks = UreqTransport::from_parts(proxied("socks4a://proxy.example"), Socks, resolver.clone());
        for UreqTransport { agent, .. } in [connect, socks] {
            let before = resolver.asked().len();
            certainly_not_sent(agent.get("https://a.example/").call());
            certainly_not_sent(agent.get("https://a.example/").call());
            assert_eq!(resolver.asked()[before..], ["proxy.example", "proxy.example"]);
        }
    }

    /// ureq's own, of settings that ask for what it was built without. Else each create that met it might have run, for
    /// all that anybody knows.
    #[test]
    fn a_panic_before_there_is_a_connection_certainly_sent_nothing() {
        let (uri, _) = serve().expect("a port is free");
        let uri = uri.replace("http:", "https:");
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).build();
        let transport = UreqTransport::from_builder(Agent::config_builder().proxy(None).tls_config(tls));
        for _ in 0..2 {
            let request = Request::post(&uri).body(Bytes::new()).expect("a request");
            let jobs = transport.exchange(request, WHILE, 2).expect_err("it panicked");
            let calls = classify(transport.agent().get(&uri).call().expect_err("it panicked"));
            for came in [jobs, calls] {
                assert_eq!(came.failure(), Failure::new(Class::Transient, Certainty::NotExecuted));
                let cause = std::error::Error::source(&came).expect("a cause").to_string();
                assert!(cause.contains("panicked"), "{cause}");
            }
        }
    }

    /// Its method, its version or its headers are none that ureq sends; or no time is left. What it says of that may be
    /// what it says of an answer.
    #[test]
    fn what_ureq_refuses_to_send_certainly_has_not_left() {
        let (uri, _) = serve().expect("a port is free");
        let transport = UreqTransport::new();
        let met = |request: http::request::Builder, timeout| {
            let request = request.uri(&uri).body(Bytes::from_static(b"{}")).expect("a request");
            transport.exchange(request, timeout, 2).map(drop).map_err(|error| error.failure())
        };

        let post = || Request::builder().method("POST");
        let not_ascii = http::HeaderValue::from_bytes(b"Bearer \xfc").expect("a value");
        let refused = [
            Request::builder().method("QUERY"),
            post().version(http::Version::HTTP_2),
            post().header("authorization", not_ascii),
            post().header("host", "a.example").header("host", "b.example"),
            post().header("content-length", "two"),
        ];
        for request in refused {
            let asked = format!("{request:?}");
            assert_eq!(met(request, WHILE), Err(Failure::new(Class::Permanent, Certainty::NotExecuted)), "{asked}");
        }
        let too_late = met(post(), Duration::from_nanos(1));
        assert_eq!(too_late, Err(Failure::new(Class::Transient, Certainty::NotExecuted)));
        assert_eq!(met(post(), WHILE), Ok(()), "the others are sent");
    }

    /// Says whether it is to set up a connection by settings of the request's own, and makes none.
    #[derive(Debug)]
    struct Seeing(Arc<Mutex<Vec<bool>>>);

    impl Connector for Seeing {
        type Out = Box<dyn Connection>;

        fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
            self.0.lock().expect("no panic").push(details.request_level);
            Err(Error::ConnectionFailed)
        }
    }

    /// Else ureq would set up TLS for each connection anew, and no session would be taken up again.
    #[test]
    fn a_jobs_request_connects_by_the_agents_own_settings() {
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let (config, resolver) =
            (Agent::config_builder().proxy(None).build(), Moving::new([([127, 0, 0, 1], 1).into()]));
        let transport = UreqTransport::from_parts(config, Seeing(seen.clone()), resolver);
        let request = Request::get("https://a.example/").body(Bytes::new()).expect("a request");
        let send = |agent: &Agent, underway: &Underway| transport.send_by(agent, underway, request.clone(), WHILE, 2);
        assert!(transport.connections.carry(request.uri(), WHILE, WHILE, send).is_err());
        assert!(send(transport.agent(), &Underway::default()).is_err());
        assert_eq!(*seen.lock().expect("no panic"), [false, true]);
    }

    /// An answer that breaks off with this error.
    struct Breaking(Option<io::Error>);

    impl Read for Breaking {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.take().map_or(Ok(0), Err)
        }
    }

    #[test]
    fn once_the_head_has_come_no_error_says_that_nothing_ran() {
        let all = [
            Error::HostNotFound,
            Error::ConnectionFailed,
            Error::BadUri("canary".to_owned()),
            Error::TooManyRedirects,
            Error::Timeout(ureq::Timeout::Resolve),
            Error::Timeout(ureq::Timeout::Connect),
            Error::Timeout(ureq::Timeout::RecvBody),
            Error::Io(io::ErrorKind::ConnectionRefused.into()),
            Error::Io(io::ErrorKind::ConnectionReset.into()),
            not_connected(Error::ConnectionFailed),
        ];
        for error in all {
            let told = format!("{error:?}");
            let class = if matches!(error, Error::Timeout(_)) { Class::TimedOut } else { Class::Transient };
            let came = read(Breaking(Some(error.into_io())), 1).expect_err("it broke off");
            assert_eq!(came.failure(), Failure::new(class, Certainty::MayHaveExecuted), "{told}");
            assert!(!format!("{came:?}").contains("canary"), "{came:?}");
        }
    }

    #[test]
    fn no_url_shows_in_an_error_from_before_the_connection() {
        let inner = || [Error::RequireHttpsOnly("canary".to_owned()), Error::ConnectProxyFailed("canary".to_owned())];
        for error in inner().map(not_connected).map(not_connected) {
            let error = classify(error);
            assert_eq!(error.failure(), Failure::new(Class::Transient, Certainty::NotExecuted));
            let source = std::error::Error::source(&error).expect("a cause");
            assert_eq!(format!("{source:?}"), format!("NotConnected({source})"));
            assert!(!format!("{error:?} {error} {source:?} {source}").contains("canary"), "{error:?}");
        }
        let proxys = not_connected(not_connected(Error::Timeout(ureq::Timeout::Connect)));
        assert_eq!(proxys.to_string(), "other: no connection came about in time", "the cause is not lost");
        let unsendable = classify(not_connected(Error::BadUri("canary".to_owned())));
        assert_eq!(unsendable.failure(), Failure::new(Class::Permanent, Certainty::NotExecuted));
        assert!(!format!("{unsendable:?}").contains("canary"), "{unsendable:?}");
    }
}
