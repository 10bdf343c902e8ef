//! Containers: what is known about each, and its two layers.
//!
//! A container is a directory `containers/<id>` with Docker's `config.v2.json` and `hostconfig.json` (of which plyfs writes
//! what it uses, and keeps what it does not know), and a record `layerdb/mounts/<id>` with the ids of its layers
//! (`mount-id`, `init-id`) and the chain they stand on (`parent`). Running it, its log, its terminal: `plyfs`.

mod layers;
mod model;
mod records;

pub use layers::ContainerLayers;
pub use model::{Config, Container, HostConfig, MountPoint, NEVER, State};
