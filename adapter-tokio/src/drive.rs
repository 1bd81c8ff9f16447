//! The loop around the driver: one task feeds it and carries out what it says.
//!
//! It is the loop of `steadfast-driver`'s front page with tokio's pieces: a request that is not answered at once is
//! carried by a task (`carriers`), the work of a store that may block goes to the blocking pool (which also keeps a
//! paused clock from running ahead of it), channels bring back what came of them, one timer wakes it. No lock is held
//! across a wait, and nothing but this task touches the driver. A client with shards has such a task for each; what one
//! driver has to say to another goes by a channel between them.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Poll;
use std::time::Duration;

use steadfast_core::{OperationId, Timestamp};
use steadfast_driver::{
    Answered, Command, Driver, Outgoing, Posted, Renewed, Sending, Submit, Task, Word, Worked, caught,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::blocking::begin;
use crate::carriers::{Carrier, Carriers, Sent};
use crate::clock::Clock;
use crate::transport::Transport;

/// How many events of a kind are taken in before effects are carried out: enough to batch, few enough to stay
/// responsive.
const BATCH: usize = 64;

/// How many tasks are carried out before others on this thread have their turn: a request that is answered at once may
/// bring the next task at once, or make room for a submit that waits.
const MOST_IN_ONE_GO: u32 = 256;

/// If the loop has its turn this much later than its timer was set for, the whole runtime stood still (its threads were
/// busy, or the machine slept), and other tasks had no turn either.
const LATE: Duration = Duration::from_millis(100);

/// How long the tasks that read answers then have, before requests that were not answered in time are given up.
const CATCHING_UP: Duration = Duration::from_millis(5);

/// What comes from clients.
pub(crate) struct Inputs {
    pub(crate) submits: Inlet<Submit>,
    pub(crate) commands: Inlet<Command>,
    pub(crate) posts: Inlet<Posted>,
    /// `None` for a client without shards.
    pub(crate) words: Option<Words>,
    /// Dropped once the loop has ended and the store is closed.
    pub(crate) running: watch::Sender<()>,
    pub(crate) has_store: bool,
}

/// The driver's end of a channel from clients.
///
/// What is left in it is dropped with it, whether the loop ends or goes down with its runtime, and so callers are told
/// that nobody will answer. A plain receiver that is dropped leaves what lies behind a sender that has its place in the
/// line and has not put its message there yet: with it the reply would stay, for as long as there is a client.
pub(crate) struct Inlet<T>(pub(crate) mpsc::UnboundedReceiver<T>);

impl<T> Deref for Inlet<T> {
    type Target = mpsc::UnboundedReceiver<T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for Inlet<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<T> Drop for Inlet<T> {
    fn drop(&mut self) {
        self.0.close();
        // Whoever takes a place in the line from here on finds it closed afterwards.
        fence(Ordering::SeqCst);
        // Waits for those that have one.
        while self.0.try_recv().is_ok() {}
    }
}

/// Whether a message that was sent may have come too late: as, or after, the driver closed its end.
pub(crate) fn is_late<T>(sent_to: &mpsc::UnboundedSender<T>) -> bool {
    fence(Ordering::SeqCst);
    sent_to.is_closed()
}

/// What shards say to each other.
pub(crate) struct Words {
    pub(crate) heard: mpsc::UnboundedReceiver<Word>,
    /// By shard number, this shard's own included.
    pub(crate) others: Arc<[mpsc::UnboundedSender<Word>]>,
}

struct Loop<T> {
    driver: Driver<Carrier>,
    /// Submits for which there is no room. Those that need none overtake them.
    waiting: VecDeque<Submit>,
    clock: Clock,
    carriers: Carriers<T>,
    /// What has come of requests.
    answers: mpsc::UnboundedReceiver<Answered>,
    /// What the store has done.
    worked: mpsc::UnboundedReceiver<Worked>,
    works: mpsc::UnboundedSender<Worked>,
    /// What the program does to renew its credentials.
    renewal: Option<JoinHandle<()>>,
    renewed: mpsc::UnboundedSender<Renewed>,
    words: Option<Words>,
    /// When the grace ends, if the client has been shut down.
    stops_at: Timestamp,
    /// Tasks carried out since others on this thread had their turn.
    in_one_go: u32,
    /// Dropped after the driver, and so after its store. A thread that works on the store holds another.
    running: watch::Sender<()>,
}

/// Runs until the last client is gone or has shut it down. After a panic it ends, and callers that wait are told only
/// that the client has stopped: the log says why.
pub(crate) async fn drive<T: Transport>(driver: Driver<Carrier>, clock: Clock, transport: Arc<T>, inputs: Inputs) {
    let mut turns = pin!(take_turns(driver, clock, transport, inputs));
    poll_fn(|context| {
        caught(|| turns.as_mut().poll(context)).unwrap_or_else(|| {
            // The log may be what panicked.
            let _ = caught(|| tracing::error!("the driver panicked: the client stops"));
            Poll::Ready(())
        })
    })
    .await;
}

async fn take_turns<T: Transport>(driver: Driver<Carrier>, clock: Clock, transport: Arc<T>, inputs: Inputs) {
    let Inputs { mut submits, mut commands, mut posts, words, running, has_store } = inputs;
    let (answered, answers) = mpsc::unbounded_channel();
    let (renewed, mut renewals) = mpsc::unbounded_channel();
    let (works, worked) = mpsc::unbounded_channel();
    let carriers = Carriers::new(transport, answered);
    let mut this = Loop {
        driver,
        waiting: VecDeque::new(),
        clock,
        carriers,
        answers,
        worked,
        works,
        renewal: None,
        renewed,
        words,
        stops_at: Timestamp::NEVER,
        in_one_go: 0,
        running,
    };
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    // Not by asking the timer: it may elapse between two looks at it.
    let mut is_set = true;
    let (mut submits_open, mut commands_open) = (true, true);
    loop {
        if !submits_open && !commands_open && this.waiting.is_empty() {
            this.driver.abandon();
        }
        this.perform_tasks().await;
        if this.driver.is_over() {
            commands.close();
            // A caller that shut it down meanwhile is told what is unfinished, too.
            let Some(command) = commands.recv().await else { break };
            this.command(command);
            continue;
        }
        let deadline = this.driver.next_deadline();
        // A timer that is set for sooner stays: waking once for nothing costs less than setting it anew on each turn,
        // since deadlines move with every answer.
        if let Some(wake) = this.clock.wake_at(deadline)
            && (wake < timer.deadline() || timer.is_elapsed() || !is_set)
        {
            timer.as_mut().reset(wake);
            is_set = true;
        }
        if this.driver.is_closed() {
            submits.close();
            posts.close();
            // Dropping them tells their senders that the client stops.
            while submits.try_recv().is_ok() || posts.try_recv().is_ok() {}
            this.waiting.clear();
            this.wait_for_store(&mut commands, timer.as_mut(), &mut is_set).await;
            continue;
        }
        // What was done may have made room.
        if this.take_in_waiting() {
            continue;
        }
        let due = deadline.unwrap_or(Timestamp::NEVER).max(this.clock.now());
        tokio::select! {
            // In this order, so that a paused clock gives the same run each time: what is known before what is new, time last.
            biased;
            command = commands.recv(), if commands_open => match command {
                Some(command) => this.command(command),
                None => commands_open = false,
            },
            Some(word) = hear(&mut this.words) => {
                let now = this.now();
                this.driver.hear(word, now);
            }
            Some(worked) = this.worked.recv() => {
                let now = this.now();
                this.driver.worked(worked, now);
            }
            Some(renewed) = renewals.recv() => {
                let now = this.now();
                this.driver.renewed(renewed, now);
            }
            Some(first) = this.answers.recv() => {
                // Before the answers behind it.
                let now = this.clock.now();
                this.answered(first, now);
            }
            Some(first) = posts.recv() => {
                let now = this.now();
                this.driver.deliver(first, now);
            }
            submit = submits.recv(), if submits_open => match submit {
                Some(first) => {
                    let now = this.now();
                    this.submit(first, &mut commands, now);
                }
                None => submits_open = false,
            },
            () = &mut timer, if is_set => is_set = false,
        }
        this.catch_up(due).await;
        this.take_in_more(&mut posts, &mut submits, &mut commands);
        // Whatever woke us, time may have made something due: a flood of answers must not starve a deadline.
        let now = this.now();
        this.driver.handle_timeout(now);
    }
    this.answer_words().await;
    // A caller that waits for the end finds that it has come, and may open the store again. To close the store may take
    // as long as to write to it.
    if has_store {
        // What a panic leaves may panic once more.
        let _ = begin(move || drop(this)).done().await;
    } else {
        drop(this);
    }
}

impl<T> Drop for Loop<T> {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

impl<T: Transport> Loop<T> {
    /// Takes in what else has come meanwhile, up to a bound: one turn serves all of it, since a turn costs more than
    /// what it takes in.
    fn take_in_more(
        &mut self,
        posts: &mut mpsc::UnboundedReceiver<Posted>,
        submits: &mut mpsc::UnboundedReceiver<Submit>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) {
        let now = self.now();
        for _ in 0..BATCH {
            let Ok(answered) = self.answers.try_recv() else { break };
            self.answered(answered, now);
            self.keep_busy();
        }
        for _ in 0..BATCH {
            let Ok(posted) = posts.try_recv() else { break };
            self.driver.deliver(posted, now);
            self.keep_busy();
        }
        for _ in 0..BATCH {
            let Ok(submit) = submits.try_recv() else { break };
            self.submit(submit, commands, now);
            self.keep_busy();
        }
    }

    /// Takes in a submit, after the commands that came before it: they use different channels, and what is submitted
    /// after a hold must be held.
    fn submit(&mut self, submit: Submit, commands: &mut mpsc::UnboundedReceiver<Command>, now: Timestamp) {
        for _ in 0..commands.len() {
            let Ok(command) = commands.try_recv() else { break };
            self.command(command);
        }
        if self.driver.joins(&submit) || (self.waiting.is_empty() && self.driver.has_room()) {
            return self.driver.submit(submit, now);
        }
        // As many as there are callers waiting: submits whose callers have gone are dropped before the queue grows.
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|submit| !submit.reply.is_closed());
            self.waiting.reserve(self.waiting.len().max(BATCH));
        }
        self.waiting.push_back(submit);
    }

    /// Takes in submits for which there is room now, but for those whose callers have gone: they were told nothing, and
    /// their jobs would run long after they gave them up. Returns whether there were any.
    fn take_in_waiting(&mut self) -> bool {
        let (waited, now) = (self.waiting.len(), self.now());
        while self.driver.has_room()
            && let Some(submit) = self.waiting.pop_front()
        {
            if !submit.reply.is_closed() {
                self.driver.submit(submit, now);
            }
        }
        self.waiting.len() < waited
    }

    /// If the runtime stood still, answers that came in time may lie unread, and this turn comes before those of the
    /// tasks that read them. So they have theirs first: otherwise these requests would be given up, and of a create
    /// nobody would know whether it ran.
    async fn catch_up(&mut self, due: Timestamp) {
        if self.clock.now().saturating_since(due) >= LATE && self.driver.requests().next().is_some() {
            tokio::time::sleep(CATCHING_UP).await;
            let now = self.clock.now();
            self.take_in_answers(now);
        }
    }

    /// Nothing is carried out any more, but what is being written may take its time. Callers that want to know what is
    /// unfinished wait for it.
    async fn wait_for_store(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        mut timer: Pin<&mut Sleep>,
        is_set: &mut bool,
    ) {
        tokio::select! {
            biased;
            Some(command) = commands.recv() => self.command(command),
            Some(worked) = self.worked.recv() => {
                let now = self.now();
                self.driver.worked(worked, now);
            }
            () = &mut timer, if *is_set => *is_set = false,
        }
        let now = self.now();
        self.driver.handle_timeout(now);
    }

    /// The time, for the driver. Before it learns that its own time, or a create's, has run out, it is told what has
    /// come of requests, and which have not left: otherwise it would have to treat all of them as perhaps sent.
    fn now(&mut self) -> Timestamp {
        let now = self.clock.now();
        for id in self.carriers.overdue(now) {
            self.take_back(id, "all of its time went by before it could leave", now, |request| {
                request.attempt.until <= now
            });
        }
        if self.stops_at <= now && !self.driver.is_closed() {
            self.take_in_answers(now);
            let in_the_air: Vec<_> = self.driver.requests().map(|(id, _)| id).collect();
            for id in in_the_air {
                self.take_back(id, "the client stops", now, |_| true);
            }
        }
        now
    }

    /// Takes in all answers that there are: of a request that was answered, the driver must not say that its result is
    /// not known.
    fn take_in_answers(&mut self, now: Timestamp) {
        while let Ok(answered) = self.answers.try_recv() {
            self.answered(answered, now);
        }
    }

    fn take_back(&mut self, id: OperationId, why: &'static str, now: Timestamp, is_it: impl Fn(&Outgoing) -> bool) {
        if let Some(request) = self.driver.request(id).and_then(|carrier| carrier.take_back(is_it)) {
            self.driver.unsent(*request, why, now);
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.now();
        match &command {
            Command::Cancel(id) if !self.driver.is_closed() => {
                self.take_in_answers(now);
                self.take_back(*id, "it was cancelled", now, |_| true);
            }
            Command::Shutdown { grace, .. } => self.stops_at = self.stops_at.min(now.saturating_add(*grace)),
            _ => {}
        }
        self.driver.command(command, now);
    }

    async fn perform_tasks(&mut self) {
        let mut now = self.now();
        while let Some(task) = self.driver.pop_task(now) {
            self.perform(task);
            self.keep_busy();
            self.in_one_go += 1;
            if self.in_one_go == MOST_IN_ONE_GO {
                self.in_one_go = 0;
                tokio::task::yield_now().await;
                now = self.now();
            }
        }
    }

    fn perform(&mut self, task: Task<Carrier>) {
        match task {
            Task::Send(sending) => self.send(sending),
            Task::Abort(id) => {
                if let Some(request) = self.driver.request(id) {
                    self.carriers.cut_off(id, request);
                }
            }
            Task::Tell(shard, word) => {
                let other = self.words.as_ref().and_then(|words| words.others.get(shard));
                if let Some(Err(mpsc::error::SendError(unheard))) = other.map(|other| other.send(word)) {
                    self.driver.unheard(unheard);
                }
            }
            Task::Renew(renewing) => {
                let renewed = self.renewed.clone();
                let renewal = tokio::spawn(async move {
                    let _ = renewed.send(renewing.run().await);
                });
                if let Some(earlier) = self.renewal.replace(renewal) {
                    earlier.abort();
                }
            }
            Task::Work(work) => {
                let (works, running) = (self.works.clone(), self.running.clone());
                drop(begin(move || {
                    // Nobody hears it once the loop is gone: then the store is closed here.
                    let last = work.run(|worked| drop(works.send(worked)));
                    let _ = works.send(last);
                    drop((works, running));
                }));
            }
            _ => {}
        }
    }

    /// Answers what other shards asked before they could know that this one has ended: they would wait for it.
    async fn answer_words(&mut self) {
        let now = self.now();
        if let Some(Words { heard, .. }) = &mut self.words {
            heard.close();
            while let Some(word) = heard.recv().await {
                self.driver.hear(word, now);
            }
        }
        self.perform_tasks().await;
    }

    fn send(&mut self, sending: Box<Sending<Carrier>>) {
        let id = sending.id();
        match self.carriers.send(sending) {
            Sent::By(carrier) => self.driver.sent(id, carrier),
            Sent::Here(answered) => {
                let now = self.now();
                self.driver.answered(answered, now);
            }
        }
    }

    fn answered(&mut self, answered: Answered, now: Timestamp) {
        if let Some(carrier) = self.driver.take_request(&answered) {
            self.carriers.back(carrier);
        }
        self.driver.answered(answered, now);
    }

    /// Starts the next commit before what the last one allowed is carried out, so that the two overlap.
    fn keep_busy(&mut self) {
        while let Ok(worked) = self.worked.try_recv() {
            let now = self.now();
            self.driver.worked(worked, now);
            if let Some(task) = self.driver.pop_task(now) {
                self.perform(task);
            }
        }
    }
}

/// The next word from another shard; `None`, at once, if there is nobody to say one.
async fn hear(words: &mut Option<Words>) -> Option<Word> {
    match words {
        Some(words) => words.heard.recv().await,
        None => None,
    }
}
