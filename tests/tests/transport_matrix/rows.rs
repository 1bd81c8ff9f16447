//! What a server may do to a request, and what must come of it.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use steadfast_core::retry::{Certainty, Class};

use crate::Met;

/// The most bytes that a body may have.
pub(crate) const LIMIT: usize = 64 << 10;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) does: Does,
    pub(crate) expect: Expect,
}

/// What the server does. The functions are told which request this is, from 0.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    /// There is none, and this is not even asked.
    IsNot(&'static str),
    /// There is none.
    Refuses,
    /// It takes the connection and closes it, with the request unread.
    Closes,
    /// It answers these bytes and closes. `{elsewhere}` is another server's host and port.
    Says(fn(usize) -> Vec<u8>),
    /// It answers these bytes and resets the connection.
    SaysAndResets(&'static str),
    /// It answers these bytes and waits for more.
    SaysAndStays(fn(usize) -> Vec<u8>),
    /// It begins with these bytes and repeats those, as fast as they are taken.
    Floods(&'static str, &'static str),
    /// It begins with these bytes and repeats those, one at a time and as slowly as this.
    Drips(&'static str, &'static str, Duration),
}

impl PartialEq for Does {
    /// Whether it is the same kind of thing.
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// An answer of this status, whose body has so many bytes.
    Answer(u16, usize),
    /// No connection: certainly nothing ran.
    NotSent,
    /// It can never be sent, and nothing ran.
    Unsendable,
    /// No answer, or no whole one: it may have run.
    Broken,
    /// Not within the attempt's time: it may have run.
    TimedOut,
    /// More than the limit: it may have run, and asking again gives the same.
    TooLarge,
    /// No whole answer, but its head said that there were too many requests, and when to come again: 7 s. It may have
    /// run.
    Throttled,
}

impl Expect {
    pub(crate) fn is(self, met: &Met) -> bool {
        match (self, met) {
            (Self::Answer(code, bytes), Met::Answer { status, body, .. }) => *status == code && body.len() == bytes,
            (Self::Answer(..), _) | (_, Met::Answer { .. }) => false,
            (failure, Met::Failed(met)) => {
                let asked = (failure == Self::Throttled).then_some(Duration::from_secs(7));
                (met.class, met.certainty) == failure.class() && met.retry_after == asked
            }
        }
    }

    const fn class(self) -> (Class, Certainty) {
        match self {
            Self::NotSent => (Class::Transient, Certainty::NotExecuted),
            Self::Unsendable => (Class::Permanent, Certainty::NotExecuted),
            Self::TimedOut => (Class::TimedOut, Certainty::MayHaveExecuted),
            Self::TooLarge => (Class::Permanent, Certainty::MayHaveExecuted),
            Self::Throttled => (Class::Throttled, Certainty::MayHaveExecuted),
            Self::Broken | Self::Answer(..) => (Class::Transient, Certainty::MayHaveExecuted),
        }
    }
}

const SLOW: Duration = Duration::from_millis(50);

/// An answer of these bytes.
macro_rules! says {
    ($text:expr) => {
        Does::Says(|_| <[u8]>::to_vec($text.as_ref()))
    };
}

const fn row(name: &'static str, does: Does, expect: Expect) -> Row {
    Row { name, does, expect }
}

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    // Nobody is there.
    row("a port that nobody listens on", Does::Refuses, Expect::NotSent),
    row("plain HTTP to another machine", Does::IsNot("http://192.0.2.1"), Expect::Unsendable),
    row("plain HTTP to a name that begins like this machine's", Does::IsNot("http://localhost.evil.example"), Expect::Unsendable),
    row("plain HTTP to a name that looks like an address of this machine", Does::IsNot("http://127.0.0.1.evil.example"), Expect::Unsendable),
    row("plain HTTP to a link-local address", Does::IsNot("http://169.254.169.254"), Expect::Unsendable),
    row("another scheme", Does::IsNot("ftp://127.0.0.1"), Expect::Unsendable),
    row("no TLS where it was asked for", says!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Expect::NotSent),
    row("TLS that never begins", Does::SaysAndStays(|_| Vec::new()), Expect::NotSent),

    // It goes away.
    row("closed with the request unread", Does::Closes, Expect::Broken),
    row("closed without an answer", says!(""), Expect::Broken),
    row("cut in the status line", says!("HTTP/1.1 20"), Expect::Broken),
    row("cut in a header", says!("HTTP/1.1 200 OK\r\nContent-Le"), Expect::Broken),
    row("cut in the body", says!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"transaction_id\":\"t\"}"), Expect::Broken),
    row("reset in a body without a length", Does::SaysAndResets("HTTP/1.1 200 OK\r\n\r\n{"), Expect::Broken),
    row("reset in a body", Does::SaysAndResets("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"), Expect::Broken),
    row("cut in a chunk", says!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{}"), Expect::Broken),
    row("cut before the last chunk", says!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), Expect::Broken),
    row("cut after an interim answer", says!("HTTP/1.1 100 Continue\r\n\r\n"), Expect::Broken),

    // It speaks before its answer.
    row("an interim answer first", says!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(200, 2)),
    row("interim answers with headers first", says!("HTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(200, 2)),
    row("an unknown interim answer first", says!("HTTP/1.1 199 Soon\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(200, 2)),
    row("HTTP/1.0", says!("HTTP/1.0 200 OK\r\n\r\n{}"), Expect::Answer(200, 2)),
    // A fault (RFC 9112, section 6.1).
    row("HTTP/1.0 with chunks", says!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), Expect::Broken),
    row("trailers", says!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n"), Expect::Answer(200, 2)),
    row("bare line ends", says!("HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"), Expect::Answer(200, 2)),

    // How long it is.
    row("as long as it says", says!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(200, 2)),
    row("longer than it says", says!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}{}{}"), Expect::Answer(200, 2)),
    row("as long as it lasts", says!("HTTP/1.1 200 OK\r\n\r\n{}"), Expect::Answer(200, 2)),
    row("one length said twice", says!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(200, 2)),
    row("two lengths", says!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}{}"), Expect::Broken),
    row("two lengths in one line", says!("HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}{}"), Expect::Broken),
    row("a negative length", says!("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}"), Expect::Broken),
    row("a length with a sign", says!("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}"), Expect::Broken),
    row("a length in hexadecimal", says!("HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n{}"), Expect::Broken),
    row("a length beyond 64 bits", says!("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\n{}"), Expect::Broken),
    row("the longest length that can be said", says!("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551613\r\n\r\n{}"), Expect::Broken),
    row("no body where none may be", says!("HTTP/1.1 204 No Content\r\n\r\n"), Expect::Answer(204, 0)),
    row("a body where none may be", says!("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(204, 0)),
    row("no body where its length is another's", says!("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"), Expect::Answer(304, 0)),
    row("a body of which there is nothing to show", says!("HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(205, 2)),
    row("a chunk beyond 64 bits", says!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n"), Expect::Broken),
    row("a chunk whose size is none", says!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n"), Expect::Broken),
    row("a chunk longer than it says", says!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}{}\r\n0\r\n\r\n"), Expect::Broken),
    row("a length and chunks", says!("HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), Expect::Answer(200, 2)),
    // What is not chunked in the end lasts until the end (RFC 9112, section 6.3): no profile reads the pieces.
    row("chunks within another coding", says!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), Expect::Answer(200, 12)),
    row("an endless chunk extension", Does::Floods("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;", "x"), Expect::Broken),
    row("endless trailers", Does::Floods("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "X: y\r\n"), Expect::Broken),

    // It is no HTTP.
    row("HTTP/0.9", says!("<html>OK</html>"), Expect::Broken),
    row("another protocol", says!("SSH-2.0-OpenSSH_9.9\r\n"), Expect::Broken),
    row("HTTP/2 unasked", says!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Expect::Broken),
    row("HTTP/3.7", says!("HTTP/3.7 200 OK\r\n\r\n"), Expect::Broken),
    row("zeros", says!([0; 64]), Expect::Broken),
    row("a status of two digits", says!("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"), Expect::Broken),
    row("a status of five digits", says!("HTTP/1.1 20000 OK\r\nContent-Length: 0\r\n\r\n"), Expect::Broken),
    row("a status below 100", says!("HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"), Expect::Broken),
    row("a status of 999", says!("HTTP/1.1 999 ?\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(999, 2)),
    row("a header with NUL", says!("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"), Expect::Broken),
    row("a folded header", says!("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"), Expect::Broken),
    row("a header without a colon", says!("HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n"), Expect::Broken),
    row("a space before the colon", says!("HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"), Expect::Broken),
    row("headers that are no UTF-8", says!(b"HTTP/1.1 200 OK\r\nRetry-After: \xff\xfe\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(200, 0)),
    row("a body that is no UTF-8", says!(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe"), Expect::Answer(200, 2)),

    // There is too much of it.
    row("too many headers", Does::Says(|_| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000)).into()), Expect::Broken),
    row("a header of a megabyte", Does::Says(|_| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)).into()), Expect::Broken),
    row("endless headers", Does::Floods("HTTP/1.1 200 OK\r\n", "X: y\r\n"), Expect::Broken),
    row("an endless header", Does::Floods("HTTP/1.1 200 OK\r\nX: ", "y"), Expect::Broken),
    row("an endless status line", Does::Floods("HTTP/1.1 200 ", "y"), Expect::Broken),
    row("endless interim answers", Does::Floods("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), Expect::TimedOut),
    row("a body as long as the limit", Does::Says(|_| sized(LIMIT)), Expect::Answer(200, LIMIT)),
    row("a body a byte longer", Does::Says(|_| sized(LIMIT + 1)), Expect::TooLarge),
    row("an endless body", Does::Floods("HTTP/1.1 200 OK\r\n\r\n", " "), Expect::TooLarge),
    row("endless chunks", Does::Floods("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"), Expect::TooLarge),

    // Its head says more than what can be read of it.
    row("throttled, and cut in the body", says!("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\n{}"), Expect::Throttled),
    row("throttled, and reset in the body", Does::SaysAndResets("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\n{}"), Expect::Throttled),
    row("throttled, and an endless body", Does::Floods("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n\r\n", " "), Expect::Throttled),
    row("out of order, and an endless body", Does::Floods("HTTP/1.1 502 Bad\r\n\r\n", " "), Expect::Broken),
    // What it refuses for good is not known without the body: the next answer may tell.
    row("refused, and cut in the body", says!("HTTP/1.1 400 No\r\nContent-Length: 100\r\n\r\n{}"), Expect::Broken),
    row("refused, and an endless body", Does::Floods("HTTP/1.1 400 No\r\n\r\n", " "), Expect::TooLarge),

    // It is packed.
    row("gzip", Does::Says(|_| coded("gzip", &gzip(b"{}"))), Expect::Answer(200, 2)),
    row("gzip as long as the limit", Does::Says(|_| coded("gzip", &gzip(&[b' '; LIMIT]))), Expect::Answer(200, LIMIT)),
    row("gzip a byte longer", Does::Says(|_| coded("gzip", &gzip(&[b' '; LIMIT + 1]))), Expect::TooLarge),
    row("a megabyte of gzip that is a gigabyte", Does::Says(|_| coded("gzip", &bomb())), Expect::TooLarge),
    // RFC 1952 has several members in one file; the decoder ends with the first. What came with it counts for nothing, what comes later is a fault.
    row("two pieces of gzip", Does::Says(|_| coded("gzip", &[gzip(b"{}"), gzip(b"{}")].concat())), Expect::Answer(200, 2)),
    row("a gigabyte of gzip after a small piece", Does::Says(|_| coded("gzip", &[gzip(b"{}"), bomb()].concat())), Expect::Broken),
    row("two codings", says!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(200, 2)),
    row("gzip that is none", says!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"), Expect::Broken),
    row("gzip cut short", Does::Says(|_| coded("gzip", &gzip(b"{}")[..12])), Expect::Broken),
    row("gzip with a wrong checksum", Does::Says(|_| coded("gzip", &flipped(gzip(b"{}")))), Expect::Broken),
    row("no gzip at all", says!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(200, 0)),
    // A proxy may put a text of its own under the header of another's. The status counts; there is nothing to read.
    row("a refusal in gzip that is none", says!("HTTP/1.1 503 Busy\r\nContent-Encoding: gzip\r\nContent-Length: 13\r\n\r\n<html></html>"), Expect::Answer(503, 0)),
    row("a refusal without gzip at all", says!("HTTP/1.1 429 Slow\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(429, 0)),
    row("a refusal without a chunk of gzip", says!("HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Expect::Answer(400, 0)),
    row("a place elsewhere without gzip at all", says!("HTTP/1.1 307 There\r\nLocation: /x\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(307, 0)),
    row("gzip where no body may be", says!("HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n"), Expect::Answer(204, 0)),
    row("gzip where its length is another's", says!("HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n"), Expect::Answer(304, 0)),
    row("a refusal in gzip, cut in the body", says!("HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n"), Expect::Broken),
    // Without a length, only the decoder can tell that it was cut.
    row("a refusal in gzip without a length, cut in the body", Does::Says(|_| unmeasured("400 No", &gzip(b"{}")[..12])), Expect::Broken),
    row("a refusal in gzip without a length, cut in the checksum", Does::Says(|_| unmeasured("400 No", &gzip(b"{}")[..18])), Expect::Broken),
    row("a refusal in gzip without a length", Does::Says(|_| unmeasured("400 No", &gzip(b"{}"))), Expect::Answer(400, 2)),
    // Nobody asked for these: they stay as they are, and no profile reads them.
    row("gzip in capitals", Does::Says(|_| coded("GZIP", &gzip(b"{}"))), Expect::Answer(200, 22)),
    row("gzip by its old name", Does::Says(|_| coded("x-gzip", &gzip(b"{}"))), Expect::Answer(200, 22)),
    row("deflate unasked", says!(b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 3\r\n\r\n\x4b\x04\x00"), Expect::Answer(200, 3)),
    row("brotli unasked", says!(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 6\r\n\r\n\x0b\x00\x80{}\x03"), Expect::Answer(200, 6)),
    row("another coding", says!("HTTP/1.1 200 OK\r\nContent-Encoding: x-secret\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(200, 2)),

    // It takes its time.
    row("no answer", Does::SaysAndStays(|_| Vec::new()), Expect::TimedOut),
    row("a slow status line", Does::Drips("", "HTTP/1.1 200 and so on, for ever ", SLOW), Expect::TimedOut),
    row("slow headers", Does::Drips("HTTP/1.1 200 OK\r\n", "X: y\r\n", SLOW), Expect::TimedOut),
    row("a slow body", Does::Drips("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", " ", SLOW), Expect::TimedOut),
    row("slow chunks", Does::Drips("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", SLOW), Expect::TimedOut),
    row("a body that stops half-way", Does::SaysAndStays(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{}".to_vec()), Expect::TimedOut),

    // It leads elsewhere.
    row("301 to another host", says!("HTTP/1.1 301 Moved\r\nLocation: http://{elsewhere}/x\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(301, 0)),
    row("302 to another host", says!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/x\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(302, 0)),
    row("303 to another host", says!("HTTP/1.1 303 See Other\r\nLocation: http://{elsewhere}/x\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(303, 0)),
    row("307 to another host", says!("HTTP/1.1 307 Temporary\r\nLocation: http://{elsewhere}/x\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(307, 0)),
    row("308 to another host", says!("HTTP/1.1 308 Permanent\r\nLocation: http://{elsewhere}/x\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(308, 0)),
    row("308 without a scheme", says!("HTTP/1.1 308 Permanent\r\nLocation: //{elsewhere}/x\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(308, 0)),
    row("307 to itself", says!("HTTP/1.1 307 Temporary\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(307, 0)),
    row("300 with a choice", says!("HTTP/1.1 300 Choices\r\nLocation: http://{elsewhere}/x\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(300, 0)),
    row("305 to a proxy", says!("HTTP/1.1 305 Use Proxy\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(305, 0)),
    row("a refresh", says!("HTTP/1.1 200 OK\r\nRefresh: 0;url=http://{elsewhere}/x\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(200, 0)),
    row("201 with a place", says!("HTTP/1.1 201 Created\r\nLocation: http://{elsewhere}/x\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(201, 2)),
    row("202 with a place to ask", says!("HTTP/1.1 202 Accepted\r\nOperation-Location: http://{elsewhere}/x\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(202, 2)),
    row("another service for the same host", says!("HTTP/1.1 421 Misdirected\r\nAlt-Svc: h2=\"{elsewhere}\"\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(421, 0)),
    row("401 that asks for a password", says!("HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(401, 0)),
    row("407 that asks for a proxy's", says!("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(407, 0)),
    row("426 that asks for another protocol", says!("HTTP/1.1 426 Upgrade\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(426, 0)),
    row("425 that asks to come later", says!("HTTP/1.1 425 Early\r\nContent-Length: 0\r\n\r\n"), Expect::Answer(425, 0)),
    row("511 that asks to log in", says!("HTTP/1.1 511 Captive\r\nRefresh: 0;url=http://{elsewhere}/x\r\nContent-Length: 2\r\n\r\n{}"), Expect::Answer(511, 2)),
    row("408 that asks to try again", says!("HTTP/1.1 408 Late\r\nConnection: close\r\n\r\n"), Expect::Answer(408, 0)),
    row("another protocol unasked", says!("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), Expect::Answer(101, 0)),
];

fn sized(bytes: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n{}", " ".repeat(bytes)).into()
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The connection's end is its only end.
fn unmeasured(status: &str, gzip: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\n\r\n").as_bytes(), gzip].concat()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// With another checksum than the body's.
fn flipped(mut gzip: Vec<u8>) -> Vec<u8> {
    let at = gzip.len() - 6;
    gzip[at] ^= 1;
    gzip
}

/// 1 GiB of zeros as gzip, a megabyte on the wire: one flushed block of a megabyte, a thousand times. Nobody gets to
/// its end, so it has none.
fn bomb() -> Vec<u8> {
    let mut block = Vec::with_capacity(1 << 16);
    let mut deflate = flate2::Compress::new(Compression::best(), false);
    deflate.compress_vec(&vec![0; 1 << 20], &mut block, flate2::FlushCompress::Sync).unwrap();
    assert_eq!(deflate.total_in(), 1 << 20);
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    [&header[..], &block.repeat(1024)].concat()
}
