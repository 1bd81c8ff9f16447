//! The tree that all formats share: tables, lists and values, each with its line.

use super::{Document, DocumentError, Place};

/// A value, and the line where it begins.
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) data: Data,
}

pub(crate) enum Data {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    /// A TOML date, which no setting accepts.
    Date,
    Text(Box<str>),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A field of a table, and the line of its name.
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    pub(crate) line: usize,
    pub(crate) value: Node,
}

impl core::fmt::Debug for Node {
    /// Without its value, which may be a secret in the wrong place.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} in line {}", self.kind(), self.line)
    }
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}: {:?}", self.name, self.value)
    }
}

impl Node {
    /// Its type in words, for an error that expected another.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "true or false",
            Data::Integer(_) => "a whole number",
            Data::Float(_) => "a number",
            Data::Date => "a date",
            Data::Text(_) => "a text",
            Data::List(_) => "a list",
            Data::Table(_) => "a table",
        }
    }

    /// The fields of a table, in the order of the file; empty for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Table(entries) => entries,
            _ => &[],
        }
    }
}

/// A table under construction, which refuses a name that is already there.
#[derive(Default)]
pub(super) struct Fields {
    entries: Vec<Entry>,
    names: std::collections::HashSet<Box<str>>,
}

impl Fields {
    /// `table` is where the table stands.
    pub(super) fn push(&mut self, table: &Place, entry: Entry) -> Result<(), DocumentError> {
        if !self.names.insert(entry.name.clone()) {
            return table.below(entry.line, &entry.name).refuse("is there twice");
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The finished table.
    pub(super) fn done(self) -> Data {
        Data::Table(self.entries)
    }
}

/// Refuses nesting that is too deep. `depth` is the number of enclosing tables and lists.
pub(super) fn check_depth(depth: usize, line: usize) -> Result<(), DocumentError> {
    if depth <= Document::MAX_DEPTH {
        return Ok(());
    }
    Place::at(line).refuse(format!("the file has more than {} tables and lists in each other", Document::MAX_DEPTH))
}

/// Finds the line of a byte offset in a text.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of this byte, from 1.
    pub(super) fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}
