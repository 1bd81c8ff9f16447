//! `[[poll.rules]]`: when an answer looks like this, it means that.
//!
//! Rules are tried in the order of the file, and the first that fits counts; but those that look at status and headers
//! alone are tried before those that look into the body. A rule that names no status applies to 2xx answers.

use core::fmt;
use std::borrow::Cow;

use http::{HeaderMap, HeaderName, StatusCode};
use steadfast_core::Kind;
use steadfast_core::retry::Certainty;

use super::ProfileError;
use super::file::{Table, Value};
use super::meaning::{Meaning, State, folded, pointer};
use super::pointer::{Node, Pointer, Wanted};
use super::request::header_name;
use crate::Answer;

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) when: When,
    pub(super) verdict: Verdict,
}

const NO_PROOF: &str =
    "would have a create sent again on the word of an error: only a 2xx, a 404 or a 410 says that there is no job";

#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Is(Meaning, Option<Certainty>),
    State(State),
}

/// The conditions of a rule; all must hold.
#[derive(Clone, Debug)]
pub(super) struct When {
    /// Ranges, inclusive at both ends.
    pub(super) statuses: Cow<'static, [(u16, u16)]>,
    pub(super) headers: Vec<(HeaderName, Test)>,
    pub(super) body: Vec<(Option<Pointer>, Test)>,
}

/// Every 2xx.
const GOOD: When = When { statuses: Cow::Borrowed(&[(200, 299)]), headers: Vec::new(), body: Vec::new() };

#[derive(Clone, Debug)]
pub(super) struct Test {
    pub(super) what: What,
    loose: bool,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Present(bool),
    Empty {
        empty: bool,
        aside: Vec<Box<str>>,
    },
    /// Equal to one of these texts, whole numbers or truth values.
    Equals(Vec<(Sort, Box<str>)>),
    /// Contains one of these.
    Contains(Vec<Box<str>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Text,
    Number,
    Flag,
}

impl Rule {
    pub(super) fn parse(value: &Value<'_>, kind: Kind) -> Result<Self, ProfileError> {
        let table = value.table()?;
        let when = table.get("when").map_or(Ok(GOOD), |value| When::parse(&value))?;
        let (is, state, certainty) = (table.get("is"), table.get("state"), table.get("certainty"));
        for (name, condition) in table.entries() {
            if ["status", "header", "body"].contains(&name) {
                return condition.refuse("is a condition, and belongs into when, as in when = { status = 404 }");
            }
        }
        table.finish()?;
        let verdict = match (is, state) {
            (Some(is), None) => {
                let meaning = is.word(Meaning::words(kind))?;
                if matches!(meaning, Meaning::Next | Meaning::Unknown) {
                    return is.refuse(format!(
                        "\"{}\" is for a state's values: a rule says what the answer means",
                        meaning.name()
                    ));
                }
                if kind == Kind::Lookup && meaning == Meaning::NotFound && !when.proves_absence() {
                    return is.refuse(NO_PROOF);
                }
                Verdict::Is(meaning, certainty.map(|value| sure(&value, kind, meaning)).transpose()?)
            }
            (None, Some(value)) if certainty.is_none() => {
                let state = State::parse(&value, kind, Some(Meaning::Next))?;
                if kind == Kind::Lookup && state.may_mean(Meaning::NotFound) && !when.proves_absence() {
                    return value.refuse(NO_PROOF);
                }
                Verdict::State(state)
            }
            (None, Some(_)) => return value.refuse("has a certainty, which belongs to a rule with is"),
            _ => return value.refuse("needs one of is and state"),
        };
        Ok(Self { when, verdict })
    }

    /// Whether status and headers alone decide.
    pub(super) fn is_bodiless(&self) -> bool {
        self.when.body.is_empty() && matches!(self.verdict, Verdict::Is(..))
    }

    /// Whether this rule, by status alone, fits every answer that the other one fits.
    pub(super) fn is_asked_before_all_of(&self, other: &Self) -> bool {
        let within =
            |(from, to): &(u16, u16)| self.when.statuses.iter().any(|(least, most)| least <= from && to <= most);
        self.is_bodiless() && self.when.headers.is_empty() && other.when.statuses.iter().all(within)
    }

    /// Whether it looks into a body as JSON.
    pub(super) fn needs_json(&self) -> bool {
        matches!(self.verdict, Verdict::State(_)) || self.when.body.iter().any(|(pointer, _)| pointer.is_some())
    }

    pub(super) fn want(&self, wanted: &mut Wanted) {
        for (pointer, test) in &self.when.body {
            let Some(pointer) = pointer else { continue };
            wanted.add(pointer);
            if let What::Empty { aside, .. } = &test.what {
                aside.iter().for_each(|name| wanted.add(&pointer.child(name)));
            }
        }
        if let Verdict::State(state) = &self.verdict {
            state.want(wanted);
        }
    }
}

/// `404: not-found`; `503, /detail "source unavailable": transient`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (from, to)) in self.when.statuses.iter().enumerate() {
            let or = if at > 0 { " or " } else { "" };
            match (from, to) {
                (100, 999) => write!(f, "{or}any status")?,
                (from, to) if from == to => write!(f, "{or}{from}")?,
                (from, _) => write!(f, "{or}{}xx", from / 100)?,
            }
        }
        self.when.headers.iter().try_for_each(|(name, test)| write!(f, ", {name} {test}"))?;
        for (pointer, test) in &self.when.body {
            match pointer {
                Some(pointer) => write!(f, ", {pointer} {test}")?,
                None => write!(f, ", body {test}")?,
            }
        }
        match &self.verdict {
            Verdict::Is(meaning, certainty) => {
                let sure = CERTAINTIES.iter().find(|(_, sure)| Some(*sure) == *certainty);
                write!(f, ": {}{}", meaning.name(), sure.map_or(String::new(), |(word, _)| format!(", {word}")))
            }
            Verdict::State(state) => write!(f, ": {state}"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Present(true) => f.write_str("is there"),
            What::Present(false) => f.write_str("is not there"),
            What::Empty { empty, aside } => {
                f.write_str(if *empty { "is empty" } else { "is not empty" })?;
                if aside.is_empty() { Ok(()) } else { write!(f, " ({} aside)", aside.join(", ")) }
            }
            What::Contains(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
                write!(f, "contains {}", parts.join(" or "))
            }
            What::Equals(those) => {
                let those: Vec<String> = those
                    .iter()
                    .map(|(sort, text)| if *sort == Sort::Text { format!("{text:?}") } else { text.to_string() })
                    .collect();
                write!(f, "is {}", those.join(" or "))
            }
        }
    }
}

fn sure(value: &Value<'_>, kind: Kind, meaning: Meaning) -> Result<Certainty, ProfileError> {
    if kind != Kind::Create || !meaning.is_failure() {
        return value.refuse("is for failures of a create: nothing else runs a job");
    }
    value.word(&CERTAINTIES)
}

const CERTAINTIES: [(&str, Certainty); 3] = [
    ("not-executed", Certainty::NotExecuted),
    ("may-have-executed", Certainty::MayHaveExecuted),
    ("executed", Certainty::Executed),
];

impl When {
    /// Whether an answer that fits can be the provider's word that there is no such job.
    fn proves_absence(&self) -> bool {
        let says =
            |(from, to): &(u16, u16)| (200..300).contains(from) && *to < 300 || from == to && [404, 410].contains(from);
        self.statuses.iter().all(says)
    }

    fn parse(value: &Value<'_>) -> Result<Self, ProfileError> {
        let table = value.table()?;
        let mut when = GOOD;
        if let Some(status) = table.get("status") {
            when.statuses = status.one_or_more()?.iter().map(statuses).collect::<Result<_, _>>()?;
        }
        if let Some(header) = table.get("header") {
            when.headers = header.one_or_more()?.iter().map(header_test).collect::<Result<_, _>>()?;
        }
        if let Some(body) = table.get("body") {
            when.body = body.one_or_more()?.iter().map(body_test).collect::<Result<_, _>>()?;
        }
        table.finish()?;
        Ok(when)
    }

    pub(super) fn fits_status(&self, status: StatusCode) -> bool {
        self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status.as_u16()))
    }

    pub(super) fn fits_head(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let holds = |(name, test): &(HeaderName, Test)| {
            let mut lines = headers.get_all(name).iter().peekable();
            match &test.what {
                What::Present(present) => lines.peek().is_some() == *present,
                _ => lines.any(|line| line.to_str().is_ok_and(|line| test.holds_of_text(line))),
            }
        };
        self.fits_status(status) && self.headers.iter().all(holds)
    }

    /// `body` is the part that the rules want, if the body is JSON.
    pub(super) fn fits_body(&self, answer: &Answer<'_>, body: Option<&Node>) -> bool {
        self.body.iter().all(|(pointer, test)| match pointer {
            Some(pointer) => body.is_some_and(|body| test.holds_of(body.at(pointer))),
            None => core::str::from_utf8(answer.body).is_ok_and(|text| test.holds_of_text(text)),
        })
    }
}

impl Test {
    /// `values`: the condition is on a JSON value, not on a header.
    fn parse(table: &Table<'_>, place: &Value<'_>, values: bool) -> Result<Self, ProfileError> {
        let loose = table.get("loose").map_or(Ok(false), |value| value.boolean())?;
        let (equals, contains, present) = (table.get("equals"), table.get("contains"), table.get("present"));
        let (empty, aside) = if values { (table.get("empty"), table.get("aside")) } else { (None, None) };
        table.finish()?;
        if let Some(aside) = &aside
            && empty.is_none()
        {
            return aside.refuse("says which members empty does not look at, and there is no empty");
        }
        let what = match (equals, contains, present, empty) {
            (Some(equals), None, None, None) => {
                What::Equals(equals.one_or_more()?.iter().map(|value| scalar(value, loose)).collect::<Result<_, _>>()?)
            }
            (None, Some(contains), None, None) => {
                let part = |value: &Value<'_>| match value.text()? {
                    "" => value.refuse("is empty, which every text contains"),
                    text => Ok(if loose { folded(text).into() } else { text.into() }),
                };
                What::Contains(contains.one_or_more()?.iter().map(part).collect::<Result<_, _>>()?)
            }
            (None, None, Some(present), None) => What::Present(present.boolean()?),
            (None, None, None, Some(empty)) => {
                let name = |value: &Value<'_>| value.text().map(Into::into);
                let aside = aside.map_or(Ok(Vec::new()), |aside| aside.list()?.iter().map(name).collect())?;
                What::Empty { empty: empty.boolean()?, aside }
            }
            _ if values => return place.refuse("needs one of equals, contains, present and empty"),
            _ => return place.refuse("needs one of equals, contains and present"),
        };
        Ok(Self { what, loose })
    }

    fn holds_of_text(&self, text: &str) -> bool {
        self.holds_of_word(Sort::Text, text)
    }

    fn holds_of_word(&self, sort: Sort, word: &str) -> bool {
        let word = if self.loose { &*folded(word) } else { word };
        match &self.what {
            What::Equals(those) => those.iter().any(|(other, those)| *other == sort && **those == *word),
            What::Contains(parts) => sort == Sort::Text && parts.iter().any(|part| word.contains(&**part)),
            What::Present(_) | What::Empty { .. } => false,
        }
    }

    fn holds_of(&self, node: Option<&Node>) -> bool {
        match &self.what {
            What::Present(present) => node.is_some_and(|node| !node.is_null()) == *present,
            What::Empty { empty, aside } => node.is_none_or(|node| node.is_empty(aside)) == *empty,
            What::Equals(_) | What::Contains(_) => match node {
                Some(Node::Text(text)) => self.holds_of_word(Sort::Text, text),
                Some(Node::Integer(digits)) => self.holds_of_word(Sort::Number, digits),
                Some(Node::Bool(flag)) => self.holds_of_word(Sort::Flag, if *flag { "true" } else { "false" }),
                _ => false,
            },
        }
    }
}

fn scalar(value: &Value<'_>, loose: bool) -> Result<(Sort, Box<str>), ProfileError> {
    if let Some(number) = value.as_integer() {
        return Ok((Sort::Number, number.to_string().into()));
    }
    if let Some(flag) = value.as_bool() {
        return Ok((Sort::Flag, if flag { "true" } else { "false" }.into()));
    }
    let text = value.text()?;
    Ok((Sort::Text, if loose { folded(text).into() } else { text.into() }))
}

fn statuses(value: &Value<'_>) -> Result<(u16, u16), ProfileError> {
    if let Some(number) = value.as_integer() {
        return match u16::try_from(number) {
            Ok(status @ 100..=599) => Ok((status, status)),
            _ => value.refuse(format!("{number} is no HTTP status: those are 100 to 599")),
        };
    }
    if value.text().is_ok_and(|text| text.parse::<u16>().is_ok()) {
        return value.refuse("is a text where a number is expected: write it without quotes, as in 404");
    }
    let ranges = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(1..);
    let mut words: Vec<_> = ranges.map(|(word, hundreds)| (word, (hundreds * 100, hundreds * 100 + 99))).collect();
    words.push(("any", (100, 999)));
    value.word(&words)
}

fn header_test(value: &Value<'_>) -> Result<(HeaderName, Test), ProfileError> {
    let table = value.table()?;
    let name = table.need("name", "the header's name")?;
    let name = header_name(name.text()?, &name)?;
    Ok((name, Test::parse(&table, value, false)?))
}

fn body_test(value: &Value<'_>) -> Result<(Option<Pointer>, Test), ProfileError> {
    let table = value.table()?;
    let at = table.get("pointer").map(|value| pointer(&value)).transpose()?;
    let test = Test::parse(&table, value, true)?;
    if at.is_none() && !matches!(test.what, What::Contains(_)) {
        return value.refuse("needs a pointer: only contains looks at the whole body as text");
    }
    Ok((at, test))
}
