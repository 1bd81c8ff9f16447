//! The provider of a run: one that this program knows, or one that a file describes.

use std::env;
use std::error::Error;
use std::path::Path;

use clap::ValueEnum;
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::didit::Didit;
use steadfast_providers::profile::Profile;
use steadfast_providers::{BaseUrl, Provider};

use super::causes::Advice;
use crate::profile;

/// The providers that this program knows without a file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Known {
    /// Deepvue's asynchronous verifications.
    Deepvue,
    /// Didit's verification sessions.
    Didit,
}

pub(super) struct Chosen {
    pub(super) provider: Box<dyn Provider>,
    pub(super) advice: Advice,
    /// Finds the result in a final answer.
    pub(super) profile: Option<Profile>,
}

pub(super) fn known(which: Known, product: Option<&str>, base_url: &str) -> Result<Chosen, Box<dyn Error>> {
    Ok(match which {
        Known::Deepvue => {
            let names = ["DEEPVUE_ACCESS_TOKEN", "DEEPVUE_CLIENT_SECRET"];
            let [token, secret] = secrets(names)?;
            let product = product.unwrap_or("driving-license");
            let provider = Deepvue::new(BaseUrl::parse(base_url)?, product, Credentials::new(token, secret)?)?;
            let advice = advice(names.join(" and "), "--base-url and --product");
            Chosen { provider: Box::new(provider), advice, profile: None }
        }
        Known::Didit if product.is_some() => {
            return Err("--product is for --provider deepvue: leave it out, Didit's payload names the workflow".into());
        }
        Known::Didit => {
            let names = ["DIDIT_API_KEY"];
            let [key] = secrets(names)?;
            let provider = Didit::new(BaseUrl::parse(base_url)?, key)?;
            Chosen { provider: Box::new(provider), advice: advice(names.concat(), "--base-url"), profile: None }
        }
    })
}

pub(super) fn described(file: &Path, base_url: Option<&str>) -> Result<Chosen, Box<dyn Error>> {
    let profile = profile::read(file)?;
    let env = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let provider = match base_url {
        Some(base_url) => profile.connect_at(BaseUrl::parse(base_url)?, env)?,
        None => profile.connect(env)?,
    };
    // What only webhooks are known by is in no request, so it is not why one was refused.
    let sent = profile.secrets().into_iter().filter(|(field, _)| field != "webhook.secrets");
    let names: Vec<&str> = sent.map(|(_, name)| name).collect();
    let advice = advice(names.join(" and "), "the paths in the profile, and --base-url");
    Ok(Chosen { provider: Box::new(provider), advice, profile: Some(profile) })
}

fn advice(credentials: String, address: &'static str) -> Advice {
    Advice { credentials, address }
}

fn secrets<const N: usize>(names: [&str; N]) -> Result<[String; N], String> {
    let values = names.map(|name| env::var(name).unwrap_or_default());
    let missing: Vec<&str> =
        names.into_iter().zip(&values).filter(|(_, value)| value.is_empty()).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Ok(values);
    }
    let (variables, they_are) = if missing.len() == 1 { ("variable", "it is") } else { ("variables", "they are") };
    Err(format!("set the environment {variables} {}: {they_are} unset or empty", missing.join(" and ")))
}
