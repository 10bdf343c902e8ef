//! Remove: away from everybody's eyes at once, deleted afterwards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Driver, LayerId, Mounter};
use crate::error::{Doing, Result};
use crate::layout::REMOVING;
use crate::{files, lock, tree};

impl Driver {
    /// Removes the layer; a missing one is removed already. It is unmounted first, whoever uses it (Docker's rule).
    ///
    /// The parents file goes first, so that the id no longer exists; then the directories get another name; then they
    /// are deleted. What a crash leaves of this is found by its name, or by the lack of a parents file.
    pub fn remove(&self, id: &LayerId, mounter: &dyn Mounter) -> Result<()> {
        self.need_writable()?;
        let id_lock = self.lock(id)?;
        self.unmount(id, mounter)?;
        let away = {
            let _lock = lock::exclusive(&self.layout.lock())?;
            files::remove_file(&self.layout.parents_of(id))?;
            [rename_away(&self.layout.diff(id))?, rename_away(&self.layout.mount(id))?]
        };
        files::remove_file(&self.count_file(id))?;
        drop(id_lock);
        away.iter().try_for_each(|dir| tree::remove(dir))
    }
}

/// The name under which a directory is deleted.
pub(super) fn removing(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(REMOVING);
    PathBuf::from(name)
}

/// Renames a directory to be deleted. A missing one is no error: an earlier attempt may have come so far.
pub(super) fn rename_away(dir: &Path) -> Result<PathBuf> {
    let away = removing(dir);
    match fs::rename(dir, &away) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // An attempt that was broken off, and then the same id made anew.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) =>
        {
            tree::remove(&away)?;
            fs::rename(dir, &away).doing("renaming to be deleted", dir)?;
        }
        renamed => renamed.doing("renaming to be deleted", dir)?,
    }
    Ok(away)
}
