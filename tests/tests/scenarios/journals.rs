//! What a journal is for: what is on disk before a request leaves, and how a next client goes on after each moment of a
//! stop.

use steadfast_core::Kind;
use steadfast_testkit::journal_kit::StoreFault;

use crate::provider::{READY, accepted, answer, error, lost, pending, ready};
use crate::scenario::{Keeps, Scenario, Step, keyed, looked_up, unkeyed};

use Keeps::{Answers, Payloads, Records};
use Step::{
    Arrives, Body, Ends, Hold, LetGo, OtherRefused, Refused, Resume, ResumeRefused, Stands, Start, StartLater, Stop,
    Submit, Tells,
};

const DONE: &str = "create > accepted > 2ms > poll > completed: ready";
const MISMATCH: Step = OtherRefused("FingerprintMismatch");
const READY_END: Step = Ends("completed: ready");

pub(crate) fn all() -> Vec<Scenario> {
    [restarts(), disks()].concat()
}

fn restarts() -> Vec<Scenario> {
    let held = || accepted().held();
    let stopped_in_create = [Submit, Arrives(Kind::Create, 1), Stop("in flight"), StartLater];
    let then = |steps: &[Step]| [&stopped_in_create[..], steps].concat();
    vec![
        unkeyed("with a journal, a job is carried as without", "R13, R14")
            .creates([accepted()])
            .polls([pending(), ready()])
            .keeping(Records)
            .tells("create > accepted > 2ms > poll > pending > 4ms > poll > completed: ready"),
        unkeyed("stopped while it is polled, it is polled on, without its payload", "R35; C09, C10")
            .creates([accepted()])
            .polls([pending().held(), ready()])
            .keeping(Records)
            .caller([Submit, Arrives(Kind::Poll, 1), Stop("accepted"), Start, Submit, READY_END])
            .tells("create > accepted > 2ms > poll > restored > poll > completed: ready"),
        keyed("stopped before it was sent, its kept payload is sent", "C01; R13")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Payloads)
            .caller([Hold, Submit, Stop("planned"), Start, Submit, READY_END])
            .tells(format!("blocked: held > restored > record > {DONE}")),
        unkeyed("stopped before it was sent, where a repeat would run again: nothing was sent, so it is", "C01; I7")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Payloads)
            .caller([Hold, Submit, Stop("planned"), Start, Submit, READY_END])
            .tells(format!("blocked: held > restored > record > {DONE}")),
        unkeyed("stopped before it was sent, it waits for a payload that was not kept", "C01; README: a restart")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .caller([Hold, Submit, Stop("planned"), Start, ResumeRefused("PayloadNeeded"), MISMATCH, Submit, READY_END])
            .tells(format!("blocked: held > restored > record > {DONE}")),
        keyed(
            "stopped in the midst of a create, it is sent again with the same key and bytes",
            "C02 to C04; I4, I6, R10",
        )
        .creates([held(), accepted()])
        .polls([ready()])
        .keeping(Payloads)
        .caller(then(&[Submit, READY_END]))
        .tells(format!("create > restored > 4ms > {DONE}")),
        keyed(
            "started again at once, it does not send beside what may still be worked on",
            "I3; README: never two at a time",
        )
        .creates([held()])
        .keeping(Payloads)
        .caller([
            Submit,
            Arrives(Kind::Create, 1),
            Stop("in flight"),
            Start,
            Submit,
            Stands("unknown"),
            Stop("unknown"),
        ])
        .tells("create > restored > record"),
        keyed("stopped in the midst of a create, it is sent again once its payload is there again", "C02 to C04; R12")
            .creates([held(), accepted()])
            .polls([ready()])
            .keeping(Records)
            .caller(then(&[MISMATCH, Submit, READY_END]))
            .tells(format!("create > restored > 4ms > {DONE}")),
        unkeyed(
            "stopped in the midst of a create, where a repeat would run again: it is unresolved",
            "C02 to C04; I7, R17",
        )
        .creates([held()])
        .keeping(Payloads)
        .caller(then(&[Submit, Ends("unresolved: ambiguous"), MISMATCH]))
        .tells("create > restored > unresolved: ambiguous"),
        looked_up("stopped in the midst of a create, where it can be looked up: it is found", "C02 to C04; I7")
            .creates([held()])
            .lookups([answer(200, r#"{"transaction_id":"txn-1"}"#)])
            .polls([ready()])
            .keeping(Records)
            .caller(then(&[Submit, READY_END]))
            .tells("create > restored > 6ms settle > look-up > accepted > 2ms > poll > completed: ready"),
        looked_up("it is looked up and was never there: it is created from its kept payload", "C02 to C04; R15")
            .creates([held().running(false), accepted()])
            .lookups([error(404)])
            .polls([ready()])
            .keeping(Payloads)
            .caller(then(&[Submit, READY_END]))
            .tells(format!("create > restored > 6ms settle > look-up > proven absent > 4ms > {DONE}")),
        keyed("stopped twice in the midst of a create, its attempts are counted across restarts", "R2; C25")
            .creates([held(), held(), accepted()])
            .polls([ready()])
            .keeping(Payloads)
            .caller(
                [&stopped_in_create[..], &[Arrives(Kind::Create, 2), Stop("in flight"), StartLater, Submit, READY_END]]
                    .concat(),
            )
            .tells(format!("create > restored > 4ms > create > restored > 8ms > {DONE}")),
        keyed("after as many stops as attempts nothing is sent again", "R2")
            .creates([held()])
            .keeping(Payloads)
            .caller(
                [
                    &stopped_in_create[..],
                    &[
                        Arrives(Kind::Create, 2),
                        Stop("in flight"),
                        StartLater,
                        Arrives(Kind::Create, 3),
                        Stop("in flight"),
                        StartLater,
                    ],
                    &[Submit, Ends("unresolved: attempts")],
                ]
                .concat(),
            )
            .tells("create > restored > 4ms > create > restored > 8ms > create > restored > unresolved: attempts"),
        unkeyed(
            "a result is told by the next client, and nothing is sent for it",
            "R34, C13; outcomes are delivered at least once",
        )
        .creates([accepted()])
        .polls([ready()])
        .keeping(Answers)
        .caller([Submit, READY_END, Stop(""), Start, MISMATCH, Submit, READY_END, Body(READY)])
        .tells(DONE),
        unkeyed(
            "who only asks how it ended leaves the result to whoever submits its key",
            "README: client.status; R34",
        )
        .creates([accepted()])
        .polls([pending().held(), ready().held()])
        .keeping(Answers)
        .caller([
            Submit,
            Arrives(Kind::Poll, 1),
            Stop("accepted"),
            Start,
            Stands("accepted"),
            LetGo,
            Tells("completed: ready"),
            Stands("completed: ready"),
            Stop(""),
            Start,
            Stands("completed: ready"),
            Submit,
            READY_END,
            Body(READY),
        ])
        .tells("create > accepted > 2ms > poll > restored > poll > completed: ready > restored"),
        unkeyed(
            "what was rejected is told until its key is another job's",
            "README: rejected, the same key is free again",
        )
        .creates([error(400), accepted().held()])
        .polls([ready()])
        .keeping(Records)
        .caller([
            Submit,
            Ends("rejected: refused"),
            Stands("rejected: refused"),
            Submit,
            Stands("in flight"),
            LetGo,
            READY_END,
        ])
        .tells(format!("create > permanent/no > rejected: refused > {DONE}")),
        unkeyed("a job that waits for its payload says so", "C01; README: client.status")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .caller([
                Hold,
                Submit,
                Stop("planned"),
                Start,
                Stands("planned, needs its payload"),
                Submit,
                READY_END,
                Stop(""),
                Start,
                Stands("completed: ready"),
            ])
            .tells(format!("blocked: held > restored > record > {DONE}")),
        unkeyed("without kept answers the outcome alone is told", "README: keep_answers")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .caller([Submit, READY_END, Stop(""), Start, Submit, READY_END, Body("")])
            .tells(DONE),
        unkeyed(
            "what is unresolved stays so, and is polled on when it is asked for",
            "R15; google-cloud-rust#1935, azure-sdk-for-rust#2758",
        )
        .creates([accepted()])
        .polls([error(403), ready()])
        .keeping(Records)
        .caller([Submit, Ends("unresolved: poll refused"), Stop(""), Start, Resume, READY_END])
        .tells(
            "create > accepted > 2ms > poll > permanent/no > unresolved: poll refused > restored > resumed > poll > \
                 completed: ready",
        ),
        unkeyed("a create in doubt stays unresolved for the next client", "R15, R17")
            .creates([lost()])
            .keeping(Payloads)
            .caller([Submit, Ends("unresolved: ambiguous"), Stop(""), Start, Submit, Ends("unresolved: ambiguous")])
            .tells("create > transient/perhaps > unresolved: ambiguous"),
    ]
}

/// What is not on disk is not sent, and not told. R13, R14.
fn disks() -> Vec<Scenario> {
    let (fine, fails, loses, hides) = (None, Some(StoreFault::Fail), Some(StoreFault::Lose), Some(StoreFault::Hide));
    // A journal's calls: load, find, append the intent, append what came of it, …
    vec![
        unkeyed("an intent that cannot be written is refused, and nothing is sent", "R13, I5; C15")
            .keeping(Records)
            .disk([fine, fine, fails])
            .caller([Refused("NotDurable")])
            .tells("not written, for good > rejected: not durable")
            .runs(0),
        unkeyed("once the disk is well again, the key is free", "R13")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .disk([fine, fine, fails])
            .caller([Refused("NotDurable"), Submit, READY_END])
            .tells(format!("not written, for good > rejected: not durable > {DONE}")),
        unkeyed("an acceptance that cannot be written is written again before it is polled", "R14; C08")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .disk([fine, fine, fine, fails, fails])
            .tells("create > accepted > 2ms > not written > not written > poll > completed: ready"),
        unkeyed("an outcome that cannot be written is told once it is", "R14; C12")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .disk([fine, fine, fine, fine, fails])
            .tells("create > accepted > 2ms > poll > not written > completed: ready"),
        unkeyed("a key that cannot be looked for is not taken in", "R13; SubmitError::Unreadable")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .disk([fine, fails])
            .caller([Refused("Unreadable"), Submit, READY_END])
            .tells(DONE),
        unkeyed("an intent that nobody knows to be there is asked for, and was lost", "C15: nobody knows")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .disk([fine, fine, loses])
            .caller([Submit, READY_END])
            .tells(DONE),
        unkeyed("an intent that nobody knows to be there is asked for, and is there", "C15: nobody knows")
            .creates([accepted()])
            .polls([ready()])
            .keeping(Records)
            .disk([fine, fine, hides])
            .tells(DONE),
    ]
}
