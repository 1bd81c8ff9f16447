//! The example of a driver without std, an allocator of its own or a runtime.

#[path = "../examples/radio.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod radio;

use radio::Fate;

/// I6, I7: whichever frames are lost, and whenever power fails, no reading is passed on twice, and what the meters
/// believe is so.
#[test]
fn each_reading_is_passed_on_once_whatever_the_air_swallows() {
    let none = radio::report(|_| Fate::Answered).unwrap();
    assert_eq!((none.frames, none.lost, none.passed_on), (4 * 3, 0, [1; radio::METERS]));
    let mut completed = 0;
    for seed in 0_u64..200 {
        let seed = steadfast_core::Seed::new(seed);
        let draw = |frame: u32| seed.derive(u64::from(frame));
        let fate = |frame| match (draw(frame).between(0, 9), draw(frame).derive(1).between(0, 2)) {
            (2.., _) => Fate::Answered,
            (_, 0) => Fate::Lost,
            (_, 1) => Fate::AnswerLost,
            _ => Fate::Reset,
        };
        let report = radio::report(fate).unwrap();
        for (end, passed_on) in report.outcomes.iter().zip(report.passed_on) {
            match end.map_or("none", |end| end.name()) {
                "completed" => assert_eq!(passed_on, 1),
                name => assert_eq!((name, passed_on < 2), ("unresolved", true), "{report:?}"),
            }
            completed += u32::from(end.is_some_and(|end| end.name() == "completed"));
        }
    }
    assert!(completed > 780, "{completed} of 800");
}

#[test]
fn a_reset_at_any_frame_loses_no_reading() {
    for reset in 1..=12 {
        let report = radio::report(|frame| if frame == reset { Fate::Reset } else { Fate::Answered }).unwrap();
        let completed = report.outcomes.iter().all(|end| end.is_some_and(|end| end.name() == "completed"));
        assert_eq!((completed, report.passed_on, report.frames), (true, [1; radio::METERS], 13), "{report:?}");
    }
}
