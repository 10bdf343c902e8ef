//! Images: real registries, images made by other programs, archives in every form, and other programs as readers of ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

mod archives;
mod commands;
mod crash;
mod debian;
mod five_layers;
mod full;
mod hostile;
mod proxy;
mod pull;
mod registry;
mod root;
mod save;
