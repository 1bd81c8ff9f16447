//! Explains "was refused" and "met trouble": a line before the notice, with the answer's status or the chain of causes.
//!
//! It never shows a body, a header or a key: the line goes to a terminal, or to a log.

use std::error::Error;

use bytes::Bytes;
use http::{Response, StatusCode};
use steadfast_core::Key;
use steadfast_tokio::{Outgoing, SendError, Transport};

use crate::ops::plain;

/// Sends through another transport, and prints what became of one job's requests. A journal may hold other jobs.
#[derive(Debug)]
pub(super) struct Telling<T> {
    pub(super) transport: T,
    pub(super) key: Key,
}

impl<T: Transport> Transport for Telling<T> {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let is_ours = outgoing.key == self.key;
        let answered = self.transport.send(outgoing).await;
        if is_ours {
            let what = match &answered {
                Ok(answer) => status(answer.status()),
                Err(error) => chain(error),
            };
            // Indented to where the timeline's sentences begin.
            eprintln!("{:16}{}", "", plain(&what));
        }
        answered
    }
}

fn status(status: StatusCode) -> String {
    format!("HTTP {} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()).trim_end().to_owned()
}

fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors already repeat their cause.
        if !said.ends_with(&text) {
            said = format!("{said}: {text}");
        }
        cause = error.source();
    }
    said
}

/// Hints where the outcome's own words do not say what to look at.
pub(super) struct Advice {
    /// The environment variables that hold credentials.
    pub(super) credentials: String,
    /// The setting that says where the API is.
    pub(super) address: &'static str,
}

impl Advice {
    /// The hint after an answer with this status.
    pub(super) fn on(&self, status: StatusCode) -> Option<String> {
        let Self { credentials, address } = self;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(format!(
                "the provider did not take the credentials, or they may not do this: check {credentials} (a token may have expired), and that --base-url is \
                 where they are valid"
            )),
            StatusCode::NOT_FOUND => Some(format!("the provider has nothing at this address: check {address}")),
            _ if status.is_redirection() => Some(
                "the provider points elsewhere, and credentials are not taken there: give the final address as --base-url".to_owned(),
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_a_name_is_its_number() {
        assert_eq!(status(StatusCode::FOUND), "HTTP 302 Found");
        assert_eq!(status(StatusCode::from_u16(599).unwrap()), "HTTP 599");
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let said = chain(&SendError::not_sent().because(refused));
        assert_eq!(said, "no connection to the provider could be made: connection refused");
    }
}
