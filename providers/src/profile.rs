//! Providers described in a file, without code.
//!
//! Most asynchronous job APIs have one shape: a request creates a job, others (or a webhook) tell when it is done. What
//! differs between them fits in one file, in TOML, JSON or YAML: where the key goes, where the reference stands, which
//! words mean *done*. [`Profile::parse`] reads such a file in TOML, and [`Profile::read_from`] in any format; a wrong
//! one is refused by line and field. [`Profile::connect`] gives it its secrets and makes it a
//! [`Provider`](crate::Provider). Nothing here does I/O: the text and the environment are arguments.
//!
//! ```
//! use steadfast_core::{Key, Kind};
//! use steadfast_providers::profile::Profile;
//! use steadfast_providers::{Ask, Payload, Provider};
//!
//! let profile = Profile::parse(r#"
//!     name = "acme/scan"
//!     base_url = "https://api.example.com"
//!     headers = { authorization = "Bearer {env.ACME_TOKEN}" }
//!
//!     [policy]
//!     safety = { keyed = { window = "24h" } }
//!
//!     [create]
//!     path = "/v1/scans"
//!     key = { header = "Idempotency-Key" }
//!     reference = { pointer = "/id" }
//!
//!     [poll]
//!     path = "/v1/scans/{reference}"
//!     state = { pointer = "/status", values = { queued = "pending", done = "ready", error = "failed" } }
//! "#)?;
//!
//! let acme = profile.connect(|name| (name == "ACME_TOKEN").then(|| "s3cret".to_owned()))?;
//! let (key, payload) = (Key::new("order-42")?, Payload::from(r#"{"document":"…"}"#));
//! let create = acme.request(&Ask::new(Kind::Create, &key, None, &payload))?;
//! assert_eq!(create.uri(), "https://api.example.com/v1/scans");
//! assert_eq!(create.headers()["idempotency-key"], "order-42");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The top of the file
//!
//! Fields that are not listed here are refused. *Duration* is a text such as `"1m30s"`; *pointer* a JSON Pointer such
//! as `"/data/status"`; *pointers* one of them, or a list in the order in which they count.
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `name` | text | needed | for logs and journals: `"didit/session"`; 1 to 64 letters, digits, `-`, `_`, `.` and `/` |
//! | `base_url` | text | needed | `https://…`, or `http://` of the local machine; [`Profile::connect_at`] replaces it |
//! | `headers` | table | none | of every request: name = [template](#templates) |
//! | `allow_origins` | list | none | other origins to which a status URL may lead: `["https://status.example.com"]` |
//! | `status_in_body` | pointer | none | an HTTP status in the body of a 2xx, which wins over it: Deepvue's `code` |
//! | `retry_after` | flag | `true` | whether `Retry-After` is believed |
//! | `rate_limit_reset` | word | `"guess"` | what `X-RateLimit-Reset` counts: `"delta-seconds"`, `"epoch-seconds"`, `"epoch-millis"`; `"ignored"`: no rate-limit header is believed |
//! | `stored_failures` | flag | `true` | whether the provider may store a failure for a key and replay it; if so, identical failures end the repeats |
//! | `wait_for_reset` | flag | `false` | a throttled answer without `Retry-After` waits until the window ends |
//! | `policy` | table | the core's | [`OperationPolicy`] as the core reads it: `safety`, `create`, `lookup`, `poll`, `persist` |
//! | `gate` | table | the core's | [`GatePolicy`] as the core reads it: `breaker`, `when_open`, `budget`, `bulkhead`, … |
//! | `limits` | list | none | the provider's rate limits, all of which hold: `count`, `per` (duration), `burst` (1), `kinds` (all: `["create", "lookup", "poll"]`) |
//! | `create` | table | needed | see below |
//! | `lookup` | table | none | asks for the job of a key |
//! | `poll` | table | none | asks how far a job is |
//! | `webhook` | table | none | see below |
//!
//! `policy.safety` is `"unsafe"` (the default: nothing ambiguous is sent again), `"idempotent"`, `{ keyed = { window =
//! "24h" } }` or `{ lookup = { settle = "60s" } }`.
//! `policy.create` and `policy.lookup` are `{ attempts, deadline, attempt_timeout, backoff, retry_after, identical }`,
//! `policy.poll` is `{ schedule, polls, deadline, retry, not_found_grace, accept_partial }`, and a backoff or schedule
//! is `{ growth = { exponential = { first = "3s", factor = 2 } }, cap = "30s", jitter = "none" }`. What is left out of
//! these is the core's default.
//!
//! # Requests: `[create]`, `[lookup]`, `[poll]`
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `method` | word | `"POST"` for a create, else `"GET"` | also `"PUT"`, `"PATCH"` |
//! | `path` | template | needed | under the base URL: `"/v1/jobs/{reference}"`. What is filled in is percent-encoded, what stands there is not |
//! | `url` | text | none | `"{reference}"`, in `[poll]` and in the place of `path`: the reference is the URL |
//! | `query` | table | none | name = template, in this order |
//! | `headers` | table | none | name = template; beside those of every request, or in the place of one |
//! | `body` | text, table | `"{payload}"` for a create that is no GET, else none | `"{payload}"`: the payload byte for byte; a table: JSON, whose texts are templates; `""`: none |
//! | `rules` | list | none | [rules](#rules) |
//!
//! A request with a body is `application/json`, unless a header says otherwise. Of `[create]` also:
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `key` | table | none | where the idempotency key goes: `{ header = "Idempotency-Key" }`, with `quoted = true` as a structured field's string; `{ body = "/vendor_data" }`, into the payload's object; or `{ query = "key" }` |
//! | `reference` | table | none | where the reference stands in the answer: `{ pointer = "/id" }` (or a list, the first that is there counts) or `{ header = "Operation-Location" }`. `number = true`: a whole number is accepted too, here, in lists and in webhooks; `id = true`: only letters, digits, `-` and `_`, at most 128, are accepted |
//! | `echo` | pointer | none | where the answer repeats the key: an answer with another key there is unusable |
//!
//! Of `[lookup]` also `reference` (default: that of `[create]`) and `echo`, or `list` where the answer is a list of
//! jobs:
//!
//! | `lookup.list` | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `pointer` | pointer | needed | where the list is; `""` if the answer is itself the list. An empty list: no such job |
//! | `reference`, `key` | pointer | needed | where each job has its reference and its key. One job without the key makes the whole list unusable |
//! | `newest` | pointer | none | a number in each job: of several jobs the one with the greatest is adopted; without this field, none is |
//! | `alike` | pointers | none | texts that must be the same in all jobs of the list |
//! | `more`, `count` | pointer | none | an empty list with a next page, or with a count, is not believed; nor is one that comes with another status than 200 |
//!
//! Of `[poll]` also:
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `state` | table | a 202 is pending, another 2xx ready | the job's [state](#states) |
//! | `result` | pointers | the whole body | where a final answer has its result ([`Profile::result`]) |
//! | `echo` | pointer | none | where the answer repeats the reference: an answer with another one there is unusable, so no answer about another job ends this one |
//!
//! # Templates
//!
//! `{key}`; `{reference}`, in polls; `{+reference}`, in their paths: keeps the slashes of a reference such as
//! `projects/7/operations/42`, and refuses an empty, `.` or `..` segment; `{payload./a/b}`, a text or whole number of a
//! JSON payload, in creates; `{env.NAME}`, a secret, by the name of its environment variable: capitals, digits and `_`.
//! A secret itself has no place in a profile, and a literal `Authorization` is refused. In a path or a query a secret
//! is part of the URL, which logs may show. `{{` and `}}` are braces.
//!
//! # Rules
//!
//! `[[create.rules]]`, `[[lookup.rules]]`, `[[poll.rules]]`: when an answer looks like this, it means that. The first
//! rule that fits counts, in the order of the file; but rules on status and headers alone are tried before those that
//! look into the body. A rule is refused if it can never decide, because another one, tried before it, fits all of its
//! statuses by status alone.
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `when.status` | status or list | `"2xx"` | `404`, `"4xx"`, `[502, 503]`, `"any"` |
//! | `when.header` | condition or list | none | `{ name = "x-error", equals = "busy" }`; `equals`, `contains` or `present` |
//! | `when.body` | condition or list | none | `{ pointer = "/code", equals = [6700, 6701] }`; `equals`, `contains`, `present` (there and not `null`) or `empty`. `contains` without a pointer looks at the whole body as text |
//! | `is` | word | needed, or `state` | what the answer means, in the words below |
//! | `certainty` | word | by the status | of a create that failed: `"not-executed"`, `"may-have-executed"`, `"executed"` |
//! | `state` | table | | a [state](#states) instead of `is`; what is missing there, or means `"next"`, leaves the answer to the next rule |
//!
//! Everything in `when` must hold. `equals` and `contains` may be lists, of which one match is enough. `loose = true`
//! in a condition ignores the case of ASCII letters, control characters, and white space around. `empty` matches
//! nothing, `null`, `false`, `0`, `""`, `[]`, `{}`, and an object that has no members but those named in `aside =
//! ["status"]`.
//!
//! | word | of | means |
//! | --- | --- | --- |
//! | `accepted` | create, look-up | there is a job; `reference` says where its reference is |
//! | `ready`, `undecided`, `failed` | create, poll | the job is done; ended without a decision; ran and failed |
//! | `pending`, `awaiting-user`, `awaiting-review`, `partial` | poll | not done yet |
//! | `not-found` | look-up, poll | there is no such job. Of a look-up this is proof that nothing ran: only a 2xx, 404 or 410 can say it |
//! | `transient`, `throttled`, `permanent`, `unauthorized` | all | no usable answer: a retry is likely to help; too many requests; a retry never helps; invalid or expired credentials |
//!
//! The values of a state may also be `next`, in a rule (the next rule decides), and `unknown`, in a poll.
//!
//! Where no rule fits: an answer that is not a 2xx, a 404 included, means what [`status`](crate::status) says; a 2xx
//! must have the reference or the state, or it is unusable, and a create that got an unusable answer may have run. What
//! decides is read strictly: a member on the pointer's way that is there twice, an id that is not text, or anything
//! after the object's end makes a 2xx unusable.
//!
//! # States
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `pointer` | pointer | needed | where the status text is |
//! | `values` | table | needed | text = word. Texts are exact |
//! | `loose` | flag | `false` | ignores the case of ASCII letters, control characters, and white space around |
//! | `number` | flag | `false` | whole numbers and truth values are matched by their text: `values = { "9001" = "ready" }` |
//! | `missing` | word | the answer is unusable (in a rule: `"next"`) | where there is no text |
//! | `unknown` | word | `"unknown"`; of a create or look-up `"next"` | a text that is none of the values: kept as text, and treated as pending |
//!
//! # Webhooks: `[webhook]`
//!
//! | field | type | default | what it says |
//! | --- | --- | --- | --- |
//! | `scheme` | word or table | needed | `"standard-webhooks"`, `"stripe"`, `"didit"`; `{ timed = { header = "Mux-Signature" } }`: `t=…,v1=…` as Stripe's; or `{ hmac = { header = "X-SHA2-Signature", encoding = "hex", prefix = "" } }` (`"base64"`); or `{ token = { header = "X-Webhook-Token" } }`: [no signature](#a-token-and-no-signature) |
//! | `secrets` | list | needed | environment variables, the newest secret's first: `["ACME_WEBHOOK_SECRET", "ACME_WEBHOOK_SECRET_OLD"]`; a token has 16 to 1024 characters |
//! | `tolerance` | duration | `"300s"` | how far the time of signing may be from ours; none for `hmac` and `token`, which sign no time |
//! | `reference`, `key` | pointers | none; at least one of the two is needed | where in the body the job is named. Of several pointers the first that is there counts |
//! | `event_id` | pointer | none | where the event's id is, if the scheme has none |
//! | `status`, `at` | pointer | none | the job's status in the provider's word (a number where `poll.state` has `number`), and since when (seconds since 1970, or an RFC 3339 text such as `"2024-03-11T21:30:07.5Z"`): for webhooks that come after the job's end |
//! | `believe` | flag | `false` | whether the state in the body counts; if not, a delivery only makes the next poll due now |
//! | `state` | table | none | the [state](#states), for `believe` |
//! | `result` | pointer | the whole body | with `believe`: the result that a poll would have brought |
//!
//! ## A token and no signature
//!
//! Some senders sign nothing. They repeat, in a header that the customer may choose, a secret that the customer gave
//! them: AssemblyAI, GitLab. `scheme = { token = { header = "…" } }` accepts a delivery that has exactly one such
//! header, with exactly one of the tokens in it; they are compared in constant time.
//!
//! A token shows who sent a delivery, and neither what was sent nor when. Whoever sees one delivery, such as a proxy
//! that logs headers, can send others. So a delivery under a token is a hint: it makes the next poll of a known job due
//! now, and it never ends a job, gives a result, reports a later decision or teaches a reference. A file that wants
//! more is refused: beside `token` there are `secrets`, and `reference` or `key`, one of the two.
//!
//! # The reverse direction
//!
//! For fakes and tests a profile also works the other way round: [`Profile::say`] makes an answer that the profile
//! reads with a given meaning, and [`Profile::recognise`] tells what a request asks for. The testkit's `FakeProfile` is
//! a whole provider made of the two.
//!
//! # What no file can say
//!
//! TLS cannot be switched off, redirects are not followed, and no secret can stand in a file. Requests that must be
//! signed (AWS, Sumsub, Veriff) need a client or proxy that signs them. A result behind another URL than the polled one
//! is not fetched: the answer that names that URL is the job's result.
//!
//! A job is named by one reference, which logs and journals show. If its polls need a second value of the create's
//! answer, and that value is a secret, the two cannot be one reference: DeepL's document translation, whose polls need
//! the `document_key` that encrypts the document, takes an implementation of [`Provider`](crate::Provider).

mod check;
mod describe;
mod error;
mod file;
mod hook;
mod lookup;
mod meaning;
mod parse;
mod pointer;
mod policy;
mod provider;
mod raw;
mod read;
mod recognise;
mod request;
mod rule;
mod say;
mod template;
mod url;
mod wait;

use bytes::Bytes;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{Kind, OperationPolicy};

pub use self::check::{Checked, Recorded, RecordedError, words};
pub use self::error::{ConnectError, ProfileError};
use self::file::Table;
use self::hook::Hook;
use self::pointer::Pointer;
pub use self::provider::ProfileProvider;
use self::read::{Around, Read, ReferenceAt};
pub use self::recognise::{Recognised, Unrecognised};
use self::request::Sent;
pub use self::say::Saying;
use self::url::Origins;
use self::wait::Waits;
use crate::document::{Document, Format};
use crate::{Answer, BaseUrl};

/// The profiles that come with this crate: name and text. Each is a file in its `profiles` folder, meant to be copied
/// and changed.
pub const SHIPPED: &[(&str, &str)] = &[
    ("assemblyai", include_str!("../profiles/assemblyai.toml")),
    ("azure-lro", include_str!("../profiles/azure-lro.toml")),
    ("deepvue", include_str!("../profiles/deepvue.toml")),
    ("didit", include_str!("../profiles/didit.toml")),
    ("google-lro", include_str!("../profiles/google-lro.toml")),
    ("onfido", include_str!("../profiles/onfido.toml")),
    ("persona", include_str!("../profiles/persona.toml")),
    ("replicate", include_str!("../profiles/replicate.toml")),
    ("stripe-identity", include_str!("../profiles/stripe-identity.toml")),
    ("sumsub", include_str!("../profiles/sumsub.toml")),
    ("textract", include_str!("../profiles/textract.toml")),
    ("veriff", include_str!("../profiles/veriff.toml")),
];

const RECORDED: &[(&str, &str)] = &[
    ("assemblyai", include_str!("../profiles/recorded/assemblyai.json")),
    ("azure-lro", include_str!("../profiles/recorded/azure-lro.json")),
    ("deepvue", include_str!("../profiles/recorded/deepvue.json")),
    ("didit", include_str!("../profiles/recorded/didit.json")),
    ("google-lro", include_str!("../profiles/recorded/google-lro.json")),
    ("onfido", include_str!("../profiles/recorded/onfido.json")),
    ("persona", include_str!("../profiles/recorded/persona.json")),
    ("replicate", include_str!("../profiles/recorded/replicate.json")),
    ("stripe-identity", include_str!("../profiles/recorded/stripe-identity.json")),
    ("sumsub", include_str!("../profiles/recorded/sumsub.json")),
    ("textract", include_str!("../profiles/recorded/textract.json")),
    ("veriff", include_str!("../profiles/recorded/veriff.json")),
];

/// The text of the shipped profile of this name.
///
/// ```
/// use steadfast_providers::profile;
///
/// assert!(profile::shipped("didit").unwrap().contains("vendor_data"));
/// assert_eq!(profile::shipped("acme"), None);
/// ```
#[must_use]
pub fn shipped(name: &str) -> Option<&'static str> {
    named(SHIPPED, name)
}

/// Sample answers for the shipped profile of this name, to be read with [`Recorded::parse`]: taken from the provider's
/// documentation, each with the meaning that the profile should find in it.
///
/// ```
/// use steadfast_providers::profile::{self, Profile, Recorded};
///
/// let profile = Profile::parse(profile::shipped("veriff").unwrap_or_default())?;
/// let answers = Recorded::parse(profile::recorded("veriff").unwrap_or_default())?;
/// assert!(profile.check(&answers).iter().all(|checked| checked.agrees()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn recorded(name: &str) -> Option<&'static str> {
    named(RECORDED, name)
}

fn named(files: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    files.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A provider as a file describes it. See the [module](self).
#[derive(Clone, Debug)]
pub struct Profile {
    name: Box<str>,
    base: BaseUrl,
    origins: Origins,
    waits: Waits,
    stores_failures: bool,
    policy: OperationPolicy,
    gate: GatePolicy,
    create: Call,
    lookup: Option<Call>,
    poll: Option<Call>,
    result: Vec<Pointer>,
    hook: Option<Hook>,
}

/// One kind of request, and how its answers are read.
#[derive(Clone, Debug)]
struct Call {
    sent: Sent,
    read: Read,
}

impl Profile {
    /// The longest profile that is read: 256 KiB.
    pub const MAX_LEN: usize = Document::MAX_LEN;

    /// Reads a profile in TOML.
    ///
    /// # Errors
    /// The first thing that is wrong with it, by line and field, and what would be right.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        Self::read_from(&Document::parse(text, Format::Toml)?)
    }

    /// Reads a profile in any [format](Format).
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    ///
    /// ```
    /// use steadfast_providers::document::{Document, Format};
    /// use steadfast_providers::profile::Profile;
    ///
    /// let json = r#"{
    ///     "name": "acme/scan",
    ///     "base_url": "https://api.example.com",
    ///     "create": { "path": "/v1/scans", "reference": { "pointer": "/id" } },
    ///     "poll": { "path": "/v1/scans/{reference}" }
    /// }"#;
    /// assert_eq!(Profile::read_from(&Document::parse(json, Format::Json)?)?.name(), "acme/scan");
    /// # Ok::<(), steadfast_providers::document::DocumentError>(())
    /// ```
    pub fn read_from(document: &Document) -> Result<Self, ProfileError> {
        parse::profile(&Table::root(document))
    }

    /// Whether this document is meant to be a profile: it has `name`, `base_url` or `create` at the top.
    #[must_use]
    pub fn is_meant_by(document: &Document) -> bool {
        ["name", "base_url", "create"].iter().any(|field| document.has(field))
    }

    /// The provider's name, as logs and journals show it.
    #[must_use]
    pub const fn name(&self) -> &str {
        &self.name
    }

    /// Where the provider is, unless [`connect_at`](Self::connect_at) says otherwise.
    #[must_use]
    pub const fn base_url(&self) -> &BaseUrl {
        &self.base
    }

    /// The gate that the file sets, with the provider's rate limits.
    #[must_use]
    pub const fn gate(&self) -> &GatePolicy {
        &self.gate
    }

    /// The policy that the file sets.
    #[must_use]
    pub const fn policy(&self) -> &OperationPolicy {
        &self.policy
    }

    /// Whether the file says how webhooks are verified. The connected provider
    /// [takes them](crate::Provider::has_webhooks) if it has one of their secrets.
    #[must_use]
    pub const fn describes_webhooks(&self) -> bool {
        self.hook.is_some()
    }

    /// The environment variables whose secrets requests need, each with the field that names it, and those for webhooks
    /// (`webhook.secrets`), of which one is enough.
    #[must_use]
    pub fn secrets(&self) -> Vec<(String, &str)> {
        let hooks = self.hook.iter().flat_map(|hook| &hook.secrets);
        let mut all: Vec<(String, &str)> = self.variables().collect();
        all.extend(hooks.map(|variable| ("webhook.secrets".to_owned(), &**variable)));
        all
    }

    /// What an answer means, as the connected provider would read it.
    ///
    /// # Errors
    /// The answer is not usable.
    pub fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        self.read_at(answer, &self.base)
    }

    /// The result in a final answer, byte for byte: the part that `poll.result` names, or the whole.
    #[must_use]
    pub fn result(&self, body: &Bytes) -> Bytes {
        let text = core::str::from_utf8(body).unwrap_or_default();
        let parts = self.result.iter().filter_map(|pointer| raw::part(text, pointer));
        parts
            .into_iter()
            .find(|part| *part != "null")
            .map_or_else(|| body.clone(), |part| Bytes::copy_from_slice(part.as_bytes()))
    }

    fn read_at(&self, answer: &Answer<'_>, base: &BaseUrl) -> Result<Reading, Failure> {
        match self.call(answer.kind) {
            Some(call) => call.read.read(answer, self.around(base)),
            None => Err(self.waits.failure(answer)),
        }
    }

    const fn call(&self, kind: Kind) -> Option<&Call> {
        match kind {
            Kind::Create => Some(&self.create),
            Kind::Lookup => self.lookup.as_ref(),
            Kind::Poll => self.poll.as_ref(),
            _ => None,
        }
    }

    const fn around<'a>(&'a self, base: &'a BaseUrl) -> Around<'a> {
        Around { base, origins: &self.origins, waits: &self.waits }
    }

    /// How a reference is checked.
    const fn reference(&self) -> Option<&ReferenceAt> {
        self.create.read.reference.as_ref()
    }

    /// The environment variables that requests need, each once, with a field that names it.
    fn variables(&self) -> impl Iterator<Item = (String, &str)> {
        let calls = [("create", Some(&self.create)), ("lookup", self.lookup.as_ref()), ("poll", self.poll.as_ref())];
        let mut all: Vec<(String, &str)> = Vec::new();
        for (name, call) in calls {
            for (field, template) in call.map(|call| call.sent.templates()).unwrap_or_default() {
                for variable in template.secrets() {
                    if !all.iter().any(|(_, known)| *known == variable) {
                        all.push((format!("{name}.{field}"), variable));
                    }
                }
            }
        }
        all.into_iter()
    }
}
