//! Why a call through a layer gave no response.

use std::error::Error;
use std::time::Duration;

use steadfast_core::gate::Blocked;
use steadfast_core::retry::{Certainty, Class, Failure};

use crate::Refused;

/// Why a call gave no response. `E` is the inner service's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError<E> {
    /// The inner service was not called.
    #[error(transparent)]
    Refused(Refused),
    /// It was called and gave no response in time. It may have done its work.
    #[error("no response came within {after:?}")]
    #[non_exhaustive]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// It failed.
    #[error(transparent)]
    Failed(E),
    /// It failed, and an earlier attempt may have been executed: whatever this error says of the last one, it does not
    /// prove that the request was not executed. Returned by a [`RetryLayer`](super::RetryLayer) only.
    #[error(transparent)]
    Ambiguous(E),
    /// The last response was a failure, and the inner service did not become ready before the deadline to be sent the
    /// request again. Returned by a [`RetryLayer`](super::RetryLayer) only. The response is gone: while it was kept,
    /// it would have held its connection.
    #[error("the deadline passed before the request could be sent again: the last response was a failure ({})", last.class.name())]
    #[non_exhaustive]
    DeadlinePassed {
        /// The failure that the response was taken for. Its certainty is that of all attempts; its `retry_after` is
        /// what the pause has left of it.
        last: Failure,
    },
}

impl<E> LayerError<E> {
    /// What failure it is; `of` classifies the inner service's error.
    ///
    /// A refused call was certainly not executed, and may be made again when the refusal says; if the retry budget is
    /// spent, or an operator has isolated the upstream, repeating it is pointless. After an
    /// [ambiguous](Self::Ambiguous) attempt nothing is certain, whatever `of` says.
    ///
    /// ```
    /// use steadfast_core::retry::{Certainty, Class, Failure};
    /// use steadfast_tokio::tower::LayerError;
    ///
    /// let error = LayerError::Failed(std::io::ErrorKind::ConnectionRefused);
    /// let failure = error.failure(|_| Failure::new(Class::Transient, Certainty::NotExecuted));
    /// assert_eq!(failure.certainty, Certainty::NotExecuted);
    /// ```
    #[must_use]
    pub fn failure(&self, of: impl FnOnce(&E) -> Failure) -> Failure {
        match self {
            Self::Refused(Refused { why: Blocked::Budget, .. } | Refused { retry_in: Duration::MAX, .. }) => {
                Failure::new(Class::Permanent, Certainty::NotExecuted)
            }
            Self::Refused(refused) => {
                Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(refused.retry_in))
            }
            Self::TimedOut { .. } => Failure::new(Class::TimedOut, Certainty::MayHaveExecuted),
            Self::Failed(error) => of(error),
            Self::Ambiguous(error) => {
                let mut failure = of(error);
                failure.certainty = failure.certainty.max(Certainty::MayHaveExecuted);
                failure
            }
            Self::DeadlinePassed { last } => *last,
        }
    }

    /// The inner service's error, if it was called and failed.
    #[must_use]
    pub fn into_failed(self) -> Option<E> {
        match self {
            Self::Failed(error) | Self::Ambiguous(error) => Some(error),
            Self::Refused(_) | Self::TimedOut { .. } | Self::DeadlinePassed { .. } => None,
        }
    }
}

impl<E> LayerError<E>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    /// Converts it into the error type that most of tower's own layers have. The inner service's error is in it as it
    /// was; a refusal can be found by `downcast_ref` as [`Refused`], a time-out and a deadline as [`std::io::Error`]
    /// of the kind `TimedOut`.
    ///
    /// It no longer says whether an earlier attempt may have been executed: ask [`failure`](Self::failure) first.
    ///
    /// ```
    /// use steadfast_tokio::tower::LayerError;
    ///
    /// let failed: LayerError<Box<dyn std::error::Error + Send + Sync>> = LayerError::Failed("down".into());
    /// assert_eq!(failed.boxed().to_string(), "down");
    /// ```
    #[must_use]
    pub fn boxed(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::Refused(refused) => refused.into(),
            Self::TimedOut { after } => {
                let what = format!("no response came within {after:?}");
                std::io::Error::new(std::io::ErrorKind::TimedOut, what).into()
            }
            Self::DeadlinePassed { last } => {
                let class = last.class.name();
                let what = format!("the deadline passed before the request could be sent again ({class})");
                std::io::Error::new(std::io::ErrorKind::TimedOut, what).into()
            }
            Self::Failed(error) | Self::Ambiguous(error) => error.into(),
        }
    }
}
