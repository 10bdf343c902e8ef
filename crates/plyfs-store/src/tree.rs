//! Trees of a layer's contents: measuring and deleting them. They may be hostile (very deep, very wide, odd modes), and
//! must not be followed anywhere else.

use std::collections::HashSet;
use std::path::Path;

use plyfs_sys::{Dir, Errno, Kind, Leaf, RawEntry, RenameHow, SysError};

use crate::error::{Doing, Result};

/// Deeper directories are moved up before they are deleted, so that depth costs no descriptors.
const DEEP: usize = 64;

/// Deletes a directory and all below it, never across a symlink or into another filesystem's mount (EBUSY there). A
/// missing one is fine; so is another process that deletes it at the same time.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let done = remove_tree(path);
    match done {
        Err(error) if error.errno() == Errno::NOENT => Ok(()),
        done => done.doing("deleting", path),
    }
}

type Sys<T> = plyfs_sys::Result<T>;

fn remove_tree(path: &Path) -> Sys<()> {
    let top = Dir::open(path)?;
    let mut moved = 0;
    while empty(&top, &top, 0, &mut moved)? {}
    match std::fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) => Err(SysError::from_io("rmdir", &error).on(path)),
    }
}

/// Empties `dir`. `true`: something from far below was moved to the top, which has to be emptied again.
fn empty(top: &Dir, dir: &Dir, depth: usize, moved: &mut u64) -> Sys<bool> {
    let mut again = false;
    for entry in entries(dir)? {
        if !is_dir(dir, &entry)? {
            gone_is_fine(dir.unlink(&entry.leaf))?;
        } else if dir.rmdir(&entry.leaf).is_ok() {
        } else if depth < DEEP {
            let Some(child) = open(dir, &entry.leaf)? else { continue };
            again |= empty(top, &child, depth + 1, moved)?;
            gone_is_fine(dir.rmdir(&entry.leaf))?;
        } else {
            *moved += 1;
            // No such name can be in the top directory twice: it is emptied between two rounds.
            let name = Leaf::from_bytes(format!(".plyfs-deep-{}-{moved}", std::process::id()).as_bytes());
            let name = name.ok_or_else(|| SysError::new("rename", Errno::INVAL))?;
            gone_is_fine(dir.rename(&entry.leaf, top, &name, RenameHow::Replace))?;
            again = true;
        }
    }
    Ok(again)
}

fn entries(dir: &Dir) -> Sys<Vec<RawEntry>> {
    let mut found = Vec::new();
    dir.entries(&mut |entry| found.push(entry))?;
    Ok(found)
}

fn is_dir(dir: &Dir, entry: &RawEntry) -> Sys<bool> {
    match entry.kind {
        Some(kind) => Ok(kind == Kind::Dir),
        None => Ok(dir.try_stat(&entry.leaf)?.is_some_and(|stat| stat.kind == Kind::Dir)),
    }
}

fn open(dir: &Dir, leaf: &Leaf) -> Sys<Option<Dir>> {
    match dir.child(leaf) {
        Err(error) if error.errno() == Errno::NOENT => Ok(None),
        child => child.map(Some),
    }
}

fn gone_is_fine(done: Sys<()>) -> Sys<()> {
    match done {
        Err(error) if error.errno() == Errno::NOENT => Ok(()),
        done => done,
    }
}

/// The sum of the apparent sizes of all that is no directory, hard links once (Docker's `directory.Size`).
pub(crate) fn apparent_size(path: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    let top = Dir::open(path).doing("opening", path)?;
    add_sizes(&top, &mut seen, &mut total).doing("measuring", path)?;
    Ok(total)
}

fn add_sizes(dir: &Dir, seen: &mut HashSet<((u32, u32), u64)>, total: &mut u64) -> Sys<()> {
    for entry in entries(dir)? {
        let Some(stat) = dir.try_stat(&entry.leaf)? else { continue };
        if stat.kind == Kind::Dir {
            if let Some(child) = open(dir, &entry.leaf)? {
                add_sizes(&child, seen, total)?;
            }
        } else if stat.nlink < 2 || seen.insert(((stat.dev.major, stat.dev.minor), stat.ino)) {
            *total += stat.size;
        }
    }
    Ok(())
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
    fn deep_and_odd_trees_are_deleted_and_what_they_point_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("canary"), b"x").unwrap();
        let top = dir.path().join("tree");
        fs::create_dir(&top).unwrap();
        let mut here = Dir::open(&top).unwrap();
        let name = Leaf::from_bytes(b"d").unwrap();
        for depth in 0..1000 {
            here.mkdir(&name, if depth % 7 == 0 { 0 } else { 0o755 }).unwrap();
            here.symlink(&Leaf::from_bytes(b"up").unwrap(), std::ffi::OsStr::new("../../../canary")).unwrap();
            here = match here.child(&name) {
                Ok(child) => child,
                // Not root: a directory of mode 0 ends it.
                Err(_) => break,
            };
        }
        drop(here);
        if plyfs_sys::cred::effective_uid() != 0 {
            return;
        }
        remove(&top).unwrap();
        remove(&top).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
