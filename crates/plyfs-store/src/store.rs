//! Opening a store, and what all of its operations share.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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
        let before = Layout::new(real(root)?);
        is_ours(&before, access)?;
        refuse_filesystem(before.root())?;
        files::make_dirs(before.root().parent().unwrap_or(before.root()), 0o755)?;
        make_closed(&[before.root().to_owned(), before.own()])?;
        let layout = Layout::new(real(root)?);
        {
            // Whatever else is made comes after the version: without it, it would look like somebody else's.
            let _lock = lock::exclusive(&layout.lock())?;
            if !is_ours(&layout, access)? {
                files::write_atomic(&layout.version(), format!("{VERSION}\n").as_bytes())?;
            }
        }
        make_dirs(&layout)?;
        let store = Store { driver: Driver::new(layout.clone(), true), layout, access };
        store.mend(mounter)?;
        Ok(store)
    }

    /// To look only. A root that is not there is an empty store.
    fn open_to_read(root: &Path) -> Result<Store> {
        let layout = Layout::new(real(root)?);
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

    /// Everything a crash can have left, in the order in which it depends on each other. Others may be at work meanwhile:
    /// what they are at is locked, or named in an intent that is.
    fn mend(&self, mounter: &dyn Mounter) -> Result<()> {
        self.finish_removals(mounter)?;
        self.undo_stale(mounter)?;
        self.remove_orphaned_containers(mounter)?;
        self.remove_stale_drafts()?;
        self.driver.remove_stale()?;
        self.remove_stale_indexes()?;
        self.sweep()
    }

    /// Records of layers and containers that were never published, and of whose writers nothing is known any more (Docker
    /// leaves such).
    fn remove_stale_drafts(&self) -> Result<()> {
        let _lock = self.lock()?;
        let tmp = self.layout.chains_tmp();
        // In this order: a draft is begun after its layer's name is written down.
        let drafts = files::drafts(&tmp)?;
        let in_work = self.layers_in_work()?;
        let stale = drafts.iter().filter(|name| !in_work.iter().any(|id| id.as_str() == name.as_str()));
        stale.into_iter().try_for_each(|name| files::remove_draft(&tmp, name))
    }

    /// Files that were being written.
    fn sweep(&self) -> Result<()> {
        let layout = &self.layout;
        let mut dirs = vec![
            layout.own(),
            layout.counts(),
            layout.indexes(),
            layout.image(),
            layout.configs(),
            layout.parents(),
            layout.diffs_by_digest(),
            layout.blobs_by_diffs(),
        ];
        dirs.extend(files::names(&layout.containers())?.iter().map(|id| layout.container(id)));
        dirs.iter().try_for_each(|dir| files::sweep(dir))
    }
}

/// The root without symlinks in its path, as the kernel's list of mounts has it; where it is to be made, as it was given.
fn real(root: &Path) -> Result<PathBuf> {
    match root.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => std::path::absolute(root).doing("finding", root),
        real => real.doing("finding", root),
    }
}

/// Whether plyfs made the root; an error if somebody else did and it may not be changed.
fn is_ours(layout: &Layout, access: Access) -> Result<bool> {
    // In this order: another process may be making the store right now, the version first.
    let foreign = is_foreign(layout);
    let ours = check_version(layout)?;
    if foreign && !ours && access != Access::Adopt {
        return Err(Error::ReadOnly(layout.root().to_owned()));
    }
    Ok(ours)
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
    make_closed(&[
        layout.driver(),
        layout.diffs(),
        layout.parents(),
        layout.mounts(),
        layout.root().join("image"),
        layout.image(),
        layout.containers(),
    ])?;
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

fn make_closed(dirs: &[PathBuf]) -> Result<()> {
    for dir in dirs {
        match DirBuilder::new().mode(0o710).create(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.doing("making", dir)?,
        }
    }
    Ok(())
}
