//! The guide, compiled: each block of Rust in a chapter, and in the crates' READMEs, is a doctest of this crate.
//! `tests/guide.rs` checks the rest: that no chapter is left out here or in the table of contents, and that links lead
//! somewhere.

/// A page is the documentation of a module of its own, so that a failing test names it.
macro_rules! pages {
    ($($name:ident = $path:literal,)*) => {
        $(#[cfg(doctest)]
        #[doc = include_str!($path)]
        mod $name {})*
    };
}

pages! {
    introduction = "src/introduction.md",
    concepts = "src/concepts.md",
    calls = "src/calls.md",
    tower = "src/tower.md",
    policy = "src/policy.md",
    idempotency = "src/idempotency.md",
    webhooks = "src/webhooks.md",
    crashes = "src/crashes.md",
    deploys = "src/deploys.md",
    service = "src/service.md",
    observe = "src/observe.md",
    runtimes = "src/runtimes.md",
    testing = "src/testing.md",
    moving_from_backoff = "src/moving/backoff.md",
    moving_from_backon = "src/moving/backon.md",
    moving_from_failsafe = "src/moving/failsafe.md",
    moving_from_governor = "src/moving/governor.md",
    moving_from_tokio_retry = "src/moving/tokio-retry.md",
}

pages! {
    readme_blocking = "../adapter-blocking/README.md",
    readme_cli = "../cli/README.md",
    readme_core = "../core/README.md",
    readme_driver = "../driver/README.md",
    readme_providers = "../providers/README.md",
    readme_store = "../store/README.md",
    readme_testkit = "../testkit/README.md",
    readme_tokio = "../adapter-tokio/README.md",
}
