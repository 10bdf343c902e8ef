//! `cargo xtask bench-store`: how fast images are loaded and pulled and containers started, in ratios to the engines that
//! people use today.
//!
//! [`image`] makes the image, [`engines`] says what each candidate runs, [`servers`] starts a registry and containerd on
//! loopback. Everything happens in one temporary folder; every sample begins with an empty store. Times are of whole
//! commands, as a person would type them.

mod engines;
mod image;
mod options;
mod servers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::engines::{Candidate, Work};
use self::options::Options;
pub(crate) use self::options::USAGE;
use self::servers::Servers;
use crate::bench::release_binary;
use crate::bench::stats::Summary;
use crate::run;

/// `cargo xtask bench-store ARGS...`
pub(crate) fn run(root: &Path, args: &[String]) -> Result<()> {
    if args.iter().any(|arg| matches!(arg.as_str(), "-h" | "--help")) {
        println!("{USAGE}");
        return Ok(());
    }
    measure(root, &Options::parse(args)?)
}

/// The short form, on a program that is built already: does everything work?
pub(crate) fn short(root: &Path, plyfs: PathBuf) -> Result<()> {
    measure(root, &Options { plyfs: Some(plyfs), ..Options::short() })
}

/// Seconds of each sample.
type Samples = BTreeMap<(Work, Candidate), Vec<f64>>;

fn measure(root: &Path, options: &Options) -> Result<()> {
    if !run::is_root() {
        bail!("bench-store needs root: the engines do");
    }
    let target = run::target_dir(root)?;
    let plyfs = release_binary(root, &target, options.plyfs.as_deref())?;
    let temp = tempfile::Builder::new().prefix("plyfs-storebench-").tempdir_in(&options.dir)?;
    println!("making an image of {} MiB in {} layers", options.mib, options.layers);
    let image = image::make(temp.path(), options)?;
    let servers = Servers::start(temp.path(), &image)?;
    let stage = engines::Stage { dir: temp.path().to_owned(), plyfs, image, servers };
    let mut samples = Samples::new();
    let mut failed = Vec::new();
    for round in 1..=options.rounds {
        for work in Work::ALL {
            for candidate in work.candidates() {
                match sample(&stage, work, candidate) {
                    Ok(seconds) => {
                        println!("round {round}: {} {}: {seconds:.3} s", work.name(), candidate.name());
                        samples.entry((work, candidate)).or_default().push(seconds);
                    }
                    Err(error) => failed.push(format!("{} {}: {error:#}", work.name(), candidate.name())),
                }
            }
        }
    }
    let text = table(options, &samples);
    let out = target.join("bench");
    fs::create_dir_all(&out)?;
    fs::write(out.join("store.md"), &text).context("writing the report")?;
    println!("{text}");
    if !failed.is_empty() {
        bail!("{} samples failed: {}", failed.len(), failed.join("; "));
    }
    Ok(())
}

/// One command, with an empty store before and nothing left after.
fn sample(stage: &engines::Stage, work: Work, candidate: Candidate) -> Result<f64> {
    stage.prepare(work, candidate)?;
    run::output(std::process::Command::new("sync").arg("-f").arg(&stage.dir))?;
    let start = Instant::now();
    let done = stage.act(work, candidate);
    let seconds = start.elapsed().as_secs_f64();
    let cleaned = stage.clean(candidate);
    done?;
    cleaned?;
    Ok(seconds)
}

fn table(options: &Options, samples: &Samples) -> String {
    let mut text = format!(
        "Image of {} MiB in {} layers, {} rounds; median seconds (range), and how many times plyfs' time.\n\n\
         | work | command of | seconds | x plyfs |\n|---|---|--:|--:|\n",
        options.mib, options.layers, options.rounds
    );
    for ((work, candidate), seconds) in samples {
        let Some(summary) = Summary::of(seconds) else { continue };
        let ours = samples.get(&(*work, Candidate::Plyfs)).and_then(|ours| Summary::of(ours));
        let ratio = ours.and_then(|ours| summary.against(&ours)).map_or("".to_owned(), |x| format!("{x:.2}"));
        let Summary { median, min, max } = summary;
        // Writing to a String cannot fail.
        let _ok = writeln!(
            text,
            "| {} | {} | {median:.3} ({min:.3}-{max:.3}) | {ratio} |",
            work.name(),
            candidate.name()
        );
    }
    text
}
