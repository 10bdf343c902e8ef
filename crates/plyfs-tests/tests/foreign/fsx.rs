//! fsx: 200,000 random operations on one file, with mappings and without, on one and on two writable branches.

use std::path::Path;
use std::process::Command;

use plyfs_tests::mount::{PATIENCE, Watchdog};
use plyfs_tests::random::{number, seed};
use plyfs_tests::{Mount, Scratch, run};

use crate::tool;

const OPERATIONS: u64 = 200_000;
/// fsx never unmaps what it mapped, and the kernel walks all of it at every truncation: new processes keep it short.
const ROUNDS: u64 = 10;

/// fsx's weights: everything that a file can be asked, mappings where wanted. Not posix_fallocate: fsx now and then
/// asks for zero bytes, which every filesystem refuses, and takes that for a failure (`s31_...` has it instead).
fn config(mapped: bool) -> String {
    let (read, write, drop_pages) = if mapped { (10, 10, 1) } else { (0, 0, 0) };
    format!(
        "flen = 262144\nnomsyncafterwrite = true\n[weights]\nclose_open = 1\nread = 10\nwrite = 10\nmapread = {read}\nmapwrite = {write}\n\
         invalidate = {drop_pages}\ntruncate = 2\nfsync = 0.1\nfdatasync = 0.1\nposix_fallocate = 0\npunch_hole = 2\n\
         sendfile = 1\nposix_fadvise = 1\ncopy_file_range = 2\n"
    )
}

fn exercise(words: &[&str], mapped: bool, from_below: bool) {
    let Some(program) = tool("fsx") else { return };
    let scratch = Scratch::new();
    if from_below {
        // fsx truncates it at the start: the first operation copies up.
        scratch.file("low/file", vec![b'x'; 100_000]);
    }
    let mount = Mount::stack(&scratch, words);
    let watchdog = Watchdog::within(&mount, PATIENCE * 15);
    let file = scratch.file("fsx.toml", config(mapped));
    let operations = (number("PLYFS_FSX_OPERATIONS", OPERATIONS) / ROUNDS).to_string();
    for round in 0..ROUNDS {
        let seed = (seed() + round).to_string();
        let mut command = Command::new(&program);
        command.arg("-q").args(["-N", &operations, "-S", &seed]).arg("-f").arg(&file);
        command.arg("-P").arg(scratch.root()).arg(mount.path("file"));
        let ran = run(&mut command);
        assert_eq!(ran.code, 0, "seed {seed}: {}\n{}", ran.out, tail(&ran.err));
    }
    watchdog.stop();
    same_in_branch(&scratch, &mount);
}

/// What the union shows at the end is what the branch has.
fn same_in_branch(scratch: &Scratch, mount: &Mount) {
    let shown = std::fs::read(mount.path("file")).unwrap();
    let branch: Vec<_> = ["top/file", "second/file"]
        .map(|name| scratch.path(name))
        .into_iter()
        .filter(|p| p.exists())
        .collect();
    assert_eq!(branch.len(), 1);
    assert!(shown == std::fs::read(Path::new(&branch[0])).unwrap(), "the branch has other content");
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[test]
fn one_writable_branch_with_mappings() {
    exercise(&["top", "low"], true, true);
}

#[test]
fn one_writable_branch_without_mappings() {
    exercise(&["top", "low"], false, true);
}

#[test]
fn two_writable_branches_with_mappings() {
    exercise(&["top", "second=rw", "low"], true, true);
}

#[test]
fn two_writable_branches_without_mappings() {
    exercise(&["top", "second=rw", "low"], false, false);
}
