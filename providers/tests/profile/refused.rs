//! Wrong files: each is refused by line and field, and told what would be right.

use proptest::prelude::*;
use steadfast_providers::profile::{Profile, SHIPPED};

use super::{ACME, acme};

const NAME: &str = r#"name = "acme/scan""#;
const BASE: &str = r#"base_url = "https://api.example.com/kyc""#;
const HEADERS: &str = r#"headers = { authorization = "Bearer {env.ACME_TOKEN}" }"#;
const SAFETY: &str = r#"safety = { keyed = { window = "24h" } }"#;
const KEY: &str = r#"key = { header = "Idempotency-Key" }"#;
const REFERENCE: &str = r#"reference = { pointer = "/id" }"#;
const POLL_PATH: &str = r#"path = "/v1/scans/{reference}""#;
const STATE: &str =
    r#"state = { pointer = "/status", values = { queued = "pending", done = "ready", error = "failed" } }"#;

/// A line of [`ACME`], what stands in its place, how many lines further on the fault is, the field, and how the problem begins.
#[rustfmt::skip]
const WRONG: &[(&str, &str, isize, &str, &str)] = &[
    (NAME, "name = 7", 0, "name", "is a whole number where a text in quotes is expected"),
    (NAME, "", -1, "name", "is missing"),
    (NAME, r#"name = "a b""#, 0, "name", "is no name"),
    (NAME, "name = \"x\nbad", 1, "", "this is no TOML"),
    (NAME, "name = \"x\"\nname=\"y\"", 1, "", "this is no TOML"),
    (BASE, r#"base_url = "http://api.example.com""#, 0, "base_url", "the base URL is http:// to another machine, which would show credentials to the network"),
    (BASE, "base_url=\"https://a/\"\nverify_tls = false", 1, "verify_tls", "is no field here: there are name, "),
    (HEADERS, r#"headers = { authorization = "Bearer canary" }"#, 0, "headers.authorization", "is a secret written out"),
    (HEADERS, r#"headers = { "x y" = "1" }"#, 0, "headers.x y", r#""x y" is no header's name"#),
    (HEADERS, r#"headers = { x-api-key = "{env.sk_live_canary}" }"#, 0, "headers.x-api-key", "is no environment variable's name (1 to 64 capitals, digits and _, as in ACME_API_KEY)"),
    (HEADERS, r#"headers = { x = "a\nb" }"#, 0, "headers.x", "holds a control character, which no header can carry"),
    (HEADERS, r#"headers = { host = "b" }"#, 0, "headers.host", "is written by the HTTP client alone"),
    (HEADERS, r#"headers = { x = "{reference}" }"#, 0, "headers.x", "has {reference}, which is known in polls only"),
    (HEADERS, r#"headers = { x = "{payload}" }"#, 0, "headers.x", "has {payload}, which can only be a body, alone"),
    (HEADERS, r#"headers = { x = "{oops}" }"#, 0, "headers.x", "has a placeholder that is none of {key}, {reference}, {payload}, {payload./a/b} and"),
    (HEADERS, r#"headers = { x = "a}" }"#, 0, "headers.x", "has a brace without its other"),
    (SAFETY, r#"safety = { lookup = { settle = "60s" } }"#, 0, "policy.safety", "is lookup, and there is no [lookup]"),
    (SAFETY, r#"safety = "keyed""#, 0, "policy.safety", "is a word that needs settings"),
    (SAFETY, r#"safety = { keyed = { window = "1s" } }"#, 0, "policy.safety.keyed.window", "is 1s: it must be longer than a create's time-out, 10s"),
    (SAFETY, "safety = { keyed = { window = 24 } }", 0, "policy.safety.keyed.window", r#"is a whole number where a duration such as "3s", "250ms""#),
    (SAFETY, r#"safety = { keyed = { window = "24 h canary" } }"#, 0, "policy.safety.keyed.window", r#"is not a duration such as "3s", "250ms" or "1m30s" (whole numbers; ns, us, ms, s,"#),
    (SAFETY, r#"safety = { keyed = { windows = "24h" } }"#, 0, "policy.safety.keyed.windows", "is no field here: did you mean window?"),
    (SAFETY, r#"safety = "idempotnet""#, 0, "policy.safety", "is none of unsafe, idempotent, keyed, lookup: did you mean idempotent?"),
    (SAFETY, r#"safety = { keyed = { window = "24h" }, lookup = { settle = "60s" } }"#, 0, "policy.safety", "has 2 fields where one of unsafe,"),
    (SAFETY, "[policy.create]\nbackoff = { growth = { exponential = { first = \"9s\", factor = 2 } }, cap = \"3s\" }", 1, "policy.create.backoff.cap", "is 3s: it must be at least the first delay, 9s"),
    (SAFETY, "[policy.poll]\nschedule = { growth = { exponential = { first = \"3s\", factor = 0.5 } }, cap = \"30s\" }\npolls = 10\ndeadline = \"3m\"", 1, "policy.poll.schedule.growth.exponential.factor", "is 0.5: it must be a number from 1"),
    (SAFETY, "[policy.poll]\npolls = 0", 1, "policy.poll.polls", "is 0: it must be at least 1"),
    (SAFETY, "[policy.poll]\nretry.deadline = \"1s\"\ndeadline = \"2s\"", 2, "policy.poll.deadline", "is 2s: it must be more than the wait before the first poll, 3s"),
    (SAFETY, "[policy.poll]\npols = 2\ndeadline = \"3m\"", 1, "policy.poll.pols", "is no field here: did you mean polls? There are schedule, polls, deadline, retry,"),
    (SAFETY, "[gate.breaker]\ntrip = { rate = { percent = 50, window = { calls = 600 }, minimum = 10 } }", 1, "gate.breaker.trip.rate.window.calls", "is 600: it must be from 1 to 512"),
    (SAFETY, "[gate]\nx9 = 1", 1, "gate.x9", "is no field here: there are "),
    (SAFETY, "[gate]\nbreaker = \"off\"", 1, "gate.breaker", "is a text where a table of settings or \"none\" is expected"),
    (SAFETY, "[gate]\nlongest_pause = \"x\"", 1, "gate.longest_pause", r#"is not a duration such as "3s", "250ms" or "1m30s" (whole numbers; ns, us, ms, s, m,"#),
    (SAFETY, "[[limits]]\ncount = 0\nper=\"1s\"", 0, "limits[0]", "rate.count is 0"),
    (SAFETY, "[[limits]]\ncount = 5\nper=\"1\"", 2, "limits[0].per", r#"is not a duration such as "3s", "250ms" or "1m30s" (whole numbers; ns, us, ms, s, m, h, d)"#),
    (SAFETY, "[[limits]]\ncount = 5\nper=\"1s\"\nkinds=[\"create\", \"pol\"]", 3, "limits[0].kinds[1]", "is none of"),
    (POLL_PATH, "url = \"{reference}\"\necho = \"/id\"", 1, "poll.echo", "is not looked at: the reference is a URL"),
    (SAFETY, "[[limits]]\ncount = 5\nper = 60", 2, "limits[0].per", r#"is a whole number where a duration such as "3s", "250ms""#),
    (SAFETY, "[limits]\ncount = 5\nper = \"60s\"", 0, "limits", "is a table where a list is expected: put it within [ ]"),
    (STATE, "[webhook]\nscheme = \"stripe\"\nsecrets = [\"A\"]\nkey = \"/k\"\ntolerance = 300", 4, "webhook.tolerance", r#"is a whole number where a duration such as "3s", "250ms""#),
    (KEY, "key = \"Idempotency-Key\"", 0, "create.key", r#"is a text where a table such as { header = "Idempotency-Key" } is expected"#),
    (KEY, "method = \"post\"", 0, "create.method", r#"is none of "GET", "POST", "PUT", "PATCH": did you mean POST?"#),
    (REFERENCE, "reference = \"/id\"", 0, "create.reference", r#"is a text where a table such as { pointer = "/id" } is expected"#),
    (STATE, "state = \"/status\"", 0, "poll.state", r#"is a text where a table such as { pointer = "/status", values = { done = "ready" } } is expected"#),
    (POLL_PATH, "path = \"/v1/scans/${reference}\"", 0, "poll.path", "has a $ before a brace, as shells write it"),
    (STATE, "rules = [{ status = 404, is = \"not-found\" }]", 0, "poll.rules[0].status", "is a condition, and belongs into when"),
    (STATE, "rules = [{ when = { status = \"404\" }, is = \"not-found\" }]", 0, "poll.rules[0].when.status", "is a text where a number is expected: write it without quotes"),
    (KEY, "", -4, "policy.safety", "is keyed, and no create carries the key"),
    (KEY, r#"key = { header = "a", query = "b" }"#, 0, "create.key", "needs one of header, body (a JSON Pointer) and query"),
    (KEY, r#"key = { body = "vendor_data" }"#, 0, "create.key.body", r#""vendor_data" is no JSON Pointer"#),
    (KEY, r#"key = { body = "/a~2" }"#, 0, "create.key.body", r#""/a~2" is no JSON Pointer"#),
    (KEY, r#"key = { query = "a", quoted = true }"#, 0, "create.key.quoted", "is for a key in a header only"),
    (KEY, r#"key = { header = "bad name" }"#, 0, "create.key.header", r#""bad name" is no header's name"#),
    (KEY, "method = \"GET\"\nkey = { body = \"/a\" }", 1, "create.key.body", "needs a body, and there is none"),
    (KEY, r#"method = "DELETE""#, 0, "create.method", "is none of"),
    (REFERENCE, "", -3, "create.reference", "is missing"),
    (REFERENCE, "reference = { }", 0, "create.reference", "needs one of pointer (into the body) and header"),
    (REFERENCE, r#"reference = { pointer = "/id", numeric = true }"#, 0, "create.reference.numeric", "is no field here"),
    (POLL_PATH, r#"path = "https://evil.example/{reference}""#, 0, "poll.path", "does not begin with a slash"),
    (POLL_PATH, r#"path = "/a/../b""#, 0, "poll.path", "has an empty, '.' or '..' segment"),
    (POLL_PATH, r#"path = "/a?x=1""#, 0, "poll.path", "holds '?'"),
    (POLL_PATH, "", -1, "poll.path", "is missing"),
    (POLL_PATH, r#"pth = "/v1/scans/{reference}""#, 0, "poll.pth", "is no field here: did you mean path?"),
    (POLL_PATH, r#"url = "https://x""#, 0, "poll.url", r#"can only be "{reference}", in [poll]"#),
    (POLL_PATH, "url = \"{reference}\"\npath = \"/x\"", 0, "poll.url", "stands beside a path"),
    (STATE, r#"state = { pointer = "/status", values = { done = "Aproved" } }"#, 0, "poll.state.values.done", "is none of"),
    (STATE, r#"state = { pointer = "status", values = { done = "ready" } }"#, 0, "poll.state.pointer", r#""status" is no JSON Pointer"#),
    (STATE, r#"state = { pointer = "/status" }"#, 0, "poll.state.values", "is missing"),
    (STATE, "[poll.state]\npointer = \"/status\"\nloose = true\n[poll.state.values]\nDone = \"ready\"\ndone = \"failed\"", 5, "poll.state.values.done", "is there twice, since loose ignores case"),
    (STATE, "[[poll.rules]]\nwhen = { status = 700 }\nis = \"ready\"", 1, "poll.rules[0].when.status", "700 is no HTTP status"),
    (STATE, "[[poll.rules]]\nwhen = { status = 404 }\nis = \"accepted\"", 2, "poll.rules[0].is", "is none of"),
    (STATE, "[[poll.rules]]\nwhen = { status = 404 }\nis = \"transient\"\ncertainty = \"executed\"", 3, "poll.rules[0].certainty", "is for failures of a create"),
    (STATE, "[[poll.rules]]\nwhen = { status = \"6xx\" }\nis = \"ready\"", 1, "poll.rules[0].when.status", "is none of"),
    (STATE, "[[poll.rules]]\nwhen = { body = { equals = 1 } }\nis = \"ready\"", 1, "poll.rules[0].when.body", "needs a pointer"),
    (STATE, "[[poll.rules]]\nwhen = { body = { pointer = \"/a\" } }\nis = \"ready\"", 1, "poll.rules[0].when.body", "needs one of equals, contains, present and empty"),
    (STATE, "[[poll.rules]]\nwhen = { status = 404 }", 0, "poll.rules[0]", "needs one of is and state"),
    (STATE, "[poll.rules]\nwhen = { status = 404 }", 0, "poll.rules", "is a table where a list is expected"),
    (STATE, "[webhook]\nsecrets = [\"A\"]\nkey = \"/k\"", 0, "webhook.scheme", "is missing"),
    (STATE, "[webhook]\nscheme = \"github\"\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme", r#"is none of "standard-webhooks""#),
    (STATE, "[webhook]\nscheme = \"whsec_canary\"\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme", r#"is none of "standard-webhooks""#),
    (STATE, "[webhook]\nscheme = \"stripe\"\nsecrets = [\"whsec_canary\"]\nkey = \"/k\"", 2, "webhook.secrets[0]", "is no environment variable's name (1 to 64 capitals, digits and _, as in ACME_API_KEY)"),
    (STATE, "[webhook]\nscheme = \"stripe\"\nsecrets = []\nkey = \"/k\"", 2, "webhook.secrets", "is empty"),
    (STATE, "[webhook]\nscheme = \"stripe\"\nsecrets = [\"A\"]", 0, "webhook", "says neither reference nor key"),
    (STATE, "[webhook]\nscheme = \"stripe\"\nsecrets = [\"A\"]\nkey = \"/k\"\nbelieve = true", 0, "webhook", "has believe = true, and no [webhook.state] with what is to be believed"),
    (STATE, "[webhook]\nscheme = { timed = { headers = \"x\" } }\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme.timed.headers", "is no field here: did you mean header?"),
    (STATE, "[webhook]\nscheme = { hmacs = { header = \"x\" } }\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme.hmacs", "is no field here: did you mean hmac?"),
    (STATE, "[webhook]\nscheme = {}\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme", "needs one of timed, hmac and token"),
    (STATE, "[webhook]\nscheme = { token = { header = \"x\" }, hmac = { header = \"x\" } }\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme", "needs one of timed, hmac and token"),
    (STATE, "[webhook]\nscheme = { token = {} }\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme.token.header", "is missing: the header with the token, such as"),
    (STATE, "[webhook]\nscheme = { token = { header = \"x y\" } }\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme.token.header", "\"x y\" is no header's name"),
    (STATE, "[webhook]\nscheme = { token = { header = \"x\", value = \"canary\" } }\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme.token.value", "is no field here"),
    (STATE, "[webhook]\nscheme = { token = { header = \"X-Token\" } }\nsecrets = [\"A\"]\nkey = \"/k\"\ntolerance = \"60s\"", 4, "webhook.tolerance", "makes no difference: this scheme signs no time"),
    (STATE, "[webhook]\nscheme = { token = { header = \"X-Token\" } }\nsecrets = [\"A\"]\nreference = \"/r\"\nkey = \"/k\"", 4, "webhook.key", "stands beside reference: a token signs nothing, so a delivery must not say which reference a key has"),
    (STATE, "[webhook]\nscheme = { token = { header = \"X-Token\" } }\nsecrets = [\"A\"]\nkey = \"/k\"\nevent_id = \"/e\"", 4, "webhook.event_id", "is not looked at: a token signs nothing, so a delivery only makes the next poll due now; leave this out"),
    (STATE, "[webhook]\nscheme = { token = { header = \"X-Token\" } }\nsecrets = [\"A\"]\nkey = \"/k\"\nstatus = \"/s\"", 4, "webhook.status", "is not looked at: a token signs nothing, so a delivery only makes the next poll due now; leave this out"),
    (STATE, "[webhook]\nscheme = { token = { header = \"X-Token\" } }\nsecrets = [\"A\"]\nkey = \"/k\"\nat = \"/a\"", 4, "webhook.at", "is not looked at: a token signs nothing, so a delivery only makes the next poll due now; leave this out"),
    (STATE, "[webhook]\nscheme = { token = { header = \"X-Token\" } }\nsecrets = [\"A\"]\nkey = \"/k\"\nbelieve = true", 4, "webhook.believe", "is not looked at: a token signs nothing, so a delivery only makes the next poll due now; leave this out"),
    (STATE, "[webhook]\nscheme = { token = { header = \"X-Token\" } }\nsecrets = [\"A\"]\nkey = \"/k\"\nresult = \"/r\"", 4, "webhook.result", "is not looked at: a token signs nothing, so a delivery only makes the next poll due now; leave this out"),
    (STATE, "[webhook]\nscheme = { token = { header = \"X-Token\" } }\nsecrets = [\"A\"]\nkey = \"/k\"\nstate = { pointer = \"/s\", values = { done = \"ready\" } }", 4, "webhook.state", "is not looked at: a token signs nothing, so a delivery only makes the next poll due now; leave this out"),
    (STATE, "[webhook]\nscheme = { hmac = { header = \"x\", encoding = \"HEX\" } }\nsecrets = [\"A\"]\nkey = \"/k\"", 1, "webhook.scheme.hmac.encoding", "is none of"),
    (STATE, "[webhook]\nscheme = \"stripe\"\nsecrets = [\"A\"]\nkey = \"/k\"\nresult = \"/r\"", 4, "webhook.result", "is not looked at unless believe = true"),
    (STATE, "[lookup]\npath = \"/v1/scans\"", 0, "lookup", "has {key} nowhere"),
    (STATE, "[lookup]\npath = \"/v1/scans/{key}\"\nlist = { pointer = \"/r\", reference = \"/id\" }", 2, "lookup.list.key", "is missing"),
    (NAME, "allow_origins = [\"https://x/y\"]\nname=\"a\"", 0, "allow_origins[0]", "has a path"),
    (NAME, "rate_limit_reset = \"ignored\"\nwait_for_reset = true\nname=\"a\"", 1, "wait_for_reset", "waits for what rate_limit_reset ignores"),
    (POLL_PATH, r#"path = "/v1/scans""#, -1, "poll", "has {reference} nowhere"),
    (HEADERS, r#"headers = { X-A = "1", x-a = "2" }"#, 0, "headers.x-a", "is there twice"),
    (POLL_PATH, "path = \"/{reference}\"\nquery = { api_key = \"canary\" }", 1, "poll.query.api_key", "is a secret written out"),
    (POLL_PATH, "path = \"/{reference}\"\nbody = { auth = { clientSecret = \"canary\" } }", 1, "poll.body.auth.clientSecret", "is a secret written out"),
    (POLL_PATH, "path = \"/{reference}\"\nbody = { x = nan }", 1, "poll.body.x", "is a number that is not finite"),
    (POLL_PATH, "path = \"/{reference}\"\nheaders = { x = \"{+reference}\" }", 1, "poll.headers.x", "has {+reference}, whose slashes divide a path"),
    (REFERENCE, r#"reference = { pointer = "/id/" }"#, 0, "create.reference.pointer", r#""/id/" has a slash with no name after it"#),
    (KEY, r#"key = { header = "Authorization" }"#, 0, "create.key.header", "is one of headers too"),
    (KEY, "key = { header = \"X-Key\" }\nheaders = { x-key = \"{key}\" }", 0, "create.key.header", "is one of headers too"),
    (STATE, r#"state = { pointer = "/status", values = { queued = "pending" } }"#, 0, "poll.state", "has no value for an end, so no job would ever be done"),
    (STATE, r#"state = { pointer = "/status", values = {} }"#, 0, "poll.state", "has no value for an end"),
    (STATE, "[lookup]\npath = \"/{key}\"\n[[lookup.rules]]\nwhen = { status = [404, 503] }\nis = \"not-found\"", 4, "lookup.rules[0].is", "would have a create sent again"),
    (STATE, "[lookup]\npath = \"/{key}\"\n[[lookup.rules]]\nwhen = { status = \"5xx\" }\nstate = { pointer = \"/error\", values = { gone = \"not-found\" } }", 4, "lookup.rules[0].state", "would have a create sent again"),
    (STATE, "[lookup]\npath = \"/{key}\"\n[[lookup.rules]]\nwhen = { status = 403 }\nstate = { pointer = \"/error\", values = { busy = \"next\" }, missing = \"not-found\" }", 4, "lookup.rules[0].state", "would have a create sent again"),
    (STATE, "[lookup]\npath = \"/{key}\"\n[[lookup.rules]]\nwhen = { status = \"any\" }\nstate = { pointer = \"/error\", values = { busy = \"next\" }, unknown = \"not-found\" }", 4, "lookup.rules[0].state", "would have a create sent again"),
    (STATE, "state = { pointer = \"/s\", values = { a = \"next\" } }", 0, "poll.state", "says \"next\""),
    (STATE, "[[poll.rules]]\nwhen = { body = { contains = \"\" } }\nis = \"pending\"", 1, "poll.rules[0].when.body.contains", "is empty"),
    (STATE, "[[poll.rules]]\nwhen = { status = [] }\nis = \"ready\"", 1, "poll.rules[0].when.status", "is an empty list"),
    (STATE, "[[poll.rules]]\nwhen = { body = { pointer = \"/a\", equals = [] } }\nis = \"ready\"", 1, "poll.rules[0].when.body.equals", "is an empty list"),
    (STATE, "[[poll.rules]]\nwhen = { header = [] }\nis = \"ready\"", 1, "poll.rules[0].when.header", "is an empty list"),
    (STATE, "state = { pointer = \"/s\", values = { \" \" = \"pending\" } }", 0, "poll.state.values. ", "is no text that a status could be"),
    (STATE, "[[poll.rules]]\nwhen = { status = [404, 410], body = { pointer = \"/a\", equals = 1 } }\nis = \"undecided\"\n[[poll.rules]]\nwhen = { status = \"4xx\" }\nis = \"not-found\"", 0, "poll.rules[0]", "is never asked: rule 1 (from 0), on the status alone, is asked before it"),
    (STATE, "[[poll.rules]]\nwhen = { status = \"any\" }\nis = \"pending\"\n[[poll.rules]]\nwhen = { status = 404 }\nis = \"not-found\"", 3, "poll.rules[1]", "is never asked: rule 0 (from 0)"),
    (POLL_PATH, "url = \"{reference}\"\nquery = { v = \"1\" }", 1, "poll.query", "is not sent"),
    (STATE, "[lookup]\npath = \"/{key}\"\necho = \"/k\"\nlist = { pointer = \"/r\", reference = \"/id\", key = \"/k\" }", 2, "lookup.echo", "is not looked at"),
    (KEY, "key = { query = \"id\" }\nquery = { id = \"{key}\" }", 0, "create.key.query", "is a parameter of query too"),
    (KEY, r#"key = { header = "Host" }"#, 0, "create.key.header", "is written by the HTTP client alone"),
    (HEADERS, r#"headers = { x-api-key = "{env.SK-LIVE-canary}" }"#, 0, "headers.x-api-key", "is no environment variable's name"),
];

#[test]
fn every_fault_is_told_by_line_and_field() {
    for (line, other, further, field, problem) in WRONG {
        let error = acme(line, other).unwrap_err();
        let at = ACME.lines().position(|other| other == *line).unwrap() + 1;
        assert_eq!((error.line(), error.field()), (at.strict_add_signed(*further), *field), "{other}: {error}");
        assert!(error.problem().starts_with(problem), "{other}: {error}");
        assert!(error.to_string().starts_with(&format!("line {}", error.line())), "{error}");
        assert!(
            !format!("{error} {error:?}").contains("canary"),
            "a secret that was written out is not repeated: {error}"
        );
    }
    assert!(Profile::parse(ACME).is_ok(), "and without its faults it is good");
}

#[test]
fn an_id_has_no_slashes() {
    let slashes = ACME.replace("{reference}", "{+reference}");
    assert!(Profile::parse(&slashes).is_ok());
    let error =
        Profile::parse(&slashes.replace(REFERENCE, r#"reference = { pointer = "/id", id = true }"#)).unwrap_err();
    let told = "says id, and [poll] has it for a path with slashes";
    assert!(error.field() == "create.reference" && error.problem().starts_with(told), "{error}");
}

/// And not for what is missing because of it.
#[test]
fn a_misspelt_table_is_told_as_one() {
    for (right, wrong) in [("poll", "polls"), ("create", "creat")] {
        let error = Profile::parse(&ACME.replace(&format!("[{right}]"), &format!("[{wrong}]"))).unwrap_err();
        let told = format!("is no field here: did you mean {right}?");
        assert!(error.field() == wrong && error.problem().starts_with(&told), "{error}");
    }
}

#[test]
fn what_would_never_end_is_refused() {
    let (before, _) = ACME.split_once("\n[poll]").unwrap();
    let error = Profile::parse(before).unwrap_err();
    assert_eq!((error.line(), error.field()), (12, "create.reference"), "{error}");
    let believed = "\n[webhook]\nscheme = \"stripe\"\nsecrets = [\"A\"]\nreference = \"/id\"\nbelieve = true\n\
        state = { pointer = \"/s\", values = { done = \"ready\" } }";
    assert!(Profile::parse(&format!("{before}{believed}")).is_ok());
    // Polls that only ever say that it goes on, beside webhooks that are believed; or with the end in a rule.
    let endless = ACME.replace(r#", done = "ready", error = "failed""#, "");
    let rule = "\n[[poll.rules]]\nwhen = { status = 303 }\nis = \"ready\"";
    assert!(Profile::parse(&format!("{endless}{believed}")).is_ok());
    assert!(Profile::parse(&format!("{endless}{rule}")).is_ok());
    // A job that is done at once has no reference, and says so by rules.
    let at_once = "\n[[create.rules]]\nwhen = { body = { pointer = \"/id\", present = true } }\nis = \"ready\"";
    assert!(Profile::parse(&format!("{}{at_once}", before.replace(REFERENCE, ""))).is_ok());
}

#[test]
fn what_is_too_long_is_no_profile() {
    let long = format!("{ACME}#{}", "x".repeat(Profile::MAX_LEN));
    assert_eq!(Profile::parse(&long).unwrap_err().line(), 1);
    let deep = format!("{ACME}\nx = {}", "[".repeat(100_000));
    assert_eq!(Profile::parse(&deep).unwrap_err().line(), ACME.lines().count() + 2);
}

/// A shipped profile or [`ACME`] with something done to it.
fn damaged() -> impl Strategy<Value = String> {
    let texts: Vec<&str> = SHIPPED.iter().map(|(_, text)| *text).chain([ACME]).collect();
    let pieces = vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "=",
        "\n",
        "{key}",
        "{env.A}",
        "-1",
        "true",
        "\"ready\"",
        "[[limits]]",
        "é",
        "\u{0}",
        "status = 404",
        "'",
        "\"\"\"",
        "0x10",
        "1e999",
        "1979-05-27",
        "rules",
        ".",
        "~",
    ];
    let edit = (any::<prop::sample::Index>(), 0..20usize, prop::sample::select(pieces));
    (prop::sample::select(texts), prop::collection::vec(edit, 1..4))
        .prop_map(|(text, edits)| {
            edits.into_iter().fold(text.to_owned(), |text, (at, cut, piece)| {
                let chars: Vec<char> = text.chars().collect();
                let at = at.index(chars.len());
                let (before, after) = (&chars[..at], &chars[(at + cut).min(chars.len())..]);
                before.iter().chain(&piece.chars().collect::<Vec<_>>()).chain(after).collect()
            })
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_text_panics_and_every_error_has_its_line(text in prop_oneof![4 => damaged(), 1 => ".{0,200}".boxed()]) {
        match Profile::parse(&text) {
            Ok(profile) => prop_assert!(!profile.describe().is_empty()),
            Err(error) => {
                let lines = text.matches('\n').count() + 1;
                prop_assert!((1..=lines).contains(&error.line()), "{error}");
                prop_assert!(!error.problem().is_empty());
                prop_assert!(!error.field().chars().any(char::is_control));
            }
        }
    }
}
