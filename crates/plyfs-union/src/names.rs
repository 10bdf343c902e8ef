//! Names: which words users may use, and the reserved words on a branch (aufs.5, "Reserved names"; OCI layer.md).
//!
//! The only file in which reserved words are spelled. How whiteouts are made and recognised: `marks.rs`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use plyfs_sys::Leaf;

/// Every reserved word begins so; `.wh.NAME` hides NAME in the branches below.
const PREFIX: &[u8] = b".wh.";
/// Private words of a branch: never visible, never believed when unpacked from a layer.
const PRIVATE: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const BASE: &[u8] = b".wh..wh.aufs";
const PLINKS: &[u8] = b".wh..wh.plnk";
/// Temporary names of plyfs: copy-up in progress, directories on their way out.
const TEMP: &[u8] = b".wh..wh..plyfs.";
/// A whiteout whose name leaves no room for the prefix: a symlink `.wh..wh..long.HASH` that holds the name.
const LONG: &[u8] = b".wh..wh..long.";

/// NAME_MAX of Linux.
pub(crate) const NAME_MAX: usize = 255;
/// AUFS's own limit (room for the prefix twice, a dot and four digits), kept with `strict`.
pub(crate) const NAME_MAX_STRICT: usize = 242;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadName {
    /// ENAMETOOLONG.
    TooLong,
    /// A reserved word: EPERM to make, absent to look up.
    Reserved,
    /// Not one component: EINVAL.
    NotAName,
}

/// A leaf users may see: never a reserved word, never too long.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name(Leaf);

impl Name {
    /// Checks `name` against the limit in force.
    pub(crate) fn new(name: &OsStr, strict: bool) -> Result<Name, BadName> {
        let limit = if strict { NAME_MAX_STRICT } else { NAME_MAX };
        if name.len() > limit {
            return Err(BadName::TooLong);
        }
        if name.as_bytes().starts_with(PREFIX) {
            return Err(BadName::Reserved);
        }
        Leaf::new(name).map(Name).ok_or(BadName::NotAName)
    }

    pub(crate) fn leaf(&self) -> &Leaf {
        &self.0
    }
}

/// What a name found on a branch means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// Something users may see.
    Plain,
    /// `.wh.NAME`: whiteout of NAME.
    Whiteout(Leaf),
    /// `.wh..wh..long.HASH`: whiteout of the name the symlink holds.
    LongWhiteout,
    /// `.wh..wh..opq`: nothing of the branches below shows in this directory.
    Opaque,
    /// Any other reserved word: hidden, without effect.
    Private,
}

/// Reads a name as found on a branch.
pub(crate) fn word(leaf: &Leaf) -> Word {
    let bytes = leaf.as_bytes();
    if !bytes.starts_with(PREFIX) {
        Word::Plain
    } else if bytes == OPAQUE {
        Word::Opaque
    } else if bytes.starts_with(LONG) {
        Word::LongWhiteout
    } else if bytes.starts_with(PRIVATE) {
        Word::Private
    } else {
        Leaf::from_bytes(&bytes[PREFIX.len()..]).map_or(Word::Private, Word::Whiteout)
    }
}

/// How the whiteout of a name is spelled on a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhiteoutName {
    /// A regular file of this name.
    File(Leaf),
    /// A symlink of this name that holds the whole name.
    Long(Leaf),
}

/// The whiteout of `name`. Names of more than 251 bytes leave no room for the prefix.
pub(crate) fn whiteout_of(name: &Leaf) -> WhiteoutName {
    let bytes = name.as_bytes();
    if bytes.len() + PREFIX.len() <= NAME_MAX {
        WhiteoutName::File(joined(PREFIX, bytes))
    } else {
        WhiteoutName::Long(joined(LONG, format!("{:016x}", fnv1a(bytes)).as_bytes()))
    }
}

/// `.wh.NAME`, however long.
pub(crate) fn whiteout_text(name: &Leaf) -> Vec<u8> {
    [PREFIX, name.as_bytes()].concat()
}

/// Begins as a whiteout, but of nothing that can be a name.
pub(crate) fn is_bad(leaf: &Leaf) -> bool {
    leaf.as_bytes().strip_prefix(PREFIX).is_some_and(|name| Leaf::from_bytes(name).is_none())
}

/// The opaque mark.
pub(crate) fn opaque_mark() -> Leaf {
    joined(OPAQUE, b"")
}

/// The whiteout base: whiteouts of a branch are hard links of it.
pub(crate) fn whiteout_base() -> Leaf {
    joined(BASE, b"")
}

/// The directory of pseudo-links in a branch's root.
pub(crate) fn plink_dir() -> Leaf {
    joined(PLINKS, b"")
}

/// A temporary name that no other process and no earlier one used.
pub(crate) fn temp() -> Leaf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    joined(TEMP, format!("{:x}.{nanos:x}.{count:x}", std::process::id()).as_bytes())
}

fn joined(prefix: &[u8], rest: &[u8]) -> Leaf {
    let whole = [prefix, rest].concat();
    match Leaf::from_bytes(&whole) {
        Some(leaf) => leaf,
        // Prefixes are constants without `/`; `rest` is a leaf or hex digits.
        None => unreachable!("a reserved word is a leaf"),
    }
}

/// FNV-1a, 64 bits: stable over versions, as it is part of the format on disk.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(text: &str) -> Leaf {
        Leaf::new(OsStr::new(text)).unwrap()
    }

    #[test]
    fn users_names() {
        let check = |name: &str, strict, want: Result<(), BadName>| {
            assert_eq!(Name::new(OsStr::new(name), strict).map(|_| ()), want, "{name} strict={strict}");
        };
        check("a", false, Ok(()));
        check(".wh", false, Ok(()));
        check(".wh.", false, Err(BadName::Reserved));
        check(".wh.a", false, Err(BadName::Reserved));
        check(".wh..wh.aufs", false, Err(BadName::Reserved));
        check(&"x".repeat(255), false, Ok(()));
        check(&"x".repeat(256), false, Err(BadName::TooLong));
        check(&"x".repeat(243), true, Err(BadName::TooLong));
        check(&"x".repeat(242), true, Ok(()));
        check("a/b", false, Err(BadName::NotAName));
    }

    #[test]
    fn words_on_a_branch() {
        let check = |name: &str, want: Word| assert_eq!(word(&leaf(name)), want, "{name}");
        check("a", Word::Plain);
        check(".wh.a", Word::Whiteout(leaf("a")));
        check(".wh.", Word::Private);
        check(".wh..wh..opq", Word::Opaque);
        check(".wh..wh.aufs", Word::Private);
        check(".wh..wh.plnk", Word::Private);
        check(".wh..wh..plyfs.1", Word::Private);
        check(".wh..wh..long.0123456789abcdef", Word::LongWhiteout);
        check(".wh..", Word::Private);
    }

    #[test]
    fn every_name_has_a_whiteout_that_fits() {
        for len in [1, 251, 252, 255] {
            let name = leaf(&"n".repeat(len));
            match whiteout_of(&name) {
                WhiteoutName::File(wh) => assert_eq!(word(&wh), Word::Whiteout(name)),
                WhiteoutName::Long(wh) => {
                    assert!(len > 251 && wh.as_bytes().len() <= NAME_MAX);
                    assert_eq!(word(&wh), Word::LongWhiteout);
                }
            }
        }
    }
}
