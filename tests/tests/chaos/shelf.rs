//! A store that fails or panics now and then, and says so, and when it is closed.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, Store, StoreError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::world::World;

pub(crate) struct Shelf {
    world: Arc<World>,
    inner: Option<Box<dyn Store>>,
    rng: Rng,
    /// Of a hundred commits, so many fail.
    ill: u32,
    /// Of a hundred things that it is asked for, so many make it panic.
    panics: u32,
    /// Commits until a copy is made.
    copied_in: Option<u32>,
    gone: UnboundedSender<bool>,
    closed: Option<oneshot::Sender<()>>,
}

/// By which it is known how a store does.
pub(crate) struct Watched {
    /// That it has panicked, or, from whoever has this, that nobody need watch it any more.
    gone: (UnboundedSender<bool>, UnboundedReceiver<bool>),
    closed: oneshot::Receiver<()>,
}

impl Watched {
    /// Of none, if there is no store.
    pub(crate) fn parts(
        this: Option<Self>,
    ) -> (UnboundedReceiver<bool>, UnboundedSender<bool>, Option<oneshot::Receiver<()>>) {
        let ((dismiss, gone), closed) =
            this.map_or_else(|| (unbounded_channel(), None), |this| (this.gone, Some(this.closed)));
        (gone, dismiss, closed)
    }
}

impl Shelf {
    /// For the client of this number. None if there is none.
    pub(crate) fn open(world: &Arc<World>, client: usize, is_well: bool, tries: u64) -> Option<(Self, Watched)> {
        let plan = &world.plan;
        let inner = world.cabinet.open()?;
        let gone = unbounded_channel();
        let (closes, closed) = oneshot::channel();
        let copy = plan.copy.filter(|copy| copy.client == client + 1);
        let shelf = Self {
            world: world.clone(),
            inner: Some(inner),
            rng: plan.rng(&[client as u64, 11 + (tries << 8)]),
            ill: if is_well { 0 } else { plan.store_ill },
            panics: if is_well { 0 } else { plan.store_panics },
            copied_in: copy.map(|copy| copy.after),
            gone: gone.0.clone(),
            closed: Some(closes),
        };
        Some((shelf, Watched { gone, closed }))
    }

    fn inner(&mut self) -> &mut dyn Store {
        &mut **self.inner.as_mut().unwrap()
    }

    fn fails(&mut self) -> bool {
        let fails = self.rng.u32(..100) < self.ill;
        self.world.is_in_doubt.fetch_or(fails, Ordering::SeqCst);
        fails
    }

    /// Without a word, since it is meant; before or after what it was asked for.
    fn may_panic(&mut self) {
        if self.rng.u32(..200) < self.panics {
            self.world.is_in_doubt.store(true, Ordering::SeqCst);
            let _ = self.gone.send(true);
            resume_unwind(Box::new("a store that is broken on purpose"));
        }
    }

    fn count_down(&mut self) {
        self.copied_in = self.copied_in.and_then(|left| left.checked_sub(1));
        if self.copied_in == Some(0) {
            let inner = self.inner.take().unwrap();
            self.inner = Some(self.world.copy(inner));
        }
    }
}

impl Store for Shelf {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.count_down();
        self.may_panic();
        let outcome = match self.fails().then(|| self.rng.u32(..3)) {
            None => self.inner().append(entries),
            Some(0) => Err(StoreError::write("no space left on device")),
            Some(1) => self.inner().append(entries).and(Err(StoreError::uncertain("input/output error"))),
            Some(_) => Err(StoreError::uncertain("input/output error")),
        };
        self.may_panic();
        outcome
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.inner().load()
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        if self.fails() { Err(StoreError::read("input/output error")) } else { self.inner().load_live() }
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.may_panic();
        if self.fails() { Err(StoreError::read("input/output error")) } else { self.inner().find(key) }
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.may_panic();
        if self.fails() { Err(StoreError::write("input/output error")) } else { self.inner().forget(before, most) }
    }

    fn is_backup(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.is_backup())
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        if self.fails() { Err(StoreError::write("input/output error")) } else { self.inner().take_into_use() }
    }

    fn blocks(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.blocks())
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.inner = None;
        let _ = self.closed.take().map(|closed| closed.send(()));
    }
}
