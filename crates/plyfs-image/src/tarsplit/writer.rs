//! Writing the record while a layer is unpacked.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use plyfs_sys::{Access, Obj};

use super::{FILE, Line, SEGMENT};

/// Raw bytes of one segment at most: readers take a line into memory.
const SEGMENT_BYTES: usize = 1 << 20;

/// Where the contents of a file that was replaced are kept until the end.
#[derive(Debug, Clone, Copy)]
struct Kept {
    start: u64,
    len: u64,
}

/// Writes `tar-split.json.gz`.
#[derive(Debug)]
pub struct Writer {
    out: GzEncoder<BufWriter<File>>,
    position: u64,
    /// Raw bytes not written yet.
    pending: Vec<u8>,
    /// Files written, by their paths in the layer, and their lines.
    files: HashMap<Box<[u8]>, Recorded>,
    /// Contents of replaced files.
    side: Option<File>,
    /// Lines of replaced files.
    replaced: BTreeMap<u64, Kept>,
    scratch: plyfs_sys::Dir,
}

#[derive(Debug, Clone, Copy)]
struct Recorded {
    position: u64,
    size: u64,
}

impl Writer {
    /// Into the empty file `out`, open for writing. `scratch` is a directory on a filesystem with room:
    /// contents of files that the archive itself replaces go there, into files without a name.
    pub fn new(out: File, scratch: &plyfs_sys::Dir) -> io::Result<Writer> {
        Ok(Writer {
            out: encoder(out),
            position: 0,
            pending: Vec::new(),
            files: HashMap::new(),
            side: None,
            replaced: BTreeMap::new(),
            scratch: scratch.again().map_err(system)?,
        })
    }

    /// Bytes of the archive that are in no file.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= SEGMENT_BYTES { self.flush() } else { Ok(()) }
    }

    /// Here the archive has the contents of the file `path` of the layer (without a leading slash), to be told as
    /// `name`, of which `path` is the clean form.
    pub(crate) fn file(&mut self, name: &[u8], path: &[u8], size: u64, crc: u64) -> io::Result<()> {
        if self.files.contains_key(path) {
            // A directory again; it has no contents, and names must be told once.
            debug_assert_eq!(size, 0, "a file's name was taken back before it is told again");
            return Ok(());
        }
        self.flush()?;
        self.files.insert(path.into(), Recorded { position: self.position, size });
        let (name, name_raw) = match std::str::from_utf8(name) {
            Ok(name) => (name.to_owned(), String::new()),
            Err(_) => (String::new(), BASE64.encode(name)),
        };
        let payload = (size > 0).then(|| BASE64.encode(crc.to_be_bytes()));
        self.line(FILE, name, name_raw, size, payload)
    }

    /// The name `path` goes from the layer; `contents` are what it had.
    pub(crate) fn forget(&mut self, path: &[u8], contents: Option<&File>) -> io::Result<()> {
        let Some(recorded) = self.files.remove(path) else { return Ok(()) };
        let kept = match (recorded.size, contents) {
            (0, _) => Kept { start: 0, len: 0 },
            (_, None) => return Err(io::Error::other("contents of a replaced file are gone")),
            (_, Some(file)) => self.set_aside(file, recorded.size)?,
        };
        self.replaced.insert(recorded.position, kept);
        Ok(())
    }

    fn set_aside(&mut self, mut file: &File, len: u64) -> io::Result<Kept> {
        let mut side = match &self.side {
            Some(side) => side,
            None => self.side.insert(self.scratch.tmpfile(0o600).map_err(system)?),
        };
        let start = side.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let copied = io::copy(&mut file.take(len), &mut side)?;
        if copied == len { Ok(Kept { start, len }) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        for segment in pending.chunks(SEGMENT_BYTES) {
            self.segment(segment)?;
        }
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn segment(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line(SEGMENT, String::new(), String::new(), 0, Some(BASE64.encode(bytes)))
    }

    fn line(
        &mut self,
        kind: u8,
        name: String,
        name_raw: String,
        size: u64,
        payload: Option<String>,
    ) -> io::Result<()> {
        let line = Line { kind, name, name_raw, size, payload, position: self.position };
        self.position += 1;
        write_line(&mut self.out, &line)
    }

    /// Writes what is left. The file is complete, not yet durable.
    pub fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        let file = self.out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        if self.replaced.is_empty() {
            return Ok(file);
        }
        let scratch = self.scratch.tmpfile(0o600).map_err(system)?;
        // The caller's descriptor may be for writing alone.
        let readable = Obj::Fd(file.as_fd()).open(Access::Read).map_err(system)?;
        let again = rewrite(&readable, scratch, &self.replaced, self.side.as_ref())?;
        copy_over(&again, &file)?;
        Ok(file)
    }
}

fn encoder(out: File) -> GzEncoder<BufWriter<File>> {
    GzEncoder::new(BufWriter::with_capacity(64 << 10, out), Compression::fast())
}

fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// The same lines, but replaced files as raw bytes.
fn rewrite(
    mut from: &File,
    to: File,
    replaced: &BTreeMap<u64, Kept>,
    side: Option<&File>,
) -> io::Result<File> {
    from.seek(SeekFrom::Start(0))?;
    let mut lines = BufReader::with_capacity(64 << 10, GzDecoder::new(BufReader::new(from)));
    let mut out = encoder(to);
    let mut position = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        if lines.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let mut line: Line = serde_json::from_slice(&text)?;
        match replaced.get(&line.position) {
            None => {
                line.position = position;
                position += 1;
                write_line(&mut out, &line)?;
            }
            Some(kept) => position = segments(&mut out, side, *kept, position)?,
        }
    }
    out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Kept contents as segments; the position after them.
fn segments(out: &mut impl Write, side: Option<&File>, kept: Kept, mut position: u64) -> io::Result<u64> {
    let (Some(mut side), true) = (side, kept.len > 0) else { return Ok(position) };
    side.seek(SeekFrom::Start(kept.start))?;
    let mut left = kept.len;
    let mut buffer = vec![0; SEGMENT_BYTES];
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        side.read_exact(&mut buffer[..count])?;
        let payload = Some(BASE64.encode(&buffer[..count]));
        let line =
            Line { kind: SEGMENT, name: String::new(), name_raw: String::new(), size: 0, payload, position };
        write_line(out, &line)?;
        position += 1;
        left -= count as u64;
    }
    Ok(position)
}

fn copy_over(mut from: &File, mut to: &File) -> io::Result<()> {
    to.set_len(0)?;
    to.seek(SeekFrom::Start(0))?;
    from.seek(SeekFrom::Start(0))?;
    io::copy(&mut from, &mut to).map(drop)
}

fn system(error: plyfs_sys::SysError) -> io::Error {
    io::Error::from_raw_os_error(error.errno().raw_os_error())
}
