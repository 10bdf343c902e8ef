//! tar-split: what of a layer's archive is not in its directory, so that the archive can be made again byte for byte.
//!
//! The format is that of Docker's `tar-split.json.gz` (github.com/vbatts/tar-split): gzip of one JSON object a line,
//! segments of raw bytes (`type` 2) and files (`type` 1) whose contents are in the directory. Docker's reader wants
//! every file's name once only, so what a later entry replaced is kept as raw bytes, as is everything that was not
//! unpacked as it stands (sparse files, private words).

mod assemble;
mod encode;
mod rewrite;
mod size;
mod writer;

use serde::{Deserialize, Serialize};

pub use assemble::{AssembleError, assemble};
pub use size::archive_size;
pub use writer::Writer;

/// The checksum of a file's contents: CRC-64/GO-ISO.
pub(crate) static CRC: crc::Crc<u64, crc::Table<16>> =
    crc::Crc::<u64, crc::Table<16>>::new(&crc::CRC_64_GO_ISO);

/// Bytes of one line at most. Docker writes a segment for whatever lies between two files.
const LINE_BYTES: u64 = 256 << 20;
const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    /// A name that is not UTF-8, base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name_raw: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    /// base64: raw bytes, or the checksum, big-endian.
    payload: Option<String>,
    position: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(size: &u64) -> bool {
    *size == 0
}
