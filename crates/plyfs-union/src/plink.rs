//! Pseudo-links: hard links that span branches (aufs.5, "Pseudo Link"; design D4).
//!
//! A copied-up file whose other names are still on lower branches has one name more in `.wh..wh.plnk` of its branch.
//! Every other name finds the copy through this table, by the identity of what was copied. The table is read from
//! the branches at mount, so hard links outlive a remount without a flush.
//!
//! Beside them lie symlinks `FSID:INO.hidden` whose text is a number: so many names of that file, which was never
//! copied up, are hidden by whiteouts of this branch. Its link count is right by them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use plyfs_sys::{Dir, Errno, Leaf, Obj, RenameHow};

use crate::branch::{Branch, Stack};
use crate::error::{Error, Result};
use crate::ids::{self, RealId};
use crate::marks::{self, Fact};
use crate::names;
use crate::resolve::BranchIdx;

/// A copied-up hard-linked file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plink {
    pub(crate) branch: BranchIdx,
    pub(crate) leaf: Leaf,
    /// The copy itself.
    pub(crate) real: RealId,
    /// Names that only lower branches have.
    pub(crate) below: u32,
}

/// All pseudo-links, and how many names of files not copied up were removed by whiteouts.
#[derive(Debug)]
pub(crate) struct Plinks {
    dirs: Vec<Mutex<Option<Arc<Dir>>>>,
    table: Mutex<HashMap<RealId, Plink>>,
    hidden: Mutex<HashMap<RealId, u32>>,
}

impl Plinks {
    /// Reads every branch's pseudo-links; changes nothing.
    pub(crate) fn load(stack: &Stack) -> Result<Plinks> {
        let dirs = stack.branches.iter().map(|_| Mutex::default()).collect();
        let plinks = Plinks { dirs, table: Mutex::default(), hidden: Mutex::default() };
        for branch in stack.branches.iter().filter(|b| b.honours) {
            plinks.load_branch(stack, branch)?;
        }
        Ok(plinks)
    }

    fn load_branch(&self, stack: &Stack, branch: &Branch) -> Result<()> {
        let dir = match branch.root()?.child(&names::plink_dir()) {
            Ok(dir) => Arc::new(dir),
            Err(e) if e.errno() == Errno::NOENT => return Ok(()),
            Err(e) => return Err(branch.blame(e)),
        };
        let mut leaves = Vec::new();
        dir.entries(&mut |entry| leaves.push(entry.leaf)).map_err(|e| branch.blame(e))?;
        let mut table = self.table.lock();
        for leaf in leaves {
            if let Some(identity) = hidden_identity(stack, &leaf) {
                let count = dir.readlink(&leaf).map_err(|e| branch.blame(e))?;
                let count = count.to_str().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
                *self.hidden.lock().entry(identity).or_insert(0) += count;
                continue;
            }
            let obj = Obj::At(&dir, &leaf);
            let stat = obj.stat().map_err(|e| branch.blame(e))?;
            // Left by AUFS itself, whose numbers died with its mount: no fact of ours, so not ours.
            let Some(links) = marks::fact(branch, obj, Fact::Links)? else { continue };
            let below = std::str::from_utf8(&links).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            let identity = ids::identity(stack, branch, obj, &stat)?;
            let plink = Plink { branch: branch.index, leaf, real: RealId::of(&stat), below };
            table.entry(identity).or_insert(plink);
        }
        drop(table);
        *self.dirs[usize::from(branch.index)].lock() = Some(dir);
        Ok(())
    }

    /// The directory of pseudo-links on a branch that has some.
    pub(crate) fn dir(&self, branch: BranchIdx) -> Result<Arc<Dir>> {
        self.dirs[usize::from(branch)].lock().clone().ok_or(Error::Stale)
    }

    /// The same, made if need be.
    pub(crate) fn make_dir(&self, branch: &Branch) -> Result<Arc<Dir>> {
        let mut slot = self.dirs[usize::from(branch.index)].lock();
        if let Some(dir) = &*slot {
            return Ok(dir.clone());
        }
        let leaf = names::plink_dir();
        let root = branch.root()?;
        let before = root.stat_self()?;
        match root.mkdir(&leaf, 0o700) {
            Err(e) if e.errno() != Errno::EXIST => return Err(branch.blame(e)),
            Ok(()) | Err(_) => {}
        }
        crate::copyup::restore_times(&root, &before).map_err(|e| branch.blame(e))?;
        let dir = Arc::new(root.child(&leaf).map_err(|e| branch.blame(e))?);
        *slot = Some(dir.clone());
        Ok(dir)
    }

    pub(crate) fn find(&self, identity: RealId) -> Option<Plink> {
        self.table.lock().get(&identity).cloned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.lock().is_empty()
    }

    /// A file was copied up under `plink.leaf`.
    pub(crate) fn insert(&self, stack: &Stack, identity: RealId, plink: Plink) {
        self.forget_hidden(stack, identity);
        self.table.lock().insert(identity, plink);
    }

    /// One of the names below is served by the copy's branch now, or is gone. Without any the entry ends: the
    /// names are ordinary hard links. `true` if it ended.
    pub(crate) fn lower_name_gone(&self, stack: &Stack, identity: RealId) -> Result<bool> {
        let Some(plink) = self.find(identity) else { return Ok(false) };
        let below = plink.below.saturating_sub(1);
        let branch = stack.branch(plink.branch);
        let dir = self.dir(plink.branch)?;
        if below == 0 {
            self.end(stack, identity)?;
            return Ok(true);
        }
        marks::keep_fact(branch, Obj::At(&dir, &plink.leaf), Fact::Links, below.to_string().as_bytes())?;
        self.table.lock().insert(identity, Plink { below, ..plink });
        Ok(false)
    }

    /// Ends a pseudo-link: the table and the branch forget it.
    pub(crate) fn end(&self, stack: &Stack, identity: RealId) -> Result<()> {
        let Some(plink) = self.table.lock().remove(&identity) else { return Ok(()) };
        let branch = stack.branch(plink.branch);
        let dir = self.dir(plink.branch)?;
        let obj = Obj::At(&dir, &plink.leaf);
        marks::drop_fact(branch, obj, Fact::Links)?;
        dir.unlink(&plink.leaf).map_err(|e| branch.blame(e))
    }

    /// How many names of a file not copied up are hidden by whiteouts.
    pub(crate) fn hidden(&self, identity: RealId) -> u32 {
        self.hidden.lock().get(&identity).copied().unwrap_or(0)
    }

    /// One more of them, by a whiteout on `branch`; kept there for the next mount.
    pub(crate) fn hide_one(&self, stack: &Stack, branch: &Branch, identity: RealId) -> Result<()> {
        *self.hidden.lock().entry(identity).or_insert(0) += 1;
        let Some(leaf) = hidden_leaf(stack, identity) else { return Ok(()) };
        let dir = self.make_dir(branch)?;
        let here = match dir.readlink(&leaf) {
            Ok(count) => count.to_str().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0),
            Err(e) if e.errno() == Errno::NOENT => 0,
            Err(e) => return Err(branch.blame(e)),
        };
        let temp = names::temp();
        dir.symlink(&temp, (here + 1).to_string().as_ref()).map_err(|e| branch.blame(e))?;
        dir.rename(&temp, &dir, &leaf, RenameHow::Replace).map_err(|e| branch.blame(e))
    }

    /// The file was copied up: from now on its pseudo-link counts.
    fn forget_hidden(&self, stack: &Stack, identity: RealId) {
        if self.hidden.lock().remove(&identity).is_none() {
            return;
        }
        let Some(leaf) = hidden_leaf(stack, identity) else { return };
        for branch in stack.branches.iter().filter(|b| b.writable) {
            let gone = self.dir(branch.index).map(|dir| dir.unlink(&leaf));
            if let Ok(Err(e)) = gone
                && e.errno() != Errno::NOENT
            {
                tracing::warn!("a count of hidden names is left behind: {e}");
            }
        }
    }
}

const HIDDEN: &str = ".hidden";

/// `FSID:INO.hidden`; `None` for a filesystem without identity: then the count ends with the mount.
fn hidden_leaf(stack: &Stack, identity: RealId) -> Option<Leaf> {
    let text = format!("{}{HIDDEN}", ids::origin_text(stack, identity)?);
    Leaf::new(text.as_ref())
}

fn hidden_identity(stack: &Stack, leaf: &Leaf) -> Option<RealId> {
    ids::parse_origin(stack, leaf.as_bytes().strip_suffix(HIDDEN.as_bytes())?)
}
