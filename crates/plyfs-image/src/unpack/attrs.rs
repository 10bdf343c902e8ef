//! Owners, modes, xattrs and times, set through descriptors or without following a last symlink.
//!
//! Order: the owner first, because chown(2) takes set-id bits and capabilities away; then xattrs, so that the mode
//! has the last word over an ACL's mask; the times last.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use plyfs_sys::{Errno, Kind, NewTime, Obj, SetXattr, SysError, Time, file};
use plyfs_union::layer;

use super::Owners;
use super::error::{Loss, Warnings};
use super::headers::Entry;

/// What an entry says of its attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attrs {
    pub(crate) perm: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Last access and last change; `None` leaves the moment of unpacking.
    pub(crate) times: Option<(Time, Time)>,
}

impl Attrs {
    /// Marks of unions are left out.
    pub(crate) fn of(entry: &mut Entry, warnings: &mut Warnings) -> Attrs {
        if entry.unread {
            warnings.add(Loss::Unread, &entry.name);
        }
        let all = entry.xattrs.len();
        entry.xattrs.retain(|(name, _)| !layer::is_mark_xattr(name) && is_xattr_name(name));
        if entry.xattrs.len() < all {
            warnings.add(Loss::MarkXattr, &entry.name);
        }
        // Docker: an access time before the change is none.
        let atime = entry.atime.map_or(entry.mtime, |atime| atime.max(entry.mtime));
        Attrs {
            perm: entry.perm,
            uid: entry.uid,
            gid: entry.gid,
            xattrs: std::mem::take(&mut entry.xattrs),
            times: Some((atime, entry.mtime)),
        }
    }

    /// Of a directory that no entry describes (OCI layer.md leaves it open; Docker and containerd do so).
    pub(crate) fn implied() -> Attrs {
        Attrs { perm: 0o755, ..Attrs::default() }
    }
}

/// A name that xattr(7) allows.
fn is_xattr_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.contains(&0)
}

/// Sets attributes as the policy allows; tells what could not be.
#[derive(Debug)]
pub(crate) struct Setter {
    pub(crate) owners: Owners,
    pub(crate) warnings: Warnings,
    me: (u32, u32),
}

impl Setter {
    pub(crate) fn new(owners: Owners) -> Setter {
        let me = (plyfs_sys::cred::effective_uid(), plyfs_sys::cred::effective_gid());
        Setter { owners, warnings: Warnings::default(), me }
    }

    /// Of a new regular file, which nobody else can reach.
    pub(crate) fn file(&mut self, path: &[u8], file: &File, attrs: &Attrs) -> Result<(), SysError> {
        if let Some((uid, gid)) = self.owner(path, attrs) {
            file::chown(file, Some(uid), Some(gid))?;
        }
        self.xattrs(path, Obj::Fd(file.as_fd()), &attrs.xattrs)?;
        file::chmod(file, self.perm(path, attrs.perm, 0o400))?;
        match attrs.times {
            Some((atime, mtime)) => file::set_times(file, NewTime::At(atime), NewTime::At(mtime)),
            None => Ok(()),
        }
    }

    /// Of a new symlink, device or FIFO, or of a directory.
    pub(crate) fn object(
        &mut self,
        path: &[u8],
        obj: Obj<'_>,
        kind: Kind,
        attrs: &Attrs,
    ) -> Result<(), SysError> {
        if let Some((uid, gid)) = self.owner(path, attrs) {
            obj.chown(Some(uid), Some(gid))?;
        }
        self.xattrs(path, obj, &attrs.xattrs)?;
        if kind != Kind::Symlink {
            let own = if kind == Kind::Dir { 0o700 } else { 0o400 };
            obj.chmod(self.perm(path, attrs.perm, own))?;
        }
        match attrs.times {
            Some((atime, mtime)) => obj.set_times(NewTime::At(atime), NewTime::At(mtime)),
            None => Ok(()),
        }
    }

    fn owner(&mut self, path: &[u8], attrs: &Attrs) -> Option<(u32, u32)> {
        match self.owners {
            Owners::AsIs => Some((attrs.uid, attrs.gid)),
            Owners::Ours => {
                if (attrs.uid, attrs.gid) != self.me {
                    self.warnings.add(Loss::Owner, path);
                }
                None
            }
        }
    }

    fn perm(&mut self, path: &[u8], perm: u32, own: u32) -> u32 {
        if self.owners == Owners::Ours && perm & own != own {
            self.warnings.add(Loss::Mode, path);
            return perm | own;
        }
        perm
    }

    /// What this filesystem, this type of file or our privileges do not allow is told, not an error: as every other
    /// engine does (containerd, Docker).
    pub(crate) fn xattrs(
        &mut self,
        path: &[u8],
        obj: Obj<'_>,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), SysError> {
        for (name, value) in xattrs {
            match obj.set_xattr(OsStr::from_bytes(name), value, SetXattr::Any) {
                Ok(()) => {}
                Err(e)
                    if matches!(e.errno(), Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL) =>
                {
                    self.warnings.add(Loss::Xattr, path);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
