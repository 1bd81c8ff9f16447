//! What waits for which commit, and what is sent again.

use steadfast_core::SendSafety;
use steadfast_core::operation::{Outcome, Rejected, Stage, Unresolved};
use steadfast_driver::{Builder, Command, Renew, RenewError, RenewsBy, ResumeError};
use steadfast_providers::Provider;

use super::support::{self, Plain, START, Slow, answer, created, polled, resume, run, run_until_sent, started, turn};

/// The record that its outcome was told is on its way when it is resumed: not that one makes it durable that it goes
/// on.
#[test]
fn whoever_resumes_is_told_once_that_is_durable_and_not_by_an_earlier_commit() {
    let store = Slow::default();
    let mut driver = started(SendSafety::Unsafe, &store);
    let (following, _poll, now) = polled(&mut driver, "order-1");
    driver.command(Command::Cancel(following.id.unwrap()), now);
    // That it was told waits a moment for another commit to go with.
    run(&mut driver, now);
    let unresolved = Outcome::Unresolved(Unresolved::Cancelled);
    assert_eq!(store.stage("order-1"), Stage::Ended(unresolved));
    let now = driver.next_deadline().unwrap();
    let (_, marks) = turn(&mut driver, now);
    let resumed = resume(&mut driver, "order-1", now);
    driver.worked(marks.unwrap().run_one(), now);
    let (_, resumes) = turn(&mut driver, now);
    assert!(resumed.try_recv().is_err(), "a crash would leave it as it had ended");
    assert_eq!(store.stage("order-1"), Stage::Delivered(unresolved));
    driver.worked(resumes.unwrap().run_one(), now);
    assert_eq!(turn(&mut driver, now).0.len(), 1);
    assert!(resumed.try_recv().unwrap().is_ok());
    assert_eq!(store.stage("order-1"), Stage::Accepted);
}

struct Renewing;

impl<F: Fn() + Send + Sync + 'static> RenewsBy<F, ()> for Renewing {
    fn hook(renew: F) -> Renew {
        Renew::by_call(move || {
            renew();
            Ok::<_, RenewError>(())
        })
    }
}

/// However long a renewal has to rest, and however many attempts there are: what renewed credentials are refused for is
/// the provider's word.
#[test]
fn a_create_that_is_refused_for_its_credentials_is_sent_once_more_and_not_again() {
    let provider = Plain(SendSafety::Unsafe);
    let policy = provider.policy();
    let create = policy.create().clone().with_attempts(9).unwrap();
    let policy = policy.with_create(create).unwrap();
    let builder = Builder::<_, _, Renewing>::new(provider, ()).policy(policy).store(Slow::default());
    let mut driver = support::driver(builder.renew_credentials(|| ()));
    run(&mut driver, START);
    let (following, create) = created(&mut driver, "order-1", START);
    answer(&mut driver, create, 401, "", START);
    let (again, now) = run_until_sent(&mut driver, START);
    answer(&mut driver, again, 401, "", now);
    assert_eq!(run(&mut driver, now).len(), 0);
    let finished = following.finished.try_recv().unwrap().read();
    assert_eq!((finished.outcome, finished.creates), (Outcome::Rejected(Rejected::Refused), 2));
}

/// As a submit is. It goes on by itself once the disk has room, and who resumes it again follows it.
#[test]
fn whoever_resumes_on_a_full_disk_is_told_so_and_does_not_wait_until_it_has_room() {
    let store = Slow::default();
    let mut driver = started(SendSafety::Unsafe, &store);
    let (following, _poll, now) = polled(&mut driver, "order-1");
    driver.command(Command::Cancel(following.id.unwrap()), now);
    run(&mut driver, now);
    store.is_full(true);
    let resumed = resume(&mut driver, "order-1", now);
    assert_eq!(run(&mut driver, now).len(), 0);
    assert!(matches!(resumed.try_recv().expect("it is told"), Err(ResumeError::Journal(_))));

    let again = resume(&mut driver, "order-1", now);
    store.is_full(false);
    let (poll, now) = run_until_sent(&mut driver, now);
    answer(&mut driver, poll, 200, "", now);
    run(&mut driver, now);
    assert_eq!(again.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read().outcome.name(), "completed");
}
