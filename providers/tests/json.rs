//! JSON from another party: whatever is wrong with what decides leaves an answer unusable, and never a job accepted,
//! ended or not found.
//!
//! One table for both providers and all they are asked: an answer that is right ([`ANSWERS`]), and what is done to each
//! member of it that decides.

use http::{HeaderMap, StatusCode};
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, Kind, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::didit::{Didit, DiditAml};
use steadfast_providers::{Answer, BaseUrl, Provider};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Deepvue,
    Didit,
    Screening,
}

/// An answer that is right, and its members that decide: each as it is written, and where it stands.
struct Given {
    who: Who,
    kind: Kind,
    status: u16,
    body: &'static str,
    decides: &'static [&'static str],
    /// Whether it is of a failure, in which a body may prove that nothing ran.
    fails: bool,
}

const ANSWERS: &[Given] = &[
    Given {
        who: Who::Deepvue,
        kind: Kind::Create,
        status: 200,
        body: r#"{"code":200,"transaction_id":"txn-1","message":"Request accepted"}"#,
        decides: &[r#""code":200"#, r#""transaction_id":"txn-1""#],
        fails: false,
    },
    Given {
        who: Who::Deepvue,
        kind: Kind::Create,
        status: 503,
        body: r#"{"detail":"Source Unavailable"}"#,
        decides: &[r#""detail":"Source Unavailable""#],
        fails: true,
    },
    Given {
        who: Who::Deepvue,
        kind: Kind::Poll,
        status: 200,
        body: r#"{"code":200,"status":"completed","data":{"status":"id_found","x":1},"result":null}"#,
        decides: &[
            r#""code":200"#,
            r#""status":"completed""#,
            r#""data":{"status":"id_found","x":1}"#,
            r#""status":"id_found""#,
            r#""result":null"#,
        ],
        fails: false,
    },
    Given {
        who: Who::Didit,
        kind: Kind::Create,
        status: 201,
        body: r#"{"session_id":"s-1","status":"Not Started","vendor_data":"order-42"}"#,
        decides: &[r#""session_id":"s-1""#, r#""vendor_data":"order-42""#],
        fails: false,
    },
    Given {
        who: Who::Didit,
        kind: Kind::Lookup,
        status: 200,
        body: r#"{"count":1,"next":null,"results":[{"session_id":"s-1","vendor_data":"order-42","session_number":7,"session_kind":"user"}]}"#,
        decides: &[
            r#""count":1"#,
            r#""next":null"#,
            r#""results":[{"session_id":"s-1","vendor_data":"order-42","session_number":7,"session_kind":"user"}]"#,
            r#""session_id":"s-1""#,
            r#""vendor_data":"order-42""#,
            r#""session_number":7"#,
            r#""session_kind":"user""#,
        ],
        fails: false,
    },
    Given {
        who: Who::Didit,
        kind: Kind::Poll,
        status: 200,
        body: r#"{"session_id":"s-1","status":"Approved"}"#,
        decides: &[r#""status":"Approved""#],
        fails: false,
    },
    Given {
        who: Who::Screening,
        kind: Kind::Create,
        status: 200,
        body: r#"{"request_id":"r-1","aml":{"status":"Approved"}}"#,
        decides: &[r#""request_id":"r-1""#, r#""aml":{"status":"Approved"}"#, r#""status":"Approved""#],
        fails: false,
    },
];

fn read(given: &Given, body: &[u8]) -> Result<Reading, Failure> {
    let base = BaseUrl::parse("https://api.example.com").unwrap();
    let key = Key::new("order-42").unwrap();
    let status = StatusCode::from_u16(given.status).unwrap();
    let headers = HeaderMap::new();
    let answer = Answer::new(given.kind, status, &headers, body, Timestamp::from_secs(1_700_000_000)).about(&key);
    match given.who {
        Who::Deepvue => Deepvue::new(base, "pan", Credentials::new("t", "s").unwrap()).unwrap().read(&answer),
        Who::Didit => Didit::new(base, "k").unwrap().read(&answer),
        Who::Screening => DiditAml::new(base, "k").unwrap().read(&answer),
    }
}

/// What an answer without any usable body means.
fn unusable(given: &Given) -> Result<Reading, Failure> {
    let nothing = read(given, b"");
    assert!(nothing.is_err());
    nothing
}

/// A body with something done to it is unusable.
fn is_unusable(given: &Given, body: impl AsRef<[u8]>) {
    let shown = String::from_utf8_lossy(body.as_ref()).chars().take(200).collect::<String>();
    assert_eq!(read(given, body.as_ref()), unusable(given), "{:?} {:?} {shown}", given.who, given.kind);
}

/// Every member that decides, split into its name with the colon, and its value.
fn members() -> impl Iterator<Item = (&'static Given, &'static str, &'static str, &'static str)> {
    ANSWERS.iter().flat_map(|given| {
        given.decides.iter().map(move |member| {
            assert!(given.body.contains(member), "{member}");
            let (name, value) = member.split_once(':').unwrap();
            (given, *member, name, value)
        })
    })
}

#[test]
fn as_they_are_they_are_read() {
    for given in ANSWERS {
        let right = read(given, given.body.as_bytes());
        assert_ne!(right, unusable(given));
        assert_eq!(right.is_err(), given.fails, "{right:?}");
        // White space around it is no part of it.
        assert_eq!(read(given, format!(" \r\n\t{}\n", given.body).as_bytes()), right);
        // Nor is the mark that some servers put before UTF-8: a job that is done would otherwise never be.
        assert_eq!(read(given, format!("\u{feff}{}", given.body).as_bytes()), right);
    }
}

/// Which of two counts is a guess, and another reader guesses otherwise.
#[test]
fn a_member_twice_makes_it_unusable_however_its_name_is_written() {
    for (given, member, name, value) in members() {
        let escaped = format!("\"\\u{:04x}{}", name.as_bytes()[1], &name[2..]);
        for again in
            [member.to_owned(), format!("{name}:null"), format!("{name}:\"other\""), format!("{escaped}:{value}")]
        {
            is_unusable(given, given.body.replacen(member, &format!("{member},{again}"), 1));
            is_unusable(given, given.body.replacen(member, &format!("{again},{member}"), 1));
        }
    }
}

#[test]
fn a_name_that_is_written_with_escapes_is_the_same_name() {
    for (given, member, name, value) in members() {
        let escaped = format!("\"\\u{:04X}{}:{value}", name.as_bytes()[1], &name[2..]);
        let body = given.body.replacen(member, &escaped, 1);
        assert_eq!(read(given, body.as_bytes()), read(given, given.body.as_bytes()), "{body}");
    }
}

/// A depth that would overflow a stack, where it decides and where it does not.
#[test]
fn depth_is_bounded() {
    for depth in [129, 10_000, 200_000] {
        for (open, close) in [("[", "]"), ("{\"status\":", "}"), ("{\"a\":[", "]}")] {
            let (opened, closed) = (open.repeat(depth), close.repeat(depth));
            for given in ANSWERS {
                is_unusable(given, &opened);
                is_unusable(given, format!("{{\"x\":{opened}"));
                // Whole, and without anything that decides: to Deepvue a poll that tells nothing is one of a job under
                // way.
                let got = read(given, format!("{opened}1{closed}").as_bytes());
                assert!(
                    matches!(got, Err(_) | Ok(Reading::Pending { .. })),
                    "{:?} {:?}: {got:?}",
                    given.who,
                    given.kind
                );
            }
            for (given, member, name, _) in members().filter(|(.., value)| value.starts_with(['"', '2', '7'])) {
                let body = given.body.replacen(member, &format!("{name}:{opened}1{closed}"), 1);
                let got = read(given, body.as_bytes());
                // A status within Deepvue's result is the result's own, which may be anything; what is too deep to be
                // read is no answer.
                assert!(matches!(got, Err(_) | Ok(Reading::Ready)), "{name} {depth}: {got:?}");
            }
        }
    }
}

/// An id is text: a number may be rounded on its way, and 7, 7.0 and 007 are one number and three texts.
#[test]
fn an_id_is_text_and_a_number_is_none() {
    let ids = ["\"transaction_id\"", "\"session_id\"", "\"request_id\""];
    for (given, member, name, _) in members().filter(|(_, _, name, _)| ids.contains(name)) {
        let others = [
            "7",
            "-0",
            "7.0",
            "1e2",
            "9007199254740993",
            "123456789012345678901234567890",
            "1e400",
            "-1e400",
            "true",
            "null",
            "[]",
            "[\"txn-1\"]",
            "{}",
            "{\"id\":\"txn-1\"}",
        ];
        for other in others {
            is_unusable(given, given.body.replacen(member, &format!("{name}:{other}"), 1));
        }
    }
}

#[test]
fn what_is_no_json_is_unusable() {
    for given in ANSWERS {
        let body = given.body;
        let with = |bytes: &[u8]| [bytes, body.as_bytes()].concat();
        let bodies = [
            with(b"\xef\xbb\xbf\xef\xbb\xbf"),
            with(b" \xef\xbb\xbf"),
            with(b"\xef\xbb"),
            with(b"\0"),
            with(b")]}',\n"),
            with(b"{}"),
            with(b"[").into_iter().chain(*b"]").collect(),
            format!("{body}\0").into_bytes(),
            format!("{body}{body}").into_bytes(),
            format!("{body},").into_bytes(),
            format!("{body}//").into_bytes(),
            format!("\"{}\"", body.replace('"', "\\\"")).into_bytes(),
            body.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            body.replace('"', "'").into_bytes(),
            body.replacen('{', "{\"x\":NaN,", 1).into_bytes(),
            body.replacen('{', "{\"x\":Infinity,", 1).into_bytes(),
            body.replacen('{', "{\"x\":-,", 1).into_bytes(),
            body.replacen('{', "{\"x\":01,", 1).into_bytes(),
            body.replacen('{', "{x:1,", 1).into_bytes(),
            body.replacen('{', "{,", 1).into_bytes(),
            body.replacen('{', "{/**/", 1).into_bytes(),
        ];
        for body in bodies {
            is_unusable(given, body);
        }
        for cut in 0..body.len() {
            is_unusable(given, &body[..cut]);
        }
    }
}

#[test]
fn a_text_that_is_none_is_unusable_where_it_decides() {
    let texts: [&[u8]; 8] = [
        b"\\ud800",        // half of a pair
        b"\\udc00\\ud800", // the halves exchanged
        b"\\ud800\\u0041", // half of a pair and a letter
        b"\xed\xa0\x80",   // the same as bytes
        b"\xff",           // no UTF-8
        b"\xc0\xaf",       // a slash, too long
        b"\0",             // not escaped
        b"\\x41",          // no escape of JSON
    ];
    for (given, member, name, value) in members().filter(|(.., value)| value.starts_with('"')) {
        for text in texts {
            let at = given.body.find(member).unwrap();
            let (before, after) = (&given.body[..at], &given.body[at + member.len()..]);
            let inner = value.trim_matches('"');
            let bytes =
                [before.as_bytes(), name.as_bytes(), b":\"", inner.as_bytes(), text, b"\"", after.as_bytes()].concat();
            is_unusable(given, bytes);
        }
    }
}

#[test]
fn an_id_with_a_control_character_or_of_white_space_is_none() {
    let ids = ["\"transaction_id\"", "\"session_id\""];
    for (given, member, name, _) in members().filter(|(_, _, name, _)| ids.contains(name)) {
        for text in ["\\u0000", "a\\u0000b", "a\\nb", "a\\r\\nX: y", "\\u007f", "\\u0085", "", " ", "\\u2003"] {
            is_unusable(given, given.body.replacen(member, &format!("{name}:\"{text}\""), 1));
        }
    }
}

/// Numbers that no integer holds, where a number decides.
#[test]
fn a_number_that_does_not_fit_is_unusable() {
    let numbers = ["\"code\"", "\"count\"", "\"session_number\""];
    for (given, member, name, _) in members().filter(|(_, _, name, _)| numbers.contains(name)) {
        for other in
            ["-1", "1.5", "1e400", "18446744073709551616", "123456789012345678901234567890", "\"1\"", "true", "[1]"]
        {
            is_unusable(given, given.body.replacen(member, &format!("{name}:{other}"), 1));
        }
    }
}
