//! Measuring a layer's contents, which may be hostile: neither depth nor width costs descriptors or stack.

use std::collections::HashSet;
use std::path::Path;

use plyfs_sys::{Dir, Kind, Leaf};

use crate::error::{Doing, Result};
use crate::tree::{Sys, entries, not_gone};

/// The sum of the apparent sizes of all that is no directory, hard links once (Docker's `directory.Size`). What is moved
/// or removed meanwhile is counted or not.
pub(crate) fn apparent_size(path: &Path) -> Result<u64> {
    let top = Dir::open(path).doing("opening", path)?;
    Measure::default().all(top).doing("measuring", path)
}

type Ino = ((u32, u32), u64);

#[derive(Default)]
struct Measure {
    linked: HashSet<Ino>,
    total: u64,
}

/// A directory on the way down to where we are.
struct Level {
    /// Its name in the level above; the top has none.
    name: Option<Leaf>,
    ino: Ino,
    /// Its directories that are not measured yet.
    rest: Vec<Leaf>,
    /// Closed while we are far below.
    dir: Option<Dir>,
}

/// So many of the last levels stay open ...
const NEAR: usize = 32;
/// ... and each of these, to begin from when one in between is opened again.
const MARK: usize = 512;
/// Beyond this depth there are no more of them.
const MARKED: usize = 128 * MARK;

fn stays_open(level: usize, deepest: usize) -> bool {
    level + NEAR > deepest || (level.is_multiple_of(MARK) && level < MARKED)
}

impl Measure {
    fn all(mut self, top: Dir) -> Sys<u64> {
        let mut levels = vec![self.level(None, top)?];
        while let Some(last) = levels.last_mut() {
            let Some(name) = last.rest.pop() else {
                levels.pop();
                continue;
            };
            let Some(dir) = reopen(&mut levels)? else {
                // Moved away: with it goes what was left to measure in it.
                levels.pop();
                continue;
            };
            if let Some(child) = dir_child(dir, &name)? {
                let level = self.level(Some(name), child)?;
                levels.push(level);
                let deepest = levels.len() - 1;
                if let Some(at) = deepest.checked_sub(NEAR).filter(|at| !stays_open(*at, deepest)) {
                    levels[at].dir = None;
                }
            }
        }
        Ok(self.total)
    }

    /// Counts the files of a directory and lists its directories.
    fn level(&mut self, name: Option<Leaf>, dir: Dir) -> Sys<Level> {
        let mut rest = Vec::new();
        for entry in entries(&dir)? {
            let Some(stat) = dir.try_stat(&entry.leaf)? else { continue };
            if stat.kind == Kind::Dir {
                rest.push(entry.leaf);
            } else if stat.nlink < 2 || self.linked.insert(((stat.dev.major, stat.dev.minor), stat.ino)) {
                self.total += stat.size;
            }
        }
        Ok(Level { name, ino: ino(&dir)?, rest, dir: Some(dir) })
    }
}

fn ino(dir: &Dir) -> Sys<Ino> {
    let stat = dir.stat_self()?;
    Ok(((stat.dev.major, stat.dev.minor), stat.ino))
}

fn dir_child(dir: &Dir, name: &Leaf) -> Sys<Option<Dir>> {
    match not_gone(dir.child(name)) {
        Err(error) if error.errno() == plyfs_sys::Errno::NOTDIR => Ok(None),
        child => child,
    }
}

/// The last level's directory, opened again from the nearest open one above it if need be; `None`: it is not there any more.
fn reopen(levels: &mut [Level]) -> Sys<Option<&Dir>> {
    let deepest = levels.len() - 1;
    let mut at = levels.iter().rposition(|level| level.dir.is_some()).unwrap_or(0);
    while at < deepest {
        let (Some(above), Some(name)) = (&levels[at].dir, &levels[at + 1].name) else { return Ok(None) };
        let Some(dir) = dir_child(above, name)? else { return Ok(None) };
        if ino(&dir)? != levels[at + 1].ino {
            return Ok(None);
        }
        if !stays_open(at, deepest) {
            levels[at].dir = None;
        }
        at += 1;
        levels[at].dir = Some(dir);
    }
    Ok(levels[deepest].dir.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_sparse_file_counts_its_length_and_a_linked_one_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::File::create(at("sparse")).unwrap().set_len(1024).unwrap();
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/a"), [0; 10]).unwrap();
        fs::hard_link(at("d/a"), at("d/b")).unwrap();
        assert_eq!(apparent_size(dir.path()).unwrap(), 1034);
    }

    #[test]
    fn depth_costs_no_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let name = Leaf::from_bytes(b"d").unwrap();
        let other = Leaf::from_bytes(b"e").unwrap();
        let mut here = Dir::open(dir.path()).unwrap();
        let depth = 1100;
        for _ in 0..depth {
            here.mkdir(&name, 0o755).unwrap();
            // One on each side of the way down, so that every level is come back to.
            here.mkdir(&other, 0o755).unwrap();
            here.symlink(&Leaf::from_bytes(b"l").unwrap(), std::ffi::OsStr::new("x")).unwrap();
            here = here.child(&name).unwrap();
        }
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let levels = Measure::default().all(Dir::open(dir.path()).unwrap()).unwrap();
        assert_eq!(levels, depth);
        assert!((0..4000).filter(|level| stays_open(*level, 3999)).count() < 64);
        assert!(open() < before + 64);
        crate::tree::remove(dir.path()).unwrap();
    }
}
