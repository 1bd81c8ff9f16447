//! A client on threads: what it promises, with a transport in process.

mod jobs;
mod stopping;
mod support;
