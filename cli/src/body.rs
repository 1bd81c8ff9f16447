//! Prints an answer's body: every byte and every digit as they came, since somebody has paid for them.

use std::borrow::Cow;
use std::str::from_utf8;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::ops::plain;

/// The body within a JSON object. A body that is not text goes into the other of the two fields, as base64.
#[derive(Debug, Serialize)]
pub(crate) struct Body {
    /// JSON unchanged, but on one line; other text as a string.
    pub(crate) body: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
}

impl Body {
    pub(crate) const NONE: Self = Self { body: None, base64: None };

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let Ok(text) = from_utf8(bytes) else { return Self { base64: Some(STANDARD.encode(bytes)), ..Self::NONE } };
        // Not parsed and written again, which would change long numbers. A text in JSON holds no raw line break, so
        // these are only layout.
        let json = RawValue::from_string(text.replace(['\r', '\n'], " "));
        Self { body: json.or_else(|_| to_raw_value(text)).ok(), ..Self::NONE }
    }
}

/// The body on its own: unchanged, with a line break added after text. On a terminal, control characters are shown
/// instead of obeyed.
pub(crate) fn printed(bytes: &[u8], is_terminal: bool) -> Cow<'_, [u8]> {
    if is_terminal {
        let text = String::from_utf8_lossy(bytes);
        return text.lines().flat_map(|line| [plain(line), "\n".into()]).collect::<String>().into_bytes().into();
    }
    match from_utf8(bytes) {
        Ok(_) => [bytes, b"\n"].concat().into(),
        Err(_) => bytes.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_is_spared_commands() {
        let body = b"a\x1b[2J\r\nb\xe9";
        assert_eq!(&*printed(body, false), body);
        assert_eq!(&*printed(b"{}", false), b"{}\n");
        assert_eq!(String::from_utf8_lossy(&printed(body, true)), "a\\u{1b}[2J\nb\u{fffd}\n");
    }

    #[test]
    fn what_is_no_json_is_a_text_and_what_is_no_text_is_bytes() {
        let object = |bytes: &[u8]| serde_json::to_string(&Body::of(bytes)).unwrap();
        assert_eq!(object(b" {\"a\":\n 1e400}\r\n"), r#"{"body":{"a":  1e400}}"#);
        assert_eq!(object(b"<p>\n"), r#"{"body":"<p>\n"}"#);
        assert_eq!(object(b""), r#"{"body":""}"#);
        assert_eq!(object(b"{\"a\":"), r#"{"body":"{\"a\":"}"#);
        assert_eq!(object(b"\xff\xfe\x07"), r#"{"body":null,"base64":"//4H"}"#);
        assert_eq!(serde_json::to_string(&Body::NONE).unwrap(), r#"{"body":null}"#);
    }
}
