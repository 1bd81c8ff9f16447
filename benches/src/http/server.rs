//! The provider: HTTP/1.1 on loopback, kept alive, in a process and on a thread of its own, so that it costs each
//! client the same.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The argument by which this program is the server.
pub const SERVER: &str = "server";
const PENDING: &[u8] = b"{\"status\":\"in_progress\"}";
/// Of the size of a small verification's result.
const READY: &[u8] = br#"{"status":"completed","result":{"name_match":true,"document":"ABCDE1234F","checks":[{"name":"format","passed":true},{"name":"registry","passed":true},{"name":"watch-list","passed":true}],"score":0.98,"completed_at":"2026-01-01T00:00:00Z"}}"#;

/// Serves until there is no parent any more. Says its port first.
pub fn run() -> io::Result<()> {
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        let jobs = Rc::new(RefCell::new(Jobs::default()));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let jobs = jobs.clone();
            let service = service_fn(move |request| answer(jobs.clone(), request));
            tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

/// Jobs that are not done, and how often each was asked for.
#[derive(Default)]
struct Jobs {
    begun: u64,
    asked: HashMap<u64, u8>,
}

async fn answer(jobs: Rc<RefCell<Jobs>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let job = request.uri().path().rsplit('-').next().and_then(|text| text.parse::<u64>().ok());
    let created = request.method() == Method::POST;
    let _ = request.into_body().collect().await;
    let mut jobs = jobs.borrow_mut();
    let body = if created {
        jobs.begun += 1;
        let job = jobs.begun;
        jobs.asked.insert(job, 0);
        Bytes::from(format!("{{\"status\":\"accepted\",\"job_id\":\"txn-{job:020}\"}}"))
    } else {
        let asked = job.and_then(|job| jobs.asked.get_mut(&job)).expect("a job that was begun");
        *asked += 1;
        if *asked < 3 {
            Bytes::from_static(PENDING)
        } else {
            job.map(|job| jobs.asked.remove(&job));
            Bytes::from_static(READY)
        }
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A server in a process of its own, until it is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["subject", super::SECTION, SERVER, SERVER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
        io::stdout().flush()?;
        Ok(Self { child, address: line.trim().parse().expect("the server says its address") })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
