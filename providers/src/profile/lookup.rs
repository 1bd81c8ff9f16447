//! `[lookup.list]`: a look-up that is answered with a list of jobs.
//!
//! A list decides whether something is created a second time, or another's job is taken for ours. So a job is adopted
//! only if every job in the list bears the key; and an empty list means "no such job" only if nothing is kept back or
//! yet to come: it must come with a 200, not with a 202 or a 206.

use http::StatusCode;
use steadfast_core::Reference;
use steadfast_core::operation::Reading;

use super::ProfileError;
use super::file::Value;
use super::meaning::{pointer, pointers};
use super::pointer::{Node, Pointer, Wanted};
use super::read::{Around, ReferenceAt, text_at};
use crate::Answer;

/// Where in the answer the list is, and what of each job is looked at.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) list: Pointer,
    pub(super) reference: Pointer,
    pub(super) key: Pointer,
    /// Of several jobs the one with the greatest number here counts.
    pub(super) newest: Option<Pointer>,
    /// Texts that must be the same in all jobs.
    alike: Vec<Pointer>,
    /// Shows whether there is a next page.
    more: Option<Pointer>,
    pub(super) count: Option<Pointer>,
}

struct Row<'n> {
    reference: &'n str,
    key: Option<&'n str>,
    number: Option<u64>,
    alike: Vec<Option<&'n str>>,
}

impl Found {
    pub(super) fn parse(value: &Value<'_>) -> Result<Self, ProfileError> {
        let table = value.table()?;
        let place = table.need("pointer", "where the list is, such as \"/results\", or \"\" if the answer is one")?;
        let list = if place.text()?.is_empty() { Pointer::WHOLE } else { pointer(&place)? };
        let needed = |name, what| table.need(name, what).and_then(|value| pointer(&value));
        let reference = needed("reference", "where in each job its reference is, such as \"/id\"")?;
        let key = needed(
            "key",
            "where in each job the idempotency key is: without it another's job could be taken for ours",
        )?;
        let optional = |name| table.get(name).map(|value| pointer(&value)).transpose();
        let (newest, more, count) = (optional("newest")?, optional("more")?, optional("count")?);
        let alike = pointers(&table, "alike")?;
        table.finish()?;
        Ok(Self { list, reference, key, newest, alike, more, count })
    }

    pub(super) fn want(&self, wanted: &mut Wanted) {
        self.more.iter().chain(&self.count).for_each(|pointer| wanted.add(pointer));
        let each = wanted.each(&self.list);
        let places = [&self.reference, &self.key].into_iter().chain(&self.newest).chain(&self.alike);
        places.for_each(|pointer| each.add(pointer));
    }

    /// `None`: it is unclear which job to adopt, or whether there is one.
    pub(super) fn read(
        &self,
        answer: &Answer<'_>,
        body: Option<&Node>,
        checks: Option<&ReferenceAt>,
        around: Around<'_>,
    ) -> Option<Reading> {
        let body = body?;
        let count = self.count.as_ref().map_or(Some(None), |at| number_at(body, at))?;
        let Some(Node::List { items, .. }) = body.at(&self.list) else { return None };
        if items.is_empty() {
            let next = self.more.as_ref().and_then(|at| body.at(at)).filter(|next| !next.is_null());
            // A flag such as `has_more` is always there, and a cursor may be.
            let more = next.is_some_and(|next| *next != Node::Bool(false) && next.text() != Some(""));
            let whole = answer.status == StatusCode::OK;
            return (whole && !more && count.is_none_or(|count| count == 0)).then_some(Reading::NotFound);
        }
        let number = checks.is_some_and(|checks| checks.number);
        let rows: Vec<Row<'_>> = items.iter().map(|item| self.row(item, number)).collect::<Option<_>>()?;
        let checked = |text: &str| match checks {
            Some(checks) => checks.checked(text, around),
            None => Reference::new(text).ok(),
        };
        let first = rows.first()?;
        // If the driver does not say which key was asked about, the list's filter is trusted; still all must be of one
        // key.
        let key = answer.key.map(steadfast_core::Key::as_str).or(first.key)?;
        let alike =
            |row: &Row<'_>| row.key == Some(key) && row.alike == first.alike && checked(row.reference).is_some();
        if !rows.iter().all(alike) {
            return None;
        }
        if let [row] = &rows[..] {
            return checked(row.reference).map(Reading::Accepted);
        }
        let mut numbered: Vec<(u64, &str)> =
            rows.iter().map(|row| Some((row.number?, row.reference))).collect::<Option<_>>()?;
        numbered.sort_unstable();
        let twice = numbered.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
        numbered.pop().filter(|_| !twice).and_then(|(_, text)| checked(text)).map(Reading::Accepted)
    }

    /// `number`: references may be whole numbers.
    fn row<'n>(&self, item: &'n Node, number: bool) -> Option<Row<'n>> {
        let Node::Object { .. } = item else { return None };
        let text = |pointer| text_at(Some(item), pointer, false).ok();
        Some(Row {
            reference: text_at(Some(item), &self.reference, number).ok()??,
            key: text(&self.key)?,
            number: self.newest.as_ref().map_or(Some(None), |at| number_at(item, at))?,
            alike: self.alike.iter().map(text).collect::<Option<_>>()?,
        })
    }
}

/// A non-negative whole number; `Some(None)` if nothing or `null` is there, `None` if something else is.
fn number_at(node: &Node, pointer: &Pointer) -> Option<Option<u64>> {
    match node.at(pointer) {
        None | Some(Node::Null) => Some(None),
        Some(Node::Integer(digits)) => digits.parse().ok().map(Some),
        Some(_) => None,
    }
}
