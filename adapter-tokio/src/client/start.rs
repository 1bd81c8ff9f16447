//! How a client starts: its store is read, and each of its drivers gets a task of its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use steadfast_driver::{
    Command, Driver, Loaded, Mailbox, Renew, RenewError, RenewsBy, Settings, Sharded, Start, StartError,
};
use steadfast_providers::Provider;
use steadfast_store::StoreError;
use tokio::sync::{mpsc, watch};

use super::{Client, Lane, Lanes};
use crate::Builder;
use crate::blocking::{Undone, begin};
use crate::clock::Clock;
use crate::drive::{Inlet, Inputs, Words, drive};
use crate::revisions::{Channel, Told};
use crate::transport::Transport;

/// See [`Builder::shards`].
impl Sharded for Client {}

/// On the current tokio runtime, which must have its timer enabled.
impl<P: Provider, T: Transport> Start<P, T> for Client {
    type Started = Starting;

    fn start(builder: Builder<P, T>) -> Starting {
        let (provider, transport, settings) = builder.into_parts();
        Starting(Box::pin(start(Arc::new(provider), Arc::new(transport), settings)))
    }
}

/// By a function that gives a future.
impl<F, R, E> RenewsBy<F, (R, E)> for Client
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<RenewError>,
{
    fn hook(renew: F) -> Renew {
        Renew::by_future(renew)
    }
}

/// A future of a client that starts: it first reads its store for jobs to go on with. If it is dropped meanwhile, as
/// by a time-out, the store stays open until it has been read.
#[must_use = "a client starts when this is awaited"]
pub struct Starting(Pin<Box<dyn Future<Output = Result<Client, StartError>> + Send>>);

impl Future for Starting {
    type Output = Result<Client, StartError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Starting")
    }
}

async fn start<T: Transport>(
    provider: Arc<dyn Provider>,
    transport: Arc<T>,
    settings: Settings,
) -> Result<Client, StartError> {
    // On a runtime without a timer this panics, and says what is missing: the driver's task could only stop. It comes
    // first: loading a store may take a copy of it into use.
    drop(tokio::time::sleep(Duration::ZERO));
    let name = provider.name().to_owned();
    let mailbox = Mailbox::new(provider.clone(), settings.webhooks());
    let (traces, has_store) = (settings.trace_source(), settings.has_store());
    let loaded = if has_store {
        begin(move || settings.load(&name)).done().await.map_err(|undone| StartError::Unreadable(unread(&undone)))??
    } else {
        settings.load(&name)?
    };
    let clock = Clock::start();
    let revised = Arc::<Channel>::default();
    let revisions = Arc::downgrade(&revised);
    let begin = |loaded: Loaded, words| {
        // One clock for all, so that no shard's time is another's past.
        let mut clock = clock.clone();
        let mut driver = Driver::new(provider.clone(), loaded, clock.now());
        driver.tell_revisions_to(Box::new(Told(revised.clone())));
        let (submits, submitted) = mpsc::unbounded_channel();
        let (commands, commanded) = mpsc::unbounded_channel();
        let (posts, posted) = mpsc::unbounded_channel();
        // The driver must not keep its own commands open.
        let its_own = commands.downgrade();
        driver.give_back_to(move |finished| match its_own.upgrade() {
            Some(commands) => commands.send(Command::Unread(finished.clone())).map_err(|_| finished.into()),
            None => Err(finished.into()),
        });
        let (runs, running) = watch::channel(());
        let (submitted, commanded, posted) = (Inlet(submitted), Inlet(commanded), Inlet(posted));
        let inputs = Inputs { submits: submitted, commands: commanded, posts: posted, words, running: runs, has_store };
        tokio::spawn(drive(driver, clock, transport.clone(), inputs));
        Lane { submits, commands, posts, running }
    };
    if loaded.shards() == 1 {
        return Ok(Client { first: begin(loaded, None), lanes: None, mailbox, revisions, traces });
    }
    let (shards, parts) = loaded.into_shards();
    let (others, heard): (Vec<_>, Vec<_>) = parts.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let others: Arc<[_]> = others.into();
    let words = heard.into_iter().map(|heard| Some(Words { heard, others: others.clone() }));
    let lanes: Vec<Lane> = parts.into_iter().zip(words).map(|(loaded, words)| begin(loaded, words)).collect();
    Ok(Client {
        first: lanes[0].clone(),
        lanes: Some(Arc::new(Lanes { shards, of_all: lanes, said: AtomicU64::new(0) })),
        mailbox,
        revisions,
        traces,
    })
}

/// The panic's payload may be anything, so it is left to the panic's own report.
fn unread(undone: &Undone) -> StoreError {
    match undone {
        Undone::Panicked => {
            let cause = "the store, or what chooses or loads its jobs, panicked: see the panic's own message";
            StoreError::read(cause).advising("mend it, then start again")
        }
        Undone::Ending => {
            StoreError::read("the runtime is ending").advising("start the client on a runtime that goes on")
        }
    }
}
