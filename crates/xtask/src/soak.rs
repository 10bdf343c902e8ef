//! `cargo xtask soak`: mixed load for a long time with little memory: no growth, no leak, no stale answer.
//!
//! Here lives the run as a whole. [`fence`] limits the server's memory, [`plots`] are the lower files, [`load`] the
//! threads, [`client`] and [`ops`] what they do and compare with their [`model`] ([`content`] knows the data), [`sample`]
//! looks at the server, [`verdict`] judges, [`report`] tells.
//!
//! What counts as a fault:
//!
//! - an answer that is not the model's: data, size, mode, owner, times, links, inode number, listing, target, xattrs,
//!   existence; or an error;
//! - anonymous memory whose median in the last quarter of the load is more than 10 % and 2 MiB above that of the second
//!   (the first is warming up); not judged when the load is short;
//! - descriptors or threads that stay when the mount idles again; a kill for want of memory.
//!
//! The load is made by this process, outside the limit.

mod client;
mod content;
mod fence;
mod load;
mod model;
mod ops;
mod options;
mod plots;
mod report;
mod sample;
mod verdict;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::fence::Fence;
use self::load::{CLIENTS, Load};
use self::options::Options;
pub(crate) use self::options::USAGE;
use self::report::Report;
use self::sample::Sample;
use crate::bench::mounts::{Mounted, Watchdog};
use crate::bench::stage::Stage;
use crate::bench::tree::Part;
use crate::bench::{options::Options as BenchOptions, release_binary, walk};
use crate::run;

/// Read-only layers under the writable branch.
const LAYERS: usize = 8;
/// After this a mount counts as idle.
const IDLE: Duration = Duration::from_secs(10);
/// How long the end of the load may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// `cargo xtask soak ARGS...`
pub(crate) fn run(root: &Path, args: &[String]) -> Result<()> {
    if args.iter().any(|arg| matches!(arg.as_str(), "-h" | "--help")) {
        println!("{USAGE}");
        return Ok(());
    }
    soak(root, &Options::parse(args)?)
}

/// Twenty seconds with a program that is built already.
pub(crate) fn short(root: &Path, plyfs: PathBuf) -> Result<()> {
    soak(root, &Options { plyfs: Some(plyfs), duration: Duration::from_secs(20), ..Options::default() })
}

fn soak(root: &Path, options: &Options) -> Result<()> {
    let target = run::target_dir(root)?;
    let plyfs = release_binary(root, &target, options.plyfs.as_deref())?;
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        for flag in [&stop, &interrupted] {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("watching for signals")?;
        }
    }
    let report = whole(options, &plyfs, &stop)?;
    report.tell(&target.join("soak"))?;
    for fault in report.wrong.iter().chain(&report.faults) {
        println!("fault: {fault}");
    }
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted; the report has what was seen until then");
    }
    if !report.wrong.is_empty() || !report.faults.is_empty() {
        bail!("{} stale or wrong answers, {} other faults", report.wrong.len(), report.faults.len());
    }
    let long = report.seconds >= verdict::MEANINGFUL;
    println!(
        "soak: no stale or wrong answer, nothing leaked, {}",
        if long { "no growth" } else { "growth not judged: too short" }
    );
    Ok(())
}

/// From the empty folder to the empty folder.
fn whole(options: &Options, plyfs: &Path, stop: &AtomicBool) -> Result<Report> {
    let plots = options.plots();
    let stage = Stage::new(&bench_options(options)?, &BTreeSet::from([Part::Source]), progress)?;
    let layers = stage.layers(LAYERS);
    for client in 0..CLIENTS {
        progress(&format!("making the plots of client {client}"));
        for plot in 0..plots {
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let seed = options.seed ^ ((client as u64) << 32) ^ plot as u64;
            plots::make(&layers, &plots::place(client, plot), seed)?;
        }
    }
    // Dropped after the mount: the server must have gone.
    let fence = Fence::new(options.limit);
    println!("limit of {} MiB by {}", options.limit >> 20, fence.name());
    let command = |base: &Path| {
        let mut words = OsString::from("br:");
        words.push(base.join("up"));
        words.push("=rw");
        for layer in &layers {
            words.push(":");
            words.push(layer);
            words.push("=ro");
        }
        let mut command = fence.command(plyfs);
        command.args(["mount", "-o"]).arg(words).arg("soak").arg(base.join("mnt"));
        command
    };
    let mounted = Mounted::by(command, stage.path().join("mount"))?;
    let watchdog = Watchdog::new(&mounted, options.duration + PATIENCE);
    let files = shared(&stage)?;
    let load = Load {
        mount: mounted.dir(),
        layers: layers.clone(),
        plain: stage.plain(),
        files,
        dirs: stage.source_dirs.iter().map(|dir| Path::new("src").join(dir)).collect(),
        seed: options.seed,
        plots,
        duration: options.duration,
        stop,
        operations: AtomicU64::new(0),
        files_read: AtomicU64::new(0),
        hoards: AtomicU64::new(0),
        drops: AtomicU64::new(0),
        pinned: AtomicU64::new(0),
        wrong: Mutex::default(),
    };
    let report = under_load(options, &load, &mounted, &fence);
    drop(watchdog);
    let closed = mounted.close();
    let report = report?;
    closed.map(|()| report)
}

fn bench_options(options: &Options) -> Result<BenchOptions> {
    let files = options.shared_files() as f64;
    // The bench's tree of scale 1 has 50,000 files.
    Ok(BenchOptions {
        dir: options.dir.clone(),
        layers: vec![LAYERS],
        scale: files / 50_000.0,
        ..BenchOptions::short()?
    })
}

/// The files of the shared tree.
fn shared(stage: &Stage) -> Result<Vec<PathBuf>> {
    let plain = stage.plain();
    let mut files = Vec::new();
    for dir in walk::all_dirs(&plain)? {
        for entry in std::fs::read_dir(plain.join(&dir))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(dir.join(entry.file_name()));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The load, with a look at the server now and then.
fn under_load(options: &Options, load: &Load<'_>, mounted: &Mounted, fence: &Fence) -> Result<Report> {
    let [server] = mounted.servers() else { bail!("{} servers, one expected", mounted.servers().len()) };
    thread::sleep(Duration::from_secs(1));
    let before = Sample::now(*server, fence, 0.0, 0)?;
    let mut samples = Vec::new();
    let start = Instant::now();
    let trouble = thread::scope(|scope| {
        load.start(scope);
        let outcome = watch(options, load, |seconds, operations| {
            samples.push(Sample::now(*server, fence, seconds, operations)?);
            Ok(())
        });
        if outcome.is_err() {
            load.stop.store(true, Ordering::Relaxed);
        }
        outcome
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut wrong = load.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    if let Err(error) = trouble {
        wrong.push(format!("the server is gone: {error:#}"));
        bail!("{}", wrong.join("\n"));
    }
    progress("idle");
    thread::sleep(IDLE);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let after = Sample::now(*server, fence, start.elapsed().as_secs_f64(), count(&load.operations))?;
    progress("");
    Ok(Report {
        fence: fence.name().to_owned(),
        limit: options.limit,
        seed: options.seed,
        seconds,
        done: vec![
            ("operations", count(&load.operations)),
            ("shared files compared", count(&load.files_read)),
            ("hoards of 500 descriptors", count(&load.hoards)),
            ("drops of the kernel's caches", count(&load.drops)),
            ("reads of a layer's data through an old descriptor", count(&load.pinned)),
        ],
        quarters: verdict::quarters(&samples),
        faults: verdict::faults(&before, &samples, &after),
        wrong,
        before,
        samples,
        after,
    })
}

/// Takes samples until the time is over.
fn watch(options: &Options, load: &Load<'_>, mut sample: impl FnMut(f64, u64) -> Result<()>) -> Result<()> {
    let every = options.interval();
    let start = Instant::now();
    let mut next = every;
    while start.elapsed() < options.duration && !load.stopped() {
        thread::sleep(Duration::from_millis(100));
        let seconds = start.elapsed();
        if seconds >= next {
            let operations = load.operations.load(Ordering::Relaxed);
            sample(seconds.as_secs_f64(), operations)?;
            let all = options.duration.as_secs();
            progress(&format!("{} of {all} s, {operations} operations", seconds.as_secs()));
            next += every;
        }
    }
    Ok(())
}

/// One line on a terminal that is written over; nothing else.
fn progress(text: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        // A terminal that cannot be written to has nobody watching.
        drop(write!(err, "\r\x1b[K{text}"));
        drop(err.flush());
    }
}
