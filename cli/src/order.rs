//! Calls whose words are in the wrong order: `ops` has its file before the command, all others behind it.
//!
//! What clap says of such a call is true of the word that is left over, and does not tell what to change.

use std::ffi::OsString;

use clap::error::{ContextKind, Error, ErrorKind};
use clap::{Command, CommandFactory};

use crate::Cli;

/// An error that says the right order, if that is what was wrong with a call of these words.
pub(crate) fn wrong(error: &Error, words: impl Iterator<Item = OsString>) -> Option<Error> {
    // A misspelt command is no misplaced one, and clap says which was meant.
    if error.get(ContextKind::SuggestedSubcommand).is_some() {
        return None;
    }
    let words: Vec<String> =
        words.filter_map(|word| word.into_string().ok()).filter(|it| !it.starts_with('-')).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut cli = Cli::command();
    cli.build();
    let (named, what) = match (error.kind(), &words[..]) {
        (ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument, ["ops", command, ..]) => {
            let named = find(&mut cli, &["ops", command])?;
            (named, format!("the journal comes before the command: `steadfast ops FILE {command} …`"))
        }
        (ErrorKind::InvalidSubcommand, ["profile", _, command, ..]) => {
            let named = find(&mut cli, &["profile", command])?;
            (named, format!("the command comes before the file: `steadfast profile {command} …`"))
        }
        (ErrorKind::InvalidSubcommand, [_, command, ..]) => {
            (find(&mut cli, &[command])?, format!("the command comes first: `steadfast {command} …`"))
        }
        _ => return None,
    };
    Some(named.error(error.kind(), what))
}

fn find<'a>(cli: &'a mut Command, path: &[&str]) -> Option<&'a mut Command> {
    path.iter().try_fold(cli, |command, name| command.find_subcommand_mut(name))
}
