//! The layer's directory while it is filled: parents, removal of what a later entry replaces, the attributes that
//! directories get at the end.
//!
//! Every access is relative to a descriptor: parents through `Dir::within`, the last component by a `Leaf` that is
//! never followed. One parent is remembered, because entries of one directory follow each other.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use plyfs_sys::{Dir, Errno, Kind, Leaf, Links, Obj, RawEntry, Stat, SysError};

use super::attrs::{Attrs, Setter};
use super::error::{Error, Result};
use super::paths::joined;
use crate::limits::{self, Limits};
use crate::pack::object::Lower;

/// A directory of the layer.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) dir: Dir,
    /// Its own path in the layer: no symlinks in it.
    pub(crate) real: Vec<u8>,
}

/// Told of every name before it is removed.
pub(crate) type Leaving<'a> = &'a mut dyn FnMut(&[u8], &Dir, &Leaf, &Stat) -> Result<()>;

pub(crate) struct Tree<'a> {
    pub(crate) root: &'a Dir,
    root_path: Option<Vec<u8>>,
    limits: &'a Limits,
    lower: Option<&'a dyn Lower>,
    last: Option<(Vec<u8>, Rc<Parent>)>,
    /// What directories get when they are full, by their own paths.
    dirs: BTreeMap<Vec<u8>, Attrs>,
    /// Bytes of memory that grow with the layer, about.
    kept: usize,
    /// Apparent size of all that is no directory, each file once.
    pub(crate) size: u64,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(root: &'a Dir, limits: &'a Limits, lower: Option<&'a dyn Lower>) -> Tree<'a> {
        Tree { root, root_path: None, limits, lower, last: None, dirs: BTreeMap::new(), kept: 0, size: 0 }
    }

    /// The directory `path`, made if it is not there. With [`Links::Refuse`] it must be one by its own name.
    pub(crate) fn parent(&mut self, path: &[u8], links: Links) -> Result<Rc<Parent>> {
        match &self.last {
            Some((last, parent)) if last == path && (links == Links::Inside || parent.real == path) => {
                return Ok(parent.clone());
            }
            Some(_) | None => {}
        }
        let plain = self.root.within(Path::new(OsStr::from_bytes(path)), Links::Refuse);
        let parent = match plain {
            Ok(dir) => Parent { dir, real: path.to_vec() },
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                self.walk(path, links)?
            }
            Err(e) => return Err(Error::sys(path)(e)),
        };
        let parent = Rc::new(parent);
        self.last = Some((path.to_vec(), parent.clone()));
        Ok(parent)
    }

    /// Component by component, making what is missing.
    fn walk(&mut self, path: &[u8], links: Links) -> Result<Parent> {
        let wrong = Error::sys(path);
        let mut here = Parent { dir: self.root.again().map_err(wrong)?, real: Vec::new() };
        for part in path.split(|&byte| byte == b'/') {
            let Some(leaf) = Leaf::from_bytes(part) else { continue };
            here = self.step(path, here, &leaf, links)?;
        }
        Ok(here)
    }

    fn step(&mut self, path: &[u8], here: Parent, leaf: &Leaf, links: Links) -> Result<Parent> {
        let real = joined(&here.real, leaf);
        match here.dir.child(leaf) {
            Ok(dir) => return Ok(Parent { dir, real }),
            Err(e) if e.errno() == Errno::NOENT => {
                self.check_path(&real)?;
                here.dir.mkdir(leaf, 0o700).map_err(Error::sys(path))?;
                let dir = here.dir.child(leaf).map_err(Error::sys(path))?;
                self.imply(&real)?;
                return Ok(Parent { dir, real });
            }
            Err(e) if matches!(e.errno(), Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(Error::sys(path)(e)),
        }
        let is_link = here.dir.stat(leaf).map_err(Error::sys(path))?.kind == Kind::Symlink;
        if !is_link {
            return Err(Error::refused(path, "a directory above it is another kind of entry in this layer"));
        }
        if links == Links::Refuse {
            return Err(Error::refused(path, "a whiteout below a symlink"));
        }
        let dir = match self.root.within(Path::new(OsStr::from_bytes(&real)), Links::Inside) {
            Ok(dir) => dir,
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Err(Error::refused(
                    path,
                    "an entry below a symlink that leads to no directory of this layer",
                ));
            }
            Err(e) => return Err(Error::sys(path)(e)),
        };
        let real = self.own_path(path, &dir)?;
        Ok(Parent { dir, real })
    }

    /// A directory that no entry described yet: as the layers below have it, else 0755 and the first user's.
    fn imply(&mut self, real: &[u8]) -> Result<()> {
        let below = match self.lower {
            Some(lower) => {
                lower.find(real).map_err(|source| Error::Lower { path: super::error::shown(real), source })?
            }
            None => None,
        };
        let attrs = match below {
            Some(object) if object.kind == Kind::Dir => object.attrs(),
            Some(_) | None => Attrs::implied(),
        };
        self.defer(real, attrs)
    }

    /// Where a directory reached through symlinks really is, told by the kernel.
    fn own_path(&mut self, path: &[u8], dir: &Dir) -> Result<Vec<u8>> {
        let told = |dir: &Dir| {
            dir.kernel_path().map(|path| path.as_os_str().as_bytes().to_vec()).map_err(Error::sys(path))
        };
        let root = match self.root_path.take() {
            Some(root) => root,
            None => told(self.root)?,
        };
        let whole = told(dir)?;
        let inside = whole.strip_prefix(&root[..]).map(<[u8]>::to_vec);
        self.root_path = Some(root);
        match inside {
            Some(rest) if rest.is_empty() => Ok(rest),
            Some(rest) if rest[0] == b'/' => Ok(rest[1..].to_vec()),
            Some(_) | None => Err(Error::refused(path, "the way to it leads out of the layer")),
        }
    }

    /// Symlinks may lead deeper than an entry's name says.
    pub(crate) fn check_path(&self, real: &[u8]) -> Result<()> {
        limits::check(real.len() as u64, "name", self.limits.name as u64).map_err(Error::limit(real))?;
        let depth = real.iter().filter(|&&byte| byte == b'/').count();
        limits::check(depth as u64, "depth", self.limits.depth as u64).map_err(Error::limit(real))
    }

    /// The attributes that the directory gets at the end.
    pub(crate) fn defer(&mut self, real: &[u8], attrs: Attrs) -> Result<()> {
        let bytes = attrs.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.dirs.insert(real.to_vec(), attrs);
        self.keep(real, bytes + 128)
    }

    /// So much memory more is in use until the end of the layer.
    pub(crate) fn keep(&mut self, real: &[u8], bytes: usize) -> Result<()> {
        self.kept += real.len() + bytes;
        limits::check(self.kept as u64, "kept_in_memory", self.limits.kept_in_memory)
            .map_err(Error::limit(real))
    }

    /// Removes what is there, with everything in it. Nothing there is fine.
    pub(crate) fn remove(&mut self, parent: &Parent, leaf: &Leaf, leaving: Leaving<'_>) -> Result<()> {
        let real = joined(&parent.real, leaf);
        let Some(stat) = parent.dir.try_stat(leaf).map_err(Error::sys(&real))? else { return Ok(()) };
        if matches!(stat.kind, Kind::Dir | Kind::Symlink) {
            // The remembered parent may have been reached through it.
            self.last = None;
        }
        self.remove_known(&parent.dir, &real, leaf, &stat, leaving)
    }

    /// Recursion is bounded by the limit on depth, which `check_path` enforces when directories are made.
    fn remove_known(
        &mut self,
        dir: &Dir,
        real: &[u8],
        leaf: &Leaf,
        stat: &Stat,
        leaving: Leaving<'_>,
    ) -> Result<()> {
        leaving(real, dir, leaf, stat)?;
        if stat.kind != Kind::Dir {
            if stat.nlink == 1 {
                self.size = self.size.saturating_sub(stat.size);
            }
            return dir.unlink(leaf).map_err(Error::sys(real));
        }
        let below = dir.child(leaf).map_err(Error::sys(real))?;
        for entry in entries(&below).map_err(Error::sys(real))? {
            let inner = joined(real, &entry.leaf);
            let stat = below.stat(&entry.leaf).map_err(Error::sys(&inner))?;
            self.remove_known(&below, &inner, &entry.leaf, &stat, leaving)?;
        }
        self.dirs.remove(real);
        dir.rmdir(leaf).map_err(Error::sys(real))
    }

    /// Gives directories their attributes, the deepest first.
    pub(crate) fn finish(&mut self, setter: &mut Setter) -> Result<()> {
        self.last = None;
        for (real, attrs) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let dir = self.root.within(Path::new(OsStr::from_bytes(&real)), Links::Refuse);
            let dir = dir.map_err(Error::sys(&real))?;
            setter.object(&real, Obj::Dir(&dir), Kind::Dir, &attrs).map_err(Error::sys(&real))?;
        }
        Ok(())
    }
}

pub(crate) fn entries(dir: &Dir) -> std::result::Result<Vec<RawEntry>, SysError> {
    let mut all = Vec::new();
    dir.entries(&mut |entry| all.push(entry))?;
    Ok(all)
}
