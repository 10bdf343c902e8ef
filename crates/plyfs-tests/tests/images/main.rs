//! Images: real registries, images made by other programs, archives in every form, and other programs as readers of ours.
//!
//! `kills` is short in an ordinary run; `PLYFS_ROUNDS` says how many rounds it makes instead (200 is the full measure),
//! `PLYFS_SEED` what chance does in it.
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
mod kills;
mod proxy;
mod pull;
mod registry;
mod root;
mod save;
mod together;
