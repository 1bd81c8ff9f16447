//! A profile that is connected: with its secrets, at its URL, it is a [`Provider`].

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{AnswerDigest, Class, Failure};
use steadfast_core::{Kind, OperationPolicy, Timestamp};

use super::template::{Held, Secrets};
use super::{ConnectError, Profile};
use crate::webhook::Verifier;
use crate::{Answer, Ask, BaseUrl, Provider, RequestError, Secret, WebhookError, WebhookEvent, status};

/// A provider that a file describes. Made by [`Profile::connect`]; see the [module](super).
///
/// Clones share the secrets, so keep one to [`renew`](Self::renew) them under a running client.
#[derive(Clone, Debug)]
pub struct ProfileProvider {
    profile: Arc<Profile>,
    base: BaseUrl,
    secrets: Secrets,
    webhooks: Option<Verifier>,
}

impl Profile {
    /// Makes the provider that this profile describes, at the profile's own URL, with the secrets that `env` returns
    /// for the profile's variable names.
    ///
    /// Webhooks are accepted under any of their secrets that the environment has; without one the provider accepts no
    /// webhooks.
    ///
    /// ```
    /// use steadfast_providers::Provider;
    /// use steadfast_providers::profile::{self, Profile};
    ///
    /// let profile = Profile::parse(profile::shipped("didit").unwrap_or_default())?;
    /// let didit = profile.connect(|name| (name == "DIDIT_API_KEY").then(|| "secret".to_owned()))?;
    /// assert_eq!(didit.name(), "didit/session");
    /// assert!(!didit.has_webhooks());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A secret that is missing, empty, or holds anything but visible ASCII.
    pub fn connect(&self, env: impl Fn(&str) -> Option<String>) -> Result<ProfileProvider, ConnectError> {
        self.connect_at(self.base.clone(), env)
    }

    /// Makes the provider at another URL: a sandbox, a regional host, a fake.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_at(
        &self,
        base: BaseUrl,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<ProfileProvider, ConnectError> {
        let webhooks = self.hook.as_ref().map(|hook| hook.verifier(&env)).transpose()?.flatten();
        let provider = ProfileProvider { profile: Arc::new(self.clone()), base, secrets: Secrets::default(), webhooks };
        provider.renew(env)?;
        Ok(provider)
    }
}

impl ProfileProvider {
    /// Reads the secrets for requests again, for all clones and from the next request on: a token lasts a day, and a
    /// job may be older. (The webhooks' secrets stay.)
    ///
    /// # Errors
    /// As [`Profile::connect`]; the old secrets stay.
    pub fn renew(&self, env: impl Fn(&str) -> Option<String>) -> Result<(), ConnectError> {
        let mut all = Held::new();
        for (field, variable) in self.profile.variables() {
            let missing = || ConnectError::Missing { variable: variable.into(), field: field.into() };
            let secret = Secret::new(env(variable).ok_or_else(missing)?);
            let secret = secret.map_err(|why| ConnectError::Secret { variable: variable.into(), why })?;
            all.insert(variable.into(), secret);
        }
        self.secrets.replace(all);
        Ok(())
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }
}

impl Provider for ProfileProvider {
    fn name(&self) -> &str {
        &self.profile.name
    }

    fn policy(&self) -> OperationPolicy {
        self.profile.policy.clone()
    }

    fn gate(&self) -> GatePolicy {
        self.profile.gate.clone()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let call = self.profile.call(ask.kind).ok_or(RequestError::Unsupported(ask.kind))?;
        if ask.kind == Kind::Poll {
            let reference = ask.reference.ok_or(RequestError::NoReference)?;
            let known = self
                .profile
                .reference()
                .is_none_or(|checks| checks.checked(reference.as_str(), self.profile.around(&self.base)).is_some());
            if !known {
                return Err(RequestError::Unsendable("reference"));
            }
        }
        call.sent.fill(ask, &self.base, &self.profile.origins, &self.secrets.held())
    }

    fn route(&self, kind: Kind) -> Option<String> {
        self.profile.call(kind)?.sent.route(&self.base)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        self.profile.read_at(answer, &self.base)
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        self.profile.waits.quota(answer)
    }

    fn is_unauthorized(&self, answer: &Answer<'_>) -> bool {
        let call = self.profile.call(answer.kind);
        call.is_some_and(|call| call.read.status(answer) == StatusCode::UNAUTHORIZED)
            || self.read(answer).is_err_and(|failure| failure.class == Class::Unauthorized)
    }

    fn stored(&self, answer: &Answer<'_>) -> Option<AnswerDigest> {
        if self.profile.stores_failures { status::stored(answer) } else { None }
    }

    fn decision(&self, answer: &Answer<'_>) -> Option<Box<str>> {
        self.profile.poll.as_ref()?.read.decision(answer)
    }

    fn has_webhooks(&self) -> bool {
        self.webhooks.is_some()
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        let (Some(verifier), Some(hook)) = (&self.webhooks, &self.profile.hook) else {
            return Err(WebhookError::Unsupported);
        };
        let verified = verifier.verify(headers, body, wall)?;
        let polled = self.profile.poll.as_ref().and_then(|poll| poll.read.state.as_ref());
        Ok(hook.event(verified, body, self.profile.reference(), polled, self.profile.around(&self.base)))
    }
}
