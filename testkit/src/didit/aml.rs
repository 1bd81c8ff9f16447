//! Screenings: run once for each `Idempotency-Key`, then answered from the stored result.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use steadfast_core::Timestamp;

use super::FakeDidit;
use crate::brain::{answer, detail};
use crate::ledger::Ledger;

/// The screenings so far, by key.
#[derive(Debug, Default)]
pub(super) struct Screenings {
    by_key: BTreeMap<String, Screening>,
    ran: u64,
}

#[derive(Debug)]
struct Screening {
    body: Bytes,
    result: Value,
    done_at: Timestamp,
}

impl Screenings {
    /// Screens, repeats an earlier answer, or refuses: the key has another body (409), or still runs (409 with
    /// `Retry-After`).
    pub(super) fn screen(
        &mut self,
        key: &str,
        body: &Bytes,
        now: Timestamp,
        settings: &FakeDidit,
        ledger: &mut Ledger,
    ) -> Response<Bytes> {
        let whom: Value = serde_json::from_slice(body).unwrap_or_default();
        if !whom["full_name"].is_string() {
            return answer(StatusCode::BAD_REQUEST, &json!({ "full_name": ["This field is required."] }));
        }
        if let Some(known) = self.by_key.get(key) {
            if known.body != body {
                return detail(StatusCode::CONFLICT, "This Idempotency-Key was used with another request.");
            }
            if now < known.done_at {
                let mut response =
                    detail(StatusCode::CONFLICT, "The first request of this key is still being processed.");
                let wait = known.done_at.saturating_since(now);
                let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(secs));
                return response;
            }
            return answer(StatusCode::OK, &known.result);
        }
        self.ran += 1;
        let request_id = format!("aml-{:08}", self.ran);
        ledger.ran(key, now, request_id.clone());
        let result = json!({
            "request_id": request_id, "vendor_data": whom["vendor_data"], "metadata": whom["metadata"],
            "aml": { "status": "Approved", "total_hits": 0, "score": 0, "hits": [], "entity_type": "person" },
        });
        if !key.is_empty() {
            let done_at = now.saturating_add(settings.habits.scaled(settings.screening_time));
            self.by_key.insert(key.to_owned(), Screening { body: body.clone(), result: result.clone(), done_at });
        }
        answer(StatusCode::OK, &result)
    }
}
