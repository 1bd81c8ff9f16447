//! A server on bare sockets that does one thing to every connection, and keeps what it was sent.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::rows::Does;

/// A running server. Its threads end with the process, or with their connections.
pub(crate) struct Server {
    address: SocketAddr,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl Server {
    /// `elsewhere` is what an answer's `{elsewhere}` stands for.
    pub(crate) fn start(does: Does, elsewhere: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::new(Books::default());
        let (kept, elsewhere) = (books.clone(), elsewhere.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (books, elsewhere) = (books.clone(), elsewhere.clone());
                books.connections.fetch_add(1, Ordering::SeqCst);
                // A client that goes away is its own affair.
                thread::spawn(move || converse(stream, does, &elsewhere, &books).ok());
            }
        });
        Self { address, books: kept }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn connections(&self) -> usize {
        self.books.connections.load(Ordering::SeqCst)
    }

    /// Each with its head and its body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.books.requests.lock().unwrap().clone()
    }
}

/// A port that is taken, so that nobody else gets it, and on which nobody listens; and its base URL.
pub(crate) fn refusing() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let base = format!("http://{}", socket.local_addr().unwrap());
    (socket, base)
}

fn converse(mut stream: TcpStream, does: Does, elsewhere: &str, books: &Books) -> io::Result<()> {
    if does == Does::Closes {
        // Unread bytes make it a reset.
        books.requests.lock().unwrap().push(String::new());
        return stream.peek(&mut [0]).map(|_| ());
    }
    while let Some(request) = request(&mut stream)? {
        let nth = {
            let mut requests = books.requests.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        let filled = |text: Vec<u8>| match String::from_utf8(text) {
            Ok(text) => text.replace("{elsewhere}", elsewhere).into_bytes(),
            Err(other) => other.into_bytes(),
        };
        match does {
            Does::Says(answer) => {
                stream.write_all(&filled(answer(nth)))?;
                stream.shutdown(Shutdown::Write)?;
                // Until the client has gone: closing with its bytes unread would reset what it has not read.
                return io::copy(&mut stream, &mut io::sink()).map(|_| ());
            }
            Does::SaysAndResets(answer) => {
                stream.write_all(answer.as_bytes())?;
                // What was sent is there to be read before it.
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            Does::SaysAndStays(answer) => stream.write_all(&filled(answer(nth)))?,
            Does::Floods(first, piece) => {
                stream.write_all(first.as_bytes())?;
                let pieces = piece.repeat((1 << 16) / piece.len() + 1);
                loop {
                    stream.write_all(pieces.as_bytes())?;
                }
            }
            Does::Drips(first, piece, each) => {
                stream.write_all(first.as_bytes())?;
                loop {
                    for byte in piece.bytes() {
                        // The slowness is what is tested.
                        thread::park_timeout(each);
                        stream.write_all(&[byte])?;
                    }
                }
            }
            Does::Closes | Does::Refuses | Does::IsNot(_) => unreachable!("no server does this"),
        }
    }
    Ok(())
}

/// The next request, or nothing if the client has gone, or speaks something else.
fn request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length:"));
            if body.len() >= length.and_then(|it| it.trim().parse().ok()).unwrap_or(0) {
                return Ok(Some(text.into_owned()));
            }
        }
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            // The first byte of a TLS handshake: it gets an answer that is none.
            _ if bytes.is_empty() && piece[0] == 0x16 => return Ok(Some(String::new())),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
