//! A profile in words, for a person who has to trust it.

use core::fmt::Write as _;

use steadfast_core::gate::{Kinds, RateLimit};
use steadfast_core::policy::humane;
use steadfast_core::{Kind, SendSafety};

use super::read::{ReferenceAt, ReferencePlace};
use super::request::{Body, KeyPlace, Target};
use super::wait::RESETS;
use super::{Call, Profile};
use crate::webhook::Scheme;

impl Profile {
    /// Describes this profile, one fact per line: requests, key, safety, states, limits, webhooks, and the secrets it
    /// needs by name.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("{} at {}\n", self.name, self.base);
        let mut line = |what: &str, said: String| {
            let said = in_a_line(&said);
            let _ = writeln!(text, "  {what:<10} {said}");
        };
        for (name, call) in
            [("create", Some(&self.create)), ("lookup", self.lookup.as_ref()), ("poll", self.poll.as_ref())]
        {
            line(name, call.map_or_else(|| "none".to_owned(), request));
        }
        line("key", key(&self.create));
        line("safety", safety(self.policy.safety()));
        line(
            "reference",
            self.reference().map_or_else(|| "none: the create's answer is the last".to_owned(), reference),
        );
        for (name, call) in
            [("create", Some(&self.create)), ("lookup", self.lookup.as_ref()), ("poll", self.poll.as_ref())]
        {
            let rules = call.iter().flat_map(|call| &call.read.rules);
            rules.for_each(|rule| line("rule", format!("{name}: {rule}")));
        }
        self.poll.iter().filter_map(|poll| poll.read.state.as_ref()).for_each(|state| line("state", state.to_string()));
        let limits: Vec<String> = self.gate.rate_limits().iter().map(limit).collect();
        line("limits", if limits.is_empty() { "none but what answers teach".to_owned() } else { limits.join("; ") });
        line("waits", self.waits());
        line("webhooks", self.webhooks());
        let secrets: Vec<&str> = self.secrets().into_iter().map(|(_, variable)| variable).collect();
        line("secrets", if secrets.is_empty() { "none".to_owned() } else { secrets.join(", ") });
        text
    }

    fn waits(&self) -> String {
        let retry_after =
            if self.waits.retry_after { "Retry-After is believed" } else { "Retry-After is not believed" };
        let reset = RESETS.iter().find(|(_, reset)| *reset == self.waits.reset).map_or("", |(word, _)| word);
        let ends = if self.waits.wait_for_reset { "; throttled requests wait for the reset" } else { "" };
        format!("{retry_after}; rate-limit resets: {reset}{ends}")
    }

    fn webhooks(&self) -> String {
        let Some(hook) = &self.hook else { return "none".to_owned() };
        let scheme = match &hook.scheme {
            Scheme::StandardWebhooks => "signed by Standard Webhooks".to_owned(),
            Scheme::Stripe => "signed as Stripe does".to_owned(),
            Scheme::Timed { header } => format!("signed as Stripe does, in {header}"),
            Scheme::Didit(_) => "signed as Didit does".to_owned(),
            Scheme::Hmac { header, .. } => format!("signed in {header}, without a time"),
            Scheme::Token { header } => format!("not signed, known by a token in {header}"),
        };
        let believed = match (&hook.scheme, &hook.state) {
            (_, Some(_)) => "their state is believed",
            (Scheme::Token { .. }, None) => "each makes a poll due now, and tells nothing else",
            (_, None) => "each makes a poll due now",
        };
        let tolerance = match hook.scheme {
            Scheme::Hmac { .. } | Scheme::Token { .. } => String::new(),
            _ => format!(", within {}", humane::format(hook.tolerance)),
        };
        format!("{scheme}{tolerance}; {believed}")
    }
}

/// A text from the file may hold anything; after a line break it could pose as a fact of its own.
pub(super) fn in_a_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect()
}

fn request(call: &Call) -> String {
    let target = match &call.sent.target {
        Target::Reference => "the reference's own URL".to_owned(),
        Target::Path(segments) => segments.iter().map(|segment| format!("/{segment}")).collect(),
    };
    let query: Vec<String> = call.sent.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let body = match call.sent.body {
        Body::None => "",
        Body::Payload => " with the payload",
        Body::Json(_) => " with JSON of its own",
    };
    format!("{} {target}{query}{body}", call.sent.method)
}

fn key(create: &Call) -> String {
    match &create.sent.key {
        Some(KeyPlace::Header { name, quoted: false }) => format!("in the header {name}"),
        Some(KeyPlace::Header { name, quoted: true }) => format!("in the header {name}, quoted"),
        Some(KeyPlace::Body(pointer)) => format!("in the body at {pointer}"),
        Some(KeyPlace::Query(name)) => format!("in the query as {name}"),
        None if create.sent.bears_key() => "where the request has {key}".to_owned(),
        None => "not sent".to_owned(),
    }
}

fn safety(safety: SendSafety) -> String {
    match safety {
        SendSafety::Idempotent => "a create may be sent again at any time".to_owned(),
        SendSafety::Keyed { window } => {
            format!("a create may be sent again under its key, for {}", humane::format(window))
        }
        SendSafety::Lookup { settle } => {
            format!(
                "a create in doubt is looked up after {}, and sent again only if there is no job",
                humane::format(settle)
            )
        }
        _ => "a create in doubt is never sent again".to_owned(),
    }
}

fn reference(at: &ReferenceAt) -> String {
    let place = match &at.place {
        ReferencePlace::Body(pointers) => {
            let places: Vec<String> = pointers.iter().map(ToString::to_string).collect();
            format!("in the answer at {}", places.join(" or "))
        }
        ReferencePlace::Header(name) => format!("in the answer's header {name}"),
    };
    if at.is_url { format!("{place}, a URL") } else { place }
}

fn limit(limit: &RateLimit) -> String {
    let RateLimit { kinds, rate } = limit;
    let named = [(Kind::Create, "create"), (Kind::Lookup, "lookup"), (Kind::Poll, "poll")];
    let named: Vec<&str> = named.into_iter().filter(|(kind, _)| kinds.contains(*kind)).map(|(_, name)| name).collect();
    let kinds = if *kinds == Kinds::ALL { String::new() } else { format!(" ({})", named.join(", ")) };
    format!("{} in {}, {} at once{kinds}", rate.count(), humane::format(rate.per()), rate.burst())
}
