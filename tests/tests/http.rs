//! The adapter over real sockets, where the world is hostile: nobody listens, redirects lead away, bodies do not end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame};
use steadfast_core::operation::{Rejected, Unresolved};
use steadfast_core::{Key, Kind, Outcome, SendSafety};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_testkit::http::serve;
use steadfast_testkit::{FakeDeepvue, Fault, Faults, scaled};
use steadfast_tokio::{Client, Finished, ReqwestTransport};

const PAYLOAD: &str = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;

/// One job against whatever is at `base_url`, eight times as fast as in life.
async fn carry(base_url: &str, safety: SendSafety, body_limit: usize) -> Finished {
    let credentials = Credentials::new("token", "secret").unwrap();
    let provider = Deepvue::new(BaseUrl::parse(base_url).unwrap(), "driving-license", credentials).unwrap();
    let provider = provider.with_safety(safety).unwrap();
    // A time-out far above what a busy machine takes for a loopback exchange: what is tested here is not the clock.
    let policy = scaled(&provider.policy(), 8.0).unwrap();
    let client = Client::builder(provider, ReqwestTransport::new().unwrap())
        .policy(policy)
        .body_limit(body_limit)
        .start()
        .await
        .unwrap();
    client.submit(Key::new("order-42").unwrap(), PAYLOAD).await.unwrap().await.unwrap()
}

const KEYED: SendSafety = SendSafety::Keyed { window: Duration::from_secs(86_400) };
const LIMIT: usize = 1 << 20;

#[tokio::test]
async fn a_refused_connection_certainly_ran_nothing() {
    // A port that is taken, so that nobody else gets it, and on which nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    for safety in [SendSafety::Unsafe, KEYED] {
        let finished = carry(&format!("http://127.0.0.1:{port}"), safety, LIMIT).await;
        assert_eq!(finished.outcome, Outcome::Rejected(Rejected::Attempts));
        assert_eq!(finished.creates, 5, "what did not run is tried again even where keys are ignored");
    }
}

#[tokio::test]
async fn a_lost_answer_is_sent_again_only_where_keys_are_honoured() {
    for (safety, outcome, creates) in [(KEYED, "completed", 2), (SendSafety::Unsafe, "unresolved", 1)] {
        let faults = Faults::none().on(Kind::Create, 1, Fault::LoseAnswer);
        let server = FakeDeepvue::new(1).with_faults(faults).with_speed(20.0).start().unwrap();
        let finished = carry(&server.base_url(), safety, LIMIT).await;
        assert_eq!((finished.outcome.name(), finished.creates), (outcome, creates));
        assert_eq!(server.ledger().executions("order-42").len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_carries_nothing_away() {
    for code in [301, 302, 303, 307, 308] {
        let strayed = Arc::new(AtomicUsize::new(0));
        let count = strayed.clone();
        let elsewhere = serve(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Response::new(Full::new(Bytes::new()))
        })
        .await
        .unwrap();
        let target = elsewhere.base_url();
        let server = serve(move |_| {
            let mut response = Response::new(Full::new(Bytes::new()));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            response.headers_mut().insert("location", target.parse().unwrap());
            response
        })
        .await
        .unwrap();
        let finished = carry(&server.base_url(), KEYED, LIMIT).await;
        let expected = match code {
            307 | 308 => Outcome::Rejected(Rejected::Refused),
            // What was done may be what it leads to.
            _ => Outcome::Unresolved(Unresolved::Refused),
        };
        assert_eq!(finished.outcome, expected, "{code}");
        assert_eq!(strayed.load(Ordering::Relaxed), 0, "{code}");
    }
}

/// Accepts, then answers every poll with `poll`.
async fn accepting<B>(poll: impl Fn() -> Response<B> + Send + Sync + 'static) -> steadfast_testkit::http::Server
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    serve(move |request| {
        if request.method() == "POST" {
            let accepted = Bytes::from_static(br#"{"code":200,"transaction_id":"txn-1"}"#);
            return Response::new(Either::Whole(Full::new(accepted)));
        }
        poll().map(Either::Other)
    })
    .await
    .unwrap()
}

enum Either<B> {
    Whole(Full<Bytes>),
    Other(B),
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for Either<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }
}

/// 1 GiB of zeros as gzip, a megabyte on the wire: one flushed block of a megabyte, a thousand times. Nobody gets to
/// its end, so it has none.
fn bomb() -> Bytes {
    let mut block = Vec::with_capacity(1 << 16);
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    deflate.compress_vec(&vec![0; 1 << 20], &mut block, flate2::FlushCompress::Sync).unwrap();
    assert_eq!(deflate.total_in(), 1 << 20);
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    Bytes::from([&header[..], &block.repeat(1024)].concat())
}

#[tokio::test]
async fn a_body_that_decodes_to_a_gigabyte_is_cut_at_the_limit() {
    let bomb = bomb();
    assert!(bomb.len() < 2 << 20);
    let server = accepting(move || {
        let mut response = Response::new(Full::new(bomb.clone()));
        response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        response
    })
    .await;
    let before = peak_memory();
    let finished = carry(&server.base_url(), KEYED, LIMIT).await;
    assert_eq!(finished.outcome, Outcome::Unresolved(Unresolved::PollRefused));
    assert_eq!(finished.reference.unwrap().as_str(), "txn-1", "the job can still be found");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 200 << 20, "decoding took {} MiB", grown >> 20);
}

/// The most memory this process has held, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// A body that never ends.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 4096] = [b' '; 4096];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_at_the_limit() {
    let server = accepting(|| Response::new(Endless)).await;
    let started = Instant::now();
    let finished = carry(&server.base_url(), KEYED, LIMIT).await;
    assert_eq!(finished.outcome, Outcome::Unresolved(Unresolved::PollRefused));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn hostile_waits_neither_panic_nor_hang() {
    let values = ["10000000000000000000", "-1", "nan", "Fri, 31 Dec 9999 23:59:59 GMT", "99999999999999999999999999"];
    for value in values {
        let server = serve(move |_| {
            let mut response = Response::new(Full::new(Bytes::from_static(br#"{"detail":"slow down"}"#)));
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert("retry-after", value.parse().unwrap());
            response
        })
        .await
        .unwrap();
        let finished = carry(&server.base_url(), SendSafety::Unsafe, LIMIT).await;
        // A wait beyond the deadline ends the job at once; one that is malformed counts as absent, and the attempts are
        // used up.
        let huge = !matches!(value, "-1" | "nan");
        let expected = if huge { Rejected::Deadline } else { Rejected::Attempts };
        assert_eq!(finished.outcome, Outcome::Rejected(expected), "{value}");
        assert_eq!(finished.creates, if huge { 1 } else { 5 }, "{value}");
    }
}
