//! Names of jobs without a heap: as they are handed about, and as they wait by the million.
//!
//! A [`Text`] can be read at any time. Most names stand in place: those of up to 22 bytes, UUIDs, and hexadecimal
//! digits. Copies of any other share one allocation. So copying and comparing allocates nothing.
//!
//! An operation that waits keeps a [`Packed`], which is smaller and cannot be read in place: a UUID is its sixteen
//! bytes, and digits are stored two to a byte. Each text has one form only, packed or not, so two are equal if their
//! texts are. What only resembles a UUID or digits (upper case, a hyphen elsewhere, an odd number of digits) is stored
//! as it is. The form is chosen when a text is made, so packing neither fails nor allocates.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::hash::Hasher;
use core::ops::Range;

/// The longest text of any kind that stands in place.
const PLAIN: usize = 22;
/// The most digits.
const DIGITS: usize = 38;
const UUID: usize = 36;

/// A text to hand about.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Text {
    /// What is beyond `len` is zero.
    Plain { len: u8, bytes: [u8; PLAIN] },
    /// As RFC 9562 writes one, in lower case.
    Uuid([u8; UUID]),
    /// More than [`PLAIN`] lower-case hexadecimal digits, an even number of them. What is beyond `len` is zero.
    Hex { len: u8, bytes: [u8; DIGITS] },
    /// All else, which copies share.
    Long(Arc<str>),
}

/// The same text to keep.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Packed {
    Plain { len: u8, bytes: [u8; PLAIN] },
    Uuid([u8; UUID_PAIRS]),
    Hex { len: u8, bytes: [u8; DIGITS / 2] },
    Long(Arc<str>),
}

const _: () = assert!(size_of::<Text>() == 40);
const _: () = assert!(size_of::<Packed>() == 24 && size_of::<Option<Packed>>() == 24);

impl Text {
    pub(crate) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        if let Some((len, bytes)) = in_place(bytes) {
            Self::Plain { len, bytes }
        } else if let Some(uuid) = bytes.try_into().ok().filter(is_uuid) {
            Self::Uuid(uuid)
        } else if let Some((len, bytes)) = in_place(bytes).filter(|(len, _)| len % 2 == 0 && digits_in(bytes) == *len) {
            Self::Hex { len, bytes }
        } else {
            Self::Long(text.into())
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        let (bytes, len) = match self {
            Self::Plain { len, bytes } => (bytes.as_slice(), *len),
            Self::Hex { len, bytes } => (bytes.as_slice(), *len),
            Self::Uuid(bytes) => return bytes,
            Self::Long(text) => return text.as_bytes(),
        };
        match bytes.split_at_checked(len as usize) {
            Some((text, _)) => text,
            None => bytes,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        if let Self::Long(text) = self {
            return text;
        }
        // They are a text's bytes, so this cannot fail.
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// As `str` does, without a look at whether it is UTF-8.
    pub(crate) fn hash_as_text<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
        state.write_u8(0xff);
    }

    pub(crate) fn into_box(self) -> Box<str> {
        self.as_str().into()
    }
}

impl From<Text> for Packed {
    fn from(text: Text) -> Self {
        match text {
            Text::Plain { len, bytes } => Self::Plain { len, bytes },
            Text::Uuid(text) => Self::Uuid(read(&without_hyphens(&text))),
            Text::Hex { len, bytes } => Self::Hex { len, bytes: read(&bytes) },
            Text::Long(text) => Self::Long(text),
        }
    }
}

impl From<&Packed> for Text {
    fn from(packed: &Packed) -> Self {
        match packed {
            Packed::Plain { len, bytes } => Self::Plain { len: *len, bytes: *bytes },
            Packed::Uuid(bytes) => Self::Uuid(uuid(&digits(bytes))),
            Packed::Hex { len, bytes } => {
                let mut text = digits(bytes);
                // What is beyond its end is nothing, and not two noughts.
                text.iter_mut().skip(usize::from(*len)).for_each(|digit| *digit = 0);
                Self::Hex { len: *len, bytes: text }
            }
            Packed::Long(text) => Self::Long(text.clone()),
        }
    }
}

impl Packed {
    /// Whether it is this text.
    pub(crate) fn is(&self, text: &Text) -> bool {
        match self {
            Self::Long(long) => long.as_bytes() == text.as_bytes(),
            Self::Plain { .. } | Self::Uuid(_) | Self::Hex { .. } => Text::from(self) == *text,
        }
    }
}

fn in_place<const N: usize>(text: &[u8]) -> Option<(u8, [u8; N])> {
    let mut bytes = [0; N];
    bytes.get_mut(..text.len())?.copy_from_slice(text);
    Some((u8::try_from(text.len()).ok()?, bytes))
}

const UUID_PAIRS: usize = 16;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn is_uuid(text: &[u8; UUID]) -> bool {
    HYPHENS.iter().all(|at| text.get(*at) == Some(&b'-')) && digits_in(text) == 32
}

/// Of a text of at most [`DIGITS`] bytes. All are looked at, many at a time, which is quicker than to stop at the first
/// that is none.
fn digits_in(text: &[u8]) -> u8 {
    let is_digit = |byte: &u8| u8::from(matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    text.iter().map(is_digit).fold(0, u8::wrapping_add)
}

/// The bytes of these digits, eight digits at a time: each name is kept once.
#[inline]
fn read<const LENGTH: usize, const BYTES: usize>(text: &[u8; LENGTH]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (bytes, digits) in bytes.chunks_mut(4).zip(text.chunks(8)) {
        let mut word = [0; 8];
        word.iter_mut().zip(digits).for_each(|(to, digit)| *to = *digit);
        bytes.iter_mut().zip(four_bytes(word)).for_each(|(to, byte)| *to = byte);
    }
    bytes
}

/// Of all digits at once. What is zero stays so.
const fn four_bytes(digits: [u8; 8]) -> [u8; 4] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let digits = u64::from_be_bytes(digits);
    // Letters are those with a bit of 64.
    let mut halves = (digits & (15 * EACH)).wrapping_add(((digits >> 6) & EACH).wrapping_mul(9));
    halves = (halves | halves >> 4) & 0x00ff_00ff_00ff_00ff;
    halves = (halves | halves >> 8) & 0x0000_ffff_0000_ffff;
    ((halves | halves >> 16) as u32).to_be_bytes()
}

/// The digits of these bytes, four bytes at a time: this is done for each request.
#[inline]
fn digits<const BYTES: usize, const LENGTH: usize>(bytes: &[u8; BYTES]) -> [u8; LENGTH] {
    let mut text = [0; LENGTH];
    for (digits, bytes) in text.chunks_mut(8).zip(bytes.chunks(4)) {
        let mut word = [0; 4];
        word.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
        digits.iter_mut().zip(eight_digits(word)).for_each(|(to, digit)| *to = digit);
    }
    text
}

/// Each half of a byte becomes a byte of a larger word, and all become digits at once.
const fn eight_digits(bytes: [u8; 4]) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const NOUGHTS: u64 = 0x3030_3030_3030_3030;
    let mut halves = u32::from_be_bytes(bytes) as u64;
    halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    halves = (halves | halves << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Ten and more carry into the other half.
    let letters = halves.wrapping_add(6 * EACH) >> 4 & EACH;
    let letters = letters.wrapping_mul((b'a' - 10 - b'0') as u64);
    halves.wrapping_add(NOUGHTS).wrapping_add(letters).to_be_bytes()
}

/// Where the digits of a UUID stand between its hyphens, and without them.
const GROUPS: [(Range<usize>, Range<usize>); 5] =
    [(0..8, 0..8), (9..13, 8..12), (14..18, 12..16), (19..23, 16..20), (24..36, 20..32)];

/// With its hyphens.
fn uuid(digits: &[u8; 32]) -> [u8; UUID] {
    let mut text = [b'-'; UUID];
    for (to, from) in GROUPS {
        if let (Some(to), Some(from)) = (text.get_mut(to), digits.get(from)) {
            to.iter_mut().zip(from).for_each(|(to, digit)| *to = *digit);
        }
    }
    text
}

fn without_hyphens(text: &[u8; UUID]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (from, to) in GROUPS {
        if let (Some(to), Some(from)) = (digits.get_mut(to), text.get(from)) {
            to.iter_mut().zip(from).for_each(|(to, digit)| *to = *digit);
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use core::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn packed(text: &str) -> Packed {
        Text::new(text).into()
    }

    /// Texts of all sizes, and above all those that are packed, and those that nearly are.
    fn text() -> impl Strategy<Value = String> {
        let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
        let spoilt = (uuid, 0_usize..37, 0_u8..5).prop_map(|(mut text, at, how)| {
            match how {
                0 => text.insert(at.min(35), '0'),
                1 => drop(text.remove(at.min(35))),
                2 => text = text.to_uppercase(),
                3 => text.replace_range(at.min(35)..=at.min(35), "-"),
                _ => text.replace_range(at.min(35)..=at.min(35), "g"),
            }
            text
        });
        prop_oneof![
            uuid.boxed(),
            spoilt.boxed(),
            "[0-9a-f]{1,48}".boxed(),
            "[!-~]{1,60}".boxed(),
            "[\\PC]{1,30}".boxed(),
            prop::collection::vec(prop::sample::select(&["0", "f", "-", "A", "é", "~"][..]), 1..45)
                .prop_map(|parts| parts.concat())
                .boxed(),
        ]
    }

    proptest! {
        #[test]
        fn a_text_comes_back_whole_packed_or_not(text in text()) {
            let whole = Text::new(&text);
            prop_assert_eq!(whole.as_str(), &text);
            prop_assert_eq!(whole.clone().into_box(), text.clone().into());
            let packed = Packed::from(whole.clone());
            prop_assert!(packed.is(&whole));
            prop_assert_eq!(Text::from(&packed).into_box(), text.into());
        }

        #[test]
        fn packed_texts_are_equal_if_their_texts_are(one in text(), other in text()) {
            prop_assert_eq!(Text::new(&one) == Text::new(&other), one == other);
            prop_assert_eq!(packed(&one) == packed(&other), one == other);
            prop_assert_eq!(packed(&one).is(&Text::new(&other)), one.cmp(&other) == Ordering::Equal);
            prop_assert!(packed(&one) == packed(&one.clone()));
        }
    }

    #[test]
    fn uuids_and_digits_take_no_heap_and_what_only_looks_like_them_is_kept_to_the_letter() {
        let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        assert!(matches!(packed(uuid), Packed::Uuid(_)));
        for digits in ["65f0c1a2b3c4d5e6f7a8b9c0", "726f6caae1b8ae51de61fec12b162b4c"] {
            assert!(matches!(packed(digits), Packed::Hex { .. }), "{digits}");
        }
        assert!(matches!(packed(""), Packed::Plain { .. }) && matches!(packed("order-42"), Packed::Plain { .. }));
        let near = [
            uuid.to_uppercase(),
            uuid.replacen('e', "E", 1),
            uuid.replacen('-', "_", 1),
            uuid.replacen("-4", "4-", 1),
            uuid.replacen("-4", "-", 1),
            uuid.replacen('8', "-", 1),
            uuid.replacen('8', "g", 1),
            format!("{uuid}0"),
            format!("{{{uuid}}}"),
            String::from("65f0c1a2b3c4d5e6f7a8b9c0d"),
            String::from("65f0c1a2b3c4d5e6f7a8b9C0"),
        ];
        for near in near {
            assert!(matches!(packed(&near), Packed::Long(_)), "{near}");
            assert_eq!(Text::from(&packed(&near)).as_str(), near);
        }
        assert!(matches!(packed(&"k".repeat(22)), Packed::Plain { .. }));
        assert!(matches!(packed(&"k".repeat(23)), Packed::Long(_)));
        assert!(matches!(packed(&"0".repeat(38)), Packed::Hex { .. }));
        assert!(matches!(packed(&"0".repeat(40)), Packed::Long(_)));
    }
}
