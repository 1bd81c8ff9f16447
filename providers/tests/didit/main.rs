//! Didit's profile: what is sent, and what an answer may and may not be taken for.

mod answers;
mod properties;
mod requests;
mod screenings;
mod webhooks;

use http::{HeaderMap, StatusCode};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, Reference, Timestamp};
use steadfast_providers::didit::{Didit, DiditAml};
use steadfast_providers::{Answer, BaseUrl, Provider};

const WALL: Timestamp = Timestamp::from_secs(1_700_000_000);
const API_KEY: &str = "canary-api-key-7731";
const SESSION: &str = "5b3720ed-d429-42ef-b67f-37ea805f48ee";
const CANARY: &str = "canary-body-3317";

fn base() -> BaseUrl {
    BaseUrl::parse(Didit::PRODUCTION).unwrap()
}

fn didit() -> Didit {
    Didit::new(base(), API_KEY).unwrap()
}

fn aml() -> DiditAml {
    DiditAml::new(base(), API_KEY).unwrap()
}

fn key() -> Key {
    Key::new("order-42").unwrap()
}

fn read(provider: &impl Provider, kind: Kind, status: u16, body: &str) -> Result<Reading, Failure> {
    let (headers, key) = (HeaderMap::new(), key());
    let status = StatusCode::from_u16(status).unwrap();
    provider.read(&Answer::new(kind, status, &headers, body.as_bytes(), WALL).about(&key))
}

fn create(status: u16, body: &str) -> Result<Reading, Failure> {
    read(&didit(), Kind::Create, status, body)
}

fn lookup(status: u16, body: &str) -> Result<Reading, Failure> {
    read(&didit(), Kind::Lookup, status, body)
}

fn poll(status: u16, body: &str) -> Result<Reading, Failure> {
    read(&didit(), Kind::Poll, status, body)
}

fn accepted(id: &str) -> Result<Reading, Failure> {
    Ok(Reading::Accepted(Reference::new(id).unwrap()))
}

fn unknown_outcome() -> Result<Reading, Failure> {
    Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted))
}

fn unusable() -> Result<Reading, Failure> {
    Err(Failure::new(Class::Transient, Certainty::NotExecuted))
}
