//! Builds a profile from a table: each part in its own file here, and the checks between them.

use steadfast_core::Kind;

use super::file::Table;
use super::hook::Hook;
use super::lookup::Found;
use super::meaning::{State, pointer, pointers};
use super::read::{Echo, Read, ReferenceAt};
use super::request::{Sent, Target, headers};
use super::url::Origins;
use super::wait::Waits;
use super::{Call, Profile, ProfileError, policy};
use crate::BaseUrl;

pub(super) fn profile(root: &Table<'_>) -> Result<Profile, ProfileError> {
    let name = name(root)?;
    let base = root.need("base_url", "where the API is, such as \"https://api.example.com\"")?;
    let base = BaseUrl::parse(base.text()?).or_else(|error| base.refuse(error.to_string()))?;
    let origins = Origins::parse(root)?;
    let waits = Waits::parse(root)?;
    let status_in_body = root.get("status_in_body").map(|value| pointer(&value)).transpose()?;
    let stores_failures = root.get("stored_failures").map_or(Ok(true), |value| value.boolean())?;
    let (policy, safety) = policy::policy(root)?;
    let gate = policy::gate(root)?;
    let shared = |kind| root.get("headers").map_or_else(|| Ok(Vec::new()), |value| headers(&value, kind));

    let create = root.need("create", "the request that creates a job")?.table()?;
    let lookup = root.get("lookup").map(|value| value.table()).transpose()?;
    let poll = root.get("poll").map(|value| value.table()).transpose()?;
    // Looked up first, so that a misspelt field is not reported as missing.
    let (hook, _) = (root.get("webhook"), root.get("headers"));
    root.finish()?;

    let hook = hook.map(|value| Hook::parse(&value)).transpose()?;
    let poll = poll.map(|table| {
        let sent = Sent::parse(&table, Kind::Poll, &shared(Kind::Poll)?)?;
        let stated = table.get("state");
        let state = stated.as_ref().map(|value| State::parse(value, Kind::Poll, None)).transpose()?;
        let result = pointers(&table, "result")?;
        if let (Some(echo), Target::Reference) = (table.get("echo"), &sent.target) {
            return echo.refuse("is not looked at: the reference is a URL, which no answer repeats");
        }
        let echo = echo(&table)?;
        let rules = Read::rules(&table, Kind::Poll)?;
        table.finish()?;
        if !sent.bears_reference() {
            return table
                .place()
                .refuse("has {reference} nowhere: a poll asks about one job, as in \"/v1/jobs/{reference}\"");
        }
        let read = Read { echo, state, rules, ..Read::new(Kind::Poll, status_in_body.clone()) };
        let believed = hook.as_ref().is_some_and(|hook| hook.state.is_some());
        if let Some(stated) = stated.filter(|_| !read.may_end() && !believed) {
            return stated.refuse("has no value for an end, so no job would ever be done: which one is \"ready\"?");
        }
        Ok((Call { sent, read }, result))
    });
    let (mut poll, result) = poll.transpose()?.map_or((None, Vec::new()), |(poll, result)| (Some(poll), result));
    let is_url = poll.as_ref().is_some_and(|poll| matches!(poll.sent.target, Target::Reference));
    let is_path = poll.as_ref().is_some_and(|poll| poll.sent.bears_reference_path());

    let of_create = create.get("reference");
    if let Some(value) = &of_create
        && poll.is_none()
        && hook.as_ref().is_none_or(|hook| hook.state.is_none())
    {
        return value.refuse("leads nowhere: there is neither a [poll] nor a [webhook] that is believed, so nothing tells how a job ends");
    }
    let of_create = of_create
        .map(|value| match ReferenceAt::parse(&value, is_url)? {
            at if at.id && is_path => {
                value.refuse("says id, and [poll] has it for a path with slashes: it is one of the two")
            }
            at => Ok(at),
        })
        .transpose()?;
    if let (Some(at), Some(echo)) = (&of_create, poll.as_mut().and_then(|poll| poll.read.echo.as_mut())) {
        echo.number = at.number;
    }
    if poll.is_some() && of_create.is_none() {
        create.need("reference", "where the answer has the reference by which [poll] asks")?;
    }
    let create = {
        let sent = Sent::parse(&create, Kind::Create, &shared(Kind::Create)?)?;
        let echo = echo(&create)?;
        let rules = Read::rules(&create, Kind::Create)?;
        if of_create.is_none() && rules.is_empty() {
            create.need("reference", "where the answer has the reference; or rules that say when the job is done")?;
        }
        create.finish()?;
        let reference = of_create.clone();
        Call { sent, read: Read { reference, echo, rules, ..Read::new(Kind::Create, status_in_body.clone()) } }
    };
    let lookup = lookup.map(|table| {
        let sent = Sent::parse(&table, Kind::Lookup, &shared(Kind::Lookup)?)?;
        let own = table.get("reference").map(|value| ReferenceAt::parse(&value, is_url)).transpose()?;
        let list = table.get("list");
        if let (Some(echo), Some(_)) = (table.get("echo"), &list) {
            return echo.refuse("is not looked at beside list: there each job's key is, in list.key");
        }
        let echo = echo(&table)?;
        let found = list.map(|value| Found::parse(&value)).transpose()?;
        let rules = Read::rules(&table, Kind::Lookup)?;
        table.finish()?;
        if !sent.bears_key() {
            return table.place().refuse("has {key} nowhere: a look-up asks for the job of a key");
        }
        let reference = own.or_else(|| of_create.clone());
        let read = Read { reference, echo, found, rules, ..Read::new(Kind::Lookup, status_in_body.clone()) };
        Ok(Call { sent, read })
    });
    let lookup = lookup.transpose()?;
    policy::check_safety(policy.safety(), &safety, create.sent.bears_key(), lookup.is_some())?;
    Ok(Profile { name, base, origins, waits, stores_failures, policy, gate, create, lookup, poll, result, hook })
}

fn echo(table: &Table<'_>) -> Result<Option<Echo>, ProfileError> {
    let echo = |value| Ok(Echo { at: pointer(&value)?, number: false });
    table.get("echo").map(echo).transpose()
}

fn name(root: &Table<'_>) -> Result<Box<str>, ProfileError> {
    let value = root.need("name", "the provider's name in logs and journals, such as \"acme/scan\"")?;
    let name = value.text()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) {
        return value.refuse("is no name: 1 to 64 letters, digits, '-', '_', '.' and '/', as in \"acme/scan\"");
    }
    Ok(name.into())
}
