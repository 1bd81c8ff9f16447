//! Deepvue where its pages differ, and where a job is many records.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use serde_json::json;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, Reference, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue, DeepvueBulk, OutputFile, SetupError, Shape};
use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider, RequestError};

const WALL: Timestamp = Timestamp::from_secs(1_700_000_000);

fn base() -> BaseUrl {
    BaseUrl::parse(Deepvue::PRODUCTION).unwrap()
}

fn single(shape: Shape) -> Deepvue {
    Deepvue::new(base(), "driving-license", Credentials::new("token", "secret").unwrap()).unwrap().with_shape(shape)
}

fn bulk() -> DeepvueBulk {
    DeepvueBulk::new(base(), "upi-basic", Credentials::new("token", "secret").unwrap()).unwrap()
}

fn read(provider: &impl Provider, kind: Kind, status: u16, body: &str) -> Result<Reading, Failure> {
    let headers = HeaderMap::new();
    provider.read(&Answer::new(kind, StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), WALL))
}

fn accepted(id: &str) -> Result<Reading, Failure> {
    Ok(Reading::Accepted(Reference::new(id).unwrap()))
}

#[test]
fn a_poll_asks_by_the_name_that_its_page_has() {
    let (key, payload, reference) = (Key::new("k").unwrap(), Payload::default(), Reference::new("abc").unwrap());
    let url = |shape| {
        single(shape).request(&Ask::new(Kind::Poll, &key, Some(&reference), &payload)).unwrap().uri().to_string()
    };
    let endpoint = "https://production.deepvue.tech/v1/verification/get-driving-license";
    assert_eq!(url(Shape::Guide), format!("{endpoint}?transaction_id=abc"));
    assert_eq!(url(Shape::Reference), format!("{endpoint}?request_id=abc"));
    assert_eq!(
        single(Shape::default()).request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap().method(),
        Method::POST
    );
}

/// Whatever is asked, both pages' answers are read; of two ids that of the page is the job's.
#[test]
fn answers_are_read_in_either_shape() {
    for shape in [Shape::Guide, Shape::Reference] {
        let create = |body: &str| read(&single(shape), Kind::Create, 200, body);
        assert_eq!(create(r#"{"code":200,"transaction_id":"t-1","message":"Request accepted"}"#), accepted("t-1"));
        assert_eq!(create(r#"{"request_id":"r-1"}"#), accepted("r-1"));
        let poll = |body: &str| read(&single(shape), Kind::Poll, 200, body);
        let page = json!({
            "action": "verify_with_source", "created_at": "2024-01-01", "completed_at": "2024-01-01", "group_id": "g", "request_id": "r-1",
            "task_id": "x", "type": "ind_driving_license", "status": "completed", "result": { "source_output": { "status": "id_not_found" } }
        });
        assert_eq!(poll(&page.to_string()), Ok(Reading::Ready), "no match is a result");
        assert_eq!(poll(r#"{"request_id":"r-1","status":"in_progress"}"#), Ok(Reading::Pending { hint: None }));
        assert_eq!(poll(r#"{"request_id":"r-1","status":"failed"}"#), Ok(Reading::Failed));
        assert_eq!(poll(r#"{"code":200,"transaction_id":"t-1","data":{"status":"id_found"}}"#), Ok(Reading::Ready));
    }
    let both = r#"{"transaction_id":"t-1","request_id":"r-1"}"#;
    assert_eq!(read(&single(Shape::Guide), Kind::Create, 200, both), accepted("t-1"));
    assert_eq!(read(&single(Shape::Reference), Kind::Create, 200, both), accepted("r-1"));
}

#[test]
fn a_token_that_is_over_is_told_by_the_status_or_by_the_code() {
    let headers = HeaderMap::new();
    let over = |provider: &dyn Provider, status, body: &'static [u8]| {
        provider.is_unauthorized(&Answer::new(Kind::Poll, StatusCode::from_u16(status).unwrap(), &headers, body, WALL))
    };
    for provider in [&single(Shape::Guide) as &dyn Provider, &bulk()] {
        assert!(over(provider, 401, b"") && over(provider, 200, br#"{"code":401}"#));
        assert!(
            !over(provider, 403, b"")
                && !over(provider, 200, br#"{"code":200}"#)
                && !over(provider, 500, br#"{"code":401}"#)
        );
        let poll = read_dyn(provider, 401);
        assert_eq!(poll, Err(Failure::new(Class::Unauthorized, Certainty::NotExecuted)));
    }
}

fn read_dyn(provider: &dyn Provider, status: u16) -> Result<Reading, Failure> {
    provider.read(&Answer::new(Kind::Poll, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"{}", WALL))
}

#[test]
fn a_batch_is_sent_as_a_file_and_asked_for_by_its_request_id() {
    let (key, payload) = (Key::new("batch-7").unwrap(), Payload::from("vpa\na@b\n"));
    let create = bulk().request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
    assert_eq!((create.method(), create.headers()[AUTHORIZATION].to_str().unwrap()), (&Method::POST, "Bearer token"));
    let kind = create.headers()[CONTENT_TYPE].to_str().unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"batch_file\"; filename=\"batch.csv\"\r\nContent-Type: text/csv\r\n\r\nvpa\na@b\n\r\n--{boundary}--\r\n"
    );
    assert_eq!(create.body(), expected.as_bytes());

    let reference = Reference::new("06d0?&d7").unwrap();
    let poll = bulk().request(&Ask::new(Kind::Poll, &key, Some(&reference), &payload)).unwrap();
    let url = "https://production.deepvue.tech/v1/verification/batch-processing-status?request_id=06d0%3F%26d7";
    assert_eq!(poll.uri(), url);
    assert_eq!(bulk().request(&Ask::new(Kind::Poll, &key, None, &payload)).unwrap_err(), RequestError::NoReference);
    let bad = DeepvueBulk::new(base(), "a/b", Credentials::new("token", "secret").unwrap());
    assert_eq!(bad.unwrap_err(), SetupError::Product);
}

proptest! {
    /// I4: the boundary too.
    #[test]
    fn every_create_of_one_batch_is_the_same_request(key in "[!-~]{1,255}", payload: Vec<u8>) {
        let (key, payload) = (Key::new(key).unwrap(), Payload::from(payload));
        let [one, other] = [(); 2].map(|()| bulk().request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap());
        prop_assert_eq!(one.headers(), other.headers());
        prop_assert_eq!(one.body(), other.body());
    }

    #[test]
    fn no_bytes_of_a_batch_panic(status in 100..=999_u16, body: Vec<u8>) {
        let _ = read(&bulk(), Kind::Poll, status, &String::from_utf8_lossy(&body));
        let _ = OutputFile::of(&body);
    }
}

fn told(status: impl Into<serde_json::Value>, message: &str, url: &str, counts: Option<(u32, u32)>) -> String {
    let mut data = json!({ "request_id": "r-1", "status": status.into(), "product_id": "", "message": message, "batch_output_file_url": url });
    if let Some((done, total)) = counts {
        data["processed_records"] = done.into();
        data["total_records"] = total.into();
    }
    json!({ "transaction_id": "t-9", "timestamp": 1_732_088_933_797_u64, "code": 200, "message": "Batch Upload status fetched successfully",
        "sub_code": "SUCCESS", "data": data })
    .to_string()
}

#[test]
fn what_a_poll_of_a_batch_finds() {
    let poll = |body: &str| read(&bulk(), Kind::Poll, 200, body);
    let (pending, url) = (Ok(Reading::Pending { hint: None }), "https://files.test/b.csv?X-Amz-Signature=canary");
    assert_eq!(poll(&told(200, "batch processing completed", url, None)), Ok(Reading::Ready), "the documented answer");
    assert_eq!(poll(&told(200, "batch processing completed", "", None)), Ok(Reading::Ready));
    assert_eq!(poll(&told(200, "batch processing in progress", "", None)), pending, "`data` alone is no result");
    for message in ["batch processing not completed", "3 of 7 records completed", "to be completed"] {
        assert_eq!(poll(&told(200, message, "", None)), pending, "{message}");
    }
    assert_eq!(poll(&told(201, "batch processing in progress", "", None)), pending);
    assert_eq!(poll(&told(202, "", "", Some((3, 10)))), Ok(Reading::Progress { done: 3, total: 10, hint: None }));
    assert_eq!(poll(&told(202, "", "", Some((11, 10)))), pending, "more than all is no progress");
    assert_eq!(poll(&told(201, "", url, Some((3, 10)))), Ok(Reading::Partial));
    assert_eq!(poll(&told(500, "batch processing failed", "", None)), Ok(Reading::Failed));
    assert_eq!(poll(&told(500, "try again", "", None)), Ok(Reading::Unknown("batch status 500".into())));
    assert_eq!(poll(&told(404, "no such batch", "", None)), Ok(Reading::NotFound));
    assert_eq!(poll(r#"{"code":200,"data":null}"#), pending);
    assert_eq!(poll(r#"{"code":202}"#), pending);
    for broken in ["", "[]", r#"{"data":{"status":"200"}}"#, r#"{"data":{"status":200,"status":200}}"#] {
        assert_eq!(poll(broken), Err(Failure::new(Class::Transient, Certainty::NotExecuted)), "{broken}");
    }
    let create = r#"{"code":201,"transaction_id":"4e8b","request_id":"4e8b","message":"batch processing in progress","sub_code":"SUCCESS"}"#;
    assert_eq!(read(&bulk(), Kind::Create, 200, create), accepted("4e8b"));

    let result = told(200, "batch processing completed", url, None);
    let file = OutputFile::of(result.as_bytes()).unwrap();
    assert_eq!(file.url(), url);
    assert!(!format!("{file:?} {bulk:?}", bulk = bulk()).contains("canary"));
    assert_eq!(OutputFile::of(told(201, "", "", None).as_bytes()), None);
}

/// In the reference an answer repeats what was asked by. The guide's `transaction_id` is that of the call, and says
/// nothing of the job's.
#[test]
fn an_answer_about_another_job_ends_nothing() {
    let (headers, asked) = (HeaderMap::new(), Reference::new("r-1").unwrap());
    let poll = |provider: &dyn Provider, body: &str| {
        let answer = Answer::new(Kind::Poll, StatusCode::OK, &headers, body.as_bytes(), WALL);
        provider.read(&answer.asked_by(&asked))
    };
    let unusable = || Err(Failure::new(Class::Transient, Certainty::NotExecuted));
    let single = single(Shape::Reference);
    assert_eq!(poll(&single, r#"{"request_id":"r-2","status":"completed","result":{"a":1}}"#), unusable());
    assert_eq!(poll(&single, r#"{"request_id":"r-2","status":"failed"}"#), unusable());
    assert_eq!(poll(&single, r#"{"request_id":"r-1","status":"completed"}"#), Ok(Reading::Ready));
    assert_eq!(poll(&single, r#"{"request_id":null,"status":"completed"}"#), Ok(Reading::Ready));
    let guide = self::single(Shape::Guide);
    assert_eq!(poll(&guide, r#"{"code":200,"transaction_id":"of-this-call","data":{"a":1}}"#), Ok(Reading::Ready));

    let batch = |id: &str| json!({ "code": 200, "data": { "request_id": id, "status": 200, "batch_output_file_url": "https://f/b.csv" } });
    assert_eq!(poll(&bulk(), &batch("r-2").to_string()), unusable());
    assert_eq!(poll(&bulk(), &batch("r-1").to_string()), Ok(Reading::Ready));
}
