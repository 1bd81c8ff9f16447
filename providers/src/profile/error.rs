//! What is wrong with a profile, and where; and why a good one cannot be connected. Neither repeats a secret.

pub use crate::document::DocumentError as ProfileError;
use crate::webhook::SetupError;
use crate::{BaseUrlError, SecretError};

/// Why a profile cannot be connected to its provider. It names variables and never repeats their values.
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
    /// The URL given in place of the profile's own is not valid.
    #[error(transparent)]
    BaseUrl(#[from] BaseUrlError),
    /// The webhooks' secrets are not valid.
    #[error("the webhooks' secrets ({variables}) cannot be used: {why}")]
    Webhooks {
        /// The variables that are set in the environment, in the order of the secrets.
        variables: Box<str>,
        /// What is wrong with one of them.
        why: SetupError,
    },
}
