//! Running containers: what joins the store (layers, documents) with an OCI runtime, and keeps watch.
//!
//! Here lives: the documents of a new container ([`create`]), its `-init` layer, what it is run with ([`bundle`]), the
//! runtime ([`runtime`]), the process that watches it ([`monitor`]) and whoever looks on ([`attach`]). Not here: the
//! commands' own words (`commands::containers`), how containers are kept (`plyfs-store`).
//!
//! There is no daemon. A running container has one monitor, which holds the container's claim ([`Store::claim_container`]):
//! a container that is recorded as running and not claimed has lost its monitor, and is put in order by the next command
//! that looks at it ([`reconcile`]).
//!
//! [`Store::claim_container`]: plyfs_store::Store::claim_container

use std::path::PathBuf;

use plyfs_store::containers::ContainerLayers;
use plyfs_store::{ChainId, Store};
use plyfs_union::spec::MountSpec;

pub(crate) mod attach;
mod bundle;
pub(crate) mod create;
mod env;
mod etc;
pub(crate) mod image;
mod init_layer;
pub(crate) mod instructions;
pub(crate) mod json_log;
mod messages;
pub(crate) mod monitor;
mod names;
pub(crate) mod reconcile;
mod rootfs;
pub(crate) mod run_dir;
pub(crate) mod runtime;
mod user;
pub(crate) mod volumes;

/// The index of an image's tree, for those who look at it. Without one it is slower, not less.
pub(crate) fn image_index(store: &Store, top: Option<ChainId>) -> Option<PathBuf> {
    let made = store.image_index(&top?);
    made.inspect_err(|error| tracing::warn!("going without an image index: {error}")).ok()
}

/// How a container's files are mounted: set-user-id programs are what they are. `devices`, too: for who is kept from opening
/// any by a control group.
pub(crate) fn how_to_mount(
    store: &Store,
    layers: &ContainerLayers,
    devices: bool,
) -> impl Fn(&mut MountSpec) + use<> {
    let index = image_index(store, layers.parent);
    move |spec| {
        spec.kernel.nosuid = Some(false);
        spec.kernel.nodev = Some(!devices);
        spec.image_index.clone_from(&index);
    }
}
