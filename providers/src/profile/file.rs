//! A profile's text as places and values: whatever is refused is refused by line and field.
//!
//! A [`Table`] remembers which fields it was asked for. What else stands in it is unknown and refused by [`Table::finish`], so a misspelt field is
//! never a setting that was silently left out.

use core::cell::RefCell;
use core::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::ProfileError;

/// Where something stands: the line, from 1, and the field's name from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) field: Box<str>,
}

impl Place {
    fn new(text: &str, at: usize, field: impl Into<Box<str>>) -> Self {
        let before = text.as_bytes().iter().take(at);
        Self { line: before.filter(|byte| **byte == b'\n').count() + 1, field: field.into() }
    }

    /// `, poll.path`, or nothing.
    pub(super) fn named(&self) -> String {
        if self.field.is_empty() { String::new() } else { format!(", {}", self.field) }
    }

    pub(super) fn refuse<T>(&self, problem: impl Into<Box<str>>) -> Result<T, ProfileError> {
        Err(ProfileError::new(self, problem))
    }
}

/// The text as TOML.
pub(super) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, ProfileError> {
    DeTable::parse(text).map_err(|error| {
        let place = Place::new(text, error.span().map_or(0, |span| span.start), "");
        ProfileError::new(&place, format!("this is no TOML: {}", error.message()))
    })
}

/// A table, of which each field is taken once by name.
#[derive(Debug)]
pub(super) struct Table<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    place: Place,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    pub(super) fn root(text: &'a str, table: &'a DeTable<'a>) -> Self {
        Self { text, table, place: Place::new(text, 0, ""), asked: RefCell::default() }
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    fn below(&self, name: &str) -> String {
        // A name may be anything in quotes, and is shown.
        let name = name.escape_debug();
        if self.place.field.is_empty() { name.to_string() } else { format!("{}.{name}", self.place.field) }
    }

    /// The field of this name, if it is there.
    pub(super) fn get(&self, name: &'static str) -> Option<Value<'a>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&name) {
            asked.push(name);
        }
        let (key, value) = self.table.get_key_value(name)?;
        let place = Place::new(self.text, key.span().start, self.below(name));
        Some(Value { text: self.text, value, place })
    }

    /// The field of this name.
    pub(super) fn need(&self, name: &'static str, what: &str) -> Result<Value<'a>, ProfileError> {
        match self.get(name) {
            Some(value) => Ok(value),
            None => {
                Place { line: self.place.line, field: self.below(name).into() }.refuse(format!("is missing: {what}"))
            }
        }
    }

    /// All fields, under whatever name, as the file has them.
    pub(super) fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let value = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: &'a str = AsRef::<std::borrow::Cow<'a, str>>::as_ref(key);
            let place = Place::new(self.text, key.span().start, self.below(name));
            (name, Value { text: self.text, value, place })
        };
        entries.into_iter().map(value).collect()
    }

    /// Refuses the first field that was not asked for.
    pub(super) fn finish(&self) -> Result<(), ProfileError> {
        let asked = self.asked.borrow();
        match self.entries().into_iter().find(|(name, _)| !asked.contains(name)) {
            Some((_, value)) => value.place.refuse(format!("is no field of a profile: here are {}", asked.join(", "))),
            None => Ok(()),
        }
    }
}

/// One field's value.
#[derive(Debug)]
pub(super) struct Value<'a> {
    text: &'a str,
    value: &'a Spanned<DeValue<'a>>,
    place: Place,
}

impl<'a> Value<'a> {
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn refuse<T>(&self, problem: impl Into<Box<str>>) -> Result<T, ProfileError> {
        self.place.refuse(problem)
    }

    fn expected<T>(&self, what: &str) -> Result<T, ProfileError> {
        self.refuse(format!("is {} where {what} is expected", kind(self.value.get_ref())))
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    pub(super) fn text(&self) -> Result<&'a str, ProfileError> {
        match self.value.get_ref().as_str() {
            Some(text) => Ok(text),
            None => self.expected("a text in quotes"),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, ProfileError> {
        match self.value.get_ref().as_bool() {
            Some(flag) => Ok(flag),
            None => self.expected("true or false"),
        }
    }

    pub(super) fn as_integer(&self) -> Option<i64> {
        let number = self.value.get_ref().as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        self.value.get_ref().as_bool()
    }

    pub(super) fn table(&self) -> Result<Table<'a>, ProfileError> {
        match self.value.get_ref().as_table() {
            Some(table) => Ok(Table { text: self.text, table, place: self.place.clone(), asked: RefCell::default() }),
            None => self.expected("a table"),
        }
    }

    /// The items of a list.
    pub(super) fn list(&self) -> Result<Vec<Self>, ProfileError> {
        match self.value.get_ref().as_array() {
            Some(array) => Ok(array.iter().enumerate().map(|(index, value)| self.item(index, value)).collect()),
            None => self.expected("a list"),
        }
    }

    /// The items of a list, or this one.
    pub(super) fn one_or_more(self) -> Result<Vec<Self>, ProfileError> {
        if self.value.get_ref().is_array() { self.list() } else { Ok(vec![self]) }
    }

    fn item(&self, index: usize, value: &'a Spanned<DeValue<'a>>) -> Self {
        let field = format!("{}[{index}]", self.place.field);
        Self { text: self.text, value, place: Place::new(self.text, value.span().start, field) }
    }

    /// The meaning of one of these words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ProfileError> {
        let text = self.text()?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                self.refuse(format!("{text:?} is none of {}", known.join(", ")))
            }
        }
    }

    /// A setting as the core reads it, with the core's own checks.
    pub(super) fn setting<T: DeserializeOwned>(&self) -> Result<T, ProfileError> {
        T::deserialize(ValueDeserializer::from(self.value.clone())).map_err(|error| {
            let within = |span: Range<usize>| span.start > self.value.span().start;
            let at = error.span().filter(|span| within(span.clone())).map(|span| span.start);
            let line = at.map_or(self.place.line, |at| Place::new(self.text, at, "").line);
            // The error's text ends with the field within, in a line of its own.
            let said = error.to_string();
            let within = said.trim_end().rsplit_once("\nin `").and_then(|(_, field)| field.strip_suffix('`'));
            let field =
                within.map_or_else(|| self.place.field.clone(), |field| format!("{}.{field}", self.place.field).into());
            ProfileError::new(&Place { line, field }, error.message())
        })
    }
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
