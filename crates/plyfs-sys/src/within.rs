//! Directories and files by paths of several components, resolved inside a root by the kernel (openat2(2), Linux 5.6).
//!
//! The one place where a path is more than one component: for archives, whose entries name whole paths. Neither
//! symlinks nor `..` nor mounts lead out of the root, whoever changes the tree meanwhile.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::dir::Dir;
use crate::error::{Errno, Result, SysError};
use crate::stat::{Kind, statx};

/// What symlinks on the way are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// ELOOP: every component is a directory itself.
    Refuse,
    /// They are followed as if the root were `/` (chroot(2)).
    Inside,
}

/// A rename elsewhere makes the kernel say EAGAIN; it says so for as long as renames go on.
const TRIES: usize = 128;

impl Dir {
    /// The directory `path` below this one; the empty path is this one. ENOTDIR for anything that is no directory;
    /// EXDEV where the way leads to another mount or, with [`Links::Refuse`], out of this directory.
    pub fn within(&self, path: &Path, links: Links) -> Result<Dir> {
        if path.as_os_str().is_empty() {
            return self.again();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.resolve(path, links, flags).map(Dir::from)
    }

    /// Opens the regular file `path` below this directory for reading; EINVAL: it is something else, which was not opened.
    pub fn file_within(&self, path: &Path, links: Links) -> Result<File> {
        let held = self.resolve(path, links, OFlags::PATH | OFlags::CLOEXEC)?;
        if statx(&held, "".as_ref())?.kind != Kind::File {
            return Err(SysError::new("openat2", Errno::INVAL).on(path));
        }
        let magic = crate::obj::proc_path(held.as_fd());
        rustix::fs::open(&magic, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|errno| SysError::new("open", errno).on(path))
    }

    fn resolve(&self, path: &Path, links: Links, flags: OFlags) -> Result<OwnedFd> {
        let fence = match links {
            Links::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            Links::Inside => ResolveFlags::IN_ROOT,
        };
        let resolve = fence | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(self, path, flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(fd),
                Err(Errno::AGAIN) if tries < TRIES => tries += 1,
                Err(errno) => return Err(SysError::new("openat2", errno).on(path)),
            }
        }
    }
}
