//! Whether a webhook is genuine: a body of 2 KiB, right each time.
//!
//! Beside the bare HMAC of the same crates, which compares a tag that is bytes already, knows no header, no time and
//! nothing to tell a repeat by. Didit's signed time is a member of the body, so that has to be read as JSON: the last
//! case tells what that costs.

use std::hint::black_box;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderName;
use sha2::Sha256;
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{DiditSignatures, Encoding, Scheme, Verifier};

use crate::measure::{Row, Subject, case};

const SECRET: &str = "a secret of thirty-two characters";
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const BODY: usize = 2_048;

pub fn rows() -> Vec<Row> {
    let header = HeaderName::from_static("x-signature");
    let raw = DiditSignatures { canonical: false, ..DiditSignatures::default() };
    [
        verify("verify 2 KiB, HMAC of the body", Scheme::Hmac { header, encoding: Encoding::Hex, prefix: "".into() }),
        verify("verify 2 KiB, Didit's X-Signature", Scheme::Didit(raw)),
    ]
    .concat()
}

/// As Didit writes them, filled up with a decision.
fn body() -> Vec<u8> {
    let start = r#"{"event_id":"e-1","timestamp":1700000000,"session_id":"s-1","status":"Approved","webhook_type":"status.updated","decision":""#;
    let filler = "x".repeat(BODY - start.len() - 2);
    format!("{start}{filler}\"}}").into_bytes()
}

fn verify(name: &'static str, scheme: Scheme) -> Vec<Row> {
    let body = body();
    let verifier = Verifier::new(scheme, [SECRET]).expect("the secret is good");
    let headers = verifier.sign("", NOW, &body).expect("there is nothing to refuse");
    let mac = || Hmac::<Sha256>::new_from_slice(black_box(SECRET.as_bytes())).expect("any length is good");
    let tag = mac().chain_update(&body).finalize().into_bytes();
    case(
        "webhook",
        name,
        vec![
            Subject::new("steadfast", |count| {
                for _ in 0..count {
                    let verified = verifier.verify(black_box(&headers), black_box(&body), NOW);
                    assert!(black_box(verified).is_ok());
                }
            }),
            Subject::new("hmac", |count| {
                for _ in 0..count {
                    let right = mac().chain_update(black_box(&body)).verify_slice(black_box(&tag));
                    assert!(black_box(right).is_ok());
                }
            }),
        ],
    )
}
