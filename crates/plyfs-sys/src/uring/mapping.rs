//! Memory that is shared with the kernel, and unmapped when dropped.
//!
//! Not here: what lies in it ([`super::ring`], [`super::Entry`]).

use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU32;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::error::{Named, Result, SysError};

/// A mapping of its own. Whoever asks for parts of it sees to it that the kernel does not write them meanwhile.
#[derive(Debug)]
pub(super) struct Mapping {
    at: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Zeroed memory; pages never used cost nothing.
    pub(super) fn anonymous(length: usize) -> Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an unused range, so nothing existing is touched.
        let at = unsafe { mmap_anonymous(null_mut(), length, protection, MapFlags::PRIVATE) };
        Mapping::new(at.named("mmap")?.cast(), length)
    }

    /// The part of a ring at `offset`.
    pub(super) fn of_ring(ring: impl AsFd, offset: u64, length: usize) -> Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel chooses an unused range, so nothing existing is touched.
        let at = unsafe { mmap(null_mut(), length, protection, flags, ring, offset) };
        Mapping::new(at.named("mmap(io_uring)")?.cast(), length)
    }

    fn new(at: *mut u8, length: usize) -> Result<Mapping> {
        let at = NonNull::new(at).ok_or_else(|| SysError::new("mmap", rustix::io::Errno::NOMEM))?;
        Ok(Mapping { at, length })
    }

    /// Where `length` bytes at `offset` begin. Panics if they are not all in the mapping.
    pub(super) fn at(&self, offset: usize, length: usize) -> NonNull<u8> {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.length);
        assert!(fits, "{length} bytes at {offset} of a mapping of {}", self.length);
        // SAFETY: `offset` is within the mapping, as just checked.
        unsafe { self.at.add(offset) }
    }

    /// A word that both sides change.
    pub(super) fn word(&self, offset: u32) -> &AtomicU32 {
        let word = self.at(offset as usize, size_of::<AtomicU32>()).cast::<AtomicU32>();
        assert!(word.is_aligned(), "a word at {offset}");
        // SAFETY: in bounds and aligned, as just checked; valid as long as `self` is; changed atomically by all.
        unsafe { word.as_ref() }
    }

    /// Bytes that the kernel leaves alone while they are borrowed.
    pub(super) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let at = self.at(offset, length);
        // SAFETY: in bounds, initialised (zeroed or written), and by the caller's promise not written meanwhile.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), length) }
    }

    /// The same, for writing.
    pub(super) fn bytes_mut(&mut self, offset: usize, length: usize) -> &mut [u8] {
        let at = self.at(offset, length);
        // SAFETY: as in `bytes`; borrowing `self` mutably makes this the only slice.
        unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `mmap` gave; nothing borrows from it any more.
        let _failed_only_if_not_mapped = unsafe { munmap(self.at.as_ptr().cast(), self.length) };
    }
}
