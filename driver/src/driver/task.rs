//! What goes into the driver beside jobs, answers and webhooks, and what comes out of it.

use std::time::Duration;

use oneshot::Sender;
use steadfast_core::gate::GatePolicy;
use steadfast_core::{Key, OperationId};

use super::intake::Following;
use super::renew::Renewing;
use super::send::Sending;
use super::shared::Word;
use super::status::{JobStatus, StatusError};
use crate::accepted::Accepted;
use crate::finished::{Finished, ResumeError, Unfinished};
use crate::journal::Work;

/// What a program wants of its client, beside new jobs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Whoever follows the job wants to know when the provider has it. Dropped untold, it has ended.
    Accepted {
        /// Which.
        id: OperationId,
        /// Whoever asked.
        reply: Sender<Accepted>,
    },
    /// The job is no longer wanted.
    Cancel(OperationId),
    /// What ended as unresolved is to be polled on.
    Resume {
        /// Which.
        key: Key,
        /// Whoever asked.
        reply: Sender<Result<Following, ResumeError>>,
    },
    /// Somebody wants to know where a job stands, if it is known here.
    Status {
        /// Which.
        key: Key,
        /// Whoever asked. Dropped unanswered, the client has stopped.
        reply: Sender<Result<Option<JobStatus>, StatusError>>,
    },
    /// A handle was told how its job ended, and was dropped before anybody read it: see
    /// [`Driver::give_back_to`](crate::Driver::give_back_to).
    Unread(Finished),
    /// Nothing is to leave for so long.
    Hold {
        /// How long.
        span: Duration,
        /// Of a client with [shards](crate::Builder::shards), all of which are told, one higher each time: it counts
        /// for all once the first of them has heard it, and what was said before counts no more, whichever of them
        /// hears it late. Else any one.
        number: u64,
    },
    /// Other settings of the gate.
    Gate {
        /// Which.
        policy: Box<GatePolicy>,
        /// As of [`Hold`](Command::Hold).
        number: u64,
    },
    /// Takes in nothing more, waits so long for what is under way, then stops.
    Shutdown {
        /// How long.
        grace: Duration,
        /// Whoever asked.
        reply: Sender<Vec<Unfinished>>,
    },
}

/// What an adapter must do. `H` is what it holds for a request in the air.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "whoever waits for it waits for ever if it is not done"]
pub enum Task<H> {
    /// Send a request, [read](crate::Reader::read) what comes of it where it blocks nobody, and feed that to
    /// [`Driver::answered`](crate::Driver::answered). Tell [`Driver::sent`](crate::Driver::sent) what to hold for it.
    Send(Box<Sending<H>>),
    /// Nobody waits for this request any more: if it can be, it is to be cut off. It stays the
    /// [`previous`](Sending::previous) of the job's next one. If it was cut off, there is nothing to feed: it was given
    /// up before this. If it was not, feed what comes of it all the same. What you hold for it is lent by
    /// [`Driver::request`](crate::Driver::request); if cutting it off takes that by value, hold it in a
    /// `Cell<Option<…>>` and take it out.
    Abort(OperationId),
    /// Let the store work where it may block, and feed what came of it to [`Driver::worked`](crate::Driver::worked).
    /// There is one at a time.
    Work(Box<Work>),
    /// Pass this on to the shard of this number, for its [`Driver::hear`](crate::Driver::hear); back to
    /// [`Driver::unheard`](crate::Driver::unheard) if that is over. Only of a client that has
    /// [shards](crate::Builder::shards).
    Tell(usize, Word),
    /// Renew the credentials, where that may block or wait, and feed what came of it to
    /// [`Driver::renewed`](crate::Driver::renewed). A next one makes an earlier one pointless.
    Renew(Renewing),
}
