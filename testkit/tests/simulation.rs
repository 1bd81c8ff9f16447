//! The simulator itself: a whole engine passes, and one that is broken on purpose does not.

use steadfast_testkit::simulation::{Flaw, Invariant, Options, shrink, simulate};

/// What must give each flaw away: any of these invariants.
const fn given_away_by(flaw: Flaw) -> &'static [Invariant] {
    use Invariant::{I, R};
    match flaw {
        Flaw::SendBeforePersist => &[I(5), R(13)],
        Flaw::NewKeyOnRetry => &[I(4), R(10)],
        Flaw::CapBeforeJitter => &[I(1), R(1)],
        Flaw::ForgetLateReference => &[R(18)],
        Flaw::LeakPermitOnCancel => &[I(8), I(17)],
        Flaw::RetryUnkeyedTimeout => &[I(7), R(17)],
        Flaw::AttemptsOffByOne => &[I(2), R(2)],
        Flaw::PollAfterWebhook => &[R(29), R(30), R(31)],
        Flaw::AcceptAnotherFingerprint => &[I(4), R(12)],
        Flaw::SkipDeadline => &[I(2), R(3)],
        _ => &[],
    }
}

#[test]
fn each_flaw_is_caught_within_200_seeds() {
    for flaw in Flaw::ALL {
        let options = Options { flaw: Some(flaw), ..Options::default() };
        let found = (0..200).find_map(|seed| simulate(seed, &options).violation.map(|violation| (seed, violation)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{flaw:?} was not caught"));
        println!("{flaw:?} is caught by seed {seed}: {} ({})", violation.invariant, violation.detail);
        assert!(given_away_by(flaw).contains(&violation.invariant), "{flaw:?} shows as {violation:?}");
    }
}

#[test]
fn a_whole_engine_breaks_nothing() {
    for seed in 0..60 {
        let violation = simulate(seed, &Options::default()).violation;
        assert_eq!(violation, None, "seed {seed}");
    }
}

#[test]
fn i13_a_seed_gives_the_same_history_each_time() {
    let options = Options { record: true, ..Options::default() };
    for seed in [3, 4, 5] {
        assert_eq!(simulate(seed, &options), simulate(seed, &options));
    }
}

#[test]
fn what_is_left_out_does_not_happen() {
    let calm = Options { without_crashes: true, ..Options::default() };
    let crashes = |options: &Options| (0..40).flat_map(|seed| simulate(seed, options).crashes_at).sum::<u64>();
    assert_eq!(crashes(&calm), 0);
    assert!(crashes(&Options::default()) > 40);
}

#[test]
fn a_shrunk_history_breaks_the_same_invariant_with_fewer_faults() {
    let options = Options { flaw: Some(Flaw::SendBeforePersist), record: true, ..Options::default() };
    let found = (0..200).map(|seed| (seed, simulate(seed, &options))).find(|(_, history)| history.violation.is_some());
    let (seed, history) = found.expect("the flaw shows");
    let smallest = shrink(seed, &options);
    let smaller = simulate(seed, &smallest);
    let which =
        |violation: &Option<steadfast_testkit::simulation::Violation>| violation.as_ref().map(|it| it.invariant);
    assert_eq!(which(&smaller.violation), which(&history.violation));
    assert!(smallest.without_faults.len() > 20, "one flaw needs few faults to show");
}
