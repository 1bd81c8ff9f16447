//! Whether what a doctor says is so, and what it says to do can be done as it says it.

use super::*;

/// What is left of it may be all that there is.
#[test]
fn what_can_be_read_of_a_journal_that_lost_a_page_is_told_and_exported() {
    let many: Vec<Entry> =
        (0..200).map(|number| entry(&format!("order-{number}"), Stage::Delivered(AMBIGUOUS), HOUR)).collect();
    let home = Home::with(&many);
    let mut bytes = fs::read(home.journal()).unwrap();
    let pages = bytes.len() / 4_096;
    bytes[(pages - 3) * 4_096..(pages - 2) * 4_096].fill(0xff);
    fs::write(home.journal(), bytes).unwrap();

    let report = home.json(&["doctor"]);
    assert!(!report["problems"].as_array().unwrap().is_empty(), "{report}");
    assert!(report["findings"][0]["count"].as_u64().unwrap() > 100, "{report}");
    let output = home.ops(&["doctor"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("DAMAGED: "), "{output:?}");

    let out = home.0.join("out.jsonl");
    let output = home.ops(&["export", "--output", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let written = fs::read_to_string(out).unwrap();
    assert!(written.contains("\"order-0\"") && written.contains("\"order-199\""), "{written}");
    let output = home.ops(&["list", "--state", "delivered", "--limit", "200"]);
    let said = text(&output.stdout);
    assert!(output.status.code() == Some(1) && said.contains("order-0 ") && said.contains("order-199 "), "{output:?}");
}
