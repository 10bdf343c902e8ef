//! Unpacking a layer: from an archive nobody vouches for to a directory in AUFS's dialect (design D2, D11).
//!
//! Whiteouts stay files; nothing in the layer itself is deleted by them. Every access is relative to a descriptor.
//! What is unpacked goes to a staging directory; the caller compares digests before it shows
//! it to anybody, and makes it durable (one syncfs(2), no fsync per file).

pub(crate) mod attrs;
mod blocks;
mod error;
mod headers;
mod links;
pub(crate) mod numbers;
mod paths;
pub(crate) mod pax;
mod pipeline;
mod place;
mod sparse;
mod tree;
mod whiteout;

use std::io::{BufReader, Read};

use plyfs_sys::Dir;

pub use crate::pack::object::{Lower, Object};
pub use error::{Error, Loss, Result, Warning};
pub use pipeline::{UnpackedBlob, unpack_blob};

pub(crate) use blocks::Blocks;
pub(crate) use error::shown;
pub(crate) use headers::{Entry, EntryKind, Headers};
pub(crate) use paths::joined;
pub(crate) use tree::entries;

use crate::digest::{DiffId, HashingReader};
use crate::limits::Limits;
use crate::tarsplit;

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// As the archive says; needs root of the (user) namespace.
    #[default]
    AsIs,
    /// Ours, because we can't give files away. Devices are left out, modes get what we need to read and list.
    Ours,
}

/// How to unpack.
#[derive(Clone, Copy)]
pub struct UnpackOptions<'a> {
    /// What the archive may cost.
    pub limits: &'a Limits,
    /// Whose the files become.
    pub owners: Owners,
    /// The layers below; `None` for an image's first layer.
    pub lower: Option<&'a dyn Lower>,
}

impl std::fmt::Debug for UnpackOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnpackOptions({:?}, lower: {})", self.owners, self.lower.is_some())
    }
}

impl<'a> UnpackOptions<'a> {
    /// A first layer, owners as the archive says.
    pub fn new(limits: &'a Limits) -> UnpackOptions<'a> {
        UnpackOptions { limits, owners: Owners::AsIs, lower: None }
    }
}

/// What was unpacked.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// The digest of the uncompressed archive, whatever was left out.
    pub diff_id: DiffId,
    /// Bytes of the uncompressed archive.
    pub archive_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Apparent size of all that is no directory, hard links once: Docker's DiffSize.
    pub size: u64,
    /// What was lost or changed on the way.
    pub warnings: Vec<Warning>,
}

/// Unpacks the uncompressed archive `tar` into the empty directory `into`. With `record` the archive can be made
/// again ([`tarsplit::assemble`]); [`tarsplit::Writer::finish`] is the caller's.
pub fn unpack(
    tar: impl Read,
    into: &Dir,
    options: &UnpackOptions<'_>,
    record: Option<&mut tarsplit::Writer>,
) -> Result<Unpacked> {
    let mut hashing = HashingReader::new(tar);
    let reader = BufReader::with_capacity(256 << 10, &mut hashing);
    let tally = unpack_stream(reader, into, options, record)?;
    Ok(tally.with(DiffId(hashing.finish())))
}

/// Everything but the digest.
struct Tally {
    archive_bytes: u64,
    entries: u64,
    size: u64,
    warnings: Vec<Warning>,
}

impl Tally {
    fn with(self, diff_id: DiffId) -> Unpacked {
        let Tally { archive_bytes, entries, size, warnings } = self;
        Unpacked { diff_id, archive_bytes, entries, size, warnings }
    }
}

/// Reads `tar` to its end.
fn unpack_stream(
    tar: impl std::io::BufRead,
    into: &Dir,
    options: &UnpackOptions<'_>,
    record: Option<&mut tarsplit::Writer>,
) -> Result<Tally> {
    let blocks = blocks::Blocks::new(tar, options.limits, record);
    let headers = headers::Headers::new(blocks, options.limits);
    let mut unpacker = place::Unpacker::new(headers, into, options);
    unpacker.run()?;
    Ok(Tally {
        archive_bytes: unpacker.headers.blocks.at(),
        entries: unpacker.entries,
        size: unpacker.tree.size,
        warnings: unpacker.setter.warnings.into_vec(),
    })
}
