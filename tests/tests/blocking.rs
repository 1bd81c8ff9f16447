//! The blocking adapter over real sockets, held against the provider's own ledger.

use std::time::Duration;

use steadfast_blocking::{Client, Finished, UreqTransport};
use steadfast_core::{Key, SendSafety};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_store::SqliteStore;
use steadfast_testkit::{FakeDeepvue, Faults, Keys, scaled};

const JOBS: usize = 60;
const SPEED: f64 = 50.0;

fn provider(base_url: &str, safety: SendSafety) -> Deepvue {
    let credentials = Credentials::new("token", "secret").unwrap();
    let provider = Deepvue::new(BaseUrl::parse(base_url).unwrap(), "driving-license", credentials).unwrap();
    provider.with_safety(safety).unwrap()
}

/// I6, I7: whatever goes wrong, what the client believes agrees with the ledger, and no key runs twice.
#[test]
fn what_it_believes_agrees_with_the_ledger() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    for (keys, safety) in [(Keys::Honoured, keyed), (Keys::Ignored, SendSafety::Unsafe)] {
        let fake = FakeDeepvue::new(7).with_faults(Faults::rate(0.3)).with_keys(keys).with_speed(SPEED);
        let server = runtime.block_on(async { fake.start().unwrap() });
        let directory = tempfile::tempdir().unwrap();
        let provider = provider(&server.base_url(), safety);
        let policy = scaled(&provider.policy(), SPEED).unwrap();
        let store = SqliteStore::open(directory.path().join("jobs.db")).unwrap();
        let client = Client::builder(provider, UreqTransport::new()).policy(policy).store(store).start().unwrap();
        let submit = |n: usize| {
            let payload = format!(r#"{{"dl_number":"DL{n}","dob":"1990-01-01","consent":"Y","reason":"KYC"}}"#);
            client.submit(Key::new(format!("order-{n}")).unwrap(), payload)
        };
        let jobs: Vec<_> = (0..JOBS).map(|n| submit(n).unwrap()).collect();
        let ended: Vec<Finished> = jobs.into_iter().map(|job| job.wait().unwrap()).collect();
        let ledger = server.ledger();
        assert_eq!(ledger.keys_run_more_than_once(), 0);
        for (n, finished) in ended.iter().enumerate() {
            let ran = ledger.executions(&format!("order-{n}")).len();
            match finished.outcome.name() {
                "completed" | "failed" => assert_eq!(ran, 1, "order-{n}: {finished:?}"),
                "rejected" => assert_eq!(ran, 0, "order-{n}: {finished:?}"),
                name => assert_eq!(name, "unresolved"),
            }
        }
        let completed = ended.iter().filter(|finished| finished.outcome.name() == "completed").count();
        assert!(completed > JOBS / 2, "{completed} of {JOBS}: {ended:?}");
        assert!(client.shutdown(Duration::ZERO).is_empty());
    }
}
