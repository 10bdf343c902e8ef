//! Where an archive goes: a tar, or a directory.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};

/// Writes the contents of one file.
pub(super) type Contents<'a> = dyn FnMut(&mut dyn Write) -> Result<()> + 'a;

/// Takes files, one after the other.
pub(super) trait Sink {
    /// The file `name` of exactly `size` bytes.
    fn file(&mut self, name: &str, size: u64, contents: &mut Contents<'_>) -> Result<()>;
}

/// A tar archive (ustar; sizes beyond 8 GiB as GNU writes them). The same images give the same bytes.
pub(super) struct Tar<W> {
    out: W,
}

impl<W: Write> Tar<W> {
    pub(super) fn new(out: W) -> Tar<W> {
        Tar { out }
    }

    /// The end mark.
    pub(super) fn finish(mut self) -> Result<()> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).doing("writing", "the archive")
    }

    fn header(&mut self, name: &str, size: u64) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }
}

impl<W: Write> Sink for Tar<W> {
    fn file(&mut self, name: &str, size: u64, contents: &mut Contents<'_>) -> Result<()> {
        self.header(name, size).doing("writing", "the archive")?;
        let mut counted = Counted { out: &mut self.out, count: 0 };
        contents(&mut counted)?;
        if counted.count != size {
            let why = format!("{} bytes were written instead of {size}", counted.count);
            return Err(Error::document(name, why));
        }
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or_default();
        self.out.write_all(&[0; 512][..padding]).doing("writing", "the archive")
    }
}

struct Counted<'a, W> {
    out: &'a mut W,
    count: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let put = self.out.write(buf)?;
        self.count += put as u64;
        Ok(put)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A directory. `oci-layout`, without which it is no layout, comes last.
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Makes it, or takes it if it is empty.
    pub(super) fn new(root: &Path) -> Result<Directory> {
        fs::create_dir_all(root).doing("making", root)?;
        if fs::read_dir(root).doing("listing", root)?.next().is_some() {
            return Err(Error::Refused(format!("{} is not empty", root.display())));
        }
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).doing("making", &blobs)?;
        Ok(Directory { root: root.to_owned() })
    }
}

impl Sink for Directory {
    fn file(&mut self, name: &str, _size: u64, contents: &mut Contents<'_>) -> Result<()> {
        let path = self.root.join(name);
        let dir = path.parent().unwrap_or(&self.root);
        let temp = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(dir)
            .doing("making a file in", dir)?;
        let mut out = io::BufWriter::with_capacity(256 << 10, temp);
        contents(&mut out)?;
        let temp = out.into_inner().map_err(io::IntoInnerError::into_error).doing("writing", &path)?;
        temp.persist(&path).map_err(|error| error.error).doing("renaming to", &path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_is_read_by_others() {
        let mut out = Vec::new();
        let mut tar = Tar::new(&mut out);
        tar.file("blobs/sha256/a", 3, &mut |out| out.write_all(b"abc").doing("writing", "x")).unwrap();
        assert!(tar.file("short", 3, &mut |_| Ok(())).is_err());
        let mut tar = Tar::new(&mut out);
        tar.file("b", 0, &mut |_| Ok(())).unwrap();
        tar.finish().unwrap();
        let mut read = tar::Archive::new(&out[..]);
        let first = read.entries().unwrap().next().unwrap().unwrap();
        assert_eq!((first.path().unwrap().to_str().unwrap(), first.size()), ("blobs/sha256/a", 3));
    }

    #[test]
    fn a_directory_must_be_empty() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Directory::new(&dir.path().join("new")).unwrap();
        sink.file("oci-layout", 2, &mut |out| out.write_all(b"{}").doing("writing", "x")).unwrap();
        assert_eq!(fs::read(dir.path().join("new/oci-layout")).unwrap(), b"{}");
        assert!(Directory::new(&dir.path().join("new")).is_err());
        let other = dir.path().join("other");
        fs::create_dir_all(other.join("file")).unwrap();
        assert!(Directory::new(&other).is_err());
        assert!(!other.join("blobs").exists());
    }
}
