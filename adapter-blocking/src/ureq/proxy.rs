//! The environment's proxy: encrypted requests go by it, or not at all.
//!
//! If a proxy is named, going around it may be forbidden, or lead nowhere. ureq's own reading of the environment takes
//! `ALL_PROXY` before `HTTPS_PROXY`, ignores a value that is not a URL, and in `NO_PROXY` honours neither names after
//! a space nor the subdomains of a name.

use std::env;

use ureq::{Error, Proxy, ProxyBuilder};

/// The way that encrypted requests take.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// As the agent's configuration says.
    Configured,
    By(Proxy),
    /// By a proxy whose URL is invalid.
    Nowhere,
}

impl Way {
    pub(super) fn of_environment() -> Self {
        let value = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let mut named = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().filter_map(value);
        let Some(named) = named.find(|named| !named.is_empty()) else { return Self::Configured };
        let excepted = ["NO_PROXY", "no_proxy"].into_iter().find_map(value).unwrap_or_default();
        proxy(&named, &excepted).map_or(Self::Nowhere, Self::By)
    }
}

fn proxy(named: &str, excepted: &str) -> Result<Proxy, Error> {
    let named = Proxy::new(named)?;
    let mut proxy = Proxy::builder(named.protocol()).host(named.host()).port(named.port());
    if let Some(user) = named.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = named.password() {
        proxy = proxy.password(password);
    }
    let excepted = excepted.split(',').map(str::trim).filter(|name| !name.is_empty());
    let except = |proxy: ProxyBuilder, name: &str| match name.trim_start_matches('.') {
        pattern if pattern.starts_with('*') => proxy.no_proxy(pattern),
        name => proxy.no_proxy(name).no_proxy(&format!(".{name}")),
    };
    excepted.fold(proxy, except).build()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use bytes::Bytes;
    use http::Request;
    use steadfast_core::retry::{Certainty, Class, Failure};
    use ureq::Agent;

    use super::*;
    use crate::UreqTransport;

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

    const CHILD: &str = "ureq::proxy::tests::child_has_a_proxy_in_its_environment";
    const NAMES: [&str; 8] =
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];

    /// An environment, and how many connect to its two proxies and around them.
    type Case = (&'static [(&'static str, &'static str)], [usize; 3]);

    #[test]
    fn what_is_encrypted_goes_by_the_proxy_that_is_named_for_it_or_not_at_all() {
        let all: [Case; 7] = [
            (&[], [0, 0, 1]),
            (&[("HTTPS_PROXY", "http://{a}"), ("ALL_PROXY", "http://{b}")], [1, 0, 0]),
            (&[("HTTPS_PROXY", ""), ("all_proxy", "{a}"), ("HTTP_PROXY", "http://{b}")], [1, 0, 0]),
            (&[("ALL_PROXY", "http://{a}"), ("NO_PROXY", "a.example, 127.0.0.1")], [0, 0, 1]),
            (&[("ALL_PROXY", "socks5://{a}")], [1, 0, 0]),
            // What it cannot use it does not go around.
            (&[("HTTPS_PROXY", "gopher://{a}")], [0, 0, 0]),
            (&[("HTTPS_PROXY", "http://user:pass word@{a}"), ("ALL_PROXY", "http://{b}")], [0, 0, 0]),
        ];
        for (variables, expected) in all {
            let servers = [count(), count(), count()];
            let mut child = Command::new(env::current_exe().expect("a path"));
            for name in NAMES {
                child.env_remove(name);
            }
            for (name, value) in variables {
                let at = |server: &(u16, _)| format!("127.0.0.1:{}", server.0);
                child.env(name, value.replace("{a}", &at(&servers[0])).replace("{b}", &at(&servers[1])));
            }
            child.env("STEADFAST_TEST_PORT", servers[2].0.to_string()).args(["--exact", CHILD, "--ignored"]);
            assert!(child.stdout(Stdio::null()).status().expect("it runs").success(), "{variables:?}");
            assert_eq!(servers.map(|(_, came)| came.load(Ordering::SeqCst)), expected, "{variables:?}");
        }
    }

    #[test]
    #[ignore = "a part of another, which gives it an environment"]
    fn child_has_a_proxy_in_its_environment() {
        let port = env::var("STEADFAST_TEST_PORT").expect("a port");
        let request = Request::get(format!("https://127.0.0.1:{port}/")).body(Bytes::new()).expect("a request");
        let transport = UreqTransport::new();
        let met = transport.exchange(request, Duration::from_secs(30), 2);
        let failure = met.expect_err("nobody there speaks TLS").failure();
        assert_eq!(failure, Failure::new(Class::Transient, Certainty::NotExecuted));
    }

    #[test]
    fn a_proxy_of_the_environment_is_the_one_that_is_named_there() {
        let named =
            proxy("http://user%40a:p%3Aw@proxy.example", " b.example ,,.c.example, *.d.example").expect("a proxy");
        assert_eq!((named.host(), named.port()), ("proxy.example", 80));
        assert_eq!((named.username(), named.password()), (Some("user@a"), Some("p:w")));
        let is_excepted = |host: &str| named.is_no_proxy(&format!("https://{host}/").parse().expect("a URI"));
        for host in ["b.example", "x.b.example", "B.EXAMPLE", "c.example", "x.c.example", "x.d.example"] {
            assert!(is_excepted(host), "{host}");
        }
        for host in ["a.example", "bb.example", "b.example.test", "d.example"] {
            assert!(!is_excepted(host), "{host}");
        }
        assert_eq!(
            proxy("[::1]:3128", "").map(|proxy| proxy.uri().to_string()).ok().as_deref(),
            Some("http://[::1]:3128/")
        );
    }

    #[test]
    fn a_proxy_that_refuses_is_what_the_error_speaks_of() {
        let proxy = Proxy::new(&format!("http://canary:canary@127.0.0.1:{}", count().0)).expect("a proxy");
        let transport = UreqTransport::from_builder(Agent::config_builder().proxy(Some(proxy)));
        let request = Request::get("https://a.example/").body(Bytes::new()).expect("a request");
        let met = transport.exchange(request, Duration::from_secs(30), 2).expect_err("502");
        let cause = std::error::Error::source(&met).expect("a cause").to_string();
        assert!(cause.starts_with("the proxy made no connection"), "{cause}");
        assert!(!format!("{transport:?} {met:?}").contains("canary"), "{transport:?} {met:?}");
    }

    /// What was written to the proxy is not the request.
    #[test]
    fn what_ureq_refuses_to_send_through_a_tunnel_certainly_has_not_left() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let proxy = Proxy::new(&format!("http://{}", listener.local_addr().expect("an address"))).expect("a proxy");
        let tunnel = thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("a connection");
            let mut came = BufReader::new(connection.try_clone().expect("a connection"));
            let asked = came.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("it is there");
            (asked, came.read(&mut [0]).expect("it is closed"))
        });
        let transport = UreqTransport::from_builder(Agent::config_builder().proxy(Some(proxy)));
        let request = Request::builder().method("QUERY").uri("http://127.0.0.1:1/").body(Bytes::from_static(b"{}"));
        let met = transport.exchange(request.expect("a request"), Duration::from_secs(30), 2).expect_err("no method");
        drop(transport);
        let (asked, came) = tunnel.join().expect("no panic");
        assert!(asked > 0 && came == 0, "{came} bytes of a request");
        assert_eq!(met.failure(), Failure::new(Class::Permanent, Certainty::NotExecuted));
    }

    /// A name is left to a proxy that knows more of them.
    #[test]
    fn a_socks_proxy_is_asked_for_the_host_and_what_it_refuses_has_not_left() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let proxy = format!("socks5h://{}", listener.local_addr().expect("an address"));
        let socks = thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("a connection");
            let (mut offered, mut asked) = ([0; 3], [0; 21]);
            connection.read_exact(&mut offered).expect("version and methods");
            connection.write_all(&[5, 0]).expect("it is there");
            connection.read_exact(&mut asked).expect("what to connect to");
            connection.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).expect("it is there"); // unreachable
            asked
        });
        let proxy = Proxy::new(&proxy).expect("a proxy");
        let transport = UreqTransport::from_builder(Agent::config_builder().proxy(Some(proxy)));
        let request = Request::get("https://a.example.test/").body(Bytes::new()).expect("a request");
        let met = transport.exchange(request, Duration::from_secs(30), 2).expect_err("it is refused");
        assert_eq!(met.failure(), Failure::new(Class::Transient, Certainty::NotExecuted));
        let asked = socks.join().expect("no panic");
        assert_eq!(asked[4..19], *b"\x0ea.example.test");
    }
}
