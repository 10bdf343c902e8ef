//! `Obj`: something to ask or change attributes of: a leaf in a directory, a directory itself, a held descriptor.
//!
//! Xattr calls go through `/proc/self/fd`, which takes `O_PATH` descriptors and never follows a last symlink
//! (getxattrat(2) would serve from Linux 6.13 on).

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use crate::dir::{Access, Dir};
use crate::error::{Errno, Result, SysError};
use crate::leaf::Leaf;
use crate::stat::{Kind, NewTime, Stat, statx, timestamps};

/// An object that exists.
#[derive(Debug, Clone, Copy)]
pub enum Obj<'a> {
    /// A name in a directory; a symlink means itself.
    At(&'a Dir, &'a Leaf),
    /// A directory itself.
    Dir(&'a Dir),
    /// A held descriptor, `O_PATH` or open.
    Fd(BorrowedFd<'a>),
}

pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// How setxattr(2) treats an existing value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetXattr {
    /// Create or replace.
    Any,
    /// XATTR_CREATE: EEXIST if there.
    Create,
    /// XATTR_REPLACE: ENODATA if not.
    Replace,
}

/// `Ok(None)` for an attribute that is not there or can't be: ENODATA, ENOTSUP, and EACCES/EPERM of a namespace closed to us.
pub type MaybeValue = Option<Vec<u8>>;

impl Obj<'_> {
    fn parts(&self) -> (BorrowedFd<'_>, &OsStr) {
        match self {
            Obj::At(dir, leaf) => (dir.as_fd(), leaf.as_os_str()),
            Obj::Dir(dir) => (dir.as_fd(), OsStr::new("")),
            Obj::Fd(fd) => (*fd, OsStr::new("")),
        }
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(Errno) -> SysError {
        let error = match self {
            Obj::At(_, leaf) => Some(leaf.to_os_string()),
            Obj::Dir(_) | Obj::Fd(_) => None,
        };
        move |errno| match error {
            Some(leaf) => SysError::new(call, errno).on(leaf),
            None => SysError::new(call, errno),
        }
    }

    /// A path for calls without a descriptor form; the last component must not be followed.
    fn magic(&self) -> PathBuf {
        match self {
            Obj::At(dir, leaf) => proc_path(dir.as_fd()).join(leaf.as_os_str()),
            // A trailing magic link must be followed: callers use the following forms of their calls for these.
            Obj::Dir(dir) => proc_path(dir.as_fd()),
            Obj::Fd(fd) => proc_path(*fd),
        }
    }

    /// statx(2).
    pub fn stat(&self) -> Result<Stat> {
        let (fd, path) = self.parts();
        statx(fd, path)
    }

    /// chmod; not for symlinks (EOPNOTSUPP), whose mode Linux does not keep.
    pub fn chmod(&self, perm: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(perm);
        let path = match self {
            // fchmodat(2) without flags would follow a symlink out of the branch; a held object can't be followed.
            Obj::At(dir, leaf) => {
                match chmod_no_follow(dir.as_fd(), leaf.as_os_str(), perm) {
                    // Sandboxes say EPERM to calls that they don't know; where it is meant, it comes once more.
                    Err(Errno::NOSYS | Errno::PERM) => {}
                    done => return done.map_err(self.failed("fchmodat2")),
                }
                let held = dir.hold(leaf)?;
                if statx(&held, OsStr::new(""))?.kind == Kind::Symlink {
                    return Err(self.failed("chmod")(Errno::OPNOTSUPP));
                }
                return rustix::fs::chmod(proc_path(held.as_fd()), mode).map_err(self.failed("chmod"));
            }
            Obj::Dir(_) | Obj::Fd(_) => self.magic(),
        };
        rustix::fs::chmod(path, mode).map_err(self.failed("chmod"))
    }

    /// chown; `None` leaves an id alone.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (fd, path) = self.parts();
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(fd, path, uid, gid, flags).map_err(self.failed("chown"))
    }

    /// utimensat(2).
    pub fn set_times(&self, atime: NewTime, mtime: NewTime) -> Result<()> {
        let times = timestamps(atime, mtime);
        let done = match self {
            Obj::At(dir, leaf) => {
                rustix::fs::utimensat(dir, leaf.as_os_str(), &times, AtFlags::SYMLINK_NOFOLLOW)
            }
            Obj::Dir(_) | Obj::Fd(_) => {
                rustix::fs::utimensat(rustix::fs::CWD, self.magic(), &times, AtFlags::empty())
            }
        };
        done.map_err(self.failed("utimensat"))
    }

    /// Opens what is held or named; a held `O_PATH` descriptor is reopened, also when its name is gone.
    pub fn open(&self, access: Access) -> Result<File> {
        match self {
            Obj::At(dir, leaf) => dir.open_file(leaf, access),
            Obj::Dir(_) | Obj::Fd(_) => {
                let flags: OFlags = access.flags();
                rustix::fs::open(self.magic(), flags, Mode::empty())
                    .map(File::from)
                    .map_err(self.failed("open"))
            }
        }
    }

    /// The value of one xattr; see [`MaybeValue`].
    pub fn xattr(&self, name: &OsStr) -> Result<MaybeValue> {
        match self.xattr_strict(name) {
            Ok(value) => Ok(Some(value)),
            Err(e) if matches!(e.errno(), Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// The value of one xattr; every failure is an error.
    pub fn xattr_strict(&self, name: &OsStr) -> Result<Vec<u8>> {
        let path = self.magic();
        let mut value = vec![0; 256];
        loop {
            let got = match self {
                Obj::At(..) => rustix::fs::lgetxattr(&path, name, &mut value[..]),
                Obj::Dir(_) | Obj::Fd(_) => rustix::fs::getxattr(&path, name, &mut value[..]),
            };
            match got {
                Ok(len) => {
                    value.truncate(len);
                    return Ok(value);
                }
                // XATTR_SIZE_MAX is 64 KiB (xattr(7)).
                Err(Errno::RANGE) if value.len() < 65_536 => value.resize(65_536, 0),
                Err(errno) => return Err(self.failed("getxattr")(errno)),
            }
        }
    }

    /// The names of all xattrs; empty where the filesystem has none.
    pub fn xattr_names(&self) -> Result<Vec<Vec<u8>>> {
        let path = self.magic();
        let mut names = vec![0; 1024];
        loop {
            let got = match self {
                Obj::At(..) => rustix::fs::llistxattr(&path, &mut names[..]),
                Obj::Dir(_) | Obj::Fd(_) => rustix::fs::listxattr(&path, &mut names[..]),
            };
            match got {
                Ok(len) => {
                    names.truncate(len);
                    break;
                }
                Err(Errno::RANGE) if names.len() < 65_536 => names.resize(65_536, 0),
                Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
                Err(errno) => return Err(self.failed("listxattr")(errno)),
            }
        }
        Ok(names.split(|&b| b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// setxattr(2).
    pub fn set_xattr(&self, name: &OsStr, value: &[u8], how: SetXattr) -> Result<()> {
        use rustix::fs::XattrFlags;
        let flags = match how {
            SetXattr::Any => XattrFlags::empty(),
            SetXattr::Create => XattrFlags::CREATE,
            SetXattr::Replace => XattrFlags::REPLACE,
        };
        let path = self.magic();
        let done = match self {
            Obj::At(..) => rustix::fs::lsetxattr(&path, name, value, flags),
            Obj::Dir(_) | Obj::Fd(_) => rustix::fs::setxattr(&path, name, value, flags),
        };
        done.map_err(|errno| SysError::new("setxattr", errno).on(OsStr::from_bytes(name.as_bytes())))
    }

    /// removexattr(2).
    pub fn remove_xattr(&self, name: &OsStr) -> Result<()> {
        let path = self.magic();
        let done = match self {
            Obj::At(..) => rustix::fs::lremovexattr(&path, name),
            Obj::Dir(_) | Obj::Fd(_) => rustix::fs::removexattr(&path, name),
        };
        done.map_err(|errno| SysError::new("removexattr", errno).on(name))
    }

    /// readlink(2) of a symlink.
    pub fn readlink(&self) -> Result<std::ffi::OsString> {
        use std::os::unix::ffi::OsStringExt;
        let (fd, path) = self.parts();
        rustix::fs::readlinkat(fd, path, Vec::new())
            .map(|target| std::ffi::OsString::from_vec(target.into_bytes()))
            .map_err(self.failed("readlinkat"))
    }
}
/// fchmodat2(2) with AT_SYMLINK_NOFOLLOW (Linux 6.6; ENOSYS before).
fn chmod_no_follow(dir: BorrowedFd<'_>, name: &OsStr, perm: u32) -> std::result::Result<(), Errno> {
    let name = std::ffi::CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the call reads the NUL-terminated `name`, which lives until it returns, and no other memory of ours.
    let done = unsafe {
        libc::syscall(libc::SYS_fchmodat2, dir.as_raw_fd(), name.as_ptr(), perm, libc::AT_SYMLINK_NOFOLLOW)
    };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
