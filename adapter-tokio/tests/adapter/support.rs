//! A provider and a transport in process, for virtual time: the transport is a script, the clock is tokio's, paused.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, process};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, SendSafety, Timestamp};
use steadfast_providers::{Answer, Ask, Payload, Provider, RequestError};
use steadfast_store::{Entry, MemoryStore, SqliteStore, Store, StoreError};
use steadfast_tokio::{Outgoing, SendError, Transport};
use tokio::runtime::{Builder, Runtime};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A runtime for whose blocking work the system gives no thread: nowhere is there room for such a stack.
pub(crate) fn without_threads() -> Runtime {
    Builder::new_current_thread().enable_all().thread_stack_size(usize::MAX / 4).build().unwrap()
}

pub(crate) fn keyed() -> OperationPolicy {
    OperationPolicy::default().with_safety(SendSafety::Keyed { window: DAY }).unwrap()
}

/// 201 accepts, 202 is pending, 200 is ready, 404 finds nothing, other 4xx refuse.
pub(crate) struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        keyed()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let (method, path, body) = match ask.kind {
            Kind::Poll => (Method::GET, ask.reference.ok_or(RequestError::NoReference)?.as_str(), Payload::default()),
            _ => (Method::POST, "", ask.payload.clone()),
        };
        let request = Request::builder().method(method).uri(format!("https://provider.test/jobs/{path}"));
        request
            .header("authorization", "Bearer canary-token")
            .header("idempotency-key", ask.key.as_str())
            .body(body.bytes().clone())
            .map_err(|_| RequestError::Unsendable("reference"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        let text = || String::from_utf8_lossy(answer.body).into_owned();
        match answer.status.as_u16() {
            201 => Reference::new(text())
                .map(Reading::Accepted)
                .map_err(|_| Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
            202 => Ok(Reading::Pending { hint: None }),
            200 => Ok(Reading::Ready),
            404 if answer.kind == Kind::Lookup => Ok(Reading::NotFound),
            400..=499 => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            _ => Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
        }
    }
}

/// A profile that panics when asked for a request.
pub(crate) struct Broke;

impl Provider for Broke {
    fn name(&self) -> &str {
        "broke"
    }

    fn policy(&self) -> OperationPolicy {
        keyed()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        panic!("the profile has a bug")
    }

    fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(Reading::Ready)
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Bytes>, SendError>> + Send>>;
type Script = dyn Fn(Kind, u16, String) -> Answering + Send + Sync;

/// Answers by a function of kind, attempt number and key; counts what was sent.
#[derive(Clone)]
pub(crate) struct Scripted {
    script: Arc<Script>,
    sent: Arc<Mutex<BTreeMap<String, Vec<Kind>>>>,
}

impl Scripted {
    pub(crate) fn new<F, A>(script: F) -> Self
    where
        F: Fn(Kind, u16, String) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response<Bytes>, SendError>> + Send + 'static,
    {
        Self { script: Arc::new(move |kind, number, key| Box::pin(script(kind, number, key))), sent: Arc::default() }
    }

    /// Accepts at once, is pending twice, then ready; 50 ms each.
    pub(crate) fn well_behaved() -> Self {
        Self::new(|kind, number, key| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(match (kind, number) {
                (Kind::Create, _) => answer(201, format!("txn-{key}")),
                (_, ..3) => answer(202, ""),
                _ => answer(200, r#"{"status":"verified"}"#),
            })
        })
    }

    pub(crate) fn sent(&self, key: &str) -> Vec<Kind> {
        self.sent.lock().unwrap().get(key).cloned().unwrap_or_default()
    }
}

impl Transport for Scripted {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let key = outgoing.key.as_str().to_owned();
        self.sent.lock().unwrap().entry(key.clone()).or_default().push(outgoing.attempt.kind);
        (self.script)(outgoing.attempt.kind, outgoing.attempt.number, key).await
    }
}

pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A store of either kind. Clones share what is kept, so one can be handed to a client and the other asked.
#[derive(Clone)]
pub(crate) enum Kept {
    Memory(MemoryStore),
    Sqlite(Arc<Mutex<File>>),
}

/// A journal on SQLite in a directory that goes away.
pub(crate) struct File {
    directory: PathBuf,
    open: Option<SqliteStore>,
}

impl Kept {
    /// An empty one of each kind.
    pub(crate) fn both() -> [Self; 2] {
        [Self::Memory(MemoryStore::default()), Self::Sqlite(Arc::new(Mutex::new(File::new())))]
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut dyn Store) -> T) -> T {
        match self {
            Self::Memory(store) => work(store),
            Self::Sqlite(file) => work(file.lock().unwrap().store()),
        }
    }
}

impl File {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // In memory where there is such a place.
        let root = Some(PathBuf::from("/dev/shm")).filter(|root| root.is_dir()).unwrap_or_else(env::temp_dir);
        let directory = root.join(format!("steadfast-adapter-{}-{number}", process::id()));
        fs::create_dir(&directory).unwrap();
        Self { directory, open: None }
    }

    fn store(&mut self) -> &mut SqliteStore {
        let path = self.directory.join("journal");
        self.open.get_or_insert_with(|| SqliteStore::open(path).unwrap())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.open = None;
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Store for Kept {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.with(|store| store.append(entries))
    }

    /// A client does this when it starts: the file is opened anew for it, as after a restart.
    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        if let Self::Sqlite(file) = self {
            file.lock().unwrap().open = None;
        }
        self.with(|store| store.load())
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        if let Self::Sqlite(file) = self {
            file.lock().unwrap().open = None;
        }
        self.with(|store| store.load_live())
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.with(|store| store.find(key))
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.with(|store| store.forget(before, most))
    }

    fn is_backup(&self) -> bool {
        match self {
            Self::Memory(store) => store.is_backup(),
            Self::Sqlite(file) => file.lock().unwrap().store().is_backup(),
        }
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.with(|store| store.take_into_use())
    }

    /// So one of both is worked on in place.
    fn blocks(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

/// What a commit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    Works,
    /// Certainly nothing was written.
    Fails,
    /// Nobody knows; it was written.
    InDoubtAndDone,
    /// Nobody knows; it was not written.
    InDoubtAndNot,
}

/// A store whose next commits do as told, and which may refuse to be read. Clones share all.
#[derive(Clone)]
pub(crate) struct Faulty {
    pub(crate) inner: Kept,
    commits: Arc<Mutex<VecDeque<Commit>>>,
    unreadable: Arc<AtomicBool>,
}

impl Faulty {
    pub(crate) fn both() -> [Self; 2] {
        Kept::both().map(|inner| Self { inner, commits: Arc::default(), unreadable: Arc::default() })
    }

    pub(crate) fn tell(&self, commits: impl IntoIterator<Item = Commit>) {
        let mut told = self.commits.lock().unwrap();
        told.clear();
        told.extend(commits);
    }

    /// How many of the commits told have not happened.
    pub(crate) fn left(&self) -> usize {
        self.commits.lock().unwrap().len()
    }

    pub(crate) fn set_unreadable(&self, unreadable: bool) {
        self.unreadable.store(unreadable, Ordering::SeqCst);
    }

    fn read<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.unreadable.load(Ordering::SeqCst) { Err(StoreError::read("input/output error")) } else { read() }
    }
}

impl Store for Faulty {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        match self.commits.lock().unwrap().pop_front().unwrap_or(Commit::Works) {
            Commit::Works => self.inner.append(entries),
            Commit::Fails => Err(StoreError::write("no space left on device")),
            Commit::InDoubtAndDone => {
                self.inner.append(entries)?;
                Err(StoreError::uncertain("input/output error"))
            }
            Commit::InDoubtAndNot => Err(StoreError::uncertain("input/output error")),
        }
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        let mut inner = self.inner.clone();
        self.read(|| inner.load())
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        let mut inner = self.inner.clone();
        self.read(|| inner.load_live())
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let mut inner = self.inner.clone();
        self.read(|| inner.find(key))
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.inner.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.inner.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.inner.take_into_use()
    }

    fn blocks(&self) -> bool {
        self.inner.blocks()
    }
}
