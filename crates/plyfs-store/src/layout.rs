//! Where everything lies under a store's root. Pure: no I/O.
//!
//! `aufs/`, `image/` and `containers/` are Docker's (engines' knowledge: moby `daemon/graphdriver/aufs`, `layer/filestore.go`,
//! `image/fs.go`, `reference/store.go`, `distribution/metadata`); `plyfs/` is ours. `docs/store.md` explains each file.

use std::path::{Path, PathBuf};

use crate::driver::LayerId;
use crate::id::{ChainId, DiffId, Digest, ImageId};

/// Suffix of what is on its way out (Docker's).
pub const REMOVING: &str = "-removing";

/// Paths under one root.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Under `root` (absolute).
    pub fn new(root: impl Into<PathBuf>) -> Layout {
        Layout { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The driver's root, `aufs`.
    pub fn driver(&self) -> PathBuf {
        self.root.join("aufs")
    }

    /// All contents.
    pub fn diffs(&self) -> PathBuf {
        self.driver().join("diff")
    }

    /// All parents files.
    pub fn parents(&self) -> PathBuf {
        self.driver().join("layers")
    }

    /// All mount points.
    pub fn mounts(&self) -> PathBuf {
        self.driver().join("mnt")
    }

    /// A layer's contents.
    pub fn diff(&self, id: &LayerId) -> PathBuf {
        self.diffs().join(id.as_str())
    }

    /// A layer's ancestors, nearest first, one id per line.
    pub fn parents_of(&self, id: &LayerId) -> PathBuf {
        self.parents().join(id.as_str())
    }

    /// A layer's mount point.
    pub fn mount(&self, id: &LayerId) -> PathBuf {
        self.mounts().join(id.as_str())
    }

    /// Docker's metadata.
    pub fn image(&self) -> PathBuf {
        self.root.join("image/aufs")
    }

    /// Layers by chain ID.
    pub fn chains(&self) -> PathBuf {
        self.image().join("layerdb/sha256")
    }

    /// One layer's record: `cache-id`, `diff`, `parent`, `size`, `tar-split.json.gz`.
    pub fn chain(&self, chain: &ChainId) -> PathBuf {
        self.chains().join(chain.0.hex())
    }

    /// Where records of layers are written before they appear.
    pub fn chains_tmp(&self) -> PathBuf {
        self.image().join("layerdb/tmp")
    }

    /// Containers' layers.
    pub fn container_layers(&self) -> PathBuf {
        self.image().join("layerdb/mounts")
    }

    /// One container's layers: `mount-id`, `init-id`, `parent`.
    pub fn container_layer(&self, container: &str) -> PathBuf {
        self.container_layers().join(container)
    }

    /// Config documents by image id.
    pub fn configs(&self) -> PathBuf {
        self.image().join("imagedb/content/sha256")
    }

    /// One config document.
    pub fn config(&self, image: &ImageId) -> PathBuf {
        self.configs().join(image.0.hex())
    }

    /// What is known about an image beside its config: `parent`, `lastUpdated`.
    pub fn image_metadata(&self, image: &ImageId) -> PathBuf {
        self.image().join("imagedb/metadata/sha256").join(image.0.hex())
    }

    /// Tags and digests.
    pub fn repositories(&self) -> PathBuf {
        self.image().join("repositories.json")
    }

    /// The diff IDs of blobs.
    pub fn diffs_by_digest(&self) -> PathBuf {
        self.image().join("distribution/diffid-by-digest/sha256")
    }

    /// The diff ID of a blob that was unpacked once.
    pub fn diff_by_digest(&self, digest: &Digest) -> PathBuf {
        self.diffs_by_digest().join(digest.hex())
    }

    /// The blobs of diff IDs.
    pub fn blobs_by_diffs(&self) -> PathBuf {
        self.image().join("distribution/v2metadata-by-diffid/sha256")
    }

    /// The blobs that unpack to a diff ID, and where they came from.
    pub fn blobs_by_diff(&self, diff: &DiffId) -> PathBuf {
        self.blobs_by_diffs().join(diff.0.hex())
    }

    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// One container.
    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// One volume; its files are in `_data` below it.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    /// What is plyfs' own.
    pub fn own(&self) -> PathBuf {
        self.root.join("plyfs")
    }

    /// The format's version; a root without it was not made by plyfs.
    pub fn version(&self) -> PathBuf {
        self.own().join("version")
    }

    /// The lock of the metadata.
    pub fn lock(&self) -> PathBuf {
        self.own().join("lock")
    }

    /// Work in progress.
    pub fn intents(&self) -> PathBuf {
        self.own().join("intents")
    }

    /// How often a layer is mounted.
    pub fn counts(&self) -> PathBuf {
        self.own().join("counts")
    }

    /// Blobs on their way from a registry, kept so that a broken download goes on.
    pub fn downloads(&self) -> PathBuf {
        self.own().join("downloads")
    }

    /// Image indexes by chain ID.
    pub fn indexes(&self) -> PathBuf {
        self.own().join("index")
    }

    /// The image index of one chain.
    pub fn index(&self, chain: &ChainId) -> PathBuf {
        self.indexes().join(chain.0.hex())
    }
}
