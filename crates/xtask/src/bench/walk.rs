//! Walking a tree as find(1) and tar(1) do, with what was seen for comparison.
//!
//! By system calls of our own: the standard library's stat asks for the birth time as well, which FUSE cannot answer from
//! the kernel's cache. What that costs is a row of its own.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};

/// What a walk has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Tally {
    /// Objects below the top.
    pub(crate) entries: u64,
    pub(crate) dirs: u64,
    /// Sum of the sizes of the files.
    pub(crate) bytes: u64,
}

/// How names are asked about.
#[derive(Debug, Clone, Copy)]
enum How {
    /// fstatat, as find, tar and git do.
    Stat,
    /// statx with the birth time, as Rust's standard library and stat(1) do.
    Statx,
}

/// Lists every directory and stats every name.
pub(crate) fn stat_all(top: &Path) -> Result<Tally> {
    visit(top, How::Stat, |_| Ok(()))
}

/// The same, with birth times.
pub(crate) fn statx_all(top: &Path) -> Result<Tally> {
    visit(top, How::Statx, |_| Ok(()))
}

/// The same as [`stat_all`], and reads every file to its end; `bytes` are those read.
pub(crate) fn read_all(top: &Path) -> Result<Tally> {
    let mut buffer = vec![0_u8; 64 << 10];
    let mut read = 0;
    let tally = visit(top, How::Stat, |seen| {
        if seen.kind == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(seen.dir, seen.name, flags, Mode::empty())?;
            loop {
                match rustix::io::read(&file, &mut buffer)? {
                    0 => break,
                    n => read += n as u64,
                }
            }
        }
        Ok(())
    })?;
    Ok(Tally { bytes: read, ..tally })
}

/// The directories below `top`, relative to it.
pub(crate) fn all_dirs(top: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    visit(top, How::Stat, |seen| {
        if seen.kind == FileType::Directory {
            let path = seen.path();
            dirs.push(path.strip_prefix(top).unwrap_or(&path).to_path_buf());
        }
        Ok(())
    })?;
    dirs.sort();
    Ok(dirs)
}

/// One object met.
struct Seen<'a> {
    parent: &'a Path,
    dir: &'a OwnedFd,
    name: &'a CStr,
    kind: FileType,
}

impl Seen<'_> {
    fn path(&self) -> PathBuf {
        self.parent.join(OsStr::from_bytes(self.name.to_bytes()))
    }
}

fn visit(top: &Path, how: How, mut see: impl FnMut(&Seen<'_>) -> Result<()>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut todo = vec![top.to_path_buf()];
    while let Some(parent) = todo.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&parent, flags, Mode::empty());
        let dir = open().with_context(|| format!("opening {}", parent.display()))?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry.with_context(|| format!("listing {}", parent.display()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut seen = Seen { parent: &parent, dir: &dir, name, kind: FileType::Unknown };
            let (kind, size) =
                ask(how, &dir, name).with_context(|| format!("stat {}", seen.path().display()))?;
            seen.kind = kind;
            see(&seen).with_context(|| seen.path().display().to_string())?;
            tally.entries += 1;
            if kind == FileType::Directory {
                tally.dirs += 1;
                todo.push(seen.path());
            } else if kind == FileType::RegularFile {
                tally.bytes += size;
            }
        }
    }
    Ok(tally)
}

/// Kind and size.
fn ask(how: How, dir: &OwnedFd, name: &CStr) -> rustix::io::Result<(FileType, u64)> {
    match how {
        How::Stat => {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((FileType::from_raw_mode(stat.st_mode), stat.st_size.cast_unsigned()))
        }
        How::Statx => {
            let want = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
            let stat = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, want)?;
            Ok((FileType::from_raw_mode(stat.stx_mode.into()), stat.stx_size))
        }
    }
}
