//! Each fault as a client meets it on a real socket, and what the ledger says of it.

use std::io::ErrorKind;
use std::time::Duration;

use steadfast_core::Kind;
use steadfast_testkit::{FakeDeepvue, FakeServer, Fault, Faults, Keys};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PAYLOAD: &str = r#"{"dl_number":"DL1","consent":"Y","reason":"KYC"}"#;

async fn exchange(server: &FakeServer, request: String) -> std::io::Result<String> {
    let address = server.base_url().replace("http://", "");
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

const DOOR: &str = "Host: x\r\nAuthorization: Bearer t\r\nx-api-key: s\r\n";

async fn create(server: &FakeServer, key: &str, payload: &str) -> std::io::Result<String> {
    let length = payload.len();
    let line = "POST /v1/verification/post-driving-license HTTP/1.1";
    exchange(server, format!("{line}\r\n{DOOR}Idempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{payload}"))
        .await
}

async fn get(server: &FakeServer, path: &str) -> String {
    exchange(server, format!("GET /v1/verification/{path} HTTP/1.1\r\n{DOOR}\r\n")).await.unwrap()
}

fn once(fault: Fault) -> FakeDeepvue {
    FakeDeepvue::new(1).with_faults(Faults::none().on(Kind::Create, 1, fault)).with_speed(100.0)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn each_fault_is_what_it_says() {
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Refuse) {
        let server = once(fault).start().unwrap();
        let answer = create(&server, "k", PAYLOAD).await;
        match fault {
            Fault::ResetBefore | Fault::LoseAnswer => {
                assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset, "{fault:?}");
            }
            Fault::ErrorBefore(_) | Fault::ErrorAfter(_) => assert_eq!(status(&answer.unwrap()), "500"),
            Fault::Throttle | Fault::ThrottleUntil => {
                let answer = answer.unwrap();
                assert_eq!(status(&answer), "429");
                let dated = answer.contains("retry-after: ") && answer.matches(" GMT").count() == 2;
                assert_eq!(dated, fault == Fault::ThrottleUntil, "{answer}");
            }
            Fault::Html => assert!(answer.unwrap().contains("<!doctype html>")),
            Fault::Truncate | Fault::WrongLength => {
                let answer = answer.unwrap();
                let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{fault:?}: {answer:?}"));
                let declared = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .unwrap_or_else(|| panic!("{fault:?}: {answer:?}"));
                let missing = declared.parse::<usize>().unwrap() - body.len();
                let whole = body.ends_with('}');
                assert_eq!(
                    (missing, whole),
                    if fault == Fault::Truncate { (0, false) } else { (64, true) },
                    "{answer}"
                );
            }
            _ => assert_eq!(status(&answer.unwrap()), "200", "{fault:?}"),
        }
        let ledger = server.ledger();
        assert_eq!(ledger.executions("k").len(), usize::from(fault.executes()), "{fault:?}");
        assert!(!ledger.answers("k")[0].intact);
        assert_eq!(server.faults().get(fault.name()), Some(&1), "{fault:?}");
        assert_eq!(status(&create(&server, "k", PAYLOAD).await.unwrap()), "200", "the next one is sound");
        assert_eq!(server.ledger().executions("k").len(), 1);
    }
}

#[tokio::test]
async fn a_refused_connection_is_refused_by_the_system() {
    let faults = Faults::rate(1.0).only(&[Fault::Refuse]);
    let server = FakeDeepvue::new(1).with_faults(faults).start().unwrap();
    let mut refused = 0;
    for n in 0..20 {
        if let Err(error) = create(&server, &format!("k{n}"), PAYLOAD).await {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            refused += 1;
        }
    }
    assert!(refused > 0 && server.faults()["refuse"] > 0);
    // The port always comes back.
    let mut tries = 0;
    while create(&server, "late", PAYLOAD).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        tries += 1;
        assert!(tries < 500);
    }
}

#[tokio::test]
async fn keys_are_honoured_looked_up_or_ignored() {
    let runs = |keys| async move {
        let server = FakeDeepvue::new(1).with_keys(keys).start().unwrap();
        for _ in 0..3 {
            assert_eq!(status(&create(&server, "k", PAYLOAD).await.unwrap()), "200");
        }
        let found = get(&server, "find-driving-license?key=k").await;
        let other = create(&server, "k", &PAYLOAD.replace("DL1", "DL2")).await.unwrap();
        (server.ledger().executions("k").len(), status(&found).to_owned(), status(&other).to_owned())
    };
    assert_eq!(runs(Keys::Honoured).await, (1, "404".into(), "422".into()));
    assert_eq!(runs(Keys::Lookup).await, (4, "200".into(), "200".into()));
    assert_eq!(runs(Keys::Ignored).await, (4, "404".into(), "200".into()));
}

#[tokio::test]
async fn requests_that_deepvue_would_refuse_are_refused_and_run_nothing() {
    let server = FakeDeepvue::new(1).start().unwrap();
    assert_eq!(status(&create(&server, "k", "{").await.unwrap()), "400");
    assert_eq!(status(&create(&server, "k", r#"{"consent":"N","reason":"KYC"}"#).await.unwrap()), "422");
    assert_eq!(status(&get(&server, "get-driving-license?transaction_id=unknown").await), "404");
    assert_eq!(status(&exchange(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n".into()).await.unwrap()), "401");
    assert_eq!(server.ledger().total_executions(), 0);
}

#[tokio::test]
async fn a_job_is_pending_until_it_is_ready() {
    let (least, most) = (Duration::from_millis(300), Duration::from_millis(300));
    let server = FakeDeepvue::new(1).with_job_time(least, most).start().unwrap();
    let accepted = create(&server, "k", PAYLOAD).await.unwrap();
    let id = server.ledger().executions("k")[0].transaction_id.clone();
    assert!(accepted.contains(&id));
    let path = format!("get-driving-license?transaction_id={id}");
    let first = get(&server, &path).await;
    assert!(status(&first) == "202" || first.contains(r#""data":{}"#), "{first}");
    let mut last = first;
    for _ in 0..500 {
        if last.contains("id_found") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        last = get(&server, &path).await;
    }
    panic!("never ready: {last}");
}

#[test]
fn a_test_on_threads_needs_no_runtime() {
    use std::io::{Read, Write};

    let server = FakeDeepvue::new(1).start().unwrap();
    let mut stream = std::net::TcpStream::connect(server.base_url().replace("http://", "")).unwrap();
    let length = PAYLOAD.len();
    let request = format!(
        "POST /v1/verification/post-driving-license HTTP/1.1\r\n{DOOR}Idempotency-Key: k\r\nContent-Length: {length}\r\n\r\n{PAYLOAD}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), "200");
    assert_eq!(server.ledger().executions("k").len(), 1);

    // Dropped where nobody may block.
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { drop(server) });
}
