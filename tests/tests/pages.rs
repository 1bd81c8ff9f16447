//! Didit's sessions have a page that a person must open: it reaches whoever submitted, whatever is lost on the way.

use std::time::Duration;

use steadfast_core::{Key, Kind, Seed};
use steadfast_providers::BaseUrl;
use steadfast_providers::didit::{self, Didit};
use steadfast_testkit::tokio::InProcess;
use steadfast_testkit::{FakeDidit, Fault, Faults};
use steadfast_tokio::Client;

const PAYLOAD: &str = r#"{"workflow_id":"d9e78474-6c8d-4f2a-bb90-6f5c2f3a1147"}"#;

#[tokio::test(start_paused = true)]
async fn the_page_is_there_before_the_session_ends() {
    for (faults, told_by) in
        [(Faults::none(), Kind::Create), (Faults::none().on(Kind::Create, 1, Fault::LoseAnswer), Kind::Lookup)]
    {
        let fake = InProcess::new(FakeDidit::new(7).with_faults(faults));
        let provider = Didit::new(BaseUrl::parse("https://didit.test").unwrap(), "api-key").unwrap();
        let client = Client::builder(provider, fake.clone()).seed(Seed::new(7)).start().await.unwrap();
        let job = client.submit(Key::new("order-42").unwrap(), PAYLOAD).await.unwrap();
        let accepted = tokio::time::timeout(Duration::from_secs(120), job.accepted()).await.unwrap().unwrap();
        let answer = accepted.answer.unwrap();
        assert_eq!(answer.kind, told_by);
        let page = didit::page(&answer.body, &accepted.reference).unwrap();
        assert!(page.starts_with("https://"), "{page}");
        assert_eq!(job.await.unwrap().reference, Some(accepted.reference));
        assert_eq!(fake.brain().ledger().keys_run_more_than_once(), 0);
    }
}
