//! Runs simulated histories, one per seed, and says what they met and what broke.

mod report;
mod timeline;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use steadfast_testkit::simulation::{Flaw, History, Options, simulate};

use crate::report::{MOST_VIOLATIONS, Report};

/// The name of threads that run histories: what panics there is a finding, not a failure of this program.
const HISTORIES: &str = "histories";

thread_local! {
    /// Where the history that this thread runs has panicked.
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A history takes well under a second. One that takes so long has met a step that does not return.
const PATIENCE: Duration = Duration::from_secs(120);

/// A history; of one that panicked, with the place.
fn run(seed: u64, options: &Options) -> History {
    PANICKED_AT.set(None);
    let mut history = simulate(seed, options);
    if let (Some(violation), Some(at)) = (&mut history.violation, PANICKED_AT.take()) {
        violation.detail = format!("{} ({at})", violation.detail);
    }
    history
}

/// Carries jobs through simulated outages, crashes and lost answers, and checks that none runs twice and none is lost.
#[derive(Debug, Parser)]
#[command(
    name = "soak",
    after_help = "Exit codes: 0 every invariant held; 1 one did not, or in 100 histories or more a kind of fault, crash or check was \
                  never met, so that they prove less than they should; 2 called wrongly; 130 stopped by Ctrl-C.",
    max_term_width = 120
)]
struct Arguments {
    /// How many histories to run. Default: 1000, or as many as there is time for if `--seconds` is given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this one history only, and tell it from begin to end.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seconds", "threads"])]
    seed: Option<u64>,
    /// Stop after so many seconds, however many histories were run.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// How many threads; each history runs on one. Default: one per core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Break the engine on purpose, to see how a violation is found and told.
    #[arg(long, value_parser = PossibleValuesParser::new(Flaw::ALL.map(Flaw::name)).try_map(|name| flaw_of(&name)))]
    flaw: Option<Flaw>,
    /// List the invariants, how often each was checked, and what they say.
    #[arg(long)]
    invariants: bool,
    /// The result as one JSON object.
    #[arg(long)]
    json: bool,
}

fn flaw_of(name: &str) -> Result<Flaw, String> {
    Flaw::ALL.into_iter().find(|flaw| flaw.name() == name).ok_or_else(|| format!("there is no flaw {name}"))
}

impl Arguments {
    /// How many histories; `u64::MAX` if only the time counts.
    fn histories(&self) -> u64 {
        self.seeds.unwrap_or_else(|| if self.seconds.is_some() { u64::MAX } else { 1_000 })
    }

    fn options(&self) -> Options {
        Options { flaw: self.flaw, ..Options::default() }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if thread::current().name() == Some(HISTORIES) {
            let place = panic.location().map_or_else(String::new, ToString::to_string);
            PANICKED_AT.set(Some(place));
        } else {
            tell(panic);
        }
    }));
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = stopped.clone();
    if let Err(error) = ctrlc::set_handler(move || stop.store(true, Ordering::Relaxed)) {
        eprintln!("Ctrl-C will end this without a report: {error}");
    }
    let (text, code) = match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments, &stopped),
    };
    // Who reads only the beginning has seen enough.
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("the report could not be written: {error}");
            ExitCode::FAILURE
        }
        _ => code,
    }
}

/// One history, told from begin to end; and if it breaks something, the smallest one that does.
fn one(seed: u64, arguments: &Arguments) -> (String, ExitCode) {
    let started = Instant::now();
    let mut report = Report::new(arguments.options(), 1);
    let mut told = String::new();
    thread::scope(|scope| {
        let history = || {
            let history = run(seed, &Options { record: true, ..arguments.options() });
            told = timeline::told(&history);
            report.add(seed, history);
        };
        let running = thread::Builder::new().name(HISTORIES.into()).spawn_scoped(scope, history);
        running.expect("a thread can be started").join().expect("a panic in a history is caught there");
    });
    report.finish(started.elapsed());
    let code = report.code();
    if arguments.json {
        return (report.json(), code);
    }
    (format!("{told}\n{}", report.text(arguments.invariants)), code)
}

/// Histories on every core, until all are run, the time is over, or somebody stops them.
fn many(arguments: &Arguments, stopped: &AtomicBool) -> (String, ExitCode) {
    let threads = arguments.threads.map(usize::from).or_else(|| thread::available_parallelism().ok().map(usize::from));
    let (started, histories) = (Instant::now(), arguments.histories());
    let limit = arguments.seconds.map(Duration::from_secs);
    let bar = progress(histories);
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let under_way = Mutex::new(BTreeMap::new());
    let (send, receive) = mpsc::channel();
    let mut report = Report::new(arguments.options(), histories);
    thread::scope(|scope| {
        for _ in 0..threads.unwrap_or(1) {
            let send = send.clone();
            let (next, over, under_way) = (&next, &over, &under_way);
            let work = move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let late = limit.is_some_and(|limit| started.elapsed() >= limit);
                    if n >= histories || late || over.load(Ordering::Relaxed) || stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = arguments.from.wrapping_add(n);
                    locked(under_way).insert(seed, Instant::now());
                    let history = run(seed, &arguments.options());
                    locked(under_way).remove(&seed);
                    if send.send((seed, history)).is_err() {
                        return;
                    }
                }
            };
            let running = thread::Builder::new().name(HISTORIES.into()).spawn_scoped(scope, work);
            running.expect("a thread can be started");
        }
        drop(send);
        loop {
            let (seed, history) = match receive.recv_timeout(Duration::from_secs(1)) {
                Ok(ran) => ran,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let endless = |(_, began): &(&u64, &Instant)| began.elapsed() > PATIENCE;
                    if let Some((seed, _)) = locked(&under_way).iter().find(endless) {
                        eprintln!("seed {seed} does not come to an end: a step of its history never returns");
                        std::process::exit(1);
                    }
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            report.add(seed, history);
            bar.inc(1);
            if report.violations() > 0 {
                bar.set_message(format!("{} violations, ", report.violations()));
            }
            // More of the same would tell nothing new.
            over.fetch_or(report.violations() >= MOST_VIOLATIONS, Ordering::Relaxed);
        }
    });
    bar.finish_and_clear();
    report.finish(started.elapsed());
    let code = if stopped.load(Ordering::Relaxed) { ExitCode::from(130) } else { report.code() };
    (if arguments.json { report.json() } else { report.text(arguments.invariants) }, code)
}

fn locked(under_way: &Mutex<BTreeMap<u64, Instant>>) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

fn progress(histories: u64) -> ProgressBar {
    let counted = Some(histories).filter(|histories| *histories < u64::MAX);
    let bar = ProgressBar::with_draw_target(counted, ProgressDrawTarget::stderr_with_hz(4));
    let style = match counted {
        Some(_) => "{bar:40} {pos}/{len} histories, {per_sec}, {msg}{eta} left",
        None => "{spinner} {pos} histories, {per_sec}, {msg}{elapsed} gone",
    };
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
