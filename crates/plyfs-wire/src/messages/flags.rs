//! The bits in requests and replies.
//!
//! Not here: which of them we ask for ([`crate::init`]).

use bitflags::bitflags;

bitflags! {
    /// INIT's capabilities; the upper half travels in `flags2`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct InitFlags: u64 {
        const ASYNC_READ = 1;
        const POSIX_LOCKS = 1 << 1;
        const ATOMIC_O_TRUNC = 1 << 3;
        const EXPORT_SUPPORT = 1 << 4;
        const BIG_WRITES = 1 << 5;
        const DONT_MASK = 1 << 6;
        const FLOCK_LOCKS = 1 << 10;
        const AUTO_INVAL_DATA = 1 << 12;
        const DO_READDIRPLUS = 1 << 13;
        const READDIRPLUS_AUTO = 1 << 14;
        const ASYNC_DIO = 1 << 15;
        const WRITEBACK_CACHE = 1 << 16;
        const NO_OPEN_SUPPORT = 1 << 17;
        const PARALLEL_DIROPS = 1 << 18;
        const HANDLE_KILLPRIV = 1 << 19;
        const POSIX_ACL = 1 << 20;
        const ABORT_ERROR = 1 << 21;
        const MAX_PAGES = 1 << 22;
        const CACHE_SYMLINKS = 1 << 23;
        const NO_OPENDIR_SUPPORT = 1 << 24;
        const EXPLICIT_INVAL_DATA = 1 << 25;
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        const SETXATTR_EXT = 1 << 29;
        const INIT_EXT = 1 << 30;
        const CREATE_SUPP_GROUP = 1 << 34;
        const HAS_EXPIRE_ONLY = 1 << 35;
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        const PASSTHROUGH = 1 << 37;
        const NO_EXPORT_SUPPORT = 1 << 38;
        const HAS_RESEND = 1 << 39;
        const ALLOW_IDMAP = 1 << 40;
        const OVER_IO_URING = 1 << 41;
        const REQUEST_TIMEOUT = 1 << 42;
    }
}

bitflags! {
    /// Which fields of [`super::requests::SetattrIn`] count.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SetattrValid: u32 {
        const MODE = 1;
        const UID = 1 << 1;
        const GID = 1 << 2;
        const SIZE = 1 << 3;
        const ATIME = 1 << 4;
        const MTIME = 1 << 5;
        const FH = 1 << 6;
        const ATIME_NOW = 1 << 7;
        const MTIME_NOW = 1 << 8;
        const LOCKOWNER = 1 << 9;
        const CTIME = 1 << 10;
        const KILL_SUIDGID = 1 << 11;
    }
}

bitflags! {
    /// What the reply to an open says about the handle.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct OpenFlags: u32 {
        /// Data goes past the page cache.
        const DIRECT_IO = 1;
        /// Pages cached from earlier opens stay.
        const KEEP_CACHE = 1 << 1;
        const NONSEEKABLE = 1 << 2;
        /// The kernel may keep this directory's listing.
        const CACHE_DIR = 1 << 3;
        const STREAM = 1 << 4;
        /// close(2) sends no FLUSH.
        const NOFLUSH = 1 << 5;
        const PARALLEL_DIRECT_WRITES = 1 << 6;
        const PASSTHROUGH = 1 << 7;
    }
}

/// GETATTR: the handle is given.
pub const GETATTR_FH: u32 = 1;
/// OPEN, CREATE: clear set-user-id and set-group-id when truncating.
pub const OPEN_KILL_SUIDGID: u32 = 1;
/// WRITE: clear set-user-id and set-group-id.
pub const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// FSYNC, FSYNCDIR: data only.
pub const FSYNC_DATA_ONLY: u32 = 1;
/// SETXATTR: clear set-group-id with the access ACL.
pub const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// INVAL_ENTRY: look again rather than forget.
pub const EXPIRE_ONLY: u32 = 1;
/// statx(2)'s mask: everything stat(2) has.
pub const STATX_BASIC_STATS: u32 = 0x7ff;
/// statx(2)'s mask: birth time.
pub const STATX_BTIME: u32 = 0x800;
