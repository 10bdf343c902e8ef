//! Walking a tree as find(1) and tar(1) do, with what was seen for comparison.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a walk has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Tally {
    /// Objects below the top.
    pub(crate) entries: u64,
    pub(crate) dirs: u64,
    /// Sum of the sizes of the files.
    pub(crate) bytes: u64,
}

/// Lists every directory and stats every name.
pub(crate) fn stat_all(top: &Path) -> Result<Tally> {
    visit(top, |_, _| Ok(()))
}

/// The same, and reads every file to its end; `bytes` are those read.
pub(crate) fn read_all(top: &Path) -> Result<Tally> {
    let mut buffer = vec![0_u8; 64 << 10];
    let mut read = 0;
    let tally = visit(top, |path, meta| {
        if meta.is_file() {
            let mut file = fs::File::open(path)?;
            loop {
                match file.read(&mut buffer)? {
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
    visit(top, |path, meta| {
        if meta.is_dir() {
            dirs.push(path.strip_prefix(top).unwrap_or(path).to_path_buf());
        }
        Ok(())
    })?;
    dirs.sort();
    Ok(dirs)
}

fn visit(top: &Path, mut see: impl FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut todo = vec![top.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
            // fstatat of the name in the open directory.
            let meta = entry.metadata().with_context(|| format!("stat {}", entry.path().display()))?;
            let path = entry.path();
            see(&path, &meta).with_context(|| path.display().to_string())?;
            tally.entries += 1;
            if meta.is_dir() {
                tally.dirs += 1;
                todo.push(path);
            } else if meta.is_file() {
                tally.bytes += meta.len();
            }
        }
    }
    Ok(tally)
}
