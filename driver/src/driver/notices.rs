//! How the observer and the log hear of what the engine does.

use super::Driver;
use crate::caught::caught;
use crate::observe::Observation;

impl<H> Driver<H> {
    pub(super) fn tell_notices(&mut self) {
        while let Some((id, notice)) = self.engine.pop_notice() {
            self.meter.notice(id, self.engine.operation(id), &notice, self.now);
            if self.hooks.observer.is_none() && !Observation::is_logged(&notice) {
                continue;
            }
            let Some(operation) = self.engine.operation(id) else { continue };
            let observation = Observation::new(id, operation, notice, self.now);
            observation.log(self.jobs.get(id).and_then(|job| job.trace.as_deref()).and_then(|trace| trace.span().id()));
            if let Some(observer) = self.hooks.observer.take() {
                // A bug in it costs the notices, not the jobs.
                match caught(|| observer(&observation)) {
                    Some(()) => self.hooks.observer = Some(observer),
                    None => {
                        tracing::error!("the observer panicked: it is not called again");
                        // Dropping it may panic as well: its own lock may be poisoned, say.
                        let _ = caught(|| drop(observer));
                    }
                }
            }
        }
    }
}
