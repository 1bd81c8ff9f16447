//! A base URL decides where credentials go: nothing said later may lead elsewhere.

use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use steadfast_providers::{BaseUrl, BaseUrlError, RequestError};

fn base() -> BaseUrl {
    BaseUrl::parse("https://api.example.com:8443/kyc/").unwrap()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

proptest! {
    #[test]
    fn no_value_changes_origin_path_or_other_parameters(name in ".{0,20}", value in ".{0,200}") {
        let url = base().join(&["v1", "jobs"], &[("first", "1"), (&name, &value), ("last", "9")]).unwrap();
        prop_assert_eq!(url.scheme_str(), Some("https"));
        prop_assert_eq!(url.authority().unwrap().as_str(), "api.example.com:8443");
        prop_assert_eq!(url.path(), "/kyc/v1/jobs");

        let parameters: Vec<_> = url.query().unwrap().split('&').map(|part| part.split_once('=').unwrap()).collect();
        prop_assert_eq!(parameters.len(), 3);
        prop_assert_eq!((parameters[0], parameters[2]), (("first", "1"), ("last", "9")));
        prop_assert_eq!((decoded(parameters[1].0), decoded(parameters[1].1)), (name, value));
        prop_assert!(url.to_string().bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn a_segment_stays_one_segment(segment in ".{1,100}") {
        match base().join(&["jobs", &segment, "result"], &[]) {
            Err(error) => {
                prop_assert!(matches!(segment.as_str(), "." | ".."), "{:?} refused: {}", segment, error);
            }
            Ok(url) => {
                prop_assert_eq!(url.query(), None);
                let segments: Vec<_> = url.path().split('/').skip(1).collect();
                prop_assert_eq!(segments.len(), 4);
                prop_assert_eq!((segments[0], segments[1], segments[3]), ("kyc", "jobs", "result"));
                prop_assert_eq!(decoded(segments[2]), segment);
            }
        }
    }

    #[test]
    fn what_is_accepted_is_https_or_this_machine(text in url_like()) {
        let Ok(base) = BaseUrl::parse(&text) else { return Ok(()) };
        let url = base.join(&["x"], &[]).unwrap();
        let host = url.host().unwrap();
        let here = host.eq_ignore_ascii_case("localhost") || host.starts_with("127.") || host == "[::1]";
        prop_assert!(url.scheme_str() == Some("https") || here, "{}", text);
        prop_assert!(!url.authority().unwrap().as_str().contains('@'));
        prop_assert!(!host.is_empty());
        prop_assert_eq!(BaseUrl::parse(&base.to_string()), Ok(base));
    }

    #[test]
    fn an_error_repeats_nothing(password in "[a-z]{12}") {
        let texts = ["https://user:PASS@example.com", "PASS://x", "https://x/?key=PASS", "https://x:PASS", "PASS"];
        for text in texts.map(|text| text.replace("PASS", &password)) {
            let error = BaseUrl::parse(&text).unwrap_err();
            let shown = format!("{error} {error:?}");
            prop_assert!(!shown.contains(&password));
        }
    }
}

/// Texts made of what URLs are made of: far more of them parse, or nearly, than of random ones.
fn url_like() -> impl Strategy<Value = String> {
    let parts = [
        "https://",
        "http://",
        "HTTP://",
        "ftp://",
        "//",
        "/",
        "\\",
        "@",
        ":",
        "?",
        "#",
        "%2e",
        "%",
        "..",
        ".",
        "[",
        "]",
        "::1",
        "[::1]",
        "127.0.0.1",
        "localhost",
        "evil.example",
        ":80",
        ":0",
        ":99999",
        "user",
        "\r\n",
        " ",
        "é",
        "a",
    ];
    prop_oneof![
        prop::collection::vec(prop::sample::select(parts.to_vec()), 0..8).prop_map(|parts| parts.concat()),
        prop::collection::vec(prop::sample::select(parts.to_vec()), 0..6)
            .prop_map(|parts| "https://".to_owned() + &parts.concat()),
        prop::collection::vec(prop::sample::select(parts.to_vec()), 0..6)
            .prop_map(|parts| "http://".to_owned() + &parts.concat()),
        ".{0,40}",
    ]
}

#[test]
fn accepted() {
    for (text, shown) in [
        ("https://production.deepvue.tech", "https://production.deepvue.tech"),
        ("https://production.deepvue.tech/", "https://production.deepvue.tech"),
        ("HTTPS://Example.com:443/a/b-c_d/", "https://Example.com:443/a/b-c_d"),
        ("https://192.0.2.1", "https://192.0.2.1"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://LOCALHOST", "http://LOCALHOST"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.255.0.9/x", "http://127.255.0.9/x"),
        ("http://[::1]:65535/", "http://[::1]:65535"),
    ] {
        assert_eq!(BaseUrl::parse(text).map(|base| base.to_string()), Ok(shown.to_owned()), "{text}");
    }
}

#[test]
fn refused_with_the_reason() {
    use BaseUrlError as E;
    for (text, error) in [
        ("", E::NoScheme),
        ("production.deepvue.tech", E::NoScheme),
        ("localhost:8080", E::NoScheme),
        ("//example.com", E::NoScheme),
        ("ftp://example.com", E::OtherScheme),
        ("file:///etc/passwd", E::OtherScheme),
        ("gopher://x/", E::OtherScheme),
        ("http://example.com", E::Insecure),
        ("http://localhost.evil.example", E::Insecure),
        ("http://127.0.0.1.evil.example", E::Insecure),
        ("http://128.0.0.1", E::Insecure),
        ("http://0.0.0.0", E::Insecure),
        ("http://[::2]", E::Insecure),
        ("http://169.254.169.254/latest", E::Insecure),
        ("https://user:secret@example.com", E::UserInfo),
        ("https://example.com:443@evil.example", E::UserInfo),
        ("https://@example.com", E::UserInfo),
        ("http://localhost@evil.example", E::UserInfo),
        ("https://", E::NoHost),
        ("https:///path", E::NoHost),
        ("https://:443", E::NoHost),
        ("https://[127.0.0.1]", E::Host),
        ("https://[::1", E::Host),
        ("https://a:b:c", E::Host),
        ("https://example.com:", E::Port),
        ("https://example.com:0", E::Port),
        ("https://example.com:65536", E::Port),
        ("https://example.com:x", E::Port),
        ("https://example.com/a//b", E::Path),
        ("https://example.com//", E::Path),
        ("https://example.com/a/../b", E::Path),
        ("https://example.com/a/.%2E/b", E::Path),
        ("https://example.com/.", E::Path),
        ("https://example.com/?key=secret", E::Query),
        ("https://example.com?", E::Query),
        ("https://example.com/#top", E::Fragment),
        (" https://example.com", E::Character { at: 0 }),
        ("https://example.com\r\nX-Admin: 1", E::Character { at: 19 }),
        ("https://example.com/\0", E::Character { at: 20 }),
        ("https:\\\\evil.example\\x", E::Character { at: 6 }),
        ("https://evil.example\\@example.com", E::Character { at: 20 }),
        ("https://bücher.example", E::Character { at: 9 }),
    ] {
        assert_eq!(BaseUrl::parse(text), Err(error), "{text}");
    }
}

#[test]
fn only_a_last_segment_may_be_empty() {
    let url = |segments| base().join(segments, &[]).map(|url| url.path().to_owned());
    assert_eq!(url(&["v3", "session", ""]), Ok("/kyc/v3/session/".to_owned()));
    assert_eq!(url(&["v3", "", "session"]), Err(RequestError::Unsendable("path")));
    assert_eq!(url(&[]), Ok("/kyc".to_owned()));
    assert_eq!(BaseUrl::parse("https://x").unwrap().join(&[], &[]).unwrap().to_string(), "https://x/");
    assert_eq!(BaseUrl::parse("https://x").unwrap().join(&[], &[("a", "b")]).unwrap().to_string(), "https://x/?a=b");
}

#[test]
fn a_url_beyond_64_kib_is_an_error_not_a_panic() {
    let long = "x".repeat(70_000);
    assert_eq!(base().join(&["v1"], &[("id", &long)]), Err(RequestError::Unsendable("URL")));
}
