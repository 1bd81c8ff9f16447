//! Over TLS, as every real provider is asked: who is not the provider gets nothing, and an answer that was cut off is
//! none.
//!
//! A row is what a server does with one connection, and what is certain of the create afterwards. The server is rustls
//! on a thread, with certificates made for it; each adapter trusts one of them.

mod server;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use steadfast_blocking::UreqTransport;
use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, OperationPolicy, Outcome};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_tokio::ReqwestTransport;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::server::{Does, Identity, Server};

/// Far above what a busy machine takes for a handshake over loopback.
const PATIENT: Duration = Duration::from_secs(30);

/// What is certain of a create after one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The answer came, and all of it.
    Answered,
    /// Nothing left.
    NotSent,
    /// It may have run.
    InDoubt,
}

use Then::{Answered, InDoubt, NotSent};

const ROWS: [(&str, Identity, Does, Then); 13] = [
    ("a server that closes as it should", Identity::Trusted, Does::Answers, Answered),
    ("a whole answer, and then no farewell", Identity::Trusted, Does::AnswersAndVanishes, Answered),
    ("an answer without a length, and a farewell", Identity::Trusted, Does::AnswersUntilFarewell, Answered),
    // Whoever can cut a connection could else choose where an answer ends: RFC 9112, section 9.8.
    ("an answer without a length, and no farewell", Identity::Trusted, Does::AnswersUntilCut, InDoubt),
    ("an answer that is shorter than its length", Identity::Trusted, Does::AnswersInPart, InDoubt),
    ("no answer", Identity::Trusted, Does::Vanishes, InDoubt),
    ("TLS 1.2", Identity::Trusted, Does::SpeaksTls12, Answered),
    ("a certificate of another host", Identity::OtherHost, Does::Answers, NotSent),
    ("a certificate that is over", Identity::Expired, Does::Answers, NotSent),
    ("a certificate by somebody else", Identity::Untrusted, Does::Answers, NotSent),
    ("a server that hangs up in the handshake", Identity::Trusted, Does::HangsUp, NotSent),
    ("a client's certificate missed, by TLS 1.2", Identity::Trusted, Does::WantsCertificateByTls12, NotSent),
    // The handshake is over for the client, not for the server: it has read no request.
    ("a client's certificate missed", Identity::Trusted, Does::WantsCertificate, NotSent),
];

/// Carries a job with one create to a server whose certificate is trusted if it is this one.
type Adapter = fn(base: &str, trusted: &[u8]) -> Outcome;

fn tokio_and_reqwest(base: &str, trusted: &[u8]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let roots = [reqwest::Certificate::from_der(trusted).unwrap()];
    let transport =
        ReqwestTransport::from_builder(reqwest::Client::builder().http1_only().tls_certs_only(roots)).unwrap();
    runtime.block_on(on_tokio(base, transport))
}

async fn on_tokio(base: &str, transport: ReqwestTransport) -> Outcome {
    let client = steadfast_tokio::Client::builder(Probe(base.to_owned()), transport).start().await.unwrap();
    client.submit(key(), "{}").await.unwrap().await.unwrap().outcome
}

fn blocking_and_ureq(base: &str, trusted: &[u8]) -> Outcome {
    let roots = RootCerts::new_with_certs(&[Certificate::from_der(trusted).to_owned()]);
    let tls = TlsConfig::builder().root_certs(roots).build();
    let transport = UreqTransport::from_builder(ureq::Agent::config_builder().proxy(None).tls_config(tls));
    on_threads(base, transport)
}

fn on_threads(base: &str, transport: UreqTransport) -> Outcome {
    let client = steadfast_blocking::Client::builder(Probe(base.to_owned()), transport).start().unwrap();
    client.call(key(), "{}").unwrap().outcome
}

fn key() -> Key {
    Key::new("order-42").unwrap()
}

/// Its create is over with the answer, if that is whole.
struct Probe(String);

impl Provider for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn policy(&self) -> OperationPolicy {
        let create = RetryPolicy::new(1, 2 * PATIENT, PATIENT, BackoffPolicy::default()).unwrap();
        OperationPolicy::default().with_create(create).unwrap()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let request = Request::builder().method(Method::POST).uri(format!("{}/jobs", self.0));
        request.body(ask.payload.bytes().clone()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.body {
            server::ANSWER => Ok(Reading::Ready),
            _ => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
        }
    }
}

fn run(adapter: Adapter) {
    for (name, identity, does, expected) in ROWS {
        let server = Server::start(identity, does);
        let then = match adapter(&server.base(), server.trusted()) {
            Outcome::Completed(_) => Answered,
            Outcome::Rejected(_) => NotSent,
            _ => InDoubt,
        };
        let requests = server.stop().requests;
        assert_eq!(then, expected, "{name}");
        assert_eq!(requests, usize::from(expected != NotSent), "{name}: requests that came");
    }
}

#[test]
fn tokio_with_reqwest() {
    run(tokio_and_reqwest);
}

#[test]
fn blocking_with_ureq() {
    run(blocking_and_ureq);
}

/// What another crate of the program switches on in an HTTP library must not change how requests leave: here HTTP/2 is
/// switched on.
#[tokio::test]
async fn by_itself_a_transport_speaks_http_1_1_alone() {
    let by_reqwest = Server::start(Identity::Untrusted, Does::Answers);
    let outcome = on_tokio(&by_reqwest.base(), ReqwestTransport::new().unwrap()).await;
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    let by_ureq = Server::start(Identity::Untrusted, Does::Answers);
    let outcome = on_threads(&by_ureq.base(), UreqTransport::new());
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    for server in [by_reqwest, by_ureq] {
        let offered = server.stop().offered;
        assert!(offered.iter().all(|protocol| protocol == "http/1.1"), "{offered:?}");
    }
}
