//! What is certain of a request that failed, and which connections and addresses are used again.

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
    let (config, resolver) = (Agent::config_builder().proxy(None).build(), Moving::new([([127, 0, 0, 1], 1).into()]));
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
        let came = read(Breaking(Some(error.into_io())), StatusCode::OK, 1).expect_err("it broke off");
        assert_eq!(came.failure(), Failure::new(class, Certainty::MayHaveExecuted), "{told}");
        assert!(!format!("{came:?}").contains("canary"), "{came:?}");
    }
}

/// Neither is the decoder's word, though it passes it on: an alert, and a record that somebody tampered with.
#[test]
fn a_refusals_body_that_tls_breaks_off_has_not_come() {
    for broken in [rustls::Error::DecryptError, rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)] {
        let told = format!("{broken:?}");
        let error = Error::Decompress("gzip", io::Error::new(io::ErrorKind::InvalidData, broken));
        let came = read(Breaking(Some(error.into_io())), StatusCode::BAD_REQUEST, 1);
        let came = came.expect_err(&told);
        assert_eq!(came.failure(), Failure::new(Class::Transient, Certainty::MayHaveExecuted), "{told}");
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
