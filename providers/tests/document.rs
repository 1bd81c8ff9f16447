//! Files of settings: what two readers may understand differently is refused, nothing hostile costs more than its
//! length, and each format says the same.

use proptest::prelude::*;
use serde_json::{Value, json};
use steadfast_core::OperationPolicy;
use steadfast_providers::document::{Document, DocumentError, Format};
use steadfast_providers::profile::{Profile, SHIPPED};

fn read(text: &str, format: Format) -> Result<Value, DocumentError> {
    Document::parse(text, format)?.read()
}

const FORMATS: &[Format] = &[
    Format::Toml,
    Format::Json,
    #[cfg(feature = "yaml")]
    Format::Yaml,
];

#[test]
fn each_format_says_the_same() {
    let expected = json!({"a": {"b": [1, -2, 2.5, true, "x y"], "c": ""}});
    assert_eq!(read("[a]\nb = [1, -2, 2.5, true, \"x y\"]\nc = ''", Format::Toml), Ok(expected.clone()));
    for text in [expected.to_string(), format!("\u{feff}{expected}")] {
        assert_eq!(read(&text, Format::Json), Ok(expected.clone()));
    }
    #[cfg(feature = "yaml")]
    for text in [
        "a:\n  b: [1, -2, 2.5, true, x y]\n  c: ''",
        "a:\n  b:\n  - +1\n  - -2\n  - 25.e-1\n  - True\n  - x\n    y\n  c: \"\"",
    ] {
        assert_eq!(read(text, Format::Yaml), Ok(expected.clone()), "{text}");
    }
}

#[test]
fn a_shipped_profile_is_the_same_provider_in_json_and_yaml() {
    for (name, text) in SHIPPED {
        let profile = Profile::parse(text).unwrap();
        let value: toml::Value = toml::from_str(text).unwrap();
        let json = serde_json::to_string_pretty(&value).unwrap();
        let from_json = Profile::read_from(&Document::parse(&json, Format::Json).unwrap()).unwrap();
        assert_eq!((from_json.policy(), from_json.gate()), (profile.policy(), profile.gate()), "{name}");
        assert_eq!((from_json.name(), from_json.secrets()), (profile.name(), profile.secrets()), "{name}");
        #[cfg(feature = "yaml")]
        {
            let yaml = yaml_serde::to_string(&value).unwrap();
            let from_yaml = Profile::read_from(&Document::parse(&yaml, Format::Yaml).unwrap()).unwrap();
            assert_eq!(format!("{from_yaml:?}"), format!("{from_json:?}"), "{name}");
        }
    }
}

/// What YAML's readers do not agree about, or what is not for a file of settings: the line, the field, and how it is told.
#[cfg(feature = "yaml")]
#[rustfmt::skip]
const HAZARDS: &[(&str, usize, &str, &str)] = &[
    ("a: no", 1, "a", "is a truth value in YAML 1.1"),
    ("a: [x, Off]", 1, "a[1]", "is a truth value in YAML 1.1"),
    ("a:\n  on: 1", 2, "a.on", "is a truth value in YAML 1.1"),
    ("a: Y", 1, "a", "is a truth value in YAML 1.1"),
    ("a: 010", 1, "a", "is one number to some readers"),
    ("a: -007", 1, "a", "is one number to some readers"),
    ("a: 0o10", 1, "a", "is one number to some readers"),
    ("a: 0x10", 1, "a", "is one number to some readers"),
    ("a: 0b1", 1, "a", "is one number to some readers"),
    ("a: 1_000", 1, "a", "is one number to some readers"),
    ("a: 1:30", 1, "a", "is one number to some readers"),
    ("a: 1_000.5", 1, "a", "is one number to some readers"),
    ("a: 1:30.5", 1, "a", "is one number to some readers"),
    ("a: 1_0:30", 1, "a", "is one number to some readers"),
    ("a: 0x1_0", 1, "a", "is one number to some readers"),
    // A number with an exponent has a point and a sign in YAML 1.1, or is a text.
    ("a: 1e3", 1, "a", "is a number to some readers"),
    ("a: [25e-1]", 1, "a[0]", "is a number to some readers"),
    ("a: -1.5E3", 1, "a", "is a number to some readers"),
    ("a: .inf", 1, "a", "is a number that is not finite"),
    ("a: -.NaN", 1, "a", "is a number that is not finite"),
    ("a: 1e999", 1, "a", "is a number that is not finite"),
    ("a: 1\na: 2", 2, "a", "is there twice"),
    ("{a: 1, \"a\": 2}", 1, "a", "is there twice"),
    ("a: &x 1\nb: *x", 1, "", "anchors and aliases"),
    ("a: *x", 1, "", "this is no YAML"),
    ("a: &x {b: 1}\nc:\n  <<: *x", 1, "", "anchors and aliases"),
    ("c:\n  <<: {b: 1}", 2, "c.<<", "merge keys"),
    ("a: !!binary aGk=", 1, "", "tags (!) are not read"),
    ("a: !ruby/object x", 1, "", "tags (!) are not read"),
    ("a: !include /etc/passwd", 1, "", "tags (!) are not read"),
    ("? [a, b]\n: 1", 1, "", "has a name that is a list or a table"),
    ("~: 1", 1, "~", "is no name"),
    ("a: 1\n---\nb: 2", 2, "", "a second document begins here"),
    ("- a", 1, "", "the file is a list where a table is expected"),
    ("a: \"x", 1, "", "this is no YAML"),
    // Told where the value begins that the tab is in.
    ("a: 1\n\tb: 2", 1, "", "this is no YAML"),
    ("a: b\n#x\u{2028}c: d", 2, "", "a line ends here in YAML 1.1"),
    ("a: 'x\u{85} y'", 1, "", "a line ends here in YAML 1.1"),
    ("a: |\n  x\u{2029}y\n", 2, "", "a line ends here in YAML 1.1"),
    ("a: 1\rb: 2\r", 1, "", "a line ends in a carriage return (CR) alone"),
    ("a: 1\r\n# b\rc: d\r\n", 2, "", "a line ends in a carriage return (CR) alone"),
    ("a: 'x\r\ry'", 1, "", "a line ends in a carriage return (CR) alone"),
    ("{? :x}", 1, ":x", "begins with ? or :"),
    ("a: {?: x}", 1, "a.?", "begins with ? or :"),
];

#[cfg(feature = "yaml")]
#[test]
fn what_readers_of_yaml_understand_differently_is_refused() {
    for (text, line, field, problem) in HAZARDS {
        let error = read(text, Format::Yaml).unwrap_err();
        assert_eq!((error.line(), error.field()), (*line, *field), "{text}: {error}");
        assert!(error.problem().starts_with(problem), "{text}: {error}");
    }
    // In quotes they are texts, and what looks like something else is none of it.
    let texts = "a: ['no', \"010\", '1_000', '~', 3m, 2024-01-01, 127.0.0.1, 1.2.3, nob, \"\", +, .]";
    let expected =
        json!({"a": ["no", "010", "1_000", "~", "3m", "2024-01-01", "127.0.0.1", "1.2.3", "nob", "", "+", "."]});
    assert_eq!(read(texts, Format::Yaml), Ok(expected));
    let escaped = "a: \"x\\u2028y\"";
    assert_eq!(read(escaped, Format::Yaml), Ok(json!({"a": "x\u{2028}y"})));
    // What all take for a number is one, and lines may end as on Windows.
    let numbers = "a: [1.5e+3, .5, 5., 0.25e-1]\r\nb: \"x\\ry\"\r\n";
    assert_eq!(read(numbers, Format::Yaml), Ok(json!({"a": [1500.0, 0.5, 5.0, 0.025], "b": "x\ry"})));
    // A name without quotes is what it says.
    assert_eq!(read("9001: a\ntrue: b", Format::Yaml), Ok(json!({"9001": "a", "true": "b"})));
}

#[cfg(feature = "yaml")]
#[test]
fn a_billion_laughs_are_refused_at_the_first() {
    let mut bomb = "a0: &a0 [lol, lol]\n".to_owned();
    for level in 1..40 {
        bomb += &format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}]\n", level - 1);
    }
    let error = read(&bomb, Format::Yaml).unwrap_err();
    assert!(error.line() == 1 && error.problem().contains("aliases"), "{error}");
}

#[test]
fn what_is_too_deep_or_too_long_is_refused() {
    for format in FORMATS {
        for count in [Document::MAX_DEPTH, 60, 100_000] {
            let (open, close) = ("[".repeat(count), "]".repeat(count));
            let text = match format {
                Format::Toml => format!("x = {open}{close}"),
                Format::Json => format!("{{\"x\": {open}{close}}}"),
                _ => format!("x: {open}{close}"),
            };
            assert!(read(&text, *format).is_err(), "{count} lists in a table, in {format}");
        }
        let (open, close) = ("[".repeat(Document::MAX_DEPTH - 1), "]".repeat(Document::MAX_DEPTH - 1));
        let deep = match format {
            Format::Toml => format!("x = {open}{close}"),
            _ => format!("{{\"x\": {open}{close}}}"),
        };
        assert!(read(&deep, *format).is_ok(), "{format}");
        let long = " ".repeat(Document::MAX_LEN + 1);
        assert!(read(&long, *format).unwrap_err().problem().contains("at most 262144"), "{format}");
    }
}

#[test]
fn a_list_is_no_table() {
    for (text, format) in
        [("create = [1, \"1s\", \"1s\"]", Format::Toml), ("{\"create\": [1, \"1s\", \"1s\"]}", Format::Json)]
    {
        let error = Document::parse(text, format).unwrap().read::<OperationPolicy>().unwrap_err();
        assert_eq!((error.field(), error.problem()), ("create", "is a list where a table is expected"));
    }
}

/// Any value that all formats can say.
fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~]{0,8}",
        "\\PC{0,6}",
        prop::sample::select(vec![
            "no", "Yes", "010", "0x1f", "1_0", "1:30", "~", "null", "true", "1e3", ".5", "<<", "- a", "a: b", "#",
            "&a", "!x", "\n", " x\ny "
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    let nested = leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-z]{1,6}", nested, 0..5)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
        .boxed()
}

/// A text of any kind, or one that was good and was damaged.
fn text() -> impl Strategy<Value = String> {
    let good = prop_oneof![
        value().prop_map(|value| value.to_string()),
        prop::sample::select(SHIPPED).prop_map(|(_, text)| text.to_owned()),
        Just("policy:\n  create: {attempts: 3, deadline: 1m}\n  poll:\n    retry:\n    - x\n    polls: 5\n".to_owned()),
    ];
    let pieces = prop::sample::select(vec![
        "{", "}", "[", "]", "\"", "'", ":", "-", "\n", "\t", "é", "\u{0}", "&a", "*a", "!t", "|", ">", "<<", "%",
        "---", "...", "? ", "0x", "1e999", "=", "#", "\\u",
    ]);
    let damage = prop::collection::vec((any::<prop::sample::Index>(), 0..6_usize, pieces), 0..4);
    let damaged = (good, damage).prop_map(|(text, damage)| {
        damage.into_iter().fold(text, |text, (at, cut, piece)| {
            let chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len() + 1);
            let (before, after) = (&chars[..at], &chars[(at + cut).min(chars.len())..]);
            before.iter().copied().chain(piece.chars()).chain(after.iter().copied()).collect()
        })
    });
    prop_oneof![4 => damaged, 1 => "\\PC{0,80}", 1 => any::<String>()].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Written by another hand, and read by ours: the same, or refused; never something else.
    #[test]
    fn what_is_read_is_what_was_written(value in value()) {
        let json = read(&value.to_string(), Format::Json);
        prop_assert_eq!(json.as_ref(), Ok(&value));
        #[cfg(feature = "yaml")]
        {
            let yaml = yaml_serde::to_string(&value).unwrap();
            if let Ok(read) = read(&yaml, Format::Yaml) {
                prop_assert_eq!(read, value, "{}", yaml);
            }
        }
    }

    #[test]
    fn no_text_panics_and_every_error_has_a_line_of_the_file(text in text()) {
        for format in FORMATS {
            let profile = Document::parse(&text, *format).and_then(|document| Profile::read_from(&document).map(drop));
            let errors = [read(&text, *format).err(), profile.err()];
            for error in errors.into_iter().flatten() {
                let lines = text.matches('\n').count() + 1;
                prop_assert!((1..=lines).contains(&error.line()), "{} {}", format, error);
                prop_assert!(!error.problem().is_empty() && !error.field().chars().any(char::is_control), "{}", error);
            }
        }
    }

    /// What one reader of YAML takes for the same as ours does: the YAML organisation's.
    #[cfg(feature = "yaml")]
    #[test]
    fn what_is_read_is_read_alike_by_others(text in text()) {
        if let (Ok(ours), Ok(theirs)) = (read(&text, Format::Yaml), yaml_serde::from_str::<Value>(&text)) {
            // An empty file is a table here, and null there.
            if theirs != Value::Null {
                prop_assert_eq!(ours, theirs, "{:?}", text);
            }
        }
    }
}
