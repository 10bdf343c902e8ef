//! The graph driver: layers on disk under random ids, as Docker's AUFS driver kept them (`daemon/graphdriver/aufs`).
//!
//! Here lives the directory triple `diff/<id>`, `layers/<id>`, `mnt/<id>` and its operations, one per file below. The driver
//! knows nothing of images, containers or archives; who refers to a layer is the caller's business. Diff and ApplyDiff
//! are archives: `plyfs-image`.
//!
//! Locks: the id's own lock (flock on `layers/<id>`) before the store's; never an id's lock under the store's.

mod changes;
mod create;
mod get;
mod remove;
mod stale;
mod status;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use plyfs_union::spec::{BranchSpec, MountSpec, Perm, Udba};

pub use changes::{Change, ChangeKind};
pub use get::{MountError, MountGuard, Mounter};
pub use status::Status;
pub(crate) use status::backing;

use crate::error::{Error, Result};
use crate::files;
use crate::layout::{Layout, REMOVING};
use crate::lock;

/// Layers under a container's writable one (Docker's layer store: AUFS' 127 branches minus `-init` and the writable one).
pub const MAX_LAYERS: usize = 125;

/// The name of a layer on disk: 64 random hexadecimal digits, or such a name and `-init`. Says nothing about contents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(String);

impl LayerId {
    /// A new name.
    pub fn random() -> Result<LayerId> {
        files::random_hex::<32>().map(LayerId)
    }

    /// A name as others give it: letters, digits, `_`, `.`, `-`, not beginning with `.`; it becomes a file's name.
    pub fn parse(text: &str) -> Result<LayerId> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
        let good = !text.is_empty()
            && text.len() <= 200
            && text.bytes().all(fits)
            && !text.starts_with('.')
            && !text.ends_with(REMOVING);
        good.then(|| LayerId(text.to_owned()))
            .ok_or_else(|| Error::Invalid(format!("{text:?} is no layer id")))
    }

    /// The id of the layer between an image and this container layer.
    pub fn init(&self) -> LayerId {
        LayerId(format!("{}-init", self.0))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The driver of one root.
#[derive(Debug, Clone)]
pub struct Driver {
    layout: Layout,
    writable: bool,
}

impl Driver {
    /// The driver's name in Docker's words.
    pub const NAME: &'static str = "aufs";

    pub(crate) fn new(layout: Layout, writable: bool) -> Driver {
        Driver { layout, writable }
    }

    /// Is there such a layer?
    pub fn exists(&self, id: &LayerId) -> bool {
        self.layout.parents_of(id).symlink_metadata().is_ok()
    }

    /// Docker's GetMetadata: the AUFS driver had none.
    pub fn metadata(&self, _id: &LayerId) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The layer's own contents.
    pub fn diff_dir(&self, id: &LayerId) -> PathBuf {
        self.layout.diff(id)
    }

    /// Where the layer's union is mounted.
    pub fn mount_dir(&self, id: &LayerId) -> PathBuf {
        self.layout.mount(id)
    }

    /// The layer's ancestors, nearest first.
    pub fn parents(&self, id: &LayerId) -> Result<Vec<LayerId>> {
        let path = self.layout.parents_of(id);
        let text = files::read_text(&path)?.ok_or_else(|| Error::not_found("layer", id))?;
        let parse = |line: &str| LayerId::parse(line).map_err(|error| Error::corrupt(&path, error));
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(parse).collect()
    }

    /// What the union of a layer and its ancestors is mounted as: the layer itself writable or not, the others
    /// read-only with their whiteouts honoured (Docker: `br:ID=rw:PARENT=ro+wh:...`). The layers are the store's alone, so
    /// that nothing has to be looked at twice.
    pub fn spec(&self, id: &LayerId, writable: bool) -> Result<MountSpec> {
        let top = if writable { Perm::Rw } else { Perm::Ro };
        let mut branches = vec![BranchSpec::new(self.layout.diff(id), top).with_wh()];
        let lower = |id: LayerId| BranchSpec::new(self.layout.diff(&id), Perm::Ro).with_wh();
        branches.extend(self.parents(id)?.into_iter().map(lower));
        Ok(MountSpec { branches, udba: Udba::None, source: Some("none".into()), ..MountSpec::default() })
    }

    /// Bytes of the layer's own contents: apparent sizes of files, hard links once, directories not counted.
    pub fn diff_size(&self, id: &LayerId) -> Result<u64> {
        if !self.exists(id) {
            return Err(Error::not_found("layer", id));
        }
        crate::size::apparent_size(&self.layout.diff(id))
    }

    /// Every layer there is.
    pub fn layers(&self) -> Result<Vec<LayerId>> {
        let names = files::names(&self.layout.parents())?;
        Ok(names.iter().filter_map(|name| LayerId::parse(name).ok()).collect())
    }

    fn need_writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(Error::ReadOnly(self.layout.root().to_owned())) }
    }

    /// Keeps others from mounting, unmounting and removing the layer; `None` if there is no such layer.
    fn lock(&self, id: &LayerId) -> Result<Option<File>> {
        lock::exclusive_if_there(&self.layout.parents_of(id))
    }

    /// The path by which others see it: for messages.
    fn root(&self) -> &Path {
        self.layout.root()
    }
}
