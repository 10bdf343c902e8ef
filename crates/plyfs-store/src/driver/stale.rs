//! What crashes left of creating and removing: taken away when the store is opened for writing.

use super::remove::rename_away;
use super::{Driver, LayerId};
use crate::error::Result;
use crate::layout::REMOVING;
use crate::{files, lock, tree};

impl Driver {
    /// Deletes every `-removing` directory, and every directory below `diff/` and `mnt/` without a parents file. Docker does
    /// the first at each start; the second it never did, which is how its users lost space. What cannot be deleted is told
    /// (as Docker does), and keeps nobody from using the store.
    pub(crate) fn remove_stale(&self) -> Result<()> {
        self.need_writable()?;
        let mut away = Vec::new();
        {
            let _lock = lock::exclusive(&self.layout.lock())?;
            for dir in [self.layout.diffs(), self.layout.mounts()] {
                for name in files::names(&dir)? {
                    let path = dir.join(&name);
                    if name.ends_with(REMOVING) {
                        away.push(path);
                    } else if LayerId::parse(&name).is_ok_and(|id| !self.exists(&id)) && !is_mounted(&path) {
                        away.push(rename_away(&path)?);
                    }
                }
            }
            for name in files::names(&self.layout.counts())? {
                if LayerId::parse(&name).is_ok_and(|id| !self.exists(&id)) {
                    files::remove_file(&self.layout.counts().join(name))?;
                }
            }
        }
        for dir in away {
            if let Err(error) = tree::remove(&dir) {
                tracing::warn!("{error}");
            }
        }
        Ok(())
    }
}

/// A mount point under a layer that does not exist is left to a person.
fn is_mounted(path: &std::path::Path) -> bool {
    plyfs_sys::mounts::is_mount_point(path).unwrap_or(true)
}
