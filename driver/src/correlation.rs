//! Which header a request's correlation id goes in.
//!
//! Every request bears one, so that our log, the provider's log and a support ticket can be laid side by side. It must
//! not be mistaken for something else: a header that a connection, an authentication, an idempotency key or a trace is
//! told by is refused here, and one that the provider's own request has already stays as the provider wrote it.

use std::fmt;

use http::HeaderName;

/// The header that a request's [correlation id](crate::CorrelationId) goes in. Default: `X-Request-Id`.
///
/// ```
/// use steadfast_driver::CorrelationHeader;
///
/// let header = CorrelationHeader::new("X-Correlation-Id")?;
/// assert!(CorrelationHeader::new("Authorization").is_err());
/// # Ok::<(), steadfast_driver::CorrelationHeaderError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationHeader(HeaderName);

/// What says something else already. What begins with `proxy-` or `sec-` does too.
const TAKEN: [&str; 24] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "range",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Words in the names of headers that hold a credential or an idempotency key.
const TELLING: [&str; 12] = [
    "apikey",
    "auth",
    "authentication",
    "authorization",
    "cookie",
    "credential",
    "idempotency",
    "key",
    "password",
    "secret",
    "signature",
    "token",
];

impl CorrelationHeader {
    /// A header of this name; capitals make no difference.
    ///
    /// # Errors
    /// See [`CorrelationHeaderError`].
    pub fn new(name: &str) -> Result<Self, CorrelationHeaderError> {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| CorrelationHeaderError::NoName)?;
        let text = header.as_str();
        let tells = text.split(['-', '_']).any(|word| TELLING.contains(&word));
        if TAKEN.contains(&text) || tells || text.starts_with("proxy-") || text.starts_with("sec-") {
            return Err(CorrelationHeaderError::Taken(header));
        }
        Ok(Self(header))
    }

    pub(crate) const fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl Default for CorrelationHeader {
    fn default() -> Self {
        Self(HeaderName::from_static("x-request-id"))
    }
}

/// Why a name cannot be a [`CorrelationHeader`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorrelationHeaderError {
    /// It is no header's name at all.
    NoName,
    /// Something else is told by that header: a connection's affairs, credentials, an idempotency key, a trace.
    Taken(HeaderName),
}

impl std::error::Error for CorrelationHeaderError {}

impl fmt::Display for CorrelationHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str(
                "the correlation header has no valid name: use letters, digits and dashes, as in X-Request-Id",
            ),
            Self::Taken(name) => {
                write!(
                    f,
                    "the correlation id cannot go in {name}, which has another meaning: give it a header of its own, such as X-Request-Id"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_says_already_is_not_written_over() {
        let names = [
            "Authorization",
            "Cookie",
            "Proxy-Authorization",
            "Idempotency-Key",
            "X-Idempotency-Key",
            "x-api-key",
            "X-App-Token",
            "X-Client-Secret",
            "X-Signature",
            "X-Auth",
            "X-Idempotency-Id",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "Host",
            "Content-Length",
            "traceparent",
            "tracestate",
            "Key",
            "Sec-WebSocket-Key",
        ];
        for name in names {
            assert!(matches!(CorrelationHeader::new(name), Err(CorrelationHeaderError::Taken(_))), "{name}");
        }
        for name in ["", "a b", "a:", "a\r\nb", "ü"] {
            assert_eq!(CorrelationHeader::new(name), Err(CorrelationHeaderError::NoName), "{name}");
        }
        for name in ["X-Request-ID", "X-Correlation-Id", "Request-Id", "X-Monkey", "X-Amzn-Trace-Id"] {
            assert!(CorrelationHeader::new(name).is_ok(), "{name}");
        }
        assert_eq!(CorrelationHeader::new("X-Request-Id"), Ok(CorrelationHeader::default()));
    }
}
