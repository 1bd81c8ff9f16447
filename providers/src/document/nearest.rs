//! Guesses which known word a misspelt one was meant to be.

/// `: did you mean deadline?`, or nothing if no known word is near.
pub(crate) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    match nearest(written, known) {
        Some(meant) => format!(": did you mean {meant}?"),
        None => String::new(),
    }
}

/// The known word that is nearest to this one, differing in at most a third of its letters, so that a person would
/// guess the same.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // No misspelt word is this long.
    let written: String = written.chars().take(64).map(|letter| letter.to_ascii_lowercase()).collect();
    let distance = |known: &'k str| (strsim::osa_distance(&written, &known.to_ascii_lowercase()), known);
    let near = |(distance, known): &(usize, &str)| *distance <= known.len().div_ceil(3);
    known.into_iter().map(distance).filter(near).min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let known = ["deadline", "attempts", "cap"];
        assert_eq!(nearest("dedline", known), Some("deadline"));
        assert_eq!(nearest("Attempt", known), Some("attempts"));
        assert_eq!(nearest("cpa", known), Some("cap"));
        assert_eq!(nearest("post", ["GET", "POST"]), Some("POST"));
        assert_eq!(nearest("jitter", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
