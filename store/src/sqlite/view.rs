//! `operations`: the view that people and their tools read.
//!
//! It is a view over `records`, which decodes each body when somebody queries it and costs nothing before. So it always
//! agrees with the record, and nobody can make it say something else except by replacing the view's definition, which
//! is noticed when the journal is opened. It uses no function that is newer than the table's features need (3.37), and
//! none that an untrusted schema may not use.
//!
//! SQL has no function that reads a number out of a blob. So each hex digit's value is found by its position among the
//! digits, and shifted to its place; `digits` gives that place for the positions of a little-endian number.

/// A little-endian number of this many bytes, from this position of the body on (which SQL counts from 1). Eight bytes
/// with all bits set are -1.
macro_rules! number {
    ($from:expr, $bytes:literal) => {
        concat!(
            "(SELECT sum(instr('123456789ABCDEF', substr(hex(substr(body, ",
            $from,
            ", ",
            $bytes,
            ")), place, 1)) << shift) FROM digits WHERE place <= 2 * ",
            $bytes,
            ")"
        )
    };
}

/// A time as text, in UTC; `NULL` for none. For the whole range of 64 bits, the first of which SQL takes for a sign.
macro_rules! time {
    ($from:literal) => {
        concat!(
            "(SELECT strftime('%Y-%m-%dT%H:%M:%S', s - (n < 0), 'unixepoch') || printf('.%09dZ', n + 1000000000 * (n < 0))\n      \
             FROM (SELECT t / 1000000000 + 18446744073 * (t < 0) AS s, t % 1000000000 + 709551616 * (t < 0) AS n FROM (SELECT ",
            number!($from, 8),
            " AS t) WHERE t <> -1))"
        )
    };
}

/// The key's length stands at 106, and the reference's behind the key.
macro_rules! key_length {
    () => {
        number!("106", 1)
    };
}

macro_rules! reference_at {
    () => {
        concat!("107 + ", key_length!())
    };
}

pub(super) const OPERATIONS: &str = concat!(
    "CREATE VIEW operations AS
    WITH digits(place, shift) AS (VALUES (1, 4), (2, 0), (3, 12), (4, 8), (5, 20), (6, 16), (7, 28), (8, 24),
        (9, 36), (10, 32), (11, 44), (12, 40), (13, 52), (14, 48), (15, 60), (16, 56))
    SELECT first,
    CAST(substr(body, 107, ",
    key_length!(),
    ") AS TEXT) AS key,
    CAST(substr(body, 55 + ",
    number!("49", 2),
    ", ",
    number!("51", 4),
    ") AS TEXT) AS provider,
    CASE substr(body, 56, 1) WHEN x'00' THEN 'planned' WHEN x'01' THEN 'in_flight' WHEN x'02' THEN 'unknown' WHEN x'03' THEN 'accepted'
        WHEN x'04' THEN 'ended' WHEN x'05' THEN 'delivered' ELSE 'other' END AS state,
    CASE WHEN substr(body, 56, 1) < x'04' THEN NULL WHEN substr(body, 57, 1) <= x'02' THEN 'completed' WHEN substr(body, 57, 1) = x'03' THEN 'failed'
        WHEN substr(body, 57, 1) <= x'08' OR substr(body, 57, 1) = x'14' THEN 'rejected' ELSE 'unresolved' END AS outcome,
    CASE WHEN substr(body, 56, 1) >= x'04' THEN CASE substr(body, 57, 1)
        WHEN x'00' THEN 'ready' WHEN x'01' THEN 'partial' WHEN x'02' THEN 'undecided' WHEN x'03' THEN NULL
        WHEN x'04' THEN 'refused' WHEN x'05' THEN 'attempts' WHEN x'06' THEN 'deadline' WHEN x'07' THEN 'cancelled' WHEN x'08' THEN 'not_durable'
        WHEN x'09' THEN 'ambiguous' WHEN x'0A' THEN 'attempts' WHEN x'0B' THEN 'deadline' WHEN x'0C' THEN 'refused' WHEN x'0D' THEN 'key_window'
        WHEN x'0E' THEN 'lookup' WHEN x'0F' THEN 'polls' WHEN x'10' THEN 'poll_deadline' WHEN x'11' THEN 'poll_refused' WHEN x'12' THEN 'not_found'
        WHEN x'13' THEN 'cancelled' WHEN x'14' THEN 'unavailable' WHEN x'15' THEN 'replayed' ELSE 'other' END
        WHEN substr(body, 56, 2) = x'0201' THEN 'refused' END AS reason,
    nullif(CAST(substr(body, 2 + ",
    reference_at!(),
    ", ",
    number!(reference_at!(), 2),
    ") AS TEXT), '') AS reference,
    ",
    number!("82", 2),
    " AS creates,
    ",
    number!("86", 4),
    " AS attempts,
    ",
    number!("84", 2),
    " AS polls,
    ",
    time!("58"),
    " AS submitted_at,
    ",
    time!("25"),
    " AS updated_at,
    ",
    time!("74"),
    " AS due_at,
    ",
    time!("66"),
    " AS first_sent_at,
    ",
    time!("33"),
    " AS accepted_at,
    ",
    time!("41"),
    " AS ended_at,
    substr(body, 90, 16) AS fingerprint,
    ",
    number!("17", 8),
    " AS sequence,
    payload, answer_status, answer_body
    FROM records"
);
