//! `Root`: a branch's root directory, held open or found again when it is needed.
//!
//! A stack of 120 layers would hold 120 descriptors for nothing while nobody asks. So the read-only branches that lie on
//! one mount are found again through one descriptor: of a private copy of that mount (no mount below it is seen), else
//! of the directory that they have in common. By file handle where that is permitted (root): then a branch may be moved
//! while it is mounted; else by path. What is found must be the same directory as at mount, by device and inode.
//!
//! Held are: writable branches, branches alone on their mount, and all of them if they are few. Not here: keeping a root
//! open for a while (`anchor.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use plyfs_sys::handle::Handle;
use plyfs_sys::{Dir, Errno, Stat, SysError};

use crate::branch::Branch;
use crate::error::{Error, Result};

/// So many branches cost nothing worth saving.
const FEW: usize = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Root {
    held: RwLock<Option<Arc<Dir>>>,
    again: Option<Again>,
    /// As it was when the branch was opened.
    pub(crate) stat: Stat,
}

/// How to find it again.
#[derive(Debug)]
struct Again {
    base: Arc<Base>,
    by: By,
}

/// What several roots are found through.
#[derive(Debug)]
struct Base {
    dir: Dir,
    /// Where that is; what comes to be mounted between here and a branch is in the way.
    path: PathBuf,
    private: bool,
}

#[derive(Debug)]
enum By {
    Handle(Handle),
    Path(PathBuf),
}

impl Root {
    /// Held, for now.
    pub(crate) fn new(dir: Dir, stat: Stat) -> Root {
        Root { held: RwLock::new(Some(Arc::new(dir))), again: None, stat }
    }

    /// The directory.
    pub(crate) fn get(&self) -> plyfs_sys::Result<Arc<Dir>> {
        if let Some(held) = &*self.held.read() {
            return Ok(held.clone());
        }
        match &self.again {
            Some(again) => self.find(again).map(Arc::new),
            None => Err(SysError::new("open", Errno::STALE)),
        }
    }

    fn find(&self, again: &Again) -> plyfs_sys::Result<Dir> {
        let dir = match &again.by {
            By::Handle(handle) => again.base.dir.open_handle(handle)?,
            By::Path(path) => again.base.dir.beneath(path)?,
        };
        let stat = dir.stat_self()?;
        if (stat.dev, stat.ino) == (self.stat.dev, self.stat.ino) {
            Ok(dir)
        } else {
            Err(SysError::new("open", Errno::STALE))
        }
    }

    /// Closes it if it can be found again.
    pub(crate) fn let_go(&self) {
        let sure = match &self.again {
            Some(again) => matches!(again.by, By::Handle(_)) || self.find(again).is_ok(),
            None => false,
        };
        if sure {
            *self.held.write() = None;
        }
    }

    /// Something is about to be mounted on `target`: held from now on if the way to it leads through there.
    pub(crate) fn hold_behind(&self, path: &Path, target: &Path) -> plyfs_sys::Result<()> {
        let Some(again) = &self.again else { return Ok(()) };
        let through = path.starts_with(target) && target.starts_with(&again.base.path);
        if through && matches!(again.by, By::Path(_)) {
            let dir = self.get()?;
            *self.held.write() = Some(dir);
        }
        Ok(())
    }
}

impl Branch {
    /// The root directory. Where it is not held and is gone, ESTALE.
    pub(crate) fn root(&self) -> Result<Arc<Dir>> {
        self.root.get().map_err(|e| match e.errno() {
            Errno::STALE | Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP => Error::Branch {
                path: self.path.clone(),
                why: format!("its directory is not there any more ({e}); put it back, or unmount"),
                errno: Some(Errno::STALE.raw_os_error()),
            },
            _ => self.blame(e),
        })
    }
}

/// Decides how each branch is reached from now on, and makes the views private that can be.
pub(crate) fn settle(branches: &mut [Branch]) -> Result<()> {
    let mut mounts: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    if branches.len() > FEW {
        for (at, branch) in branches.iter().enumerate().filter(|(_, branch)| !branch.writable) {
            mounts.entry(branch.root.stat.mount).or_default().push(at);
        }
    }
    for together in mounts.values().filter(|together| together.len() > 1) {
        let paths = together.iter().map(|&at| branches[at].path.as_path());
        let Some(base) = base(&common(paths), branches[together[0]].root.stat.mount) else { continue };
        let by_handle = handles_work(&base, &branches[together[0]]);
        for &at in together {
            let branch = &mut branches[at];
            branch.root.again = again(&base, branch, by_handle)?;
            branch.private = base.private && branch.root.again.is_some();
        }
    }
    for branch in branches.iter_mut().filter(|branch| branch.root.again.is_none()) {
        // Without the privilege the plain directory serves; what is mounted below it then shows as empty.
        if let Ok(private) = branch.root.get()?.without_submounts() {
            branch.root = Root::new(private, branch.root.stat);
            branch.private = true;
        }
    }
    Ok(())
}

fn again(base: &Arc<Base>, branch: &Branch, by_handle: bool) -> Result<Option<Again>> {
    let by = if by_handle {
        By::Handle(branch.root()?.handle().map_err(|e| branch.blame(e))?)
    } else {
        match branch.path.strip_prefix(&base.path) {
            Ok(path) => By::Path(path.to_owned()),
            Err(_) => return Ok(None),
        }
    };
    Ok(Some(Again { base: base.clone(), by }))
}

/// `None`: the directory above them is on another mount.
fn base(path: &Path, mount: u64) -> Option<Arc<Base>> {
    let plain = Dir::open(path).ok()?;
    if mount == 0 || plain.stat_self().ok()?.mount != mount {
        return None;
    }
    let private = plain.without_submounts();
    let (dir, private) = match private {
        Ok(dir) => (dir, true),
        Err(_) => (plain, false),
    };
    // Handles want one open for reading; who may not have that, may not use handles either.
    let dir = dir.readable().unwrap_or(dir);
    Some(Arc::new(Base { dir, path: path.to_owned(), private }))
}

fn handles_work(base: &Base, branch: &Branch) -> bool {
    let found =
        branch.root.get().and_then(|root| root.handle()).and_then(|handle| base.dir.open_handle(&handle));
    let stat = found.and_then(|dir| dir.stat_self());
    stat.is_ok_and(|stat| (stat.dev, stat.ino) == (branch.root.stat.dev, branch.root.stat.ino))
}

/// The longest path above all of them.
fn common<'a>(paths: impl Iterator<Item = &'a Path>) -> PathBuf {
    let shared = |a: &Path, b: &Path| -> PathBuf {
        a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    };
    paths.map(Path::to_path_buf).reduce(|a, b| shared(&a, &b)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_paths_share() {
        let check =
            |paths: &[&str], want: &str| assert_eq!(common(paths.iter().map(Path::new)), Path::new(want));
        check(&["/a/b/c", "/a/b/d", "/a/b"], "/a/b");
        check(&["/a/bc", "/a/bd"], "/a");
        check(&["/x", "/y"], "/");
    }
}
