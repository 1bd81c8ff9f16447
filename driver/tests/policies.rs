//! Policies from files: what is written is read back, whatever the format; what is wrong is told where it is; and what
//! a file does not name stays.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::option::of as option;
use proptest::prelude::*;
use serde_json::{Value, json};
use steadfast_core::backoff::{BackoffPolicy, Factor, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Probes, SlowCalls, Window};
use steadfast_core::budget::{BudgetPolicy, Tokens};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{RetryAfter, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, SendSafety};
use steadfast_driver::policies::{ClientLimits, Policies};
use steadfast_driver::{Builder, StartError, UnknownJob, WebhookPolicy};
use steadfast_providers::BaseUrl;
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::document::{Document, DocumentError, Format};

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (1..10_000_u64).prop_map(Duration::from_millis),
        (1..100_000_u64).prop_map(Duration::from_secs),
        (1..u64::MAX / 2).prop_map(Duration::from_nanos),
    ]
    .boxed()
}

fn backoff() -> impl Strategy<Value = BackoffPolicy> {
    let growth = prop_oneof![
        span().prop_map(Growth::Fixed),
        (span(), span()).prop_map(|(first, step)| Growth::Linear { first, step }),
        (span(), 1.0..1e6)
            .prop_map(|(first, factor)| Growth::Exponential { first, factor: Factor::new(factor).unwrap() }),
        span().prop_map(|first| Growth::Fibonacci { first }),
        prop::collection::vec(span(), 1..5).prop_map(|table| Growth::Table(table.into())),
    ];
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        (0..=100_u8).prop_map(|percent| Jitter::Proportional { percent }),
        Just(Jitter::Decorrelated),
    ];
    (growth, span(), jitter)
        .prop_map(|(growth, more, jitter)| {
            let largest = match &growth {
                Growth::Table(table) => table.iter().max().copied().unwrap(),
                Growth::Fixed(first)
                | Growth::Linear { first, .. }
                | Growth::Exponential { first, .. }
                | Growth::Fibonacci { first } => *first,
                _ => Duration::MAX,
            };
            let cap = largest.saturating_add(more).min(Duration::from_nanos(u64::MAX));
            BackoffPolicy::new(growth, cap, jitter).unwrap()
        })
        .boxed()
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let hint = prop_oneof![
        span().prop_map(|ceiling| RetryAfter::Floor { ceiling }),
        span().prop_map(|ceiling| RetryAfter::Exact { ceiling }),
        span().prop_map(|extra| RetryAfter::Clamped { extra }),
    ];
    (1..=u16::MAX, span(), span(), backoff(), hint, 1..=u8::MAX)
        .prop_map(|(attempts, deadline, timeout, backoff, hint, identical)| {
            let policy = RetryPolicy::new(attempts, deadline, timeout, backoff).unwrap();
            policy.with_retry_after(hint).with_identical(identical).unwrap()
        })
        .boxed()
}

fn poll() -> impl Strategy<Value = PollPolicy> {
    (backoff(), 1..=u16::MAX, span(), retry(), span(), any::<bool>())
        .prop_map(|(schedule, polls, more, retry, grace, partial)| {
            let deadline = schedule.cap().saturating_add(more).min(Duration::from_nanos(u64::MAX));
            let schedule = if deadline == schedule.cap() { BackoffPolicy::default() } else { schedule };
            PollPolicy::new(schedule, polls, deadline, retry)
                .unwrap()
                .with_not_found_grace(grace)
                .with_accept_partial(partial)
        })
        .boxed()
}

fn operation() -> impl Strategy<Value = OperationPolicy> {
    let safety = prop_oneof![
        Just(SendSafety::Unsafe),
        Just(SendSafety::Idempotent),
        Just(SendSafety::Keyed { window: Duration::from_nanos(u64::MAX) }),
        span().prop_map(|settle| SendSafety::Lookup { settle }),
    ];
    (safety, retry(), retry(), poll(), backoff())
        .prop_map(|(safety, create, lookup, poll, persist)| {
            let policy = OperationPolicy::default().with_safety(safety).unwrap().with_create(create).unwrap();
            policy.with_lookup(lookup).with_poll(poll).with_persist(persist).unwrap()
        })
        .boxed()
}

fn breaker() -> impl Strategy<Value = BreakerPolicy> {
    let window = prop_oneof![(50..=512_u16).prop_map(Window::Calls), span().prop_map(Window::Time)].prop_filter(
        "a window of a millisecond",
        |window| !matches!(window, Window::Time(span) if *span < Duration::from_millis(1)),
    );
    let trip = prop_oneof![
        (1..u32::MAX).prop_map(|failures| BreakerPolicy::consecutive(failures).unwrap()),
        (1..=100_u8, window, 1..=50_u32, prop::option::of((span(), 1..=100_u8))).prop_map(
            |(percent, window, minimum, slow)| {
                let policy = BreakerPolicy::rate(percent, window, minimum).unwrap();
                match slow {
                    Some((longer_than, percent)) => policy.with_slow_calls(SlowCalls { longer_than, percent }).unwrap(),
                    None => policy,
                }
            }
        ),
    ];
    (trip, backoff(), 1..=16_u8, 1..u16::MAX, 1..u16::MAX, span())
        .prop_map(|(policy, open, at_once, successes, failures, lease)| {
            policy.with_open(open).unwrap().with_probes(Probes { at_once, successes, failures, lease }).unwrap()
        })
        .boxed()
}

fn budget() -> impl Strategy<Value = BudgetPolicy> {
    let tokens = (0..1_000_000_000_u64).prop_map(Tokens::millionths).boxed();
    let form = prop_oneof![Just(BudgetPolicy::aws()), Just(BudgetPolicy::grpc()), Just(BudgetPolicy::default())];
    (form, 1000..u32::MAX, tokens)
        .prop_map(|(form, capacity, each)| form.with_capacity(capacity, 10).unwrap().with_per_second(each))
        .boxed()
}

fn gate() -> impl Strategy<Value = GatePolicy> {
    let bulkhead = (1..100_u32, 1..100_u32, 1..100_u32)
        .prop_map(|(least, more, most)| BulkheadPolicy::adaptive(least, least + more, least + more + most).unwrap());
    let kinds = prop::collection::vec(prop::sample::select(vec![Kind::Create, Kind::Lookup, Kind::Poll]), 1..4)
        .prop_map(|kinds| Kinds::of(&kinds));
    let limit = (kinds, 1..10_000_u32, 1..100_000_u64, 1..100_u32).prop_map(|(kinds, count, secs, burst)| {
        let rate = RatePolicy::new(count, Duration::from_secs(secs)).unwrap().with_burst(burst).unwrap();
        RateLimit { kinds, rate }
    });
    let when_open = prop::sample::select(vec![WhenOpen::Wait, WhenOpen::Refuse]);
    let limits = prop::collection::vec(limit, 0..3);
    (option(breaker()), when_open, option(budget()), option(bulkhead), limits, span(), any::<NonZeroU32>())
        .prop_map(|(breaker, when_open, budget, bulkhead, limits, longest_pause, replicas)| {
            let gate = GatePolicy::none().with_breaker(breaker).with_budget(budget).with_bulkhead(bulkhead);
            let gate = gate.with_when_open(when_open).with_longest_pause(longest_pause).with_replicas(replicas);
            limits.into_iter().fold(gate, GatePolicy::with_rate_limit)
        })
        .boxed()
}

fn policies() -> impl Strategy<Value = Policies> {
    let limits = (1..=u32::MAX, any::<u32>(), span(), any::<u32>(), any::<u32>()).prop_map(
        |(live, remember, remember_for, notices, bytes)| ClientLimits {
            live,
            remember,
            remember_for,
            notices,
            body_bytes: (bytes as usize).max(1_000),
            results_bytes: bytes as usize / 2,
        },
    );
    let unknown = prop::sample::select(vec![UnknownJob::Accept, UnknownJob::RepeatIfEarly, UnknownJob::Repeat]);
    let webhooks = (any::<u32>(), unknown, span(), span()).prop_map(|(size, unknown, answer_within, inbox_for)| {
        let size = size as usize;
        let (body_limit, answer_within) = (size.max(1_000), answer_within.max(Duration::from_nanos(1)));
        WebhookPolicy { body_limit, unknown, answer_within, inbox: size, inbox_for, ..WebhookPolicy::default() }
    });
    (operation(), gate(), limits, webhooks)
        .prop_map(|(policy, gate, limits, webhooks)| Policies { policy, gate, limits, webhooks })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever it changes.
    #[test]
    fn what_is_written_is_read_back_in_each_format(policies in policies(), own in policies()) {
        let toml = toml::to_string(&policies).unwrap();
        prop_assert_eq!(own.changed_by(&file(&toml, Format::Toml)), Ok(policies.clone()), "{}", toml);
        let json = serde_json::to_string_pretty(&policies).unwrap();
        #[cfg(feature = "yaml")]
        {
            // With tables of one field for enums, as in the other formats, and not YAML's tags.
            let mut yaml = Vec::new();
            let mut writer = yaml_serde::Serializer::new(&mut yaml);
            yaml_serde::with::singleton_map_recursive::serialize(&policies, &mut writer).unwrap();
            let yaml = String::from_utf8(yaml).unwrap();
            prop_assert_eq!(own.changed_by(&file(&yaml, Format::Yaml)), Ok(policies.clone()), "{}", yaml);
            // JSON is YAML too.
            prop_assert_eq!(own.changed_by(&file(&json, Format::Yaml)), Ok(policies.clone()), "{}", json);
        }
        prop_assert_eq!(own.changed_by(&file(&json, Format::Json)), Ok(policies), "{}", json);
    }

    /// A file that names one field changes that one and no other, or is refused for what does not fit.
    #[test]
    fn what_a_file_names_holds_and_all_else_stays(own in policies(), other in policies(), pick in any::<prop::sample::Index>()) {
        let (mut expected, other) = (serde_json::to_value(&own).unwrap(), serde_json::to_value(&other).unwrap());
        let mut fields = Vec::new();
        fields_of_both(&expected, &other, String::new(), &mut fields);
        let field = pick.get(&fields);
        let value = other.pointer(field).unwrap();
        let text = field.rsplit('/').filter(|name| !name.is_empty()).fold(value.clone(), |value, name| json!({ name: value }));
        match own.changed_by(&file(&text.to_string(), Format::Json)) {
            Ok(over) => {
                let over = serde_json::to_value(over).unwrap();
                *expected.pointer_mut(field).unwrap() = value.clone();
                // These say the size of a machine, and what was the same follows.
                for (size, follow) in [("bulkhead/initial", &["least", "most"][..]), ("budget/capacity", &["initial"])] {
                    let before = serde_json::to_value(&own).unwrap();
                    let at = |name: &str| format!("/gate/{}/{name}", size.split('/').next().unwrap());
                    let size = format!("/gate/{size}");
                    if *field == size && follow.iter().all(|name| before.pointer(&at(name)) == before.pointer(&size)) {
                        follow.iter().for_each(|name| *expected.pointer_mut(&at(name)).unwrap() = value.clone());
                    }
                }
                prop_assert_eq!(over, expected, "{}", text);
            }
            Err(error) => prop_assert!(error.problem().contains(": it must be "), "{text}: {error}"),
        }
    }
}

/// The fields that are no tables, and that both have: those of a growth, say, only if both grow in the same way.
fn fields_of_both(one: &Value, other: &Value, at: String, fields: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            for (name, one) in one {
                fields_of_both(one, &other[name], format!("{at}/{name}"), fields);
            }
        }
        _ => fields.push(at),
    }
}

fn file(text: &str, format: Format) -> Document {
    Document::parse(text, format).unwrap()
}

fn read(text: &str, format: Format) -> Result<Policies, DocumentError> {
    Policies::default().changed_by(&Document::parse(text, format)?)
}

/// A text, its line and field that are wrong, and how that is told.
#[rustfmt::skip]
const WRONG: &[(&str, usize, &str, &str)] = &[
    ("{\"policy\": {\n\"create\": {\n\"backoff\": {\"growth\": {\"fixed\": \"9s\"},\n\"cap\": \"3s\"}}}}", 4, "policy.create.backoff.cap", "is 3s: it must be at least the first delay, 9s"),
    ("{\"polcy\": {}}", 1, "polcy", "is no field here: did you mean policy? There are policy, gate, limits, webhooks"),
    ("{\"policy\":\n{\"create\":\n{\"attempts\": 70000}}}", 3, "policy.create.attempts", "is 70000 where a whole number up to 65535 is expected"),
    ("{\"policy\": {\"safety\": {\"keyed\":\n{\"window\": \"5s\"}}}}", 2, "policy.safety.keyed.window", "is 5s: it must be longer than a create's time-out, 10s"),
    ("{\"gate\": {\"rate_limits\": [{\"rate\": {\"count\": 1}}]}}", 1, "gate.rate_limits[0].rate.per", "is missing"),
    ("{\"gate\": {\"breaker\": \"sk_live_canary\"}}", 1, "gate.breaker", "is a text where a table of settings or \"none\" is expected"),
    ("{\"limits\": [{\"count\": 5, \"per\": \"1s\"}]}", 1, "limits", "is a list where a table is expected"),
    ("{\"limits\": {\"remember_for\": \"sk_live_canary\"}}", 1, "limits.remember_for", "is not a duration such as \"3s\""),
    ("{\"limits\": {\"remember_for\": 30}}", 1, "limits.remember_for", "is a whole number where a duration such as \"3s\", \"250ms\" or \"1m30s\" "),
    ("{\"gate\": {\"longest_pause\": 1.5}}", 1, "gate.longest_pause", "is a number where a duration such as \"3s\""),
    ("{\"limits\": {\"remember_for\": \"213504d\"}}", 1, "limits.remember_for", "is not a duration of at most 584 years (213503d)"),
    ("{\"limits\": {\"remember_for\": \"1d99999999999999999999s\"}}", 1, "limits.remember_for", "is not a duration of at most 584 years (213503d)"),
    ("{\"webhooks\": {\"unknown\": \"sk_live_canary\"}}", 1, "webhooks.unknown", "is none of accept, repeat_if_early, repeat"),
    ("{\"gate\": {\"rate_limits\": [\n{\"rate\": {\"count\": 1, \"per\": \"1s\"}},\n{\"rate\": {\"count\": 0, \"per\": \"1s\"}}]}}", 3, "gate.rate_limits[1].rate.count", "is 0: it must be at least 1"),
    ("{\"gate\": {\"bulkhead\": {\n\"initial\": 0}}}", 2, "gate.bulkhead.initial", "is 0: it must be at least 1"),
    ("{\"gate\": {\"bulkhead\": {\"initial\": 5,\n\"least\": 0}}}", 2, "gate.bulkhead.least", "is 0: it must be at least 1"),
    ("{\"gate\": {\"bulkhead\": {\"initial\": 5,\n\"most\": 0}}}", 2, "gate.bulkhead.most", "is 0: it must be at least 1"),
    ("{\"gate\": {\"bulkhead\": {\"initial\": 5,\n\"percent\": 100}}}", 2, "gate.bulkhead.percent", "is 100: it must be from 1 to 99 percent"),
    ("{\"gate\": {\"breaker\": {\"trip\": {\"consecutive\":\n{\"failures\": 0}}}}}", 2, "gate.breaker.trip.consecutive.failures", "is 0 where a whole number from 1 to 4294967295 is expected"),
    ("{\"gate\": {\"budget\": {\"capacity\": 9, \"costs\":\n{\"throttled\": 0}}}}", 2, "gate.budget.costs.throttled", "is 0 where a whole number from 1 to 255 is expected"),
    ("{\"gate\": {\"budget\": {\"capacity\": 9, \"initial\": 9,\n\"keep\": 9}}}", 2, "gate.budget.keep", "is 9: it must be less than the capacity, 9, or no retry ever goes"),
    ("{\"limits\": {\"live\": 1,\n\"live\": 2}}", 2, "limits.live", "is there twice"),
    ("{\"limits\": {\n\"live\": 0}}", 2, "limits.live", "is 0: it must be at least 1"),
    ("{\"limits\": {\n\"body_bytes\": 0}}", 2, "limits.body_bytes", "is 0: it must be at least 1000 bytes, so that webhooks and answers can be read"),
    ("{\"webhooks\": {\n\"body_limit\": 999}}", 2, "webhooks.body_limit", "is 999: it must be at least 1000 bytes, so that webhooks and answers can be read"),
    ("{\"webhooks\": {\n\"answer_within\": \"0s\"}}", 2, "webhooks.answer_within", "is 0s: it must be more, for the store: 3s as a rule"),
    ("{\"limits\": {\"live\": 1e999}}", 1, "limits.live", "is a number beyond any that is read"),
    ("[]", 1, "", "the file is a list where a table is expected"),
    ("", 1, "", "this is no JSON: EOF while parsing a value"),
    ("{\"policy\": {\"persist\": {\"growth\": {\"fixed\": \"0s\"}}}}", 1, "policy.persist", "is Fixed(0ns): it must be more than zero"),
];

#[test]
fn every_fault_is_told_by_line_and_field_and_no_secret_is_repeated() {
    for (text, line, field, problem) in WRONG {
        let error = read(text, Format::Json).unwrap_err();
        assert_eq!((error.line(), error.field()), (*line, *field), "{text}: {error}");
        assert!(error.problem().starts_with(problem), "{text}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

#[test]
fn an_empty_file_changes_nothing() {
    assert_eq!(read("", Format::Toml), Ok(Policies::default()));
    assert_eq!(read("[policy.create]\n[gate.breaker.open]\n[limits]", Format::Toml), Ok(Policies::default()));
    assert_eq!(read("{}", Format::Json), Ok(Policies::default()));
    #[cfg(feature = "yaml")]
    for text in ["", "# nothing\n", "---\n", "{}"] {
        assert_eq!(read(text, Format::Yaml), Ok(Policies::default()), "{text:?}");
    }
}

/// A provider that is polled for hours is not given up after minutes because a file asks for more polls.
#[test]
fn a_table_keeps_what_the_file_does_not_name_of_it() {
    let half_a_minute = Duration::from_secs(30);
    let schedule = BackoffPolicy::new(Growth::Fixed(half_a_minute), half_a_minute, Jitter::Equal).unwrap();
    let poll = PollPolicy::new(schedule, 260, Duration::from_secs(7_200), RetryPolicy::default()).unwrap();
    let own = Policies { policy: OperationPolicy::default().with_poll(poll), ..Policies::default() };
    let over = own.changed_by(&file("[policy.poll]\npolls = 300\nschedule = { cap = \"1m\" }", Format::Toml)).unwrap();
    let (own, over) = (own.policy.poll(), over.policy.poll());
    assert_eq!((over.polls(), over.deadline()), (300, own.deadline()));
    let (own, over) = (own.schedule(), over.schedule());
    assert_eq!((over.cap(), over.growth(), over.jitter()), (Duration::from_secs(60), own.growth(), own.jitter()));
}

#[test]
fn what_has_become_another_kind_of_thing_keeps_nothing_of_what_it_was() {
    let text = "[policy]\nsafety = { lookup = { settle = \"5s\" } }\n\
                [policy.lookup.backoff]\ngrowth = { fixed = \"45s\" }\ncap = \"45s\"\n\
                [gate.breaker]\ntrip = { consecutive = { failures = 8 } }\nopen = { jitter = \"equal\" }";
    let own = OperationPolicy::default().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) });
    let own = Policies { policy: own.unwrap(), ..Policies::default() };
    let Policies { policy, gate, .. } = own.changed_by(&file(text, Format::Toml)).unwrap();
    assert_eq!(policy.safety(), SendSafety::Lookup { settle: Duration::from_secs(5) });
    assert_eq!(policy.lookup().backoff().growth(), &Growth::Fixed(Duration::from_secs(45)));
    let open = BreakerPolicy::default();
    let open = BackoffPolicy::new(open.open().growth().clone(), open.open().cap(), Jitter::Equal).unwrap();
    assert_eq!(gate.breaker(), Some(&BreakerPolicy::consecutive(8).unwrap().with_open(open).unwrap()));
}

/// It is an error, and says where the number comes from that the file does not have.
#[test]
fn what_does_not_fit_to_what_stays_is_told() {
    let error = read("[policy.create.backoff]\ngrowth = { fixed = \"45s\" }", Format::Toml).unwrap_err();
    assert_eq!((error.line(), error.field()), (1, "policy.create.backoff.cap"));
    let told = "is 20s: it must be at least the first delay, 45s (the file does not name this field";
    assert!(error.problem().starts_with(told), "{error}");
    let named = read("[policy.create.backoff]\ngrowth = { fixed = \"45s\" }\ncap = \"9s\"", Format::Toml).unwrap_err();
    assert!(named.line() == 3 && named.problem().ends_with("at least the first delay, 45s"), "{named}");
    let slow =
        BackoffPolicy::new(Growth::Fixed(Duration::from_secs(30)), Duration::from_secs(30), Jitter::Full).unwrap();
    let poll = PollPolicy::new(slow, 9, Duration::from_secs(600), RetryPolicy::default()).unwrap();
    let own = Policies { policy: OperationPolicy::default().with_poll(poll), ..Policies::default() };
    let below = own.changed_by(&file("[policy.poll]\nschedule = { cap = \"10s\" }", Format::Toml)).unwrap_err();
    let told =
        "is 10s: it must be at least the first delay, 30s (by what stays as it was, since the file does not name it)";
    assert_eq!((below.line(), below.problem()), (2, told));
    // What is wrong by itself is nobody else's fault, whatever else the file leaves out.
    for (text, told) in [
        ("[gate.bulkhead]\npercent = 100", "is 100: it must be from 1 to 99 percent"),
        ("[gate.bulkhead]\npercent = 60\n[limits]\nlive = 0", "is 0: it must be at least 1"),
        ("[policy.create.backoff.growth.exponential]\nfirst = \"0s\"\n[gate.budget]\nkeep = 1", ""),
    ] {
        let told_ill = own
            .changed_by(&file(text, Format::Toml))
            .map_or_else(|wrong| wrong.problem().to_owned(), |_| String::new());
        assert!(told_ill.ends_with(told) && !told_ill.contains("by what stays"), "{text}: {told_ill}");
    }
    let missing = read("[gate]\nbudget = \"none\"", Format::Toml)
        .unwrap()
        .changed_by(&file("[gate.budget]\nkeep = 3", Format::Toml));
    assert_eq!(missing.unwrap_err().to_string(), "line 1, gate.budget.capacity: is missing");
}

/// The size of a fixed bulkhead and of a budget that is full at first is one number.
#[test]
fn what_follows_from_a_number_follows_the_new_one() {
    let own = Policies { gate: GatePolicy::default().with_budget(Some(BudgetPolicy::aws())), ..Policies::default() };
    let text = "[gate]\nbulkhead = { initial = 20 }\nbudget = { capacity = 9, costs = { throttled = 5 } }";
    let Policies { gate, .. } = own.changed_by(&file(text, Format::Toml)).unwrap();
    assert_eq!(gate.bulkhead(), Some(&BulkheadPolicy::fixed(20).unwrap()));
    let budget = gate.budget().unwrap();
    assert_eq!((budget.capacity(), budget.initial()), (9, 9));
    assert_eq!((budget.costs().throttled.get(), budget.costs().timed_out), (5, BudgetPolicy::aws().costs().timed_out));
    let fixed = own.changed_by(&file("[gate.bulkhead]\nmost = 400", Format::Toml)).unwrap();
    assert_eq!(fixed.gate.bulkhead(), Some(&BulkheadPolicy::adaptive(100, 100, 400).unwrap()));
}

/// What was set before is what the file changes, and what is set afterwards holds.
#[test]
fn a_builder_applies_a_file_to_what_it_was_told() {
    let credentials = Credentials::new("token", "secret").unwrap();
    let provider = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1").unwrap(), "driving-license", credentials).unwrap();
    let own = Policies::of(&provider);
    let builder: Builder<_, (), ()> = Builder::new(provider, ());
    let limits = Limits { live: 7, ..Limits::default() };
    let text = "[limits]\nremember = 9\n[policy.create]\nattempts = 2";
    let builder = builder.limits(limits).body_limit(5_000).policies(&file(text, Format::Toml)).unwrap();
    let builder = builder.policies(&file("[webhooks]\ninbox = 3", Format::Toml)).unwrap().results_limit(77);
    let told = format!("{:?}", builder.into_parts().2);
    let policy = own.policy.clone().with_create(own.policy.create().clone().with_attempts(2).unwrap()).unwrap();
    for part in [
        format!("{policy:?}"),
        format!("{:?}", own.gate),
        format!("{:?}", Limits { remember: 9, ..limits }),
        format!("{:?}", WebhookPolicy { inbox: 3, ..WebhookPolicy::default() }),
        "body_limit: 5000".to_owned(),
        "results_limit: 77".to_owned(),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
}

/// Each would let every job end as unresolved though it ran, or refuse every webhook.
#[test]
fn a_client_that_could_read_no_answer_and_take_no_webhook_is_not_started() {
    let policy = WebhookPolicy::default();
    let settings = |bytes, webhooks| {
        let credentials = Credentials::new("token", "secret").unwrap();
        let provider = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1").unwrap(), "driving-license", credentials);
        let builder: Builder<_, (), ()> = Builder::new(provider.unwrap(), ());
        builder.body_limit(bytes).webhooks(webhooks).into_parts().2
    };
    let no_time = WebhookPolicy { answer_within: Duration::ZERO, ..policy };
    let cases = [
        (settings(999, policy), "`Builder::body_limit` is 999 bytes; it must be at least 1000 bytes"),
        (
            settings(1_000, WebhookPolicy { body_limit: 0, ..policy }),
            "`WebhookPolicy::body_limit` is 0 bytes; it must be at",
        ),
        (settings(1_000, no_time), "`WebhookPolicy::answer_within` is 0s; it must be at least a moment"),
    ];
    for (settings, told) in cases {
        let error = settings.load("deepvue").unwrap_err();
        assert!(matches!(error, StartError::TooSmall { .. }) && error.to_string().contains(told), "{error}");
    }
    assert!(
        settings(1_000, WebhookPolicy { body_limit: 1_000, remember: 0, inbox: 0, ..policy }).load("deepvue").is_ok()
    );
}
