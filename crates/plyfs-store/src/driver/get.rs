//! Get and Put: a layer's union, mounted as long as somebody uses it, counted across processes.
//!
//! The count is a file under `plyfs/counts`, read and written under the layer's lock. A mount that is gone (a reboot) or
//! dead (its server was killed) makes any count zero; a mount without a count (Docker's live restore) counts as one use.

use std::path::{Path, PathBuf};

use plyfs_sys::{Errno, mounts};
use plyfs_union::spec::MountSpec;

use super::{Driver, LayerId};
use crate::error::{Doing, Error, Result};
use crate::files;

/// Why a mounter failed.
pub type MountError = Box<dyn std::error::Error + Send + Sync>;

/// Who mounts for the store.
pub trait Mounter {
    /// Mounts `spec` on the directory `target`; usable when it returns.
    fn mount(&self, spec: &MountSpec, target: &Path) -> std::result::Result<(), MountError>;

    /// Unmounts `target`; when it returns, all that was written is on the branches and their claims are free. Busy
    /// mounts are detached.
    fn unmount(&self, target: &Path) -> std::result::Result<(), MountError>;
}

/// One use of a layer, given back when dropped (with a warning if that fails; [`MountGuard::put`] tells).
pub struct MountGuard<'a> {
    driver: &'a Driver,
    mounter: &'a dyn Mounter,
    id: LayerId,
    path: PathBuf,
    held: bool,
}

impl std::fmt::Debug for MountGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountGuard").field("id", &self.id).field("path", &self.path).finish_non_exhaustive()
    }
}

impl MountGuard<'_> {
    /// Where it is to be seen.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it back.
    pub fn put(mut self) -> Result<()> {
        self.held = false;
        self.driver.put(&self.id, self.mounter)
    }

    /// Keeps the use: another process will give it back.
    pub fn keep(mut self) -> PathBuf {
        self.held = false;
        std::mem::take(&mut self.path)
    }
}

impl Drop for MountGuard<'_> {
    fn drop(&mut self) {
        if self.held
            && let Err(error) = self.driver.put(&self.id, self.mounter)
        {
            tracing::warn!("giving back layer {}: {error}", self.id);
        }
    }
}

impl Driver {
    /// Makes the layer's union visible and counts one more use. A layer without parents is its own directory and is never
    /// mounted. `change` has the last word on how it is mounted, if it is.
    pub fn get_with(
        &self,
        id: &LayerId,
        mounter: &dyn Mounter,
        change: &dyn Fn(&mut MountSpec),
    ) -> Result<PathBuf> {
        self.need_writable()?;
        let _lock = self.lock(id)?.ok_or_else(|| Error::not_found("layer", id))?;
        if self.parents(id)?.is_empty() {
            return Ok(self.layout.diff(id));
        }
        let target = self.layout.mount(id);
        let (count, mounted) = self.uses(id, mounter)?;
        if !mounted {
            let mut spec = self.spec(id, true)?;
            change(&mut spec);
            mounter.mount(&spec, &target).map_err(|source| Error::Mount { id: id.to_string(), source })?;
        }
        let counted = self.set_count(id, if mounted { count + 1 } else { 1 });
        if counted.is_err() && !mounted {
            mounter.unmount(&target).map_err(|source| Error::Mount { id: id.to_string(), source })?;
        }
        counted.map(|()| target)
    }

    /// As [`Driver::get_with`], mounted as the driver says, given back when the guard goes.
    pub fn get<'a>(&'a self, id: &LayerId, mounter: &'a dyn Mounter) -> Result<MountGuard<'a>> {
        let path = self.get_with(id, mounter, &|_| {})?;
        Ok(MountGuard { driver: self, mounter, id: id.clone(), path, held: true })
    }

    /// How many Gets have not been given back; to look only.
    pub fn use_count(&self, id: &LayerId) -> Result<u32> {
        if !self.is_mounted(id)? {
            return Ok(0);
        }
        let path = self.count_file(id);
        match files::read_text(&path)? {
            Some(text) => text.parse().map_err(|error| Error::corrupt(&path, error)),
            None => Ok(1),
        }
    }

    /// One use less; the last unmounts. Without a Get it is harmless.
    pub fn put(&self, id: &LayerId, mounter: &dyn Mounter) -> Result<()> {
        self.need_writable()?;
        let Some(_lock) = self.lock(id)? else { return Ok(()) };
        let (count, mounted) = self.uses(id, mounter)?;
        if count > 1 {
            return self.set_count(id, count - 1);
        }
        if mounted {
            self.unmount(id, mounter)?;
        }
        files::remove_file(&self.count_file(id))
    }

    /// Unmounts whatever the count says, and forgets the count: what its user left when it died.
    pub fn release(&self, id: &LayerId, mounter: &dyn Mounter) -> Result<()> {
        self.need_writable()?;
        let Some(_lock) = self.lock(id)? else { return Ok(()) };
        self.unmount(id, mounter)?;
        files::remove_file(&self.count_file(id))
    }

    /// Is the layer's union mounted?
    pub fn is_mounted(&self, id: &LayerId) -> Result<bool> {
        let target = self.layout.mount(id);
        mounts::is_mount_point(&target).doing("asking whether something is mounted on", &target)
    }

    /// Docker's Cleanup: unmounts everything below `mnt/`. What fails is told, and does not keep the others.
    pub fn cleanup(&self, mounter: &dyn Mounter) -> Result<Vec<Error>> {
        let mut failed = Vec::new();
        let below = self.layout.mounts();
        for mount in mounts::list().doing("listing what is mounted below", &below)? {
            let place = mount.mount_point;
            if place.parent() != Some(below.as_path()) {
                continue;
            }
            let Some(id) = place.file_name().and_then(|name| LayerId::parse(&name.to_string_lossy()).ok())
            else {
                continue;
            };
            // A layer that does not exist can't be used by anybody.
            let done = if self.exists(&id) { self.release(&id, mounter) } else { self.unmount(&id, mounter) };
            failed.extend(done.err());
        }
        Ok(failed)
    }

    pub(super) fn unmount(&self, id: &LayerId, mounter: &dyn Mounter) -> Result<()> {
        let target = self.layout.mount(id);
        // Several may lie on each other after a crash.
        while self.is_mounted(id)? {
            mounter.unmount(&target).map_err(|source| Error::Mount { id: id.to_string(), source })?;
        }
        Ok(())
    }

    /// How often the layer is in use, and whether it is mounted. A dead mount is taken away.
    fn uses(&self, id: &LayerId, mounter: &dyn Mounter) -> Result<(u32, bool)> {
        if !self.is_mounted(id)? {
            return Ok((0, false));
        }
        if is_dead(&self.layout.mount(id)) {
            tracing::warn!("the server of layer {id} has died: unmounting it");
            self.unmount(id, mounter)?;
            return Ok((0, false));
        }
        Ok((self.use_count(id)?, true))
    }

    pub(super) fn count_file(&self, id: &LayerId) -> PathBuf {
        self.layout.counts().join(id.as_str())
    }

    /// No fsync: a count is worth nothing after a power cut. Whole all the same: we may be killed.
    fn set_count(&self, id: &LayerId, count: u32) -> Result<()> {
        files::write_atomic_unsynced(&self.count_file(id), count.to_string().as_bytes())
    }
}

/// A FUSE mount whose server has gone. statfs(2) always asks the server; stat(2) may answer from the kernel's memory.
fn is_dead(target: &Path) -> bool {
    let asked = plyfs_sys::Dir::open(target).and_then(|dir| plyfs_sys::fsinfo::of(&dir));
    asked.is_err_and(|error| matches!(error.errno(), Errno::NOTCONN | Errno::CONNABORTED))
}
