//! Changes: what a layer adds, changes and deletes against an ancestor, in the time of the changes.

use std::path::PathBuf;

use plyfs_union::Union;
use plyfs_union::spec::Perm;

use super::{Driver, LayerId};
use crate::error::{Error, Result};

/// Docker's kinds and their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ChangeKind {
    /// There before, different now; of a directory also if anything in it is.
    Modify = 0,
    /// New.
    Add = 1,
    /// Gone.
    Delete = 2,
}

/// One line of `docker diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute within the union.
    pub path: PathBuf,
    /// What happened.
    pub kind: ChangeKind,
}

impl Driver {
    /// What `id` shows and `parent` does not, sorted by path, a directory before what is in it. `parent` is an ancestor of
    /// `id`, or `None` for nothing at all. Reads only the layers above `parent`, and of those below only what these touch.
    ///
    /// Docker's rules (moby `pkg/archive/changes.go`, `daemon/graphdriver/aufs`): a file of the layer is changed, whatever is
    /// in it; a directory is if its mode, owner, time (to the second) or anything in it is.
    pub fn changes(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Vec<Change>> {
        let union = self.union_against(id, parent)?;
        let mut changes = Vec::new();
        let mut each = |change: plyfs_union::Change| {
            let kind = match change.kind {
                plyfs_union::ChangeKind::Added => ChangeKind::Add,
                plyfs_union::ChangeKind::Changed => ChangeKind::Modify,
                plyfs_union::ChangeKind::Deleted => ChangeKind::Delete,
            };
            changes.push(Change { path: change.path, kind });
        };
        union
            .changes_and_times(&mut each)
            .map_err(|source| Error::Union { doing: "comparing layers", source })?;
        Ok(changes)
    }

    /// The union of `id` and its ancestors, not mounted, only to be looked at, in which everything above `parent` counts as
    /// written: what [`Union::changes`] tells of it is the difference of the two.
    pub fn union_against(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Union> {
        let parents = self.parents(id)?;
        let above = match parent {
            None => parents.len() + 1,
            Some(parent) => {
                parents.iter().position(|one| one == parent).map(|at| at + 1).ok_or_else(|| {
                    Error::Invalid(format!(
                        "layer {parent} is no ancestor of layer {id}: they cannot be compared"
                    ))
                })?
            }
        };
        let mut spec = self.spec(id, true)?;
        spec.look_only = true;
        for branch in spec.branches.iter_mut().take(above) {
            branch.perm = Perm::Rw;
            branch.wh = false;
        }
        Union::open(&spec).map_err(|source| Error::Union { doing: "opening the layers", source })
    }
}
