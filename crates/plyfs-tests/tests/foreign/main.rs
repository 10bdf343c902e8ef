//! Tier 5: programs of others judge the mount (pjdfstest, fsx), and a real Debian root lives in it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends by panicking and says what it skips"
)]

mod debian;
mod fsx;
mod image;
mod pjdfstest;

use std::path::PathBuf;

use plyfs_tests::gate::gate;

/// A program that `cargo xtask test` installs, from $PLYFS_TOOLS or `target/tools/bin`.
fn tool(name: &str) -> Option<PathBuf> {
    let dir = place("PLYFS_TOOLS", "target/tools/bin");
    let path = dir.join(name);
    gate(path.is_file(), &format!("{} is not there; `cargo xtask test` installs it", path.display()))
        .then_some(path)
}

fn place(variable: &str, default: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os(variable).map_or_else(|| here.ancestors().nth(2).unwrap().join(default), PathBuf::from)
}
