//! What is kept in the store, and how it is sealed.
//!
//! Records are what a restart needs to be safe, and hold no personal data. Two things may be kept beside them, each
//! only when asked for: payloads, so that an interrupted create goes on by itself after a restart, and answers, so that
//! a repeated submit gets the result as well. Both are personal data as a rule, so a program may seal them: what it
//! seals is all that the store sees.
//!
//! The program's functions run on the thread that reads and writes the store, never on the driver's task, so they may
//! take their time. If one panics, only what it was asked for is lost: that payload or answer is not at hand. A payload
//! that cannot be sealed costs more: the commit that it was to go into. A caller must not be told that a payload is
//! kept when it is not.

use std::sync::Arc;

use steadfast_core::Key;
use steadfast_core::operation::{OperationPolicy, Record, SendSafety, Stage};
use steadfast_providers::{Payload, fingerprint};
use steadfast_store::{Entry, KeptAnswer};

use crate::caught::caught;

/// What stands before an answer's sealed bytes in the store: skip it before you open such bytes yourself, outside a
/// client. A payload needs no such mark, since its fingerprint tells it from anything else. Nothing would tell a sealed
/// answer from an answer, so a client whose seal was taken away (a deploy without the variable that names its key, say)
/// would give it to its callers as what the provider said.
pub const SEAL_MARK: &[u8] = b"\0sealed\0";

/// Whether a submit waits for its intent to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing is sent, and no outcome is told, before the store has made its record durable. The default with a store.
    Durable,
    /// Nothing is kept, as if there were no store: a crash forgets the jobs under way. The default without one.
    Volatile,
}

/// Why bytes could not be sealed, or sealed bytes not opened: another key, say, or damage. Its text is logged, so it
/// must not hold what was sealed. Any error becomes one with [`Into`], and so does a text: `Err("damaged".into())`.
pub type SealError = Box<dyn std::error::Error + Send + Sync>;

/// Encrypts what is kept beside records, and decrypts it.
///
/// Use an authenticated cipher with a fresh nonce for each call, and the job's key as associated data, so that what was
/// sealed for one job does not open for another. Both methods may block: they run where the store is written.
///
/// What is kept stays as it was sealed. So a seal that is given a new key must open what the
/// earlier ones sealed, and one that is new may be given bytes that nobody sealed. If it gives them back as they are, the
/// jobs under way go on with them; if it refuses them, they count as not kept.
///
/// In the store, the [`SEAL_MARK`] stands before what an answer was sealed to; `open` is given what follows it. A client
/// without a seal leaves such an answer out, and logs that.
///
/// ```
/// use steadfast_core::Key;
/// use steadfast_driver::{Seal, SealError};
///
/// /// A stand-in for a cipher: real ones are in crates such as `aes-gcm`.
/// struct Reversed;
///
/// impl Seal for Reversed {
///     fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
///         Ok(bytes.iter().chain(b"\x01").rev().copied().collect())
///     }
///
///     fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
///         // A text is an error, and so is any error of a cipher's: `.map_err(SealError::from)`.
///         let [1, rest @ ..] = sealed else { return Err("sealed by another release of this program".into()) };
///         Ok(rest.iter().rev().copied().collect())
///     }
/// }
///
/// let key = Key::new("order-42")?;
/// assert_eq!(Reversed.open(&key, &Reversed.seal(&key, b"secret")?)?, b"secret");
/// assert!(Reversed.open(&key, b"something else").is_err());
/// # Ok::<(), SealError>(())
/// ```
pub trait Seal: Send + Sync + 'static {
    /// What the store is to keep in place of these bytes.
    ///
    /// # Errors
    /// The bytes cannot be sealed: no key is at hand, say. If they are a payload, its job is not taken in, nor is
    /// anything written that was to go into the same commit, and the callers are told
    /// ([`SubmitError::NotDurable`](crate::SubmitError::NotDurable)). If they are an answer, it is not kept, and the
    /// outcome is told all the same.
    fn seal(&self, key: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Gives back the original bytes.
    ///
    /// # Errors
    /// They were not sealed for this job by this seal, or are damaged. A payload that cannot be opened counts as not
    /// kept.
    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

type Choice = dyn Fn(&Key) -> bool + Send + Sync;
type Loader = dyn Fn(&Key) -> Option<Payload> + Send + Sync;

/// What the builder was told to keep. Cloning shares the program's functions.
#[derive(Clone, Default)]
pub(crate) struct Keep {
    pub(crate) payloads: bool,
    pub(crate) answers: bool,
    pub(crate) seal: Option<Arc<dyn Seal>>,
    pub(crate) loader: Option<Arc<Loader>>,
    /// Which jobs a restart goes on with.
    pub(crate) chooses: Option<Arc<Choice>>,
}

/// A job that a restart found, and its payload if it needs one and it is at hand.
pub(crate) struct Taken {
    pub(crate) record: Record,
    pub(crate) payload: Option<Payload>,
    /// The answer of a job that has ended, and whose outcome nobody has.
    pub(crate) answer: Option<KeptAnswer>,
}

impl Keep {
    /// Whether the program's own code takes part in writing, which may take its time.
    pub(crate) const fn may_block(&self) -> bool {
        self.seal.is_some()
    }

    /// Seals what is kept beside the record. An error says that the program's seal failed on a payload: then nothing
    /// may be written, and the callers are told. An answer that cannot be sealed is left out instead, and that is
    /// logged: the job has ended, and otherwise nobody would ever hear of it.
    pub(crate) fn seal(&self, entry: &mut Entry) -> Result<(), SealError> {
        let Some(seal) = &self.seal else { return Ok(()) };
        let key = &entry.record.key;
        let sealed = |bytes: &[u8]| caught(|| seal.seal(key, bytes)).unwrap_or_else(|| Err("the seal panicked".into()));
        if let Some(payload) = &mut entry.payload {
            *payload = sealed(payload)?;
        }
        if let Some(KeptAnswer { status, body }) = entry.answer.take() {
            let kept = sealed(&body).inspect_err(|error| {
                let error = &**error as &dyn std::error::Error;
                tracing::error!(key = %key.label(), error, "a job's answer could not be sealed, and is not kept");
            });
            entry.answer = kept.ok().map(|body| KeptAnswer { status, body: [SEAL_MARK, &body].concat() });
        }
        Ok(())
    }

    /// Opens what was sealed. What cannot be opened is left out, and that is logged.
    pub(crate) fn open(&self, mut entry: Entry) -> Entry {
        let Some(seal) = &self.seal else {
            if entry.answer.take_if(|answer| answer.body.starts_with(SEAL_MARK)).is_some() {
                tracing::error!(
                    key = %entry.record.key.label(),
                    "a job's kept answer is sealed, and this client has no seal: it is left out"
                );
            }
            return entry;
        };
        let key = entry.record.key.clone();
        let open = |what: &str, bytes: Vec<u8>| {
            let opened = caught(|| seal.open(&key, &bytes)).unwrap_or_else(|| Err("the seal panicked".into()));
            opened
                .inspect_err(|error| {
                    let error = &**error as &dyn std::error::Error;
                    tracing::error!(key = %key.label(), error, what, "what was kept beside a job could not be opened");
                })
                .ok()
        };
        entry.payload = entry.payload.and_then(|bytes| open("payload", bytes));
        entry.answer = entry.answer.and_then(|mut answer| {
            let body = answer.body.strip_prefix(SEAL_MARK).map(<[u8]>::to_vec);
            answer.body = open("answer", body.unwrap_or(answer.body))?;
            Some(answer)
        });
        entry
    }

    /// The loaded jobs to go on with, each with its payload if it may need one: from the store, else from the program.
    /// A job that has ended waits in the store for a caller to ask, unless the program's hook takes such outcomes. One
    /// whose kept answer cannot be opened waits all the same, for a start with the right seal: what the hook has taken
    /// is forgotten in time.
    pub(crate) fn take_up(&self, entries: Vec<Entry>, policy: &OperationPolicy, hands_over: bool) -> Vec<Taken> {
        let chosen = |entry: &Entry| self.chooses.as_ref().is_none_or(|chooses| chooses(&entry.record.key));
        let goes_on = |entry: &Entry| !entry.has_ended() || (hands_over && !entry.is_delivered());
        let live = entries.into_iter().filter(goes_on).filter(chosen);
        live.filter_map(|entry| {
            if entry.has_ended() {
                let is_kept = entry.answer.is_some();
                let Entry { record, answer, .. } = self.open(entry);
                return (answer.is_some() == is_kept).then_some(Taken { record, payload: None, answer });
            }
            if !may_create(&entry.record, policy) {
                return Some(Taken { record: entry.record, payload: None, answer: None });
            }
            let Entry { record, payload, .. } = self.open(entry);
            let payload = self.payload(&record, payload);
            Some(Taken { record, payload, answer: None })
        })
        .collect()
    }

    /// An entry that was looked up by its key: opened, and with its payload only if that is the right one.
    pub(crate) fn found(&self, entry: Entry) -> Entry {
        let mut entry = self.open(entry);
        let payload = entry.payload.take().map(Payload::from);
        let payload = payload.filter(|payload| fits(&entry.record, payload, "from the store"));
        entry.payload = payload.map(|payload| payload.bytes().to_vec());
        entry
    }

    fn payload(&self, record: &Record, kept: Option<Vec<u8>>) -> Option<Payload> {
        kept.map(Payload::from).filter(|payload| fits(record, payload, "from the store")).or_else(|| {
            let loader = self.loader.as_ref()?;
            let loaded = caught(|| loader(&record.key)).unwrap_or_else(|| {
                tracing::error!(key = %record.key.label(), "the loader of payloads panicked");
                None
            });
            loaded.filter(|payload| fits(record, payload, "from the loader"))
        })
    }
}

fn fits(record: &Record, payload: &Payload, whence: &str) -> bool {
    let fits = fingerprint(&record.key, payload) == record.fingerprint;
    if !fits {
        tracing::error!(
            key = %record.key.label(),
            "the payload {whence} is not the one that the job was submitted with: it is not sent, and the job waits for the right one"
        );
    }
    fits
}

/// For entries from a backup: a create that had not been sent when the copy was made may have been since. Returns the
/// entries that this changes.
pub(crate) fn doubt(entries: &mut [Entry]) -> Vec<Entry> {
    let doubted = |entry: &mut Entry| {
        let doubted = entry.doubted()?;
        entry.record = doubted.record.clone();
        Some(doubted)
    };
    entries.iter_mut().filter_map(doubted).collect()
}

/// Whether the job may yet have to be created.
const fn may_create(record: &Record, policy: &OperationPolicy) -> bool {
    match record.stage {
        Stage::Planned => true,
        Stage::InFlight | Stage::Unknown => !matches!(policy.safety(), SendSafety::Unsafe),
        _ => false,
    }
}

/// Whether its next step is a create: without a payload it can only wait.
pub(crate) const fn creates_next(record: &Record, policy: &OperationPolicy) -> bool {
    may_create(record, policy)
        && !(matches!(record.stage, Stage::InFlight | Stage::Unknown)
            && matches!(policy.safety(), SendSafety::Lookup { .. }))
}
