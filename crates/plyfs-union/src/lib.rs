//! The plyfs engine: AUFS union semantics over directories, without FUSE.
//!
//! Glossary (AUFS's and overlayfs' words): a *branch* is a member directory; branch 0 is on top. A *whiteout* hides a
//! name in the branches below; an *opaque* directory hides what lower directories of its name hold. *Copy-up* brings
//! an object from a read-only branch to a writable one. A *pseudo-link* (plink) keeps hard links together that span
//! branches. A *redirect* says where the lower part of a renamed directory is. *udba*: changes made directly in a
//! branch while it is mounted.
//!
//! Start at [`Union`]. What users may rely on is numbered in `docs/semantics.md`; the map is `docs/architecture.md`.
//! Lock order: `nodes.rs`.

mod act;
mod anchor;
pub mod attr;
mod branch;
mod changes;
mod cold;
mod copyup;
mod copyup_file;
mod error;
mod explain;
mod handles;
mod ids;
pub mod image;
mod index;
pub mod layer;
mod ledger;
mod look;
mod marks;
mod metacopy;
mod names;
mod nodes;
mod ops;
mod order;
mod passthrough;
mod perms;
mod plan;
mod plink;
mod policy;
mod resolve;
mod roots;
pub mod spec;
mod stale;
mod union;

pub use attr::*;
pub use changes::{Change, ChangeKind};
pub use cold::Cold;
pub use error::{Error, Refusal, Result};
pub use explain::{Explanation, Layer, LayerSays};
pub use metacopy::DataAt;
pub use passthrough::{Backings, Pages};
pub use stale::Stale;
pub use union::{BranchInfo, Union};
