//! Times and texts as a person reads them on a terminal.

use std::borrow::Cow;
use std::path::Path;

use steadfast_core::Timestamp;
use steadfast_core::explain::Span;
use steadfast_store::sqlite::iso8601;

/// `2026-11-21 10:59:01 UTC`
pub(crate) fn day_and_time(time: Timestamp) -> String {
    let text = iso8601(time);
    let part = |from, to| text.get(from..to).unwrap_or_default();
    format!("{} {} UTC", part(0, 10), part(11, 19))
}

/// `5 min ago`, `in 5 min` or `now`.
pub(crate) fn relative(time: Timestamp, now: Timestamp) -> String {
    match time.cmp(&now) {
        std::cmp::Ordering::Less => format!("{} ago", Span(now.saturating_since(time))),
        std::cmp::Ordering::Equal => "now".into(),
        std::cmp::Ordering::Greater => format!("in {}", Span(time.saturating_since(now))),
    }
}

/// A text from elsewhere, made safe: it can neither break a line nor command a terminal, nor have it show what follows
/// in another order.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_obeyed) {
        text.chars().map(|c| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
    } else {
        text.into()
    }
}

/// Whether it commands rather than being shown: control characters, marks of direction, and breaks of lines and
/// paragraphs.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A file's name, for messages.
pub(crate) fn name(file: &Path) -> String {
    plain(&file.display().to_string()).into_owned()
}

/// A file's name as an argument of a shell command.
pub(crate) fn argument(file: &Path) -> String {
    // Without this it would be read as an option.
    let dot = if file.as_os_str().as_encoded_bytes().starts_with(b"-") { "./" } else { "" };
    match file.to_str() {
        Some(name) if !name.chars().any(is_obeyed) => {
            let (name, is_plain) = (format!("{dot}{name}"), |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c));
            if !name.is_empty() && name.chars().all(is_plain) {
                name
            } else {
                format!("'{}'", name.replace('\'', r"'\''"))
            }
        }
        // Written as its bytes, which a terminal would otherwise swallow or alter.
        _ => {
            let byte = |byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{byte:03o}"),
                b' '..=b'~' => char::from(*byte).to_string(),
                byte => format!("\\{byte:03o}"),
            };
            let name: String = file.as_os_str().as_encoded_bytes().iter().map(byte).collect();
            format!("$'{dot}{name}'")
        }
    }
}

/// `1 operation`, `2 operations`.
pub(crate) fn operations(count: u64) -> String {
    if count == 1 { "1 operation".into() } else { format!("{count} operations") }
}

/// `1 step`, `2 steps`: of a journal's chain, one for each record that it has taken and each operation that it has
/// forgotten.
pub(crate) fn steps(count: u64) -> String {
    if count == 1 { "1 step".into() } else { format!("{count} steps") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let at = Timestamp::from_secs;
        assert_eq!(day_and_time(at(1_700_000_000)), "2023-11-14 22:13:20 UTC");
        assert_eq!(relative(at(10), at(135)), "2 min 5 s ago");
        assert_eq!(relative(at(135), at(10)), "in 2 min 5 s");
        assert_eq!(relative(at(10), at(10)), "now");
    }

    /// In the syntax that bash, zsh and POSIX of 2024 understand.
    #[test]
    #[cfg(unix)]
    fn a_name_that_is_no_text_is_told_by_its_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let told = |bytes: &[u8]| argument(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(told(b"jobs.db"), "jobs.db");
        assert_eq!(told("-jöbs it's.db".as_bytes()), r"'./-jöbs it'\''s.db'");
        assert_eq!(told(b"-j\xff7 it's\\.db"), r"$'./-j\3777 it\047s\134.db'");
        assert_eq!(told(b"a\x1b[2J\n"), r"$'a\033[2J\012'");
    }

    #[test]
    fn no_text_commands_a_terminal() {
        assert_eq!(plain("deepvue"), "deepvue");
        assert_eq!(plain("a\u{1b}[2J\nb\u{9b}"), "a\\u{1b}[2J\\nb\\u{9b}");
        assert_eq!(plain("a\u{202e}b\u{2069}"), "a\\u{202e}b\\u{2069}");
        // What scripts need to be read stays.
        assert_eq!(plain("र\u{94d}\u{200d} é"), "र\u{94d}\u{200d} é");
    }
}
