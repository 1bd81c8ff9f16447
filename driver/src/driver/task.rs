//! Commands, which go into the driver beside jobs, answers and webhooks, and tasks, which come out of it.

use std::time::Duration;

use oneshot::Sender;
use steadfast_core::gate::GatePolicy;
use steadfast_core::{Key, OperationId};

use super::callers::Following;
use super::renew::Renewing;
use super::send::Sending;
use super::shared::Word;
use super::status::{JobStatus, StatusError};
use crate::accepted::Accepted;
use crate::finished::{Finished, ResumeError, Unfinished};
use crate::journal::Work;

/// What a program asks of its client, other than new jobs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Tell a caller that follows the job when the provider has accepted it. A `reply` that is dropped unanswered means
    /// that the job has ended, or the client has stopped.
    Accepted {
        /// The job.
        id: OperationId,
        /// Where the answer goes.
        reply: Sender<Accepted>,
    },
    /// Cancel the job: it is no longer wanted.
    Cancel(OperationId),
    /// Go on polling a job that ended as unresolved.
    Resume {
        /// The job.
        key: Key,
        /// Where the answer goes. If it is dropped unanswered, the client has stopped: [`ResumeError::Stopped`].
        reply: Sender<Result<Following, ResumeError>>,
    },
    /// Tell where a job stands, if it is known here.
    Status {
        /// The job.
        key: Key,
        /// Where the answer goes. If it is dropped unanswered, the client has stopped.
        reply: Sender<Result<Option<JobStatus>, StatusError>>,
    },
    /// A handle was told how its job ended, and was dropped before anybody read that: see
    /// [`Driver::give_back_to`](crate::Driver::give_back_to).
    Unread(Finished),
    /// Let no request leave for this long.
    Hold {
        /// How long.
        span: Duration,
        /// For a client with [shards](crate::Builder::shards), all of which are told: the same for each of them, and
        /// one higher with each new hold. The first shard to hear it carries it out for all; a shard that hears an
        /// equal or lower number later ignores it. For a client without shards, any number.
        number: u64,
    },
    /// Change the settings of the gate.
    Gate {
        /// The new settings.
        policy: Box<GatePolicy>,
        /// As for [`Hold`](Command::Hold).
        number: u64,
    },
    /// Take in nothing more, wait at most `grace` for the jobs under way, then stop.
    Shutdown {
        /// How long.
        grace: Duration,
        /// Gets the jobs that have not ended by then. If it is dropped unanswered, the client had stopped before.
        reply: Sender<Vec<Unfinished>>,
    },
}

/// Something for the adapter to do. `H` is what the adapter holds for a request in flight.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "carry it out: if you do not, whoever waits for it waits for ever"]
pub enum Task<H> {
    /// Send a request, [read](crate::Reader::read) its answer where that delays nobody else, and feed what it says to
    /// [`Driver::answered`](crate::Driver::answered). Tell [`Driver::sent`](crate::Driver::sent) what to hold for it.
    /// Its time runs already: if you can carry only *n* requests at a time, give the gate a
    /// [bulkhead](steadfast_core::bulkhead) of *n*, and you are given no more; but one that was given up and that you
    /// could not cut off counts no longer.
    Send(Box<Sending<H>>),
    /// Cut off this job's request if the transport can: nobody waits for it any more. It stays the
    /// [`previous`](Sending::previous) of the job's next one. If it was cut off, feed nothing: the driver has given it
    /// up already. If it was not, feed what comes of it as usual. [`Driver::request`](crate::Driver::request) lends
    /// what you hold for it; if cutting it off takes that by value, hold it in a `Cell<Option<…>>` and take it out.
    Abort(OperationId),
    /// Run the store's work where it may block, and feed the result to [`Driver::worked`](crate::Driver::worked). There
    /// is at most one at a time.
    Work(Box<Work>),
    /// Pass this word to the shard with this number, for its [`Driver::hear`](crate::Driver::hear). If that shard has
    /// ended, hand the word back to [`Driver::unheard`](crate::Driver::unheard). Only a client with
    /// [shards](crate::Builder::shards) gets this task.
    Tell(usize, Word),
    /// Renew the credentials, where that may block or wait, and feed the result to
    /// [`Driver::renewed`](crate::Driver::renewed). A newer renewal makes an earlier one pointless.
    Renew(Renewing),
}
