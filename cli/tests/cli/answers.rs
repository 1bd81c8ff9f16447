//! A result is what the provider sent: every byte, and every digit.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

/// Whatever a poll answers with 200 is the result.
const PROFILE: &str = r#"
name = "acme/scan"
base_url = "https://api.acme.example"

[policy]
safety = "unsafe"

[create]
path = "/scans"
reference = { pointer = "/id", id = true }

[poll]
path = "/scans/{reference}"

[[poll.rules]]
when = { status = 200 }
is = "ready"
"#;

/// Answers one request on one connection.
fn answer(mut stream: TcpStream, result: &[u8]) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap().to_lowercase();
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
    let body = if head.starts_with("post") { br#"{"id":"scan-1"}"# } else { result };
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
}

/// Where a provider is of whose jobs this is the result.
fn provider(result: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, result)));
    url
}

/// What `run` prints of a job with this result, without and with `--json`.
fn printed(result: &'static [u8]) -> [Vec<u8>; 2] {
    let url = provider(result);
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(home.path().join(name), text).unwrap();
        home.path().join(name).display().to_string()
    };
    let (profile, payload) = (file("acme.toml", PROFILE), file("payload", "{}"));
    [&[][..], &["--json"]].map(|more| {
        let args = ["run", "--profile", &profile, "--base-url", &url, "--key", "order-42", "--payload", &payload];
        let output = steadfast(&[&args[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        output.stdout
    })
}

#[test]
fn a_result_that_is_no_text_is_printed_byte_for_byte() {
    let [plain, object] = printed(b"name\ncaf\xe9\n");
    assert_eq!(plain, b"name\ncaf\xe9\n");
    let object: serde_json::Value = serde_json::from_slice(&object).unwrap();
    assert_eq!(
        (&object["body"], &object["base64"]),
        (&serde_json::Value::Null, &"bmFtZQpjYWbpCg==".into()),
        "{object}"
    );
    assert_eq!(object["has_answer"], true, "{object}");
}

/// A number that is read and written again may be another one.
#[test]
fn a_result_in_json_keeps_its_digits_and_its_order() {
    let body = "{\"number\": 123456789012345678901,\r\n \"at\": 0.10000000000000000555,\n \"a\": \"1\\n2\"}";
    let [plain, object] = printed(body.as_bytes());
    assert_eq!(plain, format!("{body}\n").into_bytes());
    let object = String::from_utf8(object).unwrap();
    let kept = "{\"number\": 123456789012345678901,   \"at\": 0.10000000000000000555,  \"a\": \"1\\n2\"}";
    assert!(object.contains(kept) && object.lines().count() == 1, "{object}");
    assert!(!object.contains("base64"), "{object}");
}

/// What may be in a file may come by a pipe.
#[test]
fn a_payload_from_stdin_may_be_any_bytes() {
    let home = tempfile::tempdir().unwrap();
    let profile = home.path().join("acme.toml");
    std::fs::write(&profile, PROFILE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(["run", "--base-url", &provider(b"done"), "--key", "order-42", "--payload", "-", "--profile"]);
    let mut child = command.arg(profile).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\xff\xfe").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"done\n"[..]), "{output:?}");
}
