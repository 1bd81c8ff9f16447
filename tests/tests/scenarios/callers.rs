//! What callers do with a key: submit it twice, with another payload, after its end; give it up; ask for more.

use steadfast_core::Kind;

use crate::provider::{READY, accepted, error, lost, pending, ready};
use crate::scenario::{Scenario, Step, keyed, unkeyed};

use Step::{
    Arrives, Body, Cancel, Ends, Hold, LetGo, OtherRefused, Refused, Resume, ResumeRefused, Stands, Stop, Submit,
    Tells, Unhold,
};

const DONE: &str = "create > accepted > 2ms > poll > completed: ready";
const MISMATCH: Step = OtherRefused("FingerprintMismatch");
const READY_END: Step = Ends("completed: ready");

pub(crate) fn all() -> Vec<Scenario> {
    [twice(), looks(), cancels(), resumes(), stops()].concat()
}

fn twice() -> Vec<Scenario> {
    vec![
        unkeyed("a second submit joins the job", "R9, R11; one execution per key")
            .creates([accepted().held()])
            .polls([ready()])
            .caller([Submit, Submit, LetGo, READY_END, READY_END])
            .tells(DONE),
        unkeyed(
            "a submit after the end gets the outcome again, and its body",
            "R34; Stripe, idempotent requests: the stored result again",
        )
        .creates([accepted()])
        .polls([ready()])
        .caller([Submit, READY_END, Submit, READY_END, Body(READY)])
        .tells(DONE),
        unkeyed("another payload under the key is refused, and nothing is sent for it", "R12; I4")
            .creates([accepted().held()])
            .polls([ready()])
            .caller([Submit, MISMATCH, LetGo, READY_END, MISMATCH])
            .tells(DONE),
        unkeyed("a key that was rejected is free again", "README: rejected, the same key is free again")
            .creates([error(400), accepted()])
            .polls([ready()])
            .caller([Submit, Ends("rejected: refused"), Submit, READY_END])
            .tells(format!("create > permanent/no > rejected: refused > {DONE}")),
        unkeyed("a key that may have run is not", "R15: never a new create")
            .creates([lost()])
            .caller([Submit, Ends("unresolved: ambiguous"), Submit, Ends("unresolved: ambiguous"), MISMATCH])
            .tells("create > transient/perhaps > unresolved: ambiguous"),
    ]
}

fn looks() -> Vec<Scenario> {
    vec![
        unkeyed("where a job stands is told at each step, and changes nothing", "README: client.status")
            .creates([accepted()])
            .polls([ready().held()])
            .caller([
                Stands("nowhere"),
                Hold,
                Submit,
                Stands("planned"),
                Unhold,
                Arrives(Kind::Poll, 1),
                Stands("accepted"),
                LetGo,
                READY_END,
                Stands("completed: ready"),
            ])
            .tells(format!("blocked: held > {DONE}")),
        unkeyed("so it is of one whose create is in the air", "README: client.status")
            .creates([accepted().held()])
            .polls([ready()])
            .caller([Submit, Arrives(Kind::Create, 1), Stands("in flight"), LetGo, READY_END])
            .tells(DONE),
    ]
}

fn cancels() -> Vec<Scenario> {
    vec![
        unkeyed("cancelled before it was sent", "I17: what was never sent may be cancelled cleanly")
            .caller([Hold, Submit, Cancel, Ends("rejected: cancelled")])
            .tells("blocked: held > rejected: cancelled")
            .runs(0),
        unkeyed("cancelled, and submitted again", "I17: as if it had never been admitted")
            .creates([accepted()])
            .polls([ready()])
            .caller([Hold, Submit, Cancel, Ends("rejected: cancelled"), Unhold, Submit, READY_END])
            .tells(format!("blocked: held > rejected: cancelled > {DONE}")),
        unkeyed("cancelled while its create is in the air", "I17: as may have executed")
            .creates([accepted().held()])
            .caller([Submit, Arrives(Kind::Create, 1), Cancel, Ends("unresolved: cancelled")])
            .tells("create > unresolved: cancelled"),
        unkeyed("cancelled while it is polled", "I17")
            .creates([accepted()])
            .polls([ready().held()])
            .caller([Submit, Arrives(Kind::Poll, 1), Cancel, Ends("unresolved: cancelled")])
            .tells("create > accepted > 2ms > poll > unresolved: cancelled"),
        unkeyed("cancelled after its end", "R31: the end is absorbing")
            .creates([accepted()])
            .polls([ready()])
            .caller([Submit, READY_END, Submit, Cancel, READY_END, Tells("absorbed"), Submit, READY_END])
            .tells(format!("{DONE} > absorbed")),
    ]
}

fn resumes() -> Vec<Scenario> {
    vec![
        unkeyed("polled on after its polls were spent", "google-cloud-rust#1935, azure-sdk-for-rust#2758: a poller that can be resumed")
            .creates([accepted()])
            .polls([pending(), pending(), pending(), pending(), pending(), ready()])
            .caller([Submit, Ends("unresolved: polls"), Resume, READY_END, Body(READY)])
            .tells(
                "create > accepted > 2ms > poll > pending > 4ms > poll > pending > 8ms > poll > pending > 8ms > poll > pending > \
                 8ms > poll > pending > unresolved: polls > resumed > poll > completed: ready",
            ),
        unkeyed("polled on after a poll was refused", "docs.deepvue.ai: a token lasts 24 hours, a job may be older")
            .creates([accepted()])
            .polls([error(403), ready()])
            .caller([Submit, Ends("unresolved: poll refused"), Resume, READY_END])
            .tells("create > accepted > 2ms > poll > permanent/no > unresolved: poll refused > resumed > poll > completed: ready"),
        unkeyed("polled on after it was cancelled", "I17; R15")
            .creates([accepted()])
            .polls([pending().held(), ready()])
            .caller([Submit, Arrives(Kind::Poll, 1), Cancel, Ends("unresolved: cancelled"), LetGo, Resume, READY_END])
            .tells("create > accepted > 2ms > poll > unresolved: cancelled > resumed > poll > completed: ready"),
        unkeyed("what is under way is joined", "R9")
            .creates([accepted()])
            .polls([ready().held()])
            .caller([Submit, Arrives(Kind::Poll, 1), Resume, LetGo, READY_END, READY_END])
            .tells(DONE),
        unkeyed("what has ended for good gives its outcome", "R31")
            .creates([accepted()])
            .polls([ready()])
            .caller([Submit, READY_END, Resume, READY_END])
            .tells(DONE),
        unkeyed("without a reference there is nothing to poll", "R15")
            .creates([lost()])
            .caller([Submit, Ends("unresolved: ambiguous"), ResumeRefused("NoReference")])
            .tells("create > transient/perhaps > unresolved: ambiguous"),
        unkeyed("a key that was never submitted", "ResumeError")
            .caller([ResumeRefused("UnknownKey")])
            .tells("")
            .runs(0),
    ]
}

fn stops() -> Vec<Scenario> {
    vec![
        unkeyed("a client that is shut down says what is unfinished", "README: shutdown")
            .creates([accepted()])
            .polls([ready().held()])
            .caller([Submit, Arrives(Kind::Poll, 1), Stop("accepted"), Ends("stopped")])
            .tells("create > accepted > 2ms > poll"),
        keyed("one that is shut down in the midst of a create", "README: shutdown")
            .creates([accepted().held()])
            .caller([Submit, Arrives(Kind::Create, 1), Stop("in flight"), Ends("stopped")])
            .tells("create"),
        unkeyed("one that has nothing to do, and then takes nothing in", "SubmitError::Stopped")
            .caller([Stop(""), Refused("Stopped"), ResumeRefused("Stopped")])
            .tells("")
            .runs(0),
        unkeyed("one that has carried its job", "README: shutdown")
            .creates([accepted()])
            .polls([ready()])
            .caller([Submit, READY_END, Stop("")])
            .tells(DONE),
    ]
}
