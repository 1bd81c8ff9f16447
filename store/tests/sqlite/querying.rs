//! What a person's tool shows of a journal, in any version of SQLite: the same as the library reads.

use std::ops::ControlFlow;

use proptest::prelude::*;
use rusqlite::types::Value;
use steadfast_core::journal;
use steadfast_store::sqlite::{Order, Stored, iso8601};

use super::*;

#[test]
fn people_can_query_it() {
    let home = Home::new();
    let mut ended = entry("order-1", Stage::Delivered(AMBIGUOUS));
    (ended.record.creates, ended.record.attempts, ended.record.due) = (1, 3, Some(Timestamp::from_secs(1_700_000_060)));
    home.open().append(&[ended]).unwrap();
    let row = home.ask(
        "SELECT concat_ws(' ', key, provider, state, outcome, reason, reference, creates, attempts, polls, submitted_at, updated_at, due_at) \
         FROM operations",
    );
    assert_eq!(
        row,
        "order-1 deepvue delivered unresolved ambiguous txn-of-order-1 1 3 0 \
         2023-11-14T22:13:20.000000000Z 2023-11-14T22:13:20.000000000Z 2023-11-14T22:14:20.000000000Z"
    );
    assert_eq!(home.ask("SELECT datetime(submitted_at, '+1 minute') FROM operations"), "2023-11-14 22:14:20");
}

fn any_record() -> impl Strategy<Value = Entry> {
    let number = || prop_oneof![any::<u64>(), 0..u64::from(u32::MAX), Just(0), Just(1 << 63)].boxed();
    let time =
        move || prop::option::of((0..u64::MAX).boxed()).prop_map(|nanos| nanos.map(Timestamp::from_nanos)).boxed();
    let texts = ("[!-~]{1,255}", prop::option::of("[^\\p{Cc}]{1,100}"), "[a-z]{0,20}").boxed();
    let counts = (any::<u16>(), any::<u32>(), any::<u16>(), any::<[u8; 16]>()).boxed();
    let stages: Vec<(Stage, bool)> = every_stage().collect();
    let parts = (texts, counts, prop::sample::select(stages), number(), time(), time(), number());
    parts
        .prop_map(|((key, reference, provider), counts, (stage, refused), submitted, first_sent, due, at)| {
            let mut entry = entry(&key, stage);
            let record = &mut entry.record;
            (record.refused, record.first_sent, record.due) = (refused, first_sent, due);
            record.reference = reference.map(|text| Reference::new(text).unwrap());
            (record.submitted, entry.at) = (Timestamp::from_nanos(submitted), Timestamp::from_nanos(at));
            (record.creates, record.attempts, record.polls) = (counts.0, counts.1, counts.2);
            record.fingerprint = Fingerprint::new(counts.3);
            entry.provider = provider.into();
            entry
        })
        .boxed()
}

/// Each stage with each outcome, as the journal's format numbers them.
fn every_stage() -> impl Iterator<Item = (Stage, bool)> {
    let open = entry("order-1", Stage::Planned).record;
    (0..=5_u8).flat_map(move |stage| (0..=255_u8).map(move |why| (stage, why))).filter_map(move |(stage, why)| {
        let mut bytes = Vec::new();
        journal::encode(&open, &mut bytes);
        (bytes[1], bytes[2]) = (stage, why);
        journal::decode(&bytes).ok().map(|record| (record.stage, record.refused))
    })
}

/// What a person reads of one operation, by the library.
fn read(stored: &Stored) -> Vec<Value> {
    let Entry { record, provider, at, .. } = &stored.entry;
    let text = |text: &str| Value::from(text.to_owned());
    let time = |time: Option<Timestamp>| Value::from(time.filter(|it| *it != Timestamp::NEVER).map(iso8601));
    vec![
        text(record.key.as_str()),
        text(provider),
        text(stored.state()),
        Value::from(stored.outcome().map(|outcome| outcome.name().to_owned())),
        Value::from(stored.reason().map(str::to_owned)),
        Value::from(record.reference.as_ref().map(ToString::to_string)),
        i64::from(record.creates).into(),
        i64::from(record.attempts).into(),
        i64::from(record.polls).into(),
        time(Some(record.submitted)),
        time(Some(*at)),
        time(record.due),
        time(record.first_sent),
        time(stored.accepted),
        time(stored.ended),
        record.fingerprint.as_bytes().to_vec().into(),
    ]
}

fn agrees(entries: &[Entry]) {
    let home = Home::new();
    let mut store = home.open();
    store.append(entries).unwrap();
    let mut expected = Vec::new();
    let each = |stored: Result<Stored, _>| {
        expected.push(read(&stored.unwrap()));
        ControlFlow::Continue(())
    };
    store.browse(Order::OldestFirst, each).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(home.journal()).unwrap();
    // As the strictest tool would have it.
    connection.execute_batch("PRAGMA trusted_schema = OFF").unwrap();
    const ASKED: &str = "SELECT key, provider, state, outcome, reason, reference, creates, attempts, polls, submitted_at, updated_at, \
                         due_at, first_sent_at, accepted_at, ended_at, fingerprint FROM operations ORDER BY first";
    let mut asked = connection.prepare(ASKED).unwrap();
    let rows = asked.query_map([], |row| (0..16).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>());
    let found: Vec<Vec<Value>> = rows.unwrap().map(Result::unwrap).collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_a_query_shows_is_what_the_library_reads(entries in prop::collection::vec(any_record(), 1..20)) {
        agrees(&entries);
    }
}

#[test]
fn a_query_has_a_word_for_each_stage_and_each_outcome() {
    let entries: Vec<Entry> = (0..)
        .zip(every_stage())
        .map(|(number, (stage, refused)): (u32, _)| {
            let mut entry = entry(&format!("order-{number}"), stage);
            entry.record.refused = refused;
            entry
        })
        .collect();
    assert_eq!(entries.len(), 5 + 2 * 22);
    agrees(&entries);
}
