//! `Filesystem`: what the skin implements. Typed arguments in, a typed answer or an errno out.
//!
//! Methods run on several threads at once, and never own the means to reply. Those left out answer ENOSYS, after which
//! the kernel stops asking. Not here: who calls them (`crate::dispatch`).

use std::ffi::{OsStr, OsString};

use plyfs_sys::Errno;

use crate::dirents::Dirents;
use crate::messages::InHeader;
use crate::messages::replies::*;
use crate::messages::requests::*;

/// An answer or the errno to give instead.
pub type Answer<T> = Result<T, Errno>;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestContext {
    /// The request's number, for logs.
    pub unique: u64,
    /// Filesystem user id of the caller.
    pub uid: u32,
    /// Filesystem group id.
    pub gid: u32,
    /// Thread id; 0 if not visible from here, or the kernel itself.
    pub pid: u32,
}

impl RequestContext {
    /// The caller in a request's header.
    pub fn new(header: &InHeader) -> RequestContext {
        RequestContext { unique: header.unique, uid: header.uid, gid: header.gid, pid: header.pid }
    }
}

/// A name in a directory: the directory's node and the name.
pub type At<'a> = (u64, &'a OsStr);

type Cx = RequestContext;

/// A file system behind the protocol. Node ids, handles and lookup counts: see the crate's page.
#[expect(unused_variables, reason = "the default answers look at nothing")]
pub trait Filesystem: Send + Sync + 'static {
    /// Raises the lookup count. An absent name may be answered with node id 0 and a time to cache it.
    fn lookup(&self, cx: &Cx, at: At<'_>) -> Answer<EntryOut>;
    /// Lowers the lookup count.
    fn forget(&self, node: u64, count: u64);
    /// stat(2).
    fn getattr(&self, cx: &Cx, node: u64, fh: Option<u64>) -> Answer<AttrOut>;

    /// chmod, chown, truncate, utimes.
    fn setattr(&self, cx: &Cx, node: u64, change: &SetattrIn) -> Answer<AttrOut> {
        Err(Errno::NOSYS)
    }
    /// statx(2) where more than [`Filesystem::getattr`] tells is wanted.
    fn statx(&self, cx: &Cx, node: u64, fh: Option<u64>, mask: u32) -> Answer<StatxOut> {
        Err(Errno::NOSYS)
    }
    /// The target of a symbolic link.
    fn readlink(&self, cx: &Cx, node: u64) -> Answer<OsString> {
        Err(Errno::NOSYS)
    }
    /// Makes a file, FIFO, socket or device. Raises the lookup count, as all that answer an entry.
    fn mknod(&self, cx: &Cx, at: At<'_>, how: &MknodIn) -> Answer<EntryOut> {
        Err(Errno::NOSYS)
    }
    /// Makes a directory.
    fn mkdir(&self, cx: &Cx, at: At<'_>, how: &MkdirIn) -> Answer<EntryOut> {
        Err(Errno::NOSYS)
    }
    /// Makes a symbolic link.
    fn symlink(&self, cx: &Cx, at: At<'_>, target: &OsStr) -> Answer<EntryOut> {
        Err(Errno::NOSYS)
    }
    /// Gives a node another name.
    fn link(&self, cx: &Cx, node: u64, at: At<'_>) -> Answer<EntryOut> {
        Err(Errno::NOSYS)
    }
    /// Removes a name of a non-directory.
    fn unlink(&self, cx: &Cx, at: At<'_>) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// Removes an empty directory.
    fn rmdir(&self, cx: &Cx, at: At<'_>) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// renameat2(2), flags included.
    fn rename(&self, cx: &Cx, from: At<'_>, to: At<'_>, flags: u32) -> Answer<()> {
        Err(Errno::NOSYS)
    }

    /// Opens a file.
    fn open(&self, cx: &Cx, node: u64, how: &OpenIn) -> Answer<OpenOut> {
        Err(Errno::NOSYS)
    }
    /// Makes and opens a file.
    fn create(&self, cx: &Cx, at: At<'_>, how: &CreateIn) -> Answer<CreateOut> {
        Err(Errno::NOSYS)
    }
    /// Makes and opens a file without a name.
    fn tmpfile(&self, cx: &Cx, parent: u64, how: &CreateIn) -> Answer<CreateOut> {
        Err(Errno::OPNOTSUPP)
    }
    /// Fills `buf`; less only at the end of the file.
    fn read(&self, cx: &Cx, node: u64, how: &ReadIn, buf: &mut [u8]) -> Answer<usize> {
        Err(Errno::NOSYS)
    }
    /// Writes `data`, tells how much was taken.
    fn write(&self, cx: &Cx, node: u64, how: &WriteIn, data: &[u8]) -> Answer<usize> {
        Err(Errno::NOSYS)
    }
    /// The last descriptor of an open file is closed.
    fn release(&self, cx: &Cx, node: u64, fh: u64) {}
    /// fsync(2), fdatasync(2).
    fn fsync(&self, cx: &Cx, node: u64, fh: u64, data_only: bool) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// fallocate(2).
    fn fallocate(&self, cx: &Cx, node: u64, how: &FallocateIn) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    fn lseek(&self, cx: &Cx, node: u64, how: &LseekIn) -> Answer<u64> {
        Err(Errno::NOSYS)
    }
    /// copy_file_range(2).
    fn copy_file_range(&self, cx: &Cx, node: u64, range: &CopyFileRangeIn) -> Answer<u64> {
        Err(Errno::NOSYS)
    }

    /// Opens a directory.
    fn opendir(&self, cx: &Cx, node: u64, how: &OpenIn) -> Answer<OpenOut> {
        Err(Errno::NOSYS)
    }
    /// Lists from `how.offset` on until `out` is full.
    fn readdir(&self, cx: &Cx, node: u64, how: &ReadIn, out: &mut Dirents<'_>) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// The same with an entry per line; each with a node id raises that node's lookup count, except of `.` and `..`.
    fn readdirplus(&self, cx: &Cx, node: u64, how: &ReadIn, out: &mut Dirents<'_>) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// The last descriptor of an open directory is closed.
    fn releasedir(&self, cx: &Cx, node: u64, fh: u64) {}
    /// fsync(2) of a directory.
    fn fsyncdir(&self, cx: &Cx, node: u64, fh: u64, data_only: bool) -> Answer<()> {
        Err(Errno::NOSYS)
    }

    /// statfs(2).
    fn statfs(&self, cx: &Cx, node: u64) -> Answer<StatfsOut> {
        Err(Errno::NOSYS)
    }
    /// syncfs(2), where the kernel passes it on.
    fn syncfs(&self, cx: &Cx) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// The whole value; the caller's room is seen to elsewhere.
    fn getxattr(&self, cx: &Cx, node: u64, name: &OsStr) -> Answer<Vec<u8>> {
        Err(Errno::NOSYS)
    }
    /// All names, each ended by NUL.
    fn listxattr(&self, cx: &Cx, node: u64) -> Answer<Vec<u8>> {
        Err(Errno::NOSYS)
    }
    /// setxattr(2).
    fn setxattr(&self, cx: &Cx, node: u64, xattr: &SetXattr<'_>) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// removexattr(2).
    fn removexattr(&self, cx: &Cx, node: u64, name: &OsStr) -> Answer<()> {
        Err(Errno::NOSYS)
    }
    /// Every few milliseconds while there is traffic, from a thread that answers no request and has other work: to be
    /// left soon.
    fn tick(&self) {}
    /// Traffic has ceased, for now: what is kept for the next request only may go. From such a thread.
    fn idle(&self) {}
    /// The first worker was interrupted by a signal. From its thread, between requests.
    fn interrupted(&self) {}
    /// The connection has ended: no request will follow.
    fn destroy(&self) {}
}

/// What setxattr(2) is to set.
#[derive(Debug, Clone, Copy)]
pub struct SetXattr<'a> {
    /// The name, with its namespace.
    pub name: &'a OsStr,
    /// The value.
    pub value: &'a [u8],
    /// XATTR_CREATE, XATTR_REPLACE.
    pub flags: u32,
    /// With an access ACL: clear the set-group-id bit, as the caller may not keep it.
    pub kill_sgid: bool,
}
