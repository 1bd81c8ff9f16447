//! How answers are read: rules, then the reference of a create or the state of a poll, then the HTTP status.
//!
//! ```text
//! a rule on status and headers alone fits?              → what it says
//! a 2xx whose body is no JSON, or names a member twice? → no usable answer
//! a status in the body (`status_in_body`)?              → the same again with that status, if it is another
//! a rule that looks into the body fits?                 → what it says
//! not a 2xx?                                            → what crate::status says
//! create, look-up: the reference                        → accepted
//! poll: the state; without one a 202 is pending         → what it says
//! ```

use http::{HeaderMap, StatusCode};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, Reference};

use super::ProfileError;
use super::file::{Table, Value};
use super::lookup::Found;
use super::meaning::{Meaning, Said, State, pointers};
use super::pointer::{Node, Pointer, Wanted};
use super::request::header_name;
use super::rule::{Rule, Verdict};
use super::url::Origins;
use super::wait::Waits;
use crate::json::plain;
use crate::retry_after::first_line;
use crate::{Answer, BaseUrl};

/// The longest id if the file has `id = true` for references.
const MAX_ID_LEN: usize = 128;

/// How the answers to one kind of request are read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) rules: Vec<Rule>,
    pub(super) reference: Option<ReferenceAt>,
    pub(super) echo: Option<Echo>,
    pub(super) state: Option<State>,
    pub(super) found: Option<Found>,
    pub(super) status_in_body: Option<Pointer>,
}

/// Where an answer repeats what was asked about: the key for a create or look-up, the reference for a poll.
#[derive(Clone, Debug)]
pub(super) struct Echo {
    pub(super) at: Pointer,
    /// A whole number is accepted as a name too.
    pub(super) number: bool,
}

/// Where the provider's name for the job stands.
#[derive(Clone, Debug)]
pub(super) struct ReferenceAt {
    pub(super) place: ReferencePlace,
    /// A whole number is accepted as a name too.
    pub(super) number: bool,
    pub(super) id: bool,
    /// Polls go to the reference itself.
    pub(super) is_url: bool,
}

#[derive(Clone, Debug)]
pub(super) enum ReferencePlace {
    /// The first pointer that finds something counts.
    Body(Vec<Pointer>),
    Header(http::HeaderName),
}

/// The profile's settings that reading any answer needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) base: &'a BaseUrl,
    pub(super) origins: &'a Origins,
    pub(super) waits: &'a Waits,
}

impl ReferenceAt {
    pub(super) fn parse(value: &Value<'_>, is_url: bool) -> Result<Self, ProfileError> {
        let table = value.table_such_as("{ pointer = \"/id\" }")?;
        let (body, header) = (pointers(&table, "pointer")?, table.get("header"));
        let flag = |name| table.get(name).map_or(Ok(false), |value| value.boolean());
        let (number, id) = (flag("number")?, flag("id")?);
        table.finish()?;
        let place = match (body.is_empty(), header) {
            (false, None) => ReferencePlace::Body(body),
            (true, Some(header)) => ReferencePlace::Header(header_name(header.text()?, &header)?),
            _ => return value.refuse("needs one of pointer (into the body) and header"),
        };
        if is_url && id {
            return value.refuse("says id, and [poll] has it for a URL: it is one of the two");
        }
        Ok(Self { place, number, id, is_url })
    }

    /// A reference, if this profile accepts the text as one.
    pub(super) fn checked(&self, text: &str, around: Around<'_>) -> Option<Reference> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if text.trim().is_empty() || self.id && (text.len() > MAX_ID_LEN || !text.bytes().all(fits)) {
            return None;
        }
        if self.is_url {
            around.origins.url(around.base, text)?;
        }
        Reference::new(text).ok()
    }

    /// `Err`: something is there, but it is not text.
    fn text<'n>(&self, headers: &'n HeaderMap, body: Option<&'n Node>) -> Result<Option<&'n str>, ()> {
        match &self.place {
            ReferencePlace::Header(name) if headers.get_all(name).iter().count() > 1 => Err(()),
            ReferencePlace::Header(name) => Ok(first_line(headers, name)),
            ReferencePlace::Body(pointers) => {
                let texts: Result<Vec<_>, ()> = pointers.iter().map(|at| text_at(body, at, self.number)).collect();
                texts.map(|texts| texts.into_iter().flatten().next())
            }
        }
    }
}

/// The text at a place; `Ok(None)` if nothing or `null` is there.
pub(super) fn text_at<'n>(body: Option<&'n Node>, pointer: &Pointer, number: bool) -> Result<Option<&'n str>, ()> {
    match body.and_then(|body| body.at(pointer)) {
        None | Some(Node::Null) => Ok(None),
        Some(node) => node.name(number).map(Some).ok_or(()),
    }
}

/// What is known of an answer so far.
enum Step {
    Done(Result<Reading, Failure>),
    Means(Meaning, Option<Certainty>),
}

impl Read {
    pub(super) const fn new(kind: Kind, status_in_body: Option<Pointer>) -> Self {
        let (reference, echo, state, found) = (None, None, None, None);
        Self { kind, rules: Vec::new(), reference, echo, state, found, status_in_body }
    }

    pub(super) fn rules(table: &Table<'_>, kind: Kind) -> Result<Vec<Rule>, ProfileError> {
        let Some(rules) = table.get("rules") else { return Ok(Vec::new()) };
        let values = rules.list()?;
        let rules: Vec<Rule> = values.iter().map(|value| Rule::parse(value, kind)).collect::<Result<_, _>>()?;
        for (at, (rule, value)) in rules.iter().zip(&values).enumerate() {
            // Rules on the status alone are tried before all that look into a body, wherever they stand.
            let mut others = rules.iter().enumerate().filter(|(other, _)| *other < at || !rule.is_bodiless());
            if let Some((other, _)) = others.find(|(_, other)| other.is_asked_before_all_of(rule)) {
                return value.refuse(format!(
                    "is never asked: rule {other} (from 0), on the status alone, is asked before it and always fits"
                ));
            }
        }
        Ok(rules)
    }

    /// Whether some answer to a poll can end the job.
    pub(super) fn may_end(&self) -> bool {
        let ends = [Meaning::Ready, Meaning::Partial, Meaning::Undecided, Meaning::Failed];
        let may_end = |state: &State| ends.into_iter().any(|end| state.may_mean(end));
        let mut rules = self.rules.iter().map(|rule| match &rule.verdict {
            Verdict::Is(meaning, _) => ends.contains(meaning),
            Verdict::State(state) => may_end(state),
        });
        self.state.as_ref().is_none_or(may_end) || rules.any(|ends| ends)
    }

    pub(super) fn read(&self, answer: &Answer<'_>, around: Around<'_>) -> Result<Reading, Failure> {
        if let Some(step) = self.by_head(answer) {
            return self.told(step, answer, None, around);
        }
        if !answer.status.is_success() {
            return self.refusal(answer, around);
        }
        let unusable = around.waits.failure(answer);
        let body = if self.wants_body(answer.status) {
            Some(self.wanted(answer.status).read(answer.body).ok_or(unusable)?)
        } else {
            None
        };
        if self.contradicts_types(answer, body.as_ref()) || self.is_of_another(answer, body.as_ref()) {
            return Err(unusable);
        }
        let claimed = self.claimed_status(body.as_ref()).map_err(|()| unusable)?;
        let Some(claimed) = claimed.filter(|claimed| *claimed != answer.status) else {
            return self.by_body(answer, body.as_ref(), around);
        };
        let answer = Answer { status: claimed, ..*answer };
        if let Some(step) = self.by_head(&answer) {
            return self.told(step, &answer, body.as_ref(), around);
        }
        if !claimed.is_success() {
            return self.refusal(&answer, around);
        }
        // The claimed status has other rules, which may look elsewhere in the body.
        let body = self.wanted(claimed).read(answer.body).ok_or(unusable)?;
        self.by_body(&answer, Some(&body), around)
    }

    fn by_head(&self, answer: &Answer<'_>) -> Option<Step> {
        let mut bodiless = self.rules.iter().filter(|rule| rule.is_bodiless());
        let rule = bodiless.find(|rule| rule.when.fits_head(answer.status, answer.headers))?;
        match rule.verdict {
            Verdict::Is(meaning, certainty) => Some(Step::Means(meaning, certainty)),
            Verdict::State(_) => None,
        }
    }

    /// The first of the rules on bodies that fits, if any.
    fn by_rules(&self, answer: &Answer<'_>, body: Option<&Node>) -> Option<Step> {
        let fits = |rule: &&Rule| {
            !rule.is_bodiless()
                && rule.when.fits_head(answer.status, answer.headers)
                && rule.when.fits_body(answer, body)
        };
        self.rules.iter().filter(fits).find_map(|rule| match &rule.verdict {
            Verdict::Is(meaning, certainty) => Some(Step::Means(*meaning, *certainty)),
            Verdict::State(state) => match state.read(body?) {
                Said::Means(Meaning::Next) => None,
                Said::Means(meaning) => Some(Step::Means(meaning, None)),
                Said::Unknown(text) => Some(Step::Done(Ok(Reading::Unknown(text)))),
                Said::Unusable => None,
            },
        })
    }

    /// An answer that is not a 2xx. Its body may be anything.
    fn refusal(&self, answer: &Answer<'_>, around: Around<'_>) -> Result<Reading, Failure> {
        let body = self.wanted(answer.status).read(answer.body);
        match self.by_rules(answer, body.as_ref()) {
            Some(step) => self.told(step, answer, body.as_ref(), around),
            None => Err(around.waits.failure(answer)),
        }
    }

    fn by_body(&self, answer: &Answer<'_>, body: Option<&Node>, around: Around<'_>) -> Result<Reading, Failure> {
        if let Some(step) = self.by_rules(answer, body) {
            return self.told(step, answer, body, around);
        }
        let unusable = around.waits.failure(answer);
        match (&self.found, &self.state) {
            (Some(found), _) => found.read(answer, body, self.reference.as_ref(), around).ok_or(unusable),
            (None, Some(state)) => match state.read(body.ok_or(unusable)?) {
                Said::Means(Meaning::Next) | Said::Unusable => Err(unusable),
                Said::Means(meaning) => self.told(Step::Means(meaning, None), answer, body, around),
                Said::Unknown(text) => Ok(Reading::Unknown(text)),
            },
            (None, None) if self.kind == Kind::Poll && answer.status == StatusCode::ACCEPTED => {
                self.told(Step::Means(Meaning::Pending, None), answer, body, around)
            }
            (None, None) if self.kind == Kind::Poll => Ok(Reading::Ready),
            (None, None) => self.accepted(answer, body, around),
        }
    }

    fn told(
        &self,
        step: Step,
        answer: &Answer<'_>,
        body: Option<&Node>,
        around: Around<'_>,
    ) -> Result<Reading, Failure> {
        let (meaning, certainty) = match step {
            Step::Done(told) => return told,
            Step::Means(meaning, certainty) => (meaning, certainty),
        };
        let hint = around.waits.hint(answer);
        let failed = |class| {
            let mut failure = around.waits.failure(answer);
            failure.certainty = certainty.unwrap_or(failure.certainty);
            failure.class = class;
            Err(around.waits.until_reset(failure, answer))
        };
        let ends = matches!(meaning, Meaning::Ready | Meaning::Partial | Meaning::Undecided | Meaning::Failed);
        if ends && (body.is_none() || !answer.status.is_success()) {
            // The status was enough to decide; but an answer about another job must not end this one.
            let mut wanted = Wanted::default();
            self.echo.iter().for_each(|echo| wanted.add(&echo.at));
            if self.is_of_another(answer, wanted.read(answer.body).as_ref()) {
                return Err(around.waits.failure(answer));
            }
        }
        match meaning {
            Meaning::Accepted if answer.status.is_success() && body.is_some() => self.accepted(answer, body, around),
            // The body was not read for this yet if the answer was an error or its status was enough.
            Meaning::Accepted => {
                let mut wanted = Wanted::default();
                self.want_reference(&mut wanted);
                self.accepted(answer, wanted.read(answer.body).as_ref(), around)
            }
            Meaning::Pending => Ok(Reading::Pending { hint }),
            Meaning::AwaitingUser | Meaning::AwaitingReview => Ok(Reading::AwaitingPerson { hint }),
            Meaning::Ready => Ok(Reading::Ready),
            Meaning::Partial => Ok(Reading::Partial),
            Meaning::Undecided => Ok(Reading::Undecided),
            Meaning::Failed => Ok(Reading::Failed),
            Meaning::NotFound => Ok(Reading::NotFound),
            Meaning::Transient | Meaning::Unknown | Meaning::Next => failed(Class::Transient),
            Meaning::Throttled => failed(Class::Throttled),
            Meaning::Permanent => failed(Class::Permanent),
            Meaning::Unauthorized => failed(Class::Unauthorized),
        }
    }

    fn accepted(&self, answer: &Answer<'_>, body: Option<&Node>, around: Around<'_>) -> Result<Reading, Failure> {
        let unusable = around.waits.failure(answer);
        let reference = self.reference.as_ref().ok_or(unusable)?;
        if let Some(echo) = &self.echo {
            let echoed = text_at(body, &echo.at, echo.number).map_err(|()| unusable)?;
            if let (Some(key), Some(echoed)) = (answer.key, echoed)
                && key.as_str() != echoed
            {
                return Err(unusable);
            }
        }
        let text = reference.text(answer.headers, body).map_err(|()| unusable)?;
        text.and_then(|text| reference.checked(text, around)).map(Reading::Accepted).ok_or(unusable)
    }

    /// Whether a member that names the job is there, but is not a valid name.
    fn contradicts_types(&self, answer: &Answer<'_>, body: Option<&Node>) -> bool {
        let names_job = self.kind != Kind::Poll && self.found.is_none();
        let no_reference =
            names_job && self.reference.as_ref().is_some_and(|at| at.text(answer.headers, body).is_err());
        no_reference || self.echo.as_ref().is_some_and(|echo| text_at(body, &echo.at, echo.number).is_err())
    }

    /// Whether a poll's answer names another job than was asked about.
    fn is_of_another(&self, answer: &Answer<'_>, body: Option<&Node>) -> bool {
        let echo = self.echo.as_ref().filter(|_| self.kind == Kind::Poll);
        echo.is_some_and(|echo| match text_at(body, &echo.at, echo.number) {
            Ok(named) => answer.is_of_another(named),
            Err(()) => true,
        })
    }

    /// The status that counts: the answer's own, or the one that its body claims.
    pub(super) fn status(&self, answer: &Answer<'_>) -> StatusCode {
        if !answer.status.is_success() || self.status_in_body.is_none() {
            return answer.status;
        }
        let body = self.wanted(answer.status).read(answer.body);
        self.claimed_status(body.as_ref()).ok().flatten().unwrap_or(answer.status)
    }

    /// The job's status in the provider's word, where the answer has one.
    pub(super) fn decision(&self, answer: &Answer<'_>) -> Option<Box<str>> {
        let state = self.state.as_ref()?;
        let mut wanted = Wanted::default();
        state.want(&mut wanted);
        wanted.read(answer.body)?.at(&state.pointer)?.word(state.number).and_then(plain)
    }

    /// `Err`: the value there is not a status.
    fn claimed_status(&self, body: Option<&Node>) -> Result<Option<StatusCode>, ()> {
        let claimed = self.status_in_body.as_ref().and_then(|pointer| body?.at(pointer));
        match claimed {
            None | Some(Node::Null) => Ok(None),
            Some(Node::Integer(digits)) => {
                let status = digits.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
                status.map(Some).ok_or(())
            }
            Some(_) => Err(()),
        }
    }

    /// Whether an answer with this status, a 2xx, has to be JSON. Rules on other statuses do not matter for that.
    fn wants_body(&self, status: StatusCode) -> bool {
        let in_body = |at: &ReferenceAt| matches!(at.place, ReferencePlace::Body(_));
        self.state.is_some()
            || self.found.is_some()
            || self.status_in_body.is_some()
            || self.echo.is_some()
            || (self.kind != Kind::Poll && self.reference.as_ref().is_some_and(in_body))
            || self.rules.iter().any(|rule| rule.needs_json() && rule.when.fits_status(status))
    }

    /// What is looked at in the body of an answer with this status.
    fn wanted(&self, status: StatusCode) -> Wanted {
        let mut wanted = Wanted::default();
        let rules = self.rules.iter().filter(|rule| !rule.is_bodiless() && rule.when.fits_status(status));
        rules.for_each(|rule| rule.want(&mut wanted));
        if status.is_success() {
            self.want_reference(&mut wanted);
            self.state.iter().for_each(|state| state.want(&mut wanted));
            self.found.iter().for_each(|found| found.want(&mut wanted));
            self.status_in_body.iter().for_each(|pointer| wanted.add(pointer));
        }
        wanted
    }

    fn want_reference(&self, wanted: &mut Wanted) {
        self.echo.iter().for_each(|echo| wanted.add(&echo.at));
        if self.kind == Kind::Poll || self.found.is_some() {
            return;
        }
        if let Some(ReferenceAt { place: ReferencePlace::Body(pointers), .. }) = &self.reference {
            pointers.iter().for_each(|pointer| wanted.add(pointer));
        }
    }
}
