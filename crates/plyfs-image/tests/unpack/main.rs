//! Unpacking and packing of honest layers: what is kept, and that nothing is lost on the way there and back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

#[path = "../unpack_support/mod.rs"]
mod support;

mod foreign;
mod forms;
mod kinds;
mod lower;
mod mutated;
mod packed;
mod record;
mod unions;
