//! Since when the oldest record waits to be durable: of all clients of one provider in this process.
//!
//! To other gauges each client adds its part. An oldest has no parts, and a client that told its own would write over
//! another's, whose store hangs and which therefore says nothing any more. So those that wait are listed here, and
//! whoever begins or ends to wait tells what is true of all of them.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{SharedString, gauge, with_recorder};
use steadfast_core::Timestamp;

use super::recorder::{Gauge, Recorder};
use crate::metrics as names;

/// Of every client in the process that waits.
static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

static CLIENTS: AtomicUsize = AtomicUsize::new(0);

struct Waiting {
    client: usize,
    series: Series,
    since: Timestamp,
}

/// Which gauge it is. A process has one recorder as a rule; tests have their own ones.
#[derive(Clone, PartialEq)]
struct Series {
    provider: SharedString,
    recorder: usize,
}

/// One client's part in it.
pub(super) struct Oldest {
    gauge: Gauge,
    series: Series,
    client: usize,
    since: Option<Timestamp>,
}

impl Oldest {
    pub(super) fn new(recorder: &Recorder, provider: &SharedString) -> Self {
        let series = with_recorder(|recorder| ptr::from_ref(recorder).addr());
        let this = Self {
            gauge: recorder.gauge(|| gauge!(names::OLDEST, "provider" => provider.clone())),
            series: Series { provider: provider.clone(), recorder: series },
            client: CLIENTS.fetch_add(1, Ordering::Relaxed),
            since: None,
        };
        this.tell();
        this
    }

    pub(super) fn set(&mut self, since: Option<Timestamp>) {
        if since != self.since {
            self.since = since;
            self.tell();
        }
    }

    /// The recorder is called without the lock, so that one that is slow holds no other client up. What it is told last
    /// is true all the same: whoever has told it looks again.
    fn tell(&self) {
        let mut oldest = self.note();
        loop {
            self.gauge.set(oldest.map_or(0.0, |at| at.as_nanos() as f64 / 1e9));
            let now = self.oldest(&waiting());
            if now == oldest {
                return;
            }
            oldest = now;
        }
    }

    /// Lists its own part. Returns the oldest of all.
    fn note(&self) -> Option<Timestamp> {
        let mut waiting = waiting();
        waiting.retain(|waiting| waiting.client != self.client);
        waiting.extend(self.since.map(|since| Waiting { client: self.client, series: self.series.clone(), since }));
        self.oldest(&waiting)
    }

    fn oldest(&self, waiting: &[Waiting]) -> Option<Timestamp> {
        waiting.iter().filter(|waiting| waiting.series == self.series).map(|waiting| waiting.since).min()
    }
}

fn waiting() -> MutexGuard<'static, Vec<Waiting>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody waits any more.
impl Drop for Oldest {
    fn drop(&mut self) {
        self.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use metrics::GaugeFn;
    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PROVIDERS: [&str; 2] = ["a", "b"];
    const CLIENTS: usize = 3;

    fn told(snapshotter: &Snapshotter) -> [f64; PROVIDERS.len()] {
        let mut told = [0.0; PROVIDERS.len()];
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let provider = key.key().labels().next().expect("a label").value().to_owned();
            let DebugValue::Gauge(value) = value else { panic!("it is a gauge") };
            told[PROVIDERS.iter().position(|name| *name == provider).expect("a provider")] = value.into_inner();
        }
        told
    }

    /// A gauge that takes its time once: meanwhile something else happens.
    #[derive(Default)]
    struct Slow {
        shown: Mutex<f64>,
        meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    }

    impl GaugeFn for Slow {
        fn increment(&self, _: f64) {}

        fn decrement(&self, _: f64) {}

        fn set(&self, to: f64) {
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(meanwhile) = meanwhile {
                meanwhile();
            }
            *self.shown.lock().unwrap() = to;
        }
    }

    #[test]
    fn a_slow_recorder_holds_no_other_client_up_and_shows_what_is_true_in_the_end() {
        let slow = Arc::new(Slow::default());
        let client = || Oldest {
            gauge: Recorder::default().gauge(|| metrics::Gauge::from_arc(slow.clone())),
            series: Series { provider: "slow".into(), recorder: 0 },
            client: super::CLIENTS.fetch_add(1, Ordering::Relaxed),
            since: None,
        };
        let (mut one, mut other) = (client(), client());
        let (went_on, goes_on) = mpsc::channel();
        let (is_told, has_gone_on) = mpsc::channel();
        *slow.meanwhile.lock().unwrap() = Some(Box::new(move || {
            let other = thread::spawn(move || {
                other.set(Some(Timestamp::from_secs(5)));
                let _ = went_on.send(());
                other
            });
            is_told.send((goes_on.recv_timeout(Duration::from_secs(20)).is_ok(), other)).unwrap();
        }));
        one.set(Some(Timestamp::from_secs(9)));
        let (went_on, other) = has_gone_on.recv().unwrap();
        assert!(went_on, "the other waited for the recorder");
        assert_eq!(*slow.shown.lock().unwrap(), 5.0);
        drop(other.join().unwrap());
        assert_eq!(*slow.shown.lock().unwrap(), 9.0);
    }

    proptest! {
        /// Whoever spoke last, came or went.
        #[test]
        fn what_is_told_is_the_oldest_of_those_who_wait(
            steps in vec((0..PROVIDERS.len(), 0..CLIENTS, proptest::option::of(proptest::option::of(1..9_u64))), 0..40).boxed(),
        ) {
            let recorder = DebuggingRecorder::new();
            let snapshotter = recorder.snapshotter();
            metrics::with_local_recorder(&recorder, || {
                let mut clients: [[Option<Oldest>; CLIENTS]; PROVIDERS.len()] = Default::default();
                for (provider, client, step) in steps {
                    let place = &mut clients[provider][client];
                    match step {
                        Some(since) => place
                            .get_or_insert_with(|| Oldest::new(&Recorder::default(), &PROVIDERS[provider].into()))
                            .set(since.map(Timestamp::from_secs)),
                        None => *place = None,
                    }
                }
                let oldest = |clients: &[Option<Oldest>; CLIENTS]| {
                    let waiting = clients.iter().flatten().filter_map(|client| client.since);
                    waiting.min().map_or(0.0, |since| since.as_nanos() as f64 / 1e9)
                };
                // Once: a snapshot sets what it shows to zero.
                prop_assert_eq!(told(&snapshotter), clients.each_ref().map(oldest));
                Ok(())
            })?;
        }
    }
}
