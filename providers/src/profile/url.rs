//! A reference that is a URL: an answer's `Location` or `Operation-Location`.
//!
//! Credentials go with every request, so such a URL is followed only to the base URL's own origin, or to one that the
//! profile allows by name. A URL without scheme and host belongs to the base URL's origin.

use http::Uri;

use super::ProfileError;
use super::file::Table;
use crate::BaseUrl;

/// Origins that a status URL may have beside the base URL's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(pub(super) Vec<BaseUrl>);

impl Origins {
    pub(super) fn parse(root: &Table<'_>) -> Result<Self, ProfileError> {
        let Some(list) = root.get("allow_origins") else { return Ok(Self::default()) };
        let origin = |value: super::file::Value<'_>| {
            let base = BaseUrl::parse(value.text()?).or_else(|error| value.refuse(error.to_string()))?;
            if base.is_origin() {
                Ok(base)
            } else {
                value.refuse("has a path: an origin is scheme and host, and a port")
            }
        };
        list.list()?.into_iter().map(origin).collect::<Result<_, _>>().map(Self)
    }

    /// The URL that a reference stands for, if it may be followed.
    pub(super) fn url(&self, base: &BaseUrl, reference: &str) -> Option<Uri> {
        // Some clients take a backslash for a slash, and a fragment is never sent.
        if reference.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'#')) {
            return None;
        }
        if reference.starts_with('/') && !reference.starts_with("//") {
            return base.at_origin(reference);
        }
        let (_, rest) = reference.split_once("://")?;
        let authority = rest.split(['/', '?']).next()?;
        let url: Uri = reference.parse().ok()?;
        let known =
            !authority.contains('@') && core::iter::once(base).chain(&self.0).any(|base| base.is_origin_of(&url));
        known.then_some(url)
    }
}
