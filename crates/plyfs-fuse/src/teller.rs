//! `Teller`: lets the engine look at branches that somebody changed, and tells the kernel what to forget.
//!
//! From the caller's thread, which must not be answering a request: the kernel waits for directories that requests
//! hold. Not here: what is stale ([`plyfs_union::Stale`]), noticing changes.

use std::path::Path;
use std::sync::Arc;

use plyfs_sys::SysError;
use plyfs_union::{Stale, Union};
use plyfs_wire::Notifier;

/// Why a change could not be taken in. What was changed may show as it was.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// The branches could not be read.
    #[error(transparent)]
    Union(#[from] plyfs_union::Error),
    /// The kernel could not be told.
    #[error("telling the kernel what changed: {0}")]
    Kernel(#[from] SysError),
}

/// See the module. Cloning is cheap; one may outlive its session, and then tells nobody.
#[derive(Debug, Clone)]
pub struct Teller {
    union: Arc<Union>,
    notifier: Notifier,
}

impl Teller {
    pub(crate) fn new(union: Arc<Union>, notifier: Notifier) -> Teller {
        Teller { union, notifier }
    }

    /// [`Union::branch_changed`], told to the kernel. When this returns, nobody sees the old state.
    pub fn branch_changed(&self, branch: usize, path: &Path) -> Result<(), TellError> {
        self.tell(&self.union.branch_changed(branch, path)?)
    }

    /// [`Union::refresh`], told to the kernel.
    pub fn refresh(&self) -> Result<(), TellError> {
        self.tell(&self.union.refresh()?)
    }

    fn tell(&self, stale: &[Stale]) -> Result<(), TellError> {
        for one in stale {
            // False: the kernel did not know it.
            match one {
                Stale::Entry { parent, name } => self.notifier.inval_entry(parent.0, name)?,
                Stale::Node { ino, data } => self.notifier.inval_inode(ino.0, *data)?,
            };
        }
        Ok(())
    }
}
