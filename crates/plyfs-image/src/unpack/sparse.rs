//! Maps of sparse files, GNU tar's old form: in the header itself, then in blocks behind it.
//!
//! Not here: GNU tar's PAX forms, which are refused in `headers.rs`: OCI layer.md wants no sparse files at all, and
//! the map would have to be read out of the file's own body.

use std::io::BufRead;

use super::blocks::{Block, Blocks};
use super::error::{Error, Result};
use super::numbers;
use crate::limits::{self, Limits};

/// A piece of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// The file's real size and its pieces, in order, without gaps in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) size: u64,
    pub(crate) pieces: Vec<Piece>,
}

const PIECE: usize = 24;
const IN_HEADER: std::ops::Range<usize> = 386..482;
const IN_EXTENSION: std::ops::Range<usize> = 0..504;

/// Reads the map of an entry of type `S`, whose body has `stored` bytes.
pub(crate) fn read<R: BufRead>(
    blocks: &mut Blocks<'_, R>,
    header: &Block,
    stored: u64,
    limits: &Limits,
) -> Result<Map> {
    let size = numbers::unsigned(&header[483..495]).ok_or_else(|| blocks.broken("size of a sparse file"))?;
    let mut map = Map { size, pieces: Vec::new() };
    let bad = |blocks: &Blocks<'_, R>| blocks.broken("map of a sparse file");
    map.add(&header[IN_HEADER]).ok_or_else(|| bad(blocks))?;
    let mut more = header[482] != 0;
    while more {
        let Some(extension) = blocks.block()? else { return Err(bad(blocks)) };
        map.add(&extension[IN_EXTENSION]).ok_or_else(|| bad(blocks))?;
        more = extension[504] != 0;
        limits::check(map.pieces.len() as u64, "sparse_map", limits.sparse_map as u64)
            .map_err(Error::limit(b"sparse file"))?;
    }
    map.check(stored).ok_or_else(|| bad(blocks))?;
    Ok(map)
}

impl Map {
    fn add(&mut self, area: &[u8]) -> Option<()> {
        for piece in area.chunks_exact(PIECE).take_while(|piece| piece[0] != 0) {
            let (offset, len) = (numbers::unsigned(&piece[..12])?, numbers::unsigned(&piece[12..])?);
            self.pieces.push(Piece { offset, len });
        }
        Some(())
    }

    /// In order, without overlaps, inside the file; together what the archive stores.
    fn check(&self, stored: u64) -> Option<()> {
        let (mut end, mut sum) = (0u64, 0u64);
        for piece in &self.pieces {
            if piece.offset < end {
                return None;
            }
            end = piece.offset.checked_add(piece.len)?;
            sum = sum.checked_add(piece.len)?;
        }
        (end <= self.size && sum == stored).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let check = |pieces: &[(u64, u64)], size, stored, want: bool| {
            let pieces = pieces.iter().map(|&(offset, len)| Piece { offset, len }).collect();
            assert_eq!(Map { size, pieces }.check(stored).is_some(), want, "{size} {stored}");
        };
        check(&[], 0, 0, true);
        check(&[], 4096, 0, true);
        check(&[(0, 512), (4096, 512)], 4608, 1024, true);
        check(&[(0, 512), (4096, 512), (9000, 0)], 9000, 1024, true);
        check(&[(0, 512), (511, 1)], 4608, 513, false);
        check(&[(4096, 512), (0, 512)], 4608, 1024, false);
        check(&[(0, 512)], 511, 512, false);
        check(&[(0, 512)], 4096, 1024, false);
        check(&[(u64::MAX, 2)], u64::MAX, 2, false);
    }
}
