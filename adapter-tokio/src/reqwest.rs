//! The built-in transport: reqwest, made safe.
//!
//! reqwest follows redirects and takes the API key and the idempotency key along to the other host; on a 307 it even
//! posts the body there. So redirects are off, always. Bodies are read in pieces and counted after decoding, so that a
//! megabyte of gzip cannot become a gigabyte of memory. Requests carry credentials, so plain `http` goes only to this
//! machine itself. Nothing is sent twice: reqwest's own retries are off. Connecting has a time-out of its own: "could
//! not connect" is certain where "no answer" is not.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use reqwest::{Url, redirect, retry};
use steadfast_providers::is_secure;

use steadfast_driver::{Outgoing, SendError};

use crate::transport::Transport;

mod certificate;
mod connecting;
mod proxy;
mod response_ext;

use self::connecting::{ConnectInTime, within};

pub use self::response_ext::{ResponseExt, classify_error};

/// Sends by [`reqwest`]. It sets no time-out for a whole request: the client drops what is no longer waited for, as it
/// does with every [`Transport`].
///
/// Clones share their connections, and each connection lives on the runtime that it was made on. Give clients on
/// different runtimes transports of their own, or one waits for the other's runtime, and breaks off with it.
///
/// Servers are trusted by the system's list of certificates. (`steadfast-blocking` goes by one of its own.) An answer may
/// have 100 headers; if it has more, it counts as broken.
///
/// A server may answer a large create before it has read it, and close the connection at once (a 413, say). hyper may
/// then end with the write that failed, and not read the answer: then nobody can say whether that create ran. Where
/// payloads of a megabyte and more may be refused like this, check their size before they are submitted, or send by
/// `steadfast-blocking`, which reads the answer.
///
/// ```
/// use steadfast_tokio::ReqwestTransport;
///
/// let transport = ReqwestTransport::new()?;
/// # Ok::<(), steadfast_tokio::TransportError>(())
/// ```
#[derive(Clone)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    /// For requests that may not be repeated.
    creates: reqwest::Client,
    /// Of the first request.
    origin: OnceLock<Origin>,
    used: Arc<Used>,
}

/// How long connecting may take, if the request has time enough (`connecting`): "could not connect", after which
/// certainly nothing has run, is told apart from "no answer", after which it may have.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept: less than load balancers and proxies in front of providers usually keep it (60
/// s, 75 s).
const KEPT_FOR: Duration = Duration::from_secs(50);

/// The same for creates, and whatever else may not be repeated. Many servers close idle connections after two to five
/// seconds; a request that is written to one just then may have run, for all we know.
const CREATES_KEPT_FOR: Duration = Duration::from_secs(1);

/// If nothing was sent for this long, a server may have closed the kept connections, and if the runtime was not driven
/// meanwhile, or the machine slept, nobody has noticed.
const QUIET: Duration = Duration::from_millis(100);

/// How long the next request waits then, so that the tasks that watch the connections get their turn. A request that
/// is written to a closed connection may have run, for all we know.
const LOOKING: Duration = Duration::from_millis(1);

impl ReqwestTransport {
    /// A transport with reqwest's defaults except for
    ///
    /// - redirects: off;
    /// - the time-out for connecting: 5 s, and for a create no more than half of its attempt's;
    /// - how long an idle connection is kept: 50 s. Creates have connections of their own, kept for 1 s, since many
    ///   servers close idle ones after two to five;
    /// - the protocol: HTTP/1.1, so that a request shares its connection's fate with no other;
    /// - TLS, names and decoders: rustls, the system's resolver and gzip, whatever features of reqwest another crate of
    ///   the program asks for;
    /// - proxies: the one that the environment names (`HTTPS_PROXY`, else `ALL_PROXY`, less what `NO_PROXY` excepts)
    ///   carries what is encrypted only. Plain `http`, which is for this machine, never leaves it.
    ///
    /// # Errors
    /// The TLS backend could not be set up, or the environment names a proxy that is not a usable URL: nothing goes
    /// around it.
    pub fn new() -> Result<Self, TransportError> {
        let proxy = proxy::of_environment()?;
        let builder = |kept| {
            let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).pool_idle_timeout(kept);
            // Another crate of the program may have switched on more of reqwest.
            let builder = builder.no_proxy().http1_only().tls_backend_rustls().no_hickory_dns();
            let builder = builder.no_brotli().no_deflate().no_zstd();
            match &proxy {
                Some(proxy) => builder.proxy(proxy.clone()),
                None => builder,
            }
        };
        let creates = build(builder(CREATES_KEPT_FOR).connector_layer(ConnectInTime))?;
        Ok(Self { client: build(builder(KEPT_FOR))?, creates, origin: OnceLock::new(), used: Arc::default() })
    }

    /// A transport with your own settings: proxies, certificates, pool sizes. The environment's proxies are among them
    /// unless you switch them off (`.no_proxy()`), as reqwest reads them: plain `http` then goes by `HTTP_PROXY`,
    /// which [`new`](ReqwestTransport::new) never allows. Redirects and retries are switched off in any case.
    /// Connecting may take no more than half of an attempt's time, so that it is known that nothing was sent.
    ///
    /// Creates share the connections of the rest. Keep idle ones for less time than the provider keeps them
    /// (`pool_idle_timeout`; reqwest's own is 90 s): if a create is written to one just as it is closed, nobody can
    /// say whether it ran.
    ///
    /// If any crate of your program enables reqwest's feature `http2`, which is one of its defaults, HTTP/2 is used
    /// here unless you say `.http1_only()`. If its connection breaks, all requests on it break at once, and a stream
    /// that the server refuses counts as one that may have run.
    ///
    /// If any crate enables `native-tls`, that is used for TLS unless you say `.tls_backend_rustls()`. Not all of its
    /// backends tell a connection that was cut from one that ended: an answer without a length that was cut off may
    /// then count as complete.
    ///
    /// # Errors
    /// The settings contradict each other, or the TLS backend could not be set up.
    pub fn from_builder(builder: reqwest::ClientBuilder) -> Result<Self, TransportError> {
        let client = build(builder.connector_layer(ConnectInTime))?;
        Ok(Self { creates: client.clone(), client, origin: OnceLock::new(), used: Arc::default() })
    }

    /// The client that it sends by, for calls that are not jobs: with these settings, what an error says about
    /// certainty is right ([`ResponseExt`]).
    #[must_use]
    pub const fn client(&self) -> &reqwest::Client {
        &self.client
    }
}

/// Without the clients, which show the headers that are set for every request, with their credentials.
impl fmt::Debug for ReqwestTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReqwestTransport")
    }
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, TransportError> {
    let builder = builder.redirect(redirect::Policy::none()).retry(retry::never());
    builder.build().map_err(Cause::Client).map_err(TransportError)
}

/// The HTTP client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be set up: check the settings given to it")]
pub struct TransportError(#[source] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Client(reqwest::Error),
    // It may hold a password.
    #[error(
        "the proxy that the environment names (HTTPS_PROXY, else ALL_PROXY) cannot be used: give it as a URL such as http://proxy.example:3128"
    )]
    Proxy,
}

impl Transport for ReqwestTransport {
    // No `async fn`, which would hold what the request was made of for as long as it is waited for.
    fn send(&self, outgoing: Outgoing) -> impl Future<Output = Result<Response<Bytes>, SendError>> + Send {
        let Outgoing { timeout, body_limit, .. } = outgoing;
        let repeatable = outgoing.request.method().is_safe();
        let (sent, used) = (self.begin(outgoing.request), self.used.clone());
        async move {
            let sent = sent?;
            if used.is_quiet() {
                tokio::time::sleep(LOOKING).await;
            }
            // Not earlier: a request that comes meanwhile has to look as well.
            used.touch();
            let came = receive(within((!repeatable).then_some(timeout), sent).await, body_limit).await;
            used.touch();
            came
        }
    }
}

/// Reads the answer, its body up to the limit.
async fn receive(
    answer: Result<reqwest::Response, reqwest::Error>,
    body_limit: usize,
) -> Result<Response<Bytes>, SendError> {
    let mut answer = answer.map_err(|error| classify(error, SendError::ambiguous()))?;
    let status = answer.status();
    let body = match read(&mut answer, body_limit).await {
        Ok(body) => body,
        // It is in no coding, so nobody could read it: a proxy's own words under the provider's header, say. What the
        // status says is not in doubt.
        Err(Unread::Broken(error)) if is_undecodable(&error) && !status.is_success() => Bytes::new(),
        Err(Unread::Broken(error)) => return Err(after_head(classify(error, SendError::ambiguous()), &answer)),
        Err(Unread::TooLarge) => return Err(after_head(SendError::body_too_large(), &answer)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

/// Why a body is missing.
enum Unread {
    /// It broke off, or could not be decoded.
    Broken(reqwest::Error),
    TooLarge,
}

async fn read(answer: &mut reqwest::Response, limit: usize) -> Result<Bytes, Unread> {
    let mut body = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(Unread::Broken)? {
        if body.len() + piece.len() > limit {
            return Err(Unread::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// Whether it is the decoder's own word, and not that what it decodes ends too soon: without a length, only the decoder
/// can tell that a body was cut. To reqwest, a connection that breaks is a decoding that fails, too; but then the next
/// cause is hyper's.
fn is_undecodable(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput};
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.raw_os_error().is_none() && matches!(cause.kind(), InvalidData | InvalidInput))
}

fn after_head(error: SendError, answer: &reqwest::Response) -> SendError {
    error.after_head(answer.status(), answer.headers(), SystemTime::now().into())
}

impl ReqwestTransport {
    fn begin(
        &self,
        request: Request<Bytes>,
    ) -> Result<impl Future<Output = Result<reqwest::Response, reqwest::Error>>, SendError> {
        if !is_secure(request.uri()) {
            return Err(SendError::insecure());
        }
        let client = if request.method().is_safe() { &self.client } else { &self.creates };
        Ok(client.execute(self.translate(request)?))
    }

    fn translate(&self, request: Request<Bytes>) -> Result<reqwest::Request, SendError> {
        let origin = self.origin.get().or_else(|| {
            let first = Origin::of(request.uri())?;
            Some(self.origin.get_or_init(|| first))
        });
        let Some(url) = origin.and_then(|origin| origin.url(request.uri())) else {
            return self.elsewhere(request);
        };
        let (parts, body) = request.into_parts();
        let mut translated = reqwest::Request::new(parts.method, url);
        *translated.headers_mut() = parts.headers;
        *translated.version_mut() = parts.version;
        *translated.body_mut() = Some(body.into());
        Ok(translated)
    }

    /// A request to another origin, or whose URL names a user, of which a header is made unless there is one already.
    fn elsewhere(&self, request: Request<Bytes>) -> Result<reqwest::Request, SendError> {
        let (parts, body) = request.into_parts();
        let builder = self.client.request(parts.method, parts.uri.to_string()).version(parts.version);
        let builder = builder.headers(parts.headers).body(body);
        builder.build().map_err(|error| classify(error, SendError::unsendable()))
    }
}

/// When something was last sent or received: in milliseconds of the wall clock, which goes on while the machine
/// sleeps. Zero before the first.
#[derive(Debug, Default)]
struct Used(AtomicU64);

impl Used {
    // It guards nothing.
    fn touch(&self) {
        self.0.store(Self::now(), Ordering::Relaxed);
    }

    fn is_quiet(&self) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last > 0 && Duration::from_millis(Self::now().abs_diff(last)) >= QUIET
    }

    fn now() -> u64 {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Where requests go, parsed once: a client asks one provider, and a URL's host is most of what parsing it costs.
#[derive(Clone, Debug)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
    root: Url,
}

impl Origin {
    /// `None` for a URI that names a user, of which reqwest makes a header where it is given the URL's text.
    fn of(uri: &Uri) -> Option<Self> {
        let (scheme, authority) = (uri.scheme()?.clone(), uri.authority()?.clone());
        let root = Url::parse(&format!("{scheme}://{authority}/")).ok()?;
        (!authority.as_str().contains('@')).then_some(Self { scheme, authority, root })
    }

    /// The same as parsing it. `None` if it is of another origin.
    fn url(&self, uri: &Uri) -> Option<Url> {
        if uri.scheme() != Some(&self.scheme) || uri.authority() != Some(&self.authority) {
            return None;
        }
        let mut url = self.root.clone();
        url.set_path(uri.path());
        url.set_query(uri.query());
        Some(url)
    }
}

/// What reqwest knows for certain. The error's text is not used.
fn classify(error: reqwest::Error, otherwise: SendError) -> SendError {
    let what = if error.is_builder() {
        SendError::unsendable()
    } else if error.is_redirect() {
        SendError::misdirected()
    } else if error.is_connect() || (error.is_request() && certificate::is_refused(&error)) {
        SendError::not_sent()
    } else if error.is_timeout() {
        SendError::timed_out()
    } else {
        otherwise
    };
    // The URL may hold a reference.
    what.because(error.without_url())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a provider makes of a reference, the URL is what reqwest itself would have parsed.
        #[test]
        fn a_url_of_a_known_origin_is_the_one_that_parsing_gives(
            origin in prop::sample::select(vec!["https://api.example", "https://API.Example:443", "http://127.0.0.1:8080", "http://[::1]:1", "https://a.example:8443"]),
            rest in "(/[!$&-;=@-Z_a-z|~%\"{}^`\\\\\\[\\]]{0,12}){0,4}([?][!$&-;=?@-Z_a-z|~%\"{}'`\\\\^]{0,16})?",
        ) {
            let Ok(uri) = format!("{origin}{rest}").parse::<Uri>() else { return Ok(()) };
            let known = Origin::of(&uri).and_then(|origin| origin.url(&uri));
            prop_assert_eq!(known, Url::parse(&uri.to_string()).ok());
        }
    }

    #[test]
    fn it_does_not_show_what_it_sends_with() {
        let headers = [(http::header::AUTHORIZATION, http::HeaderValue::from_static("Bearer canary"))];
        let builder = reqwest::Client::builder().default_headers(headers.into_iter().collect());
        let transport = ReqwestTransport::from_builder(builder).expect("a client");
        assert!(!format!("{transport:?}").contains("canary"), "{transport:?}");
    }

    /// As ureq does it, except that there what is percent-encoded stays so. Where the provider names its credentials
    /// itself, those count.
    #[test]
    fn a_user_that_a_url_names_is_who_asks() {
        let transport = ReqwestTransport::new().expect("a client");
        let translated = |headers: &[(&'static str, &'static str)]| {
            let mut request =
                Request::post("https://u%40a:p@api.example/jobs").body(Bytes::from_static(b"{}")).expect("a request");
            for (name, value) in headers {
                request.headers_mut().insert(*name, http::HeaderValue::from_static(value));
            }
            transport.translate(request).expect("it can be sent")
        };
        let request = translated(&[]);
        assert_eq!(request.headers()["authorization"], "Basic dUBhOnA=");
        assert!(request.headers()["authorization"].is_sensitive());
        assert_eq!(request.url().as_str(), "https://api.example/jobs");
        assert_eq!(request.body().and_then(reqwest::Body::as_bytes), Some(&b"{}"[..]));
        let own = translated(&[("authorization", "Bearer x"), ("idempotency-key", "k")]);
        assert_eq!(
            (&own.headers()["authorization"], &own.headers()["idempotency-key"]),
            (&"Bearer x".parse().expect("a value"), &"k".parse().expect("a value"))
        );
        assert_eq!(own.headers().get_all("authorization").iter().count(), 1);
    }

    #[test]
    fn what_goes_elsewhere_or_names_a_user_is_left_to_reqwest() {
        let uri = |text: &str| text.parse::<Uri>().expect("a URI");
        let origin = Origin::of(&uri("https://api.example/jobs/1?full=1")).expect("an origin");
        for other in
            ["https://api.example:444/", "http://api.example/", "https://other.example/", "https://u:p@api.example/"]
        {
            assert_eq!(origin.url(&uri(other)), None, "{other}");
        }
        assert!(Origin::of(&uri("https://u:p@api.example/")).is_none());
        assert_eq!(
            origin.url(&uri("https://api.example/a?b")).map(Url::into),
            Some("https://api.example/a?b".to_owned())
        );
    }
}
