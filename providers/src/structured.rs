//! Strings as structured fields write them (RFC 9651): in quotes, `"` and `\` escaped, visible ASCII and spaces only.
//!
//! The draft of `Idempotency-Key` demands that its value be written so; Stripe, Persona and others take the bare key. A
//! profile must say which one its provider wants; nothing is guessed.

use http::{HeaderMap, HeaderValue};
use sfv::{Item, ItemSerializer, Parser, StringRef};

use crate::RequestError;

/// Writes the text as a string item: `order-42` as `"order-42"`. No `Debug` shows the value.
///
/// ```
/// use steadfast_providers::structured;
///
/// assert_eq!(structured::string("order-42")?, "\"order-42\"");
/// assert_eq!(structured::string(r#"a"b\c"#)?, r#""a\"b\\c""#);
/// assert!(structured::string("a\r\nb").is_err());
/// # Ok::<(), steadfast_providers::RequestError>(())
/// ```
///
/// # Errors
/// The text has a control character or anything beyond ASCII, which such a string cannot hold.
pub fn string(text: &str) -> Result<HeaderValue, RequestError> {
    let unsendable = RequestError::Unsendable("text of a structured header");
    let text = StringRef::from_str(text).map_err(|_| unsendable)?;
    let written = ItemSerializer::new().bare_item(text).finish();
    let mut value = HeaderValue::try_from(written).map_err(|_| unsendable)?;
    // It may be a job's key, into which people put personal data.
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the string that a header holds as its only item; `None` if the header is missing, malformed, or holds
/// something other than a string. Parameters after it are skipped.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use steadfast_providers::structured;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("idempotency-key", HeaderValue::from_static("\"order-42\""));
/// assert_eq!(structured::read_string(&headers, "idempotency-key").as_deref(), Some("order-42"));
/// headers.insert("idempotency-key", HeaderValue::from_static("order-42"));
/// assert_eq!(structured::read_string(&headers, "idempotency-key"), None);
/// ```
#[must_use]
pub fn read_string(headers: &HeaderMap, name: &str) -> Option<String> {
    let item: Item = Parser::new(&lines(headers, name)).parse().ok()?;
    Some(item.bare_item.as_string()?.as_str().to_owned())
}

/// All lines of a field as one, as RFC 9651, section 4.2, joins them, each trimmed: white space around a line is not
/// part of the field's value, and a structured field allows spaces at its ends, but no tabs.
pub(crate) fn lines(headers: &HeaderMap, name: &str) -> Vec<u8> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| trimmed(line.as_bytes())).collect();
    lines.join(&b", "[..])
}

fn trimmed(mut line: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = line {
        line = rest;
    }
    line
}
