//! The caller's payload with the key in it.

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer};
use serde_json::Value;
use steadfast_core::Key;

use crate::RequestError;
use crate::json::object;

#[derive(serde::Deserialize)]
struct Given {
    #[serde(default, deserialize_with = "whatever")]
    vendor_data: Option<Value>,
}

/// Distinguishes an explicit `null` from a missing member.
fn whatever<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The payload with the key as its `vendor_data`. Every other byte stays as it is, numbers and order included.
pub(super) fn with_vendor_data(payload: &Bytes, key: &Key) -> Result<Bytes, RequestError> {
    const NO_OBJECT: RequestError = RequestError::Payload(
        "is no JSON object, or names vendor_data twice: Didit takes one object with a workflow_id",
    );
    let text = core::str::from_utf8(payload).map_err(|_| NO_OBJECT)?;
    let given: Given = object(payload).ok_or(NO_OBJECT)?;
    match given.vendor_data {
        Some(Value::String(text)) if text == key.as_str() => return Ok(payload.clone()),
        Some(_) => {
            return Err(RequestError::Payload(
                "has a vendor_data that is not the idempotency key: leave it out, the key is put there",
            ));
        }
        None => {}
    }
    let (_, members) = text.split_once('{').ok_or(NO_OBJECT)?;
    let comma = if members.trim_ascii_start().starts_with('}') { "" } else { "," };
    Ok(Bytes::from(format!(r#"{{"vendor_data":{}{comma}{members}"#, Value::from(key.as_str()))))
}
