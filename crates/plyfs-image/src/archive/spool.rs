//! What cannot be read in any order (a pipe, a compressed archive) is put, uncompressed, into a file without a name on the
//! store's filesystem.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::compress::{Compression, Decompressor};
use crate::error::{Doing, Error, Result};
use crate::limits::{Limits, OverLimit};
use crate::progress::Cancel;

/// Puts all of `from`, uncompressed, into a new file that nobody else sees.
pub(crate) fn spool(from: impl Read, dir: &Path, limits: &Limits, cancel: &Cancel) -> Result<File> {
    let mut file = tempfile::tempfile_in(dir).doing("making a temporary file in", dir)?;
    let reader = BufReader::with_capacity(256 << 10, from);
    let archive = Path::new("the archive");
    let mut plain = Decompressor::new(reader, limits).doing("reading", archive)?;
    let is_plain = plain.compression() == Compression::None;
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0_u64;
    loop {
        cancel.check()?;
        let got = plain.read(&mut buffer).doing("reading", archive)?;
        if got == 0 {
            return Ok(file);
        }
        total += got as u64;
        if !is_plain && total > limits.layer_bytes {
            return Err(Error::Refused(OverLimit::new("layer_bytes", limits.layer_bytes).to_string()));
        }
        io::Write::write_all(&mut file, &buffer[..got]).doing("spooling into", dir)?;
    }
}
