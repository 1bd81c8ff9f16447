//! What crosses the crates. The tests are in `tests/`; here the README is compiled.

#![doc = include_str!("../../README.md")]
