//! Images: from registries and archives into a store, and out again.
//!
//! Here live references, registries, archives, manifests, unpacking and packing of layers, and the operations that people
//! ask for (pull, load, save, list, remove, tag, history, inspect, commit). Not here: where things lie on disk
//! (`plyfs-store`), mounts and words on the terminal (`plyfs`).
//!
//! Rules that hold throughout: content is verified before anybody can see it, nothing from outside is trusted with a path,
//! and an operation that fails leaves the store as it was (its intent is undone).

mod archive;
mod commit;
pub mod compress;
pub mod config;
pub mod digest;
mod distribution;
mod download;
mod error;
mod fill;
pub mod images;
pub mod inspect;
mod layers;
pub mod limits;
pub mod load;
pub mod manifest;
pub mod pack;
pub mod platform;
pub mod progress;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod save;
pub mod tarsplit;
pub mod unpack;
mod work;

pub use commit::commit;
pub use error::{Error, Result};
pub use inspect::{history, inspect};
pub use reference::Reference;
pub use work::Work;
