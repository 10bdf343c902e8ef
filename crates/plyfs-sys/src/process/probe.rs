//! Trying out, on a scratch file, what a filesystem can do (`plyfs doctor`).

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;

/// Whether an extended attribute of this name can be set and taken away.
pub fn keeps_xattr(file: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::fsetxattr(file, name, b"1", XattrFlags::empty()).is_ok()
        && rustix::fs::fremovexattr(file, name).is_ok()
}

/// Whether `to` (empty) can share blocks with `from` (one block is written into it).
pub fn can_reflink(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    rustix::io::pwrite(from, &[1; 4096], 0).is_ok() && rustix::fs::ioctl_ficlone(to, from).is_ok()
}
