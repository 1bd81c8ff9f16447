//! Idempotency keys derived from what the program itself calls a job.

use hmac::Mac;
use steadfast_core::{Key, KeyError};

use crate::Secret;
use crate::fingerprint::{keyed, shorten};

/// Derives the key of the job that the program identifies by these parts: 32 hex digits, the first 16 bytes of
/// HMAC-SHA256 under the secret.
///
/// Use it where a program's own names cannot be keys: they hold personal data, are easily guessed, or repeat between
/// tenants of one account at the provider. The same parts always give the same key, also after a restart or a restored
/// backup, so nothing need be stored; with a secret for each tenant, no two tenants share a key. To run a job again
/// once it is certain that nothing ran under the old key, put a generation number among the parts: it gives a new key.
///
/// ```
/// use steadfast_providers::{Secret, derived_key};
///
/// let secret = Secret::new("of-this-tenant")?;
/// let key = derived_key(&secret, &["customer 42", "licence", "1"])?;
/// assert_eq!(key, derived_key(&secret, &["customer 42", "licence", "1"])?);
/// assert_ne!(key, derived_key(&secret, &["customer 42", "licence", "2"])?);
/// assert_eq!(key.as_str().len(), 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// None in practice: 32 hex digits are always a valid key.
pub fn derived_key(secret: &Secret, parts: &[&str]) -> Result<Key, KeyError> {
    let mut mac = keyed(secret.expose().as_bytes());
    for part in parts {
        // Each part is hashed with its length, so that two different lists of parts never hash the same bytes.
        mac = mac.chain_update((part.len() as u64).to_be_bytes()).chain_update(part);
    }
    let number = u128::from_be_bytes(*shorten(mac.finalize().into_bytes().into()).as_bytes());
    Key::new(format!("{number:032x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn other_parts_and_other_secrets_are_other_keys(
            parts in prop::collection::vec(".{0,6}", 0..4),
            others in prop::collection::vec(".{0,6}", 0..4),
        ) {
            let [one, other] = ["one", "other"].map(Secret::from);
            let [parts, others]: [Vec<&str>; 2] = [&parts, &others].map(|it| it.iter().map(String::as_str).collect());
            prop_assert_eq!(derived_key(&one, &parts).unwrap() == derived_key(&one, &others).unwrap(), parts == others);
            prop_assert_ne!(derived_key(&one, &parts).unwrap(), derived_key(&other, &parts).unwrap());
        }
    }

    /// A change here gives every job a new key, and so runs it again. From Python: `hmac.new(b"secret",
    /// struct.pack(">Q", 1) + b"a", "sha256").hexdigest()[:32]`.
    #[test]
    fn a_vector_that_must_not_change() {
        assert_eq!(derived_key(&Secret::from("secret"), &["a"]).unwrap().as_str(), "726f6caae1b8ae51de61fec12b162b4c");
    }
}
