//! `steadfast`: see the library carry jobs through a provider that misbehaves (`demo`), carry one real job
//! (`run`), look into a client's journal (`ops`), or check a provider's description (`profile`) or any file of policies
//! (`check`).

/// As the standard one, except if stdout is closed or full: that is reported, and ends the program without a panic.
macro_rules! println {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        if let Err(error) = writeln!(std::io::stdout(), $($what)*) {
            $crate::stdout_failed(&error);
        }
    }};
}

macro_rules! print {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        if let Err(error) = write!(std::io::stdout(), $($what)*).and_then(|()| std::io::stdout().flush()) {
            $crate::stdout_failed(&error);
        }
    }};
}

/// As [`println!`], but for bytes.
macro_rules! print_bytes {
    ($bytes:expr) => {{
        use std::io::Write as _;
        let mut stdout = std::io::stdout();
        if let Err(error) = stdout.write_all($bytes).and_then(|()| stdout.flush()) {
            $crate::stdout_failed(&error);
        }
    }};
}

/// As the standard one, except if stderr is closed: its text is for people, and a job goes on without it.
macro_rules! eprintln {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

mod body;
mod check;
mod demo;
mod failure;
mod input;
mod log;
mod ops;
mod order;
mod profile;
mod pulse;
mod report;
mod run;
mod scrape;
mod timeline;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Carries jobs through unreliable APIs: submitted once, polled well, never run twice.
///
/// Errors are logged on stderr; RUST_LOG with one level (warn, info, debug, trace, or off) changes how much.
///
/// With --json, where a command has it, a failure prints one object too: {"error": …, "because": […]}, what went wrong
/// and its causes. Exit codes are the same.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Demo(demo::Args),
    /// The client of a demo with --kill: started by that demo only.
    #[command(hide = true)]
    DemoChild,
    Ops(ops::Args),
    Profile(profile::Args),
    Run(run::Args),
}

/// The output is lost, so the exit code must not be that of a success.
fn stdout_failed(error: &std::io::Error) -> ! {
    // A reader such as `head` closes the pipe early; that is no error.
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(CLOSED);
    }
    eprintln!("steadfast: the result could not be written to standard output: {error}");
    std::process::exit(USAGE.into());
}

/// The shell's code for a program that was ended by a closed pipe (128 and SIGPIPE), so that it is not taken for a
/// wrong file.
const CLOSED: i32 = 141;

/// Called wrongly (BSD's `EX_USAGE`): clap's own 2 would mean "rejected".
const USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let json = failure::is_object_asked_for();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = order::wrong(&error, std::env::args_os().skip(1)).unwrap_or(error);
            let usage = error.use_stderr();
            // If an error message cannot be printed, the exit code still tells; if requested help cannot be printed, it
            // would not.
            if let Err(error) = error.print()
                && !usage
            {
                stdout_failed(&error);
            }
            if usage && json {
                failure::object_of_call(&error);
            }
            return if usage { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    log::start();
    outlive_the_limit_on_files();
    let done = match cli.command {
        Command::Check(args) => check::check(&args),
        Command::Demo(args) => demo::demo(args).await,
        Command::DemoChild => demo::child().await,
        Command::Ops(args) => ops::ops(args),
        Command::Profile(args) => profile::profile(&args),
        Command::Run(args) => run::run(args).await,
    };
    done.unwrap_or_else(|error| {
        failure::tell(&*error, json);
        ExitCode::from(USAGE)
    })
}

/// Makes a limit on the file size (`ulimit -f`) look like a full disk, which is reported: without a handler, the signal
/// kills the process.
#[cfg(all(unix, not(any(target_arch = "mips", target_arch = "mips64"))))]
fn outlive_the_limit_on_files() {
    use tokio::signal::unix::{SignalKind, signal};
    // SIGXFSZ, which `SignalKind` has no name for. The handler stays when this is dropped; if it cannot be installed,
    // nothing changes.
    let _ = signal(SignalKind::from_raw(25));
}

#[cfg(not(all(unix, not(any(target_arch = "mips", target_arch = "mips64")))))]
const fn outlive_the_limit_on_files() {}
