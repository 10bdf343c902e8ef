//! Writing entries: USTAR headers, with PAX records for what does not fit (OCI layer.md, pax(1)). The same entries give
//! the same bytes. Not here: which entries, and in which order.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use plyfs_sys::{Dev, Time};
use tar::{EntryType, Header};

use super::error::{Error, Result, shown};
use crate::digest::{DiffId, HashingWriter};
use crate::unpack::pax;

/// One entry, but for its contents.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    pub(crate) perm: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Sorted, without marks of unions.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// Of so many bytes.
    File(u64),
    /// To an earlier entry's path.
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Dir,
    Fifo,
    CharDevice(Dev),
    BlockDevice(Dev),
}

impl Item {
    /// A whiteout that nothing is known of but its name.
    pub(crate) fn whiteout() -> Item {
        let kind = ItemKind::File(0);
        Item { kind, perm: 0o644, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() }
    }
}

/// What was packed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The digest of the archive: its diff ID.
    pub diff_id: DiffId,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Sockets that were left out, as tar has none; escaped paths.
    pub left_out: Vec<String>,
}

/// The archive being written.
pub(crate) struct Archive<W: Write> {
    out: HashingWriter<W>,
    entries: u64,
    pub(crate) left_out: Vec<String>,
    buffer: Vec<u8>,
}

/// Numbers that a USTAR field of eight bytes holds.
const SMALL: u64 = 0o7_777_777;
/// And one of twelve.
const LARGE: u64 = 0o77_777_777_777;

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Archive<W> {
        Archive { out: HashingWriter::new(out), entries: 0, left_out: Vec::new(), buffer: vec![0; 256 << 10] }
    }

    /// An entry without contents; `path` has no leading slash, the root is empty.
    pub(crate) fn put(&mut self, path: &[u8], item: &Item) -> Result<()> {
        self.header(path, item).map_err(Error::Write)
    }

    /// A file's entry and its contents, which must have the bytes that `item` says.
    pub(crate) fn put_file(&mut self, path: &[u8], item: &Item, contents: &mut dyn Read) -> Result<()> {
        self.put(path, item)?;
        let ItemKind::File(size) = item.kind else { return Ok(()) };
        let mut left = size;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let got = match contents.read(&mut self.buffer[..count]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                got => got.map_err(|source| Error::Read { path: shown(path), source })?,
            };
            if got == 0 {
                return Err(Error::Shrank { path: shown(path) });
            }
            self.out.write_all(&self.buffer[..got]).map_err(Error::Write)?;
            left -= got as u64;
        }
        self.pad(size).map_err(Error::Write)
    }

    /// The end of the archive.
    pub(crate) fn finish(mut self) -> Result<Packed> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).map_err(Error::Write)?;
        let bytes = self.out.count();
        let (_, diff_id) = self.out.finish();
        Ok(Packed { diff_id: DiffId(diff_id), bytes, entries: self.entries, left_out: self.left_out })
    }

    fn header(&mut self, path: &[u8], item: &Item) -> io::Result<()> {
        self.entries += 1;
        let name = match (&item.kind, path) {
            (ItemKind::Dir, b"") => b"./".to_vec(),
            (ItemKind::Dir, path) => [path, b"/"].concat(),
            (_, path) => path.to_vec(),
        };
        let link = match &item.kind {
            ItemKind::HardLink(target) | ItemKind::Symlink(target) => &target[..],
            _ => b"",
        };
        let records = records(&name, link, item);
        if !records.is_empty() {
            let mut header = plain_header(EntryType::XHeader, b"PaxHeaders.0", b"", 0o644);
            header.set_size(records.len() as u64);
            header.set_cksum();
            self.out.write_all(header.as_bytes())?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.out.write_all(main_header(&name, link, item)?.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.out.write_all(&[0; 512][..(size.wrapping_neg() % 512) as usize])
    }
}

fn plain_header(kind: EntryType, name: &[u8], link: &[u8], perm: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    let bytes = header.as_mut_bytes();
    let cut = |text: &[u8]| text.len().min(100);
    bytes[..cut(name)].copy_from_slice(&name[..cut(name)]);
    bytes[157..157 + cut(link)].copy_from_slice(&link[..cut(link)]);
    header.set_mode(perm);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn main_header(name: &[u8], link: &[u8], item: &Item) -> io::Result<Header> {
    let (kind, size, dev) = match &item.kind {
        ItemKind::File(size) => (EntryType::Regular, *size, Dev::default()),
        ItemKind::HardLink(_) => (EntryType::Link, 0, Dev::default()),
        ItemKind::Symlink(_) => (EntryType::Symlink, 0, Dev::default()),
        ItemKind::Dir => (EntryType::Directory, 0, Dev::default()),
        ItemKind::Fifo => (EntryType::Fifo, 0, Dev::default()),
        ItemKind::CharDevice(dev) => (EntryType::Char, 0, *dev),
        ItemKind::BlockDevice(dev) => (EntryType::Block, 0, *dev),
    };
    let mut header = plain_header(kind, name, link, item.perm);
    // Where a number does not fit, the PAX record counts; the field says the same in base-256.
    header.set_size(size);
    header.set_uid(item.uid.into());
    header.set_gid(item.gid.into());
    header.set_mtime(u64::try_from(item.mtime.sec).unwrap_or(0));
    header.set_device_major(dev.major)?;
    header.set_device_minor(dev.minor)?;
    header.set_cksum();
    Ok(header)
}

/// Records of what USTAR's fields don't hold, sorted by key.
fn records(name: &[u8], link: &[u8], item: &Item) -> Vec<u8> {
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| all.push((key.as_bytes().to_vec(), value));
    let fits = |text: &[u8]| text.len() <= 100 && text.is_ascii();
    if !fits(name) {
        add("path", name.to_vec());
    }
    if !fits(link) {
        add("linkpath", link.to_vec());
    }
    if let ItemKind::File(size) = item.kind
        && size > LARGE
    {
        add("size", size.to_string().into_bytes());
    }
    for (key, id) in [("uid", item.uid), ("gid", item.gid)] {
        if u64::from(id) > SMALL {
            add(key, id.to_string().into_bytes());
        }
    }
    let whole = item.mtime.nsec == 0 && u64::try_from(item.mtime.sec).is_ok_and(|sec| sec <= LARGE);
    if !whole {
        add("mtime", time_text(item.mtime));
    }
    for (name, value) in &item.xattrs {
        all.push((pax::xattr_key(name), value.clone()));
    }
    all.sort();
    all.iter().flat_map(|(key, value)| pax::record(key, value)).collect()
}

/// Seconds with a fraction as short as it can be.
fn time_text(time: Time) -> Vec<u8> {
    let (sign, sec, nsec) = match (time.sec < 0, time.nsec) {
        (true, 0) => ("-", time.sec.unsigned_abs(), 0),
        (true, nsec) => ("-", time.sec.unsigned_abs() - 1, 1_000_000_000 - nsec),
        (false, nsec) => ("", time.sec.unsigned_abs(), nsec),
    };
    let text = if nsec == 0 { format!("{sign}{sec}") } else { format!("{sign}{sec}.{nsec:09}") };
    let text = if nsec == 0 { &text[..] } else { text.trim_end_matches('0') };
    text.as_bytes().to_vec()
}

/// The first path of each file with several names.
#[derive(Debug)]
pub(crate) struct FirstNames<K>(HashMap<K, Vec<u8>>);

impl<K: std::hash::Hash + Eq> FirstNames<K> {
    pub(crate) fn new() -> FirstNames<K> {
        FirstNames(HashMap::new())
    }

    /// The path under which the file came already; else remembers this one.
    pub(crate) fn earlier(&mut self, file: K, path: &[u8]) -> Option<Vec<u8>> {
        let known = self.0.get(&file).cloned();
        if known.is_none() {
            self.0.insert(file, path.to_vec());
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::numbers;

    #[test]
    fn times_are_read_back() {
        for (sec, nsec) in
            [(0, 0), (1, 5), (1, 500_000_000), (-1, 0), (-1, 1), (-2, 999_999_999), (1 << 40, 1)]
        {
            let time = Time { sec, nsec };
            assert_eq!(numbers::time(&time_text(time)), Some(time), "{time:?}");
        }
    }

    #[test]
    fn whole_times_need_no_record() {
        let item = |mtime| Item { mtime, ..Item::whiteout() };
        assert!(records(b"a", b"", &item(Time { sec: 5, nsec: 0 })).is_empty());
        assert_eq!(records(b"a", b"", &item(Time { sec: 5, nsec: 10 })), b"20 mtime=5.00000001\n");
        assert_eq!(records(b"a", b"", &item(Time { sec: -5, nsec: 0 })), b"12 mtime=-5\n");
    }
}
