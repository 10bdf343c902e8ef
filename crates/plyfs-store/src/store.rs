//! Opening a store, and what all of its operations share.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::driver::{Driver, Mounter};
use crate::error::{Doing, Error, Result};
use crate::layout::Layout;
use crate::{files, lock};

/// Version of the format on disk (docs/store.md).
const VERSION: u32 = 1;

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To look. Nothing is made, mended or locked.
    Read,
    /// To change. A root that plyfs did not make (Docker's) is refused.
    Write,
    /// To change, even if Docker made it. From then on it is plyfs' as well.
    Adopt,
}

/// A store.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Layout,
    driver: Driver,
    access: Access,
}

impl Store {
    /// Opens the store at `root` (made if missing, when opened for writing) and mends what crashes left; `mounter`
    /// unmounts what dead processes left mounted.
    pub fn open(root: &Path, access: Access, mounter: &dyn Mounter) -> Result<Store> {
        if access == Access::Read {
            return Store::open_to_read(root);
        }
        let absolute = std::path::absolute(root).doing("finding", root)?;
        let layout = Layout::new(&absolute);
        let ours = check_version(&layout)?;
        if !ours && access != Access::Adopt && is_foreign(&layout) {
            return Err(Error::ReadOnly(absolute));
        }
        refuse_filesystem(&absolute)?;
        make_dirs(&layout)?;
        if !ours {
            files::write_atomic(&layout.version(), format!("{VERSION}\n").as_bytes())?;
        }
        let store = Store { driver: Driver::new(layout.clone(), true), layout, access };
        store.mend(mounter)?;
        Ok(store)
    }

    /// To look only. A root that is not there is an empty store.
    fn open_to_read(root: &Path) -> Result<Store> {
        let layout = Layout::new(std::path::absolute(root).doing("finding", root)?);
        check_version(&layout)?;
        Ok(Store { driver: Driver::new(layout.clone(), false), layout, access: Access::Read })
    }

    /// Where things lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The layers' driver.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Whether Docker made it and plyfs never changed it.
    pub fn is_dockers(&self) -> bool {
        !self.layout.version().exists() && is_foreign(&self.layout)
    }

    pub(crate) fn need_writable(&self) -> Result<()> {
        match self.access {
            Access::Read => Err(Error::ReadOnly(self.layout.root().to_owned())),
            Access::Write | Access::Adopt => Ok(()),
        }
    }

    /// Keeps others from changing metadata until the answer is dropped. Not to be held over anything long.
    pub(crate) fn lock(&self) -> Result<File> {
        lock::exclusive(&self.layout.lock())
    }

    /// Everything a crash can have left, in the order in which it depends on each other.
    fn mend(&self, mounter: &dyn Mounter) -> Result<()> {
        self.finish_removals(mounter)?;
        self.undo_stale(mounter)?;
        self.remove_orphaned_containers(mounter)?;
        self.driver.remove_stale()?;
        for dir in [self.layout.own(), self.layout.image(), self.layout.configs(), self.layout.parents()] {
            files::sweep(&dir)?;
        }
        Ok(())
    }
}

/// `true`: the root is one of ours, in a version that we know.
fn check_version(layout: &Layout) -> Result<bool> {
    let Some(text) = files::read_text(&layout.version())? else { return Ok(false) };
    match text.parse::<u32>() {
        Ok(version) if version <= VERSION => Ok(true),
        _ => Err(Error::Version { root: layout.root().to_owned(), found: text, known: VERSION }),
    }
}

/// Something is there that plyfs did not make.
fn is_foreign(layout: &Layout) -> bool {
    layout.driver().exists() || layout.image().exists() || layout.root().join("image").exists()
}

/// Docker refused AUFS, btrfs and eCryptfs. On btrfs the kernel's AUFS failed; plyfs does not. eCryptfs has names of at
/// most 143 bytes.
fn refuse_filesystem(root: &Path) -> Result<()> {
    match crate::driver::backing(root)? {
        fs @ ("aufs" | "ecryptfs") => Err(Error::Incompatible { root: root.to_owned(), fs }),
        _ => Ok(()),
    }
}

/// The directories of an empty store. Those that lead to layers can be passed by root alone: what lies below has
/// set-user-id programs for everybody to run (CVE-2021-41091, CVE-2024-25621).
fn make_dirs(layout: &Layout) -> Result<()> {
    files::make_dirs(layout.root().parent().unwrap_or(layout.root()), 0o755)?;
    let closed = [
        layout.root().to_owned(),
        layout.driver(),
        layout.diffs(),
        layout.parents(),
        layout.mounts(),
        layout.root().join("image"),
        layout.image(),
        layout.containers(),
        layout.own(),
    ];
    for dir in &closed {
        match DirBuilder::new().mode(0o710).create(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.doing("making", dir)?,
        }
    }
    let inner = [
        layout.chains(),
        layout.chains_tmp(),
        layout.container_layers(),
        layout.configs(),
        layout.image().join("imagedb/metadata/sha256"),
        layout.intents(),
        layout.counts(),
        layout.downloads(),
        layout.indexes(),
    ];
    inner.iter().try_for_each(|dir| files::make_dirs(dir, 0o700))
}
