//! A runtime of one's own, as bare as it gets: one thread, no tasks, a plain HTTP/1.1 exchange over `TcpStream`, and a
//! sleep for a timer.
//!
//! `PLUG.md` builds it step by step. Try it against any provider of Deepvue's shape on this machine. A demo that takes
//! some minutes has a fake one, and prints its address:
//!
//! ```sh
//! cargo run --release -- demo --speed 1 --operations 3000 --faults 0
//! cargo run -p steadfast-driver --example bare -- http://127.0.0.1:8080 order-42
//! ```

mod wire;

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::Response;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::{Key, Timestamp};
use steadfast_driver::{Builder, Driver, Finished, Outgoing, SendError, Submit, Task};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Payload, Provider};

/// Carries one job to its end. Whatever the driver says is done right here, one thing after the other.
pub(crate) fn carry<P: Provider>(
    described: Builder<P, (), ()>,
    key: Key,
    payload: impl Into<Payload>,
) -> Result<Finished, Box<dyn Error>> {
    let (provider, (), mut settings) = described.into_parts();
    // The journal may hold other jobs. While one request waits for its answer nobody carries another, so the gate lets
    // no more leave: the time of those that it lets go passes.
    let gate = settings.gate_mut();
    *gate = gate.clone().with_bulkhead(Some(BulkheadPolicy::fixed(1)?));
    let loaded = settings.load(provider.name())?;
    let mut clock = Clock::start();
    let mut driver: Driver<()> = Driver::new(Arc::new(provider), loaded, clock.now());
    let (reply, submitted) = oneshot::channel();
    driver.submit(Submit::new(key, payload.into(), reply), clock.now());
    // Nobody will ask for more: it is over when this job is.
    driver.abandon();
    loop {
        while let Some(task) = driver.pop_task(clock.now()) {
            match task {
                Task::Send(sending) => {
                    let came = exchange(&sending.outgoing);
                    let answered = sending.reader.read(came, SystemTime::now().into());
                    driver.answered(answered, clock.now());
                }
                Task::Work(work) => driver.worked(work.run_one(), clock.now()),
                // A request is over before anything else happens: there is never one to cut off. Nothing is renewed,
                // and there are no shards.
                _ => {}
            }
        }
        if driver.is_over() {
            break;
        }
        let wait = driver.next_deadline().map(|at| at.saturating_since(clock.now()));
        thread::sleep(wait.unwrap_or(Duration::MAX).min(LONGEST_SLEEP));
        driver.handle_timeout(clock.now());
    }
    Ok(submitted.recv()??.finished.recv()?.read())
}

/// A sleep counts the time that the machine runs, so one that was suspended wakes from it as much too late. Deadlines
/// are the wall's: a key's window, a token's life. Waking now and then, it sees what has passed, and is late by so much
/// at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The monotonic clock, anchored to the wall once: it never runs backwards, and still means something after a restart.
struct Clock {
    core: steadfast_core::Clock,
    monotonic: Instant,
    wall: SystemTime,
}

impl Clock {
    fn start() -> Self {
        let wall = SystemTime::now();
        Self { core: steadfast_core::Clock::new(wall.into()), monotonic: Instant::now(), wall }
    }

    fn now(&mut self) -> Timestamp {
        // Where `Instant` stands still while the machine is suspended, the wall has gone on without it: that much is
        // added. A wall that is set back takes nothing away.
        let (by_wall, passed) = (self.wall.elapsed().unwrap_or_default(), self.monotonic.elapsed());
        self.core.now(passed, by_wall.saturating_sub(passed))
    }
}

/// One request and its whole answer. What matters most is which error it is: it says what is certain about the request.
fn exchange(outgoing: &Outgoing) -> Result<Response<Bytes>, SendError> {
    let until = Instant::now() + outgoing.timeout;
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let address = wire::address(outgoing.request.uri()).ok_or_else(SendError::unsendable)?;
    let mut addresses = address.to_socket_addrs().map_err(|error| SendError::not_sent().because(error))?;
    let address = addresses.next().ok_or_else(SendError::not_sent)?;
    let mut stream =
        TcpStream::connect_timeout(&address, left()).map_err(|error| SendError::not_sent().because(error))?;

    // From here on the provider may have the request, whatever goes wrong.
    let lost = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => SendError::timed_out(),
        _ => SendError::ambiguous().because(error),
    };
    stream.set_write_timeout(Some(left())).map_err(lost)?;
    stream.write_all(&wire::bytes_of(&outgoing.request)).map_err(lost)?;
    let (mut came, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        stream.set_read_timeout(Some(left())).map_err(lost)?;
        match stream.read(&mut piece).map_err(lost)? {
            0 => return wire::response(&came).ok_or_else(SendError::ambiguous),
            _ if Instant::now() >= until => return Err(SendError::timed_out()),
            read => came.extend_from_slice(&piece[..read]),
        }
        if came.len() > outgoing.body_limit.saturating_add(64 << 10) {
            return Err(SendError::body_too_large());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base_url, key] = &arguments[..] else { return Err("call it with a base URL and a key".into()) };
    let credentials = Credentials::new("token", "secret")?;
    let provider = Deepvue::new(BaseUrl::parse(base_url)?, "driving-license", credentials)?;
    let payload = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
    let finished = carry(Builder::new(provider, ()), Key::new(key.as_str())?, payload)?;
    println!("{}: {}", finished.outcome.name(), finished.outcome.explain());
    println!("{}", String::from_utf8_lossy(finished.body()));
    Ok(())
}
