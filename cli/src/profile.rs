//! `steadfast profile`: descriptions of providers in files, checked before they are trusted.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use steadfast_providers::profile::{self, Checked, Profile, Recorded};

use crate::ops::{name, plain};
use crate::{check, input};

/// Check a file that describes a provider, or look at those that come with this program.
///
/// A description (a *profile*) is a TOML, JSON or YAML file that says what a provider's requests look like and what its
/// answers mean. `steadfast run --profile FILE` carries a job by it. To write one, begin with one that is there:
/// `steadfast profile show replicate > acme.toml`.
///
/// Exit codes: 0 all is well; 1 an answer is not read as it should be; 64 called wrongly, or the file is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Describe in words what a profile says, and how it reads recorded answers. Nothing is sent, and no secret is
    /// needed.
    Check {
        /// The file, or the name of a profile that comes with this program.
        file: PathBuf,
        /// Recorded answers to try it with: JSON, `{"answers": [{"name", "kind": "create|lookup|poll", "status",
        /// "headers", "body", "read"}]}`. An answer without `read` is shown with a `?`. Default, for a profile that
        /// comes with this program: the answers that come with it.
        #[arg(long, value_name = "FILE")]
        answers: Option<PathBuf>,
        /// Print one JSON object instead of text, also of a failure: {"error": …, "because": […]}.
        #[arg(long)]
        json: bool,
    },
    /// List the profiles that come with this program.
    List,
    /// Print a profile that comes with this program.
    Show {
        /// Its name.
        name: String,
    },
}

pub(crate) fn profile(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    match &args.command {
        Command::Check { file, answers, json } => try_out(file, answers.as_deref(), *json),
        Command::List => {
            for (name, text) in profile::SHIPPED {
                println!("{name:16} {}", about(text));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { name } => {
            print!("{}", shipped(name)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The profile in this file, or the one that comes with this program under this name.
pub(crate) fn read(file: &Path) -> Result<Profile, Box<dyn Error>> {
    let profile = match name_of_shipped(file) {
        Some(name) => Profile::parse(shipped(name)?),
        None => Profile::read_from(&check::document(file, "profile")?),
    };
    Ok(profile.map_err(|error| format!("{}, {error}", name(file)))?)
}

fn try_out(file: &Path, path: Option<&Path>, json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let profile = read(file)?;
    let answers = match path {
        Some(path) => Some(text_of(path, "recorded answers")?),
        None => name_of_shipped(file).and_then(profile::recorded).map(str::to_owned),
    };
    let recorded = answers.map(|text| Recorded::parse(&text)).transpose().map_err(|error| match path {
        Some(path) => format!("{}: {error}", name(path)),
        None => error.to_string(),
    });
    let recorded = recorded?.unwrap_or_default();
    let checked = profile.check(&recorded);
    let all_agree = checked.iter().all(Checked::agrees);
    let missing: Vec<&str> = profile.secrets().into_iter().map(|(_, name)| name).filter(|name| !is_set(name)).collect();
    if json {
        let answers = recorded.iter().zip(&checked).map(|(recorded, checked)| Line::of(recorded, checked)).collect();
        println!("{}", serde_json::to_string(&Report { name: profile.name(), well: all_agree, missing, answers })?);
    } else {
        check::describe(&profile);
        if !missing.is_empty() {
            println!("  not set    {}", missing.join(", "));
        }
        if checked.is_empty() {
            println!("\nno answers to try it with: give some with --answers");
        } else {
            println!("\n{}", table(&recorded, &checked));
        }
    }
    Ok(if all_agree { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn table(recorded: &[Recorded], checked: &[Checked]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "",
        "recorded answer",
        "to a",
        "status",
        "is read as",
        "and should be",
    ]);
    if let Some(columns) = check::columns() {
        let columns = u16::try_from(columns).unwrap_or(u16::MAX);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    for (recorded, checked) in recorded.iter().zip(checked) {
        let Line { name, kind, status, read, expected, well } = Line::of(recorded, checked);
        let expected = expected.filter(|_| !well).unwrap_or_default();
        let (name, read, expected) = (plain(name), plain(read), plain(expected));
        let mark = if checked.expected.is_none() {
            "?"
        } else if well {
            "✓"
        } else {
            "✗"
        };
        table.add_row([mark, &*name, &kind, &status.to_string(), &*read, &*expected]);
    }
    table
}

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    /// Whether all answers are read as they should be.
    well: bool,
    /// Secrets that are missing from the environment.
    missing: Vec<&'a str>,
    answers: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    kind: String,
    status: u16,
    read: &'a str,
    expected: Option<&'a str>,
    well: bool,
}

impl<'a> Line<'a> {
    fn of(recorded: &'a Recorded, checked: &'a Checked) -> Self {
        Self {
            name: &checked.name,
            kind: format!("{:?}", recorded.kind).to_lowercase(),
            status: recorded.status.as_u16(),
            read: &checked.read,
            expected: checked.expected.as_deref(),
            well: checked.agrees(),
        }
    }
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| !value.is_empty())
}

/// The name of a shipped profile. A file of that name takes precedence.
pub(crate) fn name_of_shipped(file: &Path) -> Option<&str> {
    file.to_str().filter(|name| profile::shipped(name).is_some() && !file.exists())
}

fn shipped(name: &str) -> Result<&'static str, String> {
    let names = || profile::SHIPPED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    profile::shipped(name).ok_or_else(|| format!("there is no profile {name:?} here: there are {}", names()))
}

fn text_of(path: &Path, what: &str) -> Result<String, String> {
    let text = input::file(path, input::MOST).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    text.map_err(|error| format!("the {what} {} cannot be read: {error}", name(path)))
}

/// Its description, up to the source.
fn about(text: &str) -> &str {
    let first = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
    first.split([',', '(']).next().and_then(|words| words.split(" by ").next()).unwrap_or_default().trim()
}
