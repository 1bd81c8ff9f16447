//! Places in a JSON body, and how a body is read along them.
//!
//! Only what is asked for is kept: [`Wanted`] is a tree of pointers, and a body is read along it. If a member on the
//! way to one of them is there twice, the whole body is unusable, since which of the two counts would be a guess;
//! everything else is skipped unread, however deep it is.

use core::fmt;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::json::unmarked;

/// The most steps of a pointer.
const MAX_STEPS: usize = 16;

/// A JSON Pointer (RFC 6901): `/data/status`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pointer(Vec<Box<str>>);

impl Pointer {
    pub(super) const WHOLE: Self = Self(Vec::new());

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(steps) = text.strip_prefix('/') else {
            return Err(format!("{text:?} is no JSON Pointer: begin it with a slash, as in \"/data/status\""));
        };
        let steps: Option<Vec<Box<str>>> = steps.split('/').map(unescaped).collect();
        match steps {
            // RFC 6901 allows empty steps, but no API has such members: it is a slash too many.
            Some(steps) if steps.iter().any(|step| step.is_empty()) => {
                Err(format!("{text:?} has a slash with no name after it: write it as in \"/data/status\""))
            }
            Some(steps) if steps.len() <= MAX_STEPS => Ok(Self(steps)),
            Some(_) => Err(format!("{text:?} has more than {MAX_STEPS} steps")),
            None => Err(format!("{text:?} is no JSON Pointer: write ~0 for ~, and ~1 for a slash within a name")),
        }
    }

    pub(super) fn steps(&self) -> &[Box<str>] {
        &self.0
    }

    pub(super) fn child(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.into()]).collect())
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

fn unescaped(step: &str) -> Option<Box<str>> {
    let bad = step.split('~').skip(1).any(|after| !after.starts_with(['0', '1']));
    (!bad).then(|| step.replace("~1", "/").replace("~0", "~").into())
}

/// Which places of a body are looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    below: BTreeMap<Box<str>, Self>,
    /// For a list: what is looked at in each item.
    each: Option<Box<Self>>,
}

impl Wanted {
    pub(super) fn add(&mut self, pointer: &Pointer) {
        self.place(pointer);
    }

    /// What is looked at in each item of the list there.
    pub(super) fn each(&mut self, list: &Pointer) -> &mut Self {
        self.place(list).each.get_or_insert_default()
    }

    /// The places of both.
    fn and(mut self, other: &Self) -> Self {
        for (step, wanted) in &other.below {
            let known = self.below.remove(step).unwrap_or_default();
            self.below.insert(step.clone(), known.and(wanted));
        }
        if let Some(each) = &other.each {
            let known = self.each.take().map_or_else(Self::default, |known| *known);
            self.each = Some(Box::new(known.and(each)));
        }
        self
    }

    fn place(&mut self, pointer: &Pointer) -> &mut Self {
        pointer.0.iter().fold(self, |wanted, step| wanted.below.entry(step.clone()).or_default())
    }

    /// Reads the body along these places; `None` if it is not a JSON object (or not a list, where one is wanted), if
    /// anything follows it, or if a member on the way is there twice.
    pub(super) fn read(&self, body: &[u8]) -> Option<Node> {
        let body = unmarked(body);
        let start = body.trim_ascii_start().first()?;
        if *start != b'{' && !(*start == b'[' && self.each.is_some()) {
            return None;
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let node = self.deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(node)
    }
}

/// As much of a JSON value as was wanted.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(Box<str>),
    Float { zero: bool },
    Text(Box<str>),
    List { any: bool, at: BTreeMap<Box<str>, Self>, items: Vec<Self> },
    Object { more: bool, at: BTreeMap<Box<str>, Self> },
}

impl Node {
    pub(super) fn at(&self, pointer: &Pointer) -> Option<&Self> {
        pointer.0.iter().try_fold(self, |node, step| match node {
            Self::Object { at, .. } | Self::List { at, .. } => at.get(step),
            _ => None,
        })
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A text; or, with `number`, a whole number as text. A truth value is not a name: some APIs send `false` for none.
    pub(super) fn name(&self, number: bool) -> Option<&str> {
        self.word(number).filter(|_| !matches!(self, Self::Bool(_)))
    }

    /// A text; or, with `number`, a whole number or a truth value as text.
    pub(super) fn word(&self, number: bool) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(digits) if number => Some(digits),
            Self::Bool(flag) if number => Some(if *flag { "true" } else { "false" }),
            _ => None,
        }
    }

    pub(super) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// `null`, `false`, `0`, `""`, `[]`, `{}`, and an object that has only the members named in `aside`.
    pub(super) fn is_empty(&self, aside: &[Box<str>]) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(flag) => !flag,
            Self::Integer(digits) => &**digits == "0",
            Self::Float { zero } => *zero,
            Self::Text(text) => text.is_empty(),
            Self::List { any, .. } => !any,
            Self::Object { more, at } => !more && at.keys().all(|name| aside.contains(name)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Wanted {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Wanted {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.to_string().into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.to_string().into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float { zero: value == 0.0 })
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let (mut at, mut items, mut index) = (BTreeMap::new(), Vec::new(), 0_usize);
        loop {
            let there = match (&self.each, self.below.get_key_value(&*index.to_string())) {
                (Some(each), None) => list.next_element_seed(&**each)?.map(|item| items.push(item)),
                (None, Some((step, wanted))) => {
                    list.next_element_seed(wanted)?.map(|item| drop(at.insert(step.clone(), item)))
                }
                (Some(each), Some((step, wanted))) => {
                    let both = (**each).clone().and(wanted);
                    list.next_element_seed(&both)?.map(|item| {
                        at.insert(step.clone(), item.clone());
                        items.push(item);
                    })
                }
                (None, None) => list.next_element::<IgnoredAny>()?.map(drop),
            };
            if there.is_none() {
                return Ok(Node::List { any: index > 0, at, items });
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let (mut at, mut more) = (BTreeMap::new(), false);
        while let Some(name) = members.next_key::<String>()? {
            let Some(wanted) = self.below.get(&*name) else {
                members.next_value::<IgnoredAny>()?;
                more = true;
                continue;
            };
            match at.entry(name.into_boxed_str()) {
                Entry::Vacant(place) => drop(place.insert(members.next_value_seed(wanted)?)),
                Entry::Occupied(_) => return Err(A::Error::custom("a member that decides is there twice")),
            }
        }
        Ok(Node::Object { more, at })
    }
}
