//! Copy-up of directories, without their contents, and what copies of all kinds share (aufs.5, "Copy On Write").
//! Files and other non-directories: `copyup_file.rs`. The mode of work is the same: see there.

use std::sync::Arc;

use plyfs_sys::{Dir, Errno, Kind, Leaf, NewTime, Obj, RenameHow, SetXattr, Stat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::attr::SET_IDS;
use crate::branch::Branch;
use crate::error::{Error, Refusal, Result};
use crate::ids::{self, RealId};
use crate::index::put;
use crate::marks::{self, Fact};
use crate::names;
use crate::nodes::{DirAt, Link, Node, Place};
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
            let parent = self.ensure_dir(&link.parent, branch)?;
            self.despite_mode(&parent, || self.place_dir(node, &link, &parent, branch))?;
        }
        Err(Error::Stale)
    }

    /// Makes the directory on `branch`, unless the world has changed: the caller looks again.
    fn place_dir(&self, node: &Arc<Node>, link: &Link, parent_dir: &Dir, branch: BranchIdx) -> Result<()> {
        let mut parent = link.parent.as_dir()?.index.write();
        // Whoever lists the directory for the first time settles its places: not at the same time.
        let _listing = node.as_dir()?.index.write();
        if parent.removed || !node.has_link(&link.parent, &link.name) || node.at(branch)?.is_some() {
            return Ok(());
        }
        let stat = self.copy_dir(node, parent_dir, &link.name, branch)?;
        let at = DirAt { branch, ino: stat.ino, place: Place::Named, record: None };
        let mut places = node.as_dir()?.at.write();
        let position = places.iter().position(|at| at.branch > branch).unwrap_or(places.len());
        places.insert(position, at);
        drop(places);
        if let Some(index) = &mut parent.index {
            index.change(&link.name, branch, put(Kind::Dir, stat.ino));
        }
        Ok(())
    }

    /// Runs internal work in `dir`; an ordinary user's directory that is not writable by mode is so for as long as
    /// that takes: copying up is not the caller's writing. No index lock may be held.
    pub(crate) fn despite_mode<T>(&self, dir: &Dir, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            Err(Error::Sys { source, .. }) if source.errno() == Errno::ACCESS && !self.privileged => {}
            done => return done,
        }
        let _one_at_a_time = self.modes.lock();
        let perm = dir.stat_self()?.perm;
        if perm & 0o200 != 0 {
            return work();
        }
        Obj::Dir(dir).chmod(perm | 0o200)?;
        let done = work();
        Obj::Dir(dir).chmod(perm)?;
        done
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

    /// Owner, xattrs and ACLs, our origin, mode, times: in this order, since chown clears set-id bits, xattrs of a
    /// read-only file can't be set by an ordinary user, and xattr changes touch times.
    pub(crate) fn copy_attributes(
        &self,
        to: &Branch,
        source: Obj<'_>,
        stat: &Stat,
        copy: Obj<'_>,
        identity: Option<RealId>,
    ) -> Result<()> {
        let blame = |e| to.blame(e);
        let made = copy.stat().map_err(blame)?;
        let owned = (made.uid, made.gid) == (stat.uid, stat.gid) || self.copy_owner(to, stat, copy)?;
        copy_xattrs(to, source, copy)?;
        // Names that come apart at copy-up must not be one file by their numbers.
        let apart = self.noplink && stat.nlink > 1 && stat.kind != Kind::Dir;
        let origin = identity.filter(|_| !apart).and_then(|identity| ids::origin_text(&self.stack, identity));
        if let Some(text) = origin {
            marks::keep_fact(to, copy, Fact::Origin, text.as_bytes())?;
        }
        if stat.kind != Kind::Symlink {
            // Set-id bits mean an owner: without the owner they would mean another.
            let perm = if owned || stat.kind == Kind::Dir { stat.perm } else { stat.perm & !SET_IDS };
            copy.chmod(perm).map_err(blame)?;
        }
        copy.set_times(NewTime::At(stat.atime), NewTime::At(stat.mtime)).map_err(blame)
    }

    /// An ordinary user can't give files away: then the copy is the user's, as with every copy of theirs, and the
    /// answer is `false`.
    fn copy_owner(&self, to: &Branch, stat: &Stat, copy: Obj<'_>) -> Result<bool> {
        match copy.chown(Some(stat.uid), Some(stat.gid)) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.errno(), Errno::PERM | Errno::INVAL) => {
                tracing::debug!(branch = %to.path.display(), "owner {}:{} not kept: {e}", stat.uid, stat.gid);
                Ok(false)
            }
            Err(e) => Err(to.blame(e)),
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
