//! JSON written again as Python writes it, which is what Didit signs in `X-Signature-V2`:
//! `json.dumps(shortened, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`, where `shortened` has every
//! float without a fraction turned into an integer, at any depth.
//!
//! So a delivery that was parsed and rewritten on its way still has a valid signature. Python's particularities:
//!
//! - members are sorted by code point, which is the order of their UTF-8 bytes (not JavaScript's, by UTF-16 and
//!   integer-like names first);
//! - integers keep all their digits; `1.0`, `-0.0` and `1e21` become `1`, `0` and `1000000000000000000000`;
//! - other floats are the shortest text that reads back the same, with an exponent of two digits or more below a
//!   ten-thousandth: `1e-07`;
//! - of text, only quotes, backslashes and control characters are escaped.
//!
//! A body that Python would read in more than one way, or could not have written, has no such form: a member twice, a
//! number beyond a float's range, half of a surrogate pair, an integer of more digits than Python reads. The bytes are
//! not verified yet when they come here, so everything is bounded: depth, the length of the output, and the work, which
//! is one pass.

use core::ops::Range;

use super::MAX_BODY;

/// As deep as `serde_json` reads, so that every body with a canonical form can be parsed afterwards.
const MAX_DEPTH: usize = 127;

/// The longest integer that Python reads (`sys.set_int_max_str_digits`).
const MAX_DIGITS: usize = 4_300;

/// The canonical form of one JSON text; `None` if it has none.
pub(super) fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    let mut writer = Writer { rest: core::str::from_utf8(body).ok()?, written: Vec::with_capacity(body.len()) };
    writer.value(MAX_DEPTH)?;
    writer.skip_space();
    writer.rest.is_empty().then_some(writer.written)
}

struct Writer<'a> {
    rest: &'a str,
    written: Vec<u8>,
}

impl Writer<'_> {
    fn value(&mut self, depth: usize) -> Option<()> {
        self.skip_space();
        match self.rest.as_bytes().first()? {
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.array(depth.checked_sub(1)?),
            b'"' => {
                let text = self.text()?;
                self.write_text(&text)
            }
            b'-' | b'0'..=b'9' => self.number(),
            _ => {
                let word = ["true", "false", "null"].into_iter().find(|word| self.take(word))?;
                self.write(word)
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.punctuation("[")?;
        self.write("[")?;
        if self.punctuation("]").is_some() {
            return self.write("]");
        }
        loop {
            self.value(depth)?;
            if self.punctuation("]").is_some() {
                return self.write("]");
            }
            self.punctuation(",")?;
            self.write(",")?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.punctuation("{")?;
        self.write("{")?;
        if self.punctuation("}").is_some() {
            return self.write("}");
        }
        let begin = self.written.len();
        let mut members: Vec<(String, Range<usize>)> = Vec::new();
        loop {
            self.skip_space();
            let (from, name) = (self.written.len(), self.text()?);
            self.write_text(&name)?;
            self.punctuation(":")?;
            self.write(":")?;
            self.value(depth)?;
            members.push((name, from..self.written.len()));
            if self.punctuation("}").is_some() {
                break;
            }
            self.punctuation(",")?;
            self.write(",")?;
        }
        if !members.is_sorted_by(|(one, _), (other, _)| one < other) {
            members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            let twice = members.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
            if twice {
                return None;
            }
            let unsorted = self.written.split_off(begin);
            for (at, (_, Range { start, end })) in members.into_iter().enumerate() {
                if at > 0 {
                    self.written.push(b',');
                }
                self.written.extend_from_slice(unsorted.get(start - begin..end - begin)?);
            }
        }
        self.write("}")
    }

    /// A text, without its quotes and escapes.
    fn text(&mut self) -> Option<String> {
        let mut escaped = false;
        let end = self.rest.bytes().enumerate().skip(1).find_map(|(at, byte)| match byte {
            _ if escaped => {
                escaped = false;
                None
            }
            b'\\' => {
                escaped = true;
                None
            }
            b'"' => Some(at + 1),
            _ => None,
        })?;
        let (quoted, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        serde_json::from_str(quoted).ok()
    }

    fn number(&mut self) -> Option<()> {
        let end = self.rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
        let (literal, rest) = self.rest.split_at_checked(end.unwrap_or(self.rest.len()))?;
        self.rest = rest;
        let unsigned = literal.strip_prefix('-').unwrap_or(literal);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
        let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
        let well_formed = digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(digits)
            && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
        if !well_formed {
            return None;
        }
        if fraction.is_none() && exponent.is_none() {
            let integer = if literal == "-0" { "0" } else { literal };
            return if whole.len() <= MAX_DIGITS { self.write(integer) } else { None };
        }
        let float: f64 = literal.parse().ok()?;
        self.write(&shortened(float)?)
    }

    fn write_text(&mut self, text: &str) -> Option<()> {
        serde_json::to_writer(&mut self.written, text).ok()?;
        (self.written.len() <= MAX_BODY).then_some(())
    }

    fn write(&mut self, text: &str) -> Option<()> {
        self.written.extend_from_slice(text.as_bytes());
        (self.written.len() <= MAX_BODY).then_some(())
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn punctuation(&mut self, mark: &str) -> Option<()> {
        self.skip_space();
        self.take(mark).then_some(())
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

/// A float as an integer if it is one, else as Python's `repr` writes it. (`repr` also uses an exponent from 10¹⁶ on,
/// but no float of that size has a fraction.)
fn shortened(float: f64) -> Option<String> {
    if !float.is_finite() {
        return None;
    }
    if float == 0.0 {
        return Some("0".to_owned());
    }
    if float.fract() == 0.0 {
        return Some(format!("{float:.0}"));
    }
    if float.abs() < 1e-4 {
        let text = format!("{float:e}");
        let (mantissa, exponent) = text.split_once("e-")?;
        return Some(format!("{mantissa}e-{exponent:0>2}"));
    }
    // Of two texts that are equally short and near, Python takes the even one (…71.2 for …71.25), and Rust the other,
    // except when it rounds to a given precision.
    let text = format!("{float}");
    let digits = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let rounded = format!("{float:.digits$}");
    Some(if rounded.parse() == Ok(float) { rounded } else { text })
}
