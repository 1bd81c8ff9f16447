//! What is certain of a request whose connection did not come about: it has not left.

use std::fmt;
use std::io;
use std::sync::Arc;

use steadfast_driver::caught;
use ureq::Error;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport as Connection};

use crate::resolver::Addresses;

/// Marks every error that comes before there is a connection; the resolver marks its own.
pub(super) struct Certain<C> {
    connector: C,
    known: Addresses,
}

impl<C> Certain<C> {
    pub(super) const fn new(connector: C, known: Addresses) -> Self {
        Self { connector, known }
    }
}

impl<In: Connection, C: Connector<In>> Connector<In> for Certain<C> {
    type Out = C::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<C::Out>, Error> {
        before_connection(|| self.connector.connect(details, chained)).inspect_err(|_| {
            // The addresses may be at fault, and may have changed by now; a SOCKS proxy's are asked for by the
            // connector itself.
            self.known.forget(details.uri);
            if let Some(proxy) = details.config.proxy() {
                self.known.forget(proxy.uri());
            }
        })
    }
}

impl<C> fmt::Debug for Certain<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certain")
    }
}

/// A step on the way to a connection: whatever becomes of it, no request has left. ureq panics if its settings ask for
/// what it was built without, or for a client certificate that is invalid, and a resolver may.
pub(crate) fn before_connection<T>(step: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    caught(step).unwrap_or_else(|| Err(Error::Other(Box::new(Panicked)))).map_err(not_connected)
}

/// What it said went to the program's panic hook.
#[derive(Debug)]
struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ureq panicked while it was to connect: its settings cannot be used; what the panic said tells why")
    }
}

impl std::error::Error for Panicked {}

/// The machine, or the program's limit, has no thread left to look up a name.
#[derive(Debug)]
struct NoThread(io::Error);

impl fmt::Display for NoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no thread could be started to look up the host")
    }
}

impl std::error::Error for NoThread {}

pub(crate) fn no_thread(error: io::Error) -> Error {
    not_connected(Error::Other(Box::new(NoThread(error))))
}

/// An error from before there was a connection, marked as such, once: a proxy's comes by twice. If a request has no
/// address, the request itself is at fault, and stays so.
pub(crate) fn not_connected(error: Error) -> Error {
    match error {
        Error::BadUri(_) => error,
        Error::Other(source) if source.is::<NotConnected>() => Error::Other(source),
        error => Error::Other(Box::new(NotConnected(Arc::new(error)))),
    }
}

/// Such an error once more, for another request that has waited for the same step.
pub(crate) fn same(error: &Error) -> Error {
    let source = match error {
        Error::BadUri(uri) => return Error::BadUri(uri.clone()),
        Error::Other(source) => source.downcast_ref(),
        _ => None,
    };
    source.map_or_else(
        || not_connected(Error::ConnectionFailed),
        |NotConnected(error)| Error::Other(Box::new(NotConnected(Arc::clone(error)))),
    )
}

pub(crate) struct NotConnected(Arc<Error>);

/// As it is displayed: ureq's own may show the URL.
impl fmt::Debug for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotConnected({self})")
    }
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0 {
            Error::Timeout(_) => "no connection came about in time",
            Error::HostNotFound => "the host has no address",
            Error::Rustls(_) | Error::Tls(_) => "the TLS handshake failed",
            Error::ConnectProxyFailed(_) => {
                "the proxy made no connection: check its address, and its user and password"
            }
            Error::Other(source) if source.is::<Panicked>() || source.is::<NoThread>() => return source.fmt(f),
            _ => "the connection failed",
        })
    }
}

impl std::error::Error for NotConnected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Error::Io(error) => Some(error),
            Error::Other(source) => source.downcast_ref().map(|NoThread(error)| error as _),
            _ => None,
        }
    }
}
