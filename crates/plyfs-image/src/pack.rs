//! From directories and unions to layer archives, always the same bytes for the same content.
//!
//! Three forms: [`pack_dir`], a layer's directory as it stands; [`pack_changes`], what a union's writable branches
//! change (commit); [`pack_tree`], all that a union shows (export).

mod archive;
mod dir;
mod error;
pub(crate) mod object;
mod union;

pub use archive::Packed;
pub use dir::pack_dir;
pub use error::{Error, Result};
pub use union::{pack_changes, pack_tree};
