//! `Mapped`: a file that never changes, mapped for reading: its pages are the page cache's, shared by all who map it.
//!
//! What makes a plain `&[u8]` of it sound, and reading it safe:
//!
//! - The mapping is read-only. The slice lives no longer than it does.
//! - The bytes must not change while they are borrowed, and the file must not become shorter: touching a page past its
//!   end kills the process (SIGBUS). No call of the kernel prevents either from here; so who writes such a file writes
//!   it once, under another name, makes it durable and renames it, and never opens it for writing again; replacing
//!   it is a rename too, and leaves the mapped inode alone. What can be checked is: a regular file that nobody but
//!   its owner may write, and whose owner is this user or root, who could stop this process anyway. Any other is
//!   refused.
//! - What the bytes say is not believed here: that is the reader's matter.
//!
//! A page that the disk can't give (EIO) ends the process too, as with every mapped program and library.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::error::{Errno, Named, Result, SysError};

/// See the module.
#[derive(Debug)]
pub struct Mapped {
    at: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone, is not tied to a thread, and is never written.
unsafe impl Send for Mapped {}
// SAFETY: as above; it is only read through a shared reference.
unsafe impl Sync for Mapped {}

/// Writable by others than the owner.
const OTHERS_WRITE: u32 = 0o022;

impl Mapped {
    /// Maps the whole file at `path`. EINVAL for what is no regular file, or empty; EPERM for one that others than
    /// this user and root may write.
    pub fn open(path: &Path) -> Result<Mapped> {
        let refuse = |errno| SysError::new("mmap", errno).on(path);
        // A FIFO must not be waited for.
        let access = crate::dir::Access::Read.flags();
        let file = rustix::fs::open(path, access, rustix::fs::Mode::empty())
            .map(File::from)
            .map_err(|errno| SysError::new("open", errno).on(path))?;
        let stat = file.metadata().map_err(|e| SysError::from_io("fstat", &e).on(path))?;
        let length = usize::try_from(stat.size()).ok().filter(|&length| length <= isize::MAX as usize);
        let (true, Some(length @ 1..)) = (stat.is_file(), length) else { return Err(refuse(Errno::INVAL)) };
        let owner_is_trusted = stat.uid() == 0 || stat.uid() == crate::cred::effective_uid();
        if !owner_is_trusted || stat.mode() & OTHERS_WRITE != 0 {
            return Err(refuse(Errno::PERM));
        }
        // SAFETY: the kernel chooses an unused range, so nothing existing is touched.
        let at = unsafe { mmap(null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &file, 0) };
        let at = at.named("mmap").map_err(|e| e.on(path))?;
        let at = NonNull::new(at.cast()).ok_or_else(|| refuse(Errno::NOMEM))?;
        Ok(Mapped { at, length })
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped there as long as `self` lives, and do not change (see the module).
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.length) }
    }

    /// Lets go of the pages this process has touched; they come back from the page cache when they are needed.
    pub fn idle(&self) {
        // SAFETY: a shared mapping of a file that is never written loses nothing: the bytes are the file's.
        let _only_a_hint = unsafe { madvise(self.at.as_ptr().cast(), self.length, Advice::LinuxDontNeed) };
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly what `mmap` gave; nothing borrows from it any more.
        let _failed_only_if_not_mapped = unsafe { munmap(self.at.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_files_that_others_cannot_write_are_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let open = || Mapped::open(&path).map_err(|e| e.errno());
        assert_eq!(open().unwrap_err(), Errno::NOENT);
        std::fs::write(&path, "").unwrap();
        assert_eq!(open().unwrap_err(), Errno::INVAL, "nothing to map");
        std::fs::write(&path, "text").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mapped = open().unwrap();
        mapped.idle();
        assert_eq!(mapped.bytes(), b"text");
        // Replaced by a rename: the mapping is the old file's.
        let new = dir.path().join("new");
        std::fs::write(&new, "other").unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert_eq!((mapped.bytes(), open().unwrap().bytes()), (&b"text"[..], &b"other"[..]));
        for mode in [0o664, 0o646] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open().unwrap_err(), Errno::PERM, "{mode:o}");
        }
        assert_eq!(Mapped::open(dir.path()).map_err(|e| e.errno()).unwrap_err(), Errno::INVAL);
    }
}
