//! The library's log, on stderr: errors, such as why a journal fails, unless `RUST_LOG` names another level.
//!
//! It shows only this project's own events, which hold no payload, key or credentials; other libraries may log such
//! things at low levels.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Turns the log on.
pub(crate) fn start() {
    let level = level(&std::env::var("RUST_LOG").unwrap_or_default());
    // If stderr is closed or full, reporting that would panic, in whichever task was logging.
    let log = tracing_subscriber::fmt().with_max_level(level).log_internal_errors(false);
    let printing = log.with_writer(std::io::stderr).finish();
    // It fails only if there is a log already.
    let _ = printing.with(Targets::new().with_target("steadfast", level)).try_init();
}

/// Reads a plain level word; a finer filter is not supported.
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
