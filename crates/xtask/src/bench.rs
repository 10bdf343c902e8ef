//! `cargo xtask bench`: how fast is plyfs, told in ratios to kernel overlayfs in the same run.
//!
//! Here lives the run as a whole: build, measure, report. [`candidates`] says what is compared, [`works`] and [`micro`]
//! what is done, [`runner`] in which order, [`mounts`] how candidates are mounted, [`tree`] and [`layers`] on what,
//! [`requests`] how FUSE requests are counted, [`report`] how it is told.
//!
//! What to keep in mind when reading the numbers:
//!
//! - A work of seconds is one sample a round; a micro operation is the mean of hundreds. Cells are medians over rounds;
//!   ratios are those of medians. On a busy machine trust the pattern and the ranges, not one cell.
//! - A plain directory is never "fresh": it has no mount whose caches could be empty. It holds the content of all layers
//!   in one place, whatever their number, and copying up means changing it in place.
//! - Nothing is synced within a measured time: writes end in the page cache.
//! - The bench is built optimised (Cargo.toml), or its own loops would be a part of the shortest operations.
//! - No cell is left out in silence: it has a number or a reason.

mod bout;
mod candidates;
pub(crate) mod idle;
mod layers;
mod micro;
pub(crate) mod mounts;
pub(crate) mod options;
mod report;
mod requests;
mod results;
mod runner;
mod several;
mod sizes;
pub(crate) mod stage;
pub(crate) mod stats;
pub(crate) mod tree;
pub(crate) mod walk;
mod works;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::candidates::Programs;
use self::options::Options;
pub(crate) use self::options::USAGE;
use self::report::machine::Machine;
use crate::run;

/// `cargo xtask bench ARGS...`
pub(crate) fn run(root: &Path, args: &[String]) -> Result<()> {
    if args == ["--list-works"] {
        println!("{}", works::names().join("\n"));
        return Ok(());
    }
    if args.iter().any(|arg| matches!(arg.as_str(), "-h" | "--help")) {
        println!("{USAGE}");
        return Ok(());
    }
    if let Some((word, paths)) = args.split_first()
        && word == "--together"
    {
        return several::print(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
    }
    measure(root, &Options::parse(args)?)
}

/// The short form, on a program that is built already: nothing may fail.
pub(crate) fn short(root: &Path, plyfs: PathBuf) -> Result<()> {
    measure(root, &Options { plyfs: Some(plyfs), ..Options::short()? })
}

/// The program to run: `given`, or the release build, built now.
pub(crate) fn release_binary(root: &Path, target: &Path, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_path_buf());
    }
    run::run(run::cargo(root).args(["build", "--locked", "--release", "--package", "plyfs"]))?;
    Ok(target.join("release/plyfs"))
}

fn measure(root: &Path, options: &Options) -> Result<()> {
    let target = run::target_dir(root)?;
    let plyfs = release_binary(root, &target, options.plyfs.as_deref())?;
    let out = options.out.clone().unwrap_or_else(|| target.join("bench"));
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let programs = Programs::new(options, plyfs);
    for candidate in &options.candidates {
        if let Some(why) = programs.missing(candidate) {
            println!("{candidate} is left out: {why}");
        }
    }
    let start = Instant::now();
    let mut machine = Machine::now(root, options, &programs);
    let results = runner::run(options, &programs)?;
    machine.finish(start.elapsed());
    report::write(&out, options, &machine, &results)?;
    println!("{}", out.join("bench.md").display());
    let failures = results.failures();
    for failure in &failures {
        println!("failed: {failure}");
    }
    if results.interrupted {
        bail!("interrupted; the report has what was measured until then");
    }
    if !failures.is_empty() {
        bail!("{} cells failed", failures.len());
    }
    println!("bench: {} cells in {:.0} s", results.cells.len(), start.elapsed().as_secs_f64());
    Ok(())
}
