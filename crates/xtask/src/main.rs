//! Tasks of the plyfs repository: `cargo xtask tidy`, `cargo xtask test [--quick]`, `cargo xtask bench`,
//! `cargo xtask bench-store` and `cargo xtask soak`.
//!
//! Here lives: which task is asked for. The rules are in [`tidy`], the order of the checks in [`mod@test`], what is
//! measured in [`mod@bench`], what is endured in [`mod@soak`].
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task's output is for the person who runs it"
)]

mod bench;
mod leftovers;
mod run;
mod soak;
mod source;
mod storebench;
mod test;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy
       cargo xtask test [--quick]
       cargo xtask bench [OPTIONS]
       cargo xtask bench-store [OPTIONS]
       cargo xtask soak [OPTIONS]

tidy   the house rules that no compiler knows: module headers, file sizes, crate edges, unsafe,
       reserved names, numbered semantics, exit codes, number of dependencies
test   everything: format, lints, tidy, docs, licences, unit tests, then the mounted suites, the
       model, and the outside programs (pjdfstest, fsx, a Debian root); --quick stops before the
       outside programs. With CI=true nothing may be skipped.
bench  how fast plyfs is, against kernel overlayfs and others; `cargo xtask bench --help`
bench-store
       how fast images are loaded, pulled and run, against podman, skopeo and containerd
soak   half an hour of mixed load with little memory: no growth, no leak, no stale answer;
       `cargo xtask soak --help`";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["tidy"] => tidy::run(&root()),
        ["test"] => test::run(&root(), false),
        ["test", "--quick"] => test::run(&root(), true),
        ["soak", ..] => soak::run(&root(), &args[1..]),
        ["bench-store", ..] => storebench::run(&root(), &args[1..]),
        ["bench", ..] => bench::run(&root(), &args[1..]),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository: two levels above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
