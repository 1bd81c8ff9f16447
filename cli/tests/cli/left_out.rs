//! A table of a policy file replaces the provider's as a whole: `check --over` says what that changes without naming it.

use super::*;

/// What `check` doubts of such a file over a shipped profile.
fn doubts(text: &str, profile: &str) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("policies.toml");
    std::fs::write(&file, text).unwrap();
    let report = json(&steadfast(&["check", file.to_str().unwrap(), "--over", profile, "--json"]));
    serde_json::from_value(report["doubts"].clone()).unwrap()
}

#[test]
fn what_a_table_leaves_out_is_told_if_the_profile_sets_it_otherwise() {
    for (profile, said) in [
        ("assemblyai", "policy.poll.deadline is left out, so it is 3m, the default: the profile's 2h does not stay"),
        (
            "assemblyai",
            "policy.poll.schedule.jitter is left out, so it is none, the default: the profile's {\"proportional\":{\"percent\":10}} does not stay",
        ),
        (
            "didit",
            "policy.poll.retry.backoff.cap is left out, so it is 20s, the default: the profile's 40s does not stay",
        ),
    ] {
        let doubts = doubts("[policy.poll]\npolls = 20", profile);
        assert!(doubts.iter().any(|doubt| doubt.starts_with(said)), "{said}: {doubts:#?}");
    }
    let doubts = doubts("[policy.poll]\npolls = 20", "assemblyai");
    assert!(!doubts.iter().any(|doubt| doubt.contains("create") && doubt.contains("left out")), "{doubts:#?}");
}

#[test]
fn what_a_file_names_and_tables_that_it_does_not_name_are_no_doubt() {
    let named = "[policy.poll]\npolls = 260\ndeadline = \"2h\"\nnot_found_grace = \"10s\"\n\
                 schedule = { growth = { fixed = \"30s\" }, cap = \"30s\", jitter = { proportional = { percent = 10 } } }\n\
                 retry = { backoff = { growth = { fixed = \"9s\" }, cap = \"9s\", jitter = \"equal\" } }";
    for text in ["", "[gate]\nbreaker = \"none\"\nrate_limits = []", named] {
        let doubts = doubts(text, "assemblyai");
        assert!(!doubts.iter().any(|doubt| doubt.contains("left out")), "{text}: {doubts:#?}");
    }
}
