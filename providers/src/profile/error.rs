//! What is wrong with a profile, and where; and why a good one cannot be connected. Neither repeats a secret.

use super::file::Place;
use crate::webhook::SetupError;
use crate::{BaseUrlError, SecretError};

/// A profile was refused: the line, the field, what is wrong with it, and what would be right.
///
/// ```
/// use steadfast_providers::profile::Profile;
///
/// let wrong = Profile::parse("name = \"acme\"\nbase_url = \"http://api.example.com\"").unwrap_err();
/// assert_eq!((wrong.line(), wrong.field()), (2, "base_url"));
/// assert!(wrong.to_string().starts_with("line 2, base_url: "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}{}: {problem}", place.line, place.named())]
pub struct ProfileError {
    place: Place,
    problem: Box<str>,
}

impl ProfileError {
    pub(super) fn new(place: &Place, problem: impl Into<Box<str>>) -> Self {
        Self { place: place.clone(), problem: problem.into() }
    }

    /// Which line of the file, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.place.line
    }

    /// Which field, from the top: `poll.state.values`. Empty where the text is no TOML.
    #[must_use]
    pub const fn field(&self) -> &str {
        &self.place.field
    }

    /// What is wrong with it, and what would be right.
    #[must_use]
    pub const fn problem(&self) -> &str {
        &self.problem
    }
}

/// Why a profile cannot be connected to its provider. It names variables and never repeats what is in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A secret that the requests need is not in the environment.
    #[error("the environment has no {variable}, which the profile's {field} needs: set it")]
    Missing {
        /// The variable.
        variable: Box<str>,
        /// The field that names it.
        field: Box<str>,
    },
    /// A secret cannot be put into a request.
    #[error("the environment's {variable} cannot be used: {why}")]
    Secret {
        /// The variable.
        variable: Box<str>,
        /// What is wrong with it.
        why: SecretError,
    },
    /// The URL that was given in the place of the profile's is none.
    #[error(transparent)]
    BaseUrl(#[from] BaseUrlError),
    /// The webhooks' secrets are none.
    #[error("the webhooks' secrets ({variables}) cannot be used: {why}")]
    Webhooks {
        /// The variables, in the order of the secrets.
        variables: Box<str>,
        /// What is wrong with one of them.
        why: SetupError,
    },
}
