//! Chance, as an argument.
//!
//! A generator from a dependency would not do: streams have changed in minor releases.

/// Eight bytes of chance. The same seed and salt give the same draw, for ever.
///
/// Jitter must differ between operations and be the same when one operation's events are replayed, after a restart and
/// after an upgrade. So it is drawn by a frozen algorithm, SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
///
/// **Take the first seed at random in each process**, or from a device's own number; from it [derive](Seed::derive) one
/// for each call or job. With the same one everywhere, jitter spreads nothing: those that failed together come back
/// together. Constants, as in these examples, are for tests and replays.
///
/// ```
/// use steadfast_core::Seed;
///
/// let engine = Seed::new(7);
/// let operation = engine.derive_bytes(b"order-42");
/// let first_retry = operation.derive(1);
/// assert!((10..=20).contains(&first_retry.between(10, 20)));
/// assert_eq!(first_retry, Seed::new(7).derive_bytes(b"order-42").derive(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Seed(u64);

impl Seed {
    /// A seed of this value. Drivers draw the first one at random; tests fix it.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The value, to be stored beside what was decided with it.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The seed of a part: output number `salt` of SplitMix64 started at this seed.
    #[must_use]
    #[inline]
    pub const fn derive(self, salt: u64) -> Self {
        let step = salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mix(self.0.wrapping_add(step)))
    }

    /// The seed of a part that has a name: the name's bytes, eight at a time, then its length.
    #[must_use]
    pub fn derive_bytes(self, name: &[u8]) -> Self {
        let mut seed = self;
        for chunk in name.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            seed = seed.derive(u64::from_le_bytes(word));
        }
        seed.derive(name.len() as u64)
    }

    /// A number from `low` to `high`, both included, all equally likely (to within 2⁻⁶⁴ of the width).
    ///
    /// `low` if the range is empty.
    #[must_use]
    #[inline]
    pub const fn between(self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low) as u128;
        // The high half of a 64 by 65 bit product: at most `width`, so neither the cast nor the sum can overflow.
        let product = (mix(self.0) as u128).wrapping_mul(width.wrapping_add(1));
        low.saturating_add((product >> 64) as u64)
    }
}

/// SplitMix64's output function.
#[inline]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// From the reference implementation (Vigna, `splitmix64.c`), seed 1234567.
    #[test]
    fn derive_gives_the_published_splitmix64_vectors() {
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (salt, expected) in published.into_iter().enumerate() {
            assert_eq!(Seed::new(1_234_567).derive(salt as u64).value(), expected);
        }
    }

    /// Our own, frozen at 0.1.0: a journal written by any release must replay alike.
    #[test]
    fn names_and_ranges_are_frozen() {
        assert_eq!(Seed::new(7).derive_bytes(b"order-42").value(), 14_458_980_066_186_440_225);
        assert_eq!(Seed::new(7).between(0, 1_000_000), 72_970);
    }

    #[test]
    fn a_range_holds_its_ends_and_an_empty_one_its_start() {
        let drawn: Vec<u64> = (0..200).map(|salt| Seed::new(salt).between(3, 5)).collect();
        assert!(drawn.iter().all(|n| (3..=5).contains(n)));
        assert!((3..=5).all(|n| drawn.contains(&n)));
        assert_eq!(Seed::new(1).between(9, 2), 9);
        assert!(Seed::new(1).between(0, u64::MAX) > 0);
    }
}
