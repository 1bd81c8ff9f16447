//! JSON as a tree. The parser does not report lines, but each slice that it borrows from the text shows by its address
//! where it stands.

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::tree::{Data, Entry, Fields, Lines, Node, check_depth};
use super::{DocumentError, Place};

pub(super) fn parse(text: &str) -> Result<Node, DocumentError> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| refusal(&error))?;
    let source = Source { start: text.as_ptr() as usize, lines: Lines::of(text) };
    source.node(whole.get(), &Place::at(source.line(whole.get())), 0)
}

fn refusal(error: &serde_json::Error) -> DocumentError {
    // Without the position, which our message begins with.
    let said = error.to_string();
    let problem = said.split(" at line ").next().unwrap_or_default();
    DocumentError::new(&Place::at(error.line().max(1)), format!("this is no JSON: {problem}"))
}

struct Source {
    start: usize,
    lines: Lines,
}

impl Source {
    fn line(&self, part: &str) -> usize {
        self.lines.at((part.as_ptr() as usize).saturating_sub(self.start))
    }

    /// `depth` is the number of enclosing tables and lists.
    fn node(&self, text: &str, place: &Place, depth: usize) -> Result<Node, DocumentError> {
        let line = self.line(text);
        let wrong = |error: serde_json::Error| {
            let said = error.to_string();
            let problem = said.split(" at line ").next().unwrap_or_default();
            DocumentError::new(place, format!("this is no JSON: {problem}"))
        };
        let data = match text.as_bytes().first() {
            Some(b'{') => {
                check_depth(depth + 1, line)?;
                let members = serde_json::Deserializer::from_str(text).deserialize_map(Members).map_err(wrong)?;
                let mut fields = Fields::default();
                for (name, value) in members {
                    let line = self.line(name.get());
                    let name: String = serde_json::from_str(name.get()).map_err(wrong)?;
                    let value = self.node(value.get(), &place.below(line, &name), depth + 1)?;
                    fields.push(place, Entry { name: name.into(), line, value })?;
                }
                fields.done()
            }
            Some(b'[') => {
                check_depth(depth + 1, line)?;
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
                let items = items.into_iter().enumerate();
                let item = |(index, item): (usize, &RawValue)| {
                    self.node(item.get(), &place.item(self.line(item.get()), index), depth + 1)
                };
                Data::List(items.map(item).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Data::Text(serde_json::from_str(text).map_err(wrong)?),
            Some(b't' | b'f') => Data::Bool(serde_json::from_str(text).map_err(wrong)?),
            Some(b'n') => Data::Null,
            _ => number(text, place)?,
        };
        Ok(Node { line, data })
    }
}

fn number(text: &str, place: &Place) -> Result<Data, DocumentError> {
    let whole = !text.contains(['.', 'e', 'E']);
    match (text.parse::<i128>(), text.parse::<f64>()) {
        (Ok(number), _) if whole => Ok(Data::Integer(number)),
        (_, Ok(number)) if !whole && number.is_finite() => Ok(Data::Float(number)),
        _ => place.refuse("is a number beyond any that is read"),
    }
}

/// The members of an object, in the order of the text.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(name) = members.next_key()? {
            all.push((name, members.next_value().map_err(A::Error::custom)?));
        }
        Ok(all)
    }
}
