//! System calls for plyfs: directory-relative, typed, one error.
//!
//! Here lives: every system call and every `unsafe` of plyfs. Not here: anything that knows what a branch, a
//! whiteout or a FUSE message is. Errors say which call failed on what ([`SysError`]), printed like strace(1).
#![allow(unsafe_code, reason = "this crate is where unsafe lives; each block says why it is sound")]

pub mod channel;
pub mod cred;
pub mod dev;
pub mod dir;
pub mod error;
pub mod file;
pub mod fsinfo;
pub mod handle;
pub mod leaf;
pub mod mapped;
pub mod memory;
pub mod mounts;
pub mod obj;
pub mod process;
pub mod stat;
pub mod uring;
pub mod within;

pub use dir::{Access, Dir, RawEntry, RenameHow};
pub use error::{Errno, Result, SysError};
pub use leaf::Leaf;
pub use obj::{Obj, SetXattr};
pub use stat::{Dev, Kind, NewTime, Stat, Time};
pub use within::Links;
