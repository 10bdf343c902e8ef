//! Running programs, and timing the steps of a task.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end, output passed through; an error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("+ {}", shown(command));
    let status = command.status().with_context(|| format!("starting {}", shown(command)))?;
    if !status.success() {
        bail!("{} : {status}", shown(command));
    }
    Ok(())
}

/// Runs `command` and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {}", shown(command)))?;
    if !out.status.success() {
        bail!("{} : {}", shown(command), out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// `cargo` as this task was started with, in the repository.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // These describe xtask itself; a nested cargo must not inherit them.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir(root: &Path) -> Result<PathBuf> {
    let text = output(cargo(root).args(["metadata", "--format-version=1", "--no-deps"]))?;
    let value: serde_json::Value = serde_json::from_str(&text)?;
    match value["target_directory"].as_str() {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => bail!("cargo metadata names no target directory"),
    }
}

/// Whether a program is found in PATH (or in the sbin folders, which an ordinary user's PATH may lack).
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.into_iter().any(|dir| dir.join(program).is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

/// The steps of a task: what took how long, what failed, what was left out.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, Outcome)>,
    skipped: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
}

impl Steps {
    /// Runs one step. The task goes on after a failed one, so that one run tells everything.
    pub(crate) fn step(&mut self, name: &str, body: impl FnOnce() -> Result<()>) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = match body() {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        let took = start.elapsed();
        match &outcome {
            Outcome::Passed => println!("== {name}: passed, {:.1} s", took.as_secs_f64()),
            Outcome::Failed(why) => println!("== {name}: FAILED, {:.1} s: {why}", took.as_secs_f64()),
        }
        let passed = outcome == Outcome::Passed;
        self.done.push((name.to_owned(), took, outcome));
        passed
    }

    /// Notes what is left out; under CI=true that is a failure.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        println!("\n== {what}: SKIPPED: {why}");
        let text = format!("{what}: {why}");
        if ci() {
            self.done.push((what.to_owned(), Duration::ZERO, Outcome::Failed(format!("skipped: {why}"))));
        }
        self.skipped.push(text);
    }

    /// Prints the table and the last line.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\n{:<44} {:>9}", "step", "seconds");
        let mut failed = Vec::new();
        let mut total = Duration::ZERO;
        for (name, took, outcome) in &self.done {
            let mark = if *outcome == Outcome::Passed { "" } else { "  FAILED" };
            println!("{name:<44} {:>9.1}{mark}", took.as_secs_f64());
            total += *took;
            if let Outcome::Failed(_) = outcome {
                failed.push(name.as_str());
            }
        }
        println!("{:<44} {:>9.1}", "sum", total.as_secs_f64());
        for text in &self.skipped {
            println!("SKIPPED: {text}");
        }
        if !failed.is_empty() {
            println!("FAILED: {}", failed.join(", "));
            bail!("{} of {} steps failed", failed.len(), self.done.len());
        }
        let skipped = match self.skipped.len() {
            0 => "nothing skipped".to_owned(),
            n => format!("{n} skipped"),
        };
        println!("PASSED: {} steps, {skipped}", self.done.len());
        Ok(())
    }
}

/// Whether nothing may be skipped.
pub(crate) fn ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}
