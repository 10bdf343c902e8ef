//! From entries to files: what each entry does to the layer's directory.

use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use plyfs_sys::{Access, Dev, Dir, Errno, Kind, Leaf, Links, Obj, Stat, SysError};
use plyfs_union::layer;

use super::attrs::{Attrs, Setter};
use super::error::{Error, Loss, Result};
use super::headers::{Entry, EntryKind, Headers};
use super::paths::{Inside, Meaning, joined};
use super::sparse::Piece;
use super::tree::{Parent, Tree};
use super::{UnpackOptions, whiteout};
use crate::limits::{self, Limits};
use crate::tarsplit;

/// Unpacks one layer.
pub(crate) struct Unpacker<'a, R> {
    pub(crate) headers: Headers<'a, R>,
    pub(crate) tree: Tree<'a>,
    pub(crate) setter: Setter,
    pub(crate) limits: &'a Limits,
    pub(crate) lower: Option<&'a dyn crate::pack::object::Lower>,
    /// Sources of hard links that are no part of the layer.
    pub(crate) plinks: Option<(Dir, Leaf)>,
    pub(crate) entries: u64,
    /// Bytes that files will have, holes included.
    expanded: u64,
}

/// A place for an entry.
pub(crate) struct Spot {
    pub(crate) parent: Rc<Parent>,
    pub(crate) leaf: Leaf,
    /// Its own path in the layer.
    pub(crate) real: Vec<u8>,
}

impl<'a, R: BufRead> Unpacker<'a, R> {
    pub(crate) fn new(
        headers: Headers<'a, R>,
        root: &'a Dir,
        options: &UnpackOptions<'a>,
    ) -> Unpacker<'a, R> {
        Unpacker {
            headers,
            tree: Tree::new(root, options.limits, options.lower),
            setter: Setter::new(options.owners),
            limits: options.limits,
            lower: options.lower,
            plinks: None,
            entries: 0,
            expanded: 0,
        }
    }

    pub(crate) fn run(&mut self) -> Result<()> {
        while let Some(entry) = self.headers.next()? {
            self.entries += 1;
            limits::check(self.entries, "entries", self.limits.entries).map_err(Error::limit(b"layer"))?;
            self.entry(entry)?;
        }
        if self.headers.trailing {
            self.setter.warnings.add(Loss::Trailing, b"layer");
        }
        self.drop_plinks()?;
        self.tree.finish(&mut self.setter)
    }

    fn entry(&mut self, mut entry: Entry) -> Result<()> {
        let path = Inside::new(&entry.name, self.limits)?;
        match path.meaning()? {
            Meaning::Root => self.root(entry),
            Meaning::Plain(leaf) => {
                let above = path.split().map_or(&[][..], |(above, _)| above);
                let parent = self.tree.parent(above, Links::Inside)?;
                let real = joined(&parent.real, &leaf);
                let spot = Spot { parent, leaf, real };
                self.plain(&mut entry, &path, &spot)
            }
            Meaning::Whiteout(hidden) => whiteout::whiteout(self, entry, &path, &hidden),
            Meaning::Opaque(leaf) => whiteout::opaque(self, entry, &path, leaf),
            Meaning::Plink(leaf) if entry.kind == EntryKind::File => self.plink(entry, &path, &leaf),
            Meaning::Plink(_) | Meaning::Private => {
                self.setter.warnings.add(Loss::PrivateWord, &entry.name);
                Ok(())
            }
        }
    }

    /// The root has attributes, no other kind (CVE-2021-29136).
    fn root(&mut self, mut entry: Entry) -> Result<()> {
        if entry.kind != EntryKind::Dir {
            return Err(Error::refused(&entry.name, "the root of a layer that is no directory"));
        }
        let attrs = Attrs::of(&mut entry, &mut self.setter.warnings);
        self.told(&entry.name, b"", b"", 0, 0)?;
        self.tree.defer(b"", attrs)
    }

    fn plain(&mut self, entry: &mut Entry, path: &Inside, spot: &Spot) -> Result<()> {
        self.tree.check_path(&spot.real)?;
        let attrs = Attrs::of(entry, &mut self.setter.warnings);
        let told = match entry.kind {
            EntryKind::File => return self.file(entry, path, spot, &attrs),
            EntryKind::Dir => {
                self.dir(spot, attrs)?;
                true
            }
            EntryKind::HardLink => self.hard_link(entry, spot)?,
            EntryKind::Symlink => {
                self.symlink(entry, spot, &attrs)?;
                true
            }
            EntryKind::CharDevice => self.node(entry, spot, Kind::CharDevice, &attrs)?,
            EntryKind::BlockDevice => self.node(entry, spot, Kind::BlockDevice, &attrs)?,
            EntryKind::Fifo => self.node(entry, spot, Kind::Fifo, &attrs)?,
        };
        if told { self.told(&entry.name, path.as_bytes(), &spot.real, 0, 0) } else { Ok(()) }
    }

    /// Tells the record of an entry that is a name of the layer now.
    pub(crate) fn told(&mut self, name: &[u8], path: &[u8], real: &[u8], size: u64, crc: u64) -> Result<()> {
        let Some(record) = &mut self.headers.blocks.record else { return Ok(()) };
        // Reached through a symlink: by the way that leads there whatever becomes of the link.
        let name = if path == real { name } else { real };
        record.file(name, real, size, crc).map_err(Error::Record)?;
        self.tree.keep(real, 64)
    }

    /// Makes something under the name, which must be free: in the usual case it is.
    pub(crate) fn make<T>(
        &mut self,
        spot: &Spot,
        make: impl Fn(&Dir, &Leaf) -> std::result::Result<T, SysError>,
    ) -> Result<T> {
        match make(&spot.parent.dir, &spot.leaf) {
            Err(e) if e.errno() == Errno::EXIST => {
                self.remove(spot)?;
                make(&spot.parent.dir, &spot.leaf).map_err(Error::sys(&spot.real))
            }
            made => made.map_err(Error::sys(&spot.real)),
        }
    }

    /// Takes away what an earlier entry made; the record keeps its contents.
    pub(crate) fn remove(&mut self, spot: &Spot) -> Result<()> {
        let mut record = self.headers.blocks.record.as_deref_mut();
        let mut leaving = |real: &[u8], dir: &Dir, leaf: &Leaf, stat: &Stat| match &mut record {
            Some(record) => forget(record, real, dir, leaf, stat),
            None => Ok(()),
        };
        self.tree.remove(&spot.parent, &spot.leaf, &mut leaving)
    }

    fn dir(&mut self, spot: &Spot, attrs: Attrs) -> Result<()> {
        let dir = &spot.parent.dir;
        match dir.mkdir(&spot.leaf, 0o700) {
            Err(e) if e.errno() == Errno::EXIST => {
                if dir.stat(&spot.leaf).map_err(Error::sys(&spot.real))?.kind != Kind::Dir {
                    self.remove(spot)?;
                    dir.mkdir(&spot.leaf, 0o700).map_err(Error::sys(&spot.real))?;
                }
            }
            made => made.map_err(Error::sys(&spot.real))?,
        }
        self.tree.defer(&spot.real, attrs)
    }

    fn file(&mut self, entry: &Entry, path: &Inside, spot: &Spot, attrs: &Attrs) -> Result<()> {
        let file = self.make(spot, |dir, leaf| dir.create(leaf, 0o600))?;
        let size = entry.sparse.as_ref().map_or(entry.stored, |map| map.size);
        self.expand(&spot.real, size)?;
        match &entry.sparse {
            Some(map) => {
                for piece in &map.pieces {
                    self.piece(&file, *piece, &spot.real)?;
                }
                file.set_len(map.size).map_err(Error::write(&spot.real))?;
            }
            None => {
                let crc = self.contents(&file, entry.stored, &spot.real)?;
                self.told(&entry.name, path.as_bytes(), &spot.real, entry.stored, crc)?;
            }
        }
        self.setter.file(&spot.real, &file, attrs).map_err(Error::sys(&spot.real))?;
        self.tree.size += size;
        Ok(())
    }

    /// Writes the body, of `len` bytes; the checksum, if there is a record.
    fn contents(&mut self, mut file: &File, len: u64, real: &[u8]) -> Result<u64> {
        let mut crc = self.headers.blocks.record.is_some().then(|| tarsplit::CRC.digest());
        let mut write = |some: &[u8]| {
            if let Some(crc) = &mut crc {
                crc.update(some);
            }
            file.write_all(some).map_err(Error::write(real))
        };
        while self.headers.blocks.body(len, false, &mut write)?.is_some() {}
        Ok(crc.map_or(0, |crc| crc.finalize()))
    }

    /// A piece of a sparse file; its bytes stay in the record, as the file is not as the archive has it.
    fn piece(&mut self, file: &File, piece: Piece, real: &[u8]) -> Result<()> {
        let (mut at, end) = (piece.offset, piece.offset + piece.len);
        while at < end {
            let mut write = |some: &[u8]| {
                file.write_all_at(some, at).map_err(Error::write(real))?;
                Ok(some.len() as u64)
            };
            match self.headers.blocks.body(end - at, true, &mut write)? {
                Some(count) => at += count,
                None => return Err(self.headers.blocks.broken("a sparse file without all its pieces")),
            }
        }
        Ok(())
    }

    pub(crate) fn expand(&mut self, real: &[u8], size: u64) -> Result<()> {
        self.expanded = self.expanded.saturating_add(size);
        limits::check(self.expanded, "layer_bytes", self.limits.layer_bytes).map_err(Error::limit(real))
    }

    fn symlink(&mut self, entry: &Entry, spot: &Spot, attrs: &Attrs) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(Error::refused(&spot.real, "a symlink without a target"));
        }
        let target = std::ffi::OsStr::from_bytes(&entry.link);
        self.make(spot, |dir, leaf| dir.symlink(leaf, target))?;
        self.tree.size += entry.link.len() as u64;
        self.set(spot, Kind::Symlink, attrs)
    }

    fn set(&mut self, spot: &Spot, kind: Kind, attrs: &Attrs) -> Result<()> {
        let obj = Obj::At(&spot.parent.dir, &spot.leaf);
        self.setter.object(&spot.real, obj, kind, attrs).map_err(Error::sys(&spot.real))
    }

    /// `false` where it can't be made here.
    fn node(&mut self, entry: &Entry, spot: &Spot, kind: Kind, attrs: &Attrs) -> Result<bool> {
        match self.make(spot, |dir, leaf| dir.mknod(leaf, kind, 0o600, entry.rdev)) {
            Err(Error::Sys { source, .. }) if kind != Kind::Fifo && source.errno() == Errno::PERM => {
                self.setter.warnings.add(Loss::Device, &spot.real);
                return Ok(false);
            }
            made => made?,
        }
        // overlayfs, and so every union that reads its marks, would take it for a whiteout.
        if kind == Kind::CharDevice && entry.rdev == Dev::default() {
            let marked = layer::mark_device(&spot.parent.dir, &spot.leaf).map_err(Error::sys(&spot.real))?;
            if !marked {
                spot.parent.dir.unlink(&spot.leaf).map_err(Error::sys(&spot.real))?;
                self.setter.warnings.add(Loss::Device, &spot.real);
                return Ok(false);
            }
        }
        self.set(spot, kind, attrs)?;
        Ok(true)
    }
}

fn forget(record: &mut tarsplit::Writer, real: &[u8], dir: &Dir, leaf: &Leaf, stat: &Stat) -> Result<()> {
    let file = match stat.kind {
        Kind::File if stat.size > 0 => Some(dir.open_file(leaf, Access::Read).map_err(Error::sys(real))?),
        _ => None,
    };
    record.forget(real, file.as_ref()).map_err(Error::Record)
}
