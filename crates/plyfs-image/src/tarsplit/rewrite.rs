//! The record once more, when the archive itself replaced some of its files: their contents as raw bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::read::GzDecoder;

use super::Line;
use super::encode::Lines;
use super::writer::SEGMENT_BYTES;

/// Where the contents of a file that was replaced are kept until the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// The lines of `from` in `to`, with the replaced files' contents, which are in `side`, in their places.
pub(super) fn without(
    mut from: &File,
    to: File,
    replaced: &BTreeMap<u64, Kept>,
    side: Option<&File>,
) -> io::Result<File> {
    from.seek(SeekFrom::Start(0))?;
    let mut source = BufReader::with_capacity(64 << 10, GzDecoder::new(BufReader::new(from)));
    let mut lines = Lines::new(to);
    let mut text = Vec::new();
    loop {
        text.clear();
        if source.read_until(b'\n', &mut text)? == 0 {
            return lines.finish();
        }
        let line: Line = serde_json::from_slice(&text)?;
        match (replaced.get(&line.position), side) {
            (None, _) => lines.line(line)?,
            (Some(kept), Some(side)) if kept.len > 0 => segments(&mut lines, side, *kept)?,
            (Some(_), _) => {}
        }
    }
}

fn segments(lines: &mut Lines, mut side: &File, kept: Kept) -> io::Result<()> {
    side.seek(SeekFrom::Start(kept.start))?;
    let mut left = kept.len;
    let mut buffer = vec![0; SEGMENT_BYTES];
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        side.read_exact(&mut buffer[..count])?;
        lines.raw(&buffer[..count])?;
        left -= count as u64;
    }
    Ok(())
}

/// `to` becomes `from`.
pub(super) fn copy_over(mut from: &File, mut to: &File) -> io::Result<()> {
    to.set_len(0)?;
    to.seek(SeekFrom::Start(0))?;
    from.seek(SeekFrom::Start(0))?;
    io::copy(&mut from, &mut to).map(drop)
}
