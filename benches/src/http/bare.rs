//! The same calls without any policy: no retries, no time-outs, no limits, no journal. And the limit: bytes made
//! before, written to a socket.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::api::{Job, PAYLOAD, TOKEN, key, status};
use super::{CALLERS, EACH};

static NEXT: AtomicU64 = AtomicU64::new(0);

pub async fn by_reqwest(client: &reqwest::Client, base: &str) {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (client, base) = (client.clone(), base.to_owned());
        callers.spawn(async move {
            for _ in 0..EACH {
                let create = client
                    .post(format!("{base}/jobs"))
                    .bearer_auth(TOKEN)
                    .header("content-type", "application/json")
                    .header("idempotency-key", key(NEXT.fetch_add(1, Relaxed)))
                    .body(PAYLOAD);
                let answer = create.send().await.expect("it is answered");
                assert_eq!(answer.status().as_u16(), 200);
                let job = Job::of(&answer.bytes().await.expect("it is whole")).job_id;
                loop {
                    let poll = client.get(format!("{base}/jobs/{job}")).bearer_auth(TOKEN);
                    let answer = poll.send().await.expect("it is answered");
                    assert_eq!(answer.status().as_u16(), 200);
                    if status(&answer.bytes().await.expect("it is whole")).is_completed() {
                        break;
                    }
                }
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.expect("it does not panic");
    }
}

pub fn by_ureq(agent: &ureq::Agent, base: &str) {
    let read = |mut answer: ureq::http::Response<ureq::Body>| {
        assert_eq!(answer.status().as_u16(), 200);
        answer.body_mut().read_to_vec().expect("it is whole")
    };
    let bearer = format!("Bearer {TOKEN}");
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let create = agent
                        .post(format!("{base}/jobs"))
                        .header("authorization", &bearer)
                        .header("content-type", "application/json")
                        .header("idempotency-key", key(NEXT.fetch_add(1, Relaxed)));
                    let job = Job::of(&read(create.send(PAYLOAD.as_bytes()).expect("it is answered"))).job_id;
                    loop {
                        let poll = agent.get(format!("{base}/jobs/{job}")).header("authorization", &bearer);
                        if status(&read(poll.call().expect("it is answered"))).is_completed() {
                            break;
                        }
                    }
                }
            });
        }
    });
}

/// Knows that an answer comes in one piece of so many bytes as it says, and looks for no more than it needs.
pub async fn by_hand(connections: &mut [TcpStream]) {
    let mut callers = Vec::new();
    for connection in connections {
        callers.push(async move {
            let (mut request, mut answer) = (Vec::new(), vec![0; 1 << 12]);
            for _ in 0..EACH {
                request.clear();
                let key = key(NEXT.fetch_add(1, Relaxed));
                let length = PAYLOAD.len();
                request.extend(
                    format!(
                        "POST /jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
                         idempotency-key: {key}\r\ncontent-length: {length}\r\n\r\n{PAYLOAD}"
                    )
                    .bytes(),
                );
                let body = exchange(connection, &request, &mut answer).await;
                let job = Job::of(body).job_id;
                request.clear();
                request.extend(
                    format!("GET /jobs/{job} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n").bytes(),
                );
                while !status(exchange(connection, &request, &mut answer).await).is_completed() {}
            }
        });
    }
    futures_util::future::join_all(callers).await;
}

async fn exchange<'a>(connection: &mut TcpStream, request: &[u8], answer: &'a mut [u8]) -> &'a [u8] {
    connection.write_all(request).await.expect("it is there");
    let mut length = 0;
    loop {
        let read = connection.read(&mut answer[length..]).await.expect("it is there");
        assert!(read > 0, "the server closed the connection");
        length += read;
        let text = &answer[..length];
        let Some(head) = text.windows(4).position(|at| at == b"\r\n\r\n") else { continue };
        let said =
            text[..head].windows(16).position(|at| at.eq_ignore_ascii_case(b"content-length: ")).expect("a length");
        let digits = text[said + 16..].iter().take_while(|byte| byte.is_ascii_digit());
        let body = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        if length == head + 4 + body {
            return &answer[head + 4..length];
        }
    }
}
