//! Packing a directory listing into the room that a READDIR or READDIRPLUS offers.
//!
//! Not here: what is listed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use zerocopy::IntoBytes;

use crate::messages::replies::{Dirent, Direntplus, EntryOut};

/// One line to pack.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// The name.
    pub name: &'a OsStr,
    /// `d_ino`.
    pub ino: u64,
    /// `d_type`: the file type bits of the mode, shifted down by twelve.
    pub kind: u32,
    /// Where a later READDIR goes on after this line.
    pub next: u64,
}

/// A listing being packed.
#[derive(Debug)]
pub struct Dirents<'a> {
    room: &'a mut [u8],
    used: usize,
}

impl<'a> Dirents<'a> {
    /// An empty listing that may fill `room`.
    pub fn new(room: &'a mut [u8]) -> Dirents<'a> {
        Dirents { room, used: 0 }
    }

    /// Bytes packed so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes that may be packed in all.
    pub fn capacity(&self) -> usize {
        self.room.len()
    }

    /// Bytes that [`Dirents::add_plus`] of this name takes; to be asked before raising a lookup count.
    pub fn plus_size(name: &OsStr) -> usize {
        padded(size_of::<Direntplus>() + name.len())
    }

    /// Packs a line of READDIR; false if there is no room for it.
    #[must_use]
    pub fn add(&mut self, line: Line<'_>) -> bool {
        self.pack(dirent(line).as_bytes(), line.name)
    }

    /// Packs a line of READDIRPLUS; false if there is no room for it. With `entry.nodeid` 0 nothing is cached and
    /// no count is held.
    #[must_use]
    pub fn add_plus(&mut self, entry: &EntryOut, line: Line<'_>) -> bool {
        let both = Direntplus { entry: *entry, dirent: dirent(line) };
        self.pack(both.as_bytes(), line.name)
    }

    fn pack(&mut self, head: &[u8], name: &OsStr) -> bool {
        let bare = head.len() + name.len();
        let whole = padded(bare);
        let Some(room) = self.room.get_mut(self.used..self.used + whole) else {
            return false;
        };
        room[..head.len()].copy_from_slice(head);
        room[head.len()..bare].copy_from_slice(name.as_bytes());
        room[bare..].fill(0);
        self.used += whole;
        true
    }
}

fn dirent(line: Line<'_>) -> Dirent {
    // A name is at most 255 bytes (the engine's contract); were it longer, `pack` would find no room.
    let namelen = u32::try_from(line.name.len()).unwrap_or(u32::MAX);
    Dirent { ino: line.ino, off: line.next, namelen, kind: line.kind }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    fn line(name: &str, next: u64) -> Line<'_> {
        Line { name: OsStr::new(name), ino: 40 + next, kind: 8, next }
    }

    #[test]
    fn lines_are_padded_and_stop_at_the_end() {
        let mut room = [0xffu8; 24 + 8 + 24 + 16];
        let mut list = Dirents::new(&mut room);
        assert!(list.add(line("a", 1)));
        assert!(list.add(line("123456789", 2)));
        assert!(!list.add(line("b", 3)));
        assert_eq!(list.used(), 72);
        let (first, rest) = Dirent::read_from_prefix(&room).unwrap();
        assert_eq!(first, Dirent { ino: 41, off: 1, namelen: 1, kind: 8 });
        assert_eq!(&rest[..8], b"a\0\0\0\0\0\0\0");
        let (second, rest) = Dirent::read_from_prefix(&rest[8..]).unwrap();
        assert_eq!((second.namelen, second.off), (9, 2));
        assert_eq!(rest, b"123456789\0\0\0\0\0\0\0");
    }

    #[test]
    fn plus_lines_carry_the_entry() {
        let mut room = [0xffu8; 160 + 8];
        let mut list = Dirents::new(&mut room);
        let entry = EntryOut { nodeid: 7, ..EntryOut::default() };
        assert!(Dirents::plus_size(OsStr::new("a")) <= list.capacity() - list.used());
        assert!(list.add_plus(&entry, line("a", 1)));
        assert!(Dirents::plus_size(OsStr::new("a")) > list.capacity() - list.used());
        assert!(!list.add_plus(&entry, line("b", 2)));
        assert_eq!(list.used(), 160);
        let (both, rest) = Direntplus::read_from_prefix(&room).unwrap();
        assert_eq!((both.entry.nodeid, both.dirent.ino), (7, 41));
        assert_eq!(&rest[..8], b"a\0\0\0\0\0\0\0");
    }
}
