//! The operations on the engine itself, without a mount; the checks that the kernel would do first are done here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use plyfs_union::{Attr, Caller, Entry, Ino, Kind, NewNode, OpenHow, RenameFlags, SetAttr, Union};
use rustix::io::Errno;

use super::line;
use super::op::{How, Op, Place, TARGET, name};
use crate::tree::{Snapshot, hash};

type Done<T = ()> = Result<T, Errno>;

/// The engine's error as the kernel would hand it on.
fn errno(error: impl std::borrow::Borrow<plyfs_union::Error>) -> Errno {
    Errno::from_raw_os_error(error.borrow().errno())
}

/// Opens read-write, as open(2) with O_RDWR.
pub fn read_write() -> OpenHow {
    OpenHow {
        read: true,
        write: true,
        truncate: false,
        direct: false,
        keeps_set_ids: true,
        kill_suidgid: false,
    }
}

/// A walk through the union that gives back every reference it took.
#[derive(Debug)]
struct Walk<'a> {
    union: &'a Union,
    taken: Vec<Ino>,
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        for ino in self.taken.drain(..) {
            self.union.forget(ino, 1);
        }
    }
}

impl<'a> Walk<'a> {
    fn new(union: &'a Union) -> Walk<'a> {
        Walk { union, taken: Vec::new() }
    }

    fn look(&mut self, dir: Ino, part: u8) -> Done<Option<Entry>> {
        let entry = self.union.lookup(dir, OsString::from(name(part)).as_os_str()).map_err(errno)?;
        self.taken.extend(entry.map(|entry| entry.ino));
        Ok(entry)
    }

    fn parent(&mut self, place: &Place) -> Done<Ino> {
        let mut at = Ino::ROOT;
        for part in &place.0[..place.0.len() - 1] {
            let entry = self.look(at, *part)?.ok_or(Errno::NOENT)?;
            match entry.attr.kind {
                Kind::Dir => at = entry.ino,
                Kind::Symlink => return Err(Errno::NOENT),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }

    fn find(&mut self, place: &Place) -> Done<(Ino, Option<Entry>)> {
        let dir = self.parent(place)?;
        let entry = self.look(dir, place.last())?;
        Ok((dir, entry))
    }

    fn absent(&mut self, place: &Place) -> Done<Ino> {
        match self.find(place)? {
            (dir, None) => Ok(dir),
            _ => Err(Errno::EXIST),
        }
    }

    fn existing(&mut self, place: &Place) -> Done<(Ino, Entry)> {
        let (dir, entry) = self.find(place)?;
        Ok((dir, entry.ok_or(Errno::NOENT)?))
    }

    /// What a following call reaches.
    fn followed(&mut self, place: &Place) -> Done<Entry> {
        let (_, entry) = self.existing(place)?;
        if entry.attr.kind == Kind::Symlink { Err(Errno::NOENT) } else { Ok(entry) }
    }

    fn file(&mut self, place: &Place, fifo: Errno) -> Done<Entry> {
        let entry = self.followed(place)?;
        match entry.attr.kind {
            Kind::File => Ok(entry),
            Kind::Dir => Err(Errno::ISDIR),
            _ => Err(fifo),
        }
    }

    fn apply(&mut self, op: &Op) -> Done {
        let me = Caller::me();
        let union = self.union;
        match op {
            Op::Create(place, perm) => {
                let dir = self.absent(place)?;
                let how = read_write();
                let (entry, opened) = union.create(&me, dir, &last(place), *perm, how).map_err(errno)?;
                union.release(opened.fh);
                self.chmod(entry.ino, *perm)?;
                self.taken.push(entry.ino);
            }
            Op::Mkdir(place, perm) => {
                let dir = self.absent(place)?;
                let entry = union.mkdir(&me, dir, &last(place), *perm).map_err(errno)?;
                self.taken.push(entry.ino);
                self.chmod(entry.ino, *perm)?;
            }
            Op::Symlink(place) => {
                let dir = self.absent(place)?;
                let entry = union.symlink(&me, dir, &last(place), TARGET.as_ref()).map_err(errno)?;
                self.taken.push(entry.ino);
            }
            Op::Mkfifo(place, perm) => {
                let dir = self.absent(place)?;
                let node = NewNode { kind: Kind::Fifo, perm: *perm, rdev: (0, 0) };
                let entry = union.mknod(&me, dir, &last(place), node).map_err(errno)?;
                self.taken.push(entry.ino);
                self.chmod(entry.ino, *perm)?;
            }
            Op::Write(place, at, byte, length) => {
                let data = vec![*byte; usize::from(*length)];
                let entry = self.file(place, Errno::NXIO)?;
                let fh = union.open_file(entry.ino, read_write()).map_err(errno)?.fh;
                let wrote = union.write(fh, u64::from(*at), &data, false).map_err(errno);
                union.release(fh);
                assert_eq!(wrote?, data.len(), "a short write");
            }
            Op::Truncate(place, length) => {
                let entry = self.file(place, Errno::INVAL)?;
                let change = SetAttr { size: Some(u64::from(*length)), ..SetAttr::default() };
                union.setattr(entry.ino, None, &change).map_err(errno)?;
            }
            Op::Chmod(place, perm) => {
                let entry = self.followed(place)?;
                self.chmod(entry.ino, *perm)?;
            }
            Op::Unlink(_) | Op::Rmdir(_) => self.remove(op)?,
            Op::Link(from, to) => self.link(from, to)?,
            Op::Rename(from, to, how) => self.rename(from, to, *how)?,
            Op::Remount => {}
        }
        Ok(())
    }

    fn chmod(&mut self, ino: Ino, perm: u32) -> Done {
        let change = SetAttr { perm: Some(perm), ..SetAttr::default() };
        self.union.setattr(ino, None, &change).map_err(errno)?;
        Ok(())
    }

    fn remove(&mut self, op: &Op) -> Done {
        match op {
            Op::Unlink(place) => {
                let (dir, entry) = self.existing(place)?;
                if entry.attr.kind == Kind::Dir {
                    return Err(Errno::ISDIR);
                }
                self.union.unlink(dir, &last(place)).map_err(errno)
            }
            Op::Rmdir(place) => {
                let (dir, entry) = self.existing(place)?;
                if entry.attr.kind != Kind::Dir {
                    return Err(Errno::NOTDIR);
                }
                self.union.rmdir(dir, &last(place)).map_err(errno)
            }
            other => panic!("{other:?} removes nothing"),
        }
    }

    fn link(&mut self, from: &Place, to: &Place) -> Done {
        let (_, entry) = self.existing(from)?;
        let dir = self.absent(to)?;
        if entry.attr.kind == Kind::Dir {
            return Err(Errno::PERM);
        }
        let linked = self.union.link(entry.ino, dir, &last(to)).map_err(errno)?;
        self.taken.push(linked.ino);
        Ok(())
    }

    fn rename(&mut self, from: &Place, to: &Place, how: How) -> Done {
        self.parent(from)?;
        let (to_dir, there) = self.find(to)?;
        let (from_dir, entry) = self.existing(from)?;
        match (how, there) {
            (How::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (How::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if from.is_above(to) || (to.is_above(from) && how == How::Exchange) {
            return Err(Errno::INVAL);
        }
        if to.is_above(from) {
            return Err(Errno::NOTEMPTY);
        }
        if let Some(there) = there {
            if there.ino == entry.ino {
                return Ok(());
            }
            match (entry.attr.kind == Kind::Dir, there.attr.kind == Kind::Dir) {
                (true, false) if how != How::Exchange => return Err(Errno::NOTDIR),
                (false, true) if how != How::Exchange => return Err(Errno::ISDIR),
                _ => {}
            }
        }
        let flags = match how {
            How::Plain => RenameFlags::empty(),
            How::NoReplace => RenameFlags::NOREPLACE,
            How::Exchange => RenameFlags::EXCHANGE,
        };
        self.union.rename((from_dir, &last(from)), (to_dir, &last(to)), flags).map_err(errno)
    }
}

fn last(place: &Place) -> OsString {
    name(place.last()).into()
}

/// Does one operation.
///
/// # Errors
/// The kernel's or the engine's answer.
pub fn apply(union: &Union, op: &Op) -> Done {
    Walk::new(union).apply(op)
}

/// The union in the model's words.
///
/// # Errors
/// What could not be read, and why.
pub fn snapshot(union: &Union) -> Result<Snapshot, String> {
    let mut walk = Walk::new(union);
    let mut seen = Vec::new();
    let attr = union.getattr(Ino::ROOT, None).map_err(|error| format!("root: {error}"))?;
    visit(&mut walk, Ino::ROOT, attr, PathBuf::new(), &mut seen)?;
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for (path, attr, _) in &seen {
        let best = first.entry(attr.ino).or_insert_with(|| path.clone());
        if path < best {
            best.clone_from(path);
        }
    }
    let lines = seen.iter().map(|(path, attr, text)| {
        let perm = (attr.kind != Kind::Symlink).then_some(attr.perm);
        let links = (attr.kind != Kind::Dir).then(|| attr.nlink.to_string());
        (path.clone(), line(text, perm, links.as_deref(), &first[&attr.ino]))
    });
    Ok(Snapshot(lines.collect()))
}

/// A tree whose every node is referred to.
#[derive(Debug)]
pub struct Pinned<'a> {
    walk: Walk<'a>,
}

/// Looks everything up and holds it.
///
/// # Errors
/// What could not be looked up; and an object that two nodes stand for.
pub fn pin(union: &Union) -> Result<Pinned<'_>, String> {
    let mut walk = Walk::new(union);
    let mut seen = Vec::new();
    let attr = union.getattr(Ino::ROOT, None).map_err(|error| format!("root: {error}"))?;
    visit(&mut walk, Ino::ROOT, attr, PathBuf::new(), &mut seen)?;
    let mut nodes: BTreeMap<u64, Ino> = BTreeMap::new();
    for ((path, attr, _), ino) in seen.iter().skip(1).zip(&walk.taken) {
        if *nodes.entry(attr.ino).or_insert(*ino) != *ino {
            return Err(format!("{}: number {} is two nodes", path.display(), attr.ino));
        }
    }
    Ok(Pinned { walk })
}

impl Pinned<'_> {
    /// How many references.
    pub fn len(&self) -> usize {
        self.walk.taken.len()
    }

    /// Whether the tree is empty.
    pub fn is_empty(&self) -> bool {
        self.walk.taken.is_empty()
    }
}

type Seen = Vec<(PathBuf, Attr, String)>;

fn visit(walk: &mut Walk<'_>, ino: Ino, attr: Attr, path: PathBuf, seen: &mut Seen) -> Result<(), String> {
    let at = |error: plyfs_union::Error| format!("{}: {error}", path.display());
    let text = match attr.kind {
        Kind::Dir => "dir".to_owned(),
        Kind::Symlink => format!("link -> {}", walk.union.readlink(ino).map_err(at)?.display()),
        Kind::Fifo => "fifo".to_owned(),
        Kind::File => {
            let data = read(walk.union, ino, attr.size).map_err(at)?;
            format!("file {} {:016x}", data.len(), hash(&data))
        }
        other => format!("{other:?}"),
    };
    seen.push((path.clone(), attr, text));
    if attr.kind == Kind::Dir {
        for (name, number) in list(walk.union, ino).map_err(at)? {
            let below = path.join(&name);
            let entry = walk.union.lookup(ino, &name).map_err(at)?;
            let entry = entry.ok_or_else(|| format!("{}: listed, but not found", below.display()))?;
            walk.taken.push(entry.ino);
            if entry.attr.ino != number {
                return Err(format!("{}: d_ino {number}, st_ino {}", below.display(), entry.attr.ino));
            }
            visit(walk, entry.ino, entry.attr, below, seen)?;
        }
    }
    Ok(())
}

/// A file's whole content.
///
/// # Errors
/// The engine's.
pub fn read(union: &Union, ino: Ino, size: u64) -> Result<Vec<u8>, plyfs_union::Error> {
    let how = OpenHow { write: false, ..read_write() };
    let fh = union.open_file(ino, how)?.fh;
    // One byte more than stated: a file longer than its attributes say shows.
    let mut data = vec![0; usize::try_from(size).unwrap() + 1];
    let got = union.read(fh, 0, &mut data);
    union.release(fh);
    data.truncate(got?);
    Ok(data)
}

/// Names and numbers of a directory, without the dots.
///
/// # Errors
/// The engine's.
pub fn list(union: &Union, ino: Ino) -> Result<Vec<(OsString, u64)>, plyfs_union::Error> {
    let mut names = Vec::new();
    union.list(ino, 0, &mut |entry| {
        if entry.name != "." && entry.name != ".." {
            names.push((entry.name.to_os_string(), entry.ino));
        }
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// The union's own folders, for messages.
pub fn shown(branches: &[PathBuf]) -> String {
    branches.iter().map(|path| Path::display(path).to_string()).collect::<Vec<_>>().join(":")
}
