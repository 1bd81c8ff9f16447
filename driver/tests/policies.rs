//! Policies from files: what is written is read back, whatever the format; what is wrong is told where it is; and what
//! a file does not name stays.

use std::time::Duration;

use proptest::option::of as option;
use proptest::prelude::*;
use steadfast_core::backoff::{BackoffPolicy, Factor, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Probes, SlowCalls, Window};
use steadfast_core::budget::{BudgetPolicy, Tokens};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::policy::humane::Humane;
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{RetryAfter, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, SendSafety};
use steadfast_driver::policies::{ClientLimits, GatePolicies, OperationPolicies, Policies};
use steadfast_driver::{Builder, StartError, UnknownJob, WebhookPolicy};
use steadfast_providers::BaseUrl;
use steadfast_providers::deepvue::{Credentials, Deepvue};

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

fn operation() -> impl Strategy<Value = OperationPolicies> {
    let safety = prop_oneof![
        Just(SendSafety::Unsafe),
        Just(SendSafety::Idempotent),
        Just(SendSafety::Keyed { window: Duration::from_nanos(u64::MAX) }),
        span().prop_map(|settle| SendSafety::Lookup { settle }),
    ];
    (option(safety), option(retry()), option(retry()), option(poll()), option(backoff()))
        .prop_map(|(safety, create, lookup, poll, persist)| OperationPolicies { safety, create, lookup, poll, persist })
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

fn gate() -> impl Strategy<Value = GatePolicies> {
    let bulkhead = (1..100_u32, 1..100_u32, 1..100_u32)
        .prop_map(|(least, more, most)| BulkheadPolicy::adaptive(least, least + more, least + more + most).unwrap());
    let kinds = prop::collection::vec(prop::sample::select(vec![Kind::Create, Kind::Lookup, Kind::Poll]), 1..4)
        .prop_map(|kinds| Kinds::of(&kinds));
    let limit = (kinds, 1..10_000_u32, 1..100_000_u64, 1..100_u32).prop_map(|(kinds, count, secs, burst)| {
        let rate = RatePolicy::new(count, Duration::from_secs(secs)).unwrap().with_burst(burst).unwrap();
        RateLimit { kinds, rate }
    });
    let when_open = prop::sample::select(vec![WhenOpen::Wait, WhenOpen::Refuse]);
    (
        option(option(breaker())),
        option(when_open),
        option(option(budget())),
        option(option(bulkhead)),
        option(prop::collection::vec(limit, 0..3)),
        option(span().prop_map(Humane)),
    )
        .prop_map(|(breaker, when_open, budget, bulkhead, rate_limits, longest_pause)| GatePolicies {
            breaker,
            when_open,
            budget,
            bulkhead,
            rate_limits,
            longest_pause,
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
    (operation(), gate(), prop::option::of(limits), prop::option::of(webhooks))
        .prop_map(|(policy, gate, limits, webhooks)| Policies { policy, gate, limits, webhooks })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read_back_in_each_format(policies in policies()) {
        let toml = toml::to_string(&policies).unwrap();
        prop_assert_eq!(Policies::from_toml(&toml), Ok(policies.clone()), "{}", toml);
        let json = serde_json::to_string_pretty(&policies).unwrap();
        #[cfg(feature = "yaml")]
        {
            // With tables of one field for enums, as in the other formats, and not YAML's tags.
            let mut yaml = Vec::new();
            let mut writer = yaml_serde::Serializer::new(&mut yaml);
            yaml_serde::with::singleton_map_recursive::serialize(&policies, &mut writer).unwrap();
            let yaml = String::from_utf8(yaml).unwrap();
            prop_assert_eq!(Policies::from_yaml(&yaml), Ok(policies.clone()), "{}", yaml);
            // JSON is YAML too.
            prop_assert_eq!(Policies::from_yaml(&json), Ok(policies.clone()), "{}", json);
        }
        prop_assert_eq!(Policies::from_json(&json), Ok(policies), "{}", json);
    }

    #[test]
    fn what_a_file_names_holds_and_all_else_stays(policies in policies()) {
        let own = OperationPolicy::default().with_safety(SendSafety::Lookup { settle: Duration::from_secs(60) }).unwrap();
        let over = policies.policy.over(own.clone()).unwrap();
        let given = &policies.policy;
        prop_assert_eq!(over.safety(), given.safety.unwrap_or_else(|| own.safety()));
        prop_assert_eq!(over.create(), given.create.as_ref().unwrap_or_else(|| own.create()));
        prop_assert_eq!(over.lookup(), given.lookup.as_ref().unwrap_or_else(|| own.lookup()));
        prop_assert_eq!(over.poll(), given.poll.as_ref().unwrap_or_else(|| own.poll()));
        prop_assert_eq!(over.persist(), given.persist.as_ref().unwrap_or_else(|| own.persist()));

        let rate = RateLimit { kinds: Kinds::ALL, rate: RatePolicy::new(7, Duration::from_secs(60)).unwrap() };
        let own = GatePolicy::default().with_rate_limit(rate).with_when_open(WhenOpen::Refuse);
        let (over, given) = (policies.gate.over(&own), &policies.gate);
        prop_assert_eq!(over.breaker(), given.breaker.as_ref().map_or_else(|| own.breaker(), Option::as_ref));
        prop_assert_eq!(over.budget(), given.budget.as_ref().map_or_else(|| own.budget(), Option::as_ref));
        prop_assert_eq!(over.bulkhead(), given.bulkhead.as_ref().map_or_else(|| own.bulkhead(), Option::as_ref));
        prop_assert_eq!(over.when_open(), given.when_open.unwrap_or_else(|| own.when_open()));
        prop_assert_eq!(over.rate_limits(), given.rate_limits.as_deref().unwrap_or_else(|| own.rate_limits()));
        prop_assert_eq!(over.longest_pause(), given.longest_pause.map_or_else(|| own.longest_pause(), |pause| pause.0));
    }
}

/// A text, its line and field that are wrong, and how that is told.
#[rustfmt::skip]
const WRONG: &[(&str, usize, &str, &str)] = &[
    ("{\"policy\": {\n\"create\": {\n\"backoff\": {\"growth\": {\"fixed\": \"9s\"},\n\"cap\": \"3s\"}}}}", 4, "policy.create.backoff.cap", "is 3s: it must be at least the first delay, 9s"),
    ("{\"polcy\": {}}", 1, "polcy", "is no field here: did you mean policy? There are policy, gate, limits, webhooks"),
    ("{\"policy\":\n{\"create\":\n{\"attempts\": 70000}}}", 3, "policy.create.attempts", "is 70000 where a whole number up to 65535 is expected"),
    ("{\"policy\": {\"safety\": {\"keyed\":\n{\"window\": \"5s\"}}}}", 2, "policy.safety.keyed.window", "is 5s: it must be longer than a create's time-out, 10s"),
    ("{\"gate\": {\"budget\": {\"keep\": 3}}}", 1, "gate.budget.capacity", "is missing"),
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
    ("{\"gate\": {\"budget\": {\"capacity\": 9,\n\"keep\": 9}}}", 2, "gate.budget.keep", "is 9: it must be less than the capacity, 9, or no retry ever goes"),
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
        let error = Policies::from_json(text).unwrap_err();
        assert_eq!((error.line(), error.field()), (*line, *field), "{text}: {error}");
        assert!(error.problem().starts_with(problem), "{text}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

#[test]
fn an_empty_file_changes_nothing() {
    assert_eq!(Policies::from_toml(""), Ok(Policies::default()));
    assert_eq!(Policies::from_json("{}"), Ok(Policies::default()));
    #[cfg(feature = "yaml")]
    for text in ["", "# nothing\n", "---\n", "{}"] {
        assert_eq!(Policies::from_yaml(text), Ok(Policies::default()), "{text:?}");
    }
    assert_eq!(toml::to_string(&Policies::default()).unwrap(), "");
}

#[test]
fn what_is_left_out_of_a_machine_is_its_default() {
    let text = "[policy.create]\n[policy.poll]\nschedule = { cap = \"60s\", jitter = \"none\" }\n[policy.lookup.backoff.growth]\nfixed = \"45s\"\n[gate.breaker]\nopen = { jitter = \"equal\" }";
    let policies = Policies::from_toml(text).unwrap();
    let (create, lookup) = (policies.policy.create.unwrap(), policies.policy.lookup.unwrap());
    assert_eq!(create, RetryPolicy::default());
    assert_eq!(lookup.backoff().cap(), Duration::from_secs(45), "a cap that nobody wrote is never too low");
    let poll = policies.policy.poll.unwrap();
    assert_eq!(poll.schedule().growth(), PollPolicy::default().schedule().growth());
    assert_eq!((poll.schedule().cap(), poll.polls()), (Duration::from_secs(60), 10));
    assert_eq!(policies.gate.breaker, Some(Some(BreakerPolicy::default())));
    let budget = "[gate.budget]\ncapacity = 9\ncosts = { throttled = 5 }";
    let costs = Policies::from_toml(budget).unwrap().gate.budget.unwrap().unwrap().costs();
    assert_eq!((costs.transient.get(), costs.throttled.get(), costs.timed_out.get()), (1, 5, 1));
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
