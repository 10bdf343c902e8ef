//! Lines of the record: base64, JSON, gzip, on a thread of their own.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::mpsc::Receiver;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{FILE, Line, SEGMENT};

/// What a line is made of.
#[derive(Debug)]
pub(super) enum Piece {
    Raw(Vec<u8>),
    File { name: Vec<u8>, size: u64, crc: u64 },
}

/// Writes what comes until nobody sends any more.
pub(super) fn run(out: File, batches: &Receiver<Vec<Piece>>) -> io::Result<File> {
    let mut lines = Lines::new(out);
    while let Ok(batch) = batches.recv() {
        for piece in batch {
            match piece {
                Piece::Raw(bytes) => lines.raw(&bytes)?,
                Piece::File { name, size, crc } => lines.file(&name, size, crc)?,
            }
        }
    }
    lines.finish()
}

/// The lines, numbered.
pub(super) struct Lines {
    out: GzEncoder<BufWriter<File>>,
    position: u64,
    text: String,
}

impl Lines {
    pub(super) fn new(out: File) -> Lines {
        let out = GzEncoder::new(BufWriter::with_capacity(64 << 10, out), Compression::fast());
        Lines { out, position: 0, text: String::new() }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        // base64 needs no escapes; this is most of the record.
        self.text.clear();
        self.text.push_str(&format!("{{\"type\":{SEGMENT},\"payload\":\""));
        BASE64.encode_string(bytes, &mut self.text);
        self.text.push_str(&format!("\",\"position\":{}}}\n", self.position));
        self.position += 1;
        self.out.write_all(self.text.as_bytes())
    }

    fn file(&mut self, name: &[u8], size: u64, crc: u64) -> io::Result<()> {
        let (name, name_raw) = match std::str::from_utf8(name) {
            Ok(name) => (name.to_owned(), String::new()),
            Err(_) => (String::new(), BASE64.encode(name)),
        };
        let payload = (size > 0).then(|| BASE64.encode(crc.to_be_bytes()));
        self.line(Line { kind: FILE, name, name_raw, size, payload, position: 0 })
    }

    /// A line under the next number.
    pub(super) fn line(&mut self, line: Line) -> io::Result<()> {
        let line = Line { position: self.position, ..line };
        self.position += 1;
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    pub(super) fn finish(self) -> io::Result<File> {
        self.out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
