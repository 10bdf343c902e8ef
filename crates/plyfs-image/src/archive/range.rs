//! A part of a file, read without moving the file's own position: several at a time.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes `at..end` of a file.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Range {
    /// `length` bytes from `at`.
    pub(crate) fn new(file: Arc<File>, at: u64, length: u64) -> Range {
        Range { file, at, end: at.saturating_add(length) }
    }
}

impl Read for Range {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = left.min(buf.len());
        if length == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buf[..length], self.at)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off")),
            got => {
                self.at += got as u64;
                Ok(got)
            }
        }
    }
}
