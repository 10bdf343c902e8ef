//! An uncompressed tar whose members are found through an index made in one pass over its headers.
//!
//! The headers are those that layers are unpacked with (`unpack/headers.rs`): two readers would disagree.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::{Found, Members, Range, clean};
use crate::error::{Doing, Error, Result};
use crate::limits::{self, Limits, OverLimit};
use crate::unpack::{Blocks, Entry, EntryKind, Headers};

#[derive(Debug, Clone)]
enum Member {
    File {
        at: u64,
        length: u64,
    },
    /// A file with holes: what the archive has of it is not its contents.
    Sparse,
    Symlink(String),
    Link(String),
}

/// The archive.
#[derive(Debug)]
pub(crate) struct Tarred {
    file: Arc<File>,
    members: HashMap<String, Member>,
    /// Of any kind.
    entries: u64,
}

impl Tarred {
    /// Indexes `file`. A file that is no tar is refused.
    pub(crate) fn index(file: File, limits: &Limits) -> Result<Tarred> {
        let archive = Path::new("the archive");
        let length = file.metadata().doing("looking at", archive)?.len();
        let mut index = Index { members: HashMap::new(), entries: 0, kept: 0 };
        {
            let mut reader = BufReader::with_capacity(4096, &file);
            reader.seek(SeekFrom::Start(0)).doing("reading", archive)?;
            // Of one layer; here may be many.
            let limits = Limits { layer_bytes: u64::MAX, ..limits.clone() };
            let broken = |error: crate::unpack::Error| Error::Refused(format!("the archive: {error}"));
            let mut headers = Headers::new(Blocks::new(reader, &limits, None), &limits);
            while let Some(entry) = headers.next().map_err(broken)? {
                let at = headers.blocks.at();
                if entry.stored > length.saturating_sub(at) {
                    return Err(broken(headers.blocks.broken("cut off in a file")));
                }
                index.add(&entry, at, &limits).map_err(|over| Error::Refused(over.to_string()))?;
                headers.blocks.seek_body().map_err(broken)?;
            }
        }
        Ok(Tarred { file: Arc::new(file), members: index.members, entries: index.entries })
    }

    /// All of it, as a blob.
    pub(crate) fn whole(&self) -> Result<Range> {
        let length = self.file.metadata().doing("looking at", "the archive")?.len();
        Ok(Range::new(self.file.clone(), 0, length))
    }

    /// Nothing in it, not even directories.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Whether it looks as Docker wrote archives before 1.10.
    pub(crate) fn is_legacy(&self) -> bool {
        let is_layer = |name: &String| {
            name.strip_suffix("/layer.tar").is_some_and(|id| plyfs_store::Digest::from_hex(id).is_ok())
        };
        self.members.keys().any(is_layer)
    }
}

/// The index as it grows.
struct Index {
    members: HashMap<String, Member>,
    entries: u64,
    /// Bytes of names and links.
    kept: u64,
}

impl Index {
    fn add(&mut self, entry: &Entry, at: u64, limits: &Limits) -> std::result::Result<(), OverLimit> {
        self.entries += 1;
        limits::check(self.entries, "entries", limits.entries)?;
        if let Some((name, member)) = member(entry, at) {
            self.kept += (entry.name.len() + entry.link.len()) as u64;
            limits::check(self.kept, "kept_in_memory", limits.kept_in_memory)?;
            self.members.insert(name, member);
        }
        Ok(())
    }
}

/// The member whose body is at `at`; `None` for what has no contents, or no name inside the archive.
fn member(entry: &Entry, at: u64) -> Option<(String, Member)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let name = clean("", &text(&entry.name))?;
    let member = match entry.kind {
        EntryKind::File if entry.sparse.is_some() => Member::Sparse,
        EntryKind::File => Member::File { at, length: entry.stored },
        EntryKind::Symlink => Member::Symlink(text(&entry.link)),
        EntryKind::HardLink => {
            let to = clean("", &text(&entry.link))?;
            // GNU tar writes a file that was named twice so.
            if to == name {
                return None;
            }
            Member::Link(to)
        }
        _ => return None,
    };
    Some((name, member))
}

impl Members for Tarred {
    fn look(&self, name: &str) -> Result<Option<Found>> {
        Ok(Some(match self.members.get(name) {
            None => return Ok(None),
            Some(Member::File { at, length }) => {
                Found::File(Box::new(Range::new(self.file.clone(), *at, *length)), *length)
            }
            Some(Member::Sparse) => {
                let why = "stored as a sparse file: write the archive again without --sparse";
                return Err(Error::Refused(format!("{name:?} in the archive is {why}")));
            }
            Some(Member::Symlink(to)) => Found::Symlink(to.clone()),
            Some(Member::Link(to)) => Found::Link(to.clone()),
        }))
    }

    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tar::EntryType;

    use super::*;

    fn tar(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> File {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder);
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &builder.into_inner().unwrap()).unwrap();
        file
    }

    fn put(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        if link.is_empty() {
            builder.append_data(&mut header, name, data).unwrap();
        } else {
            builder.append_link(&mut header, name, link).unwrap();
        }
    }

    fn open(tarred: &Tarred, name: &str) -> std::result::Result<Vec<u8>, String> {
        let members: &dyn Members = tarred;
        let (mut contents, _) = members.open(name).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        contents.read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }

    #[test]
    fn members_are_found_through_links_inside() {
        let long = "d/".repeat(80) + "f";
        let file = tar(|to| {
            put(to, "a/layer.tar", EntryType::Regular, "", b"one");
            put(to, "b/layer.tar", EntryType::Symlink, "../a/layer.tar", b"");
            put(to, "c/layer.tar", EntryType::Link, "a/layer.tar", b"");
            put(to, "out", EntryType::Symlink, "../../etc/passwd", b"");
            put(to, "loop", EntryType::Symlink, "loop", b"");
            put(to, &long, EntryType::Regular, "", b"long");
            put(to, "a/layer.tar", EntryType::Regular, "", b"two");
            put(to, "a/layer.tar", EntryType::Link, "./a/layer.tar", b"");
        });
        let tarred = Tarred::index(file, &Limits::default()).unwrap();
        for name in ["a/layer.tar", "b/layer.tar", "c/layer.tar", "./b/layer.tar"] {
            assert_eq!(open(&tarred, name).unwrap(), b"two", "{name}");
        }
        assert_eq!(open(&tarred, &long).unwrap(), b"long");
        for (name, word) in
            [("out", "out of the archive"), ("loop", "too many"), ("none", "no file"), ("..", "no file")]
        {
            assert!(open(&tarred, name).unwrap_err().contains(word), "{name}");
        }
    }

    #[test]
    fn the_map_of_a_sparse_file_is_no_header() {
        let mut header = tar::Header::new_gnu();
        header.set_path("holes").unwrap();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(0);
        header.as_gnu_mut().unwrap().set_is_extended(true);
        header.as_gnu_mut().unwrap().set_real_size(1 << 20);
        header.set_cksum();
        // A block that is a map without pieces, and could be a header too.
        let mut hidden = tar::Header::new_ustar();
        hidden.set_size(0);
        hidden.set_cksum();
        let mut bytes = [header.as_bytes().as_slice(), hidden.as_bytes()].concat();
        let mut after = tar::Header::new_ustar();
        after.set_path("after").unwrap();
        after.set_size(0);
        after.set_cksum();
        bytes.extend_from_slice(after.as_bytes());
        bytes.extend_from_slice(&[0; 1024]);
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let tarred = Tarred::index(file, &Limits::default()).unwrap();
        assert_eq!(tarred.entries, 2);
        assert!(open(&tarred, "holes").unwrap_err().contains("sparse"));
        assert!(tarred.has("after"));
    }

    #[test]
    fn directories_alone_are_not_nothing() {
        let file = tar(|to| put(to, "dev/", EntryType::Directory, "", b""));
        assert!(!Tarred::index(file, &Limits::default()).unwrap().is_empty());
        assert!(Tarred::index(tar(|_| {}), &Limits::default()).unwrap().is_empty());
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        for (name, link, limit) in
            [("abcdef", "", "name"), ("a", "abcdef", "link"), ("ab", "cdef", "kept_in_memory")]
        {
            let file = tar(|to| {
                put(
                    to,
                    name,
                    if link.is_empty() { EntryType::Regular } else { EntryType::Symlink },
                    link,
                    b"",
                )
            });
            let mut limits = Limits::default();
            limits.set(limit, 5).unwrap();
            assert!(Tarred::index(file, &limits).unwrap_err().to_string().contains(limit), "{limit}");
        }
        let whole = tar(|to| put(to, "a", EntryType::Regular, "", &[1; 2000]));
        whole.set_len(1024).unwrap();
        assert!(Tarred::index(whole, &Limits::default()).unwrap_err().to_string().contains("cut off"));
        let file = tar(|to| put(to, &"x/".repeat(2000), EntryType::Directory, "", b""));
        let mut limits = Limits::default();
        limits.set("pax_header", 1000).unwrap();
        assert!(Tarred::index(file, &limits).unwrap_err().to_string().contains("pax_header"));
        let file = tar(|to| (0..3).for_each(|n| put(to, &format!("{n}"), EntryType::Regular, "", b"")));
        let mut limits = Limits::default();
        limits.set("entries", 2).unwrap();
        assert!(Tarred::index(file, &limits).unwrap_err().to_string().contains("entries"));
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[b'x'; 2048]).unwrap();
        assert!(Tarred::index(file, &Limits::default()).unwrap_err().to_string().contains("tar"));
    }
}
