//! `Dir`: a directory we may work in; every call takes a `Dir` and a `Leaf`.
//!
//! No call here follows a symlink in its last component, and none takes a path of more than one component, so a
//! branch changed behind our back can't lead us out of it. Attributes and xattrs of what is found: [`crate::obj`].

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::error::{Errno, Named, Result, SysError};
use crate::leaf::Leaf;
use crate::stat::{Dev, Kind, Stat, statx};

/// A directory, held by an `O_PATH` descriptor: it stays the same directory through renames.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// One name of a directory as getdents64(2) tells it.
#[derive(Debug, Clone)]
pub struct RawEntry {
    /// The name.
    pub leaf: Leaf,
    /// Its type; `None` where the filesystem does not tell.
    pub kind: Option<Kind>,
    /// Its inode number.
    pub ino: u64,
}

/// How rename(2) is to treat an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameHow {
    /// Replace it.
    Replace,
    /// RENAME_NOREPLACE: EEXIST. Falls back to a check first where the filesystem lacks the flag.
    NoReplace,
    /// RENAME_EXCHANGE.
    Exchange,
}

/// Access wanted of an opened file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// O_RDONLY.
    Read,
    /// O_WRONLY.
    Write,
    /// O_RDWR.
    ReadWrite,
}

impl Access {
    pub(crate) fn flags(self) -> OFlags {
        let access = match self {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK
    }
}

const PATH_DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory by path as people give it: symlinks are followed.
    pub fn open(path: &Path) -> Result<Dir> {
        rustix::fs::open(path, PATH_DIR, Mode::empty()).map(Dir).named("open").map_err(|e| e.on(path))
    }

    /// A private copy of this directory's mount without the mounts below it (open_tree(2)), so that only this
    /// filesystem is seen (aufs.5: sub-mounts are ignored). Needs CAP_SYS_ADMIN; else EPERM or EINVAL.
    pub fn without_submounts(&self) -> Result<Dir> {
        use rustix::mount::OpenTreeFlags;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_NO_AUTOMOUNT;
        let tree = rustix::mount::open_tree(&self.0, "", flags).named("open_tree")?;
        rustix::fs::openat(&tree, ".", PATH_DIR, Mode::empty()).map(Dir).named("openat")
    }

    /// Another descriptor of the same directory.
    pub fn again(&self) -> Result<Dir> {
        self.0.try_clone().map(Dir).map_err(|e| SysError::from_io("dup", &e))
    }

    /// The subdirectory `leaf`; ENOTDIR for a symlink or anything else.
    pub fn child(&self, leaf: &Leaf) -> Result<Dir> {
        let flags = PATH_DIR | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.0, leaf.as_os_str(), flags, Mode::empty())
            .map(Dir)
            .map_err(|errno| SysError::new("openat", errno).on(leaf.as_os_str()))
    }

    /// The same, but EXDEV where something is mounted on `leaf` (openat2(2), RESOLVE_NO_XDEV): for those who delete.
    pub fn child_of_this_mount(&self, leaf: &Leaf) -> Result<Dir> {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        rustix::fs::openat2(&self.0, leaf.as_os_str(), PATH_DIR | OFlags::NOFOLLOW, Mode::empty(), resolve)
            .map(Dir)
            .map_err(|errno| SysError::new("openat2", errno).on(leaf.as_os_str()))
    }

    /// The entry `leaf` itself, whatever it is, by an `O_PATH` descriptor.
    pub fn hold(&self, leaf: &Leaf) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, leaf.as_os_str(), flags, Mode::empty())
            .map_err(|errno| SysError::new("openat", errno).on(leaf.as_os_str()))
    }

    /// Claims the directory for this process (flock(2), exclusive) until the answer is dropped. `None`: another
    /// process has it. Filesystems without locks give a claim that holds nobody off.
    pub fn claim(&self) -> Result<Option<OwnedFd>> {
        use rustix::fs::FlockOperation;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, ".", flags, Mode::empty()).named("openat")?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(Some(fd)),
            Err(errno) => Err(SysError::new("flock", errno)),
        }
    }

    /// Attributes of the directory itself.
    pub fn stat_self(&self) -> Result<Stat> {
        statx(&self.0, "".as_ref())
    }

    /// Attributes of `leaf`.
    pub fn stat(&self, leaf: &Leaf) -> Result<Stat> {
        statx(&self.0, leaf.as_os_str())
    }

    /// Attributes of `leaf`, `None` where there is none.
    pub fn try_stat(&self, leaf: &Leaf) -> Result<Option<Stat>> {
        match self.stat(leaf) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if e.errno() == Errno::NOENT => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every name but `.` and `..`, in the filesystem's order.
    pub fn entries(&self, each: &mut dyn FnMut(RawEntry)) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, ".", flags, Mode::empty()).named("openat")?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut raw = rustix::fs::RawDir::new(fd, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry.named("getdents64")?;
            let Some(leaf) = Leaf::from_bytes(entry.file_name().to_bytes()) else { continue };
            each(RawEntry { leaf, kind: Kind::from_file_type(entry.file_type()), ino: entry.ino() });
        }
        Ok(())
    }

    /// Opens an existing regular file. Never blocks on a FIFO, never follows a symlink, never creates.
    pub fn open_file(&self, leaf: &Leaf, access: Access) -> Result<File> {
        let flags = access.flags() | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.0, leaf.as_os_str(), flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| SysError::new("openat", errno).on(leaf.as_os_str()))
    }

    /// Makes a regular file that must not exist, open for reading and writing.
    pub fn create(&self, leaf: &Leaf, perm: u32) -> Result<File> {
        let flags = Access::ReadWrite.flags() | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.0, leaf.as_os_str(), flags, Mode::from_raw_mode(perm))
            .map(File::from)
            .map_err(|errno| SysError::new("openat", errno).on(leaf.as_os_str()))
    }

    /// Makes a file without a name (O_TMPFILE), open for reading and writing; it can be linked in later.
    pub fn tmpfile(&self, perm: u32) -> Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, ".", flags, Mode::from_raw_mode(perm))
            .map(File::from)
            .named("open O_TMPFILE")
    }

    /// mkdirat(2).
    pub fn mkdir(&self, leaf: &Leaf, perm: u32) -> Result<()> {
        rustix::fs::mkdirat(&self.0, leaf.as_os_str(), Mode::from_raw_mode(perm))
            .map_err(|errno| SysError::new("mkdirat", errno).on(leaf.as_os_str()))
    }

    /// mknodat(2).
    pub fn mknod(&self, leaf: &Leaf, kind: Kind, perm: u32, rdev: Dev) -> Result<()> {
        let kind: FileType = kind.file_type();
        let dev = rustix::fs::makedev(rdev.major, rdev.minor);
        rustix::fs::mknodat(&self.0, leaf.as_os_str(), kind, Mode::from_raw_mode(perm), dev)
            .map_err(|errno| SysError::new("mknodat", errno).on(leaf.as_os_str()))
    }

    /// symlinkat(2).
    pub fn symlink(&self, leaf: &Leaf, target: &std::ffi::OsStr) -> Result<()> {
        rustix::fs::symlinkat(target, &self.0, leaf.as_os_str())
            .map_err(|errno| SysError::new("symlinkat", errno).on(leaf.as_os_str()))
    }

    /// readlinkat(2).
    pub fn readlink(&self, leaf: &Leaf) -> Result<OsString> {
        rustix::fs::readlinkat(&self.0, leaf.as_os_str(), Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(|errno| SysError::new("readlinkat", errno).on(leaf.as_os_str()))
    }

    /// linkat(2) of `leaf` here to `new` in `to`; a symlink is linked itself.
    pub fn link(&self, leaf: &Leaf, to: &Dir, new: &Leaf) -> Result<()> {
        rustix::fs::linkat(&self.0, leaf.as_os_str(), &to.0, new.as_os_str(), AtFlags::empty())
            .map_err(|errno| SysError::new("linkat", errno).on(new.as_os_str()))
    }

    /// Gives a held file (O_TMPFILE or `hold`) the name `new` here, through /proc.
    pub fn link_fd(&self, fd: BorrowedFd<'_>, new: &Leaf) -> Result<()> {
        let magic = crate::obj::proc_path(fd);
        rustix::fs::linkat(rustix::fs::CWD, &magic, &self.0, new.as_os_str(), AtFlags::SYMLINK_FOLLOW)
            .map_err(|errno| SysError::new("linkat", errno).on(new.as_os_str()))
    }

    /// unlinkat(2) of a non-directory.
    pub fn unlink(&self, leaf: &Leaf) -> Result<()> {
        rustix::fs::unlinkat(&self.0, leaf.as_os_str(), AtFlags::empty())
            .map_err(|errno| SysError::new("unlinkat", errno).on(leaf.as_os_str()))
    }

    /// unlinkat(2) of an empty directory.
    pub fn rmdir(&self, leaf: &Leaf) -> Result<()> {
        rustix::fs::unlinkat(&self.0, leaf.as_os_str(), AtFlags::REMOVEDIR)
            .map_err(|errno| SysError::new("rmdir", errno).on(leaf.as_os_str()))
    }

    /// renameat2(2).
    pub fn rename(&self, leaf: &Leaf, to: &Dir, new: &Leaf, how: RenameHow) -> Result<()> {
        use rustix::fs::RenameFlags;
        let flags = match how {
            RenameHow::Replace => RenameFlags::empty(),
            RenameHow::NoReplace => RenameFlags::NOREPLACE,
            RenameHow::Exchange => RenameFlags::EXCHANGE,
        };
        let done = rustix::fs::renameat_with(&self.0, leaf.as_os_str(), &to.0, new.as_os_str(), flags);
        match done {
            Err(Errno::INVAL | Errno::NOSYS) if how == RenameHow::NoReplace => {
                if to.try_stat(new)?.is_some() {
                    return Err(SysError::new("renameat2", Errno::EXIST).on(new.as_os_str()));
                }
                self.rename(leaf, to, new, RenameHow::Replace)
            }
            done => done.map_err(|errno| SysError::new("renameat2", errno).on(leaf.as_os_str())),
        }
    }

    /// fsync(2) of the directory.
    pub fn fsync(&self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, ".", flags, Mode::empty()).named("openat")?;
        rustix::fs::fsync(fd).named("fsync")
    }

    /// syncfs(2) of the filesystem it is on.
    pub fn syncfs(&self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, ".", flags, Mode::empty()).named("openat")?;
        rustix::fs::syncfs(fd).named("syncfs")
    }

    /// The absolute path as the kernel sees it now, for people.
    pub fn kernel_path(&self) -> Result<std::path::PathBuf> {
        let magic = crate::obj::proc_path(self.0.as_fd());
        std::fs::read_link(&magic).map_err(|e| SysError::from_io("readlink", &e).on(&magic))
    }
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Dir {
        Dir(fd)
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> OwnedFd {
        dir.0
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
