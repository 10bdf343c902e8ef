//! Downloads that outlive their process: what came of a blob is kept in `plyfs/downloads` until the image is in the store,
//! and the next pull goes on where this one ended.
//!
//! The file is named by the blob's digest and locked by the one who writes it. What is in it is not trusted: a layer is
//! hashed from its first byte, whether that came now or then.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use plyfs_store::Digest;

use crate::error::{Doing, Result};

/// A blob's file, locked by us.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    /// Bytes that were there before us.
    old: u64,
}

impl Partial {
    /// Claims the file of the blob `digest` of `size` bytes in `dir`. `None`: somebody else is at it.
    pub(crate) fn claim(dir: &Path, digest: Digest, size: u64) -> Result<Option<Partial>> {
        let path = dir.join(format!("{}.partial", digest.hex()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).doing("opening", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error).doing("locking", &path),
        }
        let status = file.metadata().doing("looking at", &path)?;
        if status.nlink() == 0 {
            // Taken away between opening and locking.
            return Ok(None);
        }
        let mut partial = Partial { file, path, old: status.len() };
        if partial.old > size {
            partial.throw_away()?;
        }
        Ok(Some(partial))
    }

    /// Whether bytes were there before us.
    pub(crate) fn is_resumed(&self) -> bool {
        self.old > 0
    }

    /// Forgets what is in it.
    pub(crate) fn throw_away(&mut self) -> Result<()> {
        self.old = 0;
        self.file.set_len(0).doing("truncating", &self.path)
    }

    /// What is in it now, and where new bytes are to go. As long as one is at work there must be no other.
    pub(crate) fn tee(&self) -> Result<Tee> {
        let file = self.file.try_clone().doing("opening", &self.path)?;
        let have = file.metadata().doing("looking at", &self.path)?.len();
        Ok(Tee { file, have, at: 0 })
    }

    /// It has done its work.
    pub(crate) fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).doing("removing", &self.path)
    }
}

/// First the file's bytes, then others', which go into the file.
#[derive(Debug)]
pub(crate) struct Tee {
    file: File,
    have: u64,
    at: u64,
}

impl Tee {
    /// Bytes that are here.
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    /// Reads on; `more` gives what the file has not, from byte [`Tee::have`] (as it was) on.
    pub(crate) fn read(&mut self, buf: &mut [u8], more: &mut impl Read) -> io::Result<usize> {
        let got = if self.at < self.have {
            let left = usize::try_from(self.have - self.at).unwrap_or(usize::MAX).min(buf.len());
            match self.file.read_at(&mut buf[..left], self.at)? {
                0 => return Err(io::Error::other("the file of the download was cut by somebody")),
                got => got,
            }
        } else {
            let got = more.read(buf)?;
            self.file.write_all_at(&buf[..got], self.at)?;
            self.have += got as u64;
            got
        };
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(tee: &mut Tee, mut more: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buf = [0; 3];
        loop {
            let got = tee.read(&mut buf, &mut more).unwrap();
            if got == 0 {
                return all;
            }
            all.extend_from_slice(&buf[..got]);
        }
    }

    #[test]
    fn a_download_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"x");
        let claim = || Partial::claim(dir.path(), digest, 10).unwrap();
        let first = claim().unwrap();
        assert!(!first.is_resumed());
        assert!(claim().is_none(), "claimed twice");
        assert_eq!(read_all(&mut first.tee().unwrap(), b"01234"), b"01234");
        drop(first);
        let mut second = claim().unwrap();
        assert!(second.is_resumed());
        let mut tee = second.tee().unwrap();
        assert_eq!(tee.have(), 5);
        assert_eq!(read_all(&mut tee, b"56789"), b"0123456789");
        second.throw_away().unwrap();
        assert_eq!(read_all(&mut second.tee().unwrap(), b"abc"), b"abc");
        second.remove().unwrap();
        assert!(!claim().unwrap().is_resumed());
    }

    #[test]
    fn what_is_longer_than_the_blob_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"x");
        std::fs::write(dir.path().join(format!("{}.partial", digest.hex())), b"0123456789!").unwrap();
        let partial = Partial::claim(dir.path(), digest, 10).unwrap().unwrap();
        assert!(!partial.is_resumed());
        assert_eq!(partial.tee().unwrap().have(), 0);
    }
}
