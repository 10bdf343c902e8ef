//! Something to be put into an archive, or to be copied from the layers below: its attributes and its contents.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use plyfs_sys::{Dev, Kind, Time};
use plyfs_union::{Attr, Error, Fh, Ino, OpenHow, Result, Union};

use crate::unpack::attrs::Attrs;

/// The layers below one that is unpacked: asked for targets of hard links and for the attributes of directories that
/// the layer mentions only as parents.
pub trait Lower {
    /// What they show under `path` (components joined by `/`; the root is empty); symlinks are not followed.
    fn find(&self, path: &[u8]) -> Result<Option<Object<'_>>>;
}

impl Lower for Union {
    fn find(&self, path: &[u8]) -> Result<Option<Object<'_>>> {
        let mut held = Held::root(self)?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            match held.child(OsStr::from_bytes(name))? {
                Some(child) => held = child,
                None => return Ok(None),
            }
        }
        held.object().map(Some)
    }
}

/// One object of a union.
pub struct Object<'a> {
    pub(crate) kind: Kind,
    pub(crate) perm: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: Dev,
    pub(crate) nlink: u32,
    /// Bytes of a regular file, else 0.
    pub(crate) size: u64,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The text of a symlink.
    pub(crate) link: Vec<u8>,
    held: Held<'a>,
}

impl std::fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({:?}, {:o}, {} bytes)", self.kind, self.perm, self.size)
    }
}

impl<'a> Object<'a> {
    pub(crate) fn attrs(&self) -> Attrs {
        Attrs {
            perm: self.perm,
            uid: self.uid,
            gid: self.gid,
            xattrs: self.xattrs.clone(),
            times: Some((self.atime, self.mtime)),
        }
    }

    pub(crate) fn is_null_device(&self) -> bool {
        self.kind == Kind::CharDevice && self.rdev == Dev::default()
    }

    /// Its contents.
    pub(crate) fn open(&self) -> Result<Contents<'a>> {
        let how = OpenHow {
            read: true,
            write: false,
            truncate: false,
            direct: false,
            keeps_set_ids: true,
            kill_suidgid: false,
        };
        let union = self.held.union;
        let opened = union.open_file(self.held.ino, how)?;
        Ok(Contents { union, fh: opened.fh, offset: 0 })
    }
}

/// A node of a union with one reference.
pub(crate) struct Held<'a> {
    pub(crate) union: &'a Union,
    pub(crate) ino: Ino,
    pub(crate) attr: Attr,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.ino != Ino::ROOT {
            self.union.forget(self.ino, 1);
        }
    }
}

impl<'a> Held<'a> {
    pub(crate) fn root(union: &'a Union) -> Result<Held<'a>> {
        Ok(Held { union, ino: Ino::ROOT, attr: union.getattr(Ino::ROOT, None)? })
    }

    /// The entry `name`; `None` if there is none, or this is no directory.
    pub(crate) fn child(&self, name: &OsStr) -> Result<Option<Held<'a>>> {
        if self.attr.kind != Kind::Dir {
            return Ok(None);
        }
        let found = self.union.lookup(self.ino, name)?;
        Ok(found.map(|entry| Held { union: self.union, ino: entry.ino, attr: entry.attr }))
    }

    /// Reads all that an archive wants to know.
    pub(crate) fn object(self) -> Result<Object<'a>> {
        let link = match self.attr.kind {
            Kind::Symlink => self.union.readlink(self.ino)?.as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let xattrs = self.xattrs()?;
        let attr = &self.attr;
        Ok(Object {
            kind: attr.kind,
            perm: attr.perm,
            uid: attr.uid,
            gid: attr.gid,
            rdev: Dev { major: attr.rdev.0, minor: attr.rdev.1 },
            nlink: attr.nlink,
            size: if attr.kind == Kind::File { attr.size } else { 0 },
            atime: attr.atime,
            mtime: attr.mtime,
            xattrs,
            link,
            held: self,
        })
    }

    /// Sorted, without marks of unions: the union hides its own, other tools' may be there.
    fn xattrs(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let list = match self.union.listxattr(self.ino) {
            Err(Error::Refused(plyfs_union::Refusal::Unsupported)) => return Ok(Vec::new()),
            Err(Error::Sys { source, .. }) if source.errno() == plyfs_sys::Errno::OPNOTSUPP => {
                return Ok(Vec::new());
            }
            list => list?,
        };
        let mut all = Vec::new();
        for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            if plyfs_union::layer::is_mark_xattr(name) {
                continue;
            }
            all.push((name.to_vec(), self.union.getxattr(self.ino, OsStr::from_bytes(name))?));
        }
        all.sort();
        Ok(all)
    }
}

/// Reads a file of a union.
pub(crate) struct Contents<'a> {
    union: &'a Union,
    fh: Fh,
    offset: u64,
}

impl Drop for Contents<'_> {
    fn drop(&mut self) {
        self.union.release(self.fh);
    }
}

impl Read for Contents<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.union.read(self.fh, self.offset, buf).map_err(io::Error::other)?;
        self.offset += got as u64;
        Ok(got)
    }
}
