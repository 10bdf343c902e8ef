//! The operations, one file each. What they share is in `union.rs`.

pub(crate) mod complete;
mod create;
mod getattr;
mod io;
mod leave;
mod link;
mod lookup;
mod open;
mod readdir;
pub(crate) mod remove;
mod rename;
mod setattr;
mod statfs;
mod xattr;
