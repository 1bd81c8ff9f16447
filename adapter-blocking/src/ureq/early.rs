//! An answer that comes before the request is whole.
//!
//! A server that refuses a large request may say so after reading its head, and close the connection with the rest
//! unread. ureq then ends with the write that fails, and the answer, which has arrived, is lost: although it was a
//! plain refusal, nobody would know whether the job ran. So here, what the other side no longer reads counts as
//! written, and the answer is read. This works below TLS, which has to write what it holds before it reads.

use std::fmt;
use std::io;

use ureq::Error;
use ureq::tls::TlsProvider;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, DefaultConnector, NextTimeout, RustlsConnector,
    SocksConnector, TcpConnector, Transport,
};

/// ureq's own connector, with [`Early`] where it can be put in.
pub(super) fn connector() -> impl Connector {
    let by_proxy = ().chain(SocksConnector::default()).chain(ConnectProxyConnector::default());
    let plain = by_proxy.chain(TcpConnector::default()).chain(Reading);
    Connecting { usual: DefaultConnector::default(), ours: plain.chain(RustlsConnector::default()) }
}

#[derive(Debug)]
struct Connecting<C> {
    /// For another TLS implementation.
    usual: DefaultConnector,
    ours: C,
}

impl<C: Connector> Connector for Connecting<C> {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        if details.config.tls_config().provider() != TlsProvider::Rustls {
            return self.usual.connect(details, chained);
        }
        let connection = self.ours.connect(details, chained)?;
        Ok(connection.map(|connection| Box::new(connection) as Self::Out))
    }
}

#[derive(Debug)]
struct Reading;

impl<In: Transport> Connector<In> for Reading {
    type Out = Early<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|connection| Early { connection, is_unread: false }))
    }
}

struct Early<T> {
    connection: T,
    /// The other side reads no more.
    is_unread: bool,
}

impl<T: Transport> Transport for Early<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.is_unread {
            return Ok(());
        }
        match self.connection.transmit_output(amount, timeout) {
            Err(Error::Io(error)) if is_closed(&error) => {
                self.is_unread = true;
                Ok(())
            }
            came => came,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        match self.connection.await_input(timeout) {
            // The reset was told to the write, and what is left of it looks like an end.
            Ok(false) if self.is_unread => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            came => came,
        }
    }

    fn is_open(&mut self) -> bool {
        !self.is_unread && self.connection.is_open()
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

impl<T: fmt::Debug> fmt::Debug for Early<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}

/// Where what came before a reset can still be read.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use bytes::Bytes;
    use http::Request;
    use steadfast_core::retry::Certainty;

    use crate::UreqTransport;

    /// More than a socket takes that nobody reads from.
    const LARGE: usize = 16 << 20;

    /// What comes of a large request to who says this at its head, and closes the connection with the rest unread,
    /// which resets it.
    fn refused(says: &'static [u8]) -> Result<(u16, Bytes), Certainty> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let uri = format!("http://{}/", listener.local_addr().expect("an address"));
        thread::spawn(move || {
            let (connection, _) = listener.accept().expect("a connection");
            let head = BufReader::new(&connection).lines().map_while(Result::ok);
            assert!(head.take_while(|line| !line.is_empty()).count() > 0);
            let _ = (&connection).write_all(says);
        });
        let request = Request::post(&uri).body(Bytes::from(vec![0; LARGE])).expect("a request");
        let answer = UreqTransport::new().exchange(request, Duration::from_secs(60), 2);
        answer.map(|answer| (answer.status().as_u16(), answer.into_body())).map_err(|error| error.failure().certainty)
    }

    #[test]
    fn a_refusal_at_the_head_of_a_large_request_is_read() {
        for _ in 0..2 {
            let answer = refused(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno");
            assert_eq!(answer, Ok((413, Bytes::from_static(b"no"))));
        }
    }

    #[test]
    fn a_reset_does_not_end_an_answer_without_a_length() {
        assert_eq!(refused(b"HTTP/1.1 413 Too Large\r\n\r\nno"), Err(Certainty::MayHaveExecuted));
    }
}
