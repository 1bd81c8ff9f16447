//! The program's recorder, and handles on it that a bug of its costs nothing but the metrics: what counts is a driver's
//! turn, the store's thread, or a server to which a webhook came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::IntoF64;

use crate::caught::caught;

/// Not called again once it has panicked: its own lock may be poisoned, and each call would panic as well.
#[derive(Clone, Default)]
pub(super) struct Recorder {
    has_panicked: Arc<AtomicBool>,
}

impl Recorder {
    pub(super) fn call<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        // It guards nothing.
        if self.has_panicked.load(Ordering::Relaxed) {
            return None;
        }
        let called = caught(call);
        if called.is_none() && !self.has_panicked.swap(true, Ordering::Relaxed) {
            tracing::error!("the metrics recorder panicked: it is not called again, and what it showed last stays");
        }
        called
    }

    pub(super) fn counter(&self, register: impl FnOnce() -> metrics::Counter) -> Counter {
        Counter::new(self.call(register).unwrap_or_else(metrics::Counter::noop), self)
    }

    pub(super) fn gauge(&self, register: impl FnOnce() -> metrics::Gauge) -> Gauge {
        Gauge::new(self.call(register).unwrap_or_else(metrics::Gauge::noop), self)
    }

    pub(super) fn histogram(&self, register: impl FnOnce() -> metrics::Histogram) -> Histogram {
        Histogram::new(self.call(register).unwrap_or_else(metrics::Histogram::noop), self)
    }
}

#[derive(Clone)]
pub(super) struct Guarded<H> {
    handle: H,
    recorder: Recorder,
}

pub(super) type Counter = Guarded<metrics::Counter>;
pub(super) type Gauge = Guarded<metrics::Gauge>;
pub(super) type Histogram = Guarded<metrics::Histogram>;

impl<H> Guarded<H> {
    fn new(handle: H, recorder: &Recorder) -> Self {
        Self { handle, recorder: recorder.clone() }
    }
}

impl Counter {
    pub(super) fn increment(&self, by: u64) {
        self.recorder.call(|| self.handle.increment(by));
    }
}

impl Gauge {
    pub(super) fn increment(&self, by: f64) {
        self.recorder.call(|| self.handle.increment(by));
    }

    pub(super) fn set(&self, to: f64) {
        self.recorder.call(|| self.handle.set(to));
    }
}

impl Histogram {
    pub(super) fn record(&self, value: impl IntoF64) {
        self.recorder.call(|| self.handle.record(value));
    }
}
