//! Copy-up: brings one object, or a directory without its contents, to a writable branch (aufs.5, "Copy On Write").
//!
//! Temporary name, data, owner, xattrs, mode, times, our origin, fsync, rename: a crash leaves the old state and at
//! most a temporary name. Data is copied under the file's own lock only; the last rename takes its directory's.

use std::sync::Arc;

use plyfs_sys::{Access, Dir, Errno, Kind, Leaf, NewTime, Obj, RenameHow, SetXattr, Stat};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use crate::branch::Branch;
use crate::error::{Error, Refusal, Result};
use crate::ids::{self, RealId};
use crate::index::put;
use crate::marks::{self, Fact};
use crate::names;
use crate::nodes::{DirAt, Home, HomeBy, Link, Node, Place, Spot};
use crate::plink::Plink;
use crate::policy;
use crate::resolve::BranchIdx;
use crate::union::{TRIES, Union};

impl Union {
    /// Makes sure that the directory is on `branch`, with its parents; gives it. No index lock may be held.
    pub(crate) fn ensure_dir(&self, node: &Arc<Node>, branch: BranchIdx) -> Result<Arc<Dir>> {
        for _ in 0..TRIES {
            if node.at(branch)?.is_some() {
                return self.dir(node, branch);
            }
            let link = node.link().ok_or(Refusal::Absent)?;
            let parent_dir = self.ensure_dir(&link.parent, branch)?;
            let mut parent = link.parent.as_dir()?.index.write();
            if parent.removed || !node.has_link(&link.parent, &link.name) || node.at(branch)?.is_some() {
                continue;
            }
            let stat = self.copy_dir(node, &parent_dir, &link.name, branch)?;
            let at = DirAt { branch, ino: stat.ino, place: Place::Named };
            let mut places = node.as_dir()?.at.write();
            let position = places.iter().position(|at| at.branch > branch).unwrap_or(places.len());
            places.insert(position, at);
            drop(places);
            if let Some(index) = &mut parent.index {
                index.change(&link.name, branch, put(Kind::Dir, stat.ino));
            }
        }
        Err(Error::Stale)
    }

    /// Makes an empty twin of directory `node` under `name` in `parent`.
    fn copy_dir(&self, node: &Arc<Node>, parent: &Dir, name: &Leaf, branch: BranchIdx) -> Result<Stat> {
        let to = self.stack.branch(branch);
        let (source, stat) = self.spot(node)?;
        let before = parent.stat_self()?;
        let temp = names::temp();
        let identity = self.identity_of(&source, &stat)?;
        let made = self
            .twin(to, parent, &temp, source.obj(), &stat, Some(identity))
            .and_then(|twin| {
                parent.rename(&temp, parent, name, RenameHow::NoReplace).map_err(|e| to.blame(e))?;
                Ok(twin)
            })
            .inspect_err(|_| discard(parent, &temp, Kind::Dir))?;
        restore_times(parent, &before).map_err(|e| to.blame(e))?;
        Ok(made)
    }

    /// A directory under `temp` with all attributes of `source`.
    pub(crate) fn twin(
        &self,
        to: &Branch,
        parent: &Dir,
        temp: &Leaf,
        source: Obj<'_>,
        stat: &Stat,
        identity: Option<RealId>,
    ) -> Result<Stat> {
        parent.mkdir(temp, 0o700).map_err(|e| to.blame(e))?;
        let copy = Obj::At(parent, temp);
        self.copy_attributes(to, source, stat, copy, identity)?;
        copy.stat().map_err(|e| to.blame(e))
    }

    /// Makes sure that a non-directory is on a writable branch.
    pub(crate) fn copy_up(&self, node: &Arc<Node>, size: Option<u64>) -> Result<()> {
        self.copy_up_to(node, None, size)
    }

    /// The same; on branch `target` where one is given. Of regular files the first `size` bytes are enough.
    pub(crate) fn copy_up_to(
        &self,
        node: &Arc<Node>,
        target: Option<BranchIdx>,
        size: Option<u64>,
    ) -> Result<()> {
        let other = node.as_other()?;
        let there = |home: &Home| target.map_or(self.stack.writable(home.branch), |t| t == home.branch);
        if there(&other.state.read().home) {
            return Ok(());
        }
        let _only_one = other.copyup.lock();
        for _ in 0..TRIES {
            let home = other.state.read().home.clone();
            if there(&home) {
                return Ok(());
            }
            let done = match (&home.by, node.link()) {
                (HomeBy::Held(_), _) => self.copy_held(node, &home, target, size)?,
                (HomeBy::Name | HomeBy::Plink(_), Some(link)) => {
                    self.copy_named(node, &home, &link, target, size)?
                }
                // Losing its last name right now: held in a moment.
                (HomeBy::Name | HomeBy::Plink(_), None) => false,
            };
            if done {
                return Ok(());
            }
            std::thread::yield_now();
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
        size: Option<u64>,
    ) -> Result<bool> {
        let places = link.parent.as_dir()?.at.read().clone();
        let branch = target.map_or_else(|| policy::for_copy(&self.stack, &places, home.branch), Ok)?;
        let to = self.stack.branch(branch);
        let dir = self.ensure_dir(&link.parent, branch)?;
        let (source, stat) = self.spot(node)?;
        let temp = names::temp();
        let state = node.as_other()?.state.read().clone();
        let copy = self
            .make_copy(to, &dir, &temp, &source, &stat, state.identity, size)
            .inspect_err(|_| discard(&dir, &temp, node.kind))?;
        let mut parent = link.parent.as_dir()?.index.write();
        if parent.removed || !node.has_link(&link.parent, &link.name) {
            dir.unlink(&temp).map_err(|e| to.blame(e))?;
            return Ok(false);
        }
        let before = dir.stat_self().map_err(|e| to.blame(e))?;
        let shared = stat.nlink.saturating_sub(self.plinks.hidden(state.identity)) > 1
            && !self.noplink
            && self.plinks.find(state.identity).is_none();
        let placed = if shared {
            self.place_plink(to, &dir, &temp, &link.name, state.identity, &copy, stat.nlink)
        } else {
            dir.rename(&temp, &dir, &link.name, RenameHow::NoReplace)
                .map(|()| HomeBy::Name)
                .map_err(|e| to.blame(e))
        };
        let by = placed.inspect_err(|_| discard(&dir, &temp, node.kind))?;
        restore_times(&dir, &before).map_err(|e| to.blame(e))?;
        if let Some(index) = &mut parent.index {
            index.change(&link.name, branch, put(node.kind, copy.ino));
        }
        let mut state = node.as_other()?.state.write();
        state.home = Home { branch, real: RealId::of(&copy), by };
        state.generation += 1;
        Ok(true)
    }

    /// The copy of a hard-linked file: first under its pseudo-link, where all names find it, then under `name`.
    #[expect(clippy::too_many_arguments, reason = "one step of copy_named, with its facts")]
    fn place_plink(
        &self,
        to: &Branch,
        dir: &Dir,
        temp: &Leaf,
        name: &Leaf,
        identity: RealId,
        copy: &Stat,
        names_below: u32,
    ) -> Result<HomeBy> {
        let below = names_below.saturating_sub(self.plinks.hidden(identity)).saturating_sub(1);
        let text = below.to_string();
        marks::keep_fact(to, Obj::At(dir, temp), Fact::Links, text.as_bytes())?;
        let plinks = self.plinks.make_dir(to)?;
        let text = format!("{}.{}", ids::number(&self.stack, identity), copy.ino);
        let leaf = Leaf::new(OsStr::new(&text)).ok_or(Error::Stale)?;
        dir.link(temp, &plinks, &leaf).map_err(|e| to.blame(e))?;
        let plink = Plink { branch: to.index, leaf: leaf.clone(), real: RealId::of(copy), below };
        self.plinks.insert(identity, plink);
        dir.rename(temp, dir, name, RenameHow::NoReplace).map_err(|e| to.blame(e))?;
        Ok(HomeBy::Plink(leaf))
    }

    /// An unlinked open file from below: the copy never gets a name.
    fn copy_held(
        &self,
        node: &Arc<Node>,
        home: &Home,
        target: Option<BranchIdx>,
        size: Option<u64>,
    ) -> Result<bool> {
        let root = self.root.as_dir()?.at.read().clone();
        let branch = target.map_or_else(|| policy::for_copy(&self.stack, &root, home.branch), Ok)?;
        let to = self.stack.branch(branch);
        let (source, stat) = self.spot(node)?;
        let temp = names::temp();
        let identity = node.as_other()?.state.read().identity;
        let before = to.root.stat_self().map_err(|e| to.blame(e))?;
        let copy = self.make_copy(to, &to.root, &temp, &source, &stat, identity, size);
        let held = to.root.hold(&temp);
        discard(&to.root, &temp, node.kind);
        restore_times(&to.root, &before).map_err(|e| to.blame(e))?;
        let (copy, held) = (copy?, File::from(held.map_err(|e| to.blame(e))?));
        let mut state = node.as_other()?.state.write();
        state.home = Home { branch, real: RealId::of(&copy), by: HomeBy::Held(Arc::new(held)) };
        state.generation += 1;
        Ok(true)
    }

    /// Copies a non-directory to `temp` in `dir`, complete but for its name.
    #[expect(clippy::too_many_arguments, reason = "source and target, each with its facts")]
    fn make_copy(
        &self,
        to: &Branch,
        dir: &Dir,
        temp: &Leaf,
        source: &Spot,
        stat: &Stat,
        identity: RealId,
        size: Option<u64>,
    ) -> Result<Stat> {
        let blame = |e| to.blame(e);
        let _server = plyfs_sys::cred::ActAs::server();
        match stat.kind {
            Kind::File => {
                let from =
                    source.obj().open(Access::Read).map_err(|e| self.stack.branch(source.branch).blame(e))?;
                let file = dir.create(temp, 0o600).map_err(blame)?;
                let wanted = size.unwrap_or(stat.size);
                plyfs_sys::file::copy_contents(&from, stat.size, &file, wanted).map_err(blame)?;
                self.copy_attributes(to, source.obj(), stat, Obj::Fd(file.as_fd()), Some(identity))?;
                if !self.volatile {
                    plyfs_sys::file::fsync(&file, false).map_err(blame)?;
                }
            }
            Kind::Symlink => {
                let target = source.obj().readlink().map_err(blame)?;
                dir.symlink(temp, &target).map_err(blame)?;
                self.copy_attributes(to, source.obj(), stat, Obj::At(dir, temp), Some(identity))?;
            }
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                if stat.is_null_device() {
                    marks::make_null_device(to, dir, temp, 0o600)?;
                } else {
                    dir.mknod(temp, stat.kind, 0o600, stat.rdev).map_err(blame)?;
                }
                self.copy_attributes(to, source.obj(), stat, Obj::At(dir, temp), Some(identity))?;
            }
            Kind::Dir => return Err(Refusal::IsADirectory.into()),
        }
        dir.stat(temp).map_err(blame)
    }

    /// Owner, xattrs and ACLs, mode, our origin, times: in this order, since chown clears set-id bits and xattr
    /// changes touch times.
    fn copy_attributes(
        &self,
        to: &Branch,
        source: Obj<'_>,
        stat: &Stat,
        copy: Obj<'_>,
        identity: Option<RealId>,
    ) -> Result<()> {
        let blame = |e| to.blame(e);
        let made = copy.stat().map_err(blame)?;
        if (made.uid, made.gid) != (stat.uid, stat.gid) {
            self.copy_owner(to, stat, copy)?;
        }
        copy_xattrs(to, source, copy)?;
        if stat.kind != Kind::Symlink {
            copy.chmod(stat.perm).map_err(blame)?;
        }
        let origin = identity.and_then(|identity| ids::origin_text(&self.stack, identity));
        if let Some(text) = origin {
            marks::keep_fact(to, copy, Fact::Origin, text.as_bytes())?;
        }
        copy.set_times(NewTime::At(stat.atime), NewTime::At(stat.mtime)).map_err(blame)
    }

    /// An ordinary user can't give files away: then the copy is the user's, as with every copy of theirs.
    fn copy_owner(&self, to: &Branch, stat: &Stat, copy: Obj<'_>) -> Result<()> {
        match copy.chown(Some(stat.uid), Some(stat.gid)) {
            Err(e) if matches!(e.errno(), Errno::PERM | Errno::INVAL) && !self.privileged => {
                tracing::debug!(branch = %to.path.display(), "owner {}:{} not kept: {e}", stat.uid, stat.gid);
                Ok(())
            }
            done => done.map_err(|e| to.blame(e)),
        }
    }
}

/// Copies every xattr users know; removes what the copy inherited (default ACLs) and the source lacks.
fn copy_xattrs(to: &Branch, source: Obj<'_>, copy: Obj<'_>) -> Result<()> {
    let names = source.xattr_names()?;
    for name in copy.xattr_names().map_err(|e| to.blame(e))? {
        if !names.contains(&name) && name.starts_with(b"system.posix_acl_") {
            copy.remove_xattr(OsStr::from_bytes(&name)).map_err(|e| to.blame(e))?;
        }
    }
    for name in names.iter().filter(|name| !marks::is_hidden_xattr(name)) {
        let name = OsStr::from_bytes(name);
        let Some(value) = source.xattr(name)? else { continue };
        match copy.set_xattr(name, &value, SetXattr::Any) {
            Ok(()) => {}
            Err(e) if e.errno() == Errno::OPNOTSUPP || e.errno() == Errno::PERM => {
                tracing::warn!(branch = %to.path.display(), "xattr {} is lost at copy-up: {e}", name.display());
            }
            Err(e) => return Err(to.blame(e)),
        }
    }
    Ok(())
}

/// Internal work in a directory is no change its users should see (aufs.5: the parent's times are kept).
pub(crate) fn restore_times(dir: &Dir, before: &Stat) -> plyfs_sys::Result<()> {
    match Obj::Dir(dir).set_times(NewTime::At(before.atime), NewTime::At(before.mtime)) {
        // Another user's directory: times can't be set, and nothing depends on it.
        Err(e) if e.errno() == Errno::PERM => Ok(()),
        done => done,
    }
}

/// Takes a temporary name away after a failure; a second failure only leaves an invisible name behind.
pub(crate) fn discard(dir: &Dir, temp: &Leaf, kind: Kind) {
    let gone = if kind.is_dir() { dir.rmdir(temp) } else { dir.unlink(temp) };
    if let Err(e) = gone
        && e.errno() != Errno::NOENT
    {
        tracing::warn!("temporary name left behind: {e}");
    }
}
