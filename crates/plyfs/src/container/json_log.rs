//! A container's output on disk, in Docker's json-file format: one JSON object per line, with at most 16 KiB of text that
//! ends with a line feed unless the line goes on (moby `daemon/logger/jsonfilelog`, `daemon/logger/copier.go`).

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest text of one record.
const LONGEST: usize = 16 << 10;

/// Which stream a text was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    /// Standard output, and a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The text.
    #[serde(default)]
    pub(crate) log: String,
    /// Where it was written to.
    pub(crate) stream: Stream,
    /// When it was read.
    pub(crate) time: Timestamp,
}

/// Where the log of a container lies in its directory.
pub(crate) fn path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}-json.log"))
}

/// The file, shared by the streams.
#[derive(Debug)]
pub(crate) struct Log {
    file: Mutex<File>,
}

impl Log {
    /// Goes on where an earlier run ended.
    pub(crate) fn open(path: &Path) -> io::Result<Log> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        let mut last = [b'\n'];
        if let Some(at) = file.metadata()?.len().checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        if last != [b'\n'] {
            // The machine went down in the middle of a record: it must not spoil the next one.
            file.write_all(b"\n")?;
        }
        Ok(Log { file: Mutex::new(file) })
    }

    fn write(&self, stream: Stream, text: &[u8]) -> io::Result<()> {
        let log = String::from_utf8_lossy(text).into_owned();
        let mut line = serde_json::to_vec(&Record { log, stream, time: Timestamp::now() })?;
        line.push(b'\n');
        // One call: readers see whole lines, and so does the other stream.
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

/// Cuts one stream into records.
#[derive(Debug)]
pub(crate) struct Splitter {
    stream: Stream,
    rest: Vec<u8>,
}

impl Splitter {
    /// Nothing read yet.
    pub(crate) fn new(stream: Stream) -> Splitter {
        Splitter { stream, rest: Vec::new() }
    }

    /// Takes what was read; whole lines, and pieces of long ones, go to the log.
    pub(crate) fn take(&mut self, log: &Log, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = LONGEST - self.rest.len();
            let window = &bytes[..bytes.len().min(room)];
            let (count, whole) = match window.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (window.len(), window.len() == room),
            };
            self.rest.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if whole {
                self.end(log)?;
            }
        }
        Ok(())
    }

    /// What is left, without a line feed.
    pub(crate) fn end(&mut self, log: &Log) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.rest);
        log.write(self.stream, &text)
    }
}

/// Reads records from where the last call ended; a line without its end is left for the next call.
#[derive(Debug)]
pub(crate) struct Reader {
    file: io::BufReader<File>,
    partial: Vec<u8>,
}

impl Reader {
    /// From the beginning.
    pub(crate) fn open(path: &Path) -> io::Result<Reader> {
        Ok(Reader { file: io::BufReader::new(File::open(path)?), partial: Vec::new() })
    }

    /// The next record; `None` when there is no whole one yet. Lines that are none (a crash tears them) are told of and passed
    /// over.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            self.file.read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.partial);
            match serde_json::from_slice(&line) {
                Ok(record) => return Ok(Some(record)),
                Err(error) => tracing::warn!("a line of the log is no record, left out: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chunks: &[&[u8]]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::open(&path).unwrap();
        let mut splitter = Splitter::new(Stream::Stderr);
        chunks.iter().for_each(|chunk| splitter.take(&log, chunk).unwrap());
        splitter.end(&log).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let mut texts = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            assert_eq!(record.stream, Stream::Stderr);
            texts.push(record.log);
        }
        texts
    }

    #[test]
    fn streams_are_cut_into_lines() {
        assert_eq!(written(&[b"one\ntw", b"o\nthr", b"ee"]), ["one\n", "two\n", "three"]);
        assert_eq!(written(&[b"", b"\n\n"]), ["\n", "\n"]);
        let long = vec![b'x'; LONGEST + 5];
        let cut = written(&[&long, b"\n"]);
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [LONGEST, 6]);
    }

    #[test]
    fn a_torn_record_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Log::open(&path).unwrap().write(Stream::Stdout, b"one\n").unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"no record\n", &whole[..10]].concat()).unwrap();
        Log::open(&path).unwrap().write(Stream::Stdout, b"two\n").unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let mut next = || reader.next().unwrap().map(|record| record.log);
        assert_eq!([next(), next(), next()], [Some("one\n".to_owned()), Some("two\n".to_owned()), None]);
    }

    #[test]
    fn the_format_is_dockers() {
        let line = r#"{"log":"hi\n","stream":"stdout","time":"2022-03-01T10:00:00.123456789Z"}"#;
        let record: Record = serde_json::from_str(line).unwrap();
        assert_eq!((record.log.as_str(), record.stream), ("hi\n", Stream::Stdout));
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
    }
}
