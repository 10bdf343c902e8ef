//! Copy-up of files and other non-directories: brings one to a writable branch (aufs.5, "Copy On Write").
//!
//! Temporary name, data, owner, xattrs, our origin, mode, times, fsync, rename: a crash leaves the old state and at
//! most a temporary name. Data is copied under the file's own lock only; the last rename takes its directory's.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use plyfs_sys::{Dir, Kind, Leaf, Obj, RenameHow, Stat};

use crate::branch::Branch;
use crate::copyup::{discard, restore_times};
use crate::error::{Error, Refusal, Result};
use crate::ids::{self, RealId};
use crate::index::put;
use crate::marks::{self, Fact};
use crate::metacopy::Data;
use crate::names;
use crate::nodes::{Home, HomeBy, Link, Node, OtherBody, OtherState, Spot};
use crate::ops::complete::Need;
use crate::plink::Plink;
use crate::policy;
use crate::resolve::BranchIdx;
use crate::union::{TRIES, Union, stand_back};

/// What a copy without its name is.
struct Copied {
    copy: Stat,
    /// The directory, just after the temporary name came to be.
    touched: Stat,
    /// Where the data is, if not in the copy.
    data: Option<Arc<Data>>,
}

/// While it lives, nobody begins to write past the server.
struct Moving<'a>(&'a OtherBody);

impl Moving<'_> {
    fn of(other: &OtherBody) -> Result<Moving<'_>> {
        let mut door = other.door.lock();
        if door.has_writers() {
            return Err(Refusal::CrossesBranches.into());
        }
        door.moving = true;
        Ok(Moving(other))
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.door.lock().moving = false;
    }
}

impl Union {
    /// Makes sure that a non-directory is on a writable branch, with the data it needs.
    pub(crate) fn copy_up(&self, node: &Arc<Node>, need: Need) -> Result<()> {
        self.copy_up_to(node, None, need)
    }

    /// The same; on branch `target` where one is given.
    pub(crate) fn copy_up_to(&self, node: &Arc<Node>, target: Option<BranchIdx>, need: Need) -> Result<()> {
        let other = node.as_other()?;
        let done = |state: &OtherState| {
            self.is_there(&state.home, target) && self.has_needed(state.data.as_ref(), need)
        };
        if done(&other.state.read()) {
            return Ok(());
        }
        let _only_one = other.copyup.lock();
        if node.successor().is_some() {
            return Err(Error::Stale);
        }
        // From one writable branch to another: nobody may write what is being copied.
        let home = other.state.read().home.clone();
        let from_writable = self.stack.writable(home.branch);
        let moves = from_writable && !self.is_there(&home, target);
        let _none_past_us = if moves { Some(Moving::of(other)?) } else { None };
        let _alone = from_writable.then(|| other.io.write());
        for tries in 0..TRIES {
            let state = other.state.read().clone();
            if done(&state) {
                return Ok(());
            }
            let home = state.home;
            if self.is_there(&home, target) {
                if self.complete(node, need)? {
                    return Ok(());
                }
                continue;
            }
            let done = match (&home.by, node.link()) {
                (HomeBy::Held(_), _) => self.copy_held(node, &home, target, need)?,
                (HomeBy::Name | HomeBy::Plink(_), Some(link)) => {
                    self.copy_named(node, &home, &link, target, need)?
                }
                // Losing its last name right now: held in a moment.
                (HomeBy::Name | HomeBy::Plink(_), None) => false,
            };
            if done {
                return Ok(());
            }
            stand_back(tries);
        }
        Err(Error::Stale)
    }

    /// `Ok(false)`: the name was lost or moved meanwhile; look again.
    fn copy_named(
        &self,
        node: &Arc<Node>,
        home: &Home,
        link: &Link,
        target: Option<BranchIdx>,
        need: Need,
    ) -> Result<bool> {
        let own_choice = || self.branch_for_copy(&link.parent, home.branch);
        let branch = target.map_or_else(own_choice, Ok)?;
        let dir = self.ensure_dir(&link.parent, branch)?;
        self.despite_mode(&dir, || self.copy_into(node, link, (branch, &dir), need))
    }

    /// The copy itself, into the parent's directory on `branch`.
    fn copy_into(
        &self,
        node: &Arc<Node>,
        link: &Link,
        (branch, dir): (BranchIdx, &Dir),
        need: Need,
    ) -> Result<bool> {
        let to = self.stack.branch(branch);
        let (source, stat) = self.spot(node)?;
        let temp = names::temp();
        let identity = node.as_other()?.state.read().identity;
        let before = dir.stat_self().map_err(|e| to.blame(e))?;
        let Copied { copy, touched, data } = self
            .make_copy(node, (to, dir, &temp), (&source, &stat), need, Some(link))
            .inspect_err(|_| discard(dir, &temp, node.kind))?;
        let mut parent = link.parent.as_dir()?.index.write();
        if parent.removed || !node.has_link(&link.parent, &link.name) {
            discard(dir, &temp, node.kind);
            return Ok(false);
        }
        // Only the temporary name has touched the directory, or others have done so while the data was copied.
        let now = dir.stat_self().map_err(|e| to.blame(e))?;
        let before = if now.mtime == touched.mtime { before } else { now };
        let names = self.names_of(&stat, identity);
        let by = if names > 1 && self.plinks.find(identity).is_none() {
            self.make_plink(to, dir, &temp, identity, &copy, names)
        } else {
            Ok(HomeBy::Name)
        };
        let placed = by.and_then(|by| {
            dir.rename(&temp, dir, &link.name, RenameHow::NoReplace).map_err(|e| to.blame(e))?;
            Ok(by)
        });
        let by = placed.inspect_err(|_| self.undo_copy(dir, &temp, node.kind, identity, &copy))?;
        restore_times(dir, &before).map_err(|e| to.blame(e))?;
        if let Some(index) = &mut parent.index {
            index.change(&link.name, branch, put(node.kind, copy.ino));
        }
        let plinked = matches!(by, HomeBy::Plink(_));
        self.moved_home(node, Home { branch, real: RealId::of(&copy), by }, data)?;
        if plinked {
            // Counted with the others until it had its name: too many only delays the end of the pseudo-link.
            self.plink_name_gone(node, identity)?;
        }
        Ok(true)
    }

    /// How many names of a file show in the union, as far as its filesystem knows them.
    fn names_of(&self, stat: &Stat, identity: RealId) -> u32 {
        if self.noplink { 1 } else { stat.nlink.saturating_sub(self.plinks.hidden(identity)) }
    }

    fn moved_home(&self, node: &Arc<Node>, home: Home, data: Option<Arc<Data>>) -> Result<()> {
        let mut state = node.as_other()?.state.write();
        state.home = home;
        state.data = data;
        state.generation += 1;
        state.opened = std::sync::Weak::new();
        Ok(())
    }

    /// Takes everything back that a copy without its name has left.
    fn undo_copy(&self, dir: &Dir, temp: &Leaf, kind: Kind, identity: RealId, copy: &Stat) {
        if self.plinks.find(identity).is_some_and(|plink| plink.real == RealId::of(copy))
            && let Err(e) = self.plinks.end(&self.stack, identity)
        {
            tracing::warn!("pseudo-link left behind: {e}");
        }
        discard(dir, temp, kind);
    }

    /// Gives the copy of a hard-linked file its pseudo-link, by which all names find it. All `names` are counted as
    /// names below.
    fn make_plink(
        &self,
        to: &Branch,
        dir: &Dir,
        temp: &Leaf,
        identity: RealId,
        copy: &Stat,
        names: u32,
    ) -> Result<HomeBy> {
        marks::keep_fact(to, Obj::At(dir, temp), Fact::Links, names.to_string().as_bytes())?;
        let plinks = self.plinks.make_dir(to)?;
        let text = format!("{}.{}", ids::number(&self.stack, identity), copy.ino);
        let leaf = Leaf::new(OsStr::new(&text)).ok_or(Error::Stale)?;
        dir.link(temp, &plinks, &leaf).map_err(|e| to.blame(e))?;
        let plink = Plink { branch: to.index, leaf: leaf.clone(), real: RealId::of(copy), below: names };
        self.plinks.insert(&self.stack, identity, plink);
        Ok(HomeBy::Plink(leaf))
    }

    /// An open file from below none of whose names is known: its last one is gone, and the copy never gets one; or
    /// others are left below, and they find the copy by its pseudo-link.
    fn copy_held(
        &self,
        node: &Arc<Node>,
        home: &Home,
        target: Option<BranchIdx>,
        need: Need,
    ) -> Result<bool> {
        let places = self.root.as_dir()?.at.read().clone();
        let branch = target.map_or_else(|| policy::for_copy(&self.stack, &places, home.branch), Ok)?;
        let to = self.stack.branch(branch);
        let (source, stat) = self.spot(node)?;
        let temp = names::temp();
        let identity = node.as_other()?.state.read().identity;
        let root = to.root()?;
        let before = root.stat_self().map_err(|e| to.blame(e))?;
        let copied =
            self.make_copy(node, (to, &root, &temp), (&source, &stat), need, None).and_then(|done| {
                let copy = done.copy;
                let names = self.names_left(node, &stat, identity)?;
                let by = if names > 0 && self.plinks.find(identity).is_none() {
                    self.make_plink(to, &root, &temp, identity, &copy, names)?
                } else {
                    HomeBy::Held(Arc::new(File::from(root.hold(&temp).map_err(|e| to.blame(e))?)))
                };
                Ok(Home { branch, real: RealId::of(&copy), by })
            });
        discard(&root, &temp, node.kind);
        restore_times(&root, &before).map_err(|e| to.blame(e))?;
        self.moved_home(node, copied?, None)?;
        Ok(true)
    }

    /// Names below of a file that is held by a descriptor; none if its last one is gone.
    fn names_left(&self, node: &Arc<Node>, stat: &Stat, identity: RealId) -> Result<u32> {
        let writable = self.stack.writable(node.as_other()?.state.read().home.branch);
        let single = stat.nlink < 2;
        Ok(if writable || single || self.noplink { 0 } else { self.names_of(stat, identity) })
    }

    /// Copies a non-directory to `temp` in `dir`, complete but for its name and for data it does not need.
    fn make_copy(
        &self,
        node: &Node,
        (to, dir, temp): (&Branch, &Dir, &Leaf),
        (source, stat): (&Spot, &Stat),
        need: Need,
        link: Option<&Link>,
    ) -> Result<Copied> {
        let blame = |e| to.blame(e);
        let touched;
        let mut data = None;
        let identity = node.as_other()?.state.read().identity;
        let _server = plyfs_sys::cred::ActAs::server();
        match stat.kind {
            Kind::File => {
                let file = dir.create(temp, 0o600).map_err(blame)?;
                touched = dir.stat_self().map_err(blame)?;
                data = self.fill_copy(node, to, (source, stat), &file, need, link)?;
                self.copy_attributes(to, source.obj(), stat, Obj::Fd(file.as_fd()), Some(identity))?;
                data = self.mark_copy(to, &file, data)?;
                if !self.volatile {
                    plyfs_sys::file::fsync(&file, false).map_err(blame)?;
                }
            }
            Kind::Symlink => {
                let target = source.obj().readlink().map_err(blame)?;
                dir.symlink(temp, &target).map_err(blame)?;
                touched = dir.stat_self().map_err(blame)?;
                self.copy_attributes(to, source.obj(), stat, Obj::At(dir, temp), Some(identity))?;
            }
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                if stat.is_null_device() {
                    marks::make_null_device(to, dir, temp, 0o600)?;
                } else {
                    dir.mknod(temp, stat.kind, 0o600, stat.rdev).map_err(blame)?;
                }
                touched = dir.stat_self().map_err(blame)?;
                self.copy_attributes(to, source.obj(), stat, Obj::At(dir, temp), Some(identity))?;
            }
            Kind::Dir => return Err(Refusal::IsADirectory.into()),
        }
        Ok(Copied { copy: dir.stat(temp).map_err(blame)?, touched, data })
    }
}
