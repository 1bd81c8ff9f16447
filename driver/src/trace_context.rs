//! Where a request stands in a distributed trace: the headers `traceparent` and `tracestate`, read strictly and written
//! anew.
//!
//! Follows [W3C Trace Context](https://www.w3.org/TR/trace-context/) (level 1, with level 2's random flag and its
//! wider keys). A program passes one with a submit ([`Builder::trace_context`](crate::Builder::trace_context)), and
//! each attempt of the job then leaves with the same trace id, a span id of its own (the last 16 digits of its
//! [correlation id](crate::CorrelationId)) and the same `tracestate`. A value that does not follow the grammar is
//! refused, never mended: a broken id connects nothing.
//!
//! It lives as long as the job does in this process. A restart forgets it, since records hold only what decisions need.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A span in somebody's trace: what a `traceparent` header says.
///
/// ```
/// use steadfast_driver::TraceParent;
///
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert!(parent.is_sampled());
/// assert_eq!(parent.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
/// # Ok::<(), steadfast_driver::TraceError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// The maker of the span records it.
const SAMPLED: u8 = 0b01;

/// The trace id's last seven bytes are random (level 2).
const RANDOM: u8 = 0b10;

/// How long a header of version 00 is; later ones begin with the same.
const LENGTH: usize = 55;

impl TraceParent {
    /// Builds it from the ids' bytes, as OpenTelemetry's `SpanContext` has them. Undefined flags are dropped, as the
    /// standard asks.
    ///
    /// # Errors
    /// An id is all zeros.
    pub const fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Result<Self, TraceError> {
        Self::of(u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id), flags)
    }

    const fn of(trace: u128, span: u64, flags: u8) -> Result<Self, TraceError> {
        if trace == 0 {
            return Err(TraceError::NoTrace);
        }
        if span == 0 {
            return Err(TraceError::NoSpan);
        }
        Ok(Self { trace, span, flags: flags & (SAMPLED | RANDOM) })
    }

    /// The trace's id.
    #[must_use]
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace.to_be_bytes()
    }

    /// The span's id.
    #[must_use]
    pub const fn span_id(&self) -> [u8; 8] {
        self.span.to_be_bytes()
    }

    /// Whether its maker records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Another span of the same trace.
    pub(crate) fn with_span(self, span: u64) -> Self {
        // Zero means no span, so it must not stand for one.
        Self { span: span.max(1), ..self }
    }

    /// The trace's id as a span's field shows it.
    pub(crate) const fn trace(self) -> u128 {
        self.trace
    }
}

/// Reads the header's value. Of a later version, the part that this version knows is read, as the standard asks.
impl FromStr for TraceParent {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let bytes = text.as_bytes();
        let malformed = TraceError::Malformed;
        let fields = bytes.get(..LENGTH).ok_or(malformed)?;
        let [v0, v1, b'-', trace @ .., b'-', f0, f1] = fields else { return Err(malformed) };
        let version = hex(&[*v0, *v1]).ok_or(malformed)?;
        let rest = bytes.get(LENGTH..).unwrap_or_default();
        match (version, rest) {
            (0xff, _) => return Err(TraceError::Version),
            (0, []) | (1.., [] | [b'-', ..]) => {}
            _ => return Err(malformed),
        }
        let (trace, span) = trace.split_at(32);
        let [b'-', span @ ..] = span else { return Err(malformed) };
        let (trace, span) = (hex(trace).ok_or(malformed)?, hex(span).ok_or(malformed)?);
        let flags = hex(&[*f0, *f1]).ok_or(malformed)?;
        Self::of(trace, span as u64, flags as u8)
    }
}

/// As the header has it, always of version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// The number of at most 32 digits. Capital letters are refused: the standard forbids them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// What tracing systems add to a `traceparent`, each under its key: a `tracestate` header. It is passed on as it is.
///
/// Its `Debug` shows only its length: nobody knows what others write into it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceState(Box<str>);

/// The most bytes: what the standard asks everybody to pass on at least. No more are passed on, since it goes with
/// every request.
const MOST_BYTES: usize = 512;

/// The most members, by the standard.
const MOST_MEMBERS: usize = 32;

impl TraceState {
    /// The header's value.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the header's value; of several such headers, their values joined by commas. Empty members and the blanks
/// around members are left out.
impl FromStr for TraceState {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for member in text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty())
        {
            let (key, value) = member.split_once('=').ok_or(TraceError::State)?;
            if !is_key(key) || !is_value(value) || members.iter().any(|(other, _)| *other == key) {
                return Err(TraceError::State);
            }
            if members.len() == MOST_MEMBERS {
                return Err(TraceError::StateTooLarge);
            }
            members.push((key, value));
        }
        let written = members.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        if written.is_empty() {
            return Err(TraceError::State);
        }
        if written.len() > MOST_BYTES {
            return Err(TraceError::StateTooLarge);
        }
        Ok(Self(written.into()))
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceState({} bytes)", self.0.len())
    }
}

fn is_key(key: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let begins = key.as_bytes().first().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    begins && key.len() <= 256 && key.as_bytes().iter().all(inner)
}

fn is_value(value: &str) -> bool {
    let inner = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    (1..=256).contains(&value.len()) && value.as_bytes().iter().all(inner) && !value.ends_with(' ')
}

/// Where a submit stands in a trace, as the program says.
///
/// ```
/// use steadfast_driver::TraceContext;
///
/// let context = TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?)
///     .with_state("congo=t61rcWkgMzE".parse()?);
/// # Ok::<(), steadfast_driver::TraceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    parent: TraceParent,
    state: Option<TraceState>,
}

impl TraceContext {
    /// A context below this span.
    #[must_use]
    pub const fn new(parent: TraceParent) -> Self {
        Self { parent, state: None }
    }

    /// Adds what tracing systems put into `tracestate`.
    #[must_use]
    pub fn with_state(self, state: TraceState) -> Self {
        Self { state: Some(state), ..self }
    }

    /// The span below which the job's requests are.
    #[must_use]
    pub const fn parent(&self) -> TraceParent {
        self.parent
    }

    /// What tracing systems put into `tracestate`.
    #[must_use]
    pub const fn state(&self) -> Option<&TraceState> {
        self.state.as_ref()
    }
}

/// Where submits find their trace context: a program's own function, or none. See
/// [`Builder::trace_context`](crate::Builder::trace_context).
#[derive(Clone, Default)]
pub struct TraceSource(Option<Arc<dyn Fn() -> Option<TraceContext> + Send + Sync>>);

impl TraceSource {
    pub(crate) fn new(current: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(current)))
    }

    /// Where the caller stands in a trace, if anywhere.
    #[must_use]
    pub fn current(&self) -> Option<TraceContext> {
        self.0.as_ref().and_then(|current| current())
    }
}

impl fmt::Debug for TraceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceSource")
    }
}

/// Why something is not a trace context. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The header's form is wrong.
    #[error("the traceparent is malformed: it must be `00`, 32, 16 and 2 lower-case hex digits, joined by `-`")]
    Malformed,
    /// Version ff, which is invalid.
    #[error("the traceparent's version is ff, which the standard forbids: give 00")]
    Version,
    /// A trace id of zeros.
    #[error("the trace id is all zeros, which means no trace: leave it out")]
    NoTrace,
    /// A span id of zeros.
    #[error("the span id is all zeros, which means no span: leave it out")]
    NoSpan,
    /// The `tracestate` is malformed.
    #[error("the tracestate is malformed: it must be `key=value` members, separated by commas, each key once")]
    State,
    /// The `tracestate` is too large.
    #[error("the tracestate is too large: at most {MOST_MEMBERS} members and {MOST_BYTES} bytes go with every request")]
    StateTooLarge,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(trace in 1..u128::MAX, span in 1..u64::MAX, flags: u8) {
            let parent = TraceParent::new(trace.to_be_bytes(), span.to_be_bytes(), flags).unwrap();
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
            prop_assert_eq!(parent.to_string().len(), LENGTH);
        }

        #[test]
        fn one_changed_byte_is_refused_or_means_something_else(at in 0..LENGTH, byte in any::<u8>()) {
            let mut bytes = GIVEN.as_bytes().to_vec();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
            if let Ok(read) = text.parse::<TraceParent>() {
                // Versions and undefined flags are not kept; the ids are.
                let same = read == GIVEN.parse().unwrap();
                prop_assert!(!same || !(2..53).contains(&at), "{}", text);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = text.parse::<TraceParent>();
            if let Ok(state) = text.parse::<TraceState>() {
                prop_assert_eq!(state.as_str().parse(), Ok(state.clone()));
                prop_assert!(http::HeaderValue::from_str(state.as_str()).is_ok());
            }
        }

        #[test]
        fn a_state_is_kept_within_its_bounds(members in proptest::collection::vec(("[a-z][a-z0-9_*/@-]{0,20}", "[!-+.-<>-~]{1,30}"), 1..60)) {
            let text = members.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ,\t");
            if let Ok(state) = text.parse::<TraceState>() {
                prop_assert!(state.as_str().len() <= MOST_BYTES && state.as_str().split(',').count() <= MOST_MEMBERS);
                prop_assert_eq!(state.as_str(), text.replace(" ,\t", ","));
            }
        }
    }

    /// The standard's own examples and prohibitions.
    #[test]
    fn the_standard_decides_what_is_one() {
        let parse = |text: &str| text.parse::<TraceParent>();
        assert!(
            parse(GIVEN)
                .is_ok_and(|parent| parent.is_sampled() && parent.span_id() == 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes())
        );
        assert_eq!(parse(&GIVEN.to_uppercase()), Err(TraceError::Malformed));
        assert_eq!(parse(&GIVEN.replace("00-4", "ff-4")), Err(TraceError::Version));
        assert_eq!(parse(&format!("{GIVEN}-what-comes")), Err(TraceError::Malformed));
        assert_eq!(parse(&GIVEN.replace("00-4", "cc-4")).unwrap().to_string(), GIVEN);
        assert_eq!(parse(&format!("{}-what-comes", GIVEN.replace("00-4", "01-4"))), parse(GIVEN));
        assert_eq!(parse(&format!("{}.what", GIVEN.replace("00-4", "01-4"))), Err(TraceError::Malformed));
        assert_eq!(parse(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))), Err(TraceError::NoTrace));
        assert_eq!(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"), Err(TraceError::NoSpan));
        assert_eq!(parse(&GIVEN.replace("-01", "-ff")).unwrap().to_string(), GIVEN.replace("-01", "-03"));
        assert_eq!(parse(""), Err(TraceError::Malformed));
        assert_eq!(parse(&format!("{GIVEN} ")), Err(TraceError::Malformed));

        let state = |text: &str| text.parse::<TraceState>().map(|state| state.as_str().to_owned());
        assert_eq!(
            state("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE ,,").as_deref(),
            Ok("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
        );
        assert_eq!(state("fw529a3039@dt=FfuRhu"), Ok("fw529a3039@dt=FfuRhu".to_owned()));
        for bad in ["", ",", "a", "A=1", "a=", "=1", "a=1,a=2", "a=b=c", "a=\u{e9}", "a=1\r\nb: 2"] {
            assert_eq!(state(bad), Err(TraceError::State), "{bad}");
        }
        let many = |count: usize| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        assert!(state(&many(MOST_MEMBERS)).is_ok());
        assert_eq!(state(&many(MOST_MEMBERS + 1)), Err(TraceError::StateTooLarge));
        assert_eq!(state(&format!("a={},b={}", "1".repeat(256), "2".repeat(256))), Err(TraceError::StateTooLarge));
    }

    /// Zero would mean that there is none.
    #[test]
    fn a_span_is_never_zero() {
        let parent: TraceParent = GIVEN.parse().unwrap();
        assert!(parent.with_span(0).to_string().parse::<TraceParent>().is_ok());
        assert_eq!(parent.with_span(7).trace_id(), parent.trace_id());
    }
}
