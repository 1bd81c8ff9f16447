//! JSON as other parties send it: read strictly where it decides, skipped unread where it does not.

use core::fmt;
use core::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The longest unknown text that is kept, in characters.
pub(crate) const MAX_TEXT_LEN: usize = 64;

/// A body without the byte order mark that some servers put before UTF-8: a reader may skip it (RFC 8259, section 8.1),
/// and it carries no meaning.
pub(crate) fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Reads the body as one JSON object. `None` if a member of `T` is there twice or has another type, or if anything
/// follows the object. (Left to itself, serde would accept an array for a struct, by position.)
pub(crate) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    let body = unmarked(body);
    if !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// The same check for an object within another.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapOnly<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapOnly<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(MapOnly(PhantomData)).map(Self)
    }
}

/// Another party's text in a form fit to show: short, without control characters or space around it; `None` if nothing
/// is left.
pub(crate) fn plain(text: &str) -> Option<Box<str>> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_LEN).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.into())
}
