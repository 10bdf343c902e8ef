//! FUSE over io_uring (Linux 6.14): requests and replies through shared memory, one system call for both.
//!
//! Here lives: an [`Entry`], which carries one request at a time; [`End`], which ends the waiting of many; what the
//! kernel allows. The kernel has a queue of entries per processor and gives an entry a request that was made on that
//! processor; none is used before every queue has one. Not here: what the bytes mean, threads (`plyfs-wire`).

mod mapping;
mod ring;

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io_uring::IoringOp;
use rustix::thread::CpuSet;

use crate::dev::Device;
use crate::error::{Errno, Named, Result, SysError};
use mapping::Mapping;
use ring::{Ring, Sqe};

/// Whether the kernel offers FUSE over io_uring: `Y` or `N`, writable for root.
pub const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";
/// The processors that there may ever be, such as `0-7`.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// FUSE_IO_URING_CMD_REGISTER: here is an entry.
const REGISTER: u32 = 1;
/// FUSE_IO_URING_CMD_COMMIT_AND_FETCH: here is the reply, and the entry is free again.
const COMMIT_AND_FETCH: u32 = 2;

/// `struct fuse_uring_req_header`: a request's or reply's header; the struct of the request's opcode; and
/// `struct fuse_uring_ent_in_out`: flags (8), commit id (8), payload's length (4).
const IN_OUT: usize = 0;
const OP_IN: usize = 128;
const COMMIT_ID: usize = 264;
const PAYLOAD_LENGTH: usize = 272;
const HEADERS_LENGTH: usize = 288;
/// Our own: the two places told at registration. Only read by the kernel.
const PLACES: usize = 512;
/// A page for all that; then what follows the header and the struct. A request is put together before it.
const PAYLOAD: usize = 4096;
const REQUEST_HEADER: usize = 40;
const REPLY_HEADER: usize = 16;
/// The kernel refuses less.
const LEAST_PAYLOAD: usize = 8192;

/// What is waited for.
const REQUEST_CAME: u64 = 1;
const END_CAME: u64 = 2;

/// Whether the kernel offers it to new mounts; `None`: it does not know how (or FUSE is not loaded).
pub fn is_switched_on() -> Option<bool> {
    let text = std::fs::read_to_string(SWITCH).ok()?;
    Some(matches!(text.trim(), "Y" | "1"))
}

/// Queues that the kernel wants: one for each processor that there may ever be.
pub fn queues() -> u16 {
    let text = std::fs::read_to_string(POSSIBLE).unwrap_or_default();
    count(&text).max(1)
}

/// `0-3,8` is five.
fn count(list: &str) -> u16 {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.trim().split(',').filter_map(range).fold(0, u16::saturating_add)
}

/// Keeps the calling thread on a processor, where it may.
pub fn stay_on(processor: u16) -> Result<()> {
    if usize::from(processor) >= CpuSet::MAX_CPU {
        return Err(SysError::new("sched_setaffinity", Errno::INVAL));
    }
    let mut set = CpuSet::new();
    set.set(usize::from(processor));
    rustix::thread::sched_setaffinity(None, &set).named("sched_setaffinity")
}

/// Ends the waiting of all entries that were given it.
#[derive(Debug)]
pub struct End {
    event: OwnedFd,
}

impl End {
    /// Not yet.
    pub fn new() -> Result<End> {
        let event = eventfd(0, EventfdFlags::CLOEXEC).named("eventfd")?;
        Ok(End { event })
    }

    /// Now.
    pub fn tell(&self) -> Result<()> {
        rustix::io::write(&self.event, &1u64.to_ne_bytes()).named("write(eventfd)")?;
        Ok(())
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// A request: [`Entry::parts`].
    Request,
    /// The end that was given at the beginning.
    End,
}

/// A ring with one entry, for one thread: memory for a request and its reply.
#[derive(Debug)]
pub struct Entry {
    // Before the memory: dropped in this order, and a closed ring writes nothing.
    ring: Ring,
    memory: Mapping,
    payload: usize,
    target: i32,
    queue: u16,
    /// Where the request that is ours to answer lies.
    held: Option<Range<usize>>,
}

impl Entry {
    /// For payloads of at most `payload` bytes. It serves nothing until [`Entry::begin`].
    pub fn new(payload: usize) -> Result<Entry> {
        // INIT counts pages of 4096 bytes, and the kernel takes them for its own, which may be larger.
        let pages = payload.max(LEAST_PAYLOAD).div_ceil(4096);
        let payload = pages * rustix::param::page_size();
        let (ring, memory) = (Ring::new()?, Mapping::anonymous(PAYLOAD + payload)?);
        Ok(Entry { ring, memory, payload, target: -1, queue: 0, held: None })
    }

    /// Offers the entry to `queue` of the connection, which INIT must have settled. The entry belongs to this thread
    /// from now on. Both descriptors stay open as long as it does.
    pub fn begin(&mut self, device: &Device, queue: u16, end: &End) -> Result<()> {
        (self.target, self.queue) = (device.number(), queue);
        self.ring.enable()?;
        let poll = Sqe {
            opcode: IoringOp::PollAdd as u8,
            fd: end.event.as_fd().as_raw_fd(),
            op_flags: u32::from(PollFlags::IN.bits()).rotate_left(POLL_WORD_SWAP),
            user_data: END_CAME,
            ..Sqe::default()
        };
        // SAFETY: polling names no memory.
        unsafe { self.ring.push(poll) }?;
        let headers = self.memory.at(IN_OUT, HEADERS_LENGTH).as_ptr().expose_provenance() as u64;
        let payload = self.memory.at(PAYLOAD, self.payload).as_ptr().expose_provenance() as u64;
        let places = [headers, HEADERS_LENGTH as u64, payload, self.payload as u64];
        for (at, word) in (PLACES..).step_by(8).zip(places) {
            self.memory.bytes_mut(at, 8).copy_from_slice(&word.to_ne_bytes());
        }
        let addr = self.memory.at(PLACES, 32).as_ptr().expose_provenance() as u64;
        let register = Sqe { addr, len: 2, ..self.command(REGISTER, 0) };
        // SAFETY: the places told lie in `self.memory`, which is dropped after the ring; they are looked at only
        // while a request is held, when the kernel does not write them.
        unsafe { self.ring.push(register) }
    }

    /// Makes the kernel go on without io_uring, by an offer to a queue that does not exist.
    pub fn refuse(mut self, device: &Device) -> Result<()> {
        let end = End::new()?;
        self.begin(device, u16::MAX, &end)?;
        match self.wait() {
            Err(error) if error.errno() == Errno::INVAL => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(SysError::new("io_uring", Errno::ISCONN)),
        }
    }

    /// Hands over a reply, if there is one, and waits. Errors that matter to callers: ENOTCONN, ECONNABORTED, ENODEV
    /// (the connection has ended).
    pub fn wait(&mut self) -> Result<Came> {
        let done = loop {
            // What is done already ends the wait at once, but not before the reply is handed over.
            self.ring.wait()?;
            if let Some(done) = self.ring.pop() {
                break done;
            }
        };
        if done.user_data == END_CAME {
            return Ok(Came::End);
        }
        if done.result < 0 {
            let errno = Errno::from_raw_os_error(-done.result);
            return Err(SysError::new("io_uring(/dev/fuse)", errno));
        }
        self.hold();
        Ok(Came::Request)
    }

    /// Puts header, struct and payload side by side, as read(2) gives them.
    fn hold(&mut self) {
        let length = word(self.memory.bytes(IN_OUT, 4)) as usize;
        let payload = word(self.memory.bytes(PAYLOAD_LENGTH, 4)) as usize;
        let middle = length.checked_sub(REQUEST_HEADER + payload);
        // What does not fit together is given as a header that promises more: malformed.
        let (middle, payload) = middle
            .filter(|middle| *middle <= COMMIT_ID - 8 - OP_IN && payload <= self.payload)
            .map_or((0, 0), |middle| (middle, payload));
        let start = PAYLOAD - middle - REQUEST_HEADER;
        self.copy_within(IN_OUT, start, REQUEST_HEADER);
        self.copy_within(OP_IN, start + REQUEST_HEADER, middle);
        self.held = Some(start..PAYLOAD + payload);
    }

    fn copy_within(&mut self, from: usize, to: usize, length: usize) {
        self.memory.bytes_mut(0, PAYLOAD).copy_within(from..from + length, to);
    }

    /// The request that is ours to answer, empty if none is; and memory where the reply's body may be made at once,
    /// empty if the request itself lies there.
    pub fn parts(&mut self) -> (&[u8], &mut [u8]) {
        let held = self.held.clone().unwrap_or(0..0);
        let all = self.memory.bytes_mut(0, PAYLOAD + self.payload);
        if held.end == PAYLOAD {
            let (front, payload) = all.split_at_mut(PAYLOAD);
            return (&front[held], payload);
        }
        (&all[held], &mut [])
    }

    /// Puts the reply in place of the request; the next [`Entry::wait`] hands it over.
    pub fn reply(&mut self, header: &[u8], body: &[u8]) -> Result<()> {
        if body.len() > self.payload {
            return Err(SysError::new("io_uring(/dev/fuse)", Errno::MSGSIZE));
        }
        self.memory.bytes_mut(PAYLOAD, body.len()).copy_from_slice(body);
        self.reply_in_place(header, body.len())
    }

    /// The same for a body that was made in the memory of [`Entry::parts`].
    pub fn reply_in_place(&mut self, header: &[u8], length: usize) -> Result<()> {
        if header.len() != REPLY_HEADER || length > self.payload {
            return Err(SysError::new("io_uring(/dev/fuse)", Errno::MSGSIZE));
        }
        if self.held.take().is_none() {
            return Err(SysError::new("io_uring(/dev/fuse)", Errno::ALREADY));
        }
        self.memory.bytes_mut(IN_OUT, REPLY_HEADER).copy_from_slice(header);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.memory.bytes_mut(PAYLOAD_LENGTH, 4).copy_from_slice(&length.to_ne_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(self.memory.bytes(COMMIT_ID, 8));
        let commit = self.command(COMMIT_AND_FETCH, u64::from_ne_bytes(id));
        // SAFETY: the kernel uses the places told at registration; see there.
        unsafe { self.ring.push(commit) }
    }

    /// `struct fuse_uring_cmd_req`: flags, commit id, queue.
    fn command(&self, number: u32, id: u64) -> Sqe {
        let mut queue = [0; 8];
        queue[..2].copy_from_slice(&self.queue.to_ne_bytes());
        let mut command = [0; 10];
        (command[1], command[2]) = (id, u64::from_ne_bytes(queue));
        Sqe {
            opcode: IoringOp::UringCmd as u8,
            fd: self.target,
            number,
            user_data: REQUEST_CAME,
            command,
            ..Sqe::default()
        }
    }
}

/// The kernel wants the two halves of the poll mask swapped on big-endian machines.
const POLL_WORD_SWAP: u32 = if cfg!(target_endian = "big") { 16 } else { 0 };

fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(bytes);
    u32::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        assert_eq!((count("0-1\n"), count("0"), count("0-3,8,10-11"), count("")), (2, 1, 7, 0));
        assert!(queues() >= 1);
    }

    #[test]
    fn an_end_wakes_who_waits() {
        let Ok(mut entry) = Entry::new(1) else { return };
        let end = End::new().unwrap();
        // A device that is not mounted takes no entry: that is told first.
        let Ok(device) = Device::open() else { return };
        entry.begin(&device, 0, &end).unwrap();
        entry.wait().unwrap_err();
        end.tell().unwrap();
        assert_eq!(entry.wait().unwrap(), Came::End);
        assert!(entry.parts().0.is_empty());
        assert_eq!(entry.reply(&[0; 16], &[]).unwrap_err().errno(), Errno::ALREADY);
    }

    #[test]
    fn the_parts_of_a_request_come_together() {
        let Ok(mut entry) = Entry::new(1) else { return };
        let mut put = |at: usize, bytes: &[u8]| {
            entry.memory.bytes_mut(at, bytes.len()).copy_from_slice(bytes);
        };
        put(IN_OUT, &[7; 40]);
        put(IN_OUT, &(40 + 3 + 4_u32).to_ne_bytes());
        put(OP_IN, b"abc");
        put(PAYLOAD, b"name");
        put(PAYLOAD_LENGTH, &4_u32.to_ne_bytes());
        entry.hold();
        let (request, room) = entry.parts();
        assert_eq!((request.len(), &request[40..], room.len()), (47, &b"abcname"[..], 0));
        entry.memory.bytes_mut(PAYLOAD_LENGTH, 4).copy_from_slice(&44_u32.to_ne_bytes());
        entry.hold();
        let (request, room) = entry.parts();
        assert_eq!(request.len(), 40, "more payload than the request has bytes");
        assert!(room.len() >= LEAST_PAYLOAD);
    }
}
