//! Which test meets which case.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// A test: its file, and its name.
type Test = (&'static str, &'static str);

const HERE: &str = "tests/tests/hostile_inputs/main.rs";
const MATRIX: &str = "tests/tests/transport_matrix/main.rs";
const CRASHES: &str = "tests/tests/crash_matrix/trouble.rs";
const POLICIES: &str = "tests/tests/crash_matrix/policies.rs";
const CANARIES: &str = "tests/tests/canaries.rs";
const KIT: &str = "testkit/src/journal_kit/files.rs";
const OPENING: &str = "store/tests/sqlite/opening.rs";
const VERIFYING: &str = "store/tests/sqlite/verifying.rs";
const SQLITE: &str = "store/src/sqlite/tests.rs";
const RETRY_AFTER: &str = "providers/tests/retry_after.rs";
const STATUS: &str = "providers/tests/status.rs";
const JSON: &str = "providers/tests/json.rs";
const DEEPVUE: &str = "providers/tests/deepvue.rs";
const DIDIT: &str = "providers/tests/didit/answers.rs";
const SIGNED: &str = "providers/tests/webhook/oracles.rs";
const FORGED: &str = "providers/tests/webhook/hostile.rs";
const SECRETS: &str = "providers/tests/webhook/secrets.rs";
const DELIVERED: &str = "adapter-tokio/tests/adapter/webhooks.rs";
const EARLY: &str = "adapter-tokio/tests/adapter/webhooks/early.rs";
const CLIENT: &str = "adapter-tokio/tests/adapter/client.rs";
const JOURNAL: &str = "adapter-tokio/tests/adapter/journal.rs";
const LAWS: &str = "core/tests/laws/machines.rs";
const ENGINE: &str = "core/tests/laws/engine.rs";

/// The cases of `hostile_inputs.json`: by id, or by the beginning of several.
const CASES: &[(&str, &[Test])] = &[
    ("retry-after-100-times", &[(HERE, "waits_in_all")]),
    ("retry-after-", &[(RETRY_AFTER, "hostile_values")]),
    ("idem-key-", &[(HERE, "keys")]),
    ("json-", &[(DEEPVUE, "the_bodies_of_the_hostile_inputs"), (DIDIT, "the_bodies_of_the_hostile_inputs")]),
    ("status-", &[(STATUS, "the_statuses_of_the_hostile_inputs")]),
    ("location-", &[(HERE, "places")]),
    ("journal-truncate-each-byte", &[(KIT, "torn_tail"), (KIT, "lost_tail")]),
    ("journal-garbage-tail", &[(KIT, "garbage")]),
    ("journal-other-journal", &[(HERE, "the_journal_of_another")]),
    ("journal-future-version", &[(OPENING, "a_newer_version_is_refused_and_left_as_it_is")]),
    (
        "journal-eio-fsync",
        &[
            (SQLITE, "a_disk_that_is_full_is_a_failed_write_and_a_failed_sync_is_not"),
            (CRASHES, "c15_a_flush_that_failed"),
        ],
    ),
    (
        "journal-two-writers",
        &[(OPENING, "another_process_is_refused"), ("testkit/src/journal_kit/fence.rs", "second_opener")],
    ),
    ("journal-len-field-4g", &[(HERE, "lengths_in_a_record")]),
    ("journal-symlink", &[(OPENING, "a_symbolic_link_a_directory_and_a_missing_file_are_refused")]),
    ("journal-mode-0644", &[(OPENING, "all_files_are_their_owners_only")]),
    (
        "webhook-dup-3",
        &[(SIGNED, "hostile_deliveries"), (DELIVERED, "a_repeat_is_known_by_its_id_or_else_by_its_body")],
    ),
    ("webhook-out-of-order", &[(DELIVERED, "an_older_status_undoes_nothing")]),
    (
        "webhook-conflict-terminal",
        &[(DELIVERED, "after_the_polls_answer_nothing_changes_and_a_later_revision_is_a_notice")],
    ),
    (
        "webhook-flood-unknown",
        &[
            (EARLY, "the_inbox_is_bounded_in_number_bytes_and_time"),
            (EARLY, "those_who_wait_for_an_answer_are_bounded"),
            (DELIVERED, "the_memory_of_repeats_is_bounded"),
        ],
    ),
    ("webhook-future-6min", &[(SIGNED, "hostile_deliveries")]),
    (
        "webhook-other-tenant",
        &[(SIGNED, "hostile_deliveries"), (DELIVERED, "what_fails_verification_is_4xx_and_changes_nothing")],
    ),
    ("webhook-old-secret-", &[(SIGNED, "hostile_deliveries")]),
    ("webhook-poll-after-webhook", &[(DELIVERED, "an_older_status_undoes_nothing")]),
];

/// What is known to have hurt clients of such APIs, and what shows that it does not hurt here.
const HAZARDS: &[(&str, &[Test])] = &[
    (
        "a wait without end",
        &[(RETRY_AFTER, "hostile_values"), ("tests/tests/http.rs", "hostile_waits_neither_panic_nor_hang")],
    ),
    ("waits that add up", &[(HERE, "waits_in_all")]),
    (
        "a wait that is no number",
        &[
            (RETRY_AFTER, "a_number_with_anything_else_in_it_is_absent"),
            (RETRY_AFTER, "the_first_line_counts_even_when_malformed"),
        ],
    ),
    (
        "a duration that overflows",
        &[
            (LAWS, "i1_i2_a_retry_honours_the_hint_and_both_limits"),
            (RETRY_AFTER, "no_header_panics_or_exceeds_the_maximum"),
        ],
    ),
    ("a date that does not exist", &[(RETRY_AFTER, "the_dates_of_five_other_suites")]),
    ("JSON that is too deep", &[(JSON, "depth_is_bounded")]),
    ("a member twice", &[(JSON, "a_member_twice_makes_it_unusable_however_its_name_is_written")]),
    ("an id that is a number", &[(JSON, "an_id_is_text_and_a_number_is_none")]),
    (
        "HTML or nothing with a 200",
        &[(STATUS, "the_statuses_of_the_hostile_inputs"), (JSON, "what_is_no_json_is_unusable")],
    ),
    ("a status that nobody knows", &[(DEEPVUE, "an_unknown_status_is_kept_short_and_plain")]),
    (
        "a forged webhook",
        &[(SIGNED, "the_cases_of_two_other_suites"), (DELIVERED, "what_fails_verification_is_4xx_and_changes_nothing")],
    ),
    ("a webhook's time that is none", &[(FORGED, "only_plain_digits_are_a_time")]),
    (
        "a webhook that is sent again",
        &[
            (DELIVERED, "a_repeat_is_known_by_its_id_or_else_by_its_body"),
            (DELIVERED, "a_repeat_after_a_restart_changes_nothing"),
        ],
    ),
    ("a secret that is exchanged", &[(SIGNED, "hostile_deliveries"), (DEEPVUE, "a_renewed_token_reaches_all_clones")]),
    ("a webhook's id that can be cut in two ways", &[(FORGED, "an_id_that_could_be_cut_in_two_ways_is_refused")]),
    (
        "a thousand signatures, and a body of megabytes",
        &[
            (FORGED, "the_tenth_signature_is_looked_at_and_the_eleventh_is_not"),
            (FORGED, "a_body_of_the_bound_is_verified_and_one_byte_more_is_not"),
        ],
    ),
    (
        "a key that splits a header",
        &[(HERE, "keys"), ("providers/tests/structured.rs", "the_cases_of_the_working_group")],
    ),
    (
        "a place on another origin",
        &[
            (HERE, "places"),
            (HERE, "two_readers_of_a_url_agree_on_whose_it_is"),
            ("providers/tests/base_url.rs", "refused_with_the_reason"),
        ],
    ),
    ("a redirect", &[(MATRIX, "tokio_with_reqwest")]),
    ("a body that unpacks to a gigabyte", &[(MATRIX, "tokio_with_reqwest")]),
    ("headers without end", &[(MATRIX, "tokio_with_reqwest")]),
    ("no TLS", &[(MATRIX, "tokio_with_reqwest"), (MATRIX, "a_base_url_is_refused_before_the_transport_sees_it")]),
    ("an answer a byte at a time", &[(MATRIX, "tokio_with_reqwest")]),
    (
        "an answer to another request",
        &[
            (MATRIX, "what_follows_an_answer_is_nobody_s"),
            (MATRIX, "a_connection_whose_answer_was_given_up_is_not_used_again"),
        ],
    ),
    (
        "secrets and personal data that are shown",
        &[(CANARIES, "nothing_private_is_shown"), (SECRETS, "nothing_shows_a_secret_a_body_or_a_signature")],
    ),
    (
        "personal data in the journal",
        &[
            (JOURNAL, "nothing_personal_is_kept_unless_asked_for_and_then_as_sealed"),
            (VERIFYING, "a_payload_that_is_needed_no_more_is_overwritten"),
            (OPENING, "all_files_are_their_owners_only"),
        ],
    ),
    (
        "a journal that was changed",
        &[
            (KIT, "flipped_closed"),
            (KIT, "flipped_crashed"),
            (KIT, "exchanged"),
            (VERIFYING, "every_change_that_counts_is_found"),
        ],
    ),
    (
        "a disk that is full or fails",
        &[
            (CRASHES, "c16_disk_full"),
            (CRASHES, "c15_a_flush_that_failed"),
            ("store/tests/sqlite/faults.rs", "a_full_disk_loses_nothing_that_was_acknowledged"),
        ],
    ),
    (
        "keys and webhooks without number",
        &[
            (ENGINE, "i15_intake_and_memory_are_bounded"),
            (CLIENT, "intake_is_bounded_and_waits"),
            (EARLY, "the_inbox_is_bounded_in_number_bytes_and_time"),
        ],
    ),
    (
        "a source that is down, beside others that are not",
        &[("tests/tests/deepvue.rs", "a_source_that_is_down_opens_its_own_breaker_and_the_key_keeps_its_limit")],
    ),
    (
        "clocks that differ, or jump",
        &[
            (RETRY_AFTER, "a_date_is_read_against_the_date_of_the_same_answer"),
            (POLICIES, "c21_the_clock_went_back"),
            (POLICIES, "c22_the_clock_jumped_forward"),
            ("providers/src/clock_skew.rs", "a_date_that_is_none_says_nothing_and_no_clock_overflows"),
        ],
    ),
    (
        "names of jobs that can be guessed, or that two tenants share",
        &[("providers/src/derived_key.rs", "other_parts_and_other_secrets_are_other_keys")],
    ),
    ("a provider that is down", &[("tests/tests/outage.rs", "an_outage_costs_no_job_and_the_provider_gets_rest")]),
    (
        "a panic in what the program gave",
        &[
            (CLIENT, "a_panicking_transport_costs_an_attempt_not_the_client"),
            (CLIENT, "a_panicking_observer_or_profile_does_not_take_the_client_down"),
            (JOURNAL, "a_seal_that_panics_costs_the_submit_and_not_the_store"),
        ],
    ),
];

/// The files of cases, and the tests that replay and count them.
const ORACLES: &[(&str, &[Test])] = &[
    ("backoff.json", &[("core/tests/oracles/backoff.rs", "backoff_cases_of_other_suites")]),
    ("breaker.json", &[("core/tests/oracles/breaker.rs", "breaker_cases_of_other_suites")]),
    ("breaker_window.json", &[("core/tests/oracles/breaker_window.rs", "window_cases_of_other_suites")]),
    ("classify.json", &[("providers/tests/classify.rs", "the_cases_of_twelve_other_suites")]),
    ("crash_matrix.json", &[("tests/tests/crash_matrix/main.rs", "every_row_has_its_test_or_a_reason")]),
    ("hostile_inputs.json", &[("tests/tests/hostile_inputs/account.rs", "every_case_and_every_hazard_has_its_tests")]),
    ("http_date.json", &[(RETRY_AFTER, "the_dates_of_five_other_suites")]),
    ("idempotency_key_sf.json", &[("providers/tests/structured.rs", "the_cases_of_the_working_group")]),
    ("rate_limiter.json", &[("core/tests/oracles/rate_limiter.rs", "rate_limiter_cases_of_other_suites")]),
    ("retry_after.json", &[(RETRY_AFTER, "the_cases_of_seven_other_suites")]),
    ("retry_flow.json", &[("core/tests/oracles/retry_flow.rs", "retry_flow_cases_of_other_suites")]),
    ("webhook.json", &[(SIGNED, "the_cases_of_two_other_suites")]),
];

#[test]
fn every_file_of_cases_is_replayed() {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ORACLES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, tests) in ORACLES {
        for test in *tests {
            is_there(name, *test);
            assert!(read(test.0).contains(name), "{} does not read {name}", test.0);
        }
    }
}

#[test]
fn every_case_and_every_hazard_has_its_tests() {
    let file: Value = serde_json::from_str(include_str!("../../oracles/hostile_inputs.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(file["case_count"], cases.len());
    let mut used = Vec::new();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let by = CASES.iter().find(|(prefix, _)| id == *prefix || prefix.ends_with('-') && id.starts_with(prefix));
        let (prefix, tests) = by.unwrap_or_else(|| panic!("{id}: no test meets it, and no reason is given"));
        assert!(!tests.is_empty());
        used.push(*prefix);
    }
    for (name, tests) in CASES.iter().chain(HAZARDS) {
        tests.iter().for_each(|test| is_there(name, *test));
    }
    let stale: Vec<_> = CASES.iter().filter(|(prefix, _)| !used.contains(prefix)).collect();
    assert!(stale.is_empty(), "there is no such case: {stale:?}");
    println!("hostile_inputs.json: {} cases and {} hazards are accounted for", cases.len(), HAZARDS.len());
    assert_eq!(cases.len(), 69);
}

fn is_there(what: &str, (file, name): Test) {
    assert!(read(file).contains(&format!("fn {name}(")), "{what}: {file} has no test {name}");
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}
