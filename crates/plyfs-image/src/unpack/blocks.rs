//! The archive as a stream of blocks: where we are, how much may come, and the record of what is not kept as a file
//! (`tarsplit.rs`). Not here: what the blocks mean (`headers.rs`).

use std::io::BufRead;

use super::error::{Error, Result};
use crate::limits::{self, Limits};
use crate::tarsplit;

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 512;

/// One block.
pub(crate) type Block = [u8; BLOCK as usize];

/// The stream.
pub(crate) struct Blocks<'a, R> {
    inner: R,
    at: u64,
    /// Of the body that is being read.
    left: u64,
    /// After it, up to the next block.
    padding: u64,
    limit: u64,
    pub(crate) record: Option<&'a mut tarsplit::Writer>,
}

impl<'a, R: BufRead> Blocks<'a, R> {
    pub(crate) fn new(inner: R, limits: &Limits, record: Option<&'a mut tarsplit::Writer>) -> Blocks<'a, R> {
        Blocks { inner, at: 0, left: 0, padding: 0, limit: limits.layer_bytes, record }
    }

    /// Bytes read so far.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn broken(&self, what: impl Into<String>) -> Error {
        Error::Archive { at: self.at, what: what.into() }
    }

    /// The next block; `None` at the end of the stream. What is left of a body goes into the record.
    pub(crate) fn block(&mut self) -> Result<Option<Block>> {
        self.skip_body()?;
        let mut block = [0; BLOCK as usize];
        let mut have = 0;
        while have < block.len() {
            let some = self.inner.fill_buf().map_err(Error::read)?;
            if some.is_empty() {
                break;
            }
            let count = some.len().min(block.len() - have);
            block[have..have + count].copy_from_slice(&some[..count]);
            self.inner.consume(count);
            have += count;
        }
        self.passed(have as u64)?;
        self.keep(&block[..have])?;
        match have {
            0 => Ok(None),
            512 => Ok(Some(block)),
            _ => Err(self.broken("cut off in a header")),
        }
    }

    /// A body of `len` bytes follows.
    pub(crate) fn begin_body(&mut self, len: u64) {
        self.left = len;
        self.padding = len.wrapping_neg() % BLOCK;
    }

    /// Some of the body, at most `most` bytes; empty at its end. Part of the record if `keep`.
    pub(crate) fn body<T>(
        &mut self,
        most: u64,
        keep: bool,
        sink: &mut dyn FnMut(&[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        let most = most.min(self.left);
        if most == 0 {
            return Ok(None);
        }
        let some = self.inner.fill_buf().map_err(Error::read)?;
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(some.len());
        if count == 0 {
            return Err(self.broken("cut off in a file"));
        }
        let done = sink(&some[..count])?;
        if keep && let Some(record) = &mut self.record {
            record.raw(&some[..count]).map_err(Error::Record)?;
        }
        self.inner.consume(count);
        self.left -= count as u64;
        self.passed(count as u64)?;
        Ok(Some(done))
    }

    /// The whole of a body that is not a file's.
    pub(crate) fn small_body(&mut self, len: u64) -> Result<Vec<u8>> {
        self.begin_body(len);
        let mut all = Vec::new();
        let mut add = |some: &[u8]| {
            all.extend_from_slice(some);
            Ok(())
        };
        while self.body(u64::MAX, true, &mut add)?.is_some() {}
        self.skip_body()?;
        Ok(all)
    }

    /// Goes behind the body and its padding. An archive may end with its last file's last byte: `umoci insert` makes
    /// such layers, and Go's reader takes them.
    pub(crate) fn skip_body(&mut self) -> Result<()> {
        while self.body(u64::MAX, true, &mut |_| Ok(()))?.is_some() {}
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            if self.inner.fill_buf().map_err(Error::read)?.is_empty() {
                self.left = 0;
                break;
            }
            self.body(u64::MAX, true, &mut |_| Ok(()))?;
        }
        Ok(())
    }

    /// Goes behind the body and its padding without reading them; not for streams that are recorded. Behind the end of a
    /// file that is cut off nothing more comes.
    pub(crate) fn seek_body(&mut self) -> Result<()>
    where
        R: std::io::Seek,
    {
        let ahead = self.left.saturating_add(self.padding);
        let by = i64::try_from(ahead).map_err(|_| self.broken("a file of more than 2^63 bytes"))?;
        self.inner.seek_relative(by).map_err(Error::read)?;
        (self.left, self.padding) = (0, 0);
        self.passed(ahead)
    }

    /// Reads to the end of the stream. `true` if anything but zeros came.
    pub(crate) fn rest(&mut self) -> Result<bool> {
        let mut data = false;
        loop {
            let some = self.inner.fill_buf().map_err(Error::read)?;
            let count = some.len();
            if count == 0 {
                return Ok(data);
            }
            data |= some.iter().any(|&byte| byte != 0);
            if let Some(record) = &mut self.record {
                record.raw(some).map_err(Error::Record)?;
            }
            self.inner.consume(count);
            self.passed(count as u64)?;
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.record {
            Some(record) => record.raw(bytes).map_err(Error::Record),
            None => Ok(()),
        }
    }

    fn passed(&mut self, count: u64) -> Result<()> {
        self.at += count;
        limits::check(self.at, "layer_bytes", self.limit).map_err(Error::limit(b"layer"))
    }
}
