//! Hashing what passes by: readers and writers that count and digest. The digest itself is `plyfs_store::id`'s.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

pub use plyfs_store::id::{DiffId, Digest};

/// Digests and counts bytes.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    state: Sha256,
    bytes: u64,
}

impl Hasher {
    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.bytes
    }

    /// Their digest.
    pub fn finish(self) -> Digest {
        Digest::from_bytes(self.state.finalize().into())
    }
}

/// A reader whose bytes are digested as they are read.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> HashingReader<R> {
    /// Around `inner`.
    pub fn new(inner: R) -> HashingReader<R> {
        HashingReader { inner, hasher: Hasher::default() }
    }

    /// How many bytes have been read.
    pub fn count(&self) -> u64 {
        self.hasher.count()
    }

    /// The digest of what has been read.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buf)?;
        self.hasher.update(&buf[..got]);
        Ok(got)
    }
}

/// A writer whose bytes are digested as they are written.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> HashingWriter<W> {
    /// Around `inner`.
    pub fn new(inner: W) -> HashingWriter<W> {
        HashingWriter { inner, hasher: Hasher::default() }
    }

    /// How many bytes have been written.
    pub fn count(&self) -> u64 {
        self.hasher.count()
    }

    /// The writer and the digest of what went through.
    pub fn finish(self) -> (W, Digest) {
        (self.inner, self.hasher.finish())
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let put = self.inner.write(buf)?;
        self.hasher.update(&buf[..put]);
        Ok(put)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_and_writers_agree() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Hasher::default().finish().to_string(), empty);
        let mut reader = HashingReader::new(&b"layer"[..]);
        let mut writer = HashingWriter::new(Vec::new());
        assert_eq!(io::copy(&mut reader, &mut writer).unwrap(), 5);
        assert_eq!((reader.count(), writer.count()), (5, 5));
        let (bytes, digest) = writer.finish();
        assert_eq!(bytes, b"layer");
        assert_eq!(digest, reader.finish());
        assert_eq!(digest, Digest::of(b"layer"));
    }
}
