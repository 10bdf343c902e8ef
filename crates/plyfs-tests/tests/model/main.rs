//! Tier 2: the engine, without a mount, against a model of the union; random operations, reopening, threads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

mod bench;
mod direct;
mod grammars;
mod images;
mod sequences;
mod threads;
