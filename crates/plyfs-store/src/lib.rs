//! The layer store: Docker's AUFS driver (`diff/`, `layers/`, `mnt/`) and the metadata above it.
//!
//! A *layer* is a directory `aufs/diff/<id>` under a random id; what it contains is known by its *diff ID* (sha256 of its
//! uncompressed archive), and a stack of layers by its *chain ID* (OCI image-spec, config.md). An *image* is a config
//! document, known by its own sha256, that names a list of diff IDs. A *container* owns two layers over an image's top
//! one: `<id>-init` and `<id>`, the only one that is written.
//!
//! Everything on disk is in Docker's own format (`<= 23`), so that a data root that Docker wrote opens in place; what is
//! plyfs' own lies in `plyfs/`. `docs/store.md` describes both. Rules that hold throughout:
//!
//! - The store never mounts: [`Driver::get`] asks a [`Mounter`], which the program supplies.
//! - No daemon. Any number of processes use a store at once: short changes of metadata are made under one lock
//!   (`lock.rs`), long work (unpacking, running) under an *intent* ([`intent`]) whose owner is alive as long as its file is
//!   locked. Whoever opens the store writable finishes or undoes what a dead owner left.
//! - A file of metadata is replaced whole (temporary name, fsync, rename); a directory of metadata appears whole (written
//!   elsewhere, fsync, rename).
//!
//! Not here: archives and registries (`plyfs-image`), mounts and processes (`plyfs`).

pub mod check;
pub mod containers;
mod driver;
mod error;
mod files;
pub mod id;
pub mod images;
mod index;
pub mod info;
pub mod intent;
pub mod layers;
pub mod layout;
mod lock;
mod prune;
mod size;
mod store;
pub mod tags;
mod tree;
mod volumes;

pub use driver::{Change, ChangeKind, Driver, LayerId, MAX_LAYERS, MountError, MountGuard, Mounter, Status};
pub use error::{Error, Result};
pub use files::write_atomic;
pub use id::{ChainId, DiffId, Digest, ImageId};
pub use prune::Pruned;
pub use store::{Access, Store};
