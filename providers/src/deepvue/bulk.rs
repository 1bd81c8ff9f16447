//! Deepvue's bulk verifications: one job, many records.
//!
//! By [its API reference](https://docs.deepvue.ai/reference/bulk-verification/upi): `POST /v1/verification/{product}/batch` takes a file
//! (`multipart/form-data`, field `batch_file`) and answers 201 with a `request_id`; `GET
//! /v1/verification/batch-processing-status?request_id=…` answers 200 at all times, and the `data` in its body says how
//! far the batch is.
//!
//! | poll | |
//! | --- | --- |
//! | 200, `data.status` 200 with a `batch_output_file_url`, or *batch processing completed* as `data.message` | ready |
//! | 200, `data.status` 201 or 202, or none, with a `batch_output_file_url` | partial: what is there so far |
//! | 200, the same without one | pending; with `processed_records` and `total_records`, progress |
//! | 200, no `data` | pending |
//! | 200, `data.status` 404 | not found |
//! | 200, `data.status` 400 and above, *failed* in `data.message` | failed |
//! | 200, any other `data.status` | unknown, kept as text: treated as pending |
//! | else | as for a [single verification](super) |
//!
//! Only the completed answer is documented. The others are inferences: the create answers with `code` 201 and "batch
//! processing in progress", so that is read in `data` as well; the page promises that progress can be tracked and names
//! no field for it.
//!
//! **The output file** lies behind a URL of another host, and anyone with the URL can read the results. It is only a
//! part of the result: it is not fetched, logged or sent anywhere here. [`OutputFile::of`] finds it in the result.
//! Deepvue also calls a `webhook_url` for a batch, but documents no signature for it, so no such call is requested.

use core::fmt;
use core::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, PolicyError, Reference, SendSafety};

use super::{Credentials, Plan, SetupError, Shape, check_product, reading};
use crate::secret::key_header;
use crate::{Answer, Ask, BaseUrl, Payload, Provider, RequestError, fingerprint, status};

/// One of Deepvue's products for many records at once. A payload is the file as Deepvue wants it: CSV, with a header
/// line.
///
/// ```
/// use steadfast_core::{Key, Kind};
/// use steadfast_providers::deepvue::{Credentials, Deepvue, DeepvueBulk};
/// use steadfast_providers::{Ask, BaseUrl, Payload, Provider};
///
/// let credentials = Credentials::new("YOUR_ACCESS_TOKEN", "YOUR_CLIENT_SECRET")?;
/// let bulk = DeepvueBulk::new(BaseUrl::parse(Deepvue::PRODUCTION)?, "upi-basic", credentials)?;
///
/// let (key, payload) = (Key::new("batch-7")?, Payload::from("vpa\nsomebody@bank\n"));
/// let create = bulk.request(&Ask::new(Kind::Create, &key, None, &payload))?;
/// assert_eq!(create.uri(), "https://production.deepvue.tech/v1/verification/upi-basic/batch");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeepvueBulk {
    base: BaseUrl,
    product: Box<str>,
    name: Box<str>,
    credentials: Credentials,
    policy: OperationPolicy,
    gate: GatePolicy,
}

impl DeepvueBulk {
    /// Sets up the product of this name: `upi-basic` for `upi-basic/batch`.
    ///
    /// # Errors
    /// A product that is not 1 to 64 letters, digits, `-` and `_` of ASCII.
    pub fn new(base: BaseUrl, product: &str, credentials: Credentials) -> Result<Self, SetupError> {
        check_product(product)?;
        Ok(Self {
            base,
            product: product.into(),
            name: format!("deepvue/bulk/{product}").into(),
            credentials,
            policy: OperationPolicy::default().with_poll(schedule()?).with_safety(SendSafety::Unsafe)?,
            gate: GatePolicy::default(),
        })
    }

    /// Keeps to the rate limits of the account's plan. See [`Deepvue::with_plan`](super::Deepvue::with_plan).
    ///
    /// # Errors
    /// None with the current plans.
    pub fn with_plan(mut self, plan: Plan) -> Result<Self, SetupError> {
        for limit in plan.limits()? {
            self.gate = self.gate.with_rate_limit(limit);
        }
        Ok(self)
    }

    fn create(&self, key: &Key, payload: &Payload) -> Result<Request<Bytes>, RequestError> {
        // Derived from the payload and the key, so that every attempt sends the same bytes.
        let print = fingerprint(key, payload);
        let boundary =
            print.as_bytes().iter().fold(String::from("steadfast-"), |text, byte| format!("{text}{byte:02x}"));
        let holds = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        if holds(payload.bytes(), boundary.as_bytes()) {
            return Err(RequestError::Payload("holds the boundary that is to end it: submit it under another key"));
        }
        let mut body = BytesMut::with_capacity(payload.bytes().len() + 256);
        body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        body.extend_from_slice(b"Content-Disposition: form-data; name=\"batch_file\"; filename=\"batch.csv\"\r\n");
        body.extend_from_slice(b"Content-Type: text/csv\r\n\r\n");
        body.extend_from_slice(payload.bytes());
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let url = self.base.join(&["v1", "verification", &self.product, "batch"], &[])?;
        let mut request = self.credentials.request(Method::POST, url, body.freeze())?;
        let kind = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
        request.headers_mut().insert(CONTENT_TYPE, kind.map_err(|_| RequestError::Unsendable("boundary"))?);
        request.headers_mut().insert("idempotency-key", key_header(key)?);
        Ok(request)
    }

    fn poll(&self, reference: &Reference) -> Result<Request<Bytes>, RequestError> {
        let query = [("request_id", reference.as_str())];
        let url = self.base.join(&["v1", "verification", "batch-processing-status"], &query)?;
        self.credentials.request(Method::GET, url, Bytes::new())
    }
}

/// From 10 s, doubled, capped at 5 minutes, for a day. Our own choice: Deepvue prescribes none, and how long a batch
/// takes depends on its records.
fn schedule() -> Result<PollPolicy, PolicyError> {
    let secs = Duration::from_secs;
    let waits = BackoffPolicy::new(Growth::doubling(secs(10)), secs(300), Jitter::Proportional { percent: 10 })?;
    PollPolicy::new(waits, 400, secs(86_400), RetryPolicy::default())
}

impl Provider for DeepvueBulk {
    fn name(&self) -> &str {
        &self.name
    }

    fn policy(&self) -> OperationPolicy {
        self.policy.clone()
    }

    fn gate(&self) -> GatePolicy {
        self.gate.clone()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        match ask.kind {
            Kind::Create => self.create(ask.key, ask.payload),
            Kind::Poll => self.poll(ask.reference.ok_or(RequestError::NoReference)?),
            other => Err(RequestError::Unsupported(other)),
        }
    }

    fn route(&self, kind: Kind) -> Option<String> {
        let end: &[&str] = match kind {
            Kind::Create => &[&self.product, "batch"],
            Kind::Poll => &["batch-processing-status"],
            _ => return None,
        };
        Some(self.base.join(&[&["v1", "verification"], end].concat(), &[]).ok()?.path().to_owned())
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.kind {
            Kind::Create => reading::of_create(answer, Shape::Reference),
            Kind::Poll => reading::of_batch(answer),
            _ => Err(status::failure(answer)),
        }
    }

    fn is_unauthorized(&self, answer: &Answer<'_>) -> bool {
        reading::is_unauthorized(answer)
    }
}

/// The URL of a batch's results. Anyone with the URL can read them, so its `Debug` shows nothing of it.
///
/// ```
/// use steadfast_providers::deepvue::OutputFile;
///
/// let body = br#"{"code":200,"data":{"status":200,"batch_output_file_url":"https://files.example.com/b.csv?signature=x"}}"#;
/// let file = OutputFile::of(body).unwrap();
/// assert!(file.url().starts_with("https://files.example.com/"));
/// assert!(!format!("{file:?}").contains("signature"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OutputFile(Box<str>);

impl OutputFile {
    /// Finds it in the result of a batch, whole or in part; `None` if there is none.
    #[must_use]
    pub fn of(result: &[u8]) -> Option<Self> {
        reading::output_file(result).map(|url| Self(url.into()))
    }

    /// The URL as Deepvue wrote it. It leads to another host: fetch it without Deepvue's credentials, and only if you
    /// trust that host.
    #[must_use]
    pub const fn url(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OutputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputFile(redacted)")
    }
}
