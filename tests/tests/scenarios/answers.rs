//! What a body says: whole or broken, pending, partial, final, or contradicting its status.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::provider::{ACCEPTED, READY, Reply, accepted, answer, asking, endless, pending, ready, wire, with_headers};
use crate::scenario::{Scenario, Step, keyed, unkeyed};

pub(crate) fn all() -> Vec<Scenario> {
    [creates(), polls(), sizes()].concat()
}

fn cut_short(body: &str) -> Reply {
    wire(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len() + 64))
}

/// A 2xx whose body names no job: the provider may well run it, so it is in doubt.
fn creates() -> Vec<Scenario> {
    let rows = [
        ("an HTML page", answer(200, "<!doctype html><title>Please wait</title>")),
        ("nothing", answer(200, "")),
        ("204 and nothing", answer(204, "")),
        ("half of its JSON", answer(200, &ACCEPTED[..ACCEPTED.len() / 2])),
        ("fewer bytes than it declares", cut_short(ACCEPTED)),
        ("a number for an id", answer(200, r#"{"code":200,"transaction_id":123456789012345678901234567890}"#)),
        ("no id", answer(200, r#"{"code":200,"message":"Request accepted"}"#)),
        ("two ids", answer(200, r#"{"transaction_id":"txn-1","transaction_id":"txn-2"}"#)),
        ("more after its JSON", answer(200, format!("{ACCEPTED}{ACCEPTED}"))),
        ("a thousand arrays", answer(200, format!("{{\"x\":{},\"transaction_id\":\"t\"}}", "[".repeat(1_000)))),
        ("what is no HTTP", wire("220 mail.example ESMTP\r\n")),
        ("a status line and no more", wire("HTTP/1.1 200 OK\r\n")),
        ("a code of 500 in its body", answer(200, r#"{"code":500,"transaction_id":"txn-1"}"#)),
    ];
    let mut scenarios = Vec::new();
    for (what, reply) in rows {
        let name = |keys| format!("a create is answered with {what}, keys are {keys}");
        let source = "R15, R17: a 2xx that cannot be read proves nothing";
        scenarios.push(
            keyed(name("honoured"), source)
                .creates([reply.clone(), accepted()])
                .polls([ready()])
                .tells("create > transient/perhaps > 4ms > create > accepted > 2ms > poll > completed: ready"),
        );
        scenarios.push(
            unkeyed(name("ignored"), source)
                .creates([reply])
                .tells("create > transient/perhaps > unresolved: ambiguous"),
        );
    }
    scenarios.extend([
        unkeyed("a create is answered with 202 and an id", "RFC 9110 §15.3.3; Azure guidelines")
            .creates([answer(202, ACCEPTED)])
            .polls([ready()])
            .tells("create > accepted > 2ms > poll > completed: ready"),
        unkeyed(
            "a create is answered with 200, and its body says 429",
            "docs.deepvue.ai/response-format: the envelope's code",
        )
        .creates([answer(200, r#"{"code":429}"#).running(false), accepted()])
        .polls([ready()])
        .tells("create > throttled/no > 4ms > create > accepted > 2ms > poll > completed: ready"),
        unkeyed("a create is answered with 200, and its body says 422", "docs.deepvue.ai/response-format; R12")
            .creates([answer(200, r#"{"code":422}"#).running(false)])
            .tells("create > permanent/no > rejected: refused")
            .runs(0),
        unkeyed("the registry behind the provider is down", "docs.deepvue.ai/errors, Source Unavailable")
            .creates([answer(503, r#"{"detail":"Source Unavailable"}"#), accepted()])
            .polls([ready()])
            .tells("create > transient/no > 4ms > create > accepted > 2ms > poll > completed: ready"),
    ]);
    scenarios
}

/// The ways in which a provider says that it is not done, and those in which it says that it is.
fn polls() -> Vec<Scenario> {
    let rows = [
        ("202", pending(), "pending > 4ms"),
        ("202 and nothing", answer(202, ""), "pending > 4ms"),
        ("202 and a wish", asking(202, "1"), "pending asks 1s > 30ms asked, cut"),
        ("202 and no wish that can be read", asking(202, "soon"), "pending > 4ms"),
        ("200 and no data", answer(200, r#"{"code":200}"#), "pending > 4ms"),
        ("200 and null", answer(200, r#"{"data":null}"#), "pending > 4ms"),
        ("200 and empty data", answer(200, r#"{"data":{}}"#), "pending > 4ms"),
        ("200 and in_progress", answer(200, r#"{"status":"in_progress"}"#), "pending > 4ms"),
        ("200 and a pending in its data", answer(200, r#"{"data":{"status":"pending"}}"#), "pending > 4ms"),
        ("200 and a code of 202", answer(200, r#"{"code":202}"#), "pending > 4ms"),
        ("a part", answer(200, r#"{"data":{"status":"partial","name":null}}"#), "partial > 4ms"),
        ("processing, and some data", answer(200, r#"{"status":"processing","data":{"a":1}}"#), "partial > 4ms"),
        ("a status of its own", answer(200, r#"{"status":"re-queued"}"#), "unknown status \"re-queued\" > 4ms"),
        ("an HTML page", answer(200, "<!doctype html>"), "transient/no > 3ms"),
        ("half of its JSON", answer(200, &READY[..READY.len() / 2]), "transient/no > 3ms"),
        ("fewer bytes than it declares", cut_short(READY), "transient/perhaps > 3ms"),
        ("no HTTP", wire("SSH-2.0-OpenSSH\r\n"), "transient/perhaps > 3ms"),
        ("two statuses", answer(200, r#"{"status":"failed","status":"completed"}"#), "transient/no > 3ms"),
        ("200, and its body says 401", answer(200, r#"{"code":401}"#), "unauthorized/no > 3ms"),
        ("200, and its body says 429", answer(200, r#"{"code":429}"#), "throttled/no > 3ms"),
    ];
    let scenarios = rows.map(|(what, reply, then)| {
        unkeyed(
            format!("a poll is answered with {what}"),
            "docs.deepvue.ai/async-endpoints; Veriff, Azure and Didit say it otherwise; R30",
        )
        .creates([accepted()])
        .polls([reply, ready()])
        .tells(format!("create > accepted > 2ms > poll > {then} > poll > completed: ready"))
    });
    let ends = [
        ("a job that failed", answer(200, r#"{"status":"failed"}"#), "failed"),
        ("a job that is done without data", answer(200, r#"{"status":"completed"}"#), "completed: ready"),
        // The business result is the caller's matter.
        ("a job that found nothing", answer(200, r#"{"data":{"status":"id_not_found"}}"#), "completed: ready"),
        (
            "the reference's shape",
            answer(200, r#"{"status":"completed","result":{"source_output":{"status":"id_found"}}}"#),
            "completed: ready",
        ),
    ];
    let ends = ends.map(|(what, reply, end)| {
        unkeyed(
            format!("a poll tells of {what}"),
            "docs.deepvue.ai/reference: the job's state and the result's are two things",
        )
        .creates([accepted()])
        .polls([reply])
        .tells(format!("create > accepted > 2ms > poll > {end}"))
    });
    let part = answer(200, r#"{"data":{"status":"partial","name":null}}"#);
    let more = [
        unkeyed("a part is enough where the policy says so", "poll policy, accept_partial")
            .creates([accepted()])
            .polls([part])
            .polling(|poll| poll.clone().with_accept_partial(true))
            .caller([Step::Submit, Step::Ends("completed: partial"), Step::Body(r#"{"data":{"status":"partial","name":null}}"#)])
            .tells("create > accepted > 2ms > poll > completed: partial"),
        unkeyed("the polls are spent", "docs.deepvue.ai/async-endpoints: when to give up; R3")
            .creates([accepted()])
            .polls([pending()])
            .tells(
                "create > accepted > 2ms > poll > pending > 4ms > poll > pending > 8ms > poll > pending > 8ms > poll > pending > \
                 8ms > poll > pending > unresolved: polls",
            ),
        unkeyed("a job is unknown for a while after it was accepted", "RFC 9110 §15.5.5; eventual consistency after a create")
            .creates([accepted()])
            .polls([answer(404, ""), answer(404, ""), pending(), ready()])
            .polling(|poll| poll.clone().with_not_found_grace(std::time::Duration::from_secs(120)))
            .tells(
                "create > accepted > 2ms > poll > pending > 4ms > poll > pending > 8ms > poll > pending > 8ms > poll > \
                 completed: ready",
            ),
        unkeyed("the result reaches the caller byte for byte", "README: finished.body()")
            .creates([accepted()])
            .polls([ready()])
            .caller([Step::Submit, Step::Ends("completed: ready"), Step::Body(READY)])
            .tells("create > accepted > 2ms > poll > completed: ready"),
    ];
    [scenarios.to_vec(), ends.to_vec(), more.to_vec()].concat()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// The decoded body is what is measured.
fn sizes() -> Vec<Scenario> {
    let result = |padding: usize| format!(r#"{{"data":{{"a":"{}"}}}}"#, " ".repeat(padding));
    let zipped = |body: &str| with_headers(200, &[("content-encoding", "gzip")], gzip(body.as_bytes()));
    let whole = gzip(READY.as_bytes());
    let started = |name: &str| unkeyed(name, "reqwest#2660: what counts is the decoded body").creates([accepted()]);
    vec![
        started("a result as large as the limit")
            .polls([answer(200, result(1_000))])
            .at_most(result(1_000).len())
            .tells("create > accepted > 2ms > poll > completed: ready"),
        started("a result larger than the limit by a byte")
            .polls([answer(200, result(1_000))])
            .at_most(result(1_000).len() - 1)
            .tells("create > accepted > 2ms > poll > permanent/perhaps > unresolved: poll refused"),
        started("a zipped result within the limit")
            .polls([zipped(READY)])
            .caller([Step::Submit, Step::Ends("completed: ready"), Step::Body(READY)])
            .tells("create > accepted > 2ms > poll > completed: ready"),
        started("a zipped result that is larger than the limit once it is decoded")
            .polls([zipped(&result(5 << 20))])
            .tells("create > accepted > 2ms > poll > permanent/perhaps > unresolved: poll refused"),
        started("a zipped result of which the end is missing")
            .polls([with_headers(200, &[("content-encoding", "gzip")], &whole[..whole.len() / 2]), ready()])
            .tells("create > accepted > 2ms > poll > transient/perhaps > 3ms > poll > completed: ready"),
        started("a result without an end")
            .polls([endless()])
            .tells("create > accepted > 2ms > poll > permanent/perhaps > unresolved: poll refused"),
        keyed("an accepting answer larger than the limit", "reqwest#2660; R15")
            .creates([answer(200, result(2_000))])
            .at_most(1_000)
            .tells("create > permanent/perhaps > unresolved: refused"),
    ]
}
