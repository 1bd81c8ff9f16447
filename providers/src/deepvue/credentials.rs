//! The credentials that Deepvue knows its caller by.

use core::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Uri};

use super::SetupError;
use crate::{RequestError, Secret};

const ACCESS_TOKEN: &str = "access token";
const CLIENT_SECRET: &str = "client secret";

/// An access token (`Authorization: Bearer …`) and a client secret (`x-api-key`).
///
/// `POST /v1/authorize` gives the token, which lasts 24 hours. Clones share it, so keep one to
/// [`renew`](Credentials::renew) the token under a running client. Nothing here shows a secret: `Debug` is redacted,
/// and the headers are marked sensitive.
///
/// ```
/// use steadfast_providers::deepvue::{Credentials, Deepvue};
/// use steadfast_providers::BaseUrl;
///
/// let credentials = Credentials::new("today's-token", "client-secret")?;
/// let deepvue = Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION)?, "driving-license", credentials.clone())?;
///
/// credentials.renew("tomorrow's-token")?; // `deepvue` sends this one from now on
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Credentials {
    access_token: Arc<RwLock<Secret>>,
    client_secret: Secret,
}

impl Credentials {
    /// Checks both and keeps them.
    ///
    /// # Errors
    /// One that is empty, or holds anything but visible ASCII: a line break would split the header.
    pub fn new(access_token: impl Into<Secret>, client_secret: impl Into<Secret>) -> Result<Self, SetupError> {
        Ok(Self {
            access_token: Arc::new(RwLock::new(access_token.into().checked(ACCESS_TOKEN)?)),
            client_secret: client_secret.into().checked(CLIENT_SECRET)?,
        })
    }

    /// Replaces the access token, for all clones and from the next request on.
    ///
    /// # Errors
    /// As [`Credentials::new`]; the old token stays.
    pub fn renew(&self, access_token: impl Into<Secret>) -> Result<(), SetupError> {
        let token = access_token.into().checked(ACCESS_TOKEN)?;
        *self.access_token.write().unwrap_or_else(PoisonError::into_inner) = token;
        Ok(())
    }

    /// A request with these credentials.
    pub(super) fn request(&self, method: Method, url: Uri, body: Bytes) -> Result<Request<Bytes>, RequestError> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = url;
        request.headers_mut().insert(AUTHORIZATION, self.authorization()?);
        request.headers_mut().insert("x-api-key", self.api_key()?);
        Ok(request)
    }

    /// The value of `Authorization`.
    fn authorization(&self) -> Result<HeaderValue, RequestError> {
        self.access_token.read().unwrap_or_else(PoisonError::into_inner).bearer()
    }

    /// The value of `x-api-key`.
    fn api_key(&self) -> Result<HeaderValue, RequestError> {
        self.client_secret.header()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}
