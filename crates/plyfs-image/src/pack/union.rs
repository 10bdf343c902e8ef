//! Packing through a union: its whole tree (export), or what its writable branches change (commit).
//!
//! What plyfs keeps on a branch (redirects, copies of metadata alone, pseudo-links, private words) is the union's
//! matter: here only what it shows counts, against what the branches below show.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::vec::IntoIter;

use plyfs_sys::{Kind, Leaf};
use plyfs_union::{Change, ChangeKind, Ino, Union, layer};

use super::archive::{Archive, Item, ItemKind, Packed};
use super::error::{Error, Result, shown};
use super::object::{Held, Object};
use crate::unpack::joined;

/// Packs all that `union` shows, sorted by name.
pub fn pack_tree(union: &Union, out: impl Write) -> Result<Packed> {
    let mut packer = Packer::new(out);
    packer.root(union)?;
    let root = Held::root(union).map_err(Error::union(b""))?;
    let mut stack = vec![Frame::open(root, Vec::new())?];
    while let Some(frame) = stack.last_mut() {
        let Some(name) = frame.names.next() else {
            stack.pop();
            continue;
        };
        let Some(leaf) = Leaf::new(&name) else { continue };
        let path = joined(&frame.path, &leaf);
        let Some(held) = frame.held.child(&name).map_err(Error::union(&path))? else { continue };
        let is_dir = held.attr.kind == Kind::Dir;
        packer.put(&path, held)?;
        if is_dir && let Some(held) = frame.held.child(&name).map_err(Error::union(&path))? {
            stack.push(Frame::open(held, path)?);
        }
    }
    packer.archive.finish()
}

/// Packs what the writable branches of `union` change against the branches below, as a layer over these: the cost is
/// that of the changes. Sorted by name; in each directory whiteouts come first.
///
/// A layer can't say that a file of its own is another name of one below: hard links between what changed and what did
/// not come apart. Names of a file whose data or attributes changed are all in the layer, whichever was used. That only
/// its time differs is no change of a directory.
pub fn pack_changes(union: &Union, out: impl Write) -> Result<Packed> {
    let mut changes = Vec::new();
    union.changes(&mut |change| changes.push(change)).map_err(Error::union(b""))?;
    changes.sort_by_cached_key(order);
    let mut packer = Packer::new(out);
    packer.root(union)?;
    // Directories that lead to the last change.
    let mut way: Vec<(OsString, Held<'_>)> = Vec::new();
    for change in &changes {
        packer.change(union, change, &mut way)?;
    }
    packer.archive.finish()
}

/// Parents before children, whiteouts before their siblings: `.wh.NAME` acts on the layers below alone, but readers
/// that unpack in place need it first (OCI layer.md).
fn order(change: &Change) -> Vec<(bool, Vec<u8>)> {
    let mut key: Vec<(bool, Vec<u8>)> = names(change).map(|name| (true, name.as_bytes().to_vec())).collect();
    if change.kind == ChangeKind::Deleted
        && let Some(last) = key.last_mut()
    {
        last.0 = false;
    }
    key
}

fn names(change: &Change) -> impl Iterator<Item = &OsStr> {
    change.path.iter().filter(|name| *name != "/")
}

struct Frame<'a> {
    held: Held<'a>,
    path: Vec<u8>,
    names: IntoIter<OsString>,
}

impl<'a> Frame<'a> {
    fn open(held: Held<'a>, path: Vec<u8>) -> Result<Frame<'a>> {
        let mut names = Vec::new();
        let mut add = |entry: plyfs_union::DirEntry<'_>| {
            if entry.name != "." && entry.name != ".." {
                names.push(entry.name.to_owned());
            }
            ControlFlow::Continue(())
        };
        held.union.list(held.ino, 0, &mut add).map_err(Error::union(&path))?;
        names.sort();
        Ok(Frame { held, path, names: names.into_iter() })
    }
}

struct Packer<'a, W: Write> {
    archive: Archive<W>,
    /// Files with several names: the first of them. Held, because a node keeps its number only while somebody does.
    links: HashMap<Ino, (Vec<u8>, Object<'a>)>,
}

impl<'a, W: Write> Packer<'a, W> {
    fn new(out: W) -> Packer<'a, W> {
        Packer { archive: Archive::new(out), links: HashMap::new() }
    }

    /// A layer's root is 0755 and the first user's unless an entry says otherwise.
    fn root(&mut self, union: &Union) -> Result<()> {
        let root = Held::root(union).and_then(Held::object).map_err(Error::union(b""))?;
        if (root.perm, root.uid, root.gid) != (0o755, 0, 0) || !root.xattrs.is_empty() {
            self.archive.put(b"", &item(&root, ItemKind::Dir))?;
        }
        Ok(())
    }

    fn change(
        &mut self,
        union: &'a Union,
        change: &Change,
        way: &mut Vec<(OsString, Held<'a>)>,
    ) -> Result<()> {
        let whole: Vec<&OsStr> = names(change).collect();
        let Some((last, above)) = whole.split_last() else { return Ok(()) };
        let path = whole.iter().map(|name| name.as_bytes()).collect::<Vec<_>>().join(&b'/');
        if change.kind == ChangeKind::Deleted {
            let Some(hidden) = Leaf::new(last) else { return Ok(()) };
            let name = layer::whiteout_in_archive(&hidden);
            let directory = above.iter().map(|name| name.as_bytes()).collect::<Vec<_>>();
            let path = [&directory[..], &[&name[..]]].concat().join(&b'/');
            return self.archive.put(&path, &Item::whiteout());
        }
        let Some(held) = go(union, way, above, last).map_err(Error::union(&path))? else { return Ok(()) };
        self.put(&path, held)?;
        if change.hides_other && change.file == Kind::Dir {
            // What is below under this name, and is no directory, must not let deeper directories through.
            let opaque = joined(&path, &layer::opaque_in_archive());
            self.archive.put(&opaque, &Item::whiteout())?;
        }
        Ok(())
    }

    fn put(&mut self, path: &[u8], held: Held<'a>) -> Result<()> {
        let ino = held.ino;
        let object = held.object().map_err(Error::union(path))?;
        if object.kind == Kind::Socket {
            self.archive.left_out.push(shown(path));
            return Ok(());
        }
        if object.kind != Kind::Dir
            && let Some((first, _)) = self.links.get(&ino)
        {
            let link = ItemKind::HardLink(first.clone());
            return self.archive.put(path, &Item { xattrs: Vec::new(), ..item(&object, link) });
        }
        let kind = match object.kind {
            Kind::File => ItemKind::File(object.size),
            Kind::Symlink => ItemKind::Symlink(object.link.clone()),
            Kind::Fifo => ItemKind::Fifo,
            Kind::CharDevice => ItemKind::CharDevice(object.rdev),
            Kind::BlockDevice => ItemKind::BlockDevice(object.rdev),
            Kind::Dir | Kind::Socket => ItemKind::Dir,
        };
        let item = item(&object, kind);
        match item.kind {
            ItemKind::File(_) => {
                let mut contents = object.open().map_err(Error::union(path))?;
                self.archive.put_file(path, &item, &mut contents)?;
            }
            _ => self.archive.put(path, &item)?,
        }
        if object.kind != Kind::Dir && object.nlink > 1 {
            self.links.insert(ino, (path.to_vec(), object));
        }
        Ok(())
    }
}

fn item(object: &Object<'_>, kind: ItemKind) -> Item {
    Item {
        kind,
        perm: object.perm,
        uid: object.uid,
        gid: object.gid,
        mtime: object.mtime,
        xattrs: object.xattrs.clone(),
    }
}

/// The entry `last` of the directory `above`; the directories on the way stay held for the next change.
fn go<'a>(
    union: &'a Union,
    way: &mut Vec<(OsString, Held<'a>)>,
    above: &[&OsStr],
    last: &OsStr,
) -> plyfs_union::Result<Option<Held<'a>>> {
    let same = way.iter().zip(above).take_while(|((known, _), name)| known == *name).count();
    way.truncate(same);
    for name in &above[same..] {
        let next = child(union, way, name)?;
        let Some(next) = next else { return Ok(None) };
        way.push(((*name).to_owned(), next));
    }
    child(union, way, last)
}

fn child<'a>(
    union: &'a Union,
    way: &[(OsString, Held<'a>)],
    name: &OsStr,
) -> plyfs_union::Result<Option<Held<'a>>> {
    match way.last() {
        Some((_, held)) => held.child(name),
        None => Held::root(union)?.child(name),
    }
}
