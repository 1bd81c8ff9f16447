//! The fingerprint of a payload.

use hmac::digest::Key as Block;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use steadfast_core::{Fingerprint, Key};

use crate::Payload;

/// Computes the fingerprint that shows whether a repeated submit of `key` carries the same payload: the first 16 bytes
/// of HMAC-SHA256(key, payload).
///
/// It is written to the journal, so it is keyed: a payload here is a licence number and a date of birth, which a plain
/// hash would give away to anyone with a table of all of them. With the key in it, no table made beforehand helps, and
/// two jobs about the same person have nothing in common.
///
/// It is neither encryption nor a signature. Anyone who has the journal has the key beside the fingerprint, and may
/// test guesses about one job at a time; protect the journal as you protect the data.
///
/// ```
/// use steadfast_core::Key;
/// use steadfast_providers::{Payload, fingerprint};
///
/// let key = Key::new("order-42")?;
/// let payload = Payload::from(r#"{"dl_number":"DL1234567890"}"#);
/// assert_eq!(fingerprint(&key, &payload), fingerprint(&key, &payload.clone()));
/// assert_ne!(fingerprint(&key, &payload), fingerprint(&Key::new("order-43")?, &payload));
/// # Ok::<(), steadfast_core::KeyError>(())
/// ```
#[must_use]
pub fn fingerprint(key: &Key, payload: &Payload) -> Fingerprint {
    let tag = keyed(key.as_str().as_bytes()).chain_update(payload.bytes()).finalize();
    shorten(tag.into_bytes().into())
}

/// HMAC-SHA256 under this key, of nothing yet.
pub(crate) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new(&block(key))
}

/// The first 16 bytes of what was hashed.
pub(crate) fn shorten(tag: [u8; 32]) -> Fingerprint {
    let mut hash = [0; 16];
    hash.copy_from_slice(&tag[..16]);
    Fingerprint::new(hash)
}

/// HMAC's own rule for keys (RFC 2104): padded to a block with zeros, or hashed first where longer than one.
///
/// `Hmac::new_from_slice` does the same behind a `Result` that is never an error.
fn block(key: &[u8]) -> Block<Hmac<Sha256>> {
    let mut block = Block::<Hmac<Sha256>>::default();
    if key.len() > block.len() {
        let hashed = Sha256::digest(key);
        block[..hashed.len()].copy_from_slice(&hashed);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_hmac_sha256_cut_to_16_bytes(key in "[!-~]{1,255}", payload: Vec<u8>) {
            let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
            mac.update(&payload);
            let ours = fingerprint(&Key::new(key).unwrap(), &Payload::from(payload));
            prop_assert_eq!(ours.as_bytes().as_slice(), &mac.finalize().into_bytes()[..16]);
        }

        #[test]
        fn one_other_bit_gives_another_fingerprint(payload in prop::collection::vec(any::<u8>(), 1..64), at: usize) {
            let key = Key::new("order-42").unwrap();
            let mut other = payload.clone();
            other[at % payload.len()] ^= 1;
            prop_assert_ne!(fingerprint(&key, &Payload::from(payload)), fingerprint(&key, &Payload::from(other)));
        }
    }

    /// RFC 4231, test case 2. A change here orphans every journal ever written.
    #[test]
    fn published_vector() {
        let ours = fingerprint(&Key::new("Jefe").unwrap(), &Payload::from("what do ya want for nothing?"));
        assert_eq!(u128::from_be_bytes(*ours.as_bytes()), 0x5bdc_c146_bf60_754e_6a04_2426_0895_75c7);
    }
}
