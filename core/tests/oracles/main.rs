//! Cases read out of other libraries' test suites, replayed against our machines.
//!
//! Each file of `tests/oracles/` names the repositories, commits and tests that its facts were read from. One test
//! replays a file, prints how many of its cases ran, and lists those that cannot apply, each with its reason: a case is
//! never skipped in silence. A field that the replay does not know is an error, so no case is replayed by half either.

mod backoff;
mod breaker;
mod breaker_window;
mod rate_limiter;
mod retry_flow;

use serde_json::Value;

/// What one case came to.
enum Case {
    Replayed,
    NotApplicable(&'static str),
}

/// Replays every case of a file, and tells.
fn replay(name: &str, text: &str, expected: usize, case: impl Fn(&Value) -> Case) {
    let file: Value = serde_json::from_str(text).expect("the file is JSON");
    let cases = file["cases"].as_array().expect("it has cases");
    assert_eq!(file["case_count"], cases.len());
    let mut replayed = 0;
    let mut others = Vec::new();
    for it in cases {
        let id = it["id"].as_str().expect("a case has an id");
        let _told = Told(id);
        match case(it) {
            Case::Replayed => replayed += 1,
            Case::NotApplicable(why) => others.push((id, why)),
        }
    }
    println!("{name}: {replayed} of {} cases replayed; {} do not apply", cases.len(), others.len());
    for (id, why) in others {
        println!("  {id}: {why}");
    }
    assert_eq!(replayed, expected, "{name}: a case has come or gone");
}

/// Says which case it was when one fails.
struct Told<'a>(&'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("in case {}", self.0);
        }
    }
}

/// Panics at a field that is not among these.
fn only(object: &Value, known: &[&str]) {
    for field in object.as_object().into_iter().flat_map(|object| object.keys()) {
        assert!(known.contains(&field.as_str()), "the replay does not know the field {field}");
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} is no whole number in {value}"))
}
