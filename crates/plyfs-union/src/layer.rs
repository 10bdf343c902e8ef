//! Layers as files (OCI layer.md, Docker's aufs driver): what the reserved words and marks of a branch mean to those
//! who unpack archives into branches and pack branches into archives.
//!
//! The words are spelled in `names.rs`, the marks in `marks.rs`. Not here: archives.

use plyfs_sys::{Dir, Errno, Leaf, Obj, SetXattr};

use crate::marks;
use crate::names::{self, WhiteoutName, Word};

/// What one component of a path in a layer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerWord {
    /// Something users may see.
    Plain,
    /// `.wh.NAME`: NAME is gone.
    Whiteout(Leaf),
    /// `.wh..wh..opq`: the directory is opaque.
    Opaque,
    /// `.wh..wh.plnk`: AUFS's directory of hard-link sources.
    Plinks,
    /// A whiteout of a name too long for the prefix, as plyfs keeps it on a branch: a symlink that holds the name.
    LongWhiteout,
    /// Another word of a branch's own: nothing of it belongs into an archive.
    Private,
    /// `.wh.`, `.wh..` and `.wh...`: a whiteout of no name, of the directory itself or of its parent.
    Bad,
}

/// Reads a component.
pub fn layer_word(leaf: &Leaf) -> LayerWord {
    match names::word(leaf) {
        Word::Plain => LayerWord::Plain,
        Word::Whiteout(name) => LayerWord::Whiteout(name),
        Word::Opaque => LayerWord::Opaque,
        Word::LongWhiteout => LayerWord::LongWhiteout,
        Word::Private if *leaf == names::plink_dir() => LayerWord::Plinks,
        Word::Private if names::is_bad(leaf) => LayerWord::Bad,
        Word::Private => LayerWord::Private,
    }
}

/// The name under which an archive says that `name` is gone: `.wh.NAME`, however long.
pub fn whiteout_in_archive(name: &Leaf) -> Vec<u8> {
    names::whiteout_text(name)
}

/// The name under which an archive says that a directory is opaque.
pub fn opaque_in_archive() -> Leaf {
    names::opaque_mark()
}

/// How a branch keeps the whiteout of `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhiteoutOnBranch {
    /// An empty regular file of this name.
    File(Leaf),
    /// A symlink of this name that holds the whole name.
    Symlink(Leaf),
}

/// How a branch keeps the whiteout of `name`.
pub fn whiteout_on_branch(name: &Leaf) -> WhiteoutOnBranch {
    match names::whiteout_of(name) {
        WhiteoutName::File(leaf) => WhiteoutOnBranch::File(leaf),
        WhiteoutName::Long(leaf) => WhiteoutOnBranch::Symlink(leaf),
    }
}

/// A name for what is under way: never visible, harmless when left behind.
pub fn temp_name() -> Leaf {
    names::temp()
}

/// xattrs by which other tools keep owners and modes that they could not set (Podman's `mount_program` contract).
const FOREIGN: [&str; 1] = ["user.containers.override_stat"];

/// Would this xattr change what a union shows? Such are neither taken from archives nor put into them.
pub fn is_mark_xattr(name: &[u8]) -> bool {
    marks::is_hidden_xattr(name) || FOREIGN.iter().any(|mark| mark.as_bytes() == name)
}

/// Does this xattr make an object's meaning depend on the branches below: redirects, copies of metadata alone, opaque
/// marks that are no files?
pub fn needs_branches_below(name: &[u8]) -> bool {
    let last = name.rsplit(|&byte| byte == b'.').next().unwrap_or(name);
    marks::is_hidden_xattr(name) && [&b"redirect"[..], b"data", b"metacopy", b"opaque"].contains(&last)
}

/// Is the character device 0/0 `leaf` a device, not a whiteout of overlayfs?
pub fn is_device(dir: &Dir, leaf: &Leaf) -> crate::Result<bool> {
    Ok(!marks::is_whiteout_device(dir, leaf)?)
}

/// Says of the character device 0/0 `leaf` that it is a device and no whiteout of overlayfs. `Ok(false)` where the
/// filesystem or our privileges do not let us: then it must not stay.
pub fn mark_device(dir: &Dir, leaf: &Leaf) -> plyfs_sys::Result<bool> {
    for name in marks::device_marks() {
        match Obj::At(dir, leaf).set_xattr(&name, b"1", SetXattr::Any) {
            Ok(()) => return Ok(true),
            Err(e) if matches!(e.errno(), Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_layer() {
        let leaf = |text: &str| Leaf::from_bytes(text.as_bytes()).unwrap();
        let check = |name: &str, want: LayerWord| assert_eq!(layer_word(&leaf(name)), want, "{name}");
        check("a", LayerWord::Plain);
        check(".wh", LayerWord::Plain);
        check(".wh.a", LayerWord::Whiteout(leaf("a")));
        check(".wh....", LayerWord::Whiteout(leaf("...")));
        check(".wh..wh..opq", LayerWord::Opaque);
        check(".wh..wh.plnk", LayerWord::Plinks);
        check(".wh..wh.plnk2", LayerWord::Private);
        check(".wh..wh.aufs", LayerWord::Private);
        check(".wh..wh..plyfs.1", LayerWord::Private);
        check(".wh..wh..long.0", LayerWord::LongWhiteout);
        check(".wh.", LayerWord::Bad);
        check(".wh..", LayerWord::Bad);
        check(".wh...", LayerWord::Bad);
    }

    #[test]
    fn marks_of_every_union() {
        for mark in [
            "trusted.plyfs.redirect",
            "user.plyfs.x",
            "trusted.overlay.opaque",
            "user.overlay.metacopy",
            "user.fuseoverlayfs.opaque",
            "user.containers.override_stat",
        ] {
            assert!(is_mark_xattr(mark.as_bytes()), "{mark}");
        }
        for other in ["user.plyfs", "security.capability", "user.containers", "trusted.other"] {
            assert!(!is_mark_xattr(other.as_bytes()), "{other}");
        }
    }
}
