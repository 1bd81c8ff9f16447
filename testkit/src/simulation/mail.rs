//! Webhooks as they travel: signed by the provider, forged by others, and opened by the process only if their signature
//! is right.

use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Reference, Timestamp};
use steadfast_providers::webhook::{DEFAULT_TOLERANCE, Scheme, Verifier};

/// The content of a webhook.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) key: Key,
    pub(super) reference: Reference,
    /// `None`: only that something has changed.
    pub(super) reading: Option<Reading>,
}

/// A webhook on its way.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    headers: HeaderMap,
    body: String,
    signed: Timestamp,
}

impl Delivery {
    /// Whether a process with this clock must accept the webhook, if it is genuine.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        // A signature's time has whole seconds.
        let off = now.saturating_since(self.signed).max(self.signed.saturating_since(now));
        off + Duration::from_secs(1) < DEFAULT_TOLERANCE
    }
}

/// The provider's secret, and one that a forger made up.
#[derive(Debug)]
pub(super) struct Post {
    ours: Verifier,
    theirs: Verifier,
    sent: u64,
}

/// The ways to forge a webhook.
#[derive(Clone, Copy, Debug)]
pub(super) enum Forgery {
    /// Signs with a secret of its own.
    WrongSecret,
    /// Puts other content under an overheard signature.
    OtherWords,
    /// Sends an hour-old delivery again.
    Replay,
}

impl Post {
    pub(super) fn new() -> Self {
        let verifier =
            |secret: &str| Verifier::new(Scheme::StandardWebhooks, [secret]).expect("base64 after its prefix");
        Self {
            ours: verifier("whsec_c3RlYWRmYXN0LXNpbXVsYXRpb24tc2VjcmV0"),
            theirs: verifier("whsec_c29tZWJvZHktZWxzZXMtd2ViaG9vay1rZXkh"),
            sent: 0,
        }
    }

    pub(super) fn seal(&mut self, mail: &Mail, at: Timestamp) -> Delivery {
        self.sent += 1;
        let body = written(mail);
        let headers = self.ours.sign(&format!("msg_{}", self.sent), at, body.as_bytes()).expect("a short id");
        Delivery { headers, body, signed: at }
    }

    pub(super) fn forge(&mut self, mail: &Mail, how: Forgery, at: Timestamp) -> Delivery {
        let reading = if mail.reading == Some(Reading::Failed) { Reading::Ready } else { Reading::Failed };
        let lie = written(&Mail { reading: Some(reading), ..mail.clone() });
        match how {
            Forgery::WrongSecret => {
                let headers = self.theirs.sign("msg_forged", at, lie.as_bytes()).expect("a short id");
                Delivery { headers, body: lie, signed: at }
            }
            Forgery::OtherWords => Delivery { body: lie, ..self.seal(mail, at) },
            Forgery::Replay => self.seal(mail, at.saturating_sub(Duration::from_secs(3_600))),
        }
    }

    /// The content, if the webhook may be believed.
    pub(super) fn open(&self, delivery: &Delivery, now: Timestamp) -> Option<Mail> {
        self.ours.verify(&delivery.headers, delivery.body.as_bytes(), now).ok()?;
        let body: Value = serde_json::from_str(&delivery.body).ok()?;
        let text = |name: &str| body.get(name)?.as_str();
        let reading = text("status").map(|status| match status {
            "ready" => Reading::Ready,
            "failed" => Reading::Failed,
            "undecided" => Reading::Undecided,
            _ => Reading::Pending { hint: None },
        });
        Some(Mail { key: Key::new(text("key")?).ok()?, reference: Reference::new(text("reference")?).ok()?, reading })
    }
}

fn written(mail: &Mail) -> String {
    let status = mail.reading.as_ref().map(|reading| match reading {
        Reading::Ready => "ready",
        Reading::Failed => "failed",
        Reading::Undecided => "undecided",
        _ => "pending",
    });
    json!({ "key": mail.key.as_str(), "reference": mail.reference.as_str(), "status": status }).to_string()
}
