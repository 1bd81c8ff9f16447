//! A driver that has no room for a request: the request waits, and is taken back before it leaves. The provider never
//! sees it.

use steadfast_core::engine::Event;
use steadfast_core::operation::AttemptId;
use steadfast_core::{Kind, OperationId};

use super::process::Flight;
use super::words::name;
use super::world::World;

impl World {
    /// The driver takes it back, sometimes because its caller no longer wants it. It may have been given up by then.
    pub(super) fn take_back(&mut self, life: u32, id: OperationId, attempt: AttemptId) {
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else { return };
        let Some(Flight { job, kind, in_the_air, admitted }) = process.flights.remove(&(id, attempt)) else { return };
        let account = &mut self.books.accounts[job];
        if kind == Kind::Create && process.latest.get(&job) == Some(&id) {
            if account.creates > 1 {
                self.books.gate.not_retried();
            }
            account.has_not_left(attempt);
        }
        if in_the_air {
            account.life.hurried = false;
            if kind != Kind::Create {
                // Its permit goes back, unless it leaves after all.
                self.books.gate.give_back(kind, admitted);
                process.taken_back.insert((id, attempt), admitted);
            }
        }
        self.trace(Some(job), || format!("{} is taken back before it left", name(kind)));
        self.feed(Event::Unsent(id, attempt));
        // If it was given up by then, the next may have been admitted since, and has not left either: the books would
        // take it for sent.
        if in_the_air && self.dice.u8(..3) == 0 {
            self.trace(Some(job), || "cancelled by its caller".into());
            self.feed_too(Event::Cancel(id));
        }
        self.drain();
    }
}
