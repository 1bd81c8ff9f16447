//! A provider's base URL: an origin that no later input can change.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::RequestError;

/// All but RFC 3986's unreserved characters: a value must not bring characters that mean something in a URL.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a path's text cannot hold as it is: all but RFC 3986's `pchar`.
const NO_PATH: &AsciiSet = &RESERVED
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The origin of a provider's API, and perhaps the path under which it lives: `https://production.deepvue.tech`.
///
/// Requests carry credentials and personal data, so the scheme must be `https`. Plain `http` is accepted only for the
/// local machine (`localhost`, `127.0.0.0/8`, `[::1]`), where the fake providers of tests run.
///
/// ```
/// use steadfast_providers::BaseUrl;
///
/// let base = BaseUrl::parse("https://api.example.com/kyc/")?;
/// assert_eq!(base.to_string(), "https://api.example.com/kyc");
/// assert!(BaseUrl::parse("http://api.example.com").is_err());
/// assert!(BaseUrl::parse("http://127.0.0.1:8080").is_ok());
/// # Ok::<(), steadfast_providers::BaseUrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Empty, or begins with a slash and does not end with one.
    prefix: Box<str>,
}

impl BaseUrl {
    /// Parses and checks a base URL. A trailing slash makes no difference.
    ///
    /// # Errors
    /// Anything but `https://host`, an optional port, and a plain path. Each error says what to write instead and
    /// repeats nothing of the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        if let Some(at) = text.bytes().position(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
            return Err(BaseUrlError::Character { at });
        }
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::NoScheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::HTTPS,
            "http" => Scheme::HTTP,
            _ => return Err(BaseUrlError::OtherScheme),
        };
        if rest.contains('#') {
            return Err(BaseUrlError::Fragment);
        }
        if rest.contains('?') {
            return Err(BaseUrlError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = parse_authority(authority)?;
        if scheme == Scheme::HTTP && !is_loopback(authority.host()) {
            return Err(BaseUrlError::Insecure);
        }
        Ok(Self { scheme, authority, prefix: parse_prefix(path)?.into() })
    }

    /// Builds the URL of `segments` under this base, with `query`: `base/a/b?name=value`.
    ///
    /// Segments, names and values are plain text, not URL syntax: every reserved character is percent-encoded, so a
    /// provider's reference such as `../x?y#z` changes neither origin nor path nor the other parameters. An empty
    /// *last* segment ends the path with a slash.
    ///
    /// ```
    /// use steadfast_providers::BaseUrl;
    ///
    /// let base = BaseUrl::parse("https://api.example.com")?;
    /// let url = base.join(&["v1", "jobs"], &[("id", "../x?y#z")])?;
    /// assert_eq!(url.to_string(), "https://api.example.com/v1/jobs?id=..%2Fx%3Fy%23z");
    /// assert!(base.join(&["v1", "..", "admin"], &[]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A segment that is `.` or `..` (clients resolve these, even when encoded), an empty one before the last, or a URL
    /// above 64 KiB.
    pub fn join(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Uri, RequestError> {
        let parts = segments.iter().map(|segment| [("", *segment)]);
        self.join_parts(parts, query)
    }

    /// Like [`join`](Self::join), but each segment is a list of (text, value) pairs: the text stands in the URL as far
    /// as it can unchanged, and the value is encoded whole.
    pub(crate) fn join_parts<'t, S: AsRef<[(&'t str, &'t str)]>>(
        &self,
        segments: impl ExactSizeIterator<Item = S>,
        query: &[(&str, &str)],
    ) -> Result<Uri, RequestError> {
        let mut path = String::from(&*self.prefix);
        let last = segments.len().saturating_sub(1);
        for (index, parts) in segments.enumerate() {
            let whole: String = parts.as_ref().iter().flat_map(|(text, value)| [*text, *value]).collect();
            let ends_with_slash = whole.is_empty() && index == last;
            if !is_plain(&whole) && !ends_with_slash {
                return Err(RequestError::Unsendable("path"));
            }
            path.push('/');
            for (text, value) in parts.as_ref() {
                path.extend(utf8_percent_encode(text, NO_PATH));
                path.extend(utf8_percent_encode(value, RESERVED));
            }
        }
        for (index, (name, value)) in query.iter().enumerate() {
            path.push(if index == 0 { '?' } else { '&' });
            path.extend(utf8_percent_encode(name, RESERVED));
            path.push('=');
            path.extend(utf8_percent_encode(value, RESERVED));
        }
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|_| RequestError::Unsendable("URL"))
    }

    /// The path under which the API lives: empty, or begins with a slash and does not end with one.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the base is an origin alone, without a path.
    pub(crate) fn is_origin(&self) -> bool {
        self.prefix.is_empty()
    }

    /// Whether this URL is of the same origin: scheme, host and port.
    pub(crate) fn is_origin_of(&self, url: &Uri) -> bool {
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else { return false };
        let usual = if self.scheme == Scheme::HTTPS { 443 } else { 80 };
        let port = |authority: &Authority| {
            if authority.as_str() == authority.host() { Some(usual) } else { authority.port_u16() }
        };
        *scheme == self.scheme
            && authority.host().eq_ignore_ascii_case(self.authority.host())
            && port(authority) == port(&self.authority)
    }

    /// The URL of this path and query at the same origin, unchanged: not under the base's own path.
    pub(crate) fn at_origin(&self, path_and_query: &str) -> Option<Uri> {
        let builder = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        builder.path_and_query(path_and_query).build().ok()
    }
}

fn parse_authority(text: &str) -> Result<Authority, BaseUrlError> {
    if text.contains('@') {
        return Err(BaseUrlError::UserInfo);
    }
    if text.is_empty() || text.starts_with(':') {
        return Err(BaseUrlError::NoHost);
    }
    let authority = Authority::try_from(text).map_err(|_| BaseUrlError::Host)?;
    let host = authority.host();
    if host.starts_with('[') && ipv6(host).is_none() {
        return Err(BaseUrlError::Host);
    }
    let port = text.strip_prefix(host).ok_or(BaseUrlError::Host)?;
    let usable =
        port.is_empty() || authority.port_u16().is_some_and(|number| port == format!(":{number}") && number != 0);
    if usable { Ok(authority) } else { Err(BaseUrlError::Port) }
}

/// The path without a slash at its end.
fn parse_prefix(path: &str) -> Result<&str, BaseUrlError> {
    let prefix = path.strip_suffix('/').unwrap_or(path);
    // A path's text is already URL syntax, so a dot may be percent-encoded.
    let plain = prefix.split('/').skip(1).all(|segment| is_plain(&segment.to_ascii_lowercase().replace("%2e", ".")));
    if plain && (prefix.is_empty() || PathAndQuery::try_from(prefix).is_ok()) {
        Ok(prefix)
    } else {
        Err(BaseUrlError::Path)
    }
}

/// Whether a path segment names one thing: clients resolve dots and may drop empty segments.
fn is_plain(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
}

/// Whether requests may be sent to this URL: by `https`, or by plain `http` to the local machine (`localhost`,
/// `127.0.0.0/8`, `[::1]`).
///
/// Every URL that a [`BaseUrl`] builds passes. A transport checks again, since requests carry credentials and a
/// [`Provider`](crate::Provider) may come from anybody.
///
/// ```
/// use http::Uri;
/// use steadfast_providers::is_secure;
///
/// assert!(is_secure(&Uri::from_static("https://api.example.com/jobs")));
/// assert!(is_secure(&Uri::from_static("http://127.0.0.1:8080/jobs")));
/// assert!(!is_secure(&Uri::from_static("http://api.example.com/jobs")));
/// ```
#[must_use]
pub fn is_secure(url: &Uri) -> bool {
    match (url.scheme_str(), url.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => is_loopback(host),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || ipv6(host).is_some_and(|ip| ip.is_loopback())
}

fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        Self::parse(text)
    }
}

/// Why a text cannot be a [`BaseUrl`]. It never repeats the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseUrlError {
    /// A character that a URL does not hold as it is, or a backslash, which some clients take for a slash.
    #[error(
        "the base URL holds a space, a control character, a backslash or a non-ASCII character at byte {at}: \
         remove it, or write an international name in its ASCII form (xn--…)"
    )]
    Character {
        /// Its position, in bytes from the start.
        at: usize,
    },
    /// No `https://` in front.
    #[error("the base URL has no scheme: begin it with https://")]
    NoScheme,
    /// Neither `https` nor `http`.
    #[error("the base URL's scheme is not one of HTTP: begin it with https://")]
    OtherScheme,
    /// `http` to another machine.
    #[error(
        "the base URL is http:// to another machine, which would show credentials to the network: begin it with https://"
    )]
    Insecure,
    /// Credentials in the URL.
    #[error(
        "the base URL holds a user name or password before an '@': remove them, credentials have a place of their own"
    )]
    UserInfo,
    /// Nothing between scheme and path.
    #[error("the base URL names no host: write https:// and the provider's host name")]
    NoHost,
    /// A host that is neither a name nor an address.
    #[error("the base URL's host is neither a host name nor an IP address: write one, an IPv6 address in brackets")]
    Host,
    /// A port that is not a valid port number.
    #[error("the base URL's port is not a number from 1 to 65535: correct it, or leave it out together with its colon")]
    Port,
    /// A path that clients read differently.
    #[error(
        "the base URL's path holds an empty, '.' or '..' segment, or a character that paths cannot hold: write it plainly"
    )]
    Path,
    /// A query.
    #[error("the base URL holds a query: remove the '?' and what follows, parameters are added to each request")]
    Query,
    /// A fragment.
    #[error("the base URL holds a fragment: remove the '#' and what follows, it is never sent")]
    Fragment,
}
