//! setattr: size, owner, mode, times. Everything copies the object up; how much of its data, `complete.rs` says.

use std::sync::Arc;

use plyfs_sys::{Kind, NewTime, Obj, Stat};

use crate::attr::{Attr, CAPABILITY, Fh, Ino, SET_GID, SET_IDS, SET_UID, SetAttr, SetTime};
use crate::error::{Error, Refusal, Result};
use crate::nodes::Node;
use crate::ops::complete::Need;
use crate::union::{TRIES, Union};

const GROUP_EXEC: u32 = 0o010;

impl Union {
    /// Changes what `change` names, in one order: size, owner, mode, times.
    pub fn setattr(&self, ino: Ino, fh: Option<Fh>, change: &SetAttr) -> Result<Attr> {
        let node = self.node_to_change(ino, change.size.map_or(Need::Attributes, Need::First))?;
        let (spot, stat) = self.spot(&node)?;
        let branch = self.stack.branch(spot.branch);
        if let Some(size) = change.size {
            self.resize(&node, fh, size)?;
            if change.kill_suidgid {
                kill_set_ids(spot.obj(), &stat).map_err(|e| branch.blame(e))?;
            }
        }
        self.change_owner_and_mode(spot.obj(), &stat, change)?;
        let new = |time: Option<SetTime>| match time {
            None => NewTime::Keep,
            Some(SetTime::Now) => NewTime::Now,
            Some(SetTime::At(time)) => NewTime::At(time),
        };
        if change.atime.is_some() || change.mtime.is_some() {
            spot.obj().set_times(new(change.atime), new(change.mtime)).map_err(|e| branch.blame(e))?;
        }
        if change.perm.is_some_and(|perm| perm & SET_IDS != 0)
            && let Ok(other) = node.as_other()
        {
            other.door.lock().shut_writers_out();
        }
        self.attr_told(ino, &node)
    }

    /// The node of `ino`, brought to a writable branch, a file with the data it needs; the one that took over if that
    /// happened meanwhile.
    pub(crate) fn node_to_change(&self, ino: Ino, need: Need) -> Result<Arc<Node>> {
        for _ in 0..TRIES {
            let node = self.node(ino)?;
            match self.make_writable(&node, need) {
                Err(Error::Stale) if node.successor().is_some() => {}
                done => return done.map(|()| node),
            }
        }
        Err(Error::Stale)
    }

    /// Brings a node to a writable branch, a file with the data it needs.
    pub(crate) fn make_writable(&self, node: &Arc<Node>, need: Need) -> Result<()> {
        if !node.kind.is_dir() {
            return self.copy_up(node, need);
        }
        // A removed directory is changed where it was; not if that is no place to write.
        if let Some((branch, _)) = node.as_dir()?.gone.read().clone() {
            return if self.stack.writable(branch) { Ok(()) } else { Err(Refusal::ReadOnly.into()) };
        }
        let top = node.top()?;
        if self.stack.writable(top) {
            return Ok(());
        }
        let link = node.link().ok_or(Refusal::ReadOnly)?;
        let branch = self.branch_for_copy(&link.parent, top)?;
        self.ensure_dir(node, branch).map(drop)
    }

    fn resize(&self, node: &Arc<Node>, fh: Option<Fh>, size: u64) -> Result<()> {
        if node.kind != Kind::File {
            return Err(if node.kind.is_dir() { Refusal::IsADirectory } else { Refusal::Invalid }.into());
        }
        let handle = fh.map(|fh| self.files.get(fh)).transpose()?.filter(|handle| handle.write);
        let _io = node.as_other()?.io.read();
        let backing = match handle {
            Some(handle) => self.backing(&handle, true)?,
            None => self.open_backing(node, true)?.0,
        };
        Ok(plyfs_sys::file::truncate(&backing.file, size)?)
    }

    fn change_owner_and_mode(&self, obj: Obj<'_>, stat: &Stat, change: &SetAttr) -> Result<()> {
        let uid = change.uid.map(|uid| self.ids.kept_uid(uid)).transpose()?;
        let gid = change.gid.map(|gid| self.ids.kept_gid(gid)).transpose()?;
        if self.overrides.is_on() {
            if uid.is_some() || gid.is_some() || change.perm.is_some() {
                let mut shown = self.overrides.apply(obj, stat)?;
                shown.uid = uid.unwrap_or(shown.uid);
                shown.gid = gid.unwrap_or(shown.gid);
                shown.perm = change.perm.unwrap_or(shown.perm);
                self.overrides.keep(obj, &shown)?;
            }
            return Ok(());
        }
        if uid.is_some() || gid.is_some() {
            obj.chown(uid, gid)?;
        }
        if let Some(perm) = change.perm {
            // A symlink has no mode of its own: EOPNOTSUPP, as Linux says.
            obj.chmod(perm)?;
        }
        Ok(())
    }
}

/// Clears set-user-id, and set-group-id of a group-executable file, as the kernel does after a write by somebody
/// without CAP_FSETID; and file capabilities.
pub(crate) fn kill_set_ids(obj: Obj<'_>, stat: &Stat) -> plyfs_sys::Result<()> {
    let mut perm = stat.perm & !SET_UID;
    if stat.perm & GROUP_EXEC != 0 {
        perm &= !SET_GID;
    }
    if perm != stat.perm {
        obj.chmod(perm)?;
    }
    match obj.xattr(CAPABILITY.as_ref())? {
        Some(_) => obj.remove_xattr(CAPABILITY.as_ref()),
        None => Ok(()),
    }
}
