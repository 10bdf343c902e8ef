//! unlink and rmdir; what becomes of a node that loses a name.

use std::ffi::OsStr;
use std::sync::Arc;

use plyfs_sys::{Kind, Leaf};

use crate::act::{self, Target};
use crate::attr::Ino;
use crate::error::{Error, Refusal, Result};
use crate::index::{Index, take};
use crate::nodes::{HomeBy, Node};
use crate::passthrough;
use crate::plan::{self, Side, Step};
use crate::resolve::{BranchIdx, Resolved, Seen, on};
use crate::union::{TRIES, Union, index, index_mut};

/// A name that a non-directory is about to lose.
pub(crate) struct Losing {
    /// The working branch.
    branch: BranchIdx,
    /// It is a real name there, not merely hidden from there.
    in_reach: bool,
    /// It is a real name on the branch that serves the file.
    on_home: bool,
    /// The file has other names on its filesystem.
    linked: bool,
    /// How the file was reached, if that was changed.
    was: Option<HomeBy>,
}

impl Union {
    /// unlink(2).
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        self.remove(parent, name, |node| if node.kind.is_dir() { Err(Refusal::IsADirectory) } else { Ok(()) })
    }

    /// rmdir(2) of a directory that shows nothing; marks inside go with it.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        self.remove(
            parent,
            name,
            |node| if node.kind.is_dir() { Ok(()) } else { Err(Refusal::NotADirectory) },
        )
    }

    fn remove(
        &self,
        parent: Ino,
        name: &OsStr,
        right_kind: impl FnOnce(&Node) -> std::result::Result<(), Refusal>,
    ) -> Result<()> {
        let name = self.name(name)?;
        let parent = self.node(parent)?;
        let node = self.grab_existing(&parent, name.leaf())?;
        let done = right_kind(&node)
            .map_err(Error::from)
            .and_then(|()| self.remove_node(&parent, name.leaf(), &node));
        self.nodes.put(&node, 1);
        done
    }

    fn remove_node(&self, parent: &Arc<Node>, name: &Leaf, node: &Arc<Node>) -> Result<()> {
        // Before anything is copied up for it.
        if node.kind.is_dir() && !index(&*self.listed(node)?)?.is_empty() {
            return Err(Refusal::NotEmpty.into());
        }
        for _ in 0..TRIES {
            let branch = self.branch_to_remove(parent, name)?;
            let dir = self.ensure_dir(parent, branch)?;
            let mut state = self.listed_mut(parent)?;
            let listing = index_mut(&mut state)?;
            let resolved = listing.resolved(name.as_os_str()).ok_or(Refusal::Absent)?;
            let same = self.branch_for_copy(parent, resolved.branch)? == branch;
            if !same || !node.has_link(parent, name) {
                continue;
            }
            let target = Target { dir, name: name.clone(), lower: None };
            return if node.kind.is_dir() {
                self.remove_dir(listing, branch, &target, (parent, node))
            } else {
                self.remove_other(listing, branch, &target, (parent, node))
            };
        }
        Err(Error::Stale)
    }

    fn remove_other(
        &self,
        listing: &mut Index,
        branch: BranchIdx,
        target: &Target,
        (parent, node): (&Arc<Node>, &Arc<Node>),
    ) -> Result<()> {
        let losing = self.losing(node, listing.seen(target.name.as_os_str()), branch)?;
        let done = self.act_removal(listing, branch, target, false);
        done.inspect_err(|_| self.not_lost(node, &losing))?;
        self.name_removed(node, parent, &target.name, losing)
    }

    fn remove_dir(
        &self,
        listing: &mut Index,
        branch: BranchIdx,
        target: &Target,
        (parent, node): (&Arc<Node>, &Arc<Node>),
    ) -> Result<()> {
        let mut inner = self.listed_mut(node)?;
        if !index(&inner)?.is_empty() {
            return Err(Refusal::NotEmpty.into());
        }
        let top = node.top()?;
        let last = self.dir(node, top)?;
        self.act_removal(listing, branch, target, true)?;
        self.dir_removed(node, (top, last));
        (inner.removed, inner.index) = (true, None);
        drop(inner);
        self.nodes.unlink(node, parent, &target.name);
        Ok(())
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
        self.branch_for_copy(parent, resolved.branch)
    }

    fn act_removal(
        &self,
        listing: &mut Index,
        branch: BranchIdx,
        target: &Target,
        is_dir: bool,
    ) -> Result<()> {
        let plan = plan::remove(listing.seen(target.name.as_os_str()), branch, is_dir);
        act::run(self, self.stack.branch(branch), &plan, target, target)?;
        listing.change(&target.name, branch, |seen| {
            take(seen);
            seen.whiteout |= plan.contains(&Step::Whiteout(Side::From));
        });
        listing.set_node(target.name.as_os_str(), None);
        Ok(())
    }

    /// What must be known, and done, before a non-directory loses a name. With its last one the file is held by a
    /// descriptor from now on, so that nobody looks for it by a name that is about to go.
    pub(crate) fn losing(&self, node: &Arc<Node>, seen: &[Seen], branch: BranchIdx) -> Result<Losing> {
        let state = node.as_other()?.state.read().clone();
        let is_on = |branch| on(seen, branch).is_some_and(|one| one.found.is_some());
        let mut losing = Losing {
            branch,
            in_reach: is_on(branch),
            on_home: is_on(state.home.branch),
            linked: false,
            was: None,
        };
        let (spot, stat) = self.spot(node)?;
        losing.linked = stat.nlink > 1;
        if node.links().len() < 2 && matches!(state.home.by, HomeBy::Name) {
            let held = self.hold_at(node, &spot)?;
            losing.was = Some(state.home.by);
            node.as_other()?.state.write().home.by = HomeBy::Held(held);
        }
        Ok(losing)
    }

    /// The removal failed: the name is there.
    pub(crate) fn not_lost(&self, node: &Arc<Node>, losing: &Losing) {
        if let (Some(was), Ok(other)) = (&losing.was, node.as_other()) {
            other.state.write().home.by = was.clone();
        }
    }

    /// Tells the node and the pseudo-links that a name is gone.
    pub(crate) fn name_removed(
        &self,
        node: &Arc<Node>,
        parent: &Arc<Node>,
        name: &Leaf,
        losing: Losing,
    ) -> Result<()> {
        let state = node.as_other()?.state.read().clone();
        let plinked = self.plinks.find(state.identity).is_some();
        let home_writable = self.stack.writable(state.home.branch);
        let last = node.links().len() < 2;
        // While it can be reached by its pseudo-link, which may end with this name.
        let held = if plinked && last { Some(self.hold(node)?) } else { None };
        if plinked && !losing.on_home {
            self.plink_name_gone(node, state.identity)?;
        } else if !plinked && !home_writable && !losing.in_reach && losing.linked {
            self.plinks.hide_one(&self.stack, self.stack.branch(losing.branch), state.identity)?;
        }
        self.nodes.unlink(node, parent, name);
        if let Some(held) = held
            && self.plinks.find(state.identity).is_none()
        {
            node.as_other()?.state.write().home.by = HomeBy::Held(held);
        }
        if self.is_nameless(node, last && !losing.linked)? {
            // Its number may be used again: the next file of it is another one.
            self.nodes.forget_key(node);
            // The kernel must not keep a file that nobody can open any more.
            passthrough::cool(node);
        }
        Ok(())
    }

    /// Has the file no name any more? `surely`: it had one only.
    fn is_nameless(&self, node: &Arc<Node>, surely: bool) -> Result<bool> {
        if surely {
            return Ok(true);
        }
        let (spot, stat) = self.spot(node)?;
        Ok(self.attr(node, &spot, &stat)?.nlink == 0)
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
