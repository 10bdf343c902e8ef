//! What the tests of unpacking share: archives made byte by byte, directories to unpack into with a canary beside
//! them, and trees as text.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use plyfs_image::limits::Limits;
use plyfs_image::tarsplit;
use plyfs_image::unpack::{Loss, Owners, Result, UnpackOptions, Unpacked, unpack};
use plyfs_sys::{Dir, Leaf};

/// A tar archive under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// One header as it will be written.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: u64,
    pub(crate) dev: (u32, u32),
    pub(crate) gnu: bool,
}

impl Head {
    pub(crate) fn new(name: impl AsRef<[u8]>, kind: u8) -> Head {
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        Head {
            name: name.as_ref().to_vec(),
            kind,
            link: Vec::new(),
            size: 0,
            mode,
            owner: me(),
            mtime: 1_000_000_000,
            dev: (0, 0),
            gnu: false,
        }
    }

    pub(crate) fn link(mut self, link: impl AsRef<[u8]>) -> Head {
        self.link = link.as_ref().to_vec();
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Head {
        self.mode = mode;
        self
    }

    pub(crate) fn size(mut self, size: u64) -> Head {
        self.size = size;
        self
    }

    pub(crate) fn dev(mut self, major: u32, minor: u32) -> Head {
        self.dev = (major, minor);
        self
    }

    pub(crate) fn owner(mut self, uid: u32, gid: u32) -> Head {
        self.owner = (uid, gid);
        self
    }

    pub(crate) fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        block[..self.name.len().min(100)].copy_from_slice(&self.name[..self.name.len().min(100)]);
        let mut octal = |at: usize, len: usize, value: u64| {
            let text = format!("{value:0width$o}", width = len - 1);
            block[at..at + len - 1].copy_from_slice(text.as_bytes());
        };
        octal(100, 8, self.mode.into());
        octal(108, 8, self.owner.0.into());
        octal(116, 8, self.owner.1.into());
        octal(124, 12, self.size);
        octal(136, 12, self.mtime);
        octal(329, 8, self.dev.0.into());
        octal(337, 8, self.dev.1.into());
        block[156] = self.kind;
        block[157..157 + self.link.len().min(100)].copy_from_slice(&self.link[..self.link.len().min(100)]);
        block[257..265].copy_from_slice(if self.gnu { b"ustar  \0" } else { b"ustar\x0000" });
        seal(&mut block);
        block
    }
}

/// Puts the checksum in.
pub(crate) fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn me() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// One PAX record.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar::default()
    }

    /// A header and its body, as they are told.
    pub(crate) fn raw(mut self, head: &Head, body: &[u8]) -> Tar {
        self.0.extend_from_slice(&head.block());
        self.body(body)
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Tar {
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn block(mut self, block: &[u8; 512]) -> Tar {
        self.0.extend_from_slice(block);
        self
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Tar {
        let body = body.as_ref();
        self.raw(&Head::new(name, b'0').size(body.len() as u64), body)
    }

    pub(crate) fn dir(self, name: impl AsRef<[u8]>) -> Tar {
        self.raw(&Head::new(name, b'5'), b"")
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Tar {
        self.raw(&Head::new(name, b'2').link(target).mode(0o777), b"")
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Tar {
        self.raw(&Head::new(name, b'1').link(target), b"")
    }

    /// An extended header of records, `x` or `g`.
    pub(crate) fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Tar {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.raw(&Head::new("pax", kind).size(body.len() as u64), &body)
    }

    /// GNU's long name (`L`) or link (`K`).
    pub(crate) fn long(self, kind: u8, text: &[u8]) -> Tar {
        let body = [text, b"\0"].concat();
        self.raw(&Head { gnu: true, ..Head::new("././@LongLink", kind).size(body.len() as u64) }, &body)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A directory to unpack into, and one beside it that nothing may touch.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place::within(&std::env::temp_dir())
    }

    pub(crate) fn within(folder: &Path) -> Place {
        let folder = tempfile::Builder::new().prefix("plyfs-unpack-").tempdir_in(folder).unwrap();
        let canary = folder.path().join("canary");
        fs::create_dir_all(canary.join("sub")).unwrap();
        fs::create_dir(folder.path().join("layer")).unwrap();
        for name in ["file", "sub/file", ".wh.x"] {
            fs::write(canary.join(name), b"untouched").unwrap();
        }
        fs::set_permissions(canary.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
        let before = tree(&canary);
        Place { folder, before }
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.folder.path().join("layer")
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.layer().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn dir(&self) -> Dir {
        Dir::open(&self.layer()).unwrap()
    }

    pub(crate) fn unpack(&self, tar: &[u8]) -> Result<Unpacked> {
        let limits = Limits::default();
        let is_root = rustix::process::geteuid().is_root();
        let owners = if is_root { Owners::AsIs } else { Owners::Ours };
        self.unpack_with(tar, &UnpackOptions { owners, ..UnpackOptions::new(&limits) })
    }

    /// Unpacks with a record, and looks whether anything outside has changed.
    pub(crate) fn unpack_with(&self, tar: &[u8], options: &UnpackOptions<'_>) -> Result<Unpacked> {
        let mut record = self.record();
        let done = unpack(tar, &self.dir(), options, Some(&mut record));
        self.check_canary();
        let record = record.finish().unwrap();
        if let Ok(done) = &done {
            self.check_record(record, tar, done);
        }
        done
    }

    fn record(&self) -> tarsplit::Writer {
        let scratch = Dir::open(self.folder.path()).unwrap();
        let file = scratch.create(&Leaf::from_bytes(b"record").unwrap(), 0o600).unwrap();
        fs::remove_file(self.folder.path().join("record")).unwrap();
        tarsplit::Writer::new(file, &scratch).unwrap()
    }

    /// What was unpacked makes the same archive again.
    fn check_record(&self, mut record: fs::File, tar: &[u8], done: &Unpacked) {
        use std::io::Seek;
        record.rewind().unwrap();
        let mut again = Vec::new();
        let digest = tarsplit::assemble(&record, &self.dir(), &mut again).unwrap();
        assert!(again == tar, "the archive is not made again as it was");
        assert_eq!(digest, done.diff_id);
    }

    pub(crate) fn check_canary(&self) {
        assert_eq!(tree(&self.folder.path().join("canary")), self.before, "something outside was touched");
        let mut names: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["canary", "layer"], "something was made outside");
    }

    /// Refused with a message that has `word` in it.
    pub(crate) fn refused(&self, tar: &[u8], word: &str) {
        let error = self.unpack(tar).expect_err("should have been refused").to_string();
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
}

pub(crate) fn lost(done: &Unpacked, loss: Loss) -> bool {
    done.warnings.iter().any(|warning| warning.loss == loss)
}

/// Everything below a directory: kind, mode, owner, times, contents, links, xattrs.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut links = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let whole = root.join(&path);
        let stat = fs::symlink_metadata(&whole).unwrap();
        let kind = stat.file_type();
        let mut text =
            format!("{:o} {}:{} {}.{}", stat.mode(), stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec());
        if kind.is_file() {
            text += &format!(" {} {:?}", stat.len(), contents(&whole));
        } else if kind.is_symlink() {
            text += &format!(" -> {:?}", fs::read_link(&whole).unwrap());
        } else if kind.is_char_device() || kind.is_block_device() {
            text += &format!(" dev {:x}", stat.rdev());
        }
        if !kind.is_dir() && stat.nlink() > 1 {
            links.entry(stat.ino()).or_insert_with(Vec::new).push(path.clone());
        }
        for (name, value) in xattrs(&whole) {
            text += &format!(" {name}={value:?}");
        }
        if kind.is_dir() {
            todo.extend(fs::read_dir(&whole).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        all.insert(path, text);
    }
    for mut names in links.into_values() {
        names.sort();
        for name in &names {
            all.get_mut(name).unwrap().push_str(&format!(" = {names:?}"));
        }
    }
    all
}

/// Short contents as they are, long ones as a digest.
fn contents(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    match bytes.len() {
        0..=64 => bytes.escape_ascii().to_string(),
        _ => plyfs_image::digest::Digest::of(&bytes).to_string(),
    }
}

pub(crate) fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 65536];
    let Ok(len) = rustix::fs::llistxattr(path, &mut list[..]) else { return Vec::new() };
    let mut all: Vec<_> = list[..len]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(len);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    all.sort();
    all
}

/// Passes `ok` on; a missing need is printed, or under CI=true fails the test.
pub(crate) fn gate(ok: bool, why: &str) -> bool {
    if !ok {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "CI=true and yet not possible here: {why}"
        );
        eprintln!("SKIPPED: {why}");
    }
    ok
}

pub(crate) fn root() -> bool {
    gate(rustix::process::geteuid().is_root(), "needs root")
}
