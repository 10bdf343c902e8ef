//! Hard links: their targets are looked for inside the layer, never through a last symlink; what only the layers
//! below have is copied up first, so that source and link stay one file (OCI layer.md).

use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStrExt;

use plyfs_sys::{Dir, Errno, Kind, Leaf, Links, Obj, SysError};
use plyfs_union::layer;

use super::attrs::Attrs;
use super::error::{Error, Loss, Result, shown};
use super::headers::Entry;
use super::paths::{Inside, Meaning, joined};
use super::place::{Spot, Unpacker};
use super::tree;
use crate::pack::object::Object;

impl<R: BufRead> Unpacker<'_, R> {
    /// `false` if nothing had to be done.
    pub(crate) fn hard_link(&mut self, entry: &Entry, spot: &Spot) -> Result<bool> {
        let target = Inside::new(&entry.link, self.limits)?;
        match target.meaning()? {
            Meaning::Plain(leaf) => self.link_to(&target, leaf, spot),
            Meaning::Plink(leaf) => {
                let Some((dir, _)) = &self.plinks else {
                    return Err(Error::refused(
                        &spot.real,
                        "a hard link to a source (.wh..wh.plnk) that did not come",
                    ));
                };
                let held = dir.hold(&leaf).map_err(Error::sys(&spot.real))?;
                self.make(spot, |to, new| to.link_fd(std::os::fd::AsFd::as_fd(&held), new))?;
                Ok(true)
            }
            Meaning::Root => Err(Error::refused(&spot.real, "a hard link to a directory")),
            Meaning::Whiteout(_) | Meaning::Opaque(_) | Meaning::Private => {
                Err(Error::refused(&spot.real, "a hard link to a reserved name"))
            }
        }
    }

    fn link_to(&mut self, target: &Inside, leaf: Leaf, spot: &Spot) -> Result<bool> {
        let above = target.split().map_or(&[][..], |(above, _)| above);
        let parent = self.tree.parent(above, Links::Inside)?;
        let real = joined(&parent.real, &leaf);
        if real == spot.real {
            if parent.dir.try_stat(&leaf).map_err(Error::sys(&real))?.is_none() {
                return Err(Error::refused(&spot.real, "a hard link to itself"));
            }
            self.setter.warnings.add(Loss::SelfLink, &spot.real);
            return Ok(false);
        }
        let source = Spot { parent, leaf, real };
        match source.parent.dir.try_stat(&source.leaf).map_err(Error::sys(&source.real))? {
            Some(stat) if stat.kind == Kind::Dir => {
                return Err(Error::refused(&spot.real, "a hard link to a directory"));
            }
            Some(_) => {}
            None => self.bring_up(&source, spot)?,
        }
        let from = &source.parent.dir;
        self.make(spot, |to, new| from.link(&source.leaf, to, new))?;
        Ok(true)
    }

    /// Copies what the layers below have under the target's name into this layer.
    fn bring_up(&mut self, source: &Spot, link: &Spot) -> Result<()> {
        let Some(lower) = self.lower else {
            return Err(Error::refused(
                &link.real,
                "a hard link to what is not in this layer, and no layers below were given",
            ));
        };
        let wrong = |source| Error::Lower { path: shown(&link.real), source };
        let object = lower.find(&source.real).map_err(wrong)?;
        match object {
            Some(object) if object.kind != Kind::Dir => self.copy(source, &object),
            Some(_) => Err(Error::refused(&link.real, "a hard link to a directory")),
            None => Err(Error::refused(&link.real, "a hard link to what is neither in this layer nor below")),
        }
    }

    fn copy(&mut self, to: &Spot, object: &Object<'_>) -> Result<()> {
        let attrs: Attrs = object.attrs();
        let (dir, leaf) = (&to.parent.dir, &to.leaf);
        self.expand(&to.real, object.size)?;
        match object.kind {
            Kind::File => {
                let mut file = dir.create(leaf, 0o600).map_err(Error::sys(&to.real))?;
                let mut data =
                    object.open().map_err(|source| Error::Lower { path: shown(&to.real), source })?;
                std::io::copy(&mut data, &mut file).map_err(Error::write(&to.real))?;
                self.tree.size += object.size;
                return self.setter.file(&to.real, &file, &attrs).map_err(Error::sys(&to.real));
            }
            Kind::Symlink => {
                dir.symlink(leaf, OsStr::from_bytes(&object.link)).map_err(Error::sys(&to.real))?;
                self.tree.size += object.link.len() as u64;
            }
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice if !object.is_null_device() => {
                dir.mknod(leaf, object.kind, 0o600, object.rdev).map_err(Error::sys(&to.real))?;
            }
            _ => {
                return Err(Error::refused(
                    &to.real,
                    "a hard link to a socket or a device 0/0 of the layers below",
                ));
            }
        }
        self.setter.object(&to.real, Obj::At(dir, leaf), object.kind, &attrs).map_err(Error::sys(&to.real))
    }

    /// A file of `.wh..wh.plnk`: kept beside the layer until the hard links to it have come.
    pub(crate) fn plink(&mut self, mut entry: Entry, path: &Inside, leaf: &Leaf) -> Result<()> {
        if entry.sparse.is_some() {
            return Err(Error::refused(path.as_bytes(), "a sparse source of hard links"));
        }
        let dir = match &self.plinks {
            Some((dir, _)) => dir.again(),
            None => self.make_plinks(),
        };
        let dir = dir.map_err(Error::sys(path.as_bytes()))?;
        let attrs = Attrs::of(&mut entry, &mut self.setter.warnings);
        let made = match dir.create(leaf, 0o600) {
            Err(e) if e.errno() == Errno::EXIST => dir.unlink(leaf).and_then(|()| dir.create(leaf, 0o600)),
            made => made,
        };
        let mut file = made.map_err(Error::sys(path.as_bytes()))?;
        self.expand(path.as_bytes(), entry.stored)?;
        let wrong = Error::write(path.as_bytes());
        while self
            .headers
            .blocks
            .body(u64::MAX, true, &mut |some| file.write_all(some).map_err(&wrong))?
            .is_some()
        {}
        self.setter.file(path.as_bytes(), &file, &attrs).map_err(Error::sys(path.as_bytes()))
    }

    fn make_plinks(&mut self) -> std::result::Result<Dir, SysError> {
        let name = layer::temp_name();
        self.tree.root.mkdir(&name, 0o700)?;
        let dir = self.tree.root.child(&name)?;
        self.plinks = Some((dir.again()?, name));
        Ok(dir)
    }

    /// The sources have done their work; what was linked counts as the layer's.
    pub(crate) fn drop_plinks(&mut self) -> Result<()> {
        let Some((dir, name)) = self.plinks.take() else { return Ok(()) };
        let wrong = Error::sys(name.as_bytes());
        for entry in tree::entries(&dir).map_err(&wrong)? {
            let stat = dir.stat(&entry.leaf).map_err(&wrong)?;
            if stat.nlink > 1 {
                self.tree.size += stat.size;
            }
            dir.unlink(&entry.leaf).map_err(&wrong)?;
        }
        self.tree.root.rmdir(&name).map_err(&wrong)
    }
}
