//! `Tree`: reads the records of an image index. Every access is checked against the section it is in: what does not fit,
//! or can't be, is `None`, and the reader's answer to that is to do without the index. So no file, however damaged,
//! makes a panic, an answer from outside of it, or an endless loop: a directory's record is led to by one entry of one
//! other record, with a lower number.

use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;

use plyfs_sys::{Dev, Kind, Leaf, Stat, Time};

use crate::image::Record;
use crate::image::format::{Layout, NONE, Part, dir, entry, i64_at, place, seen, u16_at, u32_at, u64_at};
use crate::names::{self, Word};
use crate::resolve::{Found, Seen, Sightings};

/// The sections of one index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree<'a> {
    bytes: &'a [u8],
    layout: &'a Layout,
}

/// A name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    tree: Tree<'a>,
    bytes: &'a [u8],
    number: u32,
}

/// A merged directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folder<'a> {
    tree: Tree<'a>,
    bytes: &'a [u8],
    pub(super) number: Record,
}

/// On which layer a directory lies, and where, if not under its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlaceAt {
    pub(super) layer: u16,
    pub(super) path: Option<Vec<Leaf>>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(bytes: &'a [u8], layout: &'a Layout) -> Tree<'a> {
        Tree { bytes, layout }
    }

    /// How many layers.
    pub(super) fn layers(self) -> usize {
        self.layout.part(self.bytes, Part::Layers).len() / Part::Layers.record()
    }

    pub(super) fn layout(self) -> &'a Layout {
        self.layout
    }

    /// Record `number` of a section.
    pub(super) fn record(self, part: Part, number: u32) -> Option<&'a [u8]> {
        let at = usize::try_from(number).ok()?.checked_mul(part.record())?;
        self.layout.part(self.bytes, part).get(at..at.checked_add(part.record())?)
    }

    pub(super) fn text(self, at: u32, length: usize) -> Option<&'a [u8]> {
        let at = usize::try_from(at).ok()?;
        self.layout.part(self.bytes, Part::Text).get(at..at.checked_add(length)?)
    }

    pub(super) fn folder(self, number: Record) -> Option<Folder<'a>> {
        Some(Folder { tree: self, bytes: self.record(Part::Dirs, number)?, number })
    }

    fn entry(self, number: u32) -> Option<Entry<'a>> {
        Some(Entry { tree: self, bytes: self.record(Part::Entries, number)?, number })
    }

    fn layer(self, number: u16) -> Option<u16> {
        (usize::from(number) < self.layers()).then_some(number)
    }
}

impl<'a> Folder<'a> {
    /// The entry that leads here; of the root, one without a name.
    pub(super) fn entry(self) -> Option<Entry<'a>> {
        self.tree.entry(u32_at(self.bytes, dir::ENTRY)?)
    }

    /// How many names, those that do not show too.
    pub(super) fn names(self) -> u32 {
        u32_at(self.bytes, dir::NAMES).unwrap_or(0)
    }

    /// Name number `number`, in their order.
    pub(super) fn name(self, number: u32) -> Option<Entry<'a>> {
        let first = u32_at(self.bytes, dir::FIRST_NAME)?;
        if number >= self.names() {
            return None;
        }
        self.tree.entry(first.checked_add(number)?)
    }

    /// The entry of a name.
    pub(super) fn find(self, name: &[u8]) -> Option<Entry<'a>> {
        let (mut low, mut high) = (0, self.names());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.name(middle)?;
            match entry.name()?.cmp(name) {
                Ordering::Equal => return Some(entry),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The layers that merge here, top first. `None`: damaged.
    pub(super) fn places(self) -> Option<Vec<PlaceAt>> {
        let first = u32_at(self.bytes, dir::FIRST_PLACE)?;
        let count = u32_at(self.bytes, dir::PLACES)?;
        let mut places = Vec::new();
        for number in 0..count {
            let bytes = self.tree.record(Part::Places, first.checked_add(number)?)?;
            let layer = self.tree.layer(u16_at(bytes, place::LAYER)?)?;
            if places.last().is_some_and(|last: &PlaceAt| last.layer >= layer) {
                return None;
            }
            let path = match u16_at(bytes, place::HAS_PATH)? {
                0 => None,
                _ => Some(self.path(bytes)?),
            };
            places.push(PlaceAt { layer, path });
        }
        (!places.is_empty()).then_some(places)
    }

    fn path(self, bytes: &[u8]) -> Option<Vec<Leaf>> {
        let length = usize::try_from(u32_at(bytes, place::PATH_LENGTH)?).ok()?;
        let text = self.tree.text(u32_at(bytes, place::PATH)?, length)?;
        if text.is_empty() {
            return Some(Vec::new());
        }
        text.split(|&byte| byte == b'/').map(Leaf::from_bytes).collect()
    }

    /// The directory below this one that `entry` of it leads to.
    pub(super) fn child(self, entry: Entry<'a>) -> Option<Folder<'a>> {
        let number = entry.dir()?;
        let child = self.tree.folder(number)?;
        let back = (u32_at(child.bytes, dir::PARENT)?, u32_at(child.bytes, dir::ENTRY)?);
        let is_ours = back == (self.number, entry.number) && number > self.number;
        is_ours.then_some(child)
    }
}

impl<'a> Entry<'a> {
    /// The name as bytes, unchecked.
    pub(super) fn name(self) -> Option<&'a [u8]> {
        let length = usize::from(u16_at(self.bytes, entry::NAME_LENGTH)?);
        self.tree.text(u32_at(self.bytes, entry::NAME)?, length)
    }

    /// The name, if it can be one that users may see.
    pub(super) fn leaf(self) -> Option<Leaf> {
        Leaf::from_bytes(self.name()?).filter(|leaf| names::word(leaf) == Word::Plain)
    }

    fn dir(self) -> Option<Record> {
        u32_at(self.bytes, entry::DIR).filter(|&number| number != NONE)
    }

    /// What each layer has under the name, top first; layers count from `first`. `None`: damaged.
    pub(super) fn seen(self, first: u16) -> Option<Sightings> {
        let from = u32_at(self.bytes, entry::FIRST_SEEN)?;
        let count = u32::from(u16_at(self.bytes, entry::SEEN)?);
        let mut all = Sightings::new();
        for number in 0..count {
            let bytes = self.tree.record(Part::Seen, from.checked_add(number)?)?;
            let branch = self.tree.layer(u16_at(bytes, seen::LAYER)?)?.checked_add(first)?;
            let found = match *bytes.get(seen::KIND)? {
                0 => None,
                kind => Some(Found { kind: kind_of(kind)?, ino: u64_at(bytes, seen::INO)? }),
            };
            let whiteout = *bytes.get(seen::WHITEOUT)? != 0;
            let in_order = all.last().is_none_or(|last: &Seen| last.branch < branch);
            if !in_order || !whiteout && found.is_none() {
                return None;
            }
            all.push(Seen { branch, whiteout, found });
        }
        (!all.is_empty()).then_some(all)
    }

    /// The layer that serves what shows under the name; `None` if nothing does.
    pub(super) fn layer(self) -> Option<u16> {
        self.kind()?;
        self.tree.layer(u16_at(self.bytes, entry::LAYER)?)
    }

    /// What shows.
    pub(super) fn kind(self) -> Option<Kind> {
        kind_of(*self.bytes.get(entry::KIND)?)
    }

    fn flags(self) -> u8 {
        self.bytes.get(entry::FLAGS).copied().unwrap_or(entry::HAS_XATTRS)
    }

    /// Has the object any xattr?
    pub(super) fn has_xattrs(self) -> bool {
        self.flags() & entry::HAS_XATTRS != 0
    }

    pub(super) fn ino(self) -> Option<u64> {
        u64_at(self.bytes, entry::INO)
    }

    /// The serving object's attributes; `dev` is its filesystem in this mount.
    pub(super) fn stat(self, dev: Dev) -> Option<Stat> {
        let long = |at| u64_at(self.bytes, at);
        let word = |at| u32_at(self.bytes, at);
        let time = |number: usize| {
            let nsec = word(entry::NANOS + 4 * number)?;
            let sec = i64_at(self.bytes, entry::SECONDS + 8 * number)?;
            (nsec < 1_000_000_000).then_some(Time { sec, nsec })
        };
        let born = self.flags() & entry::HAS_BIRTH != 0;
        Some(Stat {
            dev,
            ino: self.ino()?,
            kind: self.kind()?,
            perm: word(entry::PERM)? & 0o7777,
            nlink: word(entry::NLINK)?,
            uid: word(entry::UID)?,
            gid: word(entry::GID)?,
            rdev: Dev { major: word(entry::MAJOR)?, minor: word(entry::MINOR)? },
            size: long(entry::SIZE)?,
            blocks: long(entry::BLOCKS)?,
            blksize: word(entry::BLKSIZE)?,
            atime: time(0)?,
            mtime: time(1)?,
            ctime: time(2)?,
            btime: if born { Some(time(3)?) } else { None },
            mount: 0,
        })
    }

    /// A symlink's text.
    pub(super) fn target(self) -> Option<&'a [u8]> {
        let length = usize::try_from(u32_at(self.bytes, entry::TARGET_LENGTH)?).ok()?;
        let text = self.tree.text(u32_at(self.bytes, entry::TARGET)?, length)?;
        (self.kind() == Some(Kind::Symlink) && !text.is_empty() && !text.contains(&0)).then_some(text)
    }

    /// For people.
    pub(super) fn shown(self) -> std::path::PathBuf {
        std::ffi::OsStr::from_bytes(self.name().unwrap_or_default()).into()
    }
}

const KINDS: [Kind; 7] =
    [Kind::File, Kind::Dir, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice];

/// The number of a type in the file.
pub(super) fn kind_number(kind: Kind) -> u8 {
    KINDS.iter().position(|&one| one == kind).map_or(0, |at| at as u8 + 1)
}

fn kind_of(number: u8) -> Option<Kind> {
    KINDS.get(usize::from(number.checked_sub(1)?)).copied()
}
