//! `cargo xtask test`: every check, cheapest first, then the suites on real mounts.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::leftovers::Before;
use crate::run::{self, Steps};
use crate::{bench, soak, storebench, tidy, tools};

/// Runs everything; `quick` stops before the outside programs.
pub(crate) fn run(root: &Path, quick: bool) -> Result<()> {
    let mut steps = Steps::default();
    let before = Before::now();
    papers(&mut steps, root);
    licences(&mut steps, root);
    steps.step("unit tests", || {
        let mut test = run::cargo(root);
        run::run(test.args(["test", "--locked", "--workspace", "--exclude", "plyfs-tests", "--quiet"]))
    });
    packages(&mut steps);
    fuzz(&mut steps, root);
    let built = steps.step("release build", || {
        run::run(run::cargo(root).args(["build", "--locked", "--release", "--package", "plyfs"]))?;
        // Built here so that a suite's time is its own.
        run::run(run::cargo(root).args([
            "test",
            "--locked",
            "--release",
            "--package",
            "plyfs-tests",
            "--no-run",
        ]))
    });
    if built {
        suite(&mut steps, root, "model", "");
        suite(&mut steps, root, "mounted", "");
        for name in ["store", "images", "containers"] {
            suite(&mut steps, root, name, "");
        }
        if quick {
            println!("\n== matrix, bench, foreign: left out by --quick");
        } else {
            matrix(&mut steps, root);
            // Whether it works; its times are no gate.
            steps.step("bench, short form", || {
                bench::short(root, run::target_dir(root)?.join("release/plyfs"))
            });
            steps.step("bench-store, short form", || {
                storebench::short(root, run::target_dir(root)?.join("release/plyfs"))
            });
            // Growth of memory is not judged in so short a time; answers and leaks are.
            steps
                .step("soak, short form", || soak::short(root, run::target_dir(root)?.join("release/plyfs")));
            if steps.step("foreign: programs", || tools::foreign(root)) {
                suite(&mut steps, root, "foreign", "");
                suite(&mut steps, root, "foreign", NOTHING);
            }
        }
    }
    steps.step("nothing left behind", || before.compare());
    steps.finish()
}

fn papers(steps: &mut Steps, root: &Path) {
    steps.step("format", || run::run(run::cargo(root).args(["fmt", "--all", "--check"])));
    steps.step("clippy", || {
        let mut clippy = run::cargo(root);
        run::run(clippy.args([
            "clippy",
            "--locked",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    });
    steps.step("tidy", || tidy::run(root));
    steps.step("rustdoc", || {
        let mut doc = run::cargo(root);
        doc.args(["doc", "--locked", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
        run::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
}

fn licences(steps: &mut Steps, root: &Path) {
    steps.step("licences and bans", || {
        let deny = tools::crate_program(root, "cargo-deny", "cargo-deny")?;
        // No `advisories`: their database is fetched from the network at each run, and a check that depends
        // on the day it runs is no test of this tree.
        println!("cargo-deny: bans, licenses, sources (not advisories: their database needs the network)");
        run::run(Command::new(deny).current_dir(root).args([
            "--log-level",
            "error",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))
    });
}

/// Fuzz targets, how long each runs, and libFuzzer's words of each (fuzz/README.md has the same commands).
const FUZZ: [(&str, &str, &[&str]); 3] = [
    ("spec_grammars", "60", &["-timeout=5", "-max_len=2048", "-dict=fuzz/spec.dict"]),
    ("unpack", "60", &["-timeout=10", "-max_len=16384"]),
    ("image_index", "20", &["-timeout=5", "-max_len=65536"]),
];

fn fuzz(steps: &mut Steps, root: &Path) {
    for (target, seconds, words) in FUZZ {
        steps.step(&format!("fuzz: {target}"), || {
            let dir = root.join("fuzz");
            let (corpus, seeds) = (dir.join("corpus").join(target), dir.join("seeds").join(target));
            let artifacts = dir.join("artifacts");
            std::fs::create_dir_all(&corpus)?;
            std::fs::create_dir_all(&artifacts)?;
            let host = run::output(Command::new("rustc").args(["--print", "host-tuple"]))?;
            let mut command = run::cargo(root);
            command.args(["run", "--locked", "--quiet", "--release", "--config", "fuzz/instrument.toml"]);
            command.args(["--manifest-path", "fuzz/Cargo.toml", "--target", host.trim()]);
            command.args(["--bin", target, "--"]).arg(format!("-max_total_time={seconds}"));
            command.args(words).args(["-verbosity=0", "-print_funcs=0"]);
            command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
            if seeds.is_dir() {
                command.arg(seeds);
            }
            let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
            command.env("PLYFS_SCRATCH", scratch.path().join("layers"));
            // Those that make their seeds put them there.
            run::run(command.env("PLYFS_SEEDS", &corpus))
        });
    }
}

fn packages(steps: &mut Steps) {
    let missing = tools::missing_packages();
    if missing.is_empty() {
        return;
    }
    if run::is_root() && run::have("apt-get") {
        steps.step("Debian packages", || tools::apt(&missing));
    } else {
        steps.skip("Debian packages", &format!("not root, or no apt-get; missing: {}", missing.join(" ")));
    }
}

/// Every means of speed off.
const NOTHING: &str = "nopassthrough,readdirplus=never,nodircache,timeout=0,metacopy=off";

/// Switches that the suites must not notice, one at a time and then all; `io_uring` comes after them.
const SWITCHES: [&str; 7] = [
    "nopassthrough",
    "readdirplus=never",
    "readdirplus=auto",
    "nodircache",
    "timeout=0",
    "metacopy=off",
    NOTHING,
];

/// The mounted suite again with each means of speed off.
fn matrix(steps: &mut Steps, root: &Path) {
    for switches in SWITCHES {
        suite(steps, root, "mounted", switches);
    }
    let Some(_on) = IoUring::on() else {
        return steps.skip("suite mounted, io_uring", "needs root and Linux 6.14 with fuse's enable_uring");
    };
    suite(steps, root, "mounted", "io_uring");
}

/// The kernel's switch for FUSE over io_uring, on while this lives, and then as it was.
struct IoUring {
    before: String,
}

impl IoUring {
    const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

    fn on() -> Option<IoUring> {
        let before = std::fs::read_to_string(Self::SWITCH).ok()?;
        std::fs::write(Self::SWITCH, "Y").ok()?;
        Some(IoUring { before })
    }
}

impl Drop for IoUring {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(Self::SWITCH, self.before.trim()) {
            println!("{} stays on: {error}", Self::SWITCH);
        }
    }
}

/// Runs one suite of plyfs-tests against the release binary, with `switches` added to every mount's options.
fn suite(steps: &mut Steps, root: &Path, name: &str, switches: &str) {
    if !run::is_root() {
        // The suites say themselves which cases an ordinary user cannot run.
        println!("\nnot root: cases of {name} that need root skip themselves and say so");
    }
    let title =
        if switches.is_empty() { format!("suite {name}") } else { format!("suite {name}, {switches}") };
    steps.step(&title, || {
        let binary = run::target_dir(root)?.join("release/plyfs");
        if !binary.is_file() {
            bail!("{} is not there", binary.display());
        }
        let mut test = run::cargo(root);
        test.args(["test", "--locked", "--release", "--package", "plyfs-tests", "--test", name]);
        test.args(["--", "--show-output"]);
        run::run(
            test.env("PLYFS_BIN", binary)
                .env("PLYFS_SWITCHES", switches)
                .env("PLYFS_CACHE", root.join("target/cache"))
                .env("PLYFS_TOOLS", tools::dir(root).join("bin")),
        )
    });
}
