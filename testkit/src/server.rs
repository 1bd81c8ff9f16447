//! A fake provider's sockets. Each request has a connection of its own, so that a fault affects one request only.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use ::http::header::CONTENT_LENGTH;
use ::http::{HeaderValue, Response};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::service::service_fn;
use socket2::SockRef;
use steadfast_core::{Kind, Timestamp};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::brain::{Brain, Reply};
use crate::faults::{Fault, Faults};
use crate::http::{self, connection, whole};
use crate::ledger::Ledger;

/// How long the port refuses connections, before the speed.
const REFUSAL: Duration = Duration::from_millis(100);

/// A fake provider on a loopback port. Stops when dropped.
#[derive(Debug)]
pub struct FakeServer {
    address: SocketAddr,
    brain: Arc<Mutex<Brain>>,
    tasks: [JoinHandle<()>; 2],
    /// Its own runtime, if it was started outside of one.
    runtime: Option<Runtime>,
}

/// Starts a provider on a port of its own, on the current tokio runtime; without one, as in tests on threads, on a
/// thread of its own.
pub(crate) fn serve(brain: Brain) -> io::Result<FakeServer> {
    let runtime = match Handle::try_current() {
        Ok(_) => None,
        Err(_) => Some(runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?),
    };
    let entered = runtime.as_ref().map(Runtime::enter);
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    let habits = &brain.habits;
    let refusals = Refusals { faults: habits.faults.clone(), seed: habits.seed, window: habits.scaled(REFUSAL) };
    let brain = Arc::new(Mutex::new(brain));
    let asked = Arc::new(Notify::new());
    let posting = tokio::spawn(post_webhooks(brain.clone(), asked.clone()));
    let accepting = tokio::spawn(accept(listener, address, brain.clone(), asked, refusals));
    drop(entered);
    Ok(FakeServer { address, brain, tasks: [accepting, posting], runtime })
}

impl FakeServer {
    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The provider's books, as they are now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        lock(&self.brain).ledger().clone()
    }

    /// Requests of this kind so far. See [`Brain::requests`].
    #[must_use]
    pub fn requests(&self, kind: Kind) -> u64 {
        lock(&self.brain).requests(kind)
    }

    /// Faults committed so far, by kind; for refused connections, how often the port was closed.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.brain).faults().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // Not waited for: it may be dropped where blocking is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Refusals {
    faults: Faults,
    seed: steadfast_core::Seed,
    window: Duration,
}

async fn accept(
    mut listener: TcpListener,
    address: SocketAddr,
    brain: Arc<Mutex<Brain>>,
    asked: Arc<Notify>,
    refusals: Refusals,
) {
    for nth in 0_u64.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(converse(stream, brain.clone(), asked.clone()));
        if !refusals.faults.refuses(refusals.seed, nth) {
            continue;
        }
        // Connections that are already made are served: closing the port would reset them, which is another fault.
        while let Poll::Ready(Ok((stream, _))) = std::future::poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await
        {
            tokio::spawn(converse(stream, brain.clone(), asked.clone()));
        }
        lock(&brain).count(Fault::Refuse);
        drop(listener);
        loop {
            tokio::time::sleep(refusals.window).await;
            // The port can be opened again as soon as nothing else holds it.
            if let Ok(again) = listen(address) {
                listener = again;
                break;
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Serves one connection, which carries one request.
async fn converse(stream: TcpStream, brain: Arc<Mutex<Brain>>, asked: Arc<Notify>) {
    let Ok(stream) = stream.into_std() else { return };
    // A second handle on the socket, to reset it while the server still holds the first.
    let (Ok(socket), Ok(stream)) = (stream.try_clone(), TcpStream::from_std(stream)) else { return };
    let reset = Notify::new();
    let service = service_fn(|request| {
        let (brain, asked, reset) = (&brain, &asked, &reset);
        async move {
            let request = whole(request).await?;
            let now = Timestamp::from(SystemTime::now());
            let Reply { response, delay, fault } = lock(brain).handle(&request, now);
            asked.notify_one();
            tokio::time::sleep(delay).await;
            match fault {
                // A connection that is made can no longer be refused.
                Some(Fault::Refuse | Fault::ResetBefore | Fault::LoseAnswer) => {
                    reset.notify_one();
                    std::future::pending().await
                }
                Some(Fault::WrongLength) => Ok(declaring(64, response)),
                _ => Ok(declaring(0, response)),
            }
        }
    });
    tokio::select! {
        // A client that disconnects is no failure here.
        _ = connection(stream, service) => {}
        () = reset.notified() => {
            // Closing without lingering sends a reset instead of a normal end.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Sends webhooks when they are due; each request may have added some.
async fn post_webhooks(brain: Arc<Mutex<Brain>>, asked: Arc<Notify>) {
    let now = || Timestamp::from(SystemTime::now());
    // The posts end with this task.
    let mut posts = JoinSet::new();
    loop {
        let next = {
            let mut brain = lock(&brain);
            while let Some(post) = brain.pop_webhook(now()) {
                posts.spawn(async move {
                    let answered = timeout(post.within, http::post(&post)).await.ok().flatten();
                    (post, answered)
                });
            }
            brain.next_webhook().map(|at| at.saturating_since(now()))
        };
        tokio::select! {
            () = asked.notified() => {}
            () = tokio::time::sleep(next.unwrap_or(Duration::MAX)) => {}
            Some(answered) = posts.join_next() => {
                if let Ok((post, status)) = answered {
                    lock(&brain).webhook_answered(&post, status, now());
                }
            }
        }
    }
}

/// Makes the response declare this many bytes more than it has.
fn declaring(more: usize, mut response: Response<Bytes>) -> Response<Piece> {
    let declared = HeaderValue::from(response.body().len() + more);
    response.headers_mut().insert(CONTENT_LENGTH, declared);
    response.map(|body| Piece { body: Some(body), lingers: more > 0 })
}

/// A body of one piece that hides its length, so that the header may lie about it.
struct Piece {
    body: Option<Bytes>,
    /// Ends only when polled once more after the piece, so that the piece is sent before the lie is noticed.
    lingers: bool,
}

impl Body for Piece {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(body) = self.body.take() {
            return Poll::Ready(Some(Ok(Frame::data(body))));
        }
        if std::mem::take(&mut self.lingers) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(None)
    }
}

fn lock(brain: &Mutex<Brain>) -> MutexGuard<'_, Brain> {
    brain.lock().unwrap_or_else(PoisonError::into_inner)
}
