//! How long an archive will be, told by its record alone.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;

use super::{FILE, LINE_BYTES, Line, SEGMENT};

/// Bytes of the archive that [`super::assemble()`] makes from this record (gzip).
pub fn archive_size(record: impl Read) -> io::Result<u64> {
    let mut lines = BufReader::with_capacity(64 << 10, MultiGzDecoder::new(record));
    let mut text = Vec::new();
    let mut total = 0_u64;
    loop {
        text.clear();
        if lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut text)? == 0 {
            return Ok(total);
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_slice(&text)?;
        let more = match line.kind {
            FILE => line.size,
            SEGMENT => decoded(line.payload.as_deref().unwrap_or_default()),
            other => return Err(io::Error::other(format!("unknown type {other}"))),
        };
        total = total.checked_add(more).ok_or_else(|| io::Error::other("sizes of more than 2^64 bytes"))?;
    }
}

/// Bytes that base64 text stands for.
fn decoded(text: &str) -> u64 {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    ((text.len() - padding) * 3 / 4) as u64
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn segments_and_files_are_added() {
        let mut record = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // "a", "ab", "abc", a file, a directory
        let lines = "{\"type\":2,\"payload\":\"YQ==\",\"position\":0}\n{\"type\":2,\"payload\":\"YWI=\",\"position\":1}\n\
            {\"type\":2,\"payload\":\"YWJj\",\"position\":2}\n{\"type\":1,\"name\":\"f\",\"size\":1000,\"payload\":\"AAAAAAAAAAA=\",\"position\":3}\n\
            {\"type\":1,\"name\":\"d\",\"payload\":null,\"position\":4}\n";
        record.write_all(lines.as_bytes()).unwrap();
        assert_eq!(archive_size(&record.finish().unwrap()[..]).unwrap(), 1006);
        let mut record = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let huge =
            format!("{{\"type\":1,\"name\":\"f\",\"size\":{},\"payload\":null,\"position\":0}}\n", u64::MAX);
        record.write_all(huge.repeat(2).as_bytes()).unwrap();
        assert!(archive_size(&record.finish().unwrap()[..]).is_err());
    }
}
