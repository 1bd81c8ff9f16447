//! A job's request under way, as its connection sees it: what has left of it, and how much of its time is left.
//!
//! ureq ends a request by the clock, without a look at what came in time: if the process was stopped meanwhile, or had
//! no turn, an answer that had arrived would be lost, and nobody would know whether a create had run. So ureq is given
//! no time-out for the whole, and the connection ends the request.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};
use ureq::{Error, Timeout};

/// How long reading goes on once all time is used up: what has arrived takes no time to read, and a server that sends
/// little by little gets no more than this. In a test, longer than any machine takes for it.
const CATCHING_UP: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 50 });

/// What a request and its connection know of each other. Used by the one thread that carries it.
#[derive(Clone, Debug, Default)]
pub(super) struct Underway(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    has_left: bool,
    /// `None` for a call that is not a job's: there ureq keeps the time.
    until: Option<Instant>,
    /// While it has no connection, until when there must be one.
    connected_by: Option<Instant>,
    /// When reading ends, set once it is known that all time is used up.
    read_until: Option<Instant>,
}

impl State {
    fn end(&self) -> Option<Instant> {
        self.until.into_iter().chain(self.connected_by).min()
    }
}

impl Underway {
    /// Begins the next request, which has this much time.
    pub(super) fn begin(&self, timeout: Duration) {
        *self.lock() = State { until: Instant::now().checked_add(timeout), ..State::default() };
    }

    /// Whether anything was handed to a connection. A request that has not left has not run, whatever ended it: ureq
    /// refused it, say, or its time was used up by then.
    pub(super) fn has_left(&self) -> bool {
        self.lock().has_left
    }

    pub(super) fn has_not_left(&self) {
        self.lock().has_left = false;
    }

    /// Takes a step on the way to a connection, for which there is no more time than this. With a proxy, one step is a
    /// part of another, and what the proxy is asked goes by a connection of its own, which knows nothing of that time:
    /// ureq gives each piece of its answer all of it again.
    pub(super) fn connect<T>(&self, timeout: NextTimeout, step: impl FnOnce() -> T) -> T {
        let by = (!timeout.after.is_not_happening()).then(|| Instant::now().checked_add(*timeout.after)).flatten();
        let before = {
            let mut state = self.lock();
            let earliest = state.connected_by.into_iter().chain(by).min();
            std::mem::replace(&mut state.connected_by, earliest)
        };
        let done = step();
        self.lock().connected_by = before;
        done
    }

    /// Called when something is to leave, with what is left of the time.
    fn leaves(&self, timeout: NextTimeout) -> Result<NextTimeout, Error> {
        let mut state = self.lock();
        let timeout = until(timeout, state.end())?;
        state.has_left = true;
        Ok(timeout)
    }

    fn in_time(&self, timeout: NextTimeout) -> Result<NextTimeout, Error> {
        until(timeout, self.lock().end())
    }

    /// The same once all time is used up.
    fn catching_up(&self, timeout: NextTimeout) -> Result<NextTimeout, Error> {
        let mut state = self.lock();
        // Who has no connection yet has nothing to lose.
        if state.until.is_none() || state.connected_by.is_some() {
            return Err(Error::Timeout(timeout.reason));
        }
        let read_until = *state.read_until.get_or_insert_with(|| Instant::now() + CATCHING_UP);
        until(timeout, Some(read_until))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No longer than until `end`. To a connection, a time-out of zero would mean no limit.
fn until(timeout: NextTimeout, end: Option<Instant>) -> Result<NextTimeout, Error> {
    let left = end.map(|end| end.saturating_duration_since(Instant::now()));
    match left.filter(|left| *left < *timeout.after) {
        Some(Duration::ZERO) => Err(Error::Timeout(Timeout::Global)),
        Some(left) => Ok(NextTimeout { after: left.into(), reason: Timeout::Global, ..timeout }),
        None => Ok(timeout),
    }
}

/// How a connection may break: TLS without its farewell is the first.
const BREAKS: [ErrorKind; 3] = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset];

/// A connection that marks what leaves by it, reads what came in time, and tells a break from a proper end.
pub(super) struct Marking<T> {
    connection: T,
    underway: Underway,
}

impl<T> Marking<T> {
    pub(super) const fn new(connection: T, underway: Underway) -> Self {
        Self { connection, underway }
    }
}

impl<T: Transport> Transport for Marking<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = self.underway.leaves(timeout)?;
        self.connection.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let came = match self.underway.in_time(timeout).and_then(|timeout| self.connection.await_input(timeout)) {
            Err(Error::Timeout(Timeout::Global)) => self.connection.await_input(self.underway.catching_up(timeout)?),
            came => came,
        };
        came.map_err(|error| match error {
            // To ureq these end an answer that has no length. An attacker who can break a connection could choose
            // where (RFC 9112, section 9.8).
            Error::Io(error) if BREAKS.contains(&error.kind()) => io::Error::new(ErrorKind::BrokenPipe, error).into(),
            error => error,
        })
    }

    fn is_open(&mut self) -> bool {
        self.connection.is_open()
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}

impl<T: fmt::Debug> fmt::Debug for Marking<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::mem;
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use bytes::Bytes;
    use http::Request;
    use ureq::Agent;
    use ureq::unversioned::resolver::DefaultResolver;
    use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, LazyBuffers};

    use super::*;
    use crate::UreqTransport;

    /// Where so many pieces lie. A read that was under way while the process was stopped ends by the clock, whatever
    /// lies there.
    #[derive(Debug)]
    struct Lying {
        buffers: LazyBuffers,
        pieces: usize,
        was_stopped: bool,
        /// What comes after them is a reset.
        breaks: bool,
    }

    impl Transport for Lying {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.buffers
        }

        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
            Ok(())
        }

        fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
            assert!(!timeout.after.is_zero(), "which some take for a second");
            let is_over = mem::take(&mut self.was_stopped) || self.pieces == 0;
            self.pieces = self.pieces.saturating_sub(1);
            match is_over {
                true if self.breaks && self.pieces == 0 => Err(io::Error::from(ErrorKind::ConnectionReset).into()),
                true => Err(Error::Timeout(timeout.reason)),
                false => Ok(true),
            }
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    fn connection(timeout: Duration) -> (Marking<Lying>, Underway) {
        let underway = Underway::default();
        underway.begin(timeout);
        let lying = Lying { buffers: LazyBuffers::new(16, 16), pieces: 8, was_stopped: false, breaks: false };
        (Marking::new(lying, underway.clone()), underway)
    }

    fn reads(connection: &mut Marking<Lying>) -> bool {
        match connection.await_input(NextTimeout::default()) {
            Ok(any) => any,
            Err(Error::Timeout(Timeout::Global)) => false,
            Err(error) => panic!("it is over, and no more: {error}"),
        }
    }

    const WHILE: Duration = Duration::from_secs(1_000);

    #[test]
    fn what_lies_there_is_read_though_all_time_is_over() {
        let (mut connection, _) = connection(Duration::ZERO);
        assert_eq!((0..9).filter(|_| reads(&mut connection)).count(), 8);
    }

    #[test]
    fn what_came_while_the_process_was_stopped_is_read() {
        let (mut connection, _) = connection(WHILE);
        connection.connection.was_stopped = true;
        connection.connection.pieces = 2;
        assert_eq!([(); 2].map(|()| reads(&mut connection)), [true, false]);
    }

    /// In time, and once all of it is over.
    #[test]
    fn a_break_is_never_an_answers_end() {
        for timeout in [WHILE, Duration::ZERO] {
            let (mut connection, _) = connection(timeout);
            (connection.connection.pieces, connection.connection.breaks) = (0, true);
            let came = connection.await_input(NextTimeout::default());
            assert!(matches!(&came, Err(Error::Io(error)) if error.kind() == ErrorKind::BrokenPipe), "{came:?}");
        }
    }

    #[test]
    fn who_sends_little_by_little_is_not_read_for_ever() {
        let (mut connection, underway) = connection(Duration::ZERO);
        assert!(reads(&mut connection));
        underway.lock().read_until = Some(Instant::now());
        assert!(!reads(&mut connection));
        underway.begin(WHILE);
        assert!(reads(&mut connection), "the next request has its own time");
    }

    #[test]
    fn what_begins_to_leave_when_all_time_is_over_has_not_left() {
        let (mut connection, underway) = connection(Duration::ZERO);
        let came = connection.transmit_output(1, NextTimeout::default());
        assert!(matches!(came, Err(Error::Timeout(Timeout::Global))) && !underway.has_left(), "{came:?}");
        underway.begin(WHILE);
        assert!(connection.transmit_output(1, NextTimeout::default()).is_ok() && underway.has_left());
    }

    /// A program's own call: ureq sees to its time.
    #[test]
    fn what_is_no_jobs_has_the_time_that_ureq_gives_it() {
        let (mut connection, underway) = connection(WHILE);
        *underway.lock() = State::default();
        connection.connection.was_stopped = true;
        assert_eq!([(); 2].map(|()| reads(&mut connection)), [false, true]);
    }

    /// What the process is that was stopped before it read an answer, and goes on when all time is over.
    #[derive(Clone, Debug, Default)]
    struct Stopped(Arc<Mutex<Option<Until>>>);

    /// It is answered; the request whose time is over then.
    type Until = (Underway, Receiver<()>);

    impl Connector<Box<dyn Transport>> for Stopped {
        type Out = Late<Box<dyn Transport>>;

        fn connect(
            &self,
            _: &ConnectionDetails<'_>,
            chained: Option<Box<dyn Transport>>,
        ) -> Result<Option<Self::Out>, Error> {
            Ok(chained.map(|connection| Late(connection, self.clone())))
        }
    }

    #[derive(Debug)]
    struct Late<T>(T, Stopped);

    impl<T: Transport> Transport for Late<T> {
        fn buffers(&mut self) -> &mut dyn Buffers {
            self.0.buffers()
        }

        fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
            self.0.transmit_output(amount, timeout)
        }

        fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
            let Some((underway, answered)) = self.1.0.lock().expect("no panic").take() else {
                return self.0.await_input(timeout);
            };
            answered.recv().expect("it answers");
            underway.lock().until = Some(Instant::now());
            Err(Error::Timeout(timeout.reason))
        }

        fn is_open(&mut self) -> bool {
            self.0.is_open()
        }
    }

    #[test]
    fn an_answer_that_came_while_the_process_was_stopped_is_read_to_its_end() {
        const LENGTH: usize = 1 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let uri = format!("http://{}/", listener.local_addr().expect("an address"));
        let (answers, answered) = channel();
        thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("a connection");
            let mut request = BufReader::new(connection.try_clone().expect("a connection"));
            let head = request.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            // To close it with anything unread would reset it.
            assert!(head > 0 && request.read_exact(&mut [0; 2]).is_ok());
            let _ = write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
            let _ = answers.send(());
            let _ = connection.write_all(&[b' '; LENGTH]);
        });
        let (config, stopped) = (Agent::config_builder().proxy(None).build(), Stopped::default());
        let connector = DefaultConnector::default().chain(stopped.clone());
        let transport = UreqTransport::from_parts(config, connector, DefaultResolver::default());
        let request = Request::post(uri).body(Bytes::from_static(b"{}")).expect("a request");
        let answer = transport.connections.carry(&request.uri().clone(), WHILE, WHILE, |agent, underway| {
            *stopped.0.lock().expect("no panic") = Some((underway.clone(), answered));
            transport.send_by(agent, underway, request, WHILE, LENGTH)
        });
        assert_eq!(answer.map(|answer| answer.body().len()).map_err(|error| error.to_string()), Ok(LENGTH));
    }
}
