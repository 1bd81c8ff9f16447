//! Reports failures: to people on stderr, and with `--json` to programs on stdout too.

use std::error::Error;
use std::ffi::OsStr;

use serde::Serialize;

/// What a program gets on stdout instead of the result. No other object has an `error`.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    /// The causes, the nearest first.
    because: &'a [String],
}

/// Whether a JSON object was asked for, read from the raw arguments: it also counts if the rest of the call is wrong.
pub(crate) fn is_object_asked_for() -> bool {
    std::env::args_os().skip(1).take_while(|word| word != OsStr::new("--")).any(|word| word == OsStr::new("--json"))
}

/// Reports an error and its causes.
pub(crate) fn tell(error: &dyn Error, json: bool) {
    let (mut because, mut cause) = (Vec::new(), error.source());
    while let Some(error) = cause {
        because.push(error.to_string());
        cause = error.source();
    }
    let error = error.to_string();
    eprintln!("steadfast: {error}");
    for cause in &because {
        eprintln!("  because: {cause}");
    }
    if json {
        object(&error, &because);
    }
}

/// Prints the JSON object for an error that stderr already shows.
pub(crate) fn object(error: &str, because: &[String]) {
    if let Ok(object) = serde_json::to_string(&Failure { error, because }) {
        println!("{object}");
    }
}

/// For a call that was not understood: what was wrong with it, without the usage text.
pub(crate) fn object_of_call(error: &clap::Error) {
    let said = error.render().to_string();
    let what = said.split("\n\n").next().unwrap_or_default();
    object(what.strip_prefix("error: ").unwrap_or(what), &[]);
}
