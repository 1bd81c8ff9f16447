//! The library's log, on stderr: errors, such as why a journal fails, unless `RUST_LOG` names another level.
//!
//! Only this project's own events, which hold no payload, key or credentials; what other libraries log at low levels may.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// From now on, what is logged is seen.
pub(crate) fn start() {
    let level = level(&std::env::var("RUST_LOG").unwrap_or_default());
    // Where stderr is closed or full, to tell of that there would panic, in whichever task it was that logged.
    let log = tracing_subscriber::fmt().with_max_level(level).log_internal_errors(false);
    let printing = log.with_writer(std::io::stderr).finish();
    // It fails only if there is a log already.
    let _ = printing.with(Targets::new().with_target("steadfast", level)).try_init();
}

/// A plain level word. What is meant for a finer filter is none.
fn level(text: &str) -> LevelFilter {
    text.trim().parse().unwrap_or(LevelFilter::ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_word_and_errors_are_shown_by_default() {
        assert_eq!(level(""), LevelFilter::ERROR);
        assert_eq!(level("debug "), LevelFilter::DEBUG);
        assert_eq!(level("off"), LevelFilter::OFF);
        assert_eq!(level("hyper=trace"), LevelFilter::ERROR);
    }
}
