//! One session's life: which status it has when.

use std::time::Duration;

use steadfast_core::{Seed, Timestamp};
use steadfast_providers::didit::Status;

use super::FakeDidit;
use crate::faults::share;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    /// `session_number`: from 1.
    pub(super) number: u64,
    pub(super) vendor_data: Option<String>,
    pub(super) workflow: String,
    /// The workflow's version when the session was created.
    pub(super) version: u32,
    pub(super) created_at: Timestamp,
    pub(super) metadata: serde_json::Value,
    /// When it takes on which status; the first at its creation.
    course: Vec<(Timestamp, Status)>,
}

impl Session {
    pub(super) fn new(number: u64, workflow: String, version: u32, now: Timestamp, settings: &FakeDidit) -> Self {
        let draw = settings.habits.seed.derive_bytes(b"sessions").derive(number);
        Self {
            id: uuid(draw),
            number,
            vendor_data: None,
            workflow,
            version,
            created_at: now,
            metadata: serde_json::Value::Null,
            course: course(draw, now, settings),
        }
    }

    /// When it takes on which status; the first at its creation.
    pub(super) fn course(&self) -> &[(Timestamp, Status)] {
        &self.course
    }

    pub(super) fn status(&self, now: Timestamp) -> &Status {
        let reached = self.course.iter().rev().find(|(from, _)| *from <= now);
        reached.map_or(&Status::NotStarted, |(_, status)| status)
    }

    /// Whether a create with the same `vendor_data` gets this session back: docs.didit.me/sessions-api/create-session.
    pub(super) fn is_unfinished(&self, now: Timestamp) -> bool {
        use Status::{AwaitingUser, InProgress, NotStarted, Resubmitted};
        matches!(self.status(now), NotStarted | InProgress | Resubmitted | AwaitingUser)
    }
}

/// Draws what happens: somebody opens it and goes through it, or not. A reviewer may have to look, and may send it
/// back.
fn course(draw: Seed, created_at: Timestamp, settings: &FakeDidit) -> Vec<(Timestamp, Status)> {
    let mut at = created_at;
    let mut course = vec![(at, Status::NotStarted)];
    let mut then = |after: Duration, status: Status| {
        at = at.saturating_add(settings.habits.scaled(after));
        course.push((at, status));
    };
    let between = |salt: u64, (least, most): (Duration, Duration)| {
        let most = most.max(least);
        Duration::from_nanos(draw.derive(salt).between(least.as_nanos() as u64, most.as_nanos() as u64))
    };
    let person = |salt| between(salt, settings.person_time);
    let decision = |salt| if share(draw.derive(salt)) < 0.8 { Status::Approved } else { Status::Declined };
    if share(draw.derive(1)) < settings.undecided {
        let gone = settings.person_time.1.saturating_mul(2);
        if share(draw.derive(2)) < 0.5 {
            then(gone, Status::Expired);
        } else {
            then(person(3), Status::InProgress);
            then(gone, Status::Abandoned);
        }
        return course;
    }
    then(person(3) / 4, Status::InProgress);
    if settings.business {
        then(person(4), Status::AwaitingUser);
        then(person(5), Status::InProgress);
    }
    if share(draw.derive(6)) >= settings.reviewed {
        then(person(7), decision(8));
        return course;
    }
    then(person(7), Status::InReview);
    if share(draw.derive(9)) < 0.2 {
        then(between(10, settings.review_time), Status::Resubmitted);
        then(person(11) / 4, Status::InProgress);
        then(person(12), Status::InReview);
    }
    then(between(13, settings.review_time), decision(8));
    course
}

pub(super) fn uuid(draw: Seed) -> String {
    let (high, low) = (draw.derive(100).value(), draw.derive(101).value());
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use steadfast_providers::didit::Stage;

    use super::*;

    /// docs.didit.me/integration/verification-statuses.
    #[test]
    fn every_course_goes_as_didit_says_and_every_status_occurs() {
        let start = Timestamp::from_secs(1_700_000_000);
        for business in [false, true] {
            let settings = FakeDidit::new(1).with_business(business);
            let mut seen = BTreeMap::new();
            for number in 1..=1_000 {
                let session = Session::new(number, "w".into(), 1, start, &settings);
                let times: Vec<_> = session.course.iter().map(|(from, _)| *from).collect();
                assert!(times.is_sorted() && times[0] == start);
                assert_eq!(session.status(start), &Status::NotStarted);
                let steps = session.course.windows(2).map(|pair| (&pair[0].1, &pair[1].1));
                for (before, after) in steps {
                    use Status::{
                        Abandoned, Approved, AwaitingUser, Declined, Expired, InProgress, InReview, NotStarted,
                        Resubmitted,
                    };
                    assert!(
                        matches!(
                            (before, after),
                            (NotStarted, InProgress | Expired)
                                | (InProgress, Approved | Declined | InReview | Abandoned | AwaitingUser)
                                | (AwaitingUser | Resubmitted, InProgress)
                                | (InReview, Approved | Declined | Resubmitted)
                        ),
                        "{before} → {after}"
                    );
                    *seen.entry(after.to_string()).or_insert(0) += 1;
                }
                let last = session.course.last().unwrap().1.stage();
                assert!(matches!(last, Stage::Decided | Stage::EndedUndecided));
            }
            assert_eq!(seen.len(), if business { 8 } else { 7 }, "{seen:?}");
        }
    }
}
