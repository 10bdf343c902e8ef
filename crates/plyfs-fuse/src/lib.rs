//! The skin: FUSE messages to calls of the plyfs engine.
//!
//! Here lives: the one [`plyfs_wire::Filesystem`] of plyfs (`adapter`, with `setid` beside it), turning values of one side into values of
//! the other (`convert`), and a mounted union as one value, [`Session`]. Not here: any statement about union
//! semantics (`plyfs-union`), the protocol (`plyfs-wire`), option text (`plyfs_union::spec`).

mod adapter;
mod convert;
mod session;
mod setid;
mod tell;

pub use plyfs_wire::{MountError, SessionError};
pub use session::{Session, StartError, Unmounter, unmount};
