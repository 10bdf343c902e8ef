//! Status: the four rows that `docker info` showed for AUFS, in their order.

use std::path::{Path, PathBuf};

use super::Driver;
use crate::error::{Doing, Result};
use crate::files;

/// The four rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `Root Dir`.
    pub root: PathBuf,
    /// `Backing Filesystem`, in Docker's words.
    pub backing: &'static str,
    /// `Dirs`: how many layers.
    pub dirs: usize,
    /// `Dirperm1 Supported`: a directory's permissions are those of its top layer. Always so in plyfs.
    pub dirperm1: bool,
}

impl Status {
    /// As Docker prints them.
    pub fn rows(&self) -> [(&'static str, String); 4] {
        [
            ("Root Dir", self.root.display().to_string()),
            ("Backing Filesystem", self.backing.to_owned()),
            ("Dirs", self.dirs.to_string()),
            ("Dirperm1 Supported", self.dirperm1.to_string()),
        ]
    }
}

impl Driver {
    /// The driver's state.
    pub fn status(&self) -> Result<Status> {
        let root = self.layout.driver();
        let dirs = files::names(&self.layout.parents())?.len();
        Ok(Status { root, backing: backing(self.root())?, dirs, dirperm1: true })
    }
}

/// The filesystem that `root` lies on, or will lie on.
pub(crate) fn backing(root: &Path) -> Result<&'static str> {
    let there = root.ancestors().find(|dir| dir.exists()).unwrap_or(root);
    let dir = plyfs_sys::Dir::open(there).doing("opening", there)?;
    Ok(filesystem(plyfs_sys::fsinfo::of(&dir).doing("asking for the filesystem of", there)?.magic))
}

/// moby `daemon/graphdriver/driver_linux.go`, `FsNames`; the numbers are statfs(2)'s.
fn filesystem(magic: u64) -> &'static str {
    match magic {
        0x6175_6673 => "aufs",
        0x9123_683e => "btrfs",
        0x28cd_3d45 => "cramfs",
        0xf15f => "ecryptfs",
        0xef53 => "extfs",
        0xf2f5_2010 => "f2fs",
        0x4750_4653 => "gpfs",
        0x0000_72b6 => "jffs2",
        0x3153_464a => "jfs",
        0x6969 => "nfs",
        0x794c_7630 => "overlayfs",
        0x8584_58f6 => "ramfs",
        0x5265_4973 => "reiserfs",
        0x517b => "smb",
        0x7371_7368 => "squashfs",
        0x0102_1994 => "tmpfs",
        0xa501_fcf5 => "vxfs",
        0x5846_5342 => "xfs",
        0x2fc1_2fc1 => "zfs",
        0x6573_5546 => "fuse",
        _ => "<unknown>",
    }
}
