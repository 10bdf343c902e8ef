//! `Stat`: what statx(2) tells, as our own struct; no `libc::stat` leaves this crate.

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, Timestamps};

use crate::error::{Errno, Result, SysError};

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "inode(7)'s names")]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Kind {
    /// From `d_type` or `st_mode`; `None` where the filesystem does not tell (DT_UNKNOWN).
    pub(crate) fn from_file_type(kind: FileType) -> Option<Kind> {
        Some(match kind {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Unknown => return None,
        })
    }

    pub(crate) fn file_type(self) -> FileType {
        match self {
            Kind::File => FileType::RegularFile,
            Kind::Dir => FileType::Directory,
            Kind::Symlink => FileType::Symlink,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
        }
    }

    /// The `S_IFMT` bits.
    pub fn mode_bits(self) -> u32 {
        self.file_type().as_raw_mode()
    }

    /// From the `S_IFMT` bits of a mode; `None` for none of the known types.
    pub fn from_mode(mode: u32) -> Option<Kind> {
        Kind::from_file_type(FileType::from_raw_mode(mode))
    }

    /// Is it a directory?
    pub fn is_dir(self) -> bool {
        self == Kind::Dir
    }
}

/// A point in time, seconds and nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Time {
    /// Seconds, may be negative.
    pub sec: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nsec: u32,
}

/// A device number: identity of a filesystem, or what a device node names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Dev {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

/// What statx(2) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The filesystem.
    pub dev: Dev,
    /// The inode number there.
    pub ino: u64,
    /// Type.
    pub kind: Kind,
    /// Permission bits, 0o7777.
    pub perm: u32,
    /// Link count.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What a device node names.
    pub rdev: Dev,
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
    /// Birth, where told.
    pub btime: Option<Time>,
    /// The mount it was reached by; 0 where not told (before Linux 5.8).
    pub mount: u64,
}

impl Stat {
    /// A character device 0/0: overlayfs' whiteout.
    pub fn is_null_device(&self) -> bool {
        self.kind == Kind::CharDevice && self.rdev == Dev::default()
    }
}

/// statx(2) of `path` under `fd`; with an empty path, of `fd` itself. Symlinks are not followed.
pub(crate) fn statx(fd: impl rustix::fd::AsFd, path: &std::ffi::OsStr) -> Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let want = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    rustix::fs::statx(fd, path, flags, want)
        .and_then(|raw| convert(&raw))
        .map_err(|errno| SysError::new("statx", errno).on(path))
}

fn convert(raw: &Statx) -> std::result::Result<Stat, Errno> {
    let mode = u32::from(raw.stx_mode);
    let time = |t: &rustix::fs::StatxTimestamp| Time { sec: t.tv_sec, nsec: t.tv_nsec };
    let born = raw.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(Stat {
        dev: Dev { major: raw.stx_dev_major, minor: raw.stx_dev_minor },
        ino: raw.stx_ino,
        kind: Kind::from_mode(mode).ok_or(Errno::IO)?,
        perm: mode & 0o7777,
        nlink: raw.stx_nlink,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        rdev: Dev { major: raw.stx_rdev_major, minor: raw.stx_rdev_minor },
        size: raw.stx_size,
        blocks: raw.stx_blocks,
        blksize: raw.stx_blksize,
        atime: time(&raw.stx_atime),
        mtime: time(&raw.stx_mtime),
        ctime: time(&raw.stx_ctime),
        btime: born.then(|| time(&raw.stx_btime)),
        mount: if raw.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { raw.stx_mnt_id },
    })
}

/// A time to set with utimensat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTime {
    /// UTIME_OMIT.
    Keep,
    /// UTIME_NOW.
    Now,
    /// This instant.
    At(Time),
}

pub(crate) fn timestamps(atime: NewTime, mtime: NewTime) -> Timestamps {
    let spec = |time| match time {
        NewTime::Keep => rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        NewTime::Now => rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        NewTime::At(t) => rustix::fs::Timespec { tv_sec: t.sec, tv_nsec: t.nsec.into() },
    };
    Timestamps { last_access: spec(atime), last_modification: spec(mtime) }
}
