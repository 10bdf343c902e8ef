//! What the suites of plyfs share: mounting with the real program, trees and their snapshots, gates.
//!
//! Here lives: no test; the suites are `tests/model`, `tests/mounted` and `tests/foreign`. A helper panics when
//! its own work fails: in a test that is the right end, and the message says what was being done.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests may end the test")]
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what a test skips or measures is told to the person who runs it"
)]

pub mod cmd;
pub mod debian;
pub mod gate;
pub mod images;
pub mod model;
pub mod mount;
pub mod probe;
pub mod random;
pub mod scratch;
pub mod tree;
pub mod user;

pub use cmd::{Ran, run, sh, sh_in};
pub use gate::{require_programs, require_root};
pub use mount::{Mount, plyfs};
pub use scratch::Scratch;
pub use tree::{Snapshot, Want};
