//! Create and CreateReadWrite: a new, empty layer.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use super::{Driver, LayerId};
use crate::error::{Doing, Error, Result};
use crate::{files, lock};

impl Driver {
    /// Makes an empty layer over `parent`. Docker's Create and CreateReadWrite are the same for this driver; there is no
    /// storage option.
    pub fn create(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<()> {
        self.need_writable()?;
        let _lock = lock::exclusive(&self.layout.lock())?;
        let ancestors = match parent {
            Some(parent) => self.line_of(parent)?,
            None => String::new(),
        };
        if self.exists(id) {
            return Err(Error::Exists { kind: "layer", name: id.to_string(), by: None });
        }
        for (dir, mode) in [(self.layout.mount(id), 0o755), (self.layout.diff(id), 0o755)] {
            make(&dir, mode)?;
        }
        // Last: with it the layer exists. What a crash leaves without it is removed when the store is opened.
        files::write_atomic(&self.layout.parents_of(id), ancestors.as_bytes())
    }

    /// Puts a layer that nobody uses yet over another parent (containerd's "rebase").
    pub(crate) fn set_parent(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<()> {
        self.need_writable()?;
        let ancestors = parent.map(|parent| self.line_of(parent)).transpose()?.unwrap_or_default();
        files::write_atomic(&self.layout.parents_of(id), ancestors.as_bytes())
    }

    /// The parents file of a child of `parent`.
    fn line_of(&self, parent: &LayerId) -> Result<String> {
        let above = self.parents(parent).map_err(|error| match error {
            Error::NotFound { name, .. } => Error::not_found("parent layer", name),
            error => error,
        })?;
        if above.len() + 1 > MAX_ANCESTORS {
            return Err(Error::TooDeep(above.len() + 1, MAX_ANCESTORS));
        }
        Ok(std::iter::once(parent).chain(&above).map(|id| format!("{id}\n")).collect())
    }
}

/// Ancestors of one layer: AUFS' 127 branches, one of them the layer itself. (Docker's tests stack 127.)
const MAX_ANCESTORS: usize = 126;

/// Exactly this mode, whatever the umask; what an earlier failure left under the name is taken over if it is empty.
fn make(dir: &std::path::Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_dir(dir).doing("removing what was left at", dir)?;
            DirBuilder::new().mode(mode).create(dir).doing("making", dir)?;
        }
        made => made.doing("making", dir)?,
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).doing("changing the mode of", dir)
}
