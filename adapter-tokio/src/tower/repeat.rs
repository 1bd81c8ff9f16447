//! Which requests may be sent again, and by which copy.

use http::Request;
use http::header::HeaderName;

/// Says, before a request leaves, whether it may be sent again afterwards, and makes the copy that is sent then.
///
/// Any `Fn(&Request) -> Option<Again<Request>>` implements this; [`IfNotExecuted`] is the default of
/// [`RetryLayer`](super::RetryLayer), [`HttpRequests`] knows HTTP's rules.
///
/// ```
/// use steadfast_tokio::tower::{Again, Repeat};
///
/// #[derive(Clone)]
/// enum Command {
///     Read(u32),
///     Append(String),
///     Stream(u64),
/// }
/// let repeat = |command: &Command| match command {
///     Command::Read(_) => Some(Again::Always(command.clone())),
///     Command::Append(_) => Some(Again::IfNotExecuted(command.clone())), // twice would be wrong
///     Command::Stream(_) => None,                                        // there is only one of it
/// };
/// assert!(repeat.again(&Command::Stream(1)).is_none());
/// ```
pub trait Repeat<Req> {
    /// The copy that may be sent next; `None` if there can be none, so that the request is sent at most once.
    fn again(&self, request: &Req) -> Option<Again<Req>>;
}

/// A copy of a request that is about to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a repeat is safe, or it is not")]
pub enum Again<Req> {
    /// It may be sent whatever became of the first: the request only reads, or the other side honours its idempotency
    /// key.
    Always(Req),
    /// It may be sent only if the first was certainly not executed.
    IfNotExecuted(Req),
}

impl<Req> Again<Req> {
    pub(super) const fn is_always(&self) -> bool {
        matches!(self, Self::Always(_))
    }

    pub(super) fn into_request(self) -> Req {
        match self {
            Self::Always(request) | Self::IfNotExecuted(request) => request,
        }
    }
}

impl<Req, F> Repeat<Req> for F
where
    F: Fn(&Req) -> Option<Again<Req>>,
{
    fn again(&self, request: &Req) -> Option<Again<Req>> {
        self(request)
    }
}

/// Clones any request, and repeats it only if it was certainly not executed.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct IfNotExecuted;

impl<Req: Clone> Repeat<Req> for IfNotExecuted {
    fn again(&self, request: &Req) -> Option<Again<Req>> {
        Some(Again::IfNotExecuted(request.clone()))
    }
}

/// Clones HTTP requests. Those whose method is idempotent (RFC 9110, section 9.2.2) may always be repeated; any other
/// one only if it was certainly not executed, or if it bears a [key](HttpRequests::keyed_by).
///
/// The body must be `Clone`: a `Full<Bytes>` is, a stream is not.
///
/// ```
/// use http::{HeaderName, Request};
/// use steadfast_tokio::tower::{Again, HttpRequests, Repeat};
///
/// let repeat = HttpRequests::new().keyed_by(HeaderName::from_static("idempotency-key"));
/// let keyed = Request::post("/payments").header("idempotency-key", "order-42").body(())?;
/// assert!(matches!(repeat.again(&keyed), Some(Again::Always(_))));
/// let bare = Request::post("/payments").body(())?;
/// assert!(matches!(repeat.again(&bare), Some(Again::IfNotExecuted(_))));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct HttpRequests {
    key: Option<HeaderName>,
}

impl HttpRequests {
    /// Goes by the method alone.
    #[must_use]
    pub const fn new() -> Self {
        Self { key: None }
    }

    /// Also repeats any request that has this header, because the other side runs each value of it once, however often
    /// it comes. Use it only for an API that documents this.
    #[must_use]
    pub fn keyed_by(mut self, header: HeaderName) -> Self {
        self.key = Some(header);
        self
    }
}

impl<B: Clone> Repeat<Request<B>> for HttpRequests {
    fn again(&self, request: &Request<B>) -> Option<Again<Request<B>>> {
        let is_keyed = self.key.as_ref().is_some_and(|key| request.headers().contains_key(key));
        let copy = request.clone();
        Some(if is_keyed || request.method().is_idempotent() {
            Again::Always(copy)
        } else {
            Again::IfNotExecuted(copy)
        })
    }
}
