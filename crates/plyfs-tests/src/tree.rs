//! Snapshots of trees and what differs between two.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs as rfs;

/// What a snapshot looks at besides names, kinds, contents, link targets and modes.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// Owners.
    pub owners: bool,
    /// Link counts of files.
    pub links: bool,
    /// Modification times.
    pub times: bool,
    /// Extended attributes (hidden ones of plyfs too, where they show).
    pub xattrs: bool,
}

impl Want {
    /// Everything.
    pub const ALL: Want = Want { owners: true, links: true, times: true, xattrs: true };
    /// What a user of the union compares.
    pub const VIEW: Want = Want { owners: true, links: true, times: false, xattrs: true };
    /// The least.
    pub const PLAIN: Want = Want { owners: false, links: false, times: false, xattrs: false };
}

/// A tree as text lines by path, which compare and print well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(pub BTreeMap<PathBuf, String>);

impl Snapshot {
    /// Takes one of `root` and everything below (other filesystems mounted inside included).
    #[track_caller]
    pub fn of(root: impl AsRef<Path>, want: Want) -> Snapshot {
        let mut map = BTreeMap::new();
        let root = root.as_ref();
        visit(root, Path::new(""), want, &mut map);
        Snapshot(map)
    }

    /// Lines that differ: `-` only in `self`, `+` only in `other`.
    pub fn diff(&self, other: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, text) in &self.0 {
            match other.0.get(path) {
                Some(same) if same == text => {}
                Some(changed) => lines.push(format!("{}: {text} | {changed}", path.display())),
                None => lines.push(format!("- {}: {text}", path.display())),
            }
        }
        for (path, text) in &other.0 {
            if !self.0.contains_key(path) {
                lines.push(format!("+ {}: {text}", path.display()));
            }
        }
        lines
    }

    /// Fails with the difference unless both are equal.
    #[track_caller]
    pub fn same(&self, other: &Snapshot, what: &str) {
        let lines = self.diff(other);
        let shown = lines.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
        assert!(lines.is_empty(), "{what}: {} differences:\n{shown}", lines.len());
    }
}

#[track_caller]
fn visit(root: &Path, below: &Path, want: Want, into: &mut BTreeMap<PathBuf, String>) {
    let path = root.join(below);
    let meta = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("stat {}: {error}", path.display()));
    into.insert(below.to_path_buf(), describe(&path, &meta, want));
    if meta.is_dir() {
        let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("list {}: {error}", path.display()));
        for entry in entries {
            let entry = entry.unwrap_or_else(|error| panic!("list {}: {error}", path.display()));
            visit(root, &below.join(entry.file_name()), want, into);
        }
    }
}

#[track_caller]
fn describe(path: &Path, meta: &fs::Metadata, want: Want) -> String {
    let kind = meta.file_type();
    let mut text = if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("link -> {}", fs::read_link(path).expect("readlink").display())
    } else if kind.is_file() {
        let data = fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        assert_eq!(data.len() as u64, meta.len(), "{}: length read and stated", path.display());
        format!("file {} bytes {:016x}", data.len(), hash(&data))
    } else if kind.is_char_device() || kind.is_block_device() {
        let rdev = meta.rdev();
        let word = if kind.is_char_device() { "char" } else { "block" };
        format!("{word} {}:{}", rfs::major(rdev), rfs::minor(rdev))
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        "socket".to_owned()
    };
    if !kind.is_symlink() {
        text.push_str(&format!(" {:04o}", meta.mode() & 0o7777));
    }
    if want.owners {
        text.push_str(&format!(" {}:{}", meta.uid(), meta.gid()));
    }
    if want.links && !kind.is_dir() {
        text.push_str(&format!(" links={}", meta.nlink()));
    }
    if want.times {
        text.push_str(&format!(" mtime={}.{:09}", meta.mtime(), meta.mtime_nsec()));
    }
    if want.xattrs {
        for (name, value) in xattrs(path) {
            text.push_str(&format!(" {name}={value:?}"));
        }
    }
    text
}

/// The extended attributes of the object itself, sorted; none where the filesystem has none.
#[track_caller]
pub fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut buffer = vec![0_u8; 64 * 1024];
    let length = match rfs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Vec::new(),
        Err(error) => panic!("listxattr {}: {error}", path.display()),
    };
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found: Vec<(String, Vec<u8>)> = names
        .map(|name| {
            let os = std::ffi::OsStr::from_bytes(name);
            let value = getxattr(path, &os.to_string_lossy());
            (os.to_string_lossy().into_owned(), value.unwrap_or_default())
        })
        .collect();
    found.sort();
    found
}

/// One attribute of the object itself.
pub fn getxattr(path: &Path, name: &str) -> Result<Vec<u8>, rustix::io::Errno> {
    let mut buffer = vec![0_u8; 64 * 1024];
    let length = rfs::lgetxattr(path, name, &mut buffer[..])?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Sets one attribute of the object itself.
pub fn setxattr(path: &Path, name: &str, value: &[u8]) -> Result<(), rustix::io::Errno> {
    rfs::lsetxattr(path, name, value, rfs::XattrFlags::empty())
}

/// FNV-1a: enough to tell contents apart in a message.
pub fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The names in a folder, sorted.
#[track_caller]
pub fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let dir = dir.as_ref();
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("list {}: {error}", dir.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A small generator with a seed (xorshift64*), for tests whose randomness is not proptest's.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.number() >> 16) % n
    }
}
