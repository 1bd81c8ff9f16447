//! A runtime of one's own: smol. A request is a task, the store's work runs where it may block, one channel brings back
//! what came of both. `bare.rs` says against what it can be tried.
//!
//! ```sh
//! cargo run -p steadfast-driver --example smol -- http://127.0.0.1:8080 order-42
//! ```

mod wire;

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::Response;
use smol::channel::{Sender, unbounded};
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::lock::Mutex;
use smol::net::TcpStream;
use smol::{Timer, unblock};
use steadfast_core::{Clock, Key};
use steadfast_driver::{Answered, Builder, Driver, Finished, Outgoing, SendError, Sending, Submit, Task, Worked};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Payload, Provider};

/// So much later than it meant to, the loop was held up, and those that read answers perhaps as well: they get so long
/// to catch up.
const LATE: Duration = Duration::from_millis(100);
const CATCHING_UP: Duration = Duration::from_millis(5);

/// What the driver is fed with.
enum Came {
    Answered(Answered),
    Worked(Worked),
}

/// Carries jobs to their ends, all at once.
pub(crate) async fn carry<P: Provider>(
    described: Builder<P, (), ()>,
    jobs: Vec<(Key, Payload)>,
) -> Result<Vec<Finished>, Box<dyn Error>> {
    let (provider, (), settings) = described.into_parts();
    let name = provider.name().to_owned();
    let loaded = unblock(move || settings.load(&name)).await?;
    let (mut clock, start) = (Clock::new(SystemTime::now().into()), Instant::now());
    let mut now = || clock.now(start.elapsed(), Duration::ZERO);
    let mut driver: Driver<Request> = Driver::new(Arc::new(provider), loaded, now());
    let (came, comes) = unbounded();
    let (mut jobs, mut submitted) = (VecDeque::from(jobs), Vec::new());
    loop {
        loop {
            while driver.has_room()
                && let Some((key, payload)) = jobs.pop_front()
            {
                let (reply, following) = oneshot::channel();
                driver.submit(Submit::new(key, payload, reply), now());
                submitted.push(following);
            }
            if jobs.is_empty() {
                driver.abandon();
            }
            while let Some(task) = driver.pop_task(now()) {
                perform(&mut driver, task, &came);
            }
            // What was done may have made room, and nothing else would wake us for it.
            if jobs.is_empty() || !driver.has_room() {
                break;
            }
        }
        if driver.is_over() {
            break;
        }
        let deadline = driver.next_deadline();
        let wait = deadline.map(|at| at.saturating_since(now()));
        let timer = async {
            wait.map_or_else(Timer::never, Timer::after).await;
            None
        };
        let first = or(async { comes.recv().await.ok() }, timer).await;
        // If the loop was held up, answers that came in time lie behind the first, or, if the whole process was, unread:
        // `handle_timeout` would give their requests up. What comes only now is for the next turn, so that a flood
        // starves nothing.
        if deadline.is_some_and(|at| now().saturating_since(at) >= LATE) && driver.requests().next().is_some() {
            Timer::after(CATCHING_UP).await;
        }
        let behind = comes.len();
        for came in first.into_iter().chain(std::iter::from_fn(|| comes.try_recv().ok()).take(behind)) {
            match came {
                Came::Answered(answered) => driver.answered(answered, now()),
                Came::Worked(worked) => driver.worked(worked, now()),
            }
        }
        driver.handle_timeout(now());
    }
    let mut ended = Vec::new();
    for following in submitted {
        ended.push(following.await??.finished.await?.read());
    }
    Ok(ended)
}

fn perform(driver: &mut Driver<Request>, task: Task<Request>, came: &Sender<Came>) {
    let came = came.clone();
    match task {
        Task::Send(sending) => send(driver, *sending, came),
        Task::Work(work) => {
            smol::spawn(async move { came.send(Came::Worked(unblock(|| work.run_one()).await)).await }).detach();
        }
        // Abort: what is given up is cut off when its job's next request leaves, or with the job. Nothing is renewed,
        // and there are no shards.
        _ => {}
    }
}

/// A request's task, and what whoever carries a request of its job holds.
type Request = (smol::Task<()>, Arc<Mutex<()>>);

/// Sends a request on a task of its own.
fn send(driver: &mut Driver<Request>, sending: Sending<Request>, came: Sender<Came>) {
    let id = sending.id();
    let Sending { outgoing, previous, reader, .. } = sending;
    let job = previous.as_ref().map(|(_, job)| job.clone()).unwrap_or_default();
    // Dropped, it is cut off; but it may take its time, and this one may be cut off before that.
    drop(previous);
    let carries = job.clone();
    let task = smol::spawn(async move {
        // Never two at a time: those before it are gone once it has this.
        let _carries = carries.lock().await;
        let answered = reader.read(exchange(&outgoing).await, SystemTime::now().into());
        let _ = came.send(Came::Answered(answered)).await;
    });
    driver.sent(id, (task, job));
}

/// One request and its whole answer, or what is certain about it.
async fn exchange(outgoing: &Outgoing) -> Result<Response<Bytes>, SendError> {
    let Some(address) = wire::address(outgoing.request.uri()) else { return Err(SendError::unsendable()) };
    let connect = async { TcpStream::connect(address).await.map_err(|error| SendError::not_sent().because(error)) };
    let mut stream = within(outgoing.timeout, connect, SendError::not_sent).await?;
    // From here on the provider may have the request, whatever goes wrong.
    let lost = |error: std::io::Error| SendError::ambiguous().because(error);
    let most = outgoing.body_limit.saturating_add(64 << 10);
    let whole = async {
        stream.write_all(&wire::bytes_of(&outgoing.request)).await.map_err(lost)?;
        let mut came = Vec::new();
        stream.take(most as u64 + 1).read_to_end(&mut came).await.map_err(lost)?;
        if came.len() > most { Err(SendError::body_too_large()) } else { Ok(came) }
    };
    let came = within(outgoing.timeout, whole, SendError::timed_out).await?;
    wire::response(&came).ok_or_else(SendError::ambiguous)
}

async fn within<T>(
    span: Duration,
    work: impl Future<Output = Result<T, SendError>>,
    late: fn() -> SendError,
) -> Result<T, SendError> {
    let late = async {
        Timer::after(span).await;
        Err(late())
    };
    or(work, late).await
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base_url, key] = &arguments[..] else { return Err("call it with a base URL and a key".into()) };
    let provider = Deepvue::new(BaseUrl::parse(base_url)?, "driving-license", Credentials::new("token", "secret")?)?;
    let payload = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
    let jobs = vec![(Key::new(key.as_str())?, payload.into())];
    println!("{:?}", smol::block_on(carry(Builder::new(provider, ()), jobs))?);
    Ok(())
}
