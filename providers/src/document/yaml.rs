//! YAML 1.2 as a tree, refusing everything that two readers of YAML may understand differently.
//!
//! The tree is built from the parser's events without recursion. Aliases are refused, so a document is never larger
//! than its text.

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use super::tree::{Data, Entry, Fields, Lines, Node, check_depth};
use super::{DocumentError, Place};

const NO_ALIASES: &str = "anchors and aliases (&, *) are not read: write it out";
const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
const ESCAPE: &str = "a line ends here in YAML 1.1 (U+0085, U+2028 or U+2029) and goes on in 1.2: in double quotes write it as an escape, such as \\u2028";
const CR: &str = "a line ends in a carriage return (CR) alone, which not all readers take for an end: save the file with LF or CRLF; for a CR within a text write \\r \
                  in double quotes";
const NUMBER: &str = "is one number to some readers of YAML and another, or a text, to others: write it in plain decimal digits, or put it in quotes";
const EXPONENT: &str = "is a number to some readers of YAML and a text to others: write it without an exponent, or as 1.5e+3, with a point and a sign; or put it in quotes";
const QUOTE: &str = "is a truth value in YAML 1.1 and a text in 1.2: write true or false, put it in quotes, or write \"none\" for what is to be left out";

/// Collections that were begun and have not ended.
enum Begun {
    List { place: Place, line: usize, items: Vec<Node> },
    Table { place: Place, line: usize, fields: Fields, name: Option<(Box<str>, usize)> },
}

pub(super) fn parse(text: &str) -> Result<Node, DocumentError> {
    let mut options = Options::default();
    options.strict_indentation = true;
    let lines = Lines::of(text);
    let line = |span: &Span| match span.byte_range() {
        Some(range) => lines.at(range.start),
        None => span.start.line().max(1),
    };
    if let Some(at) = text.find(BREAKS) {
        // For some readers these end a line, and with it a comment; for others they do not.
        return Place::at(lines.at(at)).refuse(ESCAPE);
    }
    let mut pairs = text.bytes().zip(text.bytes().skip(1).chain([0]));
    if let Some(at) = pairs.position(|(byte, next)| byte == b'\r' && next != b'\n') {
        return Place::at(lines.at(at)).refuse(CR);
    }
    let mut begun: Vec<Begun> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let last = lines.at(text.len());
            let at = Place::at(error.marker().line().clamp(1, last));
            DocumentError::new(&at, format!("this is no YAML: {}", error.info()))
        })?;
        let line = line(&span);
        let ended = match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Place::at(line).refuse("a second document begins here: a file has one");
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) | Event::Anchor(..) => {
                return Place::at(line).refuse(NO_ALIASES);
            }
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _)
                if anchor != 0 =>
            {
                return Place::at(line).refuse(NO_ALIASES);
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => {
                return Place::at(line).refuse("tags (!) are not read: leave it out");
            }
            Event::Scalar(text, style, ..) => {
                if let Some(Begun::Table { place, name: name @ None, .. }) = begun.last_mut() {
                    check_name(&text, style, &place.below(line, &text))?;
                    *name = Some((text.as_ref().into(), line));
                    continue;
                }
                let data = scalar(&text, style, &place_of(&begun, line))?;
                Node { line, data }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if let Some(Begun::Table { place, name: None, .. }) = begun.last() {
                    return Place { line, ..place.clone() }.refuse("has a name that is a list or a table");
                }
                let place = place_of(&begun, line);
                check_depth(begun.len() + 1, line)?;
                begun.push(match event {
                    Event::SequenceStart(..) => Begun::List { place, line, items: Vec::new() },
                    _ => Begun::Table { place, line, fields: Fields::default(), name: None },
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match begun.pop() {
                Some(Begun::List { line, items, .. }) => Node { line, data: Data::List(items) },
                Some(Begun::Table { line, fields, .. }) => Node { line, data: fields.done() },
                None => continue,
            },
            _ => continue,
        };
        match begun.last_mut() {
            Some(Begun::List { items, .. }) => items.push(ended),
            Some(Begun::Table { place, fields, name, .. }) => {
                if let Some((name, line)) = name.take() {
                    fields.push(place, Entry { name, line, value: ended })?;
                }
            }
            None => root = Some(ended),
        }
    }
    // An empty document is a table without fields, as in TOML.
    Ok(match root {
        Some(Node { data: Data::Null, line }) => Node { line, data: Fields::default().done() },
        Some(root) => root,
        None => Node { line: 1, data: Fields::default().done() },
    })
}

/// The place of the value that comes next.
fn place_of(begun: &[Begun], line: usize) -> Place {
    match begun.last() {
        Some(Begun::List { place, items, .. }) => place.item(line, items.len()),
        Some(Begun::Table { place, name: Some((name, line)), .. }) => place.below(*line, name),
        Some(Begun::Table { place, .. }) => place.clone(),
        None => Place::at(line),
    }
}

fn check_name(text: &str, style: ScalarStyle, place: &Place) -> Result<(), DocumentError> {
    if style != ScalarStyle::Plain {
        return Ok(());
    }
    match text {
        "<<" => place.refuse("merge keys (<<) are not read: write it out"),
        "" | "~" => place.refuse("is no name: put it in quotes"),
        // Within braces, some readers take the text after this for the value of a missing name.
        _ if text.starts_with(['?', ':']) => {
            place.refuse("begins with ? or :, which not all readers take for a part of the name: put it in quotes")
        }
        _ if is_ambiguous(text) => place.refuse(QUOTE),
        _ => Ok(()),
    }
}

/// A text without quotes may be something else: YAML 1.2's core schema, without what YAML 1.1 reads otherwise.
fn scalar(text: &str, style: ScalarStyle, place: &Place) -> Result<Data, DocumentError> {
    if style != ScalarStyle::Plain {
        return Ok(Data::Text(text.into()));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Data::Null),
        "true" | "True" | "TRUE" => return Ok(Data::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Data::Bool(false)),
        _ if is_ambiguous(text) => return place.refuse(QUOTE),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    if matches!(&*lower, ".inf" | ".nan") {
        return place.refuse("is a number that is not finite");
    }
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') || !lower.bytes().all(is_of_number) {
        return Ok(Data::Text(text.into()));
    }
    // Readers that allow underscores in numbers ignore them.
    let joined = lower.replace('_', "");
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_based = ["0x", "0o", "0b"].iter().any(|base| joined.starts_with(base));
    let is_octal = digits.len() > 1 && is_digits(digits) && digits.starts_with('0');
    let is_split = digits.contains('_') && joined.parse::<f64>().is_ok();
    // The last part of a number with colons may have a fraction.
    let whole =
        joined.rsplit_once('.').filter(|(_, rest)| rest.is_empty() || is_digits(rest)).map_or(&*joined, |it| it.0);
    let is_clock = whole.contains(':') && whole.split(':').all(is_digits);
    if is_octal || is_split || is_clock || (is_based && joined.bytes().skip(2).all(|byte| byte.is_ascii_hexdigit())) {
        return place.refuse(NUMBER);
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.strip_prefix('+').unwrap_or(text).parse() {
            Ok(number) => Ok(Data::Integer(number)),
            Err(_) => place.refuse("is a number beyond any that is read"),
        };
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && is_exponent_of_all(&lower) => Ok(Data::Float(number)),
        Ok(number) if number.is_finite() => place.refuse(EXPONENT),
        Ok(_) => place.refuse("is a number that is not finite"),
        Err(_) => Ok(Data::Text(text.into())),
    }
}

/// Whether a number with an exponent, if it has one, is also a number in YAML 1.1, which wants a point before the
/// exponent and a sign in it.
fn is_exponent_of_all(number: &str) -> bool {
    number.split_once('e').is_none_or(|(before, exponent)| before.contains('.') && exponent.starts_with(['+', '-']))
}

const fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'.' | b'_' | b':' | b'+' | b'-' | b'x' | b'o')
}

fn is_ambiguous(text: &str) -> bool {
    ["yes", "no", "on", "off", "y", "n"].iter().any(|word| text.eq_ignore_ascii_case(word))
}
