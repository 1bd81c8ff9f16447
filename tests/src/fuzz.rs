//! What must hold for any bytes: one property a target, shared by the fuzzer (`fuzz/`) and by a plain test
//! (`tests/tests/fuzz.rs`).
//!
//! Each target is a function of bytes that returns if they are treated as they should be and panics if not. "Does not
//! crash" is the least of it: each says what the answer is, by a second way to it (a grammar written down again, a
//! model, the way back), and its first lines tell which.
//!
//! Inputs are laid out so that a person can write them: text where the format is text, and letters for the engine's
//! script. So a seed in `fuzz/corpus/TARGET/` can be read, and so can what the fuzzer finds.
//!
//! To add a target: a file here with a `holds`, a line in [`TARGETS`], a bin in `fuzz/` (a file of three lines and its
//! entry in `fuzz/Cargo.toml`), and a few seeds in `fuzz/corpus/`. The plain test checks that none of these is
//! forgotten.

pub mod document;
pub mod engine;
pub mod journal;
pub mod policy;
pub mod provider_body;
pub mod rate_limit_headers;
pub mod retry_after;
pub mod snapshot;
pub mod webhook;

/// Returns if the bytes are treated as they should be, and panics if not.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its bin and of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("document", document::holds),
    ("engine", engine::holds),
    ("journal", journal::holds),
    ("policy", policy::holds),
    ("provider_body", provider_body::holds),
    ("rate_limit_headers", rate_limit_headers::holds),
    ("retry_after", retry_after::holds),
    ("snapshot", snapshot::holds),
    ("webhook", webhook::holds),
];

/// Our wall clock where an input names none.
const WALL_SECS: u64 = 1_700_000_000;

/// The number that these digits write, cut to what 64 bits hold; `None` if they are no digits, or not only.
fn number(text: &[u8]) -> Option<u64> {
    let all = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    all.then(|| text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// Takes the next line from what is left.
fn line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = &rest[rest.len().min(end + 1)..];
    line
}

/// Without spaces and tabs around it.
fn trimmed(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// A number that depends on every byte: where an input has to choose something by itself.
fn digest(data: &[u8]) -> usize {
    crc32fast::hash(data) as usize
}
