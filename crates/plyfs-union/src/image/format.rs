//! What lies where in an image index. Little-endian, version 1.
//!
//! | part | contents |
//! |---|---|
//! | header | 256 bytes: magic, version, lengths, whose view of the layers it is, place and checksum of each section, checksum of all this |
//! | layers | 64 bytes each, top first: which directory it is (`stamp.rs`) |
//! | dirs | 32 bytes for each merged directory; number 0 is the root, a child's is higher than its parent's |
//! | places | 16 bytes: on which layers a directory lies, top first, opaque marks and redirects applied |
//! | entries | 128 bytes for each name, sorted by name within a directory; number 0 is the root itself |
//! | seen | 16 bytes for what one layer has under a name, whiteouts too, top first |
//! | text | names, targets of symlinks, paths |
//!
//! Here: the layout, the header's reading and writing. Not here: reading records (`tree.rs`), writing them (`build.rs`).

use crc::{CRC_64_XZ, Crc};

pub(super) const MAGIC: &[u8; 8] = b"plyfsidx";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER: usize = 256;
/// Where the header's own checksum lies.
const HEADER_SUM: usize = HEADER - 8;
const SECTIONS_AT: usize = 48;

/// Checksums are CRC-64/XZ: against accidents, not against malice; who may write the file may write anything.
pub(super) const SUM: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// No record.
pub(super) const NONE: u32 = u32::MAX;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Layers,
    Dirs,
    Places,
    Entries,
    Seen,
    Text,
}

impl Part {
    pub(super) const ALL: [Part; 6] =
        [Part::Layers, Part::Dirs, Part::Places, Part::Entries, Part::Seen, Part::Text];

    /// Bytes of one record.
    pub(super) const fn record(self) -> usize {
        match self {
            Part::Layers => 64,
            Part::Dirs => 32,
            Part::Places | Part::Seen => 16,
            Part::Entries => 128,
            Part::Text => 1,
        }
    }
}

/// What a directory's record holds, by offset: u32 each.
pub(super) mod dir {
    /// The record of the directory it is in; its own number for the root.
    pub(crate) const PARENT: usize = 0;
    /// Its entry.
    pub(crate) const ENTRY: usize = 4;
    pub(crate) const FIRST_NAME: usize = 8;
    pub(crate) const NAMES: usize = 12;
    pub(crate) const FIRST_PLACE: usize = 16;
    pub(crate) const PLACES: usize = 20;
}

/// A directory on one layer.
pub(super) mod place {
    /// u16.
    pub(crate) const LAYER: usize = 0;
    /// u16: 1 if it has a path of its own.
    pub(crate) const HAS_PATH: usize = 2;
    /// u32: components joined by `/`, from the layer's root.
    pub(crate) const PATH: usize = 4;
    /// u32.
    pub(crate) const PATH_LENGTH: usize = 8;
}

/// A name.
pub(super) mod entry {
    pub(crate) const NAME: usize = 0;
    /// u16.
    pub(crate) const NAME_LENGTH: usize = 4;
    /// u16.
    pub(crate) const SEEN: usize = 6;
    pub(crate) const FIRST_SEEN: usize = 8;
    /// The record of what it leads to, if it shows a directory; else [`super::NONE`].
    pub(crate) const DIR: usize = 12;
    pub(crate) const TARGET: usize = 16;
    pub(crate) const TARGET_LENGTH: usize = 20;
    /// u16: the layer that serves it.
    pub(crate) const LAYER: usize = 24;
    /// u8: its type; 0 if nothing shows under the name.
    pub(crate) const KIND: usize = 26;
    /// u8.
    pub(crate) const FLAGS: usize = 27;
    pub(crate) const PERM: usize = 28;
    /// u64 from here.
    pub(crate) const INO: usize = 32;
    pub(crate) const SIZE: usize = 40;
    pub(crate) const BLOCKS: usize = 48;
    /// Seconds of atime, mtime, ctime, btime: i64 each.
    pub(crate) const SECONDS: usize = 56;
    /// Their nanoseconds: u32 each.
    pub(crate) const NANOS: usize = 88;
    pub(crate) const NLINK: usize = 104;
    pub(crate) const UID: usize = 108;
    pub(crate) const GID: usize = 112;
    pub(crate) const BLKSIZE: usize = 116;
    pub(crate) const MAJOR: usize = 120;
    pub(crate) const MINOR: usize = 124;

    /// The object has xattrs, of whatever kind.
    pub(crate) const HAS_XATTRS: u8 = 1;
    /// It has a birth time.
    pub(crate) const HAS_BIRTH: u8 = 2;
}

/// What one layer has under a name.
pub(super) mod seen {
    /// u16.
    pub(crate) const LAYER: usize = 0;
    /// u8: type of the entry, 0 for none.
    pub(crate) const KIND: usize = 2;
    /// u8.
    pub(crate) const WHITEOUT: usize = 3;
    /// u64.
    pub(crate) const INO: usize = 8;
}

/// A layer's root directory.
pub(super) mod layer {
    /// u64.
    pub(crate) const INO: usize = 0;
    /// u64: `f_fsid`.
    pub(crate) const FSID: usize = 8;
    /// i64, u32.
    pub(crate) const BIRTH: usize = 16;
    pub(crate) const BIRTH_NANOS: usize = 24;
    pub(crate) const CHANGED_NANOS: usize = 28;
    pub(crate) const CHANGED: usize = 32;
    pub(crate) const UID: usize = 40;
    pub(crate) const GID: usize = 44;
    /// u32: which kinds of xattr are told to be absent, not unknown.
    pub(crate) const XATTRS: usize = 48;
    pub(crate) const NAME: usize = 52;
    pub(crate) const NAME_LENGTH: usize = 56;
}

/// Whose view of the layers it is: what listings, owners and xattrs one is shown depends on who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Viewer {
    /// `trusted.` xattrs are seen.
    pub(super) trusted: bool,
    /// Effective user id.
    pub(super) uid: u32,
    /// Of the user namespace's id maps.
    pub(super) maps: u64,
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Section {
    at: usize,
    length: usize,
    sum: u64,
}

/// The header, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) viewer: Viewer,
    sections: [Section; Part::ALL.len()],
}

impl Layout {
    /// Reads and checks the header, and the checksum of the layers' list.
    pub(super) fn read(bytes: &[u8]) -> Result<Layout, String> {
        let damaged = || "its header is damaged".to_owned();
        let header = bytes.get(..HEADER).ok_or("it is no image index: too short")?;
        if header[..MAGIC.len()] != *MAGIC {
            return Err("it is no image index".to_owned());
        }
        // Before the checksum: another version may have it elsewhere.
        let version = u32_at(header, 8).ok_or_else(damaged)?;
        if version != VERSION {
            return Err(format!("it has version {version}, and this program knows {VERSION}"));
        }
        if !u64_at(header, HEADER_SUM).is_some_and(|sum| is_sum(&header[..HEADER_SUM], sum)) {
            return Err(damaged());
        }
        if u32_at(header, 12) != Some(HEADER as u32) {
            return Err(damaged());
        }
        if u64_at(header, 16) != Some(bytes.len() as u64) {
            return Err("its length is not what its header says".to_owned());
        }
        let viewer = Viewer {
            trusted: u32_at(header, 24).ok_or_else(damaged)? & 1 != 0,
            uid: u32_at(header, 28).ok_or_else(damaged)?,
            maps: u64_at(header, 32).ok_or_else(damaged)?,
        };
        let mut sections = [Section::default(); Part::ALL.len()];
        for (number, part) in Part::ALL.into_iter().enumerate() {
            let at = SECTIONS_AT + number * 24;
            let size = |offset| u64_at(header, at + offset).and_then(|value| usize::try_from(value).ok());
            let section = Section {
                at: size(0).ok_or_else(damaged)?,
                length: size(8).ok_or_else(damaged)?,
                sum: u64_at(header, at + 16).ok_or_else(damaged)?,
            };
            let fits = section.at.checked_add(section.length).is_some_and(|end| end <= bytes.len());
            if !fits || section.at < HEADER || !section.length.is_multiple_of(part.record()) {
                return Err(damaged());
            }
            sections[number] = section;
        }
        let layout = Layout { viewer, sections };
        layout.check_sum(bytes, Part::Layers)?;
        Ok(layout)
    }

    /// The bytes of a section.
    pub(super) fn part<'a>(&self, bytes: &'a [u8], part: Part) -> &'a [u8] {
        let section = &self.sections[part as usize];
        // Within the file: checked when it was opened.
        bytes.get(section.at..section.at + section.length).unwrap_or_default()
    }

    fn check_sum(&self, bytes: &[u8], part: Part) -> Result<(), String> {
        let right = is_sum(self.part(bytes, part), self.sections[part as usize].sum);
        if right { Ok(()) } else { Err(format!("its section {part:?} is damaged")) }
    }

    /// Compares every section with its checksum.
    pub(super) fn check_sums(&self, bytes: &[u8]) -> Result<(), String> {
        Part::ALL.into_iter().try_for_each(|part| self.check_sum(bytes, part))
    }

    /// The header of a file with these sections one behind the other.
    pub(super) fn header(viewer: Viewer, parts: &[Vec<u8>; Part::ALL.len()]) -> Vec<u8> {
        let mut header = vec![0; HEADER];
        let total = HEADER + parts.iter().map(Vec::len).sum::<usize>();
        put(&mut header, 0, MAGIC);
        put(&mut header, 8, &VERSION.to_le_bytes());
        put(&mut header, 12, &(HEADER as u32).to_le_bytes());
        put(&mut header, 16, &(total as u64).to_le_bytes());
        put(&mut header, 24, &u32::from(viewer.trusted).to_le_bytes());
        put(&mut header, 28, &viewer.uid.to_le_bytes());
        put(&mut header, 32, &viewer.maps.to_le_bytes());
        let mut from = HEADER;
        for (number, part) in parts.iter().enumerate() {
            let at = SECTIONS_AT + number * 24;
            put(&mut header, at, &(from as u64).to_le_bytes());
            put(&mut header, at + 8, &(part.len() as u64).to_le_bytes());
            put(&mut header, at + 16, &SUM.checksum(part).to_le_bytes());
            from += part.len();
        }
        let sum = SUM.checksum(&header[..HEADER_SUM]);
        put(&mut header, HEADER_SUM, &sum.to_le_bytes());
        header
    }
}

/// A fuzzer would not get past checksums.
fn is_sum(bytes: &[u8], sum: u64) -> bool {
    cfg!(fuzzing) || SUM.checksum(bytes) == sum
}

/// Writes into a record.
pub(super) fn put(record: &mut [u8], at: usize, bytes: &[u8]) {
    record[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

pub(super) fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    u64_at(bytes, at).map(|value| value as i64)
}
