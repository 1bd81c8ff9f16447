//! As much of HTTP/1.1 as the examples speak: one request on one connection, plain `http`, no chunks. Use a real client
//! for anything else.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Request, Response, Uri};

/// Where to connect to; nothing if it is not plain `http`.
pub(crate) fn address(uri: &Uri) -> Option<String> {
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"))?;
    Some(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

/// A request as it goes over the wire.
pub(crate) fn bytes_of(request: &Request<Bytes>) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = request.uri().authority().map_or("", |authority| authority.as_str());
    let mut head = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", request.method());
    let _ = write!(head, "content-length: {}\r\n", request.body().len());
    let mut bytes = head.into_bytes();
    for (name, value) in request.headers() {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    [&bytes[..], b"\r\n", request.body()].concat()
}

/// All that came until the connection was closed, as a response; nothing if it is none, or not whole.
pub(crate) fn response(bytes: &[u8]) -> Option<Response<Bytes>> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(&bytes[..head]).ok()?.split("\r\n");
    let status: u16 = lines.next()?.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    let mut response = Response::builder().status(status);
    let mut declared = None;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => declared = Some(value.trim().parse::<usize>().ok()?),
            "transfer-encoding" | "content-encoding" => return None,
            _ => {}
        }
        response = response.header(name, value.trim());
    }
    let body = &bytes[head + 4..];
    // A body that is shorter than declared was cut off on its way: it must not pass for an answer.
    let whole = declared.is_none_or(|declared| declared == body.len());
    whole.then(|| response.body(Bytes::copy_from_slice(body)).ok()).flatten()
}
