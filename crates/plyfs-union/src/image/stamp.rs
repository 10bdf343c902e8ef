//! Which layers an image index speaks of, and whether a stack ends with them.
//!
//! A layer is known by its root directory: inode number, time of birth, time of the last change, owner, and the identity of
//! its filesystem. By its change time, since whatever is made or removed in the root itself changes that, and so does
//! replacing the directory. Not by its path, which is kept for people alone: a store that was moved as a whole is the
//! same store. A layer changed deeper down is not noticed here; layers are immutable by contract, and `verify.rs` asks
//! for each object.
//!
//! Owners, listings and xattrs depend on who looks (user, user namespace, right to see `trusted.`): an index serves
//! whoever sees the layers as its builder did.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use plyfs_sys::{Errno, Obj, Time, process};

use crate::branch::Branch;
use crate::error::Result;
use crate::image::format::{Part, SUM, Viewer, i64_at, layer, put, u32_at, u64_at};
use crate::image::tree::Tree;
use crate::resolve::BranchIdx;

/// Kinds of xattr whose absence a layer tells as such (ENODATA): others it does not know (EOPNOTSUPP).
const KINDS: [(u32, &str, &str); 4] = [
    (1, "user.", "user.plyfs.none"),
    (2, "trusted.", "trusted.plyfs.none"),
    (4, "security.", "security.plyfs.none"),
    (8, "system.posix_acl_", "system.posix_acl_access"),
];

impl Viewer {
    /// This process.
    pub(super) fn ours() -> Result<Viewer> {
        Ok(Viewer {
            trusted: process::may_administer() && process::in_initial_user_namespace(),
            uid: plyfs_sys::cred::effective_uid(),
            maps: SUM.checksum(process::id_maps()?.as_bytes()),
        })
    }
}

/// The record of an opened layer; `name`: where its path lies in the text.
pub(super) fn record(branch: &Branch, name: (u32, u32)) -> Result<Vec<u8>> {
    let mut bytes = vec![0; Part::Layers.record()];
    identity(branch, &mut bytes);
    put(&mut bytes, layer::XATTRS, &told_absent(branch)?.to_le_bytes());
    put(&mut bytes, layer::NAME, &name.0.to_le_bytes());
    put(&mut bytes, layer::NAME_LENGTH, &name.1.to_le_bytes());
    Ok(bytes)
}

/// What tells one directory from others, in its place in the record.
fn identity(branch: &Branch, bytes: &mut [u8]) {
    let stat = &branch.root.stat;
    let birth = stat.btime.unwrap_or(Time { sec: i64::MIN, nsec: 0 });
    put(bytes, layer::INO, &stat.ino.to_le_bytes());
    put(bytes, layer::FSID, &branch.fsid.to_le_bytes());
    put(bytes, layer::BIRTH, &birth.sec.to_le_bytes());
    put(bytes, layer::BIRTH_NANOS, &birth.nsec.to_le_bytes());
    put(bytes, layer::CHANGED, &stat.ctime.sec.to_le_bytes());
    put(bytes, layer::CHANGED_NANOS, &stat.ctime.nsec.to_le_bytes());
    put(bytes, layer::UID, &stat.uid.to_le_bytes());
    put(bytes, layer::GID, &stat.gid.to_le_bytes());
}

fn told_absent(branch: &Branch) -> Result<u32> {
    let root = branch.root()?;
    let mut kinds = 0;
    for (kind, _, probe) in KINDS {
        match Obj::Dir(&root).xattr_strict(probe.as_ref()) {
            Ok(_) => kinds |= kind,
            Err(e) if e.errno() == Errno::NODATA => kinds |= kind,
            Err(_) => {}
        }
    }
    Ok(kinds)
}

/// Would the layer say ENODATA of this xattr where an object has none at all? Of a symlink's ACL it would not.
pub(super) fn is_told_absent(tree: Tree<'_>, number: u16, name: &[u8], symlink: bool) -> Option<bool> {
    let told = u32_at(tree.record(Part::Layers, number.into())?, layer::XATTRS)?;
    let kind = KINDS.iter().find(|(_, prefix, _)| name.starts_with(prefix.as_bytes()));
    let acl = KINDS[3].0;
    Some(kind.is_some_and(|(kind, ..)| told & kind != 0 && !(symlink && *kind == acl)))
}

/// The layers as they were called, top first.
pub(super) fn names(tree: Tree<'_>) -> Option<Vec<PathBuf>> {
    let count = u32::try_from(tree.layers()).ok()?;
    (0..count).map(|number| name(tree, number)).collect()
}

fn name(tree: Tree<'_>, number: u32) -> Option<PathBuf> {
    let bytes = tree.record(Part::Layers, number)?;
    let length = usize::try_from(u32_at(bytes, layer::NAME_LENGTH)?).ok()?;
    let text = tree.text(u32_at(bytes, layer::NAME)?, length)?;
    Some(std::ffi::OsString::from_vec(text.to_vec()).into())
}

/// The first of the branches at the end of a stack that are the index' layers; else why they are not.
pub(super) fn first_covered(tree: Tree<'_>, branches: &[Branch]) -> std::result::Result<BranchIdx, String> {
    let count = tree.layers();
    let first = branches.len().checked_sub(count).filter(|_| count > 0);
    let first =
        first.ok_or_else(|| format!("it has {count} layers, the stack {} branches", branches.len()))?;
    let ours = Viewer::ours().map_err(|e| e.to_string())?;
    if tree.layout().viewer != ours {
        return Err("it was built by another user or in another user namespace".to_owned());
    }
    for (number, branch) in branches[first..].iter().enumerate() {
        let number = number as u32;
        let said = || name(tree, number).unwrap_or_default().display().to_string();
        let record = tree.record(Part::Layers, number).ok_or("its list of layers is damaged")?;
        if branch.writable || !branch.honours {
            return Err(format!(
                "branch {} is its layer {number} ({}), but it is not read-only with whiteouts (ro+wh)",
                branch.path.display(),
                said()
            ));
        }
        if let Some(what) = difference(record, branch) {
            let path = branch.path.display();
            return Err(format!("branch {path} is not its layer {number} ({}): {what}", said()));
        }
    }
    Ok(first as BranchIdx)
}

/// What of a layer's root is not as it was; `None` if it is the same.
pub(super) fn difference(record: &[u8], branch: &Branch) -> Option<&'static str> {
    let mut now = vec![0; record.len()];
    identity(branch, &mut now);
    if u64_at(record, layer::FSID) != u64_at(&now, layer::FSID) {
        Some("another filesystem")
    } else if u64_at(record, layer::INO) != u64_at(&now, layer::INO) {
        Some("another directory (inode)")
    } else if record[layer::BIRTH..layer::CHANGED_NANOS] != now[layer::BIRTH..layer::CHANGED_NANOS] {
        Some("another directory (time of birth)")
    } else if i64_at(record, layer::CHANGED) != i64_at(&now, layer::CHANGED)
        || u32_at(record, layer::CHANGED_NANOS) != u32_at(&now, layer::CHANGED_NANOS)
    {
        Some("changed since (ctime)")
    } else if record[layer::UID..layer::XATTRS] != now[layer::UID..layer::XATTRS] {
        Some("another owner")
    } else {
        None
    }
}

/// The path of a layer, to be kept.
pub(super) fn name_of(branch: &Branch) -> &[u8] {
    branch.path.as_os_str().as_bytes()
}
