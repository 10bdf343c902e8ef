//! How a node finds its objects on the branches again: from its names, one component at a time, with a small cache
//! of directory descriptors.
//!
//! No descriptor per known file (the cache is bounded), no path strings (so no PATH_MAX, and no symlink or `..` can
//! lead out of a branch). A rename between reading a name and opening it is noticed by the inode number; then the
//! name is read again.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use plyfs_sys::{Dir, Errno, Stat, SysError};

use crate::attr::Ino;
use crate::branch::Stack;
use crate::error::{Error, Result};
use crate::nodes::{DirAt, Home, HomeBy, Node, Place, Spot, SpotBy};
use crate::plink::Plinks;
use crate::resolve::BranchIdx;

/// Directory descriptors kept open.
const KEPT: usize = 64;
/// Times the number of branches: a directory is read on all of them, one after another.
const KEPT_PER_BRANCH: usize = 8;
/// Never more, nor more than this part of what the process may have.
const KEPT_AT_MOST: usize = 1024;
const PART_OF_LIMIT: u64 = 4;
/// Renames raced with before giving up with ESTALE.
const TRIES: usize = 16;

/// Finds objects on branches.
#[derive(Debug)]
pub(crate) struct Anchors {
    kept: Mutex<LruCache<(Ino, BranchIdx), Arc<Dir>>>,
    most: usize,
}

impl Anchors {
    pub(crate) fn new(branches: usize) -> Anchors {
        let (limit, _) = plyfs_sys::process::open_files_limit();
        let allowed = limit
            .map_or(KEPT_AT_MOST, |limit| usize::try_from(limit / PART_OF_LIMIT).unwrap_or(KEPT_AT_MOST));
        let allowed = allowed.clamp(KEPT, KEPT_AT_MOST);
        let most = (branches * KEPT_PER_BRANCH).clamp(KEPT, allowed);
        Anchors { kept: Mutex::new(LruCache::unbounded()), most }
    }

    /// Closes every descriptor kept for the next request, and gives their memory back.
    pub(crate) fn idle(&self) {
        // Closed after the lock is given back.
        let _kept = std::mem::replace(&mut *self.kept.lock(), LruCache::unbounded());
    }

    fn keep(&self, key: (Ino, BranchIdx), dir: Arc<Dir>) {
        let mut kept = self.kept.lock();
        kept.put(key, dir);
        let over = if kept.len() > self.most { kept.pop_lru() } else { None };
        drop(kept);
        drop(over);
    }

    /// The directory `node` on `branch`.
    pub(crate) fn dir(&self, stack: &Stack, node: &Node, branch: BranchIdx) -> Result<Arc<Dir>> {
        let key = (node.ino, branch);
        if let Some(dir) = self.kept.lock().get(&key) {
            return Ok(dir.clone());
        }
        for _ in 0..TRIES {
            let at = node.at(branch)?.ok_or(Error::Stale)?;
            match self.open(stack, node, &at) {
                Ok(dir) if is_the_one(stack, &at, &dir)? => {
                    self.keep(key, dir.clone());
                    return Ok(dir);
                }
                Ok(_) => {}
                Err(Error::Sys { source, .. }) if matches!(source.errno(), Errno::NOENT | Errno::NOTDIR) => {}
                Err(e) => return Err(e),
            }
            std::thread::yield_now();
        }
        Err(Error::Stale)
    }

    fn open(&self, stack: &Stack, node: &Node, at: &DirAt) -> Result<Arc<Dir>> {
        let branch = stack.branch(at.branch);
        match &at.place {
            Place::Path(path) => {
                let mut dir = branch.root()?;
                for leaf in path.iter() {
                    dir = Arc::new(dir.child(leaf).map_err(|e| branch.blame(e))?);
                }
                Ok(dir)
            }
            Place::Named => {
                let link = node.link().ok_or(Error::Stale)?;
                let parent = self.dir(stack, &link.parent, at.branch)?;
                Ok(Arc::new(parent.child(&link.name).map_err(|e| branch.blame(e))?))
            }
        }
    }

    /// A descriptor that happens to be kept.
    pub(crate) fn kept(&self, node: &Node, branch: BranchIdx) -> Option<Arc<Dir>> {
        self.kept.lock().peek(&(node.ino, branch)).cloned()
    }

    /// The directory was removed, or lives on under another descriptor.
    pub(crate) fn forget(&self, node: &Node, branch: BranchIdx) {
        self.kept.lock().pop(&(node.ino, branch));
    }

    /// The object that serves `node`, checked, with its attributes.
    pub(crate) fn spot(&self, stack: &Stack, plinks: &Plinks, node: &Node) -> Result<(Spot, Stat)> {
        if node.kind.is_dir() {
            let gone = node.as_dir()?.gone.read().clone();
            let (branch, dir) = match gone {
                Some(gone) => gone,
                None => {
                    let branch = node.top()?;
                    (branch, self.dir(stack, node, branch)?)
                }
            };
            let stat = dir.stat_self()?;
            return Ok((Spot { branch, by: SpotBy::Dir(dir) }, stat));
        }
        let mut last = None;
        for _ in 0..TRIES {
            let home = node.as_other()?.state.read().home.clone();
            // Between losing its last name and being held: the next round sees it held.
            let Some(spot) = self.place(stack, plinks, node, &home)? else { continue };
            match spot.obj().stat() {
                Ok(stat) if stat.ino == home.real.ino && stat.dev == home.real.dev => {
                    return Ok((spot, stat));
                }
                Ok(_) => {}
                Err(e) if e.errno() == Errno::NOENT => last = Some(e),
                Err(e) => return Err(stack.branch(home.branch).blame(e)),
            }
            std::thread::yield_now();
        }
        tracing::debug!(?node.ino, ?last, "object vanished from its branch");
        Err(Error::Stale)
    }

    /// Where a non-directory should be, unchecked: another may have taken its name. `None`: it has lost its name just now.
    pub(crate) fn place(
        &self,
        stack: &Stack,
        plinks: &Plinks,
        node: &Node,
        home: &Home,
    ) -> Result<Option<Spot>> {
        let by = match &home.by {
            HomeBy::Held(fd) => SpotBy::Held(fd.clone()),
            HomeBy::Plink(leaf) => SpotBy::At(plinks.dir(home.branch)?, leaf.clone()),
            HomeBy::Name => {
                let Some(link) = node.link() else { return Ok(None) };
                SpotBy::At(self.dir(stack, &link.parent, home.branch)?, link.name)
            }
        };
        Ok(Some(Spot { branch: home.branch, by }))
    }
}

fn is_the_one(stack: &Stack, at: &DirAt, dir: &Dir) -> Result<bool> {
    if at.ino == 0 {
        return Ok(true);
    }
    let stat = dir.stat_self().map_err(|e: SysError| stack.branch(at.branch).blame(e))?;
    // Another device: something is mounted there, whose numbers we never asked for.
    Ok(stat.ino == at.ino || stat.dev != stack.branch(at.branch).dev)
}
