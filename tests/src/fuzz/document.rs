//! Files of settings in any format: one tree, or an error with a line of the file.
//!
//! - What is read as JSON is what `serde_json` reads.
//! - What is read as YAML and is JSON too is the same in both.
//! - A fault lies in a line of the file, its field can be printed, and a profile made of the text is described or
//!   refused in the same way.
//!
//! Input: the text, tried in every format.

use serde_json::Value;
use steadfast_providers::document::{Document, DocumentError, Format};
use steadfast_providers::profile::Profile;

/// See the [module](self).
pub fn holds(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let [json, yaml, _] = [Format::Json, Format::Yaml, Format::Toml].map(|format| read(text, format));
    if let Ok(json) = &json {
        let theirs: Value =
            serde_json::from_str(text.trim_start_matches('\u{feff}')).expect("no JSON is taken for some");
        assert!(alike(json, &theirs), "another value than is written: {json} {theirs}");
        if let Ok(yaml) = yaml {
            assert!(alike(&yaml, json), "JSON is YAML: {yaml} {json}");
        }
    }
}

/// The same, but for the last digit of a number, which `serde_json` reads fast and not exactly, and the sign of
/// nothing.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| alike(a, b)))
        }
        (Value::Number(_), Value::Number(_)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b || ((a - b) / b).abs() < 1e-15,
            _ => a == b,
        },
        _ => a == b,
    }
}

fn read(text: &str, format: Format) -> Result<Value, DocumentError> {
    let document = Document::parse(text, format).inspect_err(|error| check_error(text, error))?;
    match Profile::read_from(&document) {
        Ok(profile) => assert!(!profile.describe().is_empty()),
        Err(error) => check_error(text, &error),
    }
    document.read().inspect_err(|error| check_error(text, error))
}

fn check_error(text: &str, error: &DocumentError) {
    let lines = text.matches('\n').count() + 1;
    assert!((1..=lines).contains(&error.line()), "{error}");
    assert!(!error.problem().is_empty(), "an error that helps nobody");
    assert!(!error.field().chars().any(char::is_control), "{error}");
}
