//! Making the archive again: the record's raw bytes and the layer's files, in the record's order.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::MultiGzDecoder;
use plyfs_sys::{Access, Dir, Leaf, Links, SysError};

use super::{CRC, FILE, LINE_BYTES, Line, SEGMENT};
use crate::digest::{DiffId, HashingWriter};

/// Why an archive could not be made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// The record can't be read.
    #[error("tar-split record, line {line}: {what}")]
    Record {
        /// From 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// A file of the layer can't be read.
    #[error("{path}: {source}")]
    File {
        /// In the layer, escaped.
        path: String,
        /// Why.
        source: SysError,
    },
    /// A file of the layer has changed since it was unpacked.
    #[error("{path}: changed since the layer was unpacked; the layer can't be written as it came")]
    Changed {
        /// In the layer, escaped.
        path: String,
    },
    /// Writing failed.
    #[error("writing the archive: {0}")]
    Write(#[from] io::Error),
}

/// Writes the archive that was unpacked into `layer`, from its record (gzip). The answer is the digest of what was
/// written, to be compared with the layer's diff ID.
pub fn assemble(record: impl Read, layer: &Dir, out: &mut impl Write) -> Result<DiffId, AssembleError> {
    let mut lines = BufReader::with_capacity(64 << 10, MultiGzDecoder::new(record));
    let mut out = HashingWriter::new(out);
    let mut files = Files { layer, parent: None };
    let mut text = Vec::new();
    for line in 1.. {
        let broken = |what: String| AssembleError::Record { line, what };
        text.clear();
        let got = lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut text);
        match got.map_err(|e| broken(e.to_string()))? {
            0 => break,
            _ if text.len() as u64 == LINE_BYTES => return Err(broken("too long".to_owned())),
            _ => {}
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let parsed: Line = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        match parsed.kind {
            SEGMENT => {
                let payload = parsed.payload.unwrap_or_default();
                out.write_all(&BASE64.decode(payload).map_err(|e| broken(e.to_string()))?)?;
            }
            FILE if parsed.size > 0 => {
                let (name, sum) = file_fields(&parsed).map_err(broken)?;
                files.copy(&name, parsed.size, sum, &mut out)?;
            }
            FILE => {}
            other => return Err(broken(format!("unknown type {other}"))),
        }
    }
    out.flush()?;
    Ok(DiffId(out.finish().1))
}

fn file_fields(line: &Line) -> Result<(Vec<u8>, u64), String> {
    let name = if line.name_raw.is_empty() {
        line.name.clone().into_bytes()
    } else {
        BASE64.decode(&line.name_raw).map_err(|e| e.to_string())?
    };
    let sum = BASE64.decode(line.payload.as_deref().unwrap_or_default()).map_err(|e| e.to_string())?;
    let sum = <[u8; 8]>::try_from(sum).map_err(|_| "a checksum that is not of 8 bytes".to_owned())?;
    Ok((name, u64::from_be_bytes(sum)))
}

/// The layer's files, each opened below the layer's root and never through a last symlink.
struct Files<'a> {
    layer: &'a Dir,
    /// The directory of the last file.
    parent: Option<(Vec<u8>, Dir)>,
}

impl Files<'_> {
    fn open(&mut self, name: &[u8]) -> plyfs_sys::Result<File> {
        let absent = || SysError::new("open", plyfs_sys::Errno::NOENT).on(OsStr::from_bytes(name));
        let clean: Vec<&[u8]> =
            name.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        let Some((last, above)) = clean.split_last() else { return Err(absent()) };
        let leaf = Leaf::from_bytes(last).ok_or_else(absent)?;
        let above = above.join(&b'/');
        let dir = match self.parent.take() {
            Some((path, dir)) if path == above => dir,
            _ => self.layer.within(Path::new(OsStr::from_bytes(&above)), Links::Inside)?,
        };
        let file = dir.open_file(&leaf, Access::Read);
        self.parent = Some((above, dir));
        file
    }

    fn copy(&mut self, name: &[u8], size: u64, sum: u64, out: &mut impl Write) -> Result<(), AssembleError> {
        let path = || name.escape_ascii().to_string();
        let mut file = self.open(name).map_err(|source| AssembleError::File { path: path(), source })?;
        let found = file
            .metadata()
            .map_err(|e| AssembleError::File { path: path(), source: SysError::from_io("fstat", &e) })?;
        if !found.is_file() || found.len() != size {
            return Err(AssembleError::Changed { path: path() });
        }
        let mut digest = CRC.digest();
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(256 << 10)];
        let mut left = size;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let got = file
                .read(&mut buffer[..count])
                .map_err(|e| AssembleError::File { path: path(), source: SysError::from_io("read", &e) })?;
            if got == 0 {
                return Err(AssembleError::Changed { path: path() });
            }
            digest.update(&buffer[..got]);
            out.write_all(&buffer[..got])?;
            left -= got as u64;
        }
        if digest.finalize() == sum { Ok(()) } else { Err(AssembleError::Changed { path: path() }) }
    }
}
