//! Edits JSON without rewriting the rest: puts the key into a payload, cuts a result out of an answer.

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use steadfast_core::Key;

use super::pointer::Pointer;
use crate::RequestError;

const NO_PLACE: RequestError = RequestError::Payload(
    "is no JSON object, has no object where the profile puts the idempotency key, or names a member on the way there twice",
);

/// The payload with the key at this place. Every other byte stays as it is, except for white space at its beginning.
pub(super) fn with_key(payload: &Bytes, pointer: &Pointer, key: &Key) -> Result<Bytes, RequestError> {
    let text = core::str::from_utf8(payload).map_err(|_| NO_PLACE)?;
    let (name, way) = pointer.steps().split_last().ok_or(NO_PLACE)?;
    let mut parent: &str = serde_json::from_str::<&RawValue>(text).map_err(|_| NO_PLACE)?.get();
    for step in way {
        parent = member(parent, step).ok().flatten().ok_or(NO_PLACE)?;
    }
    match member(parent, name).map_err(|Unusable| NO_PLACE)? {
        Some(given) if serde_json::from_str::<String>(given).is_ok_and(|text| text == key.as_str()) => {
            return Ok(payload.clone());
        }
        Some(_) => {
            return Err(RequestError::Payload(
                "has something else than the idempotency key where the profile puts that: leave it out",
            ));
        }
        None => {}
    }
    // The parent is a slice of the text, so the distance between the two addresses is its offset.
    let start = (parent.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let (before, rest) = text.split_at_checked(start).ok_or(NO_PLACE)?;
    let members = rest.strip_prefix('{').ok_or(NO_PLACE)?;
    let comma = if members.trim_ascii_start().starts_with('}') { "" } else { "," };
    let (name, key) = (serde_json::Value::from(&**name), serde_json::Value::from(key.as_str()));
    Ok(Bytes::from(format!("{}{{{name}:{key}{comma}{members}", before.trim_ascii_start())))
}

/// The key at this place of a request's body, and the payload without it: byte for byte the payload that [`with_key`]
/// was given, if [`with_key`] put the key in.
pub(super) fn without_key(body: &Bytes, pointer: &Pointer) -> Option<(String, Bytes)> {
    let text = core::str::from_utf8(body).ok()?;
    let (name, way) = pointer.steps().split_last()?;
    let mut parent: &str = serde_json::from_str::<&RawValue>(text).ok()?.get();
    for step in way {
        parent = member(parent, step).ok().flatten()?;
    }
    let given = member(parent, name).ok().flatten()?;
    let key: String = serde_json::from_str(given).ok()?;
    let start = (parent.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let (before, rest) = text.split_at_checked(start)?;
    let put = format!("{{{}:{}", serde_json::Value::from(&**name), serde_json::Value::from(key.as_str()));
    let Some(members) = rest.strip_prefix(&*put) else { return Some((key, body.clone())) };
    let without = format!("{before}{{{}", members.strip_prefix(',').unwrap_or(members));
    Some((key, Bytes::from(without)))
}

/// The text at this place of a body, as it was written. A byte order mark before it is skipped.
pub(super) fn part<'a>(body: &'a str, pointer: &Pointer) -> Option<&'a str> {
    let whole = serde_json::from_str::<&RawValue>(body.strip_prefix('\u{feff}').unwrap_or(body)).ok()?.get();
    pointer.steps().iter().try_fold(whole, |value, step| {
        if value.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(value).ok()?;
            items.get(step.parse::<usize>().ok()?).map(|item| item.get())
        } else {
            member(value, step).ok().flatten()
        }
    })
}

struct Unusable;

/// The member of this name of an object.
fn member<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, Unusable> {
    struct Named<'n>(&'n str);

    impl<'de> Visitor<'de> for Named<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(name) = members.next_key::<String>()? {
                if name != self.0 {
                    members.next_value::<IgnoredAny>()?;
                } else if found.replace(members.next_value()?).is_some() {
                    return Err(serde::de::Error::custom("a member is there twice"));
                }
            }
            Ok(found)
        }
    }

    if !object.starts_with('{') {
        return Err(Unusable);
    }
    let mut json = serde_json::Deserializer::from_str(object);
    let found = json.deserialize_map(Named(name)).map_err(|_| Unusable)?;
    json.end().map_err(|_| Unusable)?;
    Ok(found.map(RawValue::get))
}
