//! Reads a part of a document as settings of any type, by serde: each fault is reported by line and field, in our own
//! words.
//!
//! A fault first has no place. On its way up each table and list adds its own step, and the innermost also its line. A
//! message from a policy's constructor (*backoff.cap is 3s: it must be …*) is first traced to the field that it is
//! about.

use core::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::{Data, DocumentError, Entry, Node, Place, did_you_mean};

/// Reads this part of a document, which stands at this place.
pub(crate) fn read<T: DeserializeOwned>(node: &Node, place: &Place) -> Result<T, DocumentError> {
    T::deserialize(Setting(node)).map_err(|fault| {
        let fault = fault.within(node, place.line);
        let field = fault.steps.iter().rev().fold(place.field.to_string(), |field, step| match step {
            Step::Name(name) if field.is_empty() => name.to_string(),
            Step::Name(name) => format!("{field}.{name}"),
            Step::Item(index) => format!("{field}[{index}]"),
        });
        let line = fault.line.unwrap_or(place.line);
        DocumentError::new(&Place { line, field: field.into() }, fault.problem)
    })
}

#[derive(Debug)]
enum Step {
    Name(Box<str>),
    Item(usize),
}

impl Step {
    /// A quoted name may hold any character, and it is shown.
    fn name(name: &str) -> Self {
        Self::Name(name.escape_debug().to_string().into())
    }
}

/// What is wrong, and the path to it from the innermost step outward.
#[derive(Debug)]
struct Fault {
    problem: String,
    line: Option<usize>,
    steps: Vec<Step>,
}

impl Fault {
    fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), line: None, steps: Vec::new() }
    }

    /// The fault of what was read from this node, whose name stands in this line.
    fn within(mut self, node: &Node, line: usize) -> Self {
        if self.line.is_none() {
            self.line = Some(line);
            self.follow(node);
        }
        self
    }

    fn below(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// A policy's message names its fields by the policy's own name: `backoff.cap is 3s: it must be …`. For the reader
    /// of a file that is the field `cap` of this table, or one further within.
    fn follow(&mut self, node: &Node) {
        let Some((field, problem)) = self.problem.split_once(" is ") else { return };
        let is_name = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_');
        if !problem.contains(": it must be ") || field.is_empty() || !field.bytes().all(is_name) {
            return;
        }
        let names: Vec<&str> = field.split('.').collect();
        // The path usually begins with the type's own name; in the file its table may have another.
        let without_own = names.get(1..).filter(|names| !names.is_empty());
        let found = way(node, &names).or_else(|| way(node, without_own?));
        let problem = format!("is {problem}");
        match found {
            _ if !matches!(node.data, Data::Table(_)) => {} // It is the field itself.
            Some((line, steps)) => {
                self.line = Some(line);
                self.steps.extend(steps.into_iter().rev().map(Step::name));
            }
            // The field was left out, and its default does not fit.
            None => self.steps.extend(without_own.unwrap_or(&names).iter().rev().map(|name| Step::name(name))),
        }
        self.problem = problem;
    }
}

/// Finds the fields of these names, each somewhere within the one before, nearer ones first. Returns the last one's
/// line, and all names on the way.
fn way<'n>(node: &'n Node, names: &[&str]) -> Option<(usize, Vec<&'n str>)> {
    let Some((first, rest)) = names.split_first() else { return Some((node.line, Vec::new())) };
    let mut level: Vec<(Vec<&Entry>, &Node)> = vec![(Vec::new(), node)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (on_the_way, node) in level {
            for entry in node.entries() {
                let mut to = on_the_way.clone();
                to.push(entry);
                if *entry.name == **first
                    && let Some((line, further)) = way(&entry.value, rest)
                {
                    let line = if rest.is_empty() { entry.line } else { line };
                    return Some((line, to.iter().map(|entry| &*entry.name).chain(further).collect()));
                }
                next.push((to, &entry.value));
            }
        }
        level = next;
    }
    None
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl core::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(said: T) -> Self {
        let said = said.to_string();
        // The message for a duration repeats what was written, which may be anything.
        let said = match said.strip_prefix('"').and_then(|said| said.rsplit_once("\" is not ")) {
            Some((_, expected)) => format!("is not {expected}"),
            None => said,
        };
        Self::new(said)
    }

    fn invalid_type(is: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("is {} where {} is expected", kind(&is), wanted(&expected.to_string())))
    }

    fn invalid_value(is: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let wanted = wanted(&expected);
        match is {
            Unexpected::Unsigned(number) => Self::new(format!("is {number} where {wanted} is expected")),
            Unexpected::Signed(number) => Self::new(format!("is {number} where {wanted} is expected")),
            _ => Self::new(format!("is {} where {wanted} is expected", kind(&is))),
        }
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("has {length} items where {expected} is expected"))
    }

    fn unknown_variant(written: &str, known: &'static [&'static str]) -> Self {
        let meant = did_you_mean(written, known.iter().copied());
        Self::new(format!("is none of {}{meant}", known.join(", ")))
    }

    fn unknown_field(written: &str, known: &'static [&'static str]) -> Self {
        let meant = did_you_mean(written, known.iter().copied());
        let there = if meant.is_empty() { ": there".to_owned() } else { format!("{meant} There") };
        Self::new(format!("is no field here{there} are {}", known.join(", ")))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new("is missing").below(Step::name(name))
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::new("is there twice").below(Step::name(name))
    }
}

const fn kind<'w>(is: &Unexpected<'w>) -> &'w str {
    match is {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "a text",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map | Unexpected::StructVariant | Unexpected::NewtypeStruct | Unexpected::NewtypeVariant => {
            "a table"
        }
        Unexpected::UnitVariant | Unexpected::TupleVariant => "a word",
        Unexpected::Enum => "a word or a table",
        Unexpected::Other(what) => what,
    }
}

/// What serde expects, in words for people who write files.
fn wanted(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "u32" => "a whole number up to 4294967295",
        "u64" | "usize" | "i64" | "isize" => "a whole number",
        "a nonzero u8" => "a whole number from 1 to 255",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number from 1 up",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" | "a borrowed string" | "a character" => "a text in quotes",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") || expected.starts_with("map") || expected == "a map" => "a table",
        _ if expected.starts_with("enum ") || expected.starts_with("variant ") => "a word or a table",
        _ => expected,
    }
}

/// A node as a serde deserializer.
struct Setting<'n>(&'n Node);

impl<'n> Setting<'n> {
    /// The field of this name within.
    fn entry<'de, T: DeserializeSeed<'de>>(entry: &'n Entry, seed: T) -> Result<T::Value, Fault>
    where
        'n: 'de,
    {
        seed.deserialize(Setting(&entry.value))
            .map_err(|fault| fault.within(&entry.value, entry.line).below(Step::name(&entry.name)))
    }
}

impl<'de> Deserializer<'de> for Setting<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.data {
            Data::Null => visitor.visit_unit(),
            Data::Bool(flag) => visitor.visit_bool(*flag),
            Data::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (_, Ok(number)) => visitor.visit_u64(number),
                (Ok(number), _) => visitor.visit_i64(number),
                _ => Err(Fault::new("is a number beyond any that is read")),
            },
            Data::Float(number) => visitor.visit_f64(*number),
            Data::Date => Err(Fault::invalid_type(Unexpected::Other("a date"), &visitor)),
            Data::Text(text) => visitor.visit_borrowed_str(text),
            Data::List(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Data::Table(entries) => visitor.visit_map(Members { entries: entries.iter(), named: None }),
        }
    }

    /// Only from a table: serde would accept a list as well, by the order of the fields, and no file should rely on
    /// that.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.data {
            Data::List(_) => Err(Fault::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if matches!(self.0.data, Data::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.data {
            Data::Text(word) => visitor.visit_enum(Variant { word, settings: None }),
            Data::Table(entries) => match &**entries {
                [entry] => visitor.visit_enum(Variant { word: &entry.name, settings: Some(entry) }),
                _ => {
                    let problem =
                        format!("has {} fields where one of {} is expected", entries.len(), variants.join(", "));
                    Err(Fault::new(problem))
                }
            },
            _ => Err(Fault::new(format!("is {} where one of {} is expected", self.0.kind(), variants.join(", ")))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct identifier
        ignored_any
    }
}

struct Items<'n> {
    items: core::slice::Iter<'n, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        let read = seed.deserialize(Setting(item));
        read.map(Some).map_err(|fault| fault.within(item, item.line).below(Step::Item(index)))
    }
}

struct Members<'n> {
    entries: core::slice::Iter<'n, Entry>,
    named: Option<&'n Entry>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.named = Some(entry);
        let name: StrDeserializer<'de, Fault> = (*entry.name).into_deserializer();
        let at_name = |fault: Fault| Fault { line: Some(entry.line), ..fault }.below(Step::name(&entry.name));
        seed.deserialize(name).map(Some).map_err(at_name)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.named.take() {
            Some(entry) => Setting::entry(entry, seed),
            None => Err(Fault::new("has a value without a name")),
        }
    }
}

/// A word, or a table with one field: the word and its settings.
struct Variant<'n> {
    word: &'n str,
    settings: Option<&'n Entry>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let word: StrDeserializer<'de, Fault> = self.word.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'de> Variant<'de> {
    fn settings(&self) -> Result<&'de Entry, Fault> {
        self.settings
            .ok_or_else(|| Fault::new("is a word that needs settings: write a table with one field of that name"))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.settings {
            None => Ok(()),
            Some(entry) if matches!(entry.value.data, Data::Null) => Ok(()),
            Some(_) => Err(Fault::new("has settings for a word that takes none: write the word alone, in quotes")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        Setting::entry(self.settings()?, seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        Setting::entry(self.settings()?, InList(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        Setting::entry(self.settings()?, InTable(visitor))
    }
}

/// Adapts a visitor to where a seed is wanted.
struct InList<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for InList<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_seq(self.0)
    }
}

/// The same, for a table.
struct InTable<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for InTable<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_map(self.0)
    }
}
