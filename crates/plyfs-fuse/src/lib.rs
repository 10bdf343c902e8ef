//! The skin: FUSE messages to calls of the plyfs engine.
//!
//! Here lives: the one [`plyfs_wire::Filesystem`] of plyfs (`adapter`, with `setid` and `pruner` beside it), turning values of one side into values of
//! the other (`convert`), and a mounted union as one value, [`Session`], with the [`Teller`] of changes
//! made directly in its branches. Not here: any statement about union
//! semantics (`plyfs-union`), the protocol (`plyfs-wire`), option text (`plyfs_union::spec`).

mod adapter;
mod convert;
mod pruner;
mod session;
mod setid;
mod tell;
mod teller;

pub use plyfs_wire::{MountError, SessionError};
pub use session::{Server, Session, StartError, Unmounter, unmount};
pub use teller::{TellError, Teller};
