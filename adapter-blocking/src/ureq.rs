//! The transport that ships: ureq, made safe.
//!
//! ureq follows redirects and takes the API key and the idempotency key along to the other host. So redirects are off, always. Bodies are read in
//! pieces and counted after decoding, so that a megabyte of gzip cannot become a gigabyte of memory. Requests carry credentials, so plain `http` goes to this
//! machine itself only. An error tells by itself whether there was a connection: whatever fails before there is one certainly ran nothing.

use std::env;
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use steadfast_driver::{Outgoing, SendError};
use steadfast_providers::is_secure;
use ureq::config::{Config, ConfigBuilder};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, Transport as Connection};
use ureq::{Agent, Error, Proxy};

use crate::transport::Transport;

/// How long a connection may take to come about. Well below an attempt's time-out, so that "could not connect", which is known to have run
/// nothing, is told apart from "no answer", which is not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A body is read in pieces of this.
const PIECE: usize = 16 << 10;

/// Sends by [`ureq`](https://docs.rs/ureq).
///
/// ureq itself logs (by the `log` crate) URLs and some headers at the level *debug*, and at *trace* what goes over the wire, byte for byte, with credentials and
/// payloads. It cannot be told not to: a program that logs at these levels should leave out the targets `ureq` and `ureq_proto`.
///
/// ```
/// use steadfast_blocking::UreqTransport;
///
/// let transport = UreqTransport::new();
/// ```
#[derive(Clone, Debug)]
pub struct UreqTransport {
    agent: Agent,
    /// For what is encrypted.
    proxy: Option<Proxy>,
}

impl Default for UreqTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl UreqTransport {
    /// With ureq's defaults but for redirects (off), the connection's time-out (5 s) and proxies: the one that the environment names (`HTTPS_PROXY`, `ALL_PROXY`,
    /// less what `NO_PROXY` excepts) carries what is encrypted only. Plain `http`, which is for this machine, never leaves it.
    #[must_use]
    pub fn new() -> Self {
        let this = Self::from_builder(Agent::config_builder().proxy(None).timeout_connect(Some(CONNECT_TIMEOUT)));
        Self { proxy: proxy_of_environment(), ..this }
    }

    /// With your own settings: proxies (those of the environment too, unless you switch them off), certificates, pool sizes. Redirects are switched off
    /// whatever they were, and every status is an answer.
    #[must_use]
    pub fn from_builder(builder: ConfigBuilder<AgentScope>) -> Self {
        let config: Config =
            builder.max_redirects(0).max_redirects_will_error(false).http_status_as_error(false).build();
        let connector = Certain(DefaultConnector::default());
        Self { agent: Agent::with_parts(config, connector, DefaultResolver::default()), proxy: None }
    }
}

impl Transport for UreqTransport {
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let Outgoing { request, timeout, body_limit, .. } = outgoing;
        if !is_secure(request.uri()) {
            return Err(SendError::insecure());
        }
        let (parts, body) = request.into_parts();
        let answer = if body.is_empty() && parts.method.is_safe() {
            self.run(Request::from_parts(parts, ()), timeout)
        } else {
            self.run(Request::from_parts(parts, &body[..]), timeout)
        };
        let (parts, body) = answer.map_err(classify)?.into_parts();
        Ok(Response::from_parts(parts, read(body.into_reader(), body_limit)?))
    }
}

impl UreqTransport {
    fn run<B: ureq::AsSendBody>(&self, request: Request<B>, timeout: Duration) -> Result<Response<ureq::Body>, Error> {
        let proxy = self.proxy.clone().filter(|_| request.uri().scheme_str() == Some("https"));
        let mut request = self.agent.configure_request(request).timeout_global(Some(timeout));
        if proxy.is_some() {
            request = request.proxy(proxy);
        }
        self.agent.run(request.build())
    }
}

fn proxy_of_environment() -> Option<Proxy> {
    // ureq alone would look at HTTP_PROXY too, which is not for what is encrypted.
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let named = names.iter().any(|name| env::var(name).is_ok_and(|proxy| !proxy.is_empty()));
    if named { Proxy::try_from_env() } else { None }
}

fn read(mut body: impl Read, limit: usize) -> Result<Bytes, SendError> {
    let (mut whole, mut piece) = (Vec::new(), [0; PIECE]);
    loop {
        match body.read(&mut piece) {
            Ok(0) => return Ok(whole.into()),
            Ok(read) if whole.len() + read > limit => return Err(SendError::body_too_large()),
            Ok(read) => whole.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(classify(error.into())),
        }
    }
}

/// What ureq knows for certain. Its text is not asked, and not shown: it may hold the URL.
fn classify(error: Error) -> SendError {
    match error {
        Error::Other(source) if source.is::<NotConnected>() => SendError::not_sent().because(source),
        Error::HostNotFound => SendError::not_sent().because("the host has no address"),
        Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
            SendError::not_sent().because("no connection came about in time")
        }
        Error::Http(_) | Error::BadUri(_) | Error::RequireHttpsOnly(_) => SendError::unsendable(),
        Error::Timeout(_) => SendError::timed_out(),
        Error::Io(error) => SendError::ambiguous().because(error),
        _ => SendError::ambiguous(),
    }
}

/// Marks every error that comes before there is a connection.
#[derive(Debug)]
struct Certain<C>(C);

impl<In: Connection, C: Connector<In>> Connector<In> for Certain<C> {
    type Out = C::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<C::Out>, Error> {
        self.0.connect(details, chained).map_err(|error| Error::Other(Box::new(NotConnected(error))))
    }
}

#[derive(Debug)]
struct NotConnected(Error);

impl std::fmt::Display for NotConnected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Error::Timeout(_) => "no connection came about in time",
            Error::Rustls(_) | Error::Tls(_) => "the TLS handshake failed",
            _ => "the connection failed",
        })
    }
}

impl std::error::Error for NotConnected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Error::Io(error) => Some(error),
            _ => None,
        }
    }
}
