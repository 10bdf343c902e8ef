//! An io_uring(7) as small as it can be: a few submissions of 128 bytes, for one thread, nothing polled.
//!
//! Not here: what is submitted ([`super::Entry`]).

use std::os::fd::OwnedFd;
use std::ptr::null;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringEnterFlags, IoringFeatureFlags, IoringRegisterOp,
    IoringSetupFlags, io_uring_enter, io_uring_params, io_uring_register, io_uring_setup,
};

use super::mapping::Mapping;
use crate::error::{Errno, Named, Result, SysError};

/// Submissions that fit.
const ENTRIES: u32 = 4;
/// Bytes of a completion: user_data (8), result (4), flags (4).
const CQE: usize = 16;

/// `struct io_uring_sqe` in its long form, with the fields that are used here.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Sqe {
    pub(super) opcode: u8,
    pub(super) flags: u8,
    pub(super) ioprio: u16,
    pub(super) fd: i32,
    /// For a command: its number.
    pub(super) number: u32,
    pub(super) zero: u32,
    pub(super) addr: u64,
    pub(super) len: u32,
    pub(super) op_flags: u32,
    pub(super) user_data: u64,
    pub(super) unused: u64,
    /// For a command: its bytes.
    pub(super) command: [u64; 10],
}

const _: () = assert!(size_of::<Sqe>() == 128);

/// What was submitted is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) user_data: u64,
    pub(super) result: i32,
}

/// Where the parts of a queue lie in the mapping.
#[derive(Debug, Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
    mask: u32,
    /// Completions; unused for submissions, which have a mapping of their own.
    items: u32,
}

#[derive(Debug)]
pub(super) struct Ring {
    // Closed first: only then does the kernel write no more.
    fd: OwnedFd,
    queues: Mapping,
    sqes: Mapping,
    sq: Queue,
    cq: Queue,
    unsubmitted: u32,
}

impl Ring {
    /// Does nothing until [`Ring::enable`].
    pub(super) fn new() -> Result<Ring> {
        // DEFER_TASKRUN: completions are made when the thread asks for them, not by interrupting it.
        let flags = IoringSetupFlags::SQE128
            | IoringSetupFlags::R_DISABLED
            | IoringSetupFlags::SINGLE_ISSUER
            | IoringSetupFlags::DEFER_TASKRUN;
        let mut params = io_uring_params::default();
        params.flags = flags;
        // SAFETY: `params` is the struct that the call reads and fills; no other memory is given.
        let fd = unsafe { io_uring_setup(ENTRIES, &mut params) }.named("io_uring_setup")?;
        if !params.features.contains(IoringFeatureFlags::SINGLE_MMAP) {
            return Err(SysError::new("io_uring_setup", Errno::NOSYS));
        }
        let submissions = params.sq_off.array as usize + params.sq_entries as usize * size_of::<u32>();
        let completions = params.cq_off.cqes as usize + params.cq_entries as usize * CQE;
        let queues = Mapping::of_ring(&fd, IORING_OFF_SQ_RING, submissions.max(completions))?;
        let sqes = Mapping::of_ring(&fd, IORING_OFF_SQES, params.sq_entries as usize * size_of::<Sqe>())?;
        // The n-th place of the queue always holds the n-th submission.
        for place in 0..params.sq_entries {
            queues.word(params.sq_off.array + place * 4).store(place, Relaxed);
        }
        let (sq, cq) = (&params.sq_off, &params.cq_off);
        let sq = Queue { head: sq.head, tail: sq.tail, mask: sq.ring_mask, items: 0 };
        let cq = Queue { head: cq.head, tail: cq.tail, mask: cq.ring_mask, items: cq.cqes };
        Ok(Ring { fd, queues, sqes, sq, cq, unsubmitted: 0 })
    }

    /// From here on the ring belongs to this thread.
    pub(super) fn enable(&self) -> Result<()> {
        // SAFETY: this operation takes no argument; the kernel reads no memory.
        unsafe { io_uring_register(&self.fd, IoringRegisterOp::RegisterEnableRings, null(), 0) }
            .named("io_uring_register(ENABLE_RINGS)")?;
        Ok(())
    }

    /// Puts a submission into the queue; [`Ring::wait`] hands it over.
    ///
    /// # Safety
    ///
    /// The memory that `sqe` names stays valid, and is used as the kernel does, until it is done or the ring closed.
    pub(super) unsafe fn push(&mut self, sqe: Sqe) -> Result<()> {
        let (head, tail) = (self.queues.word(self.sq.head), self.queues.word(self.sq.tail));
        let next = tail.load(Relaxed);
        if next.wrapping_sub(head.load(Acquire)) >= ENTRIES {
            return Err(SysError::new("io_uring", Errno::BUSY));
        }
        let mask = self.queues.word(self.sq.mask).load(Relaxed);
        let place = (next & mask) as usize * size_of::<Sqe>();
        let at = self.sqes.at(place, size_of::<Sqe>()).cast::<Sqe>();
        // SAFETY: in bounds; aligned, since the mapping is by pages; free, since the kernel has read past it.
        unsafe { at.write(sqe) };
        tail.store(next.wrapping_add(1), Release);
        self.unsubmitted += 1;
        Ok(())
    }

    /// Hands over what was pushed, and waits until something is done. Interrupted, it returns early.
    pub(super) fn wait(&mut self) -> Result<()> {
        // SAFETY: the memory that submissions name is valid by the promise to `push`.
        match unsafe { io_uring_enter(&self.fd, self.unsubmitted, 1, IoringEnterFlags::GETEVENTS) } {
            Ok(submitted) => {
                self.unsubmitted = self.unsubmitted.saturating_sub(submitted);
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).named("io_uring_enter"),
        }
    }

    /// The next thing done, if any.
    pub(super) fn pop(&mut self) -> Option<Done> {
        let (head, tail) = (self.queues.word(self.cq.head), self.queues.word(self.cq.tail));
        let next = head.load(Relaxed);
        if next == tail.load(Acquire) {
            return None;
        }
        let mask = self.queues.word(self.cq.mask).load(Relaxed);
        let place = self.cq.items as usize + (next & mask) as usize * CQE;
        let bytes = self.queues.bytes(place, CQE);
        let mut user_data = [0; 8];
        user_data.copy_from_slice(&bytes[..8]);
        let mut result = [0; 4];
        result.copy_from_slice(&bytes[8..12]);
        let done = Done { user_data: u64::from_ne_bytes(user_data), result: i32::from_ne_bytes(result) };
        head.store(next.wrapping_add(1), Release);
        Some(done)
    }
}
