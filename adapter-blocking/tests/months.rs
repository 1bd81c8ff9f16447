//! I15, over months, on threads: whatever becomes of jobs, of their callers and of their requests, nothing of them
//! stays. Waves of jobs go through every ending; after each, no byte of a payload or an answer is held any more, and
//! there are no more threads than there may be.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use steadfast_blocking::{Client, MOST_THREADS, Outgoing, SendError, Transport};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::MemoryStore;

/// How long a request may take. Some take longer.
const TIME_OUT: Duration = Duration::from_millis(30);

/// Longer than anything here takes.
const WHILE: Duration = Duration::from_secs(120);

struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        let soon = Duration::from_millis(1);
        let soon = BackoffPolicy::new(Growth::Fixed(soon), soon, Jitter::None).unwrap();
        let create = RetryPolicy::new(5, WHILE, TIME_OUT, soon.clone()).unwrap();
        let poll = PollPolicy::new(soon, 5, WHILE, create.clone()).unwrap();
        let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
        OperationPolicy::default().with_create(create).unwrap().with_poll(poll).with_safety(keyed).unwrap()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let request = Request::builder().method(Method::POST).uri("https://plain.test/");
        request.body(ask.payload.bytes().clone()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.status.as_u16() {
            418 => resume_unwind(Box::new("the profile has a bug")),
            422 => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            202 => Ok(Reading::Pending { hint: None }),
            200 => Ok(Reading::Ready),
            _ => Ok(Reading::Accepted(Reference::new(String::from_utf8_lossy(answer.body)).unwrap())),
        }
    }
}

/// Payloads and answers that somebody holds.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

struct Held(Vec<u8>, Counted);

impl Counted {
    fn bytes(&self, bytes: impl Into<Vec<u8>>) -> Bytes {
        self.0.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Held(bytes.into(), self.clone()))
    }

    fn held(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The last letter of a key says what becomes of its requests.
struct Wire(Counted);

impl Transport for Wire {
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let key = outgoing.key.as_str().to_owned();
        let (it, kind, number) = (key.chars().last().unwrap(), outgoing.attempt.kind, outgoing.attempt.number);
        let answer = |status: u16, body: &str| {
            // A few of these are always remembered.
            let body = if key.starts_with(AFTER) { body.to_owned().into() } else { self.0.bytes(body) };
            Ok(Response::builder().status(status).body(body).unwrap())
        };
        // Nobody closes it, so waiting for it takes up a request's time. That is real time and no condition: the client's
        // threads go by the system's clock, and what is played here is a provider that says nothing until it is over.
        let (_open, closes) = channel::<()>();
        match (it, kind, number) {
            ('h', ..) => {
                let _ = closes.recv_timeout(outgoing.timeout);
                Err(SendError::timed_out())
            }
            ('s', Kind::Create, ..3) => {
                let _ = closes.recv_timeout(outgoing.timeout * 2);
                answer(201, &key)
            }
            ('t', Kind::Create, ..3) => resume_unwind(Box::new("the transport has a bug".to_owned())),
            ('r', Kind::Poll, 1) => answer(418, "a teapot"),
            ('c', ..) => answer(422, "no"),
            ('x', Kind::Create, _) => Err(SendError::ambiguous()),
            ('n', Kind::Create, ..4) => Err(SendError::not_sent()),
            (_, Kind::Create, _) => answer(201, &key),
            ('p', Kind::Poll, _) | (_, _, 1) => answer(202, ""),
            _ => answer(200, "verified"),
        }
    }
}

/// How keys of jobs begin that are there to make others forgotten.
const AFTER: &str = "after";

/// The last letters of keys: what becomes of their requests, and of their callers.
const ENDINGS: &str = "abcdehlnpqrstuvwxz";

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// One job, with a caller of its own.
fn job(client: &Client, counted: &Counted, name: &str, is_even: bool) {
    let submit = || client.submit(key(name), counted.bytes("payload"));
    let mut handle = submit().unwrap();
    match name.chars().last().unwrap() {
        'b' => {
            assert!(handle.wait_timeout(Duration::ZERO).is_ok());
            assert!(handle.wait_timeout(Duration::MAX).is_ok_and(|finished| finished.is_some()));
            assert!(handle.try_outcome().is_ok_and(|finished| finished.is_some()));
        }
        'd' => handle.cancel(),
        'e' => {
            let _ = handle.accepted();
            handle.cancel();
            handle.wait().unwrap();
        }
        'l' => {
            // It is refused, unless the job was forgotten by then.
            drop(client.submit(key(name), counted.bytes("another")));
            let _revisions = client.revisions();
            drop((client.submit(key(name), counted.bytes("payload")), handle));
        }
        'q' => {
            let second = submit().unwrap();
            let _ = second.accepted();
            drop(handle);
            second.wait().unwrap();
        }
        'u' => {
            handle.cancel();
            handle.wait().unwrap();
            drop(client.resume(key(name)));
            let _ = client.status(key(name));
        }
        'v' => {
            let second = submit().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| second.wait().unwrap());
                scope.spawn(|| drop((handle, client.clone())));
            });
        }
        'w' => {
            let unwinds = catch_unwind(AssertUnwindSafe(|| {
                let _handle = handle;
                resume_unwind(Box::new("the caller has a bug"))
            }));
            assert!(unwinds.is_err());
        }
        'z' => drop(handle),
        _ if is_even => drop(handle),
        _ => drop(handle.wait().unwrap()),
    }
}

/// The client's threads in this process, as the system counts them; 0 where it does not say.
fn threads() -> usize {
    let ours = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("steadfast-"))
    };
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.flatten().filter(ours).count())
}

#[test]
fn nothing_stays_of_jobs_their_callers_and_their_requests() {
    const WAVES: usize = 4;
    const JOBS: usize = 4;
    for with_store in [false, true] {
        let counted = Counted::default();
        // Most callers wait for room, and what has ended is soon forgotten.
        let limits = Limits { live: 8, remember: 4, ..Limits::default() };
        let builder = Client::builder(Plain, Wire(counted.clone())).limits(limits).gate(GatePolicy::none());
        let told = AtomicUsize::new(0);
        let builder = builder.unclaimed(move |_, _| match told.fetch_add(1, Ordering::Relaxed) {
            8 => Err(std::io::Error::other("its database is down")),
            16 => resume_unwind(Box::new("a bug")),
            _ => Ok(()),
        });
        let builder = if with_store { builder.store(MemoryStore::default()) } else { builder };
        let client = builder.start().unwrap();
        for wave in 0..WAVES {
            thread::scope(|scope| {
                for (number, it) in (0..JOBS).flat_map(|number| ENDINGS.chars().map(move |it| (number, it))) {
                    let (client, counted) = (&client, &counted);
                    scope.spawn(move || job(client, counted, &format!("{wave}-{number}-{it}"), number % 2 == 0));
                }
            });
            // Jobs that nobody waits for go on; each that ends makes others forgotten.
            let began = Instant::now();
            for number in 0.. {
                client.call(key(&format!("{AFTER}-{wave}-{number}-a")), "").map(drop).unwrap();
                if counted.held() == 0 {
                    break;
                }
                assert!(began.elapsed() < WHILE, "{} are held after wave {wave}, store: {with_store}", counted.held());
            }
            // The loop's and the store's.
            assert!(threads() <= MOST_THREADS.get() as usize + 2);
        }
        assert!(client.shutdown(WHILE).is_empty());
        let began = Instant::now();
        while threads() > 0 {
            assert!(began.elapsed() < WHILE, "{} threads are left", threads());
            thread::yield_now();
        }
        assert_eq!(counted.held(), 0);
    }
}
