//! What a status says of a request: RFC 9110, and what well-regarded clients repeat (GCS, Azure, AWS, Stripe).
//!
//! The rule for creates: a 4xx is the provider's word that nothing ran, with the exceptions below; no 5xx is. So what
//! may have run is sent again only where that cannot run it twice.

use crate::provider::{Reply, accepted, asking, error, pending, ready};
use crate::scenario::{Scenario, keyed, unkeyed};

/// How a create goes on after its first answer.
enum Then {
    /// It is sent again, and is accepted.
    Again,
    /// It is sent again after the 30 ms to which the provider's wish is cut.
    AgainAsked,
    Ends(&'static str),
}

use Then::{Again, AgainAsked, Ends};

const REFUSED: Then = Ends("rejected: refused");
const AMBIGUOUS: Then = Ends("unresolved: ambiguous");
/// Refused, and not by a word that proves that nothing ran.
const UNSURE: Then = Ends("unresolved: refused");

/// Each status at both kinds of providers.
pub(crate) fn of_creates() -> Vec<Scenario> {
    // Status, Retry-After, what it is taken for, where keys are honoured, where they are not.
    let rows = [
        (302, "", "permanent/perhaps", UNSURE, UNSURE),
        (307, "", "permanent/no", REFUSED, REFUSED),
        (400, "", "permanent/no", REFUSED, REFUSED),
        (401, "", "permanent/no", REFUSED, REFUSED),
        (402, "", "permanent/no", REFUSED, REFUSED),
        (403, "", "permanent/no", REFUSED, REFUSED),
        (404, "", "permanent/no", REFUSED, REFUSED),
        (405, "", "permanent/no", REFUSED, REFUSED),
        (408, "", "transient/perhaps", Again, AMBIGUOUS),
        (409, "", "permanent/perhaps", UNSURE, UNSURE),
        (409, "1", "transient/perhaps asks 1s", AgainAsked, AMBIGUOUS),
        (410, "", "permanent/no", REFUSED, REFUSED),
        (413, "", "permanent/no", REFUSED, REFUSED),
        (413, "1", "transient/no asks 1s", AgainAsked, AgainAsked),
        (415, "", "permanent/no", REFUSED, REFUSED),
        (421, "", "transient/no", Again, Again),
        (422, "", "permanent/no", REFUSED, REFUSED),
        (423, "", "permanent/no", REFUSED, REFUSED),
        (425, "", "transient/no", Again, Again),
        (429, "", "throttled/no", Again, Again),
        (429, "1", "throttled/no asks 1s", AgainAsked, AgainAsked),
        (451, "", "permanent/no", REFUSED, REFUSED),
        (499, "", "transient/perhaps", Again, AMBIGUOUS),
        (500, "", "transient/perhaps", Again, AMBIGUOUS),
        (501, "", "permanent/perhaps", UNSURE, UNSURE),
        (502, "", "transient/perhaps", Again, AMBIGUOUS),
        (503, "", "transient/perhaps", Again, AMBIGUOUS),
        (503, "1", "transient/perhaps asks 1s", AgainAsked, AMBIGUOUS),
        (504, "", "transient/perhaps", Again, AMBIGUOUS),
        (505, "", "permanent/perhaps", UNSURE, UNSURE),
        (511, "", "permanent/perhaps", UNSURE, UNSURE),
        (529, "", "transient/perhaps", Again, AMBIGUOUS),
    ];
    let scenario = |begun: Scenario, reply: Reply, taken_for: &str, then: Then| {
        let accepted_then = "create > accepted > 2ms > poll > completed: ready";
        let (words, runs) = match then {
            Again => (format!("create > {taken_for} > 4ms > {accepted_then}"), 1),
            AgainAsked => (format!("create > {taken_for} > 30ms asked, cut > {accepted_then}"), 1),
            Ends(how) => (format!("create > {taken_for} > {how}"), 0),
        };
        begun.creates([reply, accepted()]).polls([ready()]).tells(words).runs(runs)
    };
    let mut scenarios = Vec::new();
    for (status, retry_after, taken_for, where_keyed, where_unkeyed) in rows {
        let reply = if retry_after.is_empty() { error(status) } else { asking(status, retry_after) };
        let name = |keys| format!("a create is answered with {status} {retry_after}, keys are {keys}");
        let source = "RFC 9110 §15; GCS, Azure, AWS and Stripe retry tables; R6, R17";
        scenarios.push(scenario(keyed(name("honoured"), source), reply.clone(), taken_for, where_keyed));
        scenarios.push(scenario(unkeyed(name("ignored"), source), reply, taken_for, where_unkeyed));
    }
    scenarios
}

/// A poll only reads, so it may be repeated; and whatever it meets says nothing of the job, so none ends it but one
/// that would always be refused. R30.
pub(crate) fn of_polls() -> Vec<Scenario> {
    // A failing poll is tried again by the retry policy, a pending one comes by the schedule.
    let rows = [
        (302, "", "permanent/no > unresolved: poll refused"),
        (400, "", "permanent/no > unresolved: poll refused"),
        // Of the token, not of the job.
        (401, "", "unauthorized/no > 3ms > poll > completed: ready"),
        (403, "", "permanent/no > unresolved: poll refused"),
        (404, "", "unresolved: not found"),
        (408, "", "transient/no > 3ms > poll > completed: ready"),
        (409, "1", "transient/no asks 1s > 30ms asked, cut > poll > completed: ready"),
        (410, "", "permanent/no > unresolved: poll refused"),
        (422, "", "permanent/no > unresolved: poll refused"),
        (425, "", "transient/no > 3ms > poll > completed: ready"),
        (429, "", "throttled/no > 3ms > poll > completed: ready"),
        (429, "1", "throttled/no asks 1s > 30ms asked, cut > poll > completed: ready"),
        (499, "", "transient/no > 3ms > poll > completed: ready"),
        (500, "", "transient/no > 3ms > poll > completed: ready"),
        (501, "", "permanent/no > unresolved: poll refused"),
        (502, "", "transient/no > 3ms > poll > completed: ready"),
        (503, "", "transient/no > 3ms > poll > completed: ready"),
        (503, "1", "transient/no asks 1s > 30ms asked, cut > poll > completed: ready"),
        (504, "", "transient/no > 3ms > poll > completed: ready"),
    ];
    let scenarios = rows.map(|(status, retry_after, then)| {
        let reply = if retry_after.is_empty() { error(status) } else { asking(status, retry_after) };
        unkeyed(format!("a poll is answered with {status} {retry_after}"), "R30; RFC 9110 §9.2.2")
            .creates([accepted()])
            .polls([reply, ready()])
            .tells(format!("create > accepted > 2ms > poll > {then}"))
    });
    let failing = "poll > transient/no > 3ms > poll > transient/no > 3ms > poll > transient/no > 8ms > ";
    let mut scenarios = scenarios.to_vec();
    scenarios.extend([
        unkeyed("polls that fail on and on go to the schedule's slowest pace, and the job goes on", "R30, hypit#336")
            .creates([accepted()])
            .polls([error(500), error(500), error(500), ready()])
            .tells(format!("create > accepted > 2ms > {failing}poll > completed: ready")),
        unkeyed("a good answer between two that failed gives the polls their retries back", "poll policy; gax#2307")
            .creates([accepted()])
            .polls([error(500), error(500), pending(), error(500), ready()])
            .tells(
                "create > accepted > 2ms > poll > transient/no > 3ms > poll > transient/no > 3ms > poll > pending > 4ms > \
                 poll > transient/no > 3ms > poll > completed: ready",
            ),
    ]);
    scenarios
}
