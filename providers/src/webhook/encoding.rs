//! Signatures and numbers as text, each with exactly one accepted spelling, so that nobody can alter an accepted
//! delivery unnoticed.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use steadfast_core::Timestamp;

/// Secrets are typed and copied by people, so the padding may be lost and the last bits may be anything.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A secret in base64, padded or not.
pub(super) fn secret_from_base64(text: &str) -> Option<Vec<u8>> {
    LENIENT.decode(text).ok()
}

/// 44 characters, padded, with no unused bit set.
pub(super) fn tag_from_base64(text: &str) -> Option<[u8; 32]> {
    if text.len() != 44 {
        return None;
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

pub(super) fn tag_to_base64(tag: &[u8; 32]) -> String {
    STANDARD.encode(tag)
}

/// 64 digits, lower case.
pub(super) fn tag_from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    // Without a branch on each digit: with branches, this would be a tenth of a verification's cost.
    let nibbles = digits.map(nibble);
    let mut tag = [0; 32];
    for (byte, [high, low]) in tag.iter_mut().zip(nibbles.as_chunks::<2>().0) {
        *byte = high << 4 | low & 15;
    }
    nibbles.iter().all(|nibble| *nibble < 16).then_some(tag)
}

/// A value above 15 if it is not a digit.
const fn nibble(digit: u8) -> u8 {
    let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
    if number < 10 {
        number
    } else if letter < 6 {
        letter + 10
    } else {
        0xff
    }
}

pub(super) fn tag_to_hex(tag: &[u8; 32]) -> String {
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whole Unix seconds: digits without a sign or a leading zero. Also `None` beyond the year 2554, where a [`Timestamp`]
/// ends.
pub(super) fn unix_seconds(text: &str) -> Option<Timestamp> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { exact(text.parse().ok()?) } else { None }
}

/// `Timestamp` saturates, but a time from outside must be exact.
pub(super) fn exact(seconds: u64) -> Option<Timestamp> {
    seconds.checked_mul(1_000_000_000).map(Timestamp::from_nanos)
}

/// The inverse of [`unix_seconds`], without the fraction.
pub(super) const fn whole_seconds(at: Timestamp) -> u64 {
    at.as_nanos() / 1_000_000_000
}
