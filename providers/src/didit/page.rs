//! The page that a session's person has to open.

use steadfast_core::Reference;

use crate::json::{Object, object};

#[derive(serde::Deserialize)]
struct Told {
    session_id: Option<String>,
    url: Option<String>,
    session_url: Option<String>,
    results: Option<Vec<Object<Self>>>,
}

/// Finds the page that the person of this session must open, in the answer to its create or in the list of sessions in
/// which a look-up found it. `None` if the answer is about another session, or names no page.
///
/// Anyone who has the address can go through the session: hand it to the person, and do not log it.
///
/// ```
/// use steadfast_core::Reference;
/// use steadfast_providers::didit;
///
/// let session = Reference::new("5b37-20ed")?;
/// let created = br#"{"session_id":"5b37-20ed","url":"https://verify.didit.me/session/abc"}"#;
/// assert_eq!(didit::page(created, &session).as_deref(), Some("https://verify.didit.me/session/abc"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn page(answer: &[u8], session: &Reference) -> Option<Box<str>> {
    let told: Told = object(answer)?;
    let rows = told
        .results
        .unwrap_or_default()
        .into_iter()
        .map(|Object(row)| row)
        .map(|row| (row.session_id, row.session_url.or(row.url)));
    let (_, page) = [(told.session_id, told.url.or(told.session_url))]
        .into_iter()
        .chain(rows)
        .find(|(id, _)| id.as_deref() == Some(session.as_str()))?;
    page.filter(|page| !page.is_empty()).map(Into::into)
}
