//! The FUSE device: receiving requests, sending replies, waiting for work, passing descriptors.
//!
//! Not here: what the bytes mean (`plyfs-wire`), mounting (`crate::mounts`).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use crate::error::{Named, Result};

/// Where the kernel offers FUSE.
pub const DEVICE_PATH: &str = "/dev/fuse";

/// FUSE_DEV_IOC_CLONE: _IOR(229, 0, u32); the kernel reads the number of the descriptor to join.
const DEV_IOC_CLONE: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(229, 0);

/// struct fuse_backing_map.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// FUSE_DEV_IOC_BACKING_OPEN: _IOW(229, 1, struct fuse_backing_map); the result is the new number.
const DEV_IOC_BACKING_OPEN: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<BackingMap>(229, 1);
/// FUSE_DEV_IOC_BACKING_CLOSE: _IOW(229, 2, u32).
const DEV_IOC_BACKING_CLOSE: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<u32>(229, 2);

/// [`Device::register_backing`]'s call: unlike rustix' own patterns it gives the ioctl's result.
struct RegisterBacking(BackingMap);

// SAFETY: the opcode reads one `struct fuse_backing_map`, which `as_ptr` points to while `self` lives, and writes no
// memory.
unsafe impl rustix::ioctl::Ioctl for RegisterBacking {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        DEV_IOC_BACKING_OPEN
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(
        out: rustix::ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// One open description of the FUSE device; after a mount, one end of its connection.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
}

impl Device {
    /// Opens /dev/fuse; it serves nothing until it is mounted.
    pub fn open() -> Result<Device> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(DEVICE_PATH, flags, Mode::empty())
            .named("open")
            .map_err(|error| error.on(DEVICE_PATH))?;
        Ok(Device { fd })
    }

    /// Takes a descriptor that fusermount3 or a keeper passed to us.
    pub fn from_fd(fd: OwnedFd) -> Device {
        Device { fd }
    }

    /// A further description of the same connection, for a further worker; non-blocking, so that it can be
    /// waited for with a time limit without making the first one non-blocking.
    pub fn clone_nonblocking(&self) -> Result<Device> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(DEVICE_PATH, flags, Mode::empty())
            .named("open")
            .map_err(|error| error.on(DEVICE_PATH))?;
        let number = self.fd.as_raw_fd().unsigned_abs();
        // SAFETY: the kernel's FUSE_DEV_IOC_CLONE reads one u32, which is the type given here.
        let join = unsafe { rustix::ioctl::Setter::<DEV_IOC_CLONE, u32>::new(number) };
        // SAFETY: `join` pairs the opcode with its type; the call reads that u32 and touches no other memory.
        unsafe { rustix::ioctl::ioctl(&fd, join) }.named("ioctl(FUSE_DEV_IOC_CLONE)")?;
        Ok(Device { fd })
    }

    /// Reads one request. Errors that matter to callers: ENODEV (unmounted), EINTR, EAGAIN, ENOENT (the
    /// request was withdrawn).
    pub fn receive(&self, buf: &mut [u8]) -> Result<usize> {
        rustix::io::read(&self.fd, buf).named("read(/dev/fuse)")
    }

    /// Writes one reply or notification, which the kernel takes whole or not at all.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> Result<()> {
        rustix::io::writev(&self.fd, parts).named("writev(/dev/fuse)")?;
        Ok(())
    }

    /// Whether a request waits to be read (or the connection has ended), without waiting.
    pub fn has_pending(&self) -> Result<bool> {
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).named("poll(/dev/fuse)")?;
        Ok(polled[0].revents().intersects(PollFlags::IN | PollFlags::ERR | PollFlags::HUP))
    }

    /// Gives the kernel a regular file for opens to name by the number returned (FUSE_PASSTHROUGH). The file is then
    /// read and written with this thread's credentials. EPERM: needs CAP_SYS_ADMIN in the initial user namespace;
    /// ELOOP: the file lies on a stacked filesystem.
    pub fn register_backing(&self, file: BorrowedFd<'_>) -> Result<i32> {
        let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
        // SAFETY: see `RegisterBacking`; `file` is open during the call.
        unsafe { rustix::ioctl::ioctl(&self.fd, RegisterBacking(map)) }
            .named("ioctl(FUSE_DEV_IOC_BACKING_OPEN)")
    }

    /// Takes a file back that was given with [`Device::register_backing`]; what is open stays so.
    pub fn release_backing(&self, id: i32) -> Result<()> {
        let id = id.unsigned_abs();
        // SAFETY: the opcode reads one u32, which is the type given here.
        let release = unsafe { rustix::ioctl::Setter::<DEV_IOC_BACKING_CLOSE, u32>::new(id) };
        // SAFETY: `release` pairs the opcode with its type; the call reads that u32 and touches no other memory.
        unsafe { rustix::ioctl::ioctl(&self.fd, release) }.named("ioctl(FUSE_DEV_IOC_BACKING_CLOSE)")
    }

    /// Waits for a request, at most `limit`. False: the time has passed. An interrupted wait counts as the former.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut polled, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(errno) => Err(errno).named("poll(/dev/fuse)"),
        }
    }

    /// The number to write into mount options (`fd=N`); means something in this process only.
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits for requests with a time limit and wakes only one waiter per request.
#[derive(Debug)]
pub struct Waiter {
    epoll: OwnedFd,
}

impl Waiter {
    /// A waiter for requests that arrive at `device`.
    pub fn new(device: &Device) -> Result<Waiter> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).named("epoll_create1")?;
        // EXCLUSIVE: otherwise every request would wake every waiting worker.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(&epoll, device, epoll::EventData::new_u64(0), flags).named("epoll_ctl(/dev/fuse)")?;
        Ok(Waiter { epoll })
    }

    /// True when there may be a request, false when the time has passed. An interrupted wait counts as the former.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 1];
        match epoll::wait(&self.epoll, &mut events, Some(&limit)) {
            Ok((ready, _)) => Ok(!ready.is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(errno) => Err(errno).named("epoll_wait"),
        }
    }
}

/// Two connected sockets over which a descriptor can be passed: ours and the helper's.
pub fn descriptor_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .named("socketpair")
}

/// Receives one descriptor (SCM_RIGHTS); `None` if the other side closed without sending one.
pub fn receive_descriptor(socket: &OwnedFd) -> Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    loop {
        let mut parts = [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).named("recvmsg"),
        }
    }
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    #[test]
    fn a_descriptor_passes_and_a_closed_peer_is_none() {
        let (ours, theirs) = descriptor_pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&theirs, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        let got = receive_descriptor(&ours).unwrap().unwrap();
        let (a, b) = (rustix::fs::fstat(&got).unwrap(), rustix::fs::fstat(&file).unwrap());
        assert_eq!((a.st_dev, a.st_ino), (b.st_dev, b.st_ino));
        drop(theirs);
        assert!(receive_descriptor(&ours).unwrap().is_none());
    }
}
