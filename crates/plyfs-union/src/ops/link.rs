//! link(2): one more name for a file; and giving a copied-up file a real name where it had only a lower one.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use plyfs_sys::{Dir, Errno, Leaf};

use crate::act::{self, Target};
use crate::attr::{Entry, Ino};
use crate::branch::Branch;
use crate::error::{Error, Refusal, Result};
use crate::index::put;
use crate::marks;
use crate::nodes::{HomeBy, Node};
use crate::ops::complete::Need;
use crate::plan;
use crate::policy::Writable;
use crate::union::{TRIES, Union, index_mut};

impl Union {
    /// link(2). A file from below is copied up first: both names are the copy.
    pub fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Entry> {
        let name = self.name(name)?;
        let mut node = self.node(ino)?;
        if node.kind.is_dir() {
            return Err(Refusal::Forbidden.into());
        }
        let parent = self.node(parent)?;
        for _ in 0..TRIES {
            node = self.node(node.ino)?;
            let home = node.as_other()?.state.read().home.branch;
            let highest = self.branch_for_new(&parent, &name)?.min(home);
            let parents = [&parent];
            let usable = self.usable(&parents);
            let branch = (0..=highest).rev().find(|&b| usable.writable(b)).ok_or(Refusal::ReadOnly)?;
            let held = matches!(node.as_other()?.state.read().home.by, HomeBy::Held(_));
            if held && branch != home && self.stack.writable(home) {
                // A file that never had a name (O_TMPFILE) can get one only on its own branch.
                return Err(Refusal::CrossesBranches.into());
            }
            match self.copy_up_to(&node, Some(branch), Need::Attributes) {
                Err(Error::Stale) if node.successor().is_some() => continue,
                done => done?,
            }
            let dir = self.ensure_dir(&parent, branch)?;
            let mut state = self.listed_mut(&parent)?;
            let listing = index_mut(&mut state)?;
            if listing.resolved(name.leaf().as_os_str()).is_some() {
                return Err(Refusal::Exists.into());
            }
            let branch = self.stack.branch(branch);
            let plan = plan::create(listing.seen(name.leaf().as_os_str()), branch.index, false, false);
            if plan.len() > 1 {
                marks::free_name(branch, &dir, name.leaf())?;
            }
            match self.link_on(branch, &node, &dir, name.leaf()) {
                // The name it was linked from moved meanwhile.
                Err(Error::Sys { source, .. }) if source.errno() == Errno::NOENT && node.link().is_some() => {
                    continue;
                }
                done => done?,
            }
            let stat = dir.stat(name.leaf()).map_err(|e| branch.blame(e))?;
            listing.change(name.leaf(), branch.index, put(stat.kind, stat.ino));
            let node = self.name_added(&node, &parent, name.leaf())?;
            listing.set_node(name.leaf().as_os_str(), Some(node.ino));
            let target = Target { dir, name: name.leaf().clone(), lower: None };
            act::run(self, branch, &plan, &target, &target)?;
            listing.change(name.leaf(), branch.index, |seen| seen.whiteout = false);
            drop(state);
            node.refer();
            return self.entry_of(&node);
        }
        Err(Error::Stale)
    }

    /// linkat(2) from wherever the file is on this branch.
    pub(crate) fn link_on(&self, branch: &Branch, node: &Arc<Node>, to: &Dir, name: &Leaf) -> Result<()> {
        let by = node.as_other()?.state.read().home.by.clone();
        let linked = match by {
            HomeBy::Held(file) => to.link_fd(file.as_fd(), name),
            HomeBy::Plink(leaf) => self.plinks.dir(branch.index)?.link(&leaf, to, name),
            HomeBy::Name => {
                let from = node.link().ok_or(Error::Stale)?;
                self.dir(&from.parent, branch.index)?.link(&from.name, to, name)
            }
        };
        linked.map_err(|e| branch.blame(e))
    }

    /// Gives the node that has the name: another one if this was left behind meanwhile.
    fn name_added(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &Leaf) -> Result<Arc<Node>> {
        let mut node = node.clone();
        while !node.add_link(parent, name) {
            node = self.node(node.ino)?;
        }
        let mut state = node.as_other()?.state.write();
        if matches!(state.home.by, HomeBy::Held(_)) && node.successor().is_none() {
            state.home.by = HomeBy::Name;
        }
        let identity = state.identity;
        drop(state);
        self.nodes.set_key(identity, &node);
        Ok(node)
    }

    /// Makes sure that `name` itself, not only the file, is on the copy's branch: before it is renamed. No index
    /// lock may be held.
    pub(crate) fn settle_name(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &Leaf) -> Result<()> {
        let state = node.as_other()?.state.read().clone();
        if !matches!(state.home.by, HomeBy::Plink(_)) {
            return Ok(());
        }
        let branch = self.stack.branch(state.home.branch);
        let dir = self.ensure_dir(parent, branch.index)?;
        let mut parent_state = self.listed_mut(parent)?;
        let listing = index_mut(&mut parent_state)?;
        let there =
            listing.seen(name.as_os_str()).iter().any(|s| s.branch == branch.index && s.found.is_some());
        if there || !node.has_link(parent, name) {
            return Ok(());
        }
        let before = dir.stat_self().map_err(|e| branch.blame(e))?;
        self.link_on(branch, node, &dir, name)?;
        crate::copyup::restore_times(&dir, &before).map_err(|e| branch.blame(e))?;
        listing.change(name, branch.index, put(node.kind, state.home.real.ino));
        self.plink_name_gone(node, state.identity)
    }
}
