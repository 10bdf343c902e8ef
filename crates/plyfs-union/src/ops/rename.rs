//! rename(2) with NOREPLACE and EXCHANGE. Directories that lie in lower branches too move with a redirect (design
//! D3); `strict` answers EXDEV as AUFS does.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLockWriteGuard;
use plyfs_sys::Leaf;

use crate::act::{self, Target};
use crate::attr::{Ino, RenameFlags};
use crate::error::{Error, Refusal, Result};
use crate::index::{put, take};
use crate::look;
use crate::nodes::{DirState, Node, Place};
use crate::ops::complete::Need;
use crate::ops::remove::Losing;
use crate::plan::{self, End, Plan, Side, Step};
use crate::policy::{self, Writable};
use crate::resolve::{BranchIdx, Found, on};
use crate::union::{TRIES, Union, index, index_mut};

/// One name of a rename.
struct Name {
    parent: Arc<Node>,
    leaf: Leaf,
    /// What is there now; with a reference of ours.
    node: Option<Arc<Node>>,
}

/// Everything that is looked at before the locks, and again under them.
struct Job<'a> {
    union: &'a Union,
    from: Name,
    to: Name,
    source: Arc<Node>,
    exchange: bool,
}

/// The locked listings of the two parents; one when they are the same.
struct Parents<'a> {
    from: RwLockWriteGuard<'a, DirState>,
    to: Option<RwLockWriteGuard<'a, DirState>>,
}

impl Parents<'_> {
    fn side(&mut self, side: Side) -> &mut DirState {
        match (side, &mut self.to) {
            (Side::To, Some(to)) => to,
            (Side::To, None) | (Side::From, _) => &mut self.from,
        }
    }
}

impl Union {
    /// renameat2(2).
    pub fn rename(&self, from: (Ino, &OsStr), to: (Ino, &OsStr), flags: RenameFlags) -> Result<()> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let noreplace = flags.contains(RenameFlags::NOREPLACE);
        if flags.contains(RenameFlags::WHITEOUT) || exchange && noreplace {
            return Err(Refusal::Invalid.into());
        }
        let (from_name, to_name) = (self.name(from.1)?, self.name(to.1)?);
        let (from_parent, to_parent) = (self.node(from.0)?, self.node(to.0)?);
        // What is above what must not change while we look at it.
        let _topology = (from.0 != to.0).then(|| self.renames.lock());
        for _ in 0..TRIES {
            let source = self.grab_existing(&from_parent, from_name.leaf())?;
            let target = self.grab_child(&to_parent, to_name.leaf());
            let target = target.inspect_err(|_| self.nodes.put(&source, 1))?;
            let job = Job {
                union: self,
                from: Name {
                    parent: from_parent.clone(),
                    leaf: from_name.leaf().clone(),
                    node: Some(source.clone()),
                },
                to: Name { parent: to_parent.clone(), leaf: to_name.leaf().clone(), node: target },
                source,
                exchange,
            };
            let done = job.check(noreplace).and_then(|same| if same { Ok(true) } else { job.run() });
            job.put();
            match done {
                Ok(false) => {}
                done => return done.map(drop),
            }
        }
        Err(Error::Stale)
    }
}

impl<'a> Job<'a> {
    fn put(&self) {
        for node in [&self.from.node, &self.to.node].into_iter().flatten() {
            self.union.nodes.put(node, 1);
        }
    }

    /// POSIX's refusals. `Ok(true)`: both names are one file already, nothing to do.
    fn check(&self, noreplace: bool) -> Result<bool> {
        let source_dir = self.source.kind.is_dir();
        if noreplace && self.to.node.is_some() {
            return Err(Refusal::Exists.into());
        }
        if source_dir && is_within(&self.to.parent, &self.source) {
            return Err(Refusal::Invalid.into());
        }
        if self.to.node.as_ref().is_some_and(|target| is_within(&self.from.parent, target)) {
            return Err(if self.exchange { Refusal::Invalid } else { Refusal::NotEmpty }.into());
        }
        match &self.to.node {
            Some(target) if target.ino == self.source.ino => Ok(true),
            Some(target) if !self.exchange => match (source_dir, target.kind.is_dir()) {
                (true, false) => Err(Refusal::NotADirectory.into()),
                (false, true) => Err(Refusal::IsADirectory.into()),
                (true, true) | (false, false) => Ok(false),
            },
            None if self.exchange => Err(Refusal::Absent.into()),
            Some(_) | None => Ok(false),
        }
    }

    /// `Ok(false)`: the world changed meanwhile; look again.
    fn run(&self) -> Result<bool> {
        let union = self.union;
        let branch = self.branch()?;
        union.ensure_dir(&self.from.parent, branch)?;
        union.ensure_dir(&self.to.parent, branch)?;
        self.bring(&self.source, &self.from, branch)?;
        if let (true, Some(target)) = (self.exchange, &self.to.node) {
            self.bring(target, &self.to, branch)?;
        }
        let mut parents = self.lock()?;
        if !self.still_so(&mut parents, branch)? {
            return Ok(false);
        }
        self.commit(&mut parents, branch).map(|()| true)
    }

    fn branch(&self) -> Result<BranchIdx> {
        let look = |name: &Name| -> Result<_> {
            let state = self.union.listed(&name.parent)?;
            let seen = index(&state)?.sightings(name.leaf.as_os_str());
            let places = name.parent.as_dir()?.at.read().clone();
            Ok((places, seen))
        };
        let (from_places, from_seen) = look(&self.from)?;
        let (to_places, to_seen) = look(&self.to)?;
        let from = crate::resolve::resolve(&from_seen).ok_or(Refusal::Absent)?;
        let to = crate::resolve::resolve(&to_seen).map(|resolved| resolved.branch);
        let parents = [&self.from.parent, &self.to.parent];
        let usable = self.union.usable(&parents);
        let branch = policy::for_rename(&usable, (&from_places, from.branch), (&to_places, &to_seen, to))?;
        // A file that is served by a copy on a higher branch is not brought down again.
        let mut highest = branch;
        for node in
            [Some(&self.source), self.to.node.as_ref().filter(|_| self.exchange)].into_iter().flatten()
        {
            if !node.kind.is_dir() {
                let home = node.as_other()?.state.read().home.branch;
                highest = highest.min(if usable.writable(home) { home } else { highest });
            }
        }
        Ok((0..=highest).rev().find(|&b| usable.writable(b)).ok_or(Refusal::ReadOnly)?)
    }

    /// Brings an object, and its very name, to the working branch.
    fn bring(&self, node: &Arc<Node>, name: &Name, branch: BranchIdx) -> Result<()> {
        if node.kind.is_dir() {
            // Read whether it merges with anything; then the directory itself.
            let state = self.union.listed(node)?;
            if self.union.strict && index(&state)?.visible_on(|b| b > branch) {
                return Err(Refusal::CrossesBranches.into());
            }
            drop(state);
            return self.union.ensure_dir(node, branch).map(drop);
        }
        self.union.copy_up_to(node, Some(branch), Need::Attributes)?;
        self.union.settle_name(node, &name.parent, &name.leaf)
    }

    /// Ancestor before descendant, else by number.
    fn lock(&self) -> Result<Parents<'_>> {
        let (from, to) = (&self.from.parent, &self.to.parent);
        if from.ino == to.ino {
            return Ok(Parents { from: self.union.listed_mut(from)?, to: None });
        }
        let from_first = if is_within(to, from) {
            true
        } else if is_within(from, to) {
            false
        } else {
            from.ino < to.ino
        };
        if from_first {
            let from = self.union.listed_mut(from)?;
            Ok(Parents { from, to: Some(self.union.listed_mut(to)?) })
        } else {
            let to = self.union.listed_mut(to)?;
            Ok(Parents { from: self.union.listed_mut(from)?, to: Some(to) })
        }
    }

    /// Under the locks: are the same nodes under the names, and is everything on the branch that must be?
    fn still_so(&self, parents: &mut Parents<'_>, branch: BranchIdx) -> Result<bool> {
        let on_branch = |state: &DirState, name: &Name| -> Result<bool> {
            let seen = index(state)?.seen(name.leaf.as_os_str());
            Ok(on(seen, branch).is_some_and(|one| one.found.is_some()))
        };
        let same = |state: &DirState, name: &Name| -> Result<bool> {
            let resolved = index(state)?.resolved(name.leaf.as_os_str());
            Ok(match &name.node {
                Some(node) => {
                    Union::kind_of(&resolved) == Some(node.kind) && node.has_link(&name.parent, &name.leaf)
                }
                None => resolved.is_none(),
            })
        };
        let from = parents.side(Side::From);
        if !same(from, &self.from)? || !on_branch(from, &self.from)? {
            return Ok(false);
        }
        let to = parents.side(Side::To);
        Ok(same(to, &self.to)? && (!self.exchange || on_branch(to, &self.to)?))
    }

    fn commit(&self, parents: &mut Parents<'_>, branch: BranchIdx) -> Result<()> {
        let union = self.union;
        let mut inner = self.lock_dirs()?;
        let over = self.to.node.as_ref().filter(|_| !self.exchange).map(|target| target.ino);
        let mut replaced = inner.iter_mut().find(|(ino, _)| Some(*ino) == over).map(|(_, state)| state);
        if let Some(state) = &replaced
            && !index(state)?.is_empty()
        {
            return Err(Refusal::NotEmpty.into());
        }
        let from = self.target(&self.from, branch)?;
        let to = self.target(&self.to, branch)?;
        let plan = self.plan(parents, branch, &to)?;
        let before = self.replaced_now(parents, branch)?;
        let over = plan.contains(&Step::DropWhiteout(Side::To));
        if over {
            crate::marks::free_name(union.stack.branch(branch), &to.dir, &to.name)?;
        }
        let done = act::run(union, union.stack.branch(branch), &plan, &from, &to);
        done.inspect_err(|_| self.not_replaced(&before))?;
        if self.exchange {
            self.tell_exchange(parents, branch, &from, &to)
        } else {
            if let Some(state) = &mut replaced {
                (state.removed, state.index) = (true, None);
            }
            self.tell_rename(parents, branch, &plan, &from, before)
        }
    }

    fn not_replaced(&self, before: &Replaced) {
        if let (Replaced::File(losing), Some(target)) = (before, &self.to.node) {
            self.union.not_lost(target, losing);
        }
    }

    /// A directory that moves must not be read (its places settled) while they change, one that is replaced must
    /// stay empty. Neither is above the other; by number, as two renames may want the same pair.
    fn lock_dirs(&self) -> Result<Vec<(Ino, RwLockWriteGuard<'_, DirState>)>> {
        let both = [Some(&self.source), self.to.node.as_ref()];
        let mut dirs: Vec<&Arc<Node>> =
            both.into_iter().flatten().filter(|node| node.kind.is_dir()).collect();
        dirs.sort_by_key(|node| node.ino);
        dirs.into_iter().map(|node| Ok((node.ino, self.union.listed_mut(node)?))).collect()
    }

    fn target(&self, name: &Name, branch: BranchIdx) -> Result<Target> {
        let dir = self.union.dir(&name.parent, branch)?;
        let lower = match &name.node {
            Some(node) if node.kind.is_dir() => lower_path(node, branch)?,
            Some(_) | None => None,
        };
        Ok(Target { dir, name: name.leaf.clone(), lower })
    }

    fn plan(&self, parents: &mut Parents<'_>, branch: BranchIdx, to: &Target) -> Result<Plan> {
        let end = |node: Option<&Arc<Node>>| -> Result<(bool, bool)> {
            Ok(match node {
                Some(node) if node.kind.is_dir() => (true, node.as_dir()?.at.read().len() > 1),
                Some(_) | None => (false, false),
            })
        };
        let (from_dir, from_merged) = end(Some(&self.source))?;
        let (to_dir, to_merged) = end(self.to.node.as_ref())?;
        let from_seen = index(parents.side(Side::From))?.sightings(self.from.leaf.as_os_str());
        let to_seen = index(parents.side(Side::To))?.sightings(self.to.leaf.as_os_str());
        let from_end = End { seen: &from_seen, dir: from_dir, merged: from_merged };
        let to_end = End { seen: &to_seen, dir: to_dir, merged: to_merged };
        if self.exchange {
            return Ok(plan::exchange(&from_end, &to_end, branch));
        }
        let clear =
            to_dir && on(&to_seen, branch).is_some_and(|one| one.found.is_some()) && !self.is_bare(to)?;
        Ok(plan::rename(&from_end, &to_end, branch, clear))
    }

    /// Is the target directory on the branch physically empty, so that rename(2) can replace it?
    fn is_bare(&self, to: &Target) -> Result<bool> {
        let mut bare = true;
        to.dir.child(&to.name)?.entries(&mut |_| bare = false)?;
        Ok(bare)
    }

    /// What the replaced node needs before it loses its name.
    fn replaced_now(&self, parents: &mut Parents<'_>, branch: BranchIdx) -> Result<Replaced> {
        let Some(target) = self.to.node.as_ref().filter(|_| !self.exchange) else {
            return Ok(Replaced::Nothing);
        };
        if target.kind.is_dir() {
            let top = target.top()?;
            return Ok(Replaced::Dir(top, self.union.dir(target, top)?));
        }
        let seen = index(parents.side(Side::To))?.seen(self.to.leaf.as_os_str());
        Ok(Replaced::File(self.union.losing(target, seen, branch)?))
    }

    fn tell_rename(
        &self,
        parents: &mut Parents<'_>,
        branch: BranchIdx,
        plan: &[Step],
        from: &Target,
        replaced: Replaced,
    ) -> Result<()> {
        let found = on_branch(parents.side(Side::From), &self.from.leaf, branch)?;
        let listing = index_mut(parents.side(Side::From))?;
        listing.change(&self.from.leaf, branch, |seen| {
            take(seen);
            seen.whiteout |= plan.contains(&Step::Whiteout(Side::From));
        });
        listing.set_node(self.from.leaf.as_os_str(), None);
        let listing = index_mut(parents.side(Side::To))?;
        listing.change(&self.to.leaf, branch, put(found.kind, found.ino));
        listing.change(&self.to.leaf, branch, |seen| seen.whiteout = false);
        listing.set_node(self.to.leaf.as_os_str(), Some(self.source.ino));
        self.moved(&self.source, &self.from, &self.to, branch, from)?;
        match (replaced, &self.to.node) {
            (Replaced::File(losing), Some(target)) => {
                self.union.name_removed(target, &self.to.parent, &self.to.leaf, losing)
            }
            (Replaced::Dir(top, dir), Some(target)) => {
                self.union.dir_removed(target, (top, dir));
                self.union.nodes.unlink(target, &self.to.parent, &self.to.leaf);
                Ok(())
            }
            (_, None) | (Replaced::Nothing, Some(_)) => Ok(()),
        }
    }

    fn tell_exchange(
        &self,
        parents: &mut Parents<'_>,
        branch: BranchIdx,
        from: &Target,
        to: &Target,
    ) -> Result<()> {
        let Some(target) = &self.to.node else { return Ok(()) };
        let first = on_branch(parents.side(Side::From), &self.from.leaf, branch)?;
        let second = on_branch(parents.side(Side::To), &self.to.leaf, branch)?;
        for (side, name, found, node) in
            [(Side::From, &self.from, second, target), (Side::To, &self.to, first, &self.source)]
        {
            let listing = index_mut(parents.side(side))?;
            listing.change(&name.leaf, branch, put(found.kind, found.ino));
            listing.set_node(name.leaf.as_os_str(), Some(node.ino));
        }
        self.moved(&self.source, &self.from, &self.to, branch, from)?;
        self.moved(target, &self.to, &self.from, branch, to)
    }

    /// The node has another name; a directory's lower parts stay where they are.
    fn moved(&self, node: &Arc<Node>, old: &Name, new: &Name, branch: BranchIdx, was: &Target) -> Result<()> {
        if node.kind.is_dir() && was.lower.is_some() {
            let paths = lower_places(node, branch)?;
            for at in node.as_dir()?.at.write().iter_mut().filter(|at| at.branch > branch) {
                if let Some((_, path)) = paths.iter().find(|(b, _)| *b == at.branch) {
                    at.place = Place::Path(path.clone());
                }
            }
        }
        node.add_link(&new.parent, &new.leaf);
        self.union.nodes.unlink(node, &old.parent, &old.leaf);
        Ok(())
    }
}

/// What a rename takes the place of.
enum Replaced {
    Nothing,
    File(Losing),
    Dir(BranchIdx, Arc<plyfs_sys::Dir>),
}

fn on_branch(state: &DirState, name: &Leaf, branch: BranchIdx) -> Result<Found> {
    on(index(state)?.seen(name.as_os_str()), branch).and_then(|one| one.found).ok_or(Error::Stale)
}

/// Where the lower part of a merged directory begins, for its redirect.
fn lower_path(node: &Arc<Node>, branch: BranchIdx) -> Result<Option<PathBuf>> {
    let next = node.as_dir()?.at.read().iter().map(|at| at.branch).find(|&b| b > branch);
    next.map(|next| look::path_on(node, next)).transpose()
}

fn lower_places(node: &Arc<Node>, branch: BranchIdx) -> Result<Vec<(BranchIdx, Arc<[Leaf]>)>> {
    let below: Vec<BranchIdx> =
        node.as_dir()?.at.read().iter().map(|at| at.branch).filter(|&b| b > branch).collect();
    below
        .into_iter()
        .map(|b| {
            let path = look::path_on(node, b)?;
            let leaves = path.iter().filter_map(Leaf::new).filter(|leaf| leaf.as_bytes() != b"/").collect();
            Ok((b, leaves))
        })
        .collect()
}

/// Is `node` below `above`, or the same?
fn is_within(node: &Arc<Node>, above: &Arc<Node>) -> bool {
    let mut here = node.clone();
    loop {
        if here.ino == above.ino {
            return true;
        }
        match here.link() {
            Some(link) => here = link.parent,
            None => return false,
        }
    }
}
