//! `cargo xtask tidy`: the house rules that no compiler knows.
//!
//! Each rule is one function that returns complaints; a complaint names the file, the line and what to do.

mod docs;
mod edges;

use std::path::Path;

use anyhow::{Result, bail};

use crate::source::{self, Source, bare, has_word};

/// Code lines a file may have (comments, blanks and test modules not counted).
const MAX_CODE_LINES: usize = 400;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Third-party packages allowed in Cargo.lock, so that growth is a decision. A good third of them are for other systems
/// than Linux; HTTPS (ureq, rustls, the system's certificates) alone brought some 60.
const MAX_DEPENDENCIES: usize = 230;

/// Crates whose test code may speak of reserved names, raw protocol and so on without restraint.
const TESTING: &[&str] = &["plyfs-tests", "xtask", "fuzz"];

/// Checks everything; prints all complaints.
pub(crate) fn run(root: &Path) -> Result<()> {
    let sources = source::all(root)?;
    let mut complaints = Vec::new();
    for source in &sources {
        complaints.extend(header(source));
        complaints.extend(length(source));
        complaints.extend(ascii(source));
        complaints.extend(words(source));
        complaints.extend(reserved_names(source));
    }
    complaints.extend(stale_exceptions(&sources));
    complaints.extend(edges::check(root)?);
    complaints.extend(dependency_count(root)?);
    complaints.extend(docs::semantics(root, &sources)?);
    complaints.extend(docs::exit_codes(root, &sources)?);
    for complaint in &complaints {
        println!("tidy: {complaint}");
    }
    if complaints.is_empty() {
        println!("tidy: {} files in order", sources.len());
        return Ok(());
    }
    bail!("tidy: {} complaints", complaints.len())
}

/// Every module begins with its `//!` sentence.
fn header(source: &Source) -> Option<String> {
    // A fuzz target and an integration test are modules as well.
    let first = source.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"))?;
    (!first.starts_with("//!"))
        .then(|| format!("{}:1: begin with `//!` and say what lives here", source.path.display()))
}

fn length(source: &Source) -> Option<String> {
    let lines = source.code().iter().filter(|line| !line.in_test).count();
    let listed = LONG_FILES.iter().any(|(path, _)| Path::new(path) == source.path);
    (lines > MAX_CODE_LINES && !listed).then(|| {
        format!(
            "{}: {lines} code lines, more than {MAX_CODE_LINES}: cut it, or list it with a reason in xtask's tidy.rs",
            source.path.display()
        )
    })
}

fn stale_exceptions(sources: &[Source]) -> Vec<String> {
    let needed = |path: &str| {
        sources.iter().any(|source| {
            source.path == Path::new(path)
                && source.code().iter().filter(|line| !line.in_test).count() > MAX_CODE_LINES
        })
    };
    LONG_FILES
        .iter()
        .filter(|(path, _)| !needed(path))
        .map(|(path, _)| format!("{path}: listed as long in xtask's tidy.rs, but is not: take it off"))
        .collect()
}

fn ascii(source: &Source) -> Vec<String> {
    let bad = source.text.lines().enumerate().filter(|(_, line)| !line.is_ascii());
    bad.map(|(at, _)| format!("{}:{}: not ASCII; write an escape", source.path.display(), at + 1)).collect()
}

/// Words that only some crates may use.
fn words(source: &Source) -> Vec<String> {
    let krate = source.krate();
    let mut complaints = Vec::new();
    let mut say = |number: usize, text: &str| {
        complaints.push(format!("{}:{number}: {text}", source.path.display()));
    };
    for line in source.code() {
        let code = bare(line.text);
        if has_word(&code, "unsafe") && !matches!(krate, "plyfs-sys" | "xtask") {
            say(line.number, "`unsafe` belongs into plyfs-sys");
        }
        if has_word(&code, "RawFd") && krate != "plyfs-sys" {
            say(line.number, "`RawFd` stays inside plyfs-sys; pass a BorrowedFd or an OwnedFd");
        }
        let speaks_wire = matches!(krate, "plyfs-wire" | "plyfs-fuse" | "plyfs") || TESTING.contains(&krate);
        if code.contains("plyfs_wire::") && !speaks_wire {
            say(line.number, "the FUSE protocol is known to plyfs-fuse and plyfs alone");
        }
    }
    complaints
}

/// The reserved words of a branch are spelled in one file.
fn reserved_names(source: &Source) -> Vec<String> {
    // Written apart so that this file does not trip over itself.
    let word = concat!("\"", ".wh.");
    if TESTING.contains(&source.krate())
        || source.is_test()
        || source.path == Path::new("crates/plyfs-union/src/names.rs")
    {
        return Vec::new();
    }
    let lines = source.code();
    let found = lines.iter().filter(|line| !line.in_test && line.text.contains(word));
    found
        .map(|line| {
            format!(
                "{}:{}: a reserved name is spelled outside plyfs-union/src/names.rs",
                source.path.display(),
                line.number
            )
        })
        .collect()
}

fn dependency_count(root: &Path) -> Result<Option<String>> {
    let lock = std::fs::read_to_string(root.join("Cargo.lock"))?;
    let count = lock.lines().filter(|line| line.starts_with("source = ")).count();
    Ok((count > MAX_DEPENDENCIES).then(|| {
        format!("Cargo.lock: {count} third-party packages, more than {MAX_DEPENDENCIES}: drop some, or raise the cap and say why")
    }))
}
