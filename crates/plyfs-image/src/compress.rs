//! Compression of layers: found by magic, never by media type or name; undone in this process, as a stream.
//!
//! Sources: RFC 1952 (members follow each other), RFC 8878 (frames and skippable frames follow each other), OCI
//! layer.md. Helper programs are never run: they may be the archive's own (CVE-2026-41567).

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Chain, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::GzDecoder;

use crate::limits::{Limits, OverLimit};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// zstd, of one or several frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

/// Bytes that [`detect`] wants to see.
pub const MAGIC: usize = 6;

/// The compression of what begins with `head` (at least [`MAGIC`] bytes, unless there are no more). The error names a
/// compression that is not read.
pub fn detect(head: &[u8]) -> Result<Compression, &'static str> {
    const REFUSED: [(&[u8], &str); 4] =
        [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4"), (b"\x5d\0\0", "lzma")];
    if let Some((_, name)) = REFUSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(name);
    }
    let skippable = head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18];
    Ok(if head.starts_with(b"\x1f\x8b") {
        Compression::Gzip
    } else if head.starts_with(b"\x28\xb5\x2f\xfd") || skippable {
        Compression::Zstd
    } else {
        Compression::None
    })
}

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

enum Kind<R: BufRead> {
    Plain(Whole<R>),
    Gzip(Box<Members<Whole<R>>>),
    Zstd(Box<zstd::Decoder<'static, Whole<R>>>),
}

/// A reader of the uncompressed bytes.
pub struct Decompressor<R: BufRead> {
    kind: Kind<R>,
}

impl<R: BufRead> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decompressor({})", self.compression())
    }
}

impl<R: BufRead> Decompressor<R> {
    /// Looks at the first bytes. InvalidData for a compression that is not read.
    pub fn new(mut reader: R, limits: &Limits) -> io::Result<Decompressor<R>> {
        let mut head = Vec::with_capacity(MAGIC);
        reader.by_ref().take(MAGIC as u64).read_to_end(&mut head)?;
        let found = detect(&head);
        let whole = Cursor::new(head).chain(reader);
        let kind = match found {
            Ok(Compression::None) => Kind::Plain(whole),
            Ok(Compression::Gzip) => Kind::Gzip(Box::new(Members(Some(GzDecoder::new(whole))))),
            Ok(Compression::Zstd) => {
                let mut decoder = zstd::Decoder::with_buffer(whole)?;
                decoder.window_log_max(limits.zstd_window_log)?;
                Kind::Zstd(Box::new(decoder))
            }
            Err(name) => {
                return Err(bad(format!(
                    "compressed with {name}, which is not read; wanted gzip, zstd or none"
                )));
            }
        };
        Ok(Decompressor { kind })
    }

    /// What was found.
    pub fn compression(&self) -> Compression {
        match self.kind {
            Kind::Plain(_) => Compression::None,
            Kind::Gzip(_) => Compression::Gzip,
            Kind::Zstd(_) => Compression::Zstd,
        }
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Plain(reader) => reader.read(buf),
            Kind::Gzip(members) => members.read(buf),
            Kind::Zstd(decoder) => decoder.read(buf),
        }
    }
}

/// Counts what a decompressor takes.
pub(crate) struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Counted<R> {
    /// Around `inner`; the second is the count so far.
    pub(crate) fn new(inner: R) -> (Counted<R>, Rc<Cell<u64>>) {
        let count = Rc::default();
        (Counted { inner, count: Rc::clone(&count) }, count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buf)?;
        self.count.set(self.count.get() + got as u64);
        Ok(got)
    }
}

/// Refuses what becomes far more (`given` bytes) than what was taken for it.
pub(crate) fn check_ratio(given: u64, taken: u64, limits: &Limits) -> Result<(), OverLimit> {
    if given > limits.ratio_from && given / limits.ratio.max(1) > taken {
        return Err(OverLimit::new("ratio", limits.ratio));
    }
    Ok(())
}

/// The members of a gzip file, one after the other. After the last, zeros may follow (gzip(1) on tapes), nothing else.
struct Members<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(member) = &mut self.0 else { return Ok(0) };
            let got = member.read(buf)?;
            if got > 0 {
                return Ok(got);
            }
            self.0 = self.0.take().map(GzDecoder::into_inner).map(next_member).transpose()?.flatten();
        }
    }
}

fn next_member<R: BufRead>(mut reader: R) -> io::Result<Option<GzDecoder<R>>> {
    match reader.fill_buf()?.first() {
        None => Ok(None),
        Some(0x1f) => Ok(Some(GzDecoder::new(reader))),
        Some(_) => only_zeros(reader).map(|()| None),
    }
}

fn only_zeros(mut reader: impl BufRead) -> io::Result<()> {
    loop {
        let rest = reader.fill_buf()?;
        let count = rest.len();
        if rest.iter().any(|&byte| byte != 0) {
            return Err(bad("garbage after the last gzip member".to_owned()));
        }
        if count == 0 {
            return Ok(());
        }
        reader.consume(count);
    }
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        // A buffer of one byte: nothing may rely on seeing more at once.
        let reader = BufReader::with_capacity(1, bytes);
        let mut decompressor = Decompressor::new(reader, &Limits::default())?;
        let mut out = Vec::new();
        decompressor.read_to_end(&mut out)?;
        Ok((decompressor.compression(), out))
    }

    #[test]
    fn all_that_is_read() {
        let skippable =
            [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd::encode_all(&b"xy"[..], 1).unwrap()].concat();
        let frames = [zstd::encode_all(&b"x"[..], 1).unwrap(), skippable.clone()].concat();
        let cases: [(&str, Vec<u8>, Compression, &[u8]); 9] = [
            ("nothing", Vec::new(), Compression::None, b""),
            ("short", b"ab".to_vec(), Compression::None, b"ab"),
            ("plain", b"abcdefghij".to_vec(), Compression::None, b"abcdefghij"),
            ("gzip", gzip(b"hello"), Compression::Gzip, b"hello"),
            ("members", [gzip(b"a"), gzip(b""), gzip(b"b")].concat(), Compression::Gzip, b"ab"),
            ("zeros behind", [gzip(b"a"), vec![0; 700]].concat(), Compression::Gzip, b"a"),
            ("zstd", zstd::encode_all(&b"zz"[..], 1).unwrap(), Compression::Zstd, b"zz"),
            ("skippable first", skippable, Compression::Zstd, b"xy"),
            ("frames", frames, Compression::Zstd, b"xxy"),
        ];
        for (name, bytes, compression, want) in cases {
            assert_eq!(read(&bytes).unwrap(), (compression, want.to_vec()), "{name}");
        }
    }

    #[test]
    fn all_that_is_refused() {
        let mut cut = gzip(b"hello hello hello");
        cut.truncate(cut.len() - 9);
        let mut wrong_crc = gzip(b"hello");
        let at = wrong_crc.len() - 8;
        wrong_crc[at] ^= 1;
        let mut cut_zstd = zstd::encode_all(&b"hello"[..], 1).unwrap();
        cut_zstd.truncate(cut_zstd.len() - 2);
        // A frame header that asks for a window of 2^31 bytes.
        let window = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00".to_vec();
        let cases = [
            ("bzip2", b"BZh91AY&SY".to_vec(), "bzip2"),
            ("xz", b"\xfd7zXZ\0\0\x04".to_vec(), "xz"),
            ("garbage", [gzip(b"a"), b"x".to_vec()].concat(), "garbage"),
            ("zeros, then garbage", [gzip(b"a"), vec![0, 0, 1]].concat(), "garbage"),
            ("cut", cut, ""),
            ("crc", wrong_crc, ""),
            ("cut zstd", cut_zstd, ""),
            (
                "garbage after zstd",
                [zstd::encode_all(&b"a"[..], 1).unwrap(), b"garbage".to_vec()].concat(),
                "",
            ),
            ("window", window, "memory"),
        ];
        for (name, bytes, word) in cases {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
    }
}
