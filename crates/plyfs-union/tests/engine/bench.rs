//! What the tests stand on: branches in a temporary folder, and a union of them that is spoken to by path.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use plyfs_sys::Errno;
use plyfs_union::spec::{BranchSpec, MountSpec, Perm};
use plyfs_union::{
    Caller, Entry, Fh, Ino, Kind, NewNode, OpenHow, RenameFlags, Result, SetAttr, Union, XattrFlags,
};
use tempfile::TempDir;

pub(crate) const RW: Perm = Perm::Rw;
pub(crate) const RO: Perm = Perm::Ro;

/// A writable `up` over a read-only `low`.
pub(crate) const UP_LOW: &[(&str, Perm)] = &[("up", RW), ("low", RO)];
/// Both writable.
pub(crate) const BOTH_RW: &[(&str, Perm)] = &[("up", RW), ("low", RW)];

pub(crate) const READ: OpenHow = OpenHow {
    read: true,
    write: false,
    truncate: false,
    direct: false,
    keeps_set_ids: true,
    kill_suidgid: false,
};
pub(crate) const READ_WRITE: OpenHow = OpenHow { write: true, ..READ };

/// A plain file as mknod makes it.
pub(crate) const PLAIN: NewNode = NewNode { kind: Kind::File, perm: 0o644, rdev: (0, 0) };

/// The folder that holds the branches.
pub(crate) struct Branches(Place);

enum Place {
    Own(TempDir),
    Given(PathBuf),
}

impl Branches {
    pub(crate) fn new() -> Branches {
        Branches(Place::Own(tempfile::Builder::new().prefix("plyfs-engine-").tempdir().unwrap()))
    }

    /// Branches that somebody else made.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Branches {
        Branches(Place::Given(root.into()))
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let root: &Path = match &self.0 {
            Place::Own(dir) => dir.path(),
            Place::Given(path) => path,
        };
        root.join(path)
    }

    pub(crate) fn dir(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file, with the folders it is in.
    pub(crate) fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn hard_link(&self, old: &str, new: &str) {
        fs::hard_link(self.path(old), self.path(new)).unwrap();
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(crate) fn mode(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.path(path)).unwrap().mode() & 0o7777
    }

    /// Everything below `path`: each object's relative path, inode, mode, owner, link count and size.
    pub(crate) fn state(&self, path: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut todo = vec![self.path(path)];
        while let Some(path) = todo.pop() {
            let stat = fs::symlink_metadata(&path).unwrap();
            all.insert(format!(
                "{} {} {:o} {} {} {}",
                path.display(),
                stat.ino(),
                stat.mode(),
                stat.uid(),
                stat.nlink(),
                stat.size()
            ));
            if stat.is_dir() {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        all
    }

    /// The inodes of files on a branch, kept names of hard links included, that hold `text`.
    pub(crate) fn copies(&self, path: &str, text: &str) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        let mut todo = vec![self.path(path)];
        while let Some(path) = todo.pop() {
            for entry in fs::read_dir(&path).unwrap() {
                let path = entry.unwrap().path();
                let stat = fs::symlink_metadata(&path).unwrap();
                if stat.is_dir() {
                    todo.push(path);
                } else if stat.is_file() && fs::read(&path).unwrap() == text.as_bytes() {
                    found.insert(stat.ino());
                }
            }
        }
        found
    }

    /// The union of `stack`; branches not yet there are made.
    pub(crate) fn open(&self, stack: &[(&str, Perm)]) -> Tree {
        self.open_with(stack, MountSpec::default())
    }

    pub(crate) fn open_with(&self, stack: &[(&str, Perm)], spec: MountSpec) -> Tree {
        let branches = stack.iter().map(|(name, perm)| BranchSpec::new(self.dir(name), *perm)).collect();
        Tree(Union::open(&MountSpec { branches, ..spec }).unwrap())
    }
}

/// A union, spoken to by path. Drop it before its branches are opened again.
pub(crate) struct Tree(Union);

impl Deref for Tree {
    type Target = Union;

    fn deref(&self) -> &Union {
        &self.0
    }
}

impl Tree {
    pub(crate) fn of(spec: &MountSpec) -> Tree {
        Tree(Union::open(spec).unwrap())
    }

    pub(crate) fn find(&self, path: &str) -> Result<Option<Entry>> {
        let mut found = None;
        let mut dir = Ino::ROOT;
        for name in path.split('/') {
            found = self.lookup(dir, OsStr::new(name))?;
            let Some(entry) = found else { return Ok(None) };
            dir = entry.ino;
        }
        Ok(found)
    }

    pub(crate) fn at(&self, path: &str) -> Entry {
        self.find(path).unwrap().unwrap_or_else(|| panic!("{path} is not there"))
    }

    pub(crate) fn ino(&self, path: &str) -> Ino {
        self.at(path).ino
    }

    pub(crate) fn nlink(&self, ino: Ino) -> u32 {
        self.getattr(ino, None).unwrap().nlink
    }

    fn split<'a>(&self, path: &'a str) -> (Ino, &'a OsStr) {
        match path.rsplit_once('/') {
            Some((dir, name)) => (self.ino(dir), OsStr::new(name)),
            None => (Ino::ROOT, OsStr::new(path)),
        }
    }

    pub(crate) fn read_ino(&self, ino: Ino) -> String {
        let file = self.open_file(ino, READ).unwrap().fh;
        let text = self.read_open(file);
        self.release(file);
        text
    }

    pub(crate) fn read_open(&self, file: Fh) -> String {
        let mut buf = [0_u8; 256];
        let count = self.read(file, 0, &mut buf).unwrap();
        String::from_utf8(buf[..count].to_vec()).unwrap()
    }

    pub(crate) fn text(&self, path: &str) -> String {
        self.read_ino(self.ino(path))
    }

    /// Writes `text` at the start.
    pub(crate) fn put(&self, ino: Ino, text: &str) {
        let file = self.open_file(ino, READ_WRITE).unwrap().fh;
        self.write(file, 0, text.as_bytes(), false).unwrap();
        self.release(file);
    }

    pub(crate) fn rm(&self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path);
        self.unlink(dir, name)
    }

    pub(crate) fn mv(&self, from: &str, to: &str) -> Result<()> {
        self.rename(self.split(from), self.split(to), RenameFlags::empty())
    }

    /// Makes a plain file.
    pub(crate) fn make(&self, path: &str) -> Result<Entry> {
        let (dir, name) = self.split(path);
        self.mknod(&Caller::me(), dir, name, PLAIN)
    }

    pub(crate) fn chmod(&self, ino: Ino, perm: u32) -> Result<u32> {
        let change = SetAttr { perm: Some(perm), ..SetAttr::default() };
        Ok(self.setattr(ino, None, &change)?.perm)
    }

    /// Sets `user.engine`.
    pub(crate) fn mark(&self, ino: Ino) -> Result<()> {
        self.setxattr(ino, OsStr::new("user.engine"), b"1", XattrFlags::empty())
    }

    /// The names that a directory shows, sorted, without `.` and `..`.
    pub(crate) fn names(&self, ino: Ino) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.list(ino, 2, &mut |entry| {
            names.push(entry.name.to_str().unwrap().to_owned());
            ControlFlow::Continue(())
        })?;
        names.sort();
        Ok(names)
    }
}

/// The errno of what had to fail.
#[track_caller]
pub(crate) fn errno<T>(result: Result<T>) -> Errno {
    Errno::from_raw_os_error(result.map(drop).expect_err("a refusal").errno())
}
