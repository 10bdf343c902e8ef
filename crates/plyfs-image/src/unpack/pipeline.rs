//! Unpacking a compressed blob: reading and hashing it, decompressing, hashing the archive, and writing files are four
//! threads with bounded queues of large buffers between them.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use plyfs_sys::Dir;

use super::error::{Error, Result};
use super::{Tally, UnpackOptions, Unpacked, unpack_stream};
use crate::compress::{Compression, Counted, Decompressor, check_ratio};
use crate::digest::{DiffId, Digest, Hasher};
use crate::limits::Limits;
use crate::tarsplit;

/// Bytes of one buffer.
const BUFFER: usize = 1 << 20;
/// Buffers that may wait between two threads.
const WAITING: usize = 4;

/// What was unpacked, and of which blob.
#[derive(Debug, Clone)]
pub struct UnpackedBlob {
    /// The layer.
    pub layer: Unpacked,
    /// The digest of the blob as it came.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// How it was compressed.
    pub compression: Compression,
}

/// Unpacks `blob`, compressed or not, into the empty directory `into`; see [`super::unpack`].
pub fn unpack_blob(
    blob: impl Read + Send,
    into: &Dir,
    options: &UnpackOptions<'_>,
    record: Option<&mut tarsplit::Writer>,
) -> Result<UnpackedBlob> {
    let (blob_out, blob_in) = sync_channel(WAITING);
    let (tar_out, tar_in) = sync_channel(WAITING);
    let (hash_out, hash_in) = sync_channel(WAITING);
    let limits = options.limits;
    thread::scope(|scope| {
        let reading = scope.spawn(move || read_blob(blob, &blob_out));
        let decompressing = scope.spawn(move || decompress(blob_in, limits, &tar_out, &hash_out));
        let hashing = scope.spawn(move || hash(&hash_in));
        let tally = unpack_stream(Pieces::new(tar_in), into, options, record);
        let (read, compression, diff_id) = (reading.join(), decompressing.join(), hashing.join());
        finish(tally, read, compression, diff_id)
    })
}

fn finish(
    tally: Result<Tally>,
    read: thread::Result<Hasher>,
    compression: thread::Result<Option<Compression>>,
    diff_id: thread::Result<Hasher>,
) -> Result<UnpackedBlob> {
    let died = |_| Error::Read(io::Error::other("a thread died"));
    let (tally, read) = (tally?, read.map_err(died)?);
    let compression = compression.map_err(died)?.unwrap_or(Compression::None);
    let diff_id = DiffId(diff_id.map_err(died)?.finish());
    Ok(UnpackedBlob { layer: tally.with(diff_id), size: read.count(), digest: read.finish(), compression })
}

/// A buffer on its way, or why there are no more.
type Piece = io::Result<Arc<Vec<u8>>>;

/// Fills a buffer as far as the source goes.
fn fill(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(BUFFER);
    source.by_ref().take(BUFFER as u64).read_to_end(&mut buffer)?;
    Ok(buffer)
}

/// Reads the blob to its end or until nobody wants more.
fn read_blob(mut blob: impl Read, out: &SyncSender<Piece>) -> Hasher {
    let mut hasher = Hasher::default();
    loop {
        let piece = match fill(&mut blob) {
            Ok(buffer) if buffer.is_empty() => return hasher,
            Ok(buffer) => {
                hasher.update(&buffer);
                Ok(Arc::new(buffer))
            }
            Err(e) => Err(e),
        };
        let failed = piece.is_err();
        if out.send(piece).is_err() || failed {
            return hasher;
        }
    }
}

/// `None` if it did not come so far as to know.
fn decompress(
    blob: Receiver<Piece>,
    limits: &Limits,
    tar: &SyncSender<Piece>,
    hash: &SyncSender<Arc<Vec<u8>>>,
) -> Option<Compression> {
    let (counted, taken) = Counted::new(Pieces::new(blob));
    let mut source = match Decompressor::new(BufReader::with_capacity(64 << 10, counted), limits) {
        Ok(source) => source,
        Err(e) => {
            // Nobody listens any more: then somebody else has an error to tell.
            drop(tar.send(Err(e)));
            return None;
        }
    };
    let compression = source.compression();
    let mut given = 0;
    loop {
        let buffer = fill(&mut source).and_then(|buffer| {
            given += buffer.len() as u64;
            check_ratio(given, taken.get(), limits).map(|()| buffer).map_err(io::Error::other)
        });
        match buffer {
            Ok(buffer) if buffer.is_empty() => return Some(compression),
            Ok(buffer) => {
                let buffer = Arc::new(buffer);
                let sent = hash.send(buffer.clone()).is_ok() && tar.send(Ok(buffer)).is_ok();
                if !sent {
                    return Some(compression);
                }
            }
            Err(e) => {
                drop(tar.send(Err(e)));
                return Some(compression);
            }
        }
    }
}

fn hash(pieces: &Receiver<Arc<Vec<u8>>>) -> Hasher {
    let mut hasher = Hasher::default();
    while let Ok(piece) = pieces.recv() {
        hasher.update(&piece);
    }
    hasher
}

/// Reads what another thread sends.
struct Pieces {
    source: Receiver<Piece>,
    now: Arc<Vec<u8>>,
    at: usize,
}

impl Pieces {
    fn new(source: Receiver<Piece>) -> Pieces {
        Pieces { source, now: Arc::default(), at: 0 }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.now.len() {
            // No sender any more: the end.
            let Ok(piece) = self.source.recv() else { break };
            (self.now, self.at) = (piece?, 0);
        }
        Ok(&self.now[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let some = self.fill_buf()?;
        let count = some.len().min(buf.len());
        buf[..count].copy_from_slice(&some[..count]);
        self.consume(count);
        Ok(count)
    }
}
