//! What connections do: kept open, closed while nobody looks, with more on them than belongs there, slow, chunked,
//! redirected.
//!
//! Of one thing the two clients make something else, so it is not here: a gzip body of several members, which RFC 1952
//! allows. ureq reads all of it; reqwest takes it for a broken one (tower-http's issue 737), and the job is polled on.
//!
//! One call of a transport is one request, whatever its HTTP client would do by itself: a second one would be counted
//! by the provider, and fail the scenario.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::lost::impatient;
use crate::provider::{READY, Reply, accepted, answer, asking, drip, error, lost, pending, ready, wire, with_headers};
use crate::scenario::{Scenario, Step, keyed, unkeyed};

const DONE: &str = "create > accepted > 2ms > poll > completed: ready";

pub(crate) fn all() -> Vec<Scenario> {
    [connections(), framings(), redirects()].concat()
}

fn connections() -> Vec<Scenario> {
    let smuggled = "HTTP/1.1 200 Told\r\ncontent-length: 24\r\n\r\n{\"data\":{\"forged\":true}}";
    let whole = [Step::Submit, Step::Ends("completed: ready"), Step::Body(READY)];
    vec![
        unkeyed("a connection that is kept carries the next request", "RFC 9112 §9.3")
            .creates([accepted().kept()])
            .polls([pending().kept(), ready().kept()])
            .tells("create > accepted > 2ms > poll > pending > 4ms > poll > completed: ready"),
        unkeyed(
            "an answer is lost on a connection that was kept, and nobody sends again by himself",
            "RFC 9110 §9.2.2; stripe-node RequestSender: a closed connection; I7",
        )
        .creates([error(429).kept(), lost()])
        .tells("create > throttled/no > 4ms > create > transient/perhaps > unresolved: ambiguous"),
        unkeyed(
            "a connection that was kept is closed without a word in place of an answer",
            "stripe-node RequestSender: a closed connection is no proof; I7",
        )
        .creates([error(429).kept(), wire("")])
        .tells("create > throttled/no > 4ms > create > transient/perhaps > unresolved: ambiguous"),
        keyed(
            "an answer is lost on a connection that was kept, where keys are honoured",
            "I6: it is the engine that sends again",
        )
        .creates([error(429).kept(), lost(), accepted()])
        .polls([ready()])
        .tells(format!("create > throttled/no > 4ms > create > transient/perhaps > 8ms > {DONE}")),
        unkeyed(
            "a connection that was closed meanwhile, without a word, is not sent over",
            "RFC 9112 §9.3.1; R15: nothing is left in doubt",
        )
        .creates([asking(429, "1").silently(), accepted()])
        .polls([ready()])
        .tells(format!("create > throttled/no asks 1s > 30ms asked, cut > {DONE}")),
        unkeyed("a poll's answer is lost on a connection that was kept", "R30")
            .creates([accepted().kept()])
            .polls([lost(), ready()])
            .tells("create > accepted > 2ms > poll > transient/perhaps > 3ms > poll > completed: ready"),
        unkeyed(
            "a second answer that nobody asked for is not taken for the next one's",
            "RFC 9112 §6.3, response smuggling",
        )
        .creates([accepted()])
        .polls([pending().kept().and(smuggled.as_bytes()), ready()])
        .caller(whole)
        .tells("create > accepted > 2ms > poll > pending > 4ms > poll > completed: ready"),
        unkeyed("more bytes than were declared are none of the answer's", "RFC 9112 §6.3")
            .creates([accepted()])
            .polls([ready().and(b"and more")])
            .caller(whole)
            .tells(DONE),
        unkeyed("an answer that never comes to its end", "slow loris: a time-out is for the whole answer")
            .creates([accepted()])
            .polls([drip(), ready()])
            .polls_trying(impatient)
            .timed()
            .tells("create > accepted > 2ms > poll > timed out/perhaps > 3ms > poll > completed: ready"),
        unkeyed("an acceptance that never comes to its end", "slow loris; I7")
            .creates([drip()])
            .trying(impatient)
            .timed()
            .tells("create > timed out/perhaps > unresolved: ambiguous"),
    ]
}

/// An answer, as these headers and bytes frame it.
fn framed(headers: &str, body: &[u8]) -> Reply {
    wire([format!("HTTP/1.1 200 Told\r\nconnection: close\r\n{headers}\r\n").as_bytes(), body].concat())
}

fn chunks(body: &str, end: &str) -> Reply {
    let (first, second) = body.split_at(body.len() / 2);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    framed("transfer-encoding: chunked\r\n", format!("{}{}{end}", chunk(first), chunk(second)).as_bytes())
}

fn gzip(body: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn framings() -> Vec<Scenario> {
    let interim = |status: &str, then: &str| {
        wire(format!(
            "HTTP/1.1 {status}\r\n\r\nHTTP/1.1 200 Told\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{then}",
            then.len()
        ))
    };
    let flood = format!("x-flood: {}\r\n", "a".repeat(2 << 20));
    let whole = [
        ("in chunks", chunks(READY, "0\r\n\r\n")),
        ("in chunks, with a trailer", chunks(READY, "0\r\nx-more: yes\r\n\r\n")),
        ("up to the connection's end", framed("", READY.as_bytes())),
        ("zipped", with_headers(200, &[("content-encoding", "gzip")], gzip(READY))),
        ("after an interim one", interim("103 Early Hints", READY)),
        ("after a 100", interim("100 Continue", READY)),
        (
            "with its length twice",
            framed(&format!("content-length: {0}\r\ncontent-length: {0}\r\n", READY.len()), READY.as_bytes()),
        ),
    ];
    let broken = [
        ("chunks without an end", chunks(READY, ""), "transient/perhaps"),
        ("a chunk of no size", framed("transfer-encoding: chunked\r\n", b"zz\r\n{}"), "transient/perhaps"),
        ("a length that is no number", framed("content-length: many\r\n", READY.as_bytes()), "transient/perhaps"),
        (
            "two lengths",
            framed(&format!("content-length: {}\r\ncontent-length: 2\r\n", READY.len()), READY.as_bytes()),
            "transient/perhaps",
        ),
        (
            "an encoding that nobody asked for",
            framed("content-encoding: br\r\n", b"\x8b\x01\x80{}\x03"),
            "transient/no",
        ),
        (
            "what calls itself zipped and is not",
            framed("content-encoding: gzip\r\n", READY.as_bytes()),
            "transient/perhaps",
        ),
        ("two megabytes of a header", framed(&flood, READY.as_bytes()), "transient/perhaps"),
        ("a status of four digits", wire("HTTP/1.1 2000 Told\r\n\r\n"), "transient/perhaps"),
        ("a status of 600", answer(600, "{}"), "transient/no"),
        ("a status of 999", answer(999, "{}"), "transient/no"),
        ("an interim one, and then nothing", wire("HTTP/1.1 103 Early Hints\r\n\r\n"), "transient/perhaps"),
    ];
    let source = "RFC 9112 §6, RFC 9110 §15";
    let read = whole.map(|(how, reply)| {
        unkeyed(format!("an answer {how}"), source)
            .creates([accepted()])
            .polls([reply])
            .caller([Step::Submit, Step::Ends("completed: ready"), Step::Body(READY)])
            .tells(DONE)
    });
    let unread = broken.map(|(what, reply, taken_for)| {
        unkeyed(format!("an answer of {what}"), source)
            .creates([accepted()])
            .polls([reply, ready()])
            .tells(format!("create > accepted > 2ms > poll > {taken_for} > 3ms > poll > completed: ready"))
    });
    [read.to_vec(), unread.to_vec()].concat()
}

/// To the provider itself: if it were followed, another request would come. README: adapters, redirects off.
fn redirects() -> Vec<Scenario> {
    let elsewhere = "/v1/verification/get-driving-license?transaction_id=txn-9";
    let redirect = |status| with_headers(status, &[("location", elsewhere)], "").running(false);
    let creates = [301, 302, 303, 307, 308].map(|status| {
        keyed(format!("a create is redirected by {status}"), "RFC 9110 §15.4: key and body must not stray")
            .creates([redirect(status)])
            .polls([ready()])
            .tells(match status {
                // The very request is to be made elsewhere, so it was not carried out here.
                307 | 308 => "create > permanent/no > rejected: refused",
                _ => "create > permanent/perhaps > unresolved: refused",
            })
            .runs(0)
    });
    let polls = [301, 302, 303, 307, 308].map(|status| {
        unkeyed(format!("a poll is redirected by {status}"), "RFC 9110 §15.4: key and body must not stray")
            .creates([accepted()])
            .polls([redirect(status), ready()])
            .tells("create > accepted > 2ms > poll > permanent/no > unresolved: poll refused")
    });
    [creates.to_vec(), polls.to_vec()].concat()
}
