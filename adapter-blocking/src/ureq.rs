//! The built-in transport: ureq, made safe.
//!
//! ureq follows redirects and takes the API key and the idempotency key along to the other host. So redirects are off,
//! always. Bodies are read in pieces and counted after decoding, so that a megabyte of gzip cannot become a gigabyte
//! of memory. Requests carry credentials, so plain `http` goes only to this machine itself. Each connection marks
//! whether anything was handed to it: whatever ends a request before that, nothing ran. For calls that are not jobs,
//! errors say by themselves whether there was a connection.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
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
/// Servers are trusted by Mozilla's list of certificates as it was when the program was built, which is ureq's default:
/// a certificate of your company's own, or a proxy that looks into TLS, needs
/// [`from_builder`](UreqTransport::from_builder) with a `TlsConfig`. (`steadfast-tokio` goes by the system's list.) An
/// answer may have 128 headers of 64 KiB together; if it has more, it counts as broken.
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
    /// nothing is sent. Plain `http`, which is for this machine, never leaves it. `NO_PROXY` may hold names and single
    /// addresses, and no ranges of addresses.
    ///
    /// A host's addresses are tried one after the other. On a machine whose IPv6 leads nowhere each new connection waits
    /// for that first: give [`from_builder`](UreqTransport::from_builder) an `ip_family(IpFamily::Ipv4Only)`.
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
        match read(body.into_reader(), parts.status, body_limit) {
            Ok(body) => Ok(Response::from_parts(parts, body)),
            Err(error) => Err(error.after_head(parts.status, &parts.headers, SystemTime::now().into())),
        }
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

fn read(mut body: impl Read, status: StatusCode, limit: usize) -> Result<Bytes, SendError> {
    // What such a status says is not in doubt if the body is in no coding, so that nobody could read it: a proxy's own
    // words under the provider's header, say, or no body at all, which ureq tries to decode.
    let needs_no_body = !status.is_success() || status == StatusCode::NO_CONTENT;
    let (mut whole, mut piece) = (Vec::new(), [0; PIECE]);
    loop {
        match body.read(&mut piece) {
            Ok(0) => return Ok(whole.into()),
            Ok(read) if whole.len() + read > limit => return Err(SendError::body_too_large()),
            Ok(read) => whole.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => match Error::from(error) {
                Error::Decompress(_, error) if needs_no_body && is_undecodable(&error, whole.len()) => {
                    return Ok(Bytes::new());
                }
                error => return Err(broken_off(error)),
            },
        }
    }
}

/// Whether it is the decoder's own word, and not that what it decodes ends too soon: without a length, only the decoder
/// can tell that a body was cut. ureq has the decoder's name on a connection that breaks, too: where TLS does, that is
/// invalid data.
fn is_undecodable(error: &io::Error, decoded: usize) -> bool {
    match error.kind() {
        io::ErrorKind::InvalidInput => error.raw_os_error().is_none(),
        // It ends before gzip's own header does.
        io::ErrorKind::UnexpectedEof => decoded == 0 && error.raw_os_error().is_none() && error.get_ref().is_none(),
        _ => false,
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
mod tests;
