//! Packing a layer's directory as it stands (Docker's aufs driver, Diff): whiteouts are its own files.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::vec::IntoIter;

use plyfs_sys::{Access, Dir, Kind, Leaf, Obj, Stat};
use plyfs_union::layer::{self, LayerWord, layer_word};

use super::archive::{Archive, FirstNames, Item, ItemKind, Packed};
use super::error::{Error, Result, shown};
use crate::unpack::{entries, joined};

/// Packs the layer directory `layer` (AUFS's dialect): sorted, whiteouts before all else in their directory. Private
/// words and marks stay behind.
pub fn pack_dir(layer: &Dir, out: impl Write) -> Result<Packed> {
    let mut walk = Walk { archive: Archive::new(out), links: FirstNames::new() };
    let stat = layer.stat_self().map_err(Error::sys(b""))?;
    let root = walk.item(b"", Obj::Dir(layer), &stat, ItemKind::Dir)?;
    // A layer's root is so unless an entry says otherwise.
    if (root.perm, root.uid, root.gid) != (0o755, 0, 0) || !root.xattrs.is_empty() {
        walk.archive.put(b"", &root)?;
    }
    let mut stack = vec![Frame::open(layer.again().map_err(Error::sys(b""))?, Vec::new())?];
    while let Some(frame) = stack.last_mut() {
        let Some((_, leaf, word)) = frame.names.next() else {
            stack.pop();
            continue;
        };
        let path = joined(&frame.path, &leaf);
        if let Some(dir) = walk.entry(&frame.dir, &frame.path, &path, &leaf, word)? {
            stack.push(Frame::open(dir, path)?);
        }
    }
    walk.archive.finish()
}

/// A directory on the way down.
struct Frame {
    dir: Dir,
    path: Vec<u8>,
    names: IntoIter<(u8, Leaf, LayerWord)>,
}

impl Frame {
    fn open(dir: Dir, path: Vec<u8>) -> Result<Frame> {
        let found = entries(&dir).map_err(Error::sys(&path))?;
        let ranked = found.into_iter().filter_map(|entry| {
            let word = layer_word(&entry.leaf);
            let rank = match word {
                LayerWord::Opaque => 0,
                LayerWord::Whiteout(_) | LayerWord::LongWhiteout => 1,
                LayerWord::Plain => 2,
                LayerWord::Plinks | LayerWord::Private | LayerWord::Bad => return None,
            };
            Some((rank, entry.leaf, word))
        });
        let mut names: Vec<_> = ranked.collect();
        names.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        Ok(Frame { dir, path, names: names.into_iter() })
    }
}

struct Walk<W: Write> {
    archive: Archive<W>,
    links: FirstNames<(u32, u32, u64)>,
}

impl<W: Write> Walk<W> {
    /// The directory to go into, if it is one.
    fn entry(
        &mut self,
        dir: &Dir,
        above: &[u8],
        path: &[u8],
        leaf: &Leaf,
        word: LayerWord,
    ) -> Result<Option<Dir>> {
        let stat = dir.stat(leaf).map_err(Error::sys(path))?;
        match word {
            LayerWord::Opaque => self.whiteout(path, &stat)?,
            LayerWord::Whiteout(hidden) => self.whiteout(&whiteout_path(above, &hidden), &stat)?,
            LayerWord::LongWhiteout => {
                let target = dir.readlink(leaf).map_err(Error::sys(path))?;
                if let Some(hidden) = Leaf::new(&target) {
                    self.whiteout(&whiteout_path(above, &hidden), &stat)?;
                }
            }
            LayerWord::Plain
                if stat.is_null_device() && !layer::is_device(dir, leaf).map_err(Error::union(path))? =>
            {
                self.whiteout(&whiteout_path(above, leaf), &stat)?;
            }
            _ => return self.plain(dir, path, leaf, &stat),
        }
        Ok(None)
    }

    fn whiteout(&mut self, path: &[u8], stat: &Stat) -> Result<()> {
        let Stat { perm, uid, gid, mtime, .. } = *stat;
        let perm = if stat.kind == Kind::File { perm } else { 0o644 };
        self.archive.put(path, &Item { perm, uid, gid, mtime, ..Item::whiteout() })
    }

    fn plain(&mut self, dir: &Dir, path: &[u8], leaf: &Leaf, stat: &Stat) -> Result<Option<Dir>> {
        let identity = (stat.dev.major, stat.dev.minor, stat.ino);
        let linked = stat.nlink > 1 && stat.kind != Kind::Dir && stat.kind != Kind::Socket;
        let earlier = if linked { self.links.earlier(identity, path) } else { None };
        let kind = match (earlier, stat.kind) {
            (Some(first), _) => ItemKind::HardLink(first),
            (None, Kind::File) => ItemKind::File(stat.size),
            (None, Kind::Symlink) => {
                ItemKind::Symlink(dir.readlink(leaf).map_err(Error::sys(path))?.as_bytes().to_vec())
            }
            (None, Kind::Dir) => ItemKind::Dir,
            (None, Kind::Fifo) => ItemKind::Fifo,
            (None, Kind::CharDevice) => ItemKind::CharDevice(stat.rdev),
            (None, Kind::BlockDevice) => ItemKind::BlockDevice(stat.rdev),
            (None, Kind::Socket) => {
                self.archive.left_out.push(shown(path));
                return Ok(None);
            }
        };
        let item = self.item(path, Obj::At(dir, leaf), stat, kind)?;
        match item.kind {
            ItemKind::File(_) => {
                let mut file = dir.open_file(leaf, Access::Read).map_err(Error::sys(path))?;
                self.archive.put_file(path, &item, &mut file)?;
            }
            _ => self.archive.put(path, &item)?,
        }
        Ok(if stat.kind == Kind::Dir { Some(dir.child(leaf).map_err(Error::sys(path))?) } else { None })
    }

    fn item(&self, path: &[u8], obj: Obj<'_>, stat: &Stat, kind: ItemKind) -> Result<Item> {
        let Stat { perm, uid, gid, mtime, .. } = *stat;
        // A hard link's attributes are those of its first name; a header has no room for a symlink's mode.
        let mut xattrs = Vec::new();
        if !matches!(kind, ItemKind::HardLink(_)) {
            for name in obj.xattr_names().map_err(Error::sys(path))? {
                if layer::needs_branches_below(&name) {
                    return Err(Error::NotPlain { path: shown(path), xattr: shown(&name) });
                }
                if layer::is_mark_xattr(&name) {
                    continue;
                }
                let value = obj.xattr(OsStr::from_bytes(&name)).map_err(Error::sys(path))?;
                xattrs.extend(value.map(|value| (name, value)));
            }
            xattrs.sort();
        }
        Ok(Item { kind, perm, uid, gid, mtime, xattrs })
    }
}

fn whiteout_path(above: &[u8], hidden: &Leaf) -> Vec<u8> {
    let name = layer::whiteout_in_archive(hidden);
    if above.is_empty() { name } else { [above, b"/", &name].concat() }
}
