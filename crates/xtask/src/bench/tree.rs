//! The trees that the works run on: deterministic, made once as a plain directory, then spread over layers.
//!
//! `src` looks like a source tree (directories of 14 files, five levels; files of 0 to 32 KiB, half of them under 2 KiB)
//! and can be a git repository; `grove` holds what is copied up; `code` is a C program; `micro` has one directory per
//! client thread, merged from *all* layers; `wide` is one directory with many names.
//!
//! All files carry one old time: git must find the times of its index in every copy, and no file may be "racily clean".

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::sizes::Sizes;
use crate::run;

/// Parts of the tree; each work names those it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Source,
    /// `.git` in `src`.
    Git,
    Grove,
    Code,
    Micro,
    Wide,
}

impl Part {
    /// Its directory.
    pub(crate) fn dir(self) -> &'static str {
        match self {
            Part::Source | Part::Git => "src",
            Part::Grove => "grove",
            Part::Code => "code",
            Part::Micro => "micro",
            Part::Wide => "wide",
        }
    }
}

/// The time of every file: 2020-01-01.
pub(crate) fn old() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800)
}

/// Pseudo-random numbers (splitmix64): the same in every run.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Makes `parts` below `dir`; `threads` directories for the micro operations.
pub(crate) fn make(dir: &Path, parts: &[Part], sizes: &Sizes, threads: usize) -> Result<()> {
    let has = |part: Part| parts.contains(&part);
    if has(Part::Source) || has(Part::Git) {
        source(&dir.join("src"), sizes)?;
    }
    if has(Part::Git) {
        git(&dir.join("src"))?;
    }
    if has(Part::Grove) {
        grove(&dir.join("grove"), sizes)?;
    }
    if has(Part::Code) {
        code(&dir.join("code"), sizes)?;
    }
    if has(Part::Micro) {
        micro(&dir.join("micro"), sizes, threads)?;
    }
    if has(Part::Wide) {
        let wide = dir.join("wide");
        fs::create_dir_all(&wide)?;
        (0..sizes.wide_names).try_for_each(|i| put(&wide.join(format!("name-{i:05}")), b""))?;
    }
    Ok(())
}

/// A file of the trees, with its old time.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    file.write_all(bytes)?;
    file.set_times(FileTimes::new().set_modified(old()).set_accessed(old()))?;
    Ok(())
}

/// Text of `size` bytes that says which file it is in; compresses well, so that a git pack stays small.
pub(crate) fn text(number: usize, size: usize) -> Vec<u8> {
    let line = format!("/* {number:06} */ int f{number:06}(int x) {{ return x * {number}; }}\n");
    line.bytes().cycle().take(size).collect()
}

/// The directories of a tree of `files` files, parents first, relative: a heap of seven children each.
pub(crate) fn dirs(files: usize) -> Vec<String> {
    let count = (files / 14).max(1);
    let mut dirs: Vec<String> = Vec::with_capacity(count);
    for i in 0..count {
        let path = match i.checked_sub(1) {
            None => "d".to_owned(),
            Some(before) => format!("{}/d{i:04}", dirs[before / 7]),
        };
        dirs.push(path);
    }
    dirs
}

fn source(dir: &Path, sizes: &Sizes) -> Result<()> {
    let dirs = dirs(sizes.tree_files);
    for name in &dirs {
        fs::create_dir_all(dir.join(name))?;
    }
    let mut dice = Dice(1);
    for i in 0..sizes.tree_files {
        let parent = &dirs[i % dirs.len()];
        let part = dice.below(1 << 20) as f64 / f64::from(1 << 20);
        let size = (part.powi(4) * 32_768.0) as usize;
        put(&dir.join(parent).join(format!("f{i:05}.c")), &text(i, size))?;
    }
    Ok(())
}

/// `git` in `dir`, free of the user's and the system's settings.
pub(crate) fn git_command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
    for (role, name) in [("AUTHOR", "bench"), ("COMMITTER", "bench")] {
        command.env(format!("GIT_{role}_NAME"), name).env(format!("GIT_{role}_EMAIL"), "bench@localhost");
        command.env(format!("GIT_{role}_DATE"), "2020-01-02T00:00:00Z");
    }
    command
}

fn git(dir: &Path) -> Result<()> {
    let git = |args: &[&str]| run::output(git_command(dir).args(args)).map(drop);
    git(&["init", "--quiet", "--initial-branch=main"])?;
    // Inode numbers and change times differ between candidates and are no reason to read a file again.
    git(&["config", "core.checkStat", "minimal"])?;
    git(&["config", "core.trustctime", "false"])?;
    git(&["config", "core.compression", "1"])?;
    git(&["config", "gc.auto", "0"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message=the tree"])?;
    git(&["repack", "-adq", "--window=0"])?;
    git(&["prune-packed", "--quiet"])?;
    git(&["status", "--porcelain"])
}

fn grove(dir: &Path, sizes: &Sizes) -> Result<()> {
    fs::create_dir_all(dir.join("small"))?;
    for i in 0..sizes.small_files {
        put(&dir.join(format!("small/s{i:04}")), &text(i, 1_000 + (i % 8) * 1_000))?;
    }
    let path = dir.join("big");
    let mut big = File::create(&path)?;
    let block = text(7, 1 << 20);
    let mut left = sizes.big_bytes;
    while left > 0 {
        let part = left.min(block.len() as u64);
        big.write_all(&block[..part as usize])?;
        left -= part;
    }
    Ok(())
}

/// Every file has a few functions, all of them called by `main`.
fn code(dir: &Path, sizes: &Sizes) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut header = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n".to_owned();
    let mut main = "#include \"all.h\"\nint main(void) { int sum = 0;\n".to_owned();
    for i in 0..sizes.c_files {
        let mut file = "#include \"all.h\"\n".to_owned();
        for k in 0..20 {
            header += &format!("int f{i}_{k}(int x);\n");
            main += &format!("sum += f{i}_{k}(1);\n");
            file += &format!(
                "int f{i}_{k}(int x) {{ int a[8] = {{0}}; for (int j = 0; j < 8; j++) a[j] = j * x; return a[7] - 6; }}\n"
            );
        }
        put(&dir.join(format!("c{i:02}.c")), file.as_bytes())?;
    }
    main += "printf(\"%d\\n\", sum); return 0; }\n";
    put(&dir.join("all.h"), header.as_bytes())?;
    put(&dir.join("main.c"), main.as_bytes())
}

fn micro(dir: &Path, sizes: &Sizes, threads: usize) -> Result<()> {
    let block = text(3, 4096);
    for thread in 0..threads {
        let dir = dir.join(format!("t{thread}"));
        fs::create_dir_all(&dir)?;
        for i in 0..sizes.micro_files {
            put(&dir.join(format!("l{i:05}")), &block)?;
            std::os::unix::fs::symlink("target", dir.join(format!("s{i:05}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_after_their_parents() {
        let dirs = dirs(1_400);
        assert_eq!(dirs.len(), 100);
        for (i, dir) in dirs.iter().enumerate().skip(1) {
            let parent = dir.rsplit_once('/').unwrap().0;
            assert!(dirs[..i].iter().any(|other| other == parent));
        }
    }

    #[test]
    fn texts_have_their_size() {
        assert!(text(1, 0).is_empty());
        assert_eq!(text(1, 5_000).len(), 5_000);
    }
}
