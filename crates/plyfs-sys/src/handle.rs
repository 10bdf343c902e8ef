//! Finding a directory again without holding it: by file handle (open_by_handle_at(2)), which survives renames and needs
//! CAP_DAC_READ_SEARCH in the initial user namespace; or by a path below a directory that is held.
//!
//! Not here: whether what is found is what was meant (callers compare device and inode numbers).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::dir::Dir;
use crate::error::{Named, Result, SysError};

/// MAX_HANDLE_SZ of the kernel.
const ROOM: usize = 128;

/// struct file_handle with all the room it may need.
#[repr(C)]
struct Raw {
    bytes: u32,
    kind: i32,
    data: [u8; ROOM],
}

/// Names a directory on its filesystem, whatever its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    kind: i32,
    data: Box<[u8]>,
}

impl Dir {
    /// The directory's file handle; EOPNOTSUPP where the filesystem has none.
    pub fn handle(&self) -> Result<Handle> {
        let mut raw = Raw { bytes: ROOM as u32, kind: 0, data: [0; ROOM] };
        let mut mount = 0;
        let fd = std::os::fd::AsFd::as_fd(self).as_raw_fd();
        // SAFETY: `raw` has the layout of struct file_handle with as much room behind it as its first field says; the path
        // is an empty C string; `mount` takes an int.
        let done = unsafe {
            libc::name_to_handle_at(fd, c"".as_ptr(), (&raw mut raw).cast(), &mut mount, libc::AT_EMPTY_PATH)
        };
        if done < 0 {
            return Err(SysError::from_io("name_to_handle_at", &std::io::Error::last_os_error()));
        }
        let length = (raw.bytes as usize).min(ROOM);
        Ok(Handle { kind: raw.kind, data: raw.data[..length].into() })
    }

    /// Opens a handle on the mount of this directory, which must be from [`Dir::readable`].
    pub fn open_handle(&self, handle: &Handle) -> Result<Dir> {
        let mut raw = Raw { bytes: handle.data.len() as u32, kind: handle.kind, data: [0; ROOM] };
        raw.data[..handle.data.len()].copy_from_slice(&handle.data);
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let fd = std::os::fd::AsFd::as_fd(self).as_raw_fd();
        // SAFETY: `raw` has the layout of struct file_handle, whole up to the length in its first field.
        let fd = unsafe { libc::open_by_handle_at(fd, (&raw mut raw).cast(), flags) };
        if fd < 0 {
            return Err(SysError::from_io("open_by_handle_at", &std::io::Error::last_os_error()));
        }
        // SAFETY: a descriptor that the call has just made and nobody else knows.
        Ok(Dir::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The same directory open for reading: handles are opened by such a one.
    pub fn readable(&self) -> Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(self, ".", flags, Mode::empty()).map(Dir::from).named("openat")
    }

    /// The directory at a relative path: without symlinks, never above this one, never onto another mount (EXDEV).
    pub fn beneath(&self, path: &Path) -> Result<Dir> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(self, path, flags, Mode::empty(), resolve)
            .map(Dir::from)
            .map_err(|errno| SysError::new("openat2", errno).on(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;

    #[test]
    fn a_handle_finds_a_renamed_directory_and_a_path_does_not() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", base.path().join("link")).unwrap();
        let top = Dir::open(base.path()).unwrap().readable().unwrap();
        let wanted = Dir::open(&base.path().join("a/b")).unwrap().stat_self().unwrap();
        let found = top.beneath(Path::new("a/b")).unwrap();
        assert_eq!(found.stat_self().unwrap().ino, wanted.ino);
        assert_eq!(top.beneath(Path::new("link/b")).unwrap_err().errno(), Errno::LOOP);
        assert_eq!(top.beneath(Path::new("..")).unwrap_err().errno(), Errno::XDEV);
        let handle = found.handle();
        std::fs::rename(base.path().join("a"), base.path().join("c")).unwrap();
        assert_eq!(top.beneath(Path::new("a/b")).unwrap_err().errno(), Errno::NOENT);
        match handle.and_then(|handle| top.open_handle(&handle)) {
            Ok(dir) => assert_eq!(dir.stat_self().unwrap().ino, wanted.ino),
            // An ordinary user, or a filesystem without handles.
            Err(e) => assert!(matches!(e.errno(), Errno::PERM | Errno::OPNOTSUPP), "{e}"),
        }
    }
}
