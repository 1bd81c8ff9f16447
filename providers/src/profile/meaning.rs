//! The words for what an answer means, and a status text's meaning.

use core::fmt;

use steadfast_core::Kind;

use super::ProfileError;
use super::file::{Table, Value};
use super::pointer::{Node, Pointer, Wanted};
use crate::json::plain;

/// What an answer, or a status in it, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Accepted,
    Pending,
    AwaitingUser,
    AwaitingReview,
    Ready,
    Partial,
    Undecided,
    Failed,
    NotFound,
    /// A status that is kept as text.
    Unknown,
    /// The next rule decides.
    Next,
    Transient,
    Throttled,
    Permanent,
    /// The credentials are invalid or have expired.
    Unauthorized,
}

use Meaning::{
    Accepted, AwaitingReview, AwaitingUser, Failed, Next, NotFound, Partial, Pending, Permanent, Ready, Throttled,
    Transient, Unauthorized, Undecided, Unknown,
};

const CREATE: &[(&str, Meaning)] = &[
    ("accepted", Accepted),
    ("ready", Ready),
    ("undecided", Undecided),
    ("failed", Failed),
    ("transient", Transient),
    ("throttled", Throttled),
    ("permanent", Permanent),
    ("unauthorized", Unauthorized),
    ("next", Next),
];

const LOOKUP: &[(&str, Meaning)] = &[
    ("accepted", Accepted),
    ("not-found", NotFound),
    ("transient", Transient),
    ("throttled", Throttled),
    ("permanent", Permanent),
    ("unauthorized", Unauthorized),
    ("next", Next),
];

const POLL: &[(&str, Meaning)] = &[
    ("pending", Pending),
    ("awaiting-user", AwaitingUser),
    ("awaiting-review", AwaitingReview),
    ("ready", Ready),
    ("partial", Partial),
    ("undecided", Undecided),
    ("failed", Failed),
    ("not-found", NotFound),
    ("unknown", Unknown),
    ("transient", Transient),
    ("throttled", Throttled),
    ("permanent", Permanent),
    ("unauthorized", Unauthorized),
    ("next", Next),
];

impl Meaning {
    /// The words that fit an answer to a request of this kind.
    pub(super) const fn words(kind: Kind) -> &'static [(&'static str, Self)] {
        match kind {
            Kind::Create => CREATE,
            Kind::Lookup => LOOKUP,
            _ => POLL,
        }
    }

    pub(super) const fn is_failure(self) -> bool {
        matches!(self, Transient | Throttled | Permanent | Unauthorized)
    }

    pub(super) fn name(self) -> &'static str {
        let all = [POLL, CREATE].concat();
        all.into_iter().find(|(_, meaning)| *meaning == self).map_or("", |(name, _)| name)
    }
}

/// A status text in a body, and what each of its values means.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) pointer: Pointer,
    pub(super) values: Vec<(Box<str>, Meaning)>,
    /// Ignoring the case of ASCII, control characters, and white space around.
    loose: bool,
    /// Whole numbers and truth values are read as their text.
    pub(super) number: bool,
    /// The meaning if there is no text. `None`: the answer is unusable.
    missing: Option<Meaning>,
    /// The meaning of a text that is none of the values.
    unknown: Meaning,
}

/// What a body's status says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Means(Meaning),
    Unknown(Box<str>),
    Unusable,
}

impl State {
    /// `missing` is the default for the table's field of that name.
    pub(super) fn parse(value: &Value<'_>, kind: Kind, missing: Option<Meaning>) -> Result<Self, ProfileError> {
        let table = value.table_such_as("{ pointer = \"/status\", values = { done = \"ready\" } }")?;
        let words = Meaning::words(kind);
        let pointer = pointer(&table.need("pointer", "where in the body the status is, such as \"/status\"")?)?;
        let listed = table.need("values", "what each status means, as in { done = \"ready\" }")?;
        let flag = |name| table.get(name).map_or(Ok(false), |value| value.boolean());
        let (loose, number) = (flag("loose")?, flag("number")?);
        let mut values: Vec<(Box<str>, Meaning)> = Vec::new();
        for (text, value) in listed.table()?.entries() {
            if plain(text).is_none() {
                return value.refuse("is no text that a status could be: say what it means in missing");
            }
            if loose && values.iter().any(|(other, _)| folded(other) == folded(text)) {
                return value.refuse("is there twice, since loose ignores case");
            }
            values.push((text.into(), value.word(words)?));
        }
        let word = |name| table.get(name).map(|value| value.word(words)).transpose();
        let is_last = missing.is_none();
        let missing = word("missing")?.or(missing);
        // Only a poll can keep an unknown text: for a create or a look-up it would mean nothing.
        let unknown = word("unknown")?.unwrap_or(if kind == Kind::Poll { Unknown } else { Next });
        table.finish()?;
        if is_last && (missing == Some(Next) || unknown == Next || values.iter().any(|(_, value)| *value == Next)) {
            return value.refuse("says \"next\", and nothing comes after it: that is for the states of rules");
        }
        Ok(Self { pointer, values, loose, number, missing, unknown })
    }

    pub(super) fn want(&self, wanted: &mut Wanted) {
        wanted.add(&self.pointer);
    }

    /// Whether some answer would have this meaning.
    pub(super) fn may_mean(&self, meaning: Meaning) -> bool {
        self.missing == Some(meaning)
            || self.unknown == meaning
            || self.values.iter().any(|(_, value)| *value == meaning)
    }

    pub(super) fn read(&self, body: &Node) -> Said {
        let text = body.at(&self.pointer).and_then(|node| node.word(self.number));
        let Some((text, shown)) = text.and_then(|text| Some((text, plain(text)?))) else {
            return self.missing.map_or(Said::Unusable, Said::Means);
        };
        let folded_text = if self.loose { folded(text) } else { String::new() };
        let fits = |value: &str| if self.loose { folded(value) == folded_text } else { value == text };
        let meaning = self.values.iter().find(|(value, _)| fits(value)).map_or(self.unknown, |(_, meaning)| *meaning);
        if meaning == Unknown { Said::Unknown(shown) } else { Said::Means(meaning) }
    }
}

/// `at /status: "done" ready; another text unknown; none no usable answer`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}:", self.pointer)?;
        for (at, (text, meaning)) in self.values.iter().enumerate() {
            write!(f, "{} {text:?} {}", if at > 0 { "," } else { "" }, meaning.name())?;
        }
        let missing = self.missing.map_or("no usable answer", Meaning::name);
        write!(f, "; another text {}; none {missing}", self.unknown.name())
    }
}

/// A text folded for loose comparison.
pub(super) fn folded(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.trim().to_ascii_lowercase()
}

pub(super) fn pointer(value: &Value<'_>) -> Result<Pointer, ProfileError> {
    Pointer::parse(value.text()?).or_else(|problem| value.refuse(problem))
}

/// A pointer, or several in the order in which they count.
pub(super) fn pointers(table: &Table<'_>, name: &'static str) -> Result<Vec<Pointer>, ProfileError> {
    let Some(value) = table.get(name) else { return Ok(Vec::new()) };
    value.one_or_more()?.iter().map(pointer).collect()
}
