//! What is asked for, how often, and who is told the answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Condvar;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ureq::Agent;

use super::*;
use crate::ureq::NotConnected;

/// Gives another address each time, and none to whom it does not know.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Resolver for Counting {
    fn resolve(&self, uri: &Uri, config: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let asked = self.0.fetch_add(1, Ordering::SeqCst) as u16;
        let mut addresses = self.empty();
        addresses.push(match config.ip_family() {
            IpFamily::Ipv6Only => SocketAddr::from((Ipv6Addr::LOCALHOST, asked)),
            _ => SocketAddr::from((Ipv4Addr::LOCALHOST, asked)),
        });
        match uri.host() {
            Some("nobody.example") => Err(Error::HostNotFound),
            Some("canary.example") => Err(Error::BadUri(uri.to_string())),
            Some("panic.example") => panic!("as it was told to"),
            _ => Ok(addresses),
        }
    }
}

fn remembering() -> Remembering<Counting> {
    Remembering::new(Counting::default(), Addresses::default())
}

fn resolve(resolver: &Remembering<Counting>, uri: &str, family: IpFamily, now: Instant) -> Result<SocketAddr, Error> {
    let agent = Agent::config_builder().ip_family(family).build().new_agent();
    let uri = uri.parse::<Uri>().expect("a URI");
    resolver.resolve_at(&uri, agent.config(), NextTimeout::default(), now).map(|addresses| addresses[0])
}

fn ask(resolver: &Remembering<Counting>, uri: &str, now: Instant) -> Option<u16> {
    match resolve(resolver, uri, IpFamily::Any, now) {
        Ok(address) => Some(address.port()),
        Err(Error::Other(error)) if error.is::<NotConnected>() => None,
        Err(error) => panic!("it is not certain that nothing was sent: {error}"),
    }
}

#[test]
fn a_host_is_resolved_once_in_a_while_and_each_by_itself() {
    let (resolver, start) = (remembering(), Instant::now());
    let late = start + REMEMBERED;
    assert_eq!(ask(&resolver, "https://a.example/1", start), Some(0));
    assert_eq!(ask(&resolver, "https://a.example/2", late - Duration::from_nanos(1)), Some(0));
    assert_eq!(ask(&resolver, "http://a.example/", start), Some(1), "another port");
    assert_eq!(ask(&resolver, "https://a.example:8443/", start), Some(2), "another port");
    assert_eq!(ask(&resolver, "https://b.example/", start), Some(3), "another host");
    assert_eq!(ask(&resolver, "https://a.example/1", late), Some(4), "it is over");
    assert_eq!(ask(&resolver, "https://a.example/1", late), Some(4));
}

#[test]
fn nobody_is_given_addresses_of_a_family_that_it_did_not_ask_for() {
    let (resolver, now) = (remembering(), Instant::now());
    let ask = |family| resolve(&resolver, "https://a.example/", family, now).expect("an address");
    assert_eq!(ask(IpFamily::Any).port(), 0);
    assert_eq!(ask(IpFamily::Ipv6Only), SocketAddr::from((Ipv6Addr::LOCALHOST, 1)));
    assert_eq!(ask(IpFamily::Ipv4Only), SocketAddr::from((Ipv4Addr::LOCALHOST, 2)));
    let again = [IpFamily::Any, IpFamily::Ipv6Only, IpFamily::Ipv4Only].map(|family| ask(family).port());
    assert_eq!(again, [0, 1, 2], "each is remembered by itself");
}

#[test]
fn what_is_forgotten_is_one_host_whole() {
    let (resolver, now) = (remembering(), Instant::now());
    let asked = ["https://a.example/", "http://a.example/", "https://b.example/"];
    assert_eq!(asked.map(|uri| ask(&resolver, uri, now)), [Some(0), Some(1), Some(2)]);
    resolver.known.forget(&Uri::from_static("https://a.example/other"));
    assert_eq!(asked.map(|uri| ask(&resolver, uri, now)), [Some(3), Some(4), Some(2)]);
}

#[test]
fn a_failure_is_certain_and_not_remembered() {
    let (resolver, now) = (remembering(), Instant::now());
    assert_eq!(ask(&resolver, "https://nobody.example/", now), None);
    assert_eq!(ask(&resolver, "https://nobody.example/", now), None);
    assert_eq!(resolver.resolver.0.load(Ordering::SeqCst), 2);
}

#[test]
fn a_machine_without_threads_is_told_of_and_asked_again() {
    let mut resolver = Remembering::new(Unanswered::default(), Addresses::default());
    resolver.resolver.answer(SocketAddr::from((Ipv4Addr::LOCALHOST, 443)));
    resolver.starts_none = true;
    let came = ask_within(&resolver, "https://a.example/", Instant::now(), LONG).expect_err("there is no thread");
    assert_eq!(came.to_string(), "other: no thread could be started to look up the host");
    let Error::Other(source) = came else { panic!("it is not certain that nothing was sent: {came}") };
    assert!(source.is::<NotConnected>() && source.source().is_some(), "{source:?}");
    resolver.starts_none = false;
    assert!(ask_within(&resolver, "https://a.example/", Instant::now(), LONG).is_ok());
}

#[test]
fn a_panic_is_certain_and_what_comes_after_it_is_resolved() {
    let (resolver, now) = (remembering(), Instant::now());
    assert_eq!(ask(&resolver, "https://panic.example/", now), None);
    assert_eq!(ask(&resolver, "https://a.example/", now), Some(1));
}

/// As ureq's own: whoever has limited time is left by a thread that stays until the name server has answered.
#[derive(Clone, Debug, Default)]
struct Unanswered(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    threads: AtomicUsize,
    /// So many of the first hang for ever.
    hang: AtomicUsize,
    answer: Mutex<Option<SocketAddr>>,
    answers: Condvar,
}

impl Unanswered {
    fn hangs(&self, first: usize) {
        self.0.hang.store(first, Ordering::SeqCst);
    }

    fn answer(&self, address: SocketAddr) {
        *self.0.answer.lock().expect("no panic") = Some(address);
        self.0.answers.notify_all();
    }
}

impl Resolver for Unanswered {
    fn resolve(&self, _: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let asked = self.0.threads.fetch_add(1, Ordering::SeqCst);
        if !timeout.after.is_not_happening() {
            return Err(Error::Timeout(timeout.reason));
        }
        while asked < self.0.hang.load(Ordering::SeqCst) {
            thread::park();
        }
        let answer = self.0.answer.lock().expect("no panic");
        let answer = self.0.answers.wait_while(answer, |answer| answer.is_none()).expect("no panic");
        let mut addresses = self.empty();
        answer.iter().for_each(|address| addresses.push(*address));
        Ok(addresses)
    }
}

fn ask_within(
    resolver: &Remembering<Unanswered>,
    uri: &str,
    now: Instant,
    after: Duration,
) -> Result<SocketAddr, Error> {
    let (uri, agent) = (uri.parse().expect("a URI"), Agent::config_builder().build().new_agent());
    let within = NextTimeout { after: after.into(), reason: ureq::Timeout::Resolve, ..NextTimeout::default() };
    resolver.resolve_at(&uri, agent.config(), within, now).map(|addresses| addresses[0])
}

const LONG: Duration = Duration::from_secs(60);

fn goes_in_vain(resolver: &Remembering<Unanswered>, uri: &str, now: Instant) {
    let came = ask_within(resolver, uri, now, Duration::from_nanos(1));
    assert!(matches!(&came, Err(Error::Other(error)) if error.is::<NotConnected>()), "{came:?}");
}

/// Nobody can tell when a thread comes to what it was started for.
fn has_threads(unanswered: &Unanswered, threads: usize) {
    while unanswered.0.threads.load(Ordering::SeqCst) < threads {
        thread::yield_now();
    }
    assert_eq!(unanswered.0.threads.load(Ordering::SeqCst), threads);
}

/// A name server that says nothing for half a minute, and requests that have a second: each left a thread behind.
#[test]
fn a_name_that_takes_long_is_asked_for_once_by_all_who_want_it_and_its_answer_is_not_lost() {
    let (unanswered, now) = (Unanswered::default(), Instant::now());
    let resolver = Remembering::new(unanswered.clone(), Addresses::default());
    // So late that who comes before that does not ask again, however long this test takes.
    let began = now + LONG;
    (0..100).for_each(|_| goes_in_vain(&resolver, "https://a.example/", began));
    has_threads(&unanswered, 1);
    goes_in_vain(&resolver, "https://b.example/", began);
    has_threads(&unanswered, 2);
    let address = ADDRESS;
    let waits = thread::scope(|scope| {
        let ask = || ask_within(&resolver, "https://a.example/", now, LONG).expect("an address");
        let waits = [(); 8].map(|()| scope.spawn(ask));
        unanswered.answer(address);
        waits.map(|waits| waits.join().expect("no panic"))
    });
    assert_eq!(waits, [address; 8]);
    has_threads(&unanswered, 2);
    while !lock(&resolver.under_way).is_empty() {
        thread::yield_now();
    }
    // With nobody to wait for it, the other host's is there as well.
    assert!(resolver.known.lock().iter().any(|known| known.whose.authority == "b.example"));
}

/// One that hangs for ever must not be the last.
#[test]
fn a_name_without_an_answer_is_asked_for_again_more_and_more_seldom() {
    let (unanswered, began) = (Unanswered::default(), Instant::now());
    let resolver = Remembering::new(unanswered.clone(), Addresses::default());
    for (second, threads) in [(0, 1), (1, 2), (2, 2), (3, 3), (6, 3), (7, 4), (14, 4), (15, 5)] {
        goes_in_vain(&resolver, "https://a.example/", began + Duration::from_secs(second));
        has_threads(&unanswered, threads);
    }
    unanswered.answer(ADDRESS);
    assert!(ask_within(&resolver, "https://a.example/", began, LONG).is_ok());
}

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 443);

/// A packet was lost: half of the time that a request has for its name is enough to ask twice.
#[test]
fn whoever_waits_for_a_name_for_a_second_asks_again() {
    let (unanswered, began) = (Unanswered::default(), Instant::now());
    unanswered.hangs(1);
    unanswered.answer(ADDRESS);
    let resolver = Remembering::new(unanswered.clone(), Addresses::default());
    goes_in_vain(&resolver, "https://a.example/", began);
    has_threads(&unanswered, 1);
    let almost = began + Duration::from_secs(1) - Duration::from_nanos(1);
    assert_eq!(ask_within(&resolver, "https://a.example/", almost, LONG).ok(), Some(ADDRESS));
    has_threads(&unanswered, 2);
}

#[test]
fn whoever_waits_for_what_hangs_is_told_what_a_later_one_has_found() {
    let (unanswered, now) = (Unanswered::default(), Instant::now());
    unanswered.hangs(1);
    unanswered.answer(ADDRESS);
    let resolver = Remembering::new(unanswered.clone(), Addresses::default());
    // So late that who comes before that does not ask again by itself.
    let began = now + LONG;
    goes_in_vain(&resolver, "https://a.example/", began);
    let hung = lock(&resolver.under_way)[0].clone();
    let held = Arc::strong_count(&hung);
    thread::scope(|scope| {
        let waits = scope.spawn(|| ask_within(&resolver, "https://a.example/", now, LONG));
        while Arc::strong_count(&hung) == held {
            thread::yield_now();
        }
        let second = began + ASKED_AGAIN;
        assert_eq!(ask_within(&resolver, "https://a.example/", second, LONG).ok(), Some(ADDRESS));
        assert_eq!(waits.join().expect("no panic").ok(), Some(ADDRESS));
    });
    has_threads(&unanswered, 2);
}

/// What it was told is remembered for a while, and no longer. Its thread stays all the same.
#[test]
fn what_hangs_and_was_told_what_another_has_found_is_waited_for_by_nobody_else() {
    let (unanswered, began) = (Unanswered::default(), Instant::now());
    let resolver = Remembering::new(unanswered.clone(), Addresses::default());
    let ask = |second, port| {
        let address = SocketAddr::new(ADDRESS.ip(), port);
        unanswered.answer(address);
        let came = ask_within(&resolver, "https://a.example/", began + Duration::from_secs(second), LONG);
        assert_eq!(came.ok(), Some(address));
        resolver.known.forget(&Uri::from_static("https://a.example/"));
    };
    let goes_in_vain = |second, threads| {
        goes_in_vain(&resolver, "https://a.example/", began + Duration::from_secs(second));
        has_threads(&unanswered, threads);
    };
    unanswered.hangs(1);
    goes_in_vain(0, 1);
    ask(1, 1);
    ask(1, 2);
    has_threads(&unanswered, 3);
    // As seldom as if nothing had been found in between: none of these may ever end.
    unanswered.hangs(4);
    goes_in_vain(1, 4);
    goes_in_vain(2, 4);
    unanswered.hangs(5);
    goes_in_vain(3, 5);
}

#[test]
fn all_who_wait_for_a_name_are_told_what_is_wrong_with_it() {
    let (resolver, agent) = (remembering(), Agent::config_builder().build().new_agent());
    let within = NextTimeout { after: LONG.into(), ..NextTimeout::default() };
    let ask = |uri: &str| resolver.resolve(&uri.parse().expect("a URI"), agent.config(), within);
    for host in ["nobody.example", "panic.example"] {
        let came = ask(&format!("https://{host}/"));
        assert!(matches!(&came, Err(Error::Other(error)) if error.is::<NotConnected>()), "{came:?}");
    }
    let came = ask("https://canary.example/");
    assert!(matches!(came, Err(Error::BadUri(_))), "{came:?}");
    assert!(lock(&resolver.under_way).is_empty());
}

/// Repeating it cannot help, which "not connected" would promise.
#[test]
fn a_request_that_names_no_address_stays_at_fault() {
    let came = resolve(&remembering(), "https://canary.example/", IpFamily::Any, Instant::now());
    assert!(matches!(came, Err(Error::BadUri(_))), "{came:?}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let (resolver, now) = (remembering(), Instant::now());
    for host in 0..100 {
        assert!(ask(&resolver, &format!("https://host-{host}.example/"), now).is_some());
    }
    assert_eq!(resolver.known.lock().len(), MOST_HOSTS);
}
