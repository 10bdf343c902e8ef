//! The values that cross the engine's boundary: numbers of nodes and handles, attributes, requests to change them.
//!
//! Not here: anything of FUSE (`plyfs-fuse` converts), anything that does I/O.

use bitflags::bitflags;
pub use plyfs_sys::stat::{Kind, Time};

/// A node of the union as the kernel knows it: never reused while the mount lives. Not the `st_ino`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The union's root directory (FUSE_ROOT_ID).
    pub const ROOT: Ino = Ino(1);
}

/// S_ISUID.
pub(crate) const SET_UID: u32 = 0o4000;
/// S_ISGID.
pub(crate) const SET_GID: u32 = 0o2000;
/// Both.
pub(crate) const SET_IDS: u32 = SET_UID | SET_GID;

/// The xattr of file capabilities (capabilities(7)).
pub(crate) const CAPABILITY: &str = "security.capability";

/// An open file or directory of this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// Who asks. Permission is the kernel's matter (`default_permissions`); this decides owners of new entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Filesystem user id, as the union shows ids.
    pub uid: u32,
    /// Filesystem group id.
    pub gid: u32,
    /// Process (thread) id, 0 if unknown.
    pub pid: u32,
    /// File mode creation mask, applied once, here, where no default ACL rules (POSIX `umask`).
    pub umask: u32,
}

impl Caller {
    /// This process itself with an empty umask.
    pub fn me() -> Caller {
        Caller {
            uid: plyfs_sys::cred::effective_uid(),
            gid: plyfs_sys::cred::effective_gid(),
            pid: std::process::id(),
            umask: 0,
        }
    }
}

/// What stat(2) tells. `ino` is the stable `st_ino` (design D4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// `st_ino`.
    pub ino: u64,
    /// Type.
    pub kind: Kind,
    /// Permission bits, 0o7777.
    pub perm: u32,
    /// Link count; 0 for an open unlinked file.
    pub nlink: u32,
    /// Owner as the union shows it.
    pub uid: u32,
    /// Group as the union shows it.
    pub gid: u32,
    /// Device number of a device node: major, minor.
    pub rdev: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    /// Preferred I/O size, bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last data change.
    pub mtime: Time,
    /// Last status change.
    pub ctime: Time,
    /// Birth, where the filesystem tells.
    pub btime: Option<Time>,
    /// Nothing changes these attributes but calls of the engine: they may be kept until one does.
    pub lasts: bool,
}

/// A node found or made; its lookup count was raised by one ([`crate::Union::forget`] lowers it).
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The node.
    pub ino: Ino,
    /// Its attributes.
    pub attr: Attr,
}

/// An open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The handle.
    pub fh: Fh,
    /// The kernel reads and writes by itself through the backing file of this number.
    pub backing: Option<i32>,
    /// What the kernel is to think of the pages that it has of the file.
    pub pages: crate::passthrough::Pages,
    /// Attributes of the file that were given with [`Attr::lasts`] no longer last.
    pub forget_attr: bool,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The server's clock (UTIME_NOW).
    Now,
    /// This instant.
    At(Time),
}

/// What setattr is to change; `None` leaves alone.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "stat(2)'s names")]
pub struct SetAttr {
    pub perm: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// Clear set-user-id, set-group-id (if group-executable) and capabilities: asked with a size change by a
    /// caller without CAP_FSETID (FATTR_KILL_SUIDGID).
    pub kill_suidgid: bool,
}

/// What to make with mknod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewNode {
    /// File, FIFO, socket or device.
    pub kind: Kind,
    /// Permission bits before umask.
    pub perm: u32,
    /// Major, minor of a device.
    pub rdev: (u32, u32),
}

/// How to open: the meaning of open(2)'s flags that reach a filesystem, and of who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenHow {
    /// Reading allowed.
    pub read: bool,
    /// Writing allowed.
    pub write: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// O_DIRECT.
    pub direct: bool,
    /// The caller may write without clearing set-user-id bits (CAP_FSETID).
    pub keeps_set_ids: bool,
    /// FUSE_OPEN_KILL_SUIDGID with O_TRUNC.
    pub kill_suidgid: bool,
}

bitflags! {
    /// renameat2(2)'s flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// RENAME_NOREPLACE.
        const NOREPLACE = 1;
        /// RENAME_EXCHANGE.
        const EXCHANGE = 2;
        /// RENAME_WHITEOUT: refused with EINVAL (aufs).
        const WHITEOUT = 4;
    }
}

/// One line of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name; `.` and `..` come first.
    pub name: &'a std::ffi::OsStr,
    /// `d_ino`, equal to the entry's `st_ino`.
    pub ino: u64,
    /// `d_type`.
    pub kind: Kind,
    /// `d_off`: where to go on after this line. Below 2^31, stable while the name exists.
    pub cookie: u64,
}

/// statfs(2)'s answer.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "statvfs(3)'s names")]
pub struct StatFs {
    pub bsize: u32,
    pub frsize: u32,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub namelen: u32,
}

/// lseek's `SEEK_DATA` and `SEEK_HOLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

bitflags! {
    /// setxattr(2)'s flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct XattrFlags: u32 {
        /// XATTR_CREATE.
        const CREATE = 1;
        /// XATTR_REPLACE.
        const REPLACE = 2;
    }
}
