//! What observers hear: notices, kept until somebody reads them or there are too many. They decide nothing.

use alloc::collections::VecDeque;

use super::{Engine, Limits, OperationId};
use crate::notice::Notice;

/// Told.
impl Engine {
    /// The next notice. Nobody needs to read them.
    #[must_use]
    pub fn pop_notice(&mut self) -> Option<(OperationId, Notice)> {
        self.notices.pop_front()
    }

    /// Sets whether notices are made; they are by default. If not, they cost nothing, and those that wait to be popped
    /// are dropped. Affects no decision, and is not part of a snapshot.
    pub fn observe(&mut self, observed: bool) {
        self.unobserved = !observed;
        if self.unobserved {
            self.notices.clear();
        }
    }

    /// Notices that found no room. A driver that pops none sees this grow; nothing else happens.
    #[must_use]
    pub const fn notices_dropped(&self) -> u64 {
        self.notices_dropped
    }
}

impl Engine {
    /// Keeps what the last step of this operation told.
    pub(super) fn pass_on(&mut self, id: OperationId) {
        for notice in self.told.drain() {
            keep(&mut self.notices, &self.limits, &mut self.notices_dropped, id, notice);
        }
    }

    pub(super) fn tell(&mut self, id: OperationId, notice: Notice) {
        if !self.unobserved {
            keep(&mut self.notices, &self.limits, &mut self.notices_dropped, id, notice);
        }
    }
}

fn keep(
    notices: &mut VecDeque<(OperationId, Notice)>,
    limits: &Limits,
    dropped: &mut u64,
    id: OperationId,
    notice: Notice,
) {
    if notices.len() < limits.notices as usize {
        notices.push_back((id, notice));
    } else {
        *dropped = dropped.saturating_add(1);
    }
}
