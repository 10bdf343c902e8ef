//! The image index: the merged tree of immutable lower branches in one file (design D6).
//!
//! A container's mount is a writable branch, perhaps an `-init` layer, and the image: read-only layers that never change.
//! What those layers merge to is always the same, so it is worked out once, when the image is imported, and kept in a
//! file. Mounts map that file and ask no layer directory for names and attributes; all mounts of one image share its
//! pages.
//!
//! - `format.rs`: what lies where in the file. `tree.rs`: reading it, every access checked; nothing is believed.
//! - `stamp.rs`: which layers the file speaks of, and whether a stack ends with them.
//! - `build.rs`: writes it, from a union of the layers: the rules of merging are those of `look.rs` and `resolve.rs`, and
//!   in no second place. `verify.rs`: compares it with the layers.
//! - `attach.rs`: the part of an opened stack that is known from it. `known.rs`: the one place where attributes come from
//!   it instead of a branch.
//!
//! What is kept is what `look.rs` would find: of each name every layer's say, whiteouts too, so that operations on the
//! branches above decide the same with and without it. Never kept: contents, values of xattrs.

mod attach;
mod build;
mod format;
mod known;
mod stamp;
#[cfg(test)]
mod tests;
mod tree;
mod verify;

pub(crate) use attach::Image;
pub use build::{Built, build};
pub(crate) use known::Sight;
pub use verify::{Difference, verify};

use std::path::{Path, PathBuf};

use plyfs_sys::mapped::Mapped;

use crate::branch::Stack;
use crate::error::{Error, Result};

/// The number of a merged directory in an image index.
pub(crate) type Record = u32;

/// An opened image index.
#[derive(Debug)]
pub struct ImageIndex {
    path: PathBuf,
    map: Mapped,
    /// Checked against the file's size when it was opened.
    layout: format::Layout,
}

impl ImageIndex {
    /// Maps the file and checks its header and the list of its layers; constant work, whatever its size. An error says why
    /// the file can't be used: it is no index, of another version, damaged.
    pub fn open(path: &Path) -> Result<ImageIndex> {
        let map = Mapped::open(path)?;
        let layout = format::Layout::read(map.bytes()).map_err(|why| unfit(path, why))?;
        Ok(ImageIndex { path: path.to_owned(), map, layout })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file and compares it with its checksums.
    fn check_sums(&self) -> Result<()> {
        self.layout.check_sums(self.map.bytes()).map_err(|why| unfit(&self.path, why))
    }

    /// Reads the whole file: its checksums, and everything in it from the root down. Gives the number of names.
    pub fn check(&self) -> Result<u64> {
        self.check_sums()?;
        survey(self.map.bytes()).map_err(|why| unfit(&self.path, why))
    }

    /// The layers it was built from, as they were called then, top first.
    pub fn layers(&self) -> Result<Vec<PathBuf>> {
        stamp::names(self.tree()).ok_or_else(|| unfit(&self.path, "the list of layers is damaged"))
    }

    fn tree(&self) -> tree::Tree<'_> {
        tree::Tree::new(self.map.bytes(), &self.layout)
    }
}

/// Would a mount whose lowest branches are `layers` (top first) use this index? The error says why not; then it is to
/// be built. Touches the layers' roots alone.
pub fn fits(index: &Path, layers: &[PathBuf]) -> Result<()> {
    let index = ImageIndex::open(index)?;
    let stack = Stack::open(&build::to_look_at(layers))?;
    match stamp::first_covered(index.tree(), &stack.branches) {
        Ok(0) => Ok(()),
        Ok(first) => Err(unfit(&index.path, format!("it is not of the first {first} of these layers"))),
        Err(why) => Err(unfit(&index.path, why)),
    }
}

/// Reads an index that is in memory, from the root down: all that a mount could ever read of it, but no checksums of
/// content. Gives the number of names, or what is wrong.
pub fn survey(bytes: &[u8]) -> std::result::Result<u64, String> {
    let layout = format::Layout::read(bytes)?;
    let tree = tree::Tree::new(bytes, &layout);
    stamp::names(tree).ok_or("the list of layers is damaged")?;
    let root = tree.folder(0).ok_or("there is no root directory")?;
    let mut names = 0;
    let mut todo = vec![root];
    while let Some(folder) = todo.pop() {
        let damaged = || format!("directory {} is damaged", folder.number);
        folder.places().ok_or_else(damaged)?;
        folder.entry().and_then(tree::Entry::layer).ok_or_else(damaged)?;
        for number in 0..folder.names() {
            let entry = folder.name(number).ok_or_else(damaged)?;
            let leaf = entry.leaf().ok_or_else(damaged)?;
            entry.seen(0).ok_or_else(damaged)?;
            folder.find(leaf.as_bytes()).ok_or_else(|| format!("name {leaf:?} is not in its place"))?;
            if let Some(kind) = entry.kind() {
                entry.stat(plyfs_sys::Dev::default()).and(entry.layer()).ok_or_else(damaged)?;
                if kind == plyfs_sys::Kind::Symlink {
                    entry.target().ok_or_else(damaged)?;
                }
            }
            todo.extend(folder.child(entry));
            names += 1;
        }
    }
    Ok(names)
}

fn unfit(path: &Path, why: impl Into<String>) -> Error {
    Error::ImageIndex { path: path.to_owned(), why: why.into() }
}
