//! What a filesystem is: its type, room, identity.

use rustix::fd::AsFd;

use crate::error::{Named, Result};

/// statfs(2)'s answer, sizes in units of `frsize` bytes.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "statvfs(3)'s names")]
pub struct FsInfo {
    pub magic: u64,
    pub bsize: u64,
    pub frsize: u64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub favail: u64,
    pub namelen: u64,
    /// `f_fsid`, the filesystem's own identity where it has one (derived from the UUID on ext4, xfs, btrfs).
    pub fsid: u64,
    /// Mounted read-only.
    pub read_only: bool,
}

/// statfs(2) and statvfs(3) of the filesystem that `fd` is on.
pub fn of(fd: impl AsFd) -> Result<FsInfo> {
    let raw = rustix::fs::fstatfs(&fd).named("fstatfs")?;
    let vfs = rustix::fs::fstatvfs(&fd).named("fstatvfs")?;
    Ok(FsInfo {
        magic: raw.f_type as u64,
        bsize: vfs.f_bsize,
        frsize: vfs.f_frsize,
        blocks: vfs.f_blocks,
        bfree: vfs.f_bfree,
        bavail: vfs.f_bavail,
        files: vfs.f_files,
        ffree: vfs.f_ffree,
        favail: vfs.f_favail,
        namelen: vfs.f_namemax,
        fsid: vfs.f_fsid,
        read_only: vfs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}
