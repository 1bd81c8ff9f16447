//! The jobs that are held, by their operations' slots in the engine: found without hashing, a dozen times for each job.

use slab::Slab;
use steadfast_core::OperationId;

use super::Job;

/// Of a slot without a job.
const NOWHERE: u32 = u32::MAX;

pub(super) struct Jobs<H> {
    /// Where the job of each slot is. An engine remembers many operations that have ended, and of those no job is held.
    places: Vec<u32>,
    jobs: Slab<(OperationId, Job<H>)>,
}

impl<H> Jobs<H> {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn contains(&self, id: OperationId) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn get(&self, id: OperationId) -> Option<&Job<H>> {
        let place = *self.places.get(id.slot() as usize)?;
        self.jobs.get(place as usize).filter(|(held, _)| *held == id).map(|(_, job)| job)
    }

    pub(super) fn get_mut(&mut self, id: OperationId) -> Option<&mut Job<H>> {
        let place = *self.places.get(id.slot() as usize)?;
        self.jobs.get_mut(place as usize).filter(|(held, _)| *held == id).map(|(_, job)| job)
    }

    /// Holds a job. The slot's last one is gone: an engine gives no slot away twice.
    pub(super) fn insert(&mut self, id: OperationId, job: Job<H>) {
        let slot = id.slot() as usize;
        if slot >= self.places.len() {
            self.places.resize(slot + 1, NOWHERE);
        }
        let last = std::mem::replace(&mut self.places[slot], NOWHERE);
        debug_assert!(!self.jobs.contains(last as usize), "the job of an operation that the engine has forgotten");
        self.jobs.try_remove(last as usize);
        if self.jobs.len() == self.jobs.capacity() {
            // Twice the room would double what each job takes.
            self.jobs.reserve_exact((self.jobs.len() / 8).max(64));
        }
        let entry = self.jobs.vacant_entry();
        self.places[slot] = entry.key() as u32;
        entry.insert((id, job));
    }

    pub(super) fn remove(&mut self, id: OperationId) -> Option<Job<H>> {
        self.get(id)?;
        let place = std::mem::replace(self.places.get_mut(id.slot() as usize)?, NOWHERE);
        self.jobs.try_remove(place as usize).map(|(_, job)| job)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (OperationId, &Job<H>)> {
        self.jobs.iter().map(|(_, (id, job))| (*id, job))
    }
}

impl<H> Default for Jobs<H> {
    fn default() -> Self {
        Self { places: Vec::new(), jobs: Slab::new() }
    }
}
