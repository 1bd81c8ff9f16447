//! How long a provider asks us to wait, whichever header says it.

use core::time::Duration;

use http::HeaderMap;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Class, Failure};

use super::ProfileError;
use super::file::Table;
use crate::rate_limit::{Reset, quota};
use crate::retry_after::retry_after;
use crate::{Answer, status};

/// Which headers about waiting are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) retry_after: bool,
    /// `None`: rate-limit headers are ignored.
    pub(super) reset: Option<Reset>,
    /// A throttled answer without `Retry-After` waits until the window ends.
    pub(super) wait_for_reset: bool,
}

pub(super) const RESETS: [(&str, Option<Reset>); 5] = [
    ("guess", Some(Reset::Guess)),
    ("delta-seconds", Some(Reset::DeltaSeconds)),
    ("epoch-seconds", Some(Reset::EpochSeconds)),
    ("epoch-millis", Some(Reset::EpochMillis)),
    ("ignored", None),
];

impl Waits {
    pub(super) fn parse(root: &Table<'_>) -> Result<Self, ProfileError> {
        let flag = |name, default| root.get(name).map_or(Ok(default), |value| value.boolean());
        let retry_after = flag("retry_after", true)?;
        let reset = root.get("rate_limit_reset").map_or(Ok(Some(Reset::Guess)), |value| value.word(&RESETS))?;
        let wait_for_reset = match root.get("wait_for_reset") {
            Some(value) if value.boolean()? && reset.is_none() => {
                return value.refuse("waits for what rate_limit_reset ignores");
            }
            Some(value) => value.boolean()?,
            None => false,
        };
        Ok(Self { retry_after, reset, wait_for_reset })
    }

    pub(super) fn hint(self, answer: &Answer<'_>) -> Option<Duration> {
        if self.retry_after { retry_after(answer.headers, answer.wall) } else { None }
    }

    pub(super) fn quota(self, answer: &Answer<'_>) -> Option<Quota> {
        quota(answer.headers, self.reset?, answer.wall)
    }

    /// The failure that the status stands for.
    pub(super) fn failure(self, answer: &Answer<'_>) -> Failure {
        let deaf = HeaderMap::new();
        let failure = status::failure(&if self.retry_after { *answer } else { Answer { headers: &deaf, ..*answer } });
        self.until_reset(failure, answer)
    }

    /// The same failure; if it is throttled and has no wait, with the end of the window.
    pub(super) fn until_reset(self, failure: Failure, answer: &Answer<'_>) -> Failure {
        if !self.wait_for_reset || failure.class != Class::Throttled || failure.retry_after.is_some() {
            return failure;
        }
        let ends = self.quota(answer).and_then(|quota| quota.reset);
        failure.with_retry_after(ends.filter(|wait| *wait > Duration::ZERO))
    }
}
