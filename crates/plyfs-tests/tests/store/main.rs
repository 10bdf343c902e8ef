//! The store on real disks: Docker's own driver tests, counts across processes, kills, power cuts, Docker's data roots.
//!
//! What takes long is short in an ordinary run; `PLYFS_ROUNDS` says how many rounds `crash` and `powercut` make instead
//! (200 is the full measure), `PLYFS_SEED` what chance does in them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

mod archives;
mod changes;
mod check;
mod common;
mod counts;
mod crash;
mod docker;
mod driver;
mod graph;
mod powercut;
mod windows;
mod worker;
