//! Writing the record while a layer is unpacked. Encoding and compressing are another thread's (`encode.rs`): unpacking
//! does not wait for it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use plyfs_sys::{Access, Obj};

use super::encode::{self, Piece};
use super::rewrite::{self, Kept};

/// Raw bytes of one segment at most: readers take a line into memory.
pub(super) const SEGMENT_BYTES: usize = 1 << 20;
/// Bytes that go to the other thread at once.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that may wait for it.
const WAITING: usize = 8;

/// Writes `tar-split.json.gz`.
#[derive(Debug)]
pub struct Writer {
    encoder: JoinHandle<io::Result<File>>,
    batches: SyncSender<Vec<Piece>>,
    batch: Vec<Piece>,
    batch_bytes: usize,
    /// Lines so far.
    position: u64,
    /// Raw bytes not in a piece yet.
    pending: Vec<u8>,
    /// Files written, by their paths in the layer.
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
        let (batches, source) = sync_channel(WAITING);
        let encoder =
            thread::Builder::new().name("tar-split".to_owned()).spawn(move || encode::run(out, &source))?;
        Ok(Writer {
            encoder,
            batches,
            batch: Vec::new(),
            batch_bytes: 0,
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
        for part in bytes.chunks(SEGMENT_BYTES) {
            if self.pending.len() + part.len() > SEGMENT_BYTES {
                self.end_segment()?;
            }
            self.pending.extend_from_slice(part);
        }
        Ok(())
    }

    /// Here the archive has the contents of the file `path` of the layer (without a leading slash), to be told as
    /// `name`, of which `path` is the clean form.
    pub(crate) fn file(&mut self, name: &[u8], path: &[u8], size: u64, crc: u64) -> io::Result<()> {
        if self.files.contains_key(path) {
            // A directory again; it has no contents, and names must be told once.
            debug_assert_eq!(size, 0, "a file's name was taken back before it is told again");
            return Ok(());
        }
        self.end_segment()?;
        self.files.insert(path.into(), Recorded { position: self.position, size });
        self.add(Piece::File { name: name.to_vec(), size, crc }, name.len())
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

    fn end_segment(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.pending);
        let len = bytes.len();
        self.add(Piece::Raw(bytes), len)
    }

    /// A piece is a line.
    fn add(&mut self, piece: Piece, bytes: usize) -> io::Result<()> {
        self.batch.push(piece);
        self.position += 1;
        self.batch_bytes += bytes;
        if self.batch_bytes >= BATCH_BYTES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        // `finish` says what it was.
        self.batches.send(batch).map_err(|_| io::Error::other("the record can't be written"))
    }

    /// Writes what is left. The file is complete, not yet durable.
    pub fn finish(mut self) -> io::Result<File> {
        // If it can't be sent, the encoder has ended, with a better word for why.
        let sent = self.end_segment().and_then(|()| self.send());
        drop(self.batches);
        let file = self.encoder.join().map_err(|_| io::Error::other("the record's thread died"))??;
        sent?;
        if self.replaced.is_empty() {
            return Ok(file);
        }
        let scratch = self.scratch.tmpfile(0o600).map_err(system)?;
        // The caller's descriptor may be for writing alone.
        let readable = Obj::Fd(file.as_fd()).open(Access::Read).map_err(system)?;
        let again = rewrite::without(&readable, scratch, &self.replaced, self.side.as_ref())?;
        rewrite::copy_over(&again, &file)?;
        Ok(file)
    }
}

fn system(error: plyfs_sys::SysError) -> io::Error {
    io::Error::from_raw_os_error(error.errno().raw_os_error())
}
