//! An uncompressed tar whose members are found through an index made in one pass over its headers.
//!
//! The headers are read by the crate `tar` in raw mode; long names and PAX records are put together here, so that their
//! size is limited before they are in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use tar::{Entry, EntryType, PaxExtensions};

use super::{Found, Members, Range, clean};
use crate::error::{Doing, Error, Result};
use crate::limits::{Limits, OverLimit};

#[derive(Debug, Clone)]
enum Member {
    File { at: u64, length: u64 },
    Symlink(String),
    Link(String),
}

/// The archive.
#[derive(Debug)]
pub(crate) struct Tarred {
    file: Arc<File>,
    members: HashMap<String, Member>,
}

/// What headers before a header said about it.
#[derive(Debug, Default)]
struct Said {
    name: Option<String>,
    link: Option<String>,
}

impl Tarred {
    /// Indexes `file`. A file that is no tar is refused.
    pub(crate) fn index(file: File, limits: &Limits) -> Result<Tarred> {
        let archive = Path::new("the archive");
        let mut members = HashMap::new();
        {
            let mut reader = BufReader::with_capacity(4096, &file);
            reader.seek(SeekFrom::Start(0)).doing("reading", archive)?;
            let mut tar = tar::Archive::new(reader);
            let mut said = Said::default();
            let entries = tar.entries_with_seek().doing("reading", archive)?.raw(true);
            for (count, entry) in entries.enumerate() {
                if count as u64 >= limits.entries {
                    return Err(Error::Refused(OverLimit::new("entries", limits.entries).to_string()));
                }
                let mut entry =
                    entry.map_err(|error| Error::Refused(format!("broken tar archive: {error}")))?;
                if !said.add(&mut entry, limits)? {
                    let found = member(&entry, std::mem::take(&mut said));
                    members.extend(found);
                }
            }
        }
        Ok(Tarred { file: Arc::new(file), members })
    }

    /// All of it, as a blob.
    pub(crate) fn whole(&self) -> Result<Range> {
        let length = self.file.metadata().doing("looking at", "the archive")?.len();
        Ok(Range::new(self.file.clone(), 0, length))
    }

    /// Nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether it looks as Docker wrote archives before 1.10.
    pub(crate) fn is_legacy(&self) -> bool {
        let is_layer = |name: &String| {
            name.strip_suffix("/layer.tar").is_some_and(|id| plyfs_store::Digest::from_hex(id).is_ok())
        };
        self.members.keys().any(is_layer)
    }
}

impl Said {
    /// Takes what belongs to the next header; `false`: this is a member itself.
    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>, limits: &Limits) -> Result<bool> {
        let kind = entry.header().entry_type();
        if !matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
        ) {
            return Ok(false);
        }
        if entry.size() > limits.pax_header {
            return Err(Error::Refused(OverLimit::new("pax_header", limits.pax_header).to_string()));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).doing("reading", "the archive")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
        match kind {
            EntryType::GNULongName => self.name = Some(text(&bytes)),
            EntryType::GNULongLink => self.link = Some(text(&bytes)),
            EntryType::XHeader => self.pax(&bytes)?,
            _ => {}
        }
        Ok(true)
    }

    fn pax(&mut self, bytes: &[u8]) -> Result<()> {
        for record in PaxExtensions::new(bytes) {
            let record = record.doing("reading a PAX record of", "the archive")?;
            let value = String::from_utf8_lossy(record.value_bytes()).into_owned();
            match record.key_bytes() {
                b"path" => self.name = Some(value),
                b"linkpath" => self.link = Some(value),
                // Readers disagree about where the next header is (CVE-2025-62518). Writers have base-256 sizes.
                b"size" => {
                    return Err(Error::Refused(
                        "the archive has a member with a PAX size: readers disagree about these; \
                         write it again with GNU tar or a tool of today"
                            .to_owned(),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn member<R: Read>(entry: &Entry<'_, R>, said: Said) -> Option<(String, Member)> {
    let header = entry.header();
    let own = || String::from_utf8_lossy(&header.path_bytes()).into_owned();
    let name = clean("", &said.name.unwrap_or_else(own))?;
    let link = || {
        said.link.or_else(|| header.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()))
    };
    let member = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            Member::File { at: entry.raw_file_position(), length: entry.size() }
        }
        EntryType::Symlink => Member::Symlink(link()?),
        EntryType::Link => {
            let to = clean("", &link()?)?;
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
        Ok(self.members.get(name).map(|member| match member {
            Member::File { at, length } => {
                Found::File(Box::new(Range::new(self.file.clone(), *at, *length)), *length)
            }
            Member::Symlink(to) => Found::Symlink(to.clone()),
            Member::Link(to) => Found::Link(to.clone()),
        }))
    }

    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
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
    fn what_costs_too_much_is_refused() {
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
