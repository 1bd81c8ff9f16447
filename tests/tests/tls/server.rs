//! A server that speaks TLS, and may stop doing so at any point.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, version};

pub(crate) const ANSWER: &[u8] = b"{\"whole\":true}";

/// Whose certificate it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Trusted,
    OtherHost,
    Expired,
    /// One that nobody was told to trust.
    Untrusted,
}

/// What it does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// As it should: the answer and its length, and `close_notify` at the end.
    Answers,
    /// The same by TLS 1.2.
    SpeaksTls12,
    /// The answer and its length; then the connection is cut.
    AnswersAndVanishes,
    /// The answer goes on until `close_notify`.
    AnswersUntilFarewell,
    /// The answer goes on until the connection is cut.
    AnswersUntilCut,
    /// A length, and less than that.
    AnswersInPart,
    /// It reads the request, and cuts the connection.
    Vanishes,
    /// It cuts the connection before the handshake is over.
    HangsUp,
    /// It refuses whoever shows no certificate, which by TLS 1.3 comes when the request is on its way.
    WantsCertificate,
    /// The same by TLS 1.2.
    WantsCertificateByTls12,
}

impl Does {
    const fn wants_certificate(self) -> bool {
        matches!(self, Self::WantsCertificate | Self::WantsCertificateByTls12)
    }
}

pub(crate) struct Server {
    base: String,
    trusted: Vec<u8>,
    stops: Arc<AtomicBool>,
    shows: Arc<Shows>,
    thread: JoinHandle<usize>,
}

/// What came to it.
#[derive(Debug)]
pub(crate) struct Came {
    /// Whole requests.
    pub(crate) requests: usize,
    /// The protocols above TLS that were offered to it.
    pub(crate) offered: Vec<String>,
}

/// The certificate that it shows to everybody.
#[derive(Debug)]
struct Shows {
    key: Arc<CertifiedKey>,
    offered: Mutex<Vec<String>>,
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.alpn().into_iter().flatten().map(|name| String::from_utf8_lossy(name).into_owned());
        self.offered.lock().unwrap().extend(offered);
        Some(self.key.clone())
    }
}

impl Server {
    pub(crate) fn start(identity: Identity, does: Does) -> Self {
        let host = if identity == Identity::OtherHost { "elsewhere.test" } else { "127.0.0.1" };
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        if identity == Identity::Expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let trusted = match identity {
            Identity::Untrusted => params.self_signed(&KeyPair::generate().unwrap()).unwrap(),
            _ => certificate.clone(),
        };
        let by_tls12 = matches!(does, Does::SpeaksTls12 | Does::WantsCertificateByTls12);
        let versions: &[_] = if by_tls12 { &[&version::TLS12] } else { &[&version::TLS13] };
        let provider = rustls::crypto::ring::default_provider();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = Arc::new(CertifiedKey::from_der(chain, private, &provider).unwrap());
        let shows = Arc::new(Shows { key, offered: Mutex::default() });
        let provider = Arc::new(provider);
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
        let builder = if does.wants_certificate() {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(shows.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let stops = Arc::<AtomicBool>::default();
        let (stop, config) = (stops.clone(), Arc::new(config));
        let thread = std::thread::spawn(move || {
            let mut requests = 0;
            for socket in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                requests += usize::from(serve(socket.unwrap(), config.clone(), does));
            }
            requests
        });
        Self { base, trusted: trusted.der().to_vec(), stops, shows, thread }
    }

    pub(crate) fn base(&self) -> String {
        self.base.clone()
    }

    /// The certificate that is to be trusted.
    pub(crate) fn trusted(&self) -> &[u8] {
        &self.trusted
    }

    pub(crate) fn stop(self) -> Came {
        self.stops.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.base.trim_start_matches("https://")));
        let requests = self.thread.join().unwrap();
        Came { requests, offered: std::mem::take(&mut self.shows.offered.lock().unwrap()) }
    }
}

/// Tells whether a whole request came.
fn serve(socket: TcpStream, config: Arc<ServerConfig>, does: Does) -> bool {
    if does == Does::HangsUp {
        let _ = (&socket).read(&mut [0; 64]);
        return false;
    }
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    let came = read_request(&mut stream);
    let mut stream = stream.into_inner();
    if came.is_err() {
        if does.wants_certificate() {
            // To close it with anything unread would reset it, and nobody would hear why.
            let _ = stream.sock.shutdown(Shutdown::Write);
            let _ = stream.sock.read_to_end(&mut Vec::new());
        }
        return false;
    }
    let (length, said) = match does {
        Does::Answers | Does::SpeaksTls12 | Does::AnswersAndVanishes => (Some(ANSWER.len()), ANSWER),
        Does::AnswersUntilFarewell | Does::AnswersUntilCut => (None, ANSWER),
        Does::AnswersInPart => (Some(ANSWER.len() + 1), ANSWER),
        _ => return true,
    };
    let length = length.map_or_else(String::new, |length| format!("Content-Length: {length}\r\n"));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{length}Connection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), said].concat()).unwrap();
    if !matches!(does, Does::AnswersAndVanishes | Does::AnswersUntilCut) {
        stream.conn.send_close_notify();
    }
    stream.flush().unwrap();
    // As when the machine behind it went away: no more bytes, and no farewell where none was written.
    let _ = stream.sock.shutdown(Shutdown::Write);
    let _ = stream.sock.read(&mut [0; 64]);
    true
}

fn read_request(stream: &mut impl BufRead) -> std::io::Result<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length])
}
