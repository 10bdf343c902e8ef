//! Whiteouts and opaque marks: kept as files, as AUFS has them (design D2). They have neither contents nor any other
//! type: what could forge something is neutralised or refused.

use std::io::BufRead;

use plyfs_sys::{Errno, Kind, Leaf, Links, Obj};
use plyfs_union::layer::{LayerWord, WhiteoutOnBranch, layer_word, whiteout_on_branch};

use super::attrs::Attrs;
use super::error::{Error, Loss, Result};
use super::headers::{Entry, EntryKind};
use super::paths::{Inside, joined};
use super::place::{Spot, Unpacker};

/// NAME_MAX of Linux.
const NAME_MAX: usize = 255;

/// `.wh.NAME`: NAME is gone from the layers below.
pub(crate) fn whiteout<R: BufRead>(
    unpacker: &mut Unpacker<'_, R>,
    entry: Entry,
    path: &Inside,
    hidden: &Leaf,
) -> Result<()> {
    if hidden.as_bytes().len() > NAME_MAX {
        return Err(Error::refused(path.as_bytes(), "a whiteout of a name that is too long for any file"));
    }
    match whiteout_on_branch(hidden) {
        WhiteoutOnBranch::File(leaf) => empty_file(unpacker, entry, path, leaf),
        WhiteoutOnBranch::Symlink(leaf) => long(unpacker, entry, path, hidden, leaf),
    }
}

/// The whiteout of a name that leaves no room for the prefix.
fn long<R: BufRead>(
    unpacker: &mut Unpacker<'_, R>,
    mut entry: Entry,
    path: &Inside,
    hidden: &Leaf,
    leaf: Leaf,
) -> Result<()> {
    check_kind(&entry, path)?;
    entry.xattrs.clear();
    let attrs = Attrs::of(&mut entry, &mut unpacker.setter.warnings);
    let spot = spot(unpacker, path, leaf)?;
    match spot.parent.dir.symlink(&spot.leaf, hidden.as_os_str()) {
        Err(e) if e.errno() == Errno::EXIST => {
            let there = spot.parent.dir.readlink(&spot.leaf).map_err(Error::sys(&spot.real))?;
            if there != hidden.as_os_str() {
                return Err(Error::refused(path.as_bytes(), "another long name has the same whiteout"));
            }
        }
        made => made.map_err(Error::sys(&spot.real))?,
    }
    let obj = Obj::At(&spot.parent.dir, &spot.leaf);
    unpacker.setter.object(&spot.real, obj, Kind::Symlink, &attrs).map_err(Error::sys(&spot.real))
}

/// `.wh..wh..opq`.
pub(crate) fn opaque<R: BufRead>(
    unpacker: &mut Unpacker<'_, R>,
    entry: Entry,
    path: &Inside,
    leaf: Leaf,
) -> Result<()> {
    empty_file(unpacker, entry, path, leaf)
}

fn empty_file<R: BufRead>(
    unpacker: &mut Unpacker<'_, R>,
    mut entry: Entry,
    path: &Inside,
    leaf: Leaf,
) -> Result<()> {
    check_kind(&entry, path)?;
    let warnings = &mut unpacker.setter.warnings;
    // AUFS's own whiteouts are hard links of each other, and so are they in layers that Docker made on AUFS.
    let odd = entry.stored > 0 || !entry.xattrs.is_empty() || entry.perm & 0o6000 != 0;
    let foreign_link = entry.kind == EntryKind::HardLink && !links_to_whiteout(&entry.link);
    if odd || foreign_link {
        warnings.add(Loss::Whiteout, &entry.name);
    }
    entry.xattrs.clear();
    let attrs = Attrs { perm: entry.perm & 0o777, ..Attrs::of(&mut entry, warnings) };
    let spot = spot(unpacker, path, leaf)?;
    unpacker.tree.check_path(&spot.real)?;
    let file = unpacker.make(&spot, |dir, leaf| dir.create(leaf, 0o600))?;
    if entry.stored == 0 {
        unpacker.told(&entry.name, path.as_bytes(), &spot.real, 0, 0)?;
    }
    unpacker.setter.file(&spot.real, &file, &attrs).map_err(Error::sys(&spot.real))
}

fn check_kind(entry: &Entry, path: &Inside) -> Result<()> {
    match entry.kind {
        EntryKind::File | EntryKind::HardLink => Ok(()),
        _ => Err(Error::refused(path.as_bytes(), "a whiteout that is no regular file")),
    }
}

fn links_to_whiteout(link: &[u8]) -> bool {
    let last = link.rsplit(|&byte| byte == b'/').next().unwrap_or(link);
    Leaf::from_bytes(last).is_some_and(|last| layer_word(&last) != LayerWord::Plain)
}

/// Its directory must be one by its own name: a whiteout never works through a symlink.
fn spot<R: BufRead>(unpacker: &mut Unpacker<'_, R>, path: &Inside, leaf: Leaf) -> Result<Spot> {
    let above = path.split().map_or(&[][..], |(above, _)| above);
    let parent = unpacker.tree.parent(above, Links::Refuse)?;
    let real = joined(&parent.real, &leaf);
    Ok(Spot { parent, leaf, real })
}
