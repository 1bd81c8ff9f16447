//! A webhook's address is open to all: what is not signed by a secret of ours is refused, whatever it looks like.
//!
//! The cases of `webhook.json`, read out of the suites of Standard Webhooks and Stripe that it names, and this
//! project's own `hostile_inputs.json` are replayed in `oracles.rs`.

mod deliveries;
mod didit;
mod event;
mod hostile;
mod oracles;
mod properties;
mod secrets;
mod token;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{DiditSignatures, Encoding, Scheme, Verifier};

const NOW: u64 = 1_700_000_000;

fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

fn github() -> Scheme {
    let header = HeaderName::from_static("x-hub-signature-256");
    Scheme::Hmac { header, encoding: Encoding::Hex, prefix: "sha256=".into() }
}

fn base64_scheme() -> Scheme {
    Scheme::Hmac { header: HeaderName::from_static("x-sig"), encoding: Encoding::Base64, prefix: "".into() }
}

/// Didit's `X-Signature` alone, which is one signature over all bytes as the others' are. All three together are in
/// `didit.rs`.
fn didit_raw() -> Scheme {
    Scheme::Didit(DiditSignatures { raw: true, canonical: false, simple: false })
}

fn persona() -> Scheme {
    Scheme::Timed { header: HeaderName::from_static("persona-signature") }
}

fn schemes() -> [Scheme; 6] {
    [Scheme::StandardWebhooks, Scheme::Stripe, persona(), didit_raw(), github(), base64_scheme()]
}

/// A secret as each scheme writes it.
fn written(scheme: &Scheme, secret: &str) -> String {
    match scheme {
        Scheme::StandardWebhooks => format!("whsec_{}", STANDARD.encode(secret)),
        _ => secret.to_owned(),
    }
}

fn verifier(scheme: &Scheme, secrets: &[&str]) -> Verifier {
    Verifier::new(scheme.clone(), secrets.iter().map(|secret| written(scheme, secret))).unwrap()
}

/// A body in which Didit finds its time, with this text in it.
fn body(at: u64, text: &str) -> Vec<u8> {
    serde_json::json!({ "event_id": "evt_1", "id": "evt_1", "note": text, "timestamp": at }).to_string().into_bytes()
}

fn has_time(scheme: &Scheme) -> bool {
    !matches!(scheme, Scheme::Hmac { .. })
}
