//! A profile's tables and values. Errors name the line and the field.
//!
//! A [`Table`] remembers which fields it was asked for. Any other field is unknown and is refused by [`Table::finish`],
//! so a misspelt field is never silently ignored.

use core::cell::RefCell;
use core::time::Duration;

use serde::de::DeserializeOwned;

use super::ProfileError;
pub(super) use crate::document::Place;
use crate::document::{Data, Document, Entry, Node, did_you_mean, read_setting};

/// A table, of which each field is taken once by name.
#[derive(Debug)]
pub(super) struct Table<'a> {
    entries: &'a [Entry],
    place: Place,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    pub(super) fn root(document: &'a Document) -> Self {
        let root = document.root();
        Self { entries: root.entries(), place: Place::at(root.line), asked: RefCell::default() }
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    fn value(&self, entry: &'a Entry) -> Value<'a> {
        Value { node: &entry.value, place: self.place.below(entry.line, &entry.name) }
    }

    /// The field of this name, if it is there.
    pub(super) fn get(&self, name: &'static str) -> Option<Value<'a>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&name) {
            asked.push(name);
        }
        let entry = self.entries.iter().find(|entry| *entry.name == *name)?;
        Some(self.value(entry))
    }

    /// The field of this name.
    pub(super) fn need(&self, name: &'static str, what: &str) -> Result<Value<'a>, ProfileError> {
        if let Some(value) = self.get(name) {
            return Ok(value);
        }
        // The field may be misspelt rather than missing.
        let unasked = self.entries.iter().filter(|entry| !self.asked.borrow().contains(&&*entry.name));
        for entry in unasked {
            let meant = did_you_mean(&entry.name, [name]);
            if !meant.is_empty() {
                return self.value(entry).refuse(format!("is no field here{meant}"));
            }
        }
        self.place.below(self.place.line, name).refuse(format!("is missing: {what}"))
    }

    /// All fields, under whatever name, as the file has them.
    pub(super) fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        self.entries.iter().map(|entry| (&*entry.name, self.value(entry))).collect()
    }

    /// Refuses the first field that was not asked for.
    pub(super) fn finish(&self) -> Result<(), ProfileError> {
        let asked = self.asked.borrow();
        match self.entries().into_iter().find(|(name, _)| !asked.contains(name)) {
            Some((name, value)) => {
                let meant = did_you_mean(name, asked.iter().copied());
                let there = if meant.is_empty() { ": there".to_owned() } else { format!("{meant} There") };
                value.place.refuse(format!("is no field here{there} are {}", asked.join(", ")))
            }
            None => Ok(()),
        }
    }
}

/// One field's value.
#[derive(Debug)]
pub(super) struct Value<'a> {
    node: &'a Node,
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
        self.refuse(format!("is {} where {what} is expected", self.node.kind()))
    }

    pub(super) const fn is_table(&self) -> bool {
        matches!(self.node.data, Data::Table(_))
    }

    pub(super) fn text(&self) -> Result<&'a str, ProfileError> {
        match &self.node.data {
            Data::Text(text) => Ok(text),
            _ => self.expected("a text in quotes"),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, ProfileError> {
        match self.node.data {
            Data::Bool(flag) => Ok(flag),
            _ => self.expected("true or false"),
        }
    }

    pub(super) fn as_integer(&self) -> Option<i64> {
        match self.node.data {
            Data::Integer(number) => i64::try_from(number).ok(),
            _ => None,
        }
    }

    pub(super) const fn as_float(&self) -> Option<f64> {
        match self.node.data {
            Data::Float(number) => Some(number),
            _ => None,
        }
    }

    pub(super) const fn as_bool(&self) -> Option<bool> {
        match self.node.data {
            Data::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    pub(super) fn table(&self) -> Result<Table<'a>, ProfileError> {
        match &self.node.data {
            Data::Table(entries) => Ok(Table { entries, place: self.place.clone(), asked: RefCell::default() }),
            _ => self.expected("a table"),
        }
    }

    /// A table where people may write a text or something else, not having seen an example.
    pub(super) fn table_such_as(&self, example: &str) -> Result<Table<'a>, ProfileError> {
        if self.is_table() { self.table() } else { self.expected(&format!("a table such as {example}")) }
    }

    /// A span of time.
    pub(super) fn duration(&self) -> Result<Duration, ProfileError> {
        #[derive(serde::Deserialize)]
        #[serde(transparent)]
        struct Humane(#[serde(with = "steadfast_core::policy::humane")] Duration);
        self.setting().map(|Humane(duration)| duration)
    }

    /// The items of a list.
    pub(super) fn list(&self) -> Result<Vec<Self>, ProfileError> {
        match &self.node.data {
            Data::Table(_) => {
                self.refuse("is a table where a list is expected: put it within [ ], or its name within [[ ]]")
            }
            Data::List(items) => Ok(items.iter().enumerate().map(|(index, node)| self.item(index, node)).collect()),
            _ => self.expected("a list"),
        }
    }

    /// The items of a list that is not empty, or this value as the only one.
    pub(super) fn one_or_more(self) -> Result<Vec<Self>, ProfileError> {
        match &self.node.data {
            Data::List(items) if items.is_empty() => self.refuse("is an empty list: leave it out, or say which"),
            Data::List(_) => self.list(),
            _ => Ok(vec![self]),
        }
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        Self { node, place: self.place.item(node.line, index) }
    }

    /// The meaning of one of these words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ProfileError> {
        let text = self.text()?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                let meant = did_you_mean(text, words.iter().map(|(word, _)| *word));
                self.refuse(format!("is none of {}{meant}", known.join(", ")))
            }
        }
    }

    /// A setting as the core reads it, with the core's own checks.
    pub(super) fn setting<T: DeserializeOwned>(&self) -> Result<T, ProfileError> {
        read_setting(self.node, &self.place)
    }
}
