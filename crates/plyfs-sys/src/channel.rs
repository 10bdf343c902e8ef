//! Messages with descriptors between two processes (unix(7), SOCK_SEQPACKET).
//!
//! Not here: what the messages mean; descriptors that others send over a stream ([`crate::dev::receive_descriptor`]).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::Named;
use crate::{Errno, Result, SysError};

/// Bytes of the longest message.
const LONGEST: usize = 16 << 10;
/// Descriptors that go with one message.
const MOST: usize = 3;

/// One end. Several threads may send and receive at once; messages stay whole.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What came: bytes, and the descriptors that came with them.
pub type Message = (Vec<u8>, Vec<OwnedFd>);

impl Channel {
    /// Two connected ends.
    pub fn pair() -> Result<(Channel, Channel)> {
        let (flags, kind) = (SocketFlags::CLOEXEC, SocketType::SEQPACKET);
        let pair = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).named("socketpair")?;
        Ok((Channel(pair.0), Channel(pair.1)))
    }

    /// The end that this process was given as its standard input, by another descriptor.
    pub fn inherited() -> Result<Channel> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        stdin.map(Channel).map_err(|error| SysError::from_io("dup", &error))
    }

    /// Sends a message of at most 16 KiB (EMSGSIZE) with at most three descriptors. EPIPE: nobody is there.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        if bytes.len() > LONGEST || fds.len() > MOST {
            return Err(SysError::new("sendmsg", Errno::MSGSIZE));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(SysError::new("sendmsg", Errno::MSGSIZE));
        }
        loop {
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).named("sendmsg"),
            }
        }
    }

    /// Waits for a message; `None`: the other end is closed.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(answer) => break answer.bytes,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => break 0,
                Err(errno) => return Err(errno).named("recvmsg"),
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                fds.extend(passed);
            }
        }
        bytes.truncate(length);
        Ok((length > 0).then_some((bytes, fds)))
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_whole_and_carry_descriptors() {
        let (ours, theirs) = Channel::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        ours.send(b"one", &[file.as_fd(), file.as_fd()]).unwrap();
        ours.send(b"two", &[]).unwrap();
        let (bytes, fds) = theirs.receive().unwrap().unwrap();
        assert_eq!((&bytes[..], fds.len()), (&b"one"[..], 2));
        assert_eq!(theirs.receive().unwrap().unwrap().0, b"two");
        assert!(ours.send(&vec![0; LONGEST + 1], &[]).is_err());
        drop(ours);
        assert!(theirs.receive().unwrap().is_none());
        assert_eq!(theirs.send(b"x", &[]).unwrap_err().errno(), Errno::PIPE);
    }
}
