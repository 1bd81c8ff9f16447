//! The environment's proxy: encrypted requests go by it, or not at all.
//!
//! If a proxy is named, going around it may be forbidden, or lead nowhere. reqwest goes around one whose scheme it
//! does not know, and finds none in a variable that is not UTF-8.

use std::env;

use http::Uri;
use reqwest::{NoProxy, Proxy, Url};

use super::{Cause, TransportError};

/// The proxy that the environment names, if it names one.
///
/// # Errors
/// It cannot be used.
pub(super) fn of_environment() -> Result<Option<Proxy>, TransportError> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let named = names.iter().filter_map(env::var_os).find(|proxy| !proxy.is_empty());
    named.map(|named| proxy(&named.to_string_lossy())).transpose()
}

fn proxy(named: &str) -> Result<Proxy, TransportError> {
    let url = url(named).filter(is_known).ok_or(TransportError(Cause::Proxy))?;
    Ok(Proxy::https(url).map_err(Cause::Client).map_err(TransportError)?.no_proxy(NoProxy::from_env()))
}

/// The proxy's URL. Without a scheme it is an HTTP proxy.
fn url(named: &str) -> Option<Url> {
    let bare = || Url::parse(&format!("http://{named}")).ok().filter(|_| !named.contains("://"));
    Url::parse(named).ok().filter(Url::has_host).or_else(bare)
}

/// Whether reqwest does not pass it over. Without the feature `socks` it cannot reach a SOCKS proxy, and that it has
/// not is certain as well.
fn is_known(url: &Url) -> bool {
    let scheme = matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h");
    scheme && url.as_str().parse::<Uri>().is_ok_and(|uri| uri.authority().is_some())
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::ffi::OsString;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use bytes::Bytes;
    use http::Request;

    use super::*;
    use crate::ReqwestTransport;

    /// Counts who connects, and has nothing for them.
    fn count() -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let (port, came) = (listener.local_addr().expect("an address").port(), Arc::new(AtomicUsize::new(0)));
        let counts = came.clone();
        thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                counts.fetch_add(1, Ordering::SeqCst);
                let _ = connection.read(&mut [0; 4096]);
                let _ = connection.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
            }
        });
        (port, came)
    }

    const CHILD: &str = "reqwest::proxy::tests::child_has_a_proxy_in_its_environment";
    const NAMES: [&str; 8] =
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];

    /// As it stands there. `{x}` is a byte that is no text.
    fn value(text: &str, ports: [u16; 2]) -> OsString {
        let [a, b] = ports.map(|port| format!("127.0.0.1:{port}"));
        let text = text.replace("{a}", &a).replace("{b}", &b);
        #[cfg(unix)]
        if let Some((before, after)) = text.split_once("{x}") {
            use std::os::unix::ffi::OsStringExt;
            return OsString::from_vec([before.as_bytes(), &[0xff], after.as_bytes()].concat());
        }
        text.into()
    }

    /// An environment, and how many connect to its two proxies and around them; none if no transport is made of it.
    type Case = (&'static [(&'static str, &'static str)], Option<[usize; 3]>);

    #[test]
    fn what_is_encrypted_goes_by_the_proxy_that_is_named_for_it_or_not_at_all() {
        let all: &[Case] = &[
            (&[], Some([0, 0, 1])),
            (&[("HTTPS_PROXY", "http://{a}"), ("ALL_PROXY", "http://{b}")], Some([1, 0, 0])),
            (&[("HTTPS_PROXY", ""), ("all_proxy", "{a}"), ("HTTP_PROXY", "http://{b}")], Some([1, 0, 0])),
            (&[("ALL_PROXY", "http://{a}"), ("NO_PROXY", "a.example, 127.0.0.1")], Some([0, 0, 1])),
            // What it cannot use it does not go around.
            (&[("ALL_PROXY", "socks5://{a}")], Some([0, 0, 0])),
            (&[("HTTPS_PROXY", "gopher://{a}")], None),
            (&[("HTTPS_PROXY", "gopher://{a}"), ("ALL_PROXY", "http://{b}")], None),
            (&[("HTTPS_PROXY", "http://proxy example"), ("ALL_PROXY", "http://{b}")], None),
            #[cfg(unix)]
            (&[("HTTPS_PROXY", "http://proxy{x}"), ("ALL_PROXY", "http://{b}")], None),
        ];
        for &(variables, expected) in all {
            let servers = [count(), count(), count()];
            let mut child = Command::new(env::current_exe().expect("a path"));
            for name in NAMES {
                child.env_remove(name);
            }
            for (name, text) in variables {
                child.env(name, value(text, [servers[0].0, servers[1].0]));
            }
            child.env("STEADFAST_TEST_PORT", servers[2].0.to_string()).args([
                "--exact",
                CHILD,
                "--ignored",
                "--nocapture",
            ]);
            let ran = child.stderr(Stdio::inherit()).output().expect("it runs");
            assert!(ran.status.success(), "{variables:?}");
            let refused = format!("refused: {}\n", Cause::Proxy);
            assert_eq!(String::from_utf8_lossy(&ran.stdout).contains(&refused), expected.is_none(), "{variables:?}");
            let came = servers.map(|(_, came)| came.load(Ordering::SeqCst));
            assert_eq!(came, expected.unwrap_or_default(), "{variables:?}");
        }
    }

    #[test]
    #[ignore = "a part of another, which gives it an environment"]
    fn child_has_a_proxy_in_its_environment() {
        let port = env::var("STEADFAST_TEST_PORT").expect("a port");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let transport = match ReqwestTransport::new() {
            Ok(transport) => transport,
            Err(error) => return println!("refused: {}", error.source().expect("a cause")),
        };
        let request = Request::get(format!("https://127.0.0.1:{port}/")).body(Bytes::new()).expect("a request");
        let met = runtime.block_on(transport.begin(request).expect("it can be sent"));
        assert!(met.expect_err("nobody there speaks TLS").is_connect());
    }

    /// A proxy's URL may hold a password.
    #[test]
    fn a_proxy_that_is_none_is_not_repeated() {
        for text in [
            "http://user:canary@[",
            "http://user:canary@host:99999",
            "canary canary",
            "http://canary:x:y",
            "://canary",
            "gopher://user:canary@host:1",
        ] {
            let error = proxy(text).expect_err(text);
            let mut shown = format!("{error} {error:?}");
            let mut next = error.source();
            while let Some(cause) = next {
                shown.push_str(&format!(" {cause} {cause:?}"));
                next = cause.source();
            }
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn a_proxy_may_be_named_in_every_usual_way() {
        for text in
            ["proxy.example", "proxy.example:3128", "http://u:p%40w@proxy.example", "https://[::1]:3128/", "[::1]:1"]
        {
            assert!(proxy(text).is_ok(), "{text}");
        }
    }
}
