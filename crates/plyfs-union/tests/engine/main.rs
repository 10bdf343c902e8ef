//! The engine on temporary directories, without a mount: what once went wrong there, one rule per test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

mod bench;
mod caches;
mod hard_links;
mod hostile;
mod image;
mod metacopy;
mod metacopy_kept;
mod metacopy_random;
mod passthrough;
mod races;
mod stacks;
mod unprivileged;
