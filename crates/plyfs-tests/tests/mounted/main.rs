//! Tier 3 and 4: the real program on real mounts. One binary; each module is one part of the promise.
//!
//! Everything is mounted below a temporary folder and unmounted by its guard; a test that needs root says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

mod badinput;
mod differential;
mod forms;
mod idle;
mod image;
mod kill;
mod load;
mod marks;
mod metacopy;
mod passthrough;
mod peers;
mod peers_links;
mod peers_names;
mod practice;
mod semantics;
mod semantics_change;
mod try_cmd;
mod unprivileged;
