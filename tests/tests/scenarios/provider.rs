//! The provider of a scenario: a script of answers over real HTTP on a loopback port, and a ledger of what ran.
//!
//! It needs no runtime, so that none is favoured: plain threads, and one request on a connection unless an answer keeps
//! it. An answer is the bytes that go over the wire, which may be any: cut short, endless, no HTTP at all. The last
//! answer of a kind is given to all further requests of that kind.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use steadfast_core::Kind;

/// How long a scenario waits for anything before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of one request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Whether the job is run. At a provider that honours keys a second run of a key is none.
    runs: bool,
    /// Whether it comes only when the caller lets it go.
    held: bool,
    /// Whether a next request may come over the same connection.
    kept: bool,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Bytes(Vec<u8>),
    /// These, and then blanks for ever: as fast as they are taken, or one at a time.
    Endless(Vec<u8>, Pace),
    Reset,
    /// Never, as long as the client waits.
    Hang,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Fast,
    Slow,
}

/// A whole answer. It runs the job if its status is 2xx.
pub(crate) fn answer(status: u16, body: impl AsRef<[u8]>) -> Reply {
    with_headers(status, &[], body)
}

pub(crate) fn with_headers(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} Told\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    wire([bytes.as_bytes(), b"\r\n", body].concat()).running((200..300).contains(&status))
}

/// These bytes, whatever they are. It runs the job.
pub(crate) fn wire(bytes: impl Into<Vec<u8>>) -> Reply {
    Reply { runs: true, held: false, kept: false, how: How::Bytes(bytes.into()) }
}

/// A body of blanks that does not end.
pub(crate) fn endless() -> Reply {
    Reply { runs: true, held: false, kept: false, how: How::Endless(ENDLESS.to_vec(), Pace::Fast) }
}

/// The same, a blank every now and then: so that there is always something to wait for.
pub(crate) fn drip() -> Reply {
    Reply { runs: true, held: false, kept: false, how: How::Endless(ENDLESS.to_vec(), Pace::Slow) }
}

const ENDLESS: &[u8] = b"HTTP/1.1 200 Told\r\nconnection: close\r\n\r\n";

/// The job runs, and the connection is reset in place of an answer.
pub(crate) const fn lost() -> Reply {
    Reply { runs: true, held: false, kept: false, how: How::Reset }
}

/// The connection is reset, and nothing runs.
pub(crate) const fn reset() -> Reply {
    lost().running(false)
}

/// The job runs, and there is never an answer.
pub(crate) const fn hang() -> Reply {
    Reply { runs: true, held: false, kept: false, how: How::Hang }
}

pub(crate) const ACCEPTED: &str = r#"{"code":200,"transaction_id":"txn-1","message":"Request accepted"}"#;
pub(crate) const READY: &str =
    r#"{"code":200,"transaction_id":"txn-1","data":{"status":"id_found","name":"A. Person"}}"#;

/// The job runs, under the name `txn-1`.
pub(crate) fn accepted() -> Reply {
    answer(200, ACCEPTED)
}

pub(crate) fn pending() -> Reply {
    answer(202, r#"{"message":"Request is still being processed"}"#)
}

pub(crate) fn ready() -> Reply {
    answer(200, READY)
}

/// An error as Deepvue puts it; nothing runs.
pub(crate) fn error(status: u16) -> Reply {
    answer(status, r#"{"detail":"something is wrong"}"#)
}

/// The same, asking to wait.
pub(crate) fn asking(status: u16, retry_after: &str) -> Reply {
    with_headers(status, &[("retry-after", retry_after)], r#"{"detail":"something is wrong"}"#)
}

impl Reply {
    pub(crate) const fn running(mut self, runs: bool) -> Self {
        self.runs = runs;
        self
    }

    /// Over a connection that goes on.
    pub(crate) fn kept(self) -> Self {
        Self { kept: true, ..self.silently() }
    }

    /// Over a connection that is closed after it, without having said so.
    pub(crate) fn silently(mut self) -> Self {
        if let How::Bytes(bytes) = &mut self.how {
            *bytes = String::from_utf8_lossy(bytes).replacen("connection: close\r\n", "", 1).into_bytes();
        }
        self
    }

    /// Followed by these bytes.
    pub(crate) fn and(mut self, more: &[u8]) -> Self {
        if let How::Bytes(bytes) = &mut self.how {
            bytes.extend_from_slice(more);
        }
        self
    }

    pub(crate) const fn held(mut self) -> Self {
        self.held = true;
        self
    }
}

/// What is answered to the requests of each kind, in turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) creates: Vec<Reply>,
    pub(crate) lookups: Vec<Reply>,
    pub(crate) polls: Vec<Reply>,
}

impl Script {
    fn reply(&self, kind: Kind, nth: u32) -> Option<&Reply> {
        let replies = match kind {
            Kind::Create => &self.creates,
            Kind::Lookup => &self.lookups,
            _ => &self.polls,
        };
        replies.get(nth as usize - 1).or_else(|| replies.last())
    }
}

/// A provider on a port of its own. Stops when dropped.
pub(crate) struct Provider {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Script,
    honours_keys: bool,
    books: Mutex<Books>,
    changed: Condvar,
}

/// What the provider knows of the scenario's one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// Requests by kind: creates, look-ups, polls.
    pub(crate) requests: [u32; 3],
    /// How often the job was run.
    pub(crate) runs: u32,
    /// Key and body of each create.
    pub(crate) creates: Vec<(String, Vec<u8>)>,
    let_go: bool,
    over: bool,
}

impl Provider {
    pub(crate) fn start(script: Script, honours_keys: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { script, honours_keys, books: Mutex::default(), changed: Condvar::new() });
        let served = shared.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if served.books().over {
                    break;
                }
                let shared = served.clone();
                thread::spawn(move || shared.converse(stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn books(&self) -> Books {
        self.shared.books().clone()
    }

    /// Waits until so many requests of this kind have come.
    pub(crate) fn await_request(&self, kind: Kind, nth: u32) -> Result<(), String> {
        let missing = |books: &mut Books| books.requests[kind as usize] < nth;
        let waited = self.shared.changed.wait_timeout_while(self.shared.books(), PATIENCE, missing);
        let (books, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(format!("no {kind:?} number {nth} came: {:?}", books.requests)) } else { Ok(()) }
    }

    /// Lets held answers go, those to come as well.
    pub(crate) fn let_go(&self) {
        self.shared.books().let_go = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let mut books = self.shared.books();
        (books.over, books.let_go) = (true, true);
        drop(books);
        self.shared.changed.notify_all();
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn converse(&self, mut stream: TcpStream) {
        while self.answer(&mut stream) {}
    }

    /// Whether the connection goes on.
    fn answer(&self, stream: &mut TcpStream) -> bool {
        let Some((kind, key, body)) = request(stream) else { return false };
        let mut books = self.books();
        books.requests[kind as usize] += 1;
        let nth = books.requests[kind as usize];
        if kind == Kind::Create {
            books.creates.push((key, body));
        }
        let Some(reply) = self.script.reply(kind, nth).cloned() else {
            panic!("{kind:?} number {nth} came, and the script has no answer to it");
        };
        if kind == Kind::Create && reply.runs && !(self.honours_keys && books.runs > 0) {
            books.runs += 1;
        }
        self.changed.notify_all();
        if reply.held {
            books = self.changed.wait_while(books, |books| !books.let_go).unwrap_or_else(PoisonError::into_inner);
        }
        drop(books);
        // A client that goes away is its own affair.
        let done = match reply.how {
            How::Bytes(bytes) => stream.write_all(&bytes),
            How::Endless(bytes, pace) => stream.write_all(&bytes).and_then(|()| self.go_on(stream, pace)),
            // Closing with nothing to linger for sends a reset instead of an end.
            How::Reset => SockRef::from(&*stream).set_linger(Some(Duration::ZERO)),
            // The client hangs up, or the scenario is over and its client with it.
            How::Hang => stream.read(&mut [0]).map(drop),
        };
        reply.kept && done.is_ok()
    }

    /// Until the client hangs up.
    fn go_on(&self, stream: &mut TcpStream, pace: Pace) -> io::Result<()> {
        loop {
            if pace == Pace::Slow {
                thread::sleep(Duration::from_millis(20));
                stream.write_all(b" ")?;
            } else {
                stream.write_all(&[b' '; 4096])?;
            }
        }
    }
}

/// What was asked for, under which key, with what body.
fn request(stream: &mut TcpStream) -> Option<(Kind, String, Vec<u8>)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut piece) {
            Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head + length {
        match stream.read(&mut piece) {
            Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
    let path = text.split(' ').nth(1)?.strip_prefix("/v1/verification/")?;
    let kind = match path.split_once('-')?.0 {
        "post" => Kind::Create,
        "find" => Kind::Lookup,
        _ => Kind::Poll,
    };
    Some((kind, header("idempotency-key").unwrap_or_default(), bytes.split_off(head)))
}
