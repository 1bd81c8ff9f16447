//! Serves any handler in a few lines, on a loopback port; and posts webhooks.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::webhooks::WebhookPost;

/// A running server. Stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers every request by `handler`, on a port of its own, until the returned server is dropped.
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use http_body_util::Full;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = steadfast_testkit::http::serve(|_request| Response::new(Full::new(Bytes::from_static(b"hello")))).await?;
/// println!("{}", server.base_url());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// No port could be opened.
pub async fn serve<H, B>(handler: H) -> io::Result<Server>
where
    H: Fn(Request<Bytes>) -> Response<B> + Send + Sync + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let handler = Arc::new(handler);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let handler = handler.clone();
                    async move { Ok::<_, hyper::Error>(handler(whole(request).await?)) }
                });
                // A client that disconnects is no failure here.
                let _ = connection(stream, service).await;
            });
        }
    });
    Ok(Server { address, task })
}

/// Serves one request on one connection.
pub(crate) async fn connection<S, B>(stream: TcpStream, service: S) -> hyper::Result<()>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = hyper::Error>,
    B: Body<Data = Bytes, Error = Infallible> + 'static,
{
    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await
}

/// The request with its whole body.
pub(crate) async fn whole(request: Request<Incoming>) -> hyper::Result<Request<Bytes>> {
    let (parts, body) = request.into_parts();
    Ok(Request::from_parts(parts, body.collect().await?.to_bytes()))
}

/// Posts it on a connection of its own, and returns the status; follows no redirect, and reads no body.
pub(crate) async fn post(post: &WebhookPost) -> Option<StatusCode> {
    let authority = post.url.authority()?;
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await.ok()?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.ok()?;
    let mut request = Request::post(post.url.path_and_query()?.as_str()).body(Full::new(post.body.clone())).ok()?;
    *request.headers_mut() = post.headers.clone();
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str()).ok()?);
    let mut answer = pin!(async { sender.send_request(request).await.ok().map(|response| response.status()) });
    tokio::select! {
        status = &mut answer => status,
        // The connection has ended: the answer is there already, or will never come.
        _ = connection => answer.await,
    }
}
