//! What cannot be read in any order (a pipe, a compressed archive) is put, uncompressed, into a file without a name on the
//! store's filesystem.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::compress::{Compression, Counted, Decompressor, check_ratio};
use crate::error::{Doing, Error, Result};
use crate::limits::{Limits, OverLimit, check};
use crate::progress::Cancel;

/// Puts all of `from`, uncompressed, into a new file that nobody else sees.
pub(crate) fn spool(from: impl Read, dir: &Path, limits: &Limits, cancel: &Cancel) -> Result<File> {
    let mut file = tempfile::tempfile_in(dir).doing("making a temporary file in", dir)?;
    let (from, taken) = Counted::new(from);
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
        if !is_plain {
            let refused = |over: OverLimit| Error::Refused(format!("the archive: {over}"));
            check(total, "layer_bytes", limits.layer_bytes).map_err(refused)?;
            check_ratio(total, taken.get(), limits).map_err(refused)?;
        }
        io::Write::write_all(&mut file, &buffer[..got]).doing("spooling into", dir)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let bomb = zstd::encode_all(&vec![0; 4 << 20][..], 1).unwrap();
        for limit in ["ratio_from", "layer_bytes"] {
            let mut limits = Limits::default();
            assert!(spool(&bomb[..], dir.path(), &limits, &Cancel::new()).is_ok());
            limits.set(limit, 1 << 20).unwrap();
            let told = spool(&bomb[..], dir.path(), &limits, &Cancel::new()).unwrap_err().to_string();
            assert!(told.contains(limit.trim_end_matches("_from")), "{told}");
        }
    }
}
