//! From a typed answer to the parts of one writev(2).
//!
//! Not here: listings ([`crate::dirents`]), deciding the answer (`crate::dispatch`).

use std::io::IoSlice;

use plyfs_sys::dev::Device;
use plyfs_sys::{Errno, Result};
use zerocopy::{Immutable, IntoBytes};

use crate::messages::OutHeader;

/// Any struct fits, and the largest page that a kernel may read at once, whatever was agreed.
const LEAST_ROOM: usize = 64 << 10;

/// What follows the header of a reply.
#[derive(Debug)]
pub enum Reply {
    /// No reply at all (FORGET).
    Nothing,
    /// This many bytes of the worker's body buffer; 0 for a plain "done".
    Body(usize),
    /// Bytes of their own (a link's target, an extended attribute).
    Owned(Vec<u8>),
}

impl Reply {
    /// Done, and nothing to say.
    pub const DONE: Reply = Reply::Body(0);

    /// A struct, put into the body buffer.
    pub fn of<T: IntoBytes + Immutable>(value: &T, body: &mut [u8]) -> Reply {
        let bytes = value.as_bytes();
        body[..bytes.len()].copy_from_slice(bytes);
        Reply::Body(bytes.len())
    }
}

/// Bytes that a body buffer needs where `max_write` is agreed.
pub fn room(max_write: u32) -> usize {
    (max_write as usize).max(LEAST_ROOM)
}

/// The header of a reply with `length` bytes after it.
pub fn header(unique: u64, length: usize, error: Option<Errno>) -> OutHeader {
    let len = u32::try_from(size_of::<OutHeader>() + length).unwrap_or(u32::MAX);
    OutHeader { len, error: error.map_or(0, |errno| -errno.raw_os_error()), unique }
}

/// Sends the answer to request `unique`.
pub fn send(
    device: &Device,
    unique: u64,
    answer: &std::result::Result<Reply, Errno>,
    body: &[u8],
) -> Result<()> {
    if matches!(answer, Ok(Reply::Nothing)) {
        return Ok(());
    }
    let (head, bytes) = parts(unique, answer, body);
    device.send(&[IoSlice::new(head.as_bytes()), IoSlice::new(bytes)])
}

/// The header of the answer to request `unique`, and what follows it.
pub fn parts<'a>(
    unique: u64,
    answer: &'a std::result::Result<Reply, Errno>,
    body: &'a [u8],
) -> (OutHeader, &'a [u8]) {
    let bytes = match answer {
        Ok(Reply::Body(length)) => body.get(..*length).unwrap_or_default(),
        Ok(Reply::Owned(bytes)) => bytes,
        Ok(Reply::Nothing) | Err(_) => &[],
    };
    (header(unique, bytes.len(), answer.as_ref().err().copied()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::replies::WriteOut;

    #[test]
    fn headers_count_themselves_and_negate_errors() {
        assert_eq!(header(9, 8, None), OutHeader { len: 24, error: 0, unique: 9 });
        assert_eq!(header(9, 0, Some(Errno::NOENT)), OutHeader { len: 16, error: -2, unique: 9 });
    }

    #[test]
    fn structs_go_to_the_front_of_the_body() {
        let mut body = [1; 8];
        let reply = Reply::of(&WriteOut { size: 5, padding: 0 }, &mut body);
        assert!(matches!(reply, Reply::Body(8)));
        assert_eq!(body, [5, 0, 0, 0, 0, 0, 0, 0]);
    }
}
