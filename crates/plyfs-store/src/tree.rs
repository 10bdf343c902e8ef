//! Trees of a layer's contents: deleting them. They may be hostile (very deep, very wide, odd modes), and must not be
//! followed anywhere else. Not here: measuring them ([`crate::size`]).

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use plyfs_sys::{Dir, Errno, Kind, Leaf, Obj, RawEntry, RenameHow, SysError};

use crate::error::{Doing, Result};

/// Deeper directories are moved up before they are deleted, so that depth costs no descriptors.
const DEEP: usize = 64;

/// How often something may appear in a directory that was just emptied, before we say so.
const PATIENCE: u32 = 1000;

/// Deletes a directory and all below it, never across a symlink or into something mounted there (EBUSY). A missing one
/// is fine; so is another process that deletes it at the same time.
pub(crate) fn remove(path: &Path) -> Result<()> {
    remove_tree(path).doing("deleting", path)
}

pub(crate) type Sys<T> = plyfs_sys::Result<T>;

fn remove_tree(path: &Path) -> Sys<()> {
    let io = |call, error: &std::io::Error| SysError::from_io(call, error).on(path);
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("stat", &error)),
        // Not ours, and not to be followed.
        Ok(found) if !found.is_dir() => {
            return std::fs::remove_file(path).map_err(|error| io("unlink", &error));
        }
        Ok(_) => {}
    }
    if plyfs_sys::cred::effective_uid() != 0 {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path, open).map_err(|error| io("chmod", &error))?;
    }
    let mut removal = Removal { as_root: plyfs_sys::cred::effective_uid() == 0, disturbed: 0 };
    loop {
        let Some(top) = not_gone(Dir::open(path))? else { return Ok(()) };
        if removal.empty(&top, &top, 0)? {
            continue;
        }
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => removal.was_disturbed()?,
            Err(error) => return Err(io("rmdir", &error)),
        }
    }
}

struct Removal {
    as_root: bool,
    disturbed: u32,
}

impl Removal {
    /// Empties `dir`. `true`: something from far below was moved to the top, or appeared; all has to be done again.
    fn empty(&mut self, top: &Dir, dir: &Dir, depth: usize) -> Sys<bool> {
        let mut again = false;
        for entry in entries(dir)? {
            if !is_dir(dir, &entry)? {
                not_gone(dir.unlink(&entry.leaf))?;
            } else if dir.rmdir(&entry.leaf).is_ok() {
            } else if depth < DEEP {
                let Some(child) = self.open(dir, &entry.leaf)? else { continue };
                if self.empty(top, &child, depth + 1)? {
                    again = true;
                }
                match not_gone(dir.rmdir(&entry.leaf)) {
                    Err(error) if error.errno() == Errno::NOTEMPTY => {
                        self.was_disturbed()?;
                        again = true;
                    }
                    done => drop(done?),
                }
            } else {
                not_gone(dir.rename(&entry.leaf, top, &unique()?, RenameHow::Replace))?;
                again = true;
            }
        }
        Ok(again)
    }

    /// For others than root the modes in the tree count, and must not keep its owner from deleting it.
    fn open(&self, dir: &Dir, leaf: &Leaf) -> Sys<Option<Dir>> {
        if !self.as_root {
            not_gone(Obj::At(dir, leaf).chmod(0o700))?;
        }
        match not_gone(dir.child_of_this_mount(leaf)) {
            Err(error) if error.errno() == Errno::XDEV => {
                Err(SysError::new("rmdir: something is mounted there", Errno::BUSY).on(leaf.as_os_str()))
            }
            // Replaced by another kind of thing since it was listed: the next round sees it.
            Err(error) if matches!(error.errno(), Errno::NOTDIR | Errno::LOOP) => Ok(None),
            child => child,
        }
    }

    /// Somebody puts things into what we empty.
    fn was_disturbed(&mut self) -> Sys<()> {
        self.disturbed += 1;
        if self.disturbed > PATIENCE { Err(SysError::new("rmdir", Errno::NOTEMPTY)) } else { Ok(()) }
    }
}

/// A name that nobody else gives.
fn unique() -> Sys<Leaf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!(".plyfs-deep-{}-{number}", std::process::id());
    Leaf::from_bytes(name.as_bytes()).ok_or_else(|| SysError::new("rename", Errno::INVAL))
}

/// Nothing in a directory that is gone.
pub(crate) fn entries(dir: &Dir) -> Sys<Vec<RawEntry>> {
    let mut found = Vec::new();
    not_gone(dir.entries(&mut |entry| found.push(entry)))?;
    Ok(found)
}

fn is_dir(dir: &Dir, entry: &RawEntry) -> Sys<bool> {
    match entry.kind {
        Some(kind) => Ok(kind == Kind::Dir),
        None => Ok(dir.try_stat(&entry.leaf)?.is_some_and(|stat| stat.kind == Kind::Dir)),
    }
}

/// `None`: somebody else was faster.
pub(crate) fn not_gone<T>(done: Sys<T>) -> Sys<Option<T>> {
    match done {
        Err(error) if error.errno() == Errno::NOENT => Ok(None),
        done => done.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn deep_and_odd_trees_are_deleted_and_what_they_point_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("canary"), b"x").unwrap();
        let top = dir.path().join("tree");
        fs::create_dir(&top).unwrap();
        let mut here = Dir::open(&top).unwrap();
        let name = Leaf::from_bytes(b"d").unwrap();
        for depth in 0..400 {
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

    #[test]
    fn several_may_delete_one_tree() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("tree");
        for round in 0..4 {
            for at in (0..90).step_by(6) {
                let deep: std::path::PathBuf = (0..at).map(|_| "d").collect();
                fs::create_dir_all(top.join(format!("{at}")).join(&deep)).unwrap();
                fs::write(top.join(format!("{at}")).join(deep).join("f"), b"x").unwrap();
            }
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(|| remove(&top))).collect();
                for one in all {
                    one.join().unwrap().unwrap_or_else(|error| panic!("round {round}: {error}"));
                }
            });
            assert!(!top.exists(), "round {round}");
        }
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("other")).unwrap();
        fs::write(dir.path().join("other/f"), b"x").unwrap();
        std::os::unix::fs::symlink("other", dir.path().join("tree")).unwrap();
        remove(&dir.path().join("tree")).unwrap();
        assert!(dir.path().join("other/f").exists());
        assert!(dir.path().join("tree").symlink_metadata().is_err());
    }
}
