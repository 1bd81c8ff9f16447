//! Providers described in a file.

mod inverse;
mod properties;
mod recorded;
mod refused;
mod requests;
mod same;
mod shapes;
mod webhooks;

use http::{HeaderMap, StatusCode};
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, Kind, Timestamp};
use steadfast_providers::profile::{Profile, ProfileError, ProfileProvider, shipped};
use steadfast_providers::{Answer, Provider};

const WALL: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A profile of which each test changes a part.
const ACME: &str = r#"
name = "acme/scan"
base_url = "https://api.example.com/kyc"
headers = { authorization = "Bearer {env.ACME_TOKEN}" }

[policy]
safety = { keyed = { window = "24h" } }

[create]
path = "/v1/scans"
key = { header = "Idempotency-Key" }
reference = { pointer = "/id" }

[poll]
path = "/v1/scans/{reference}"
state = { pointer = "/status", values = { queued = "pending", done = "ready", error = "failed" } }
"#;

fn key() -> Key {
    Key::new("order-42").unwrap()
}

/// The profile with one of its lines in other words.
fn acme(line: &str, other: &str) -> Result<Profile, ProfileError> {
    assert!(ACME.contains(line), "{line}");
    Profile::parse(&ACME.replacen(line, other, 1))
}

fn connect(profile: &Profile) -> ProfileProvider {
    let secret = |name: &str| match name {
        // Of Standard Webhooks, whose secrets are base64.
        "REPLICATE_WEBHOOK_SECRET" | "REPLICATE_WEBHOOK_SECRET_OLD" => "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnk=".to_owned(),
        _ => format!("canary-{name}"),
    };
    profile.connect(|name| Some(secret(name))).unwrap()
}

fn didit() -> Profile {
    Profile::parse(shipped("didit").unwrap()).unwrap()
}

fn deepvue() -> Profile {
    Profile::parse(shipped("deepvue").unwrap()).unwrap()
}

fn read(profile: &Profile, kind: Kind, status: u16, body: &str) -> Result<Reading, Failure> {
    let (headers, key) = (HeaderMap::new(), key());
    let status = StatusCode::from_u16(status).unwrap();
    let answer = Answer::new(kind, status, &headers, body.as_bytes(), WALL).about(&key);
    let told = profile.read(&answer);
    assert_eq!(told, connect(profile).read(&answer), "connected or not");
    told
}
