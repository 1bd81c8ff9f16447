//! What crosses the crates. The tests are in `tests/`; here are the properties that hold for any bytes ([`fuzz`]),
//! which the tests and the fuzzer share, and the README's code is compiled.

pub mod fuzz;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
