//! unlink and rmdir; what becomes of a node that loses a name.

use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;

use plyfs_sys::{Kind, Leaf};

use crate::act::{self, Target};
use crate::attr::Ino;
use crate::error::{Error, Refusal, Result};
use crate::index::{Index, take};
use crate::nodes::{HomeBy, Node};
use crate::plan::{self, Side, Step};
use crate::policy;
use crate::resolve::{BranchIdx, Resolved, on};
use crate::union::{TRIES, Union, index, index_mut};

impl Union {
    /// unlink(2).
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        let name = self.name(name)?;
        let parent = self.node(parent)?;
        let node = self.grab_existing(&parent, name.leaf())?;
        let done = self.remove(&parent, name.leaf(), &node);
        self.nodes.put(&node, 1);
        done
    }

    /// rmdir(2) of a directory that shows nothing; marks inside go with it.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        let name = self.name(name)?;
        let parent = self.node(parent)?;
        let node = self.grab_existing(&parent, name.leaf())?;
        let done = if node.kind.is_dir() {
            self.remove_dir(&parent, name.leaf(), &node)
        } else {
            Err(Refusal::NotADirectory.into())
        };
        self.nodes.put(&node, 1);
        done
    }

    fn remove(&self, parent: &Arc<Node>, name: &Leaf, node: &Arc<Node>) -> Result<()> {
        if node.kind.is_dir() {
            return Err(Refusal::IsADirectory.into());
        }
        for _ in 0..TRIES {
            let branch = self.branch_to_remove(parent, name)?;
            let dir = self.ensure_dir(parent, branch)?;
            let mut state = self.listed_mut(parent)?;
            let listing = index_mut(&mut state)?;
            let Some(resolved) = listing.resolved(name.as_os_str()) else {
                return Err(Refusal::Absent.into());
            };
            let places = parent.as_dir()?.at.read().clone();
            let same = policy::for_copy(&self.stack, &places, resolved.branch)? == branch;
            if !same || !node.has_link(parent, name) {
                continue;
            }
            let held = self.hold_last(node)?;
            let was_on_branch =
                on(listing.seen(name.as_os_str()), branch).is_some_and(|one| one.found.is_some());
            self.act_removal(listing, branch, &dir, name, false)?;
            listing.set_node(name.as_os_str(), None);
            return self.name_removed(node, parent, name, was_on_branch, held);
        }
        Err(Error::Stale)
    }

    fn remove_dir(&self, parent: &Arc<Node>, name: &Leaf, node: &Arc<Node>) -> Result<()> {
        for _ in 0..TRIES {
            let branch = self.branch_to_remove(parent, name)?;
            let dir = self.ensure_dir(parent, branch)?;
            let mut state = self.listed_mut(parent)?;
            let listing = index_mut(&mut state)?;
            let Some(resolved) = listing.resolved(name.as_os_str()) else {
                return Err(Refusal::Absent.into());
            };
            let places = parent.as_dir()?.at.read().clone();
            let same = policy::for_copy(&self.stack, &places, resolved.branch)? == branch;
            if !same || !node.has_link(parent, name) {
                continue;
            }
            let mut inner = self.listed_mut(node)?;
            if !index(&inner)?.is_empty() {
                return Err(Refusal::NotEmpty.into());
            }
            let last = self.dir(node, resolved.branch)?;
            self.act_removal(listing, branch, &dir, name, true)?;
            listing.set_node(name.as_os_str(), None);
            self.dir_removed(node, (resolved.branch, last));
            (inner.removed, inner.index) = (true, None);
            drop(inner);
            self.nodes.unlink(node, parent, name);
            return Ok(());
        }
        Err(Error::Stale)
    }

    /// The removed directory stays reachable for those who are in it.
    pub(crate) fn dir_removed(&self, node: &Arc<Node>, last: (BranchIdx, Arc<plyfs_sys::Dir>)) {
        if let Ok(dir) = node.as_dir() {
            for at in dir.at.read().iter() {
                self.anchors.forget(node, at.branch);
            }
            *dir.gone.write() = Some(last);
        }
    }

    fn branch_to_remove(&self, parent: &Arc<Node>, name: &Leaf) -> Result<BranchIdx> {
        let state = self.listed(parent)?;
        let resolved = index(&state)?.resolved(name.as_os_str()).ok_or(Refusal::Absent)?;
        let places = parent.as_dir()?.at.read().clone();
        Ok(policy::for_copy(&self.stack, &places, resolved.branch)?)
    }

    fn act_removal(
        &self,
        listing: &mut Index,
        branch: BranchIdx,
        dir: &Arc<plyfs_sys::Dir>,
        name: &Leaf,
        is_dir: bool,
    ) -> Result<()> {
        let plan = plan::remove(listing.seen(name.as_os_str()), branch, is_dir);
        let target = Target { dir: dir.clone(), name: name.clone(), lower: None };
        act::run(self, self.stack.branch(branch), &plan, &target, &target)?;
        listing.change(name, branch, |seen| {
            take(seen);
            seen.whiteout |= plan.contains(&Step::Whiteout(Side::From));
        });
        Ok(())
    }

    /// A descriptor of a file that is about to lose its last known name.
    pub(crate) fn hold_last(&self, node: &Arc<Node>) -> Result<Option<Arc<File>>> {
        if node.kind.is_dir() || node.links().len() > 1 { Ok(None) } else { self.hold(node).map(Some) }
    }

    /// Tells the node and the pseudo-links that a name is gone. `was_on_branch`: the name was a real one on a
    /// writable branch, not merely hidden.
    pub(crate) fn name_removed(
        &self,
        node: &Arc<Node>,
        parent: &Arc<Node>,
        name: &Leaf,
        was_on_branch: bool,
        held: Option<Arc<File>>,
    ) -> Result<()> {
        let state = node.as_other()?.state.read().clone();
        let plinked = self.plinks.find(state.identity).is_some();
        if plinked && !was_on_branch {
            self.plink_name_gone(node, state.identity)?;
        } else if !plinked && !self.stack.writable(state.home.branch) && !was_on_branch {
            self.plinks.hide_one(state.identity);
        }
        self.nodes.unlink(node, parent, name);
        if let Some(held) = held
            && node.link().is_none()
        {
            node.as_other()?.state.write().home.by = HomeBy::Held(held);
        }
        // Its number may be used again: the next file of it is another one.
        let (spot, stat) = self.spot(node)?;
        if self.attr(node, &spot, &stat)?.nlink == 0 {
            self.nodes.forget_key(node);
        }
        Ok(())
    }

    /// A name that only lower branches had is gone or has become a real link.
    pub(crate) fn plink_name_gone(&self, node: &Arc<Node>, identity: crate::ids::RealId) -> Result<()> {
        let ended = self.plinks.lower_name_gone(&self.stack, identity)?;
        let mut state = node.as_other()?.state.write();
        if ended && matches!(state.home.by, HomeBy::Plink(_)) {
            state.home.by = HomeBy::Name;
        }
        Ok(())
    }

    /// The kind of a visible name, for callers that hold the listing.
    pub(crate) fn kind_of(resolved: &Option<Resolved>) -> Option<Kind> {
        resolved.as_ref().map(|r| r.kind)
    }
}
