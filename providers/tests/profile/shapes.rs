//! Well-known APIs that are not shipped: a file can say each of them. What their answers look like is from their
//! documentation, as the profiles name it.

use bytes::Bytes;
use steadfast_core::{Key, Kind, Reference};
use steadfast_providers::profile::{Profile, Recorded};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Ask, Payload, Provider};

use super::{WALL, connect};

/// platform.openai.com/docs/api-reference/batch, and …/webhook-events: `batch.completed` and the like have the batch's
/// id, and no more.
const OPENAI_BATCH: (&str, &str) = (
    r#"
name = "openai/batch"
base_url = "https://api.openai.com"
headers = { authorization = "Bearer {env.OPENAI_API_KEY}" }

[policy.poll]
schedule = { growth = { exponential = { first = "30s", factor = 2 } }, cap = "600s" }
polls = 1500
deadline = "2d"

[create]
path = "/v1/batches"
reference = { pointer = "/id", id = true }

[poll]
path = "/v1/batches/{reference}"
echo = "/id"

[[poll.rules]]
when = { status = 404 }
is = "not-found"

[poll.state]
pointer = "/status"
values = { validating = "pending", in_progress = "pending", finalizing = "pending", cancelling = "pending", completed = "ready", expired = "undecided", failed = "failed", cancelled = "undecided" }

[webhook]
scheme = "standard-webhooks"
secrets = ["REPLICATE_WEBHOOK_SECRET"]
reference = "/data/id"
"#,
    r#"{ "answers": [
        { "name": "created", "kind": "create", "status": 200, "body": { "id": "batch_abc123", "object": "batch", "status": "validating", "output_file_id": null }, "read": "accepted batch_abc123" },
        { "name": "runs", "kind": "poll", "status": 200, "body": { "id": "batch_abc123", "status": "in_progress" }, "read": "pending" },
        { "name": "is cancelled", "kind": "poll", "status": 200, "body": { "id": "batch_abc123", "status": "cancelling" }, "read": "pending" },
        { "name": "done", "kind": "poll", "status": 200, "body": { "id": "batch_abc123", "status": "completed", "output_file_id": "file-xyz789" }, "read": "ready" },
        { "name": "late", "kind": "poll", "status": 200, "body": { "id": "batch_abc123", "status": "expired" }, "read": "undecided" },
        { "name": "failed", "kind": "poll", "status": 200, "body": { "id": "batch_abc123", "status": "failed", "errors": { "data": [] } }, "read": "failed" },
        { "name": "cancelled", "kind": "poll", "status": 200, "body": { "id": "batch_abc123", "status": "cancelled" }, "read": "undecided" } ] }"#,
);

/// docs.mindee.com/integrations/api-reference: a form, which the caller writes; `redirect=false`, since redirects are
/// not followed; and the result is behind `result_url`.
const MINDEE: (&str, &str) = (
    r#"
name = "mindee/inference"
base_url = "https://api-v2.mindee.net"
headers = { authorization = "{env.MINDEE_API_KEY}" }

[create]
path = "/v2/inferences/enqueue"
headers = { content-type = "multipart/form-data; boundary=a-boundary-that-no-file-has" }
reference = { pointer = "/job/id", id = true }

[poll]
path = "/v2/jobs/{reference}"
query = { redirect = "false" }
echo = "/job/id"
result = "/job"
state = { pointer = "/job/status", values = { Processing = "pending", Processed = "ready", Failed = "failed" } }

[[poll.rules]]
when = { status = 404 }
is = "not-found"
"#,
    r#"{ "answers": [
        { "name": "created", "kind": "create", "status": 202, "body": { "job": { "id": "0c9fe2ac-9f6f-4a1c-9b1a-0d1d7a2c5a3e", "status": "Processing", "result_url": null } }, "read": "accepted 0c9fe2ac-9f6f-4a1c-9b1a-0d1d7a2c5a3e" },
        { "name": "runs", "kind": "poll", "status": 200, "body": { "job": { "id": "0c9fe2ac", "status": "Processing" } }, "read": "pending" },
        { "name": "done", "kind": "poll", "status": 200, "body": { "job": { "id": "0c9fe2ac", "status": "Processed", "result_url": "https://example.com" } }, "read": "ready" },
        { "name": "failed", "kind": "poll", "status": 200, "body": { "job": { "id": "0c9fe2ac", "status": "Failed", "error": { "status": 422, "detail": "text" } } }, "read": "failed" },
        { "name": "unknown", "kind": "poll", "status": 404, "body": { "status": 404, "code": "404-001" }, "read": "not found" },
        { "name": "throttled", "kind": "poll", "status": 429, "body": { "status": 429 }, "read": "throttled failure, not executed" } ] }"#,
);

/// learn.microsoft.com/rest/api/aiservices/document-models/analyze-document: Azure's long-running operations, in lower
/// case and with a key.
const AZURE_DOCUMENTS: (&str, &str) = (
    r#"
name = "azure/document-intelligence"
base_url = "https://contoso.cognitiveservices.azure.com"
headers = { ocp-apim-subscription-key = "{env.AZURE_DOCUMENTS_KEY}" }

[create]
path = "/documentintelligence/documentModels/prebuilt-layout:analyze"
query = { api-version = "2024-11-30" }
reference = { header = "Operation-Location" }

[poll]
url = "{reference}"
result = "/analyzeResult"
state = { pointer = "/status", values = { notStarted = "pending", running = "pending", succeeded = "ready", failed = "failed", canceled = "undecided", skipped = "undecided" } }
"#,
    r#"{ "answers": [
        { "name": "created", "kind": "create", "status": 202, "headers": { "operation-location": "https://contoso.cognitiveservices.azure.com/documentintelligence/documentModels/prebuilt-layout/analyzeResults/3b31320d?api-version=2024-11-30" },
            "read": "accepted https://contoso.cognitiveservices.azure.com/documentintelligence/documentModels/prebuilt-layout/analyzeResults/3b31320d?api-version=2024-11-30" },
        { "name": "runs", "kind": "poll", "status": 200, "headers": { "retry-after": "1" }, "body": { "status": "running" }, "read": "pending, again in 1s" },
        { "name": "done", "kind": "poll", "status": 200, "body": { "status": "succeeded", "analyzeResult": { "content": "" } }, "read": "ready" },
        { "name": "failed", "kind": "poll", "status": 200, "body": { "status": "failed", "error": { "code": "InvalidRequest" } }, "read": "failed" } ] }"#,
);

#[test]
fn each_can_be_said() {
    for ((text, answers), create, poll) in [
        (OPENAI_BATCH, "POST https://api.openai.com/v1/batches", "GET https://api.openai.com/v1/batches/batch_abc123"),
        (
            MINDEE,
            "POST https://api-v2.mindee.net/v2/inferences/enqueue",
            "GET https://api-v2.mindee.net/v2/jobs/0c9fe2ac-9f6f-4a1c-9b1a-0d1d7a2c5a3e?redirect=false",
        ),
        (
            AZURE_DOCUMENTS,
            "POST https://contoso.cognitiveservices.azure.com/documentintelligence/documentModels/prebuilt-layout:analyze?api-version=2024-11-30",
            "GET https://contoso.cognitiveservices.azure.com/documentintelligence/documentModels/prebuilt-layout/analyzeResults/3b31320d?api-version=2024-11-30",
        ),
    ] {
        let provider = connect(&Profile::parse(text).unwrap());
        let checked = provider.profile().check(&Recorded::parse(answers).unwrap());
        for checked in &checked {
            assert!(checked.agrees(), "{}: {}: read as {:?}", provider.name(), checked.name, checked.read);
        }
        let reference = Reference::new(checked[0].read.strip_prefix("accepted ").unwrap()).unwrap();
        let (key, payload) = (Key::new("order-42").unwrap(), Payload::from("the caller's own bytes"));
        let ask = |kind| provider.request(&Ask::new(kind, &key, Some(&reference), &payload)).unwrap();
        let (created, polled) = (ask(Kind::Create), ask(Kind::Poll));
        assert_eq!(format!("{} {}", created.method(), created.uri()), create);
        assert_eq!(created.body(), payload.bytes());
        assert_eq!(format!("{} {}", polled.method(), polled.uri()), poll);
    }
}

#[test]
fn a_delivery_of_openais_is_a_hint() {
    let secret = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnk=";
    let body = Bytes::from_static(
        br#"{"object":"event","id":"evt_1","type":"batch.completed","created_at":1699130000,"data":{"id":"batch_abc123"}}"#,
    );
    let headers = Verifier::new(Scheme::StandardWebhooks, [secret]).unwrap().sign("wh_1", WALL, &body).unwrap();
    let event = connect(&Profile::parse(OPENAI_BATCH.0).unwrap()).webhook(&headers, &body, WALL).unwrap();
    assert_eq!((event.reference.unwrap().as_str(), event.meaning), ("batch_abc123", None));
}
