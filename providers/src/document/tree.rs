//! The tree that all formats share: tables, lists and values, each with its line.

use serde_json::Value;

use super::{Document, DocumentError, Place};

/// A value, and the line where it begins.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) data: Data,
}

#[derive(Clone)]
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
#[derive(Clone)]
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

    /// The field of this name from here, as an error tells it: `policy.create.backoff.cap`.
    pub(super) fn get(&self, field: &str) -> Option<&Self> {
        field.split('.').try_fold(self, |node, name| {
            node.entries().iter().find(|entry| *entry.name == *name).map(|entry| &entry.value)
        })
    }

    /// This over `base`: tables field by field, anything else as it is here. What only `base` has stands where its
    /// table does.
    pub(super) fn over(&self, base: &Value) -> Self {
        let (Data::Table(entries), Value::Object(base)) = (&self.data, base) else { return self.clone() };
        // A table with one field that is called otherwise is another kind of thing, of which nothing stays.
        if let [entry] = &**entries
            && base.len() == 1
            && !base.contains_key(&*entry.name)
        {
            return self.clone();
        }
        let named = entries.iter().map(|entry| match base.get(&*entry.name) {
            Some(base) => Entry { value: entry.value.over(base), ..entry.clone() },
            None => entry.clone(),
        });
        let stays = base.iter().filter(|(name, _)| entries.iter().all(|entry| *entry.name != ***name));
        let stays = stays.map(|(name, value)| Entry {
            name: name.as_str().into(),
            line: self.line,
            value: Self::of(value, self.line),
        });
        Self { line: self.line, data: Data::Table(named.chain(stays).collect()) }
    }

    /// A value that stands in this line.
    fn of(value: &Value, line: usize) -> Self {
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(flag) => Data::Bool(*flag),
            Value::Number(number) => match number.as_i128() {
                Some(number) => Data::Integer(number),
                None => Data::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Data::Text(text.as_str().into()),
            Value::Array(items) => Data::List(items.iter().map(|item| Self::of(item, line)).collect()),
            Value::Object(fields) => {
                let entry = |(name, value): (&String, _)| Entry {
                    name: name.as_str().into(),
                    line,
                    value: Self::of(value, line),
                };
                Data::Table(fields.iter().map(entry).collect())
            }
        };
        Self { line, data }
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
