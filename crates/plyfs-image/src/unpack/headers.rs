//! Tar headers: from blocks to entries. USTAR, GNU and PAX as Go's archive/tar reads them, because that is what every
//! other engine reads layers with; where readers disagree, the archive is refused (TARmageddon, CVE-2025-62518).
//!
//! Why not the reader of the crate `tar`: it takes records of PAX apart at newlines, which binary xattrs contain, it
//! has no limits on extended headers and sparse maps, and it does not give the raw bytes that tar-split needs.

use std::io::BufRead;

use plyfs_sys::{Dev, Time};

use super::blocks::{Block, Blocks};
use super::error::{Error, Result};
use super::numbers;
use super::pax::{Pax, Records};
use super::sparse::{self, Map};
use crate::limits::{self, Limits};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Dir,
    Fifo,
}

/// One entry, extended headers already applied. Nothing in it has been checked against the filesystem.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) perm: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: Dev,
    pub(crate) mtime: Time,
    pub(crate) atime: Option<Time>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the body in the archive.
    pub(crate) stored: u64,
    /// Of a sparse file.
    pub(crate) sparse: Option<Map>,
    /// Attributes were in a form that is not read.
    pub(crate) unread: bool,
}

/// Reads entries.
pub(crate) struct Headers<'a, R> {
    pub(crate) blocks: Blocks<'a, R>,
    limits: &'a Limits,
    global: Records,
    /// There were bytes other than zeros behind the end.
    pub(crate) trailing: bool,
}

/// What extended headers said of the entry to come.
#[derive(Default)]
struct Said {
    pax: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Said {
    fn is_anything(&self) -> bool {
        self.pax.is_some() || self.name.is_some() || self.link.is_some()
    }
}

impl<'a, R: BufRead> Headers<'a, R> {
    pub(crate) fn new(blocks: Blocks<'a, R>, limits: &'a Limits) -> Headers<'a, R> {
        Headers { blocks, limits, global: Records::default(), trailing: false }
    }

    /// The next entry, its body to be read; `None` at the end, when the stream has been read to its end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut said = Said::default();
        loop {
            let Some(block) = self.header()? else {
                if said.is_anything() {
                    return Err(self.blocks.broken("an extended header without an entry"));
                }
                return Ok(None);
            };
            match block[156] {
                b'x' => {
                    let records = self.records(&block)?;
                    self.once(&mut said.pax, records)?;
                }
                b'g' => self.global(&block)?,
                b'L' => {
                    let name = self.long_text(&block)?;
                    self.once(&mut said.name, name)?;
                }
                b'K' => {
                    let link = self.long_text(&block)?;
                    self.once(&mut said.link, link)?;
                }
                _ => return self.entry(&block, said).map(Some),
            }
        }
    }

    fn once<T>(&self, slot: &mut Option<T>, value: T) -> Result<()> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.blocks.broken("two extended headers of one kind for one entry")),
        }
    }

    /// A header whose checksum is right; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Block>> {
        let Some(block) = self.blocks.block()? else { return Ok(None) };
        if block.iter().any(|&byte| byte != 0) {
            return if checksum_is_right(&block) {
                Ok(Some(block))
            } else {
                Err(self.blocks.broken("wrong checksum of a header; no tar archive?"))
            };
        }
        match self.blocks.block()? {
            Some(second) if second.iter().any(|&byte| byte != 0) => {
                Err(self.blocks.broken("a single block of zeros between entries"))
            }
            _ => {
                self.trailing = self.blocks.rest()?;
                Ok(None)
            }
        }
    }

    fn extension(&mut self, block: &Block) -> Result<Vec<u8>> {
        let Some(size) = numbers::unsigned(&block[124..136]) else {
            return Err(self.blocks.broken("size of an extended header"));
        };
        limits::check(size, "pax_header", self.limits.pax_header)
            .map_err(Error::limit(b"extended header"))?;
        self.blocks.small_body(size)
    }

    fn records(&mut self, block: &Block) -> Result<Records> {
        let bytes = self.extension(block)?;
        Records::parse(&bytes).map_err(|what| self.blocks.broken(what))
    }

    fn global(&mut self, block: &Block) -> Result<()> {
        let records = self.records(block)?;
        if records.ambiguous_global() {
            return Err(self.blocks.broken("a global header with a name, a size or xattrs"));
        }
        self.global.extend(records);
        limits::check(self.global.len() as u64, "pax_header", self.limits.pax_header)
            .map_err(Error::limit(b"global header"))
    }

    /// GNU's long names end at a NUL.
    fn long_text(&mut self, block: &Block) -> Result<Vec<u8>> {
        let mut text = self.extension(block)?;
        text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(text.len()));
        Ok(text)
    }

    fn entry(&mut self, block: &Block, said: Said) -> Result<Entry> {
        let global = std::mem::take(&mut self.global);
        let entry = self.entry_over(block, said, &global);
        self.global = global;
        entry
    }

    fn entry_over(&mut self, block: &Block, said: Said, global: &Records) -> Result<Entry> {
        let own = said.pax.unwrap_or_default();
        let pax = Pax { own: &own, global };
        if pax.is_sparse() {
            let what = "a sparse file in GNU tar's PAX form, which is not read; layers should hold none (OCI layer.md)";
            return Err(self.blocks.broken(what));
        }
        let name = self.one_of(said.name, pax.path())?.unwrap_or_else(|| header_name(block));
        let link = self.one_of(said.link, pax.link())?.unwrap_or_else(|| text(&block[157..257]));
        limits::check(name.len() as u64, "name", self.limits.name as u64).map_err(Error::limit(&name))?;
        limits::check(link.len() as u64, "link", self.limits.link as u64).map_err(Error::limit(&name))?;
        let kind = self.kind(block, &name)?;
        let is_sparse = block[156] == b'S';
        let mut entry = self
            .fields(block, &pax, name, link, kind)
            .ok_or_else(|| self.blocks.broken("a number in a header"))?;
        if kind != EntryKind::File && entry.stored != 0 {
            return Err(self
                .blocks
                .broken("contents of an entry that is no file: readers disagree where the next one begins"));
        }
        if is_sparse {
            entry.sparse = Some(sparse::read(&mut self.blocks, block, entry.stored, self.limits)?);
        }
        self.check_xattrs(&entry)?;
        self.blocks.begin_body(entry.stored);
        Ok(entry)
    }

    /// GNU's long text or PAX's: Go's reader believes the former, Python's the latter.
    fn one_of(&self, gnu: Option<Vec<u8>>, pax: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        match (gnu, pax) {
            (Some(gnu), Some(pax)) if gnu != pax => Err(self
                .blocks
                .broken("a GNU name and a PAX name that differ: readers disagree which one counts")),
            (Some(gnu), _) => Ok(Some(gnu)),
            (None, pax) => Ok(pax.map(<[u8]>::to_vec)),
        }
    }

    fn kind(&self, block: &Block, name: &[u8]) -> Result<EntryKind> {
        Ok(match block[156] {
            // V7 had no type for directories.
            0 if name.ends_with(b"/") => EntryKind::Dir,
            0 | b'0' | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Dir,
            b'6' => EntryKind::Fifo,
            b'S' if is_gnu(block) => EntryKind::File,
            other => {
                let what = format!("entry of the unknown type {:?}", char::from(other));
                return Err(self.blocks.broken(what));
            }
        })
    }

    fn fields(
        &self,
        block: &Block,
        pax: &Pax<'_>,
        name: Vec<u8>,
        link: Vec<u8>,
        kind: EntryKind,
    ) -> Option<Entry> {
        let id = |key, range: std::ops::Range<usize>| {
            u32::try_from(pax.number(key, numbers::unsigned(&block[range]))?)
                .ok()
                .filter(|&id| id != u32::MAX)
        };
        let device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let number = |range: std::ops::Range<usize>| u32::try_from(numbers::unsigned(&block[range])?).ok();
        let rdev =
            if device { Dev { major: number(329..337)?, minor: number(337..345)? } } else { Dev::default() };
        let seconds = Time { sec: numbers::field(&block[136..148])?, nsec: 0 };
        Some(Entry {
            name,
            link,
            kind,
            perm: (numbers::unsigned(&block[100..108])? & 0o7777) as u32,
            uid: id("uid", 108..116)?,
            gid: id("gid", 116..124)?,
            rdev,
            mtime: pax.time("mtime")?.unwrap_or(seconds),
            atime: pax.time("atime")?,
            xattrs: pax.xattrs(),
            stored: pax.number("size", numbers::unsigned(&block[124..136]))?,
            sparse: None,
            unread: pax.has_unread(),
        })
    }

    fn check_xattrs(&self, entry: &Entry) -> Result<()> {
        let mut sum = 0;
        for (name, value) in &entry.xattrs {
            limits::check(value.len() as u64, "xattr_value", self.limits.xattr_value as u64)
                .map_err(Error::limit(&entry.name))?;
            sum += name.len() + value.len();
        }
        limits::check(sum as u64, "xattrs_per_entry", self.limits.xattrs_per_entry as u64)
            .map_err(Error::limit(&entry.name))
    }
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> Vec<u8> {
    field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())].to_vec()
}

fn is_gnu(block: &Block) -> bool {
    block[257..265] == *b"ustar  \0"
}

/// USTAR's prefix and name; star keeps times in the last 24 bytes of the prefix.
fn header_name(block: &Block) -> Vec<u8> {
    let name = text(&block[..100]);
    let posix = block[257..263] == *b"ustar\0";
    let end = if block[508..512] == *b"tar\0" { 476 } else { 500 };
    let prefix = if posix {
        text(&block[345..end])
    } else if is_gnu(block) {
        misplaced_prefix(block)
    } else {
        Vec::new()
    };
    if prefix.is_empty() { name } else { [&prefix[..], b"/", &name].concat() }
}

/// GNU's headers have times where USTAR has the prefix, but Go's writer before 1.8, and so Docker's layers of that age,
/// put prefixes there. Go's reader takes for one what is no time.
fn misplaced_prefix(block: &Block) -> Vec<u8> {
    let is_time = |field: &[u8]| field[0] == 0 || numbers::field(field).is_some();
    if is_time(&block[345..357]) && is_time(&block[357..369]) {
        return Vec::new();
    }
    let prefix = text(&block[345..500]);
    if prefix.is_ascii() { prefix } else { Vec::new() }
}

/// The sum of all bytes, the field itself as spaces; some old writers summed signed bytes.
fn checksum_is_right(block: &Block) -> bool {
    let Some(want) = numbers::field(&block[148..156]) else { return false };
    let others = || block[..148].iter().chain(&block[156..]);
    let unsigned: i64 = others().map(|&byte| i64::from(byte)).sum();
    let signed: i64 = others().map(|&byte| i64::from(byte as i8)).sum();
    want == unsigned + 256 || want == signed + 256
}
