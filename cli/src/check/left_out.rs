//! Finds what a file of policies changes without naming it: a table replaces the provider's as a whole, so what it
//! leaves out has the default value.

use serde_json::{Value, json};
use steadfast_core::OperationPolicy;
use steadfast_core::gate::GatePolicy;

/// A policy and a gate, as a file would say them.
pub(super) fn written(policy: &OperationPolicy, gate: &GatePolicy) -> serde_json::Result<Value> {
    Ok(json!({ "policy": serde_json::to_value(policy)?, "gate": serde_json::to_value(gate)? }))
}

/// A doubt for each field that the provider sets, and that is another `now` although the file does not name it.
pub(super) fn doubts(named: &Value, own: &Value, now: &Value) -> Vec<String> {
    let mut doubts = Vec::new();
    look(&mut Vec::new(), Some(named), own, now, &mut doubts);
    doubts
}

fn look<'a>(path: &mut Vec<&'a str>, named: Option<&Value>, own: &'a Value, now: &Value, doubts: &mut Vec<String>) {
    let fields = own.as_object().filter(|own| now.as_object().is_some_and(|now| own.keys().eq(now.keys())));
    match (named, fields) {
        (None, _) if now == own => {}
        (None, None) => doubts.push(format!(
            "{} is left out, so it is {}, the default: the profile's {} does not stay, since a table is replaced as a whole",
            path.join("."),
            said(now),
            said(own),
        )),
        // A number, a list, another growth: the file says all of it.
        (Some(_), None) => {}
        (_, Some(fields)) => {
            for (field, own) in fields {
                path.push(field);
                look(path, named.and_then(|named| named.get(field)), own, &now[field], doubts);
                path.pop();
            }
        }
    }
}

fn said(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
