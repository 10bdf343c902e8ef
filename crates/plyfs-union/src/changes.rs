//! What the writable branches change against the branches below: `plyfs diff`, `plyfs try`.
//!
//! Compares the union with a union of its read-only branches, but only where a writable branch has something: the
//! cost is that of the changes, not of the trees.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plyfs_sys::stat::Time;
use plyfs_sys::{Errno, Kind, Leaf};

use crate::error::{Error, Refusal, Result};
use crate::ids::RealId;
use crate::nodes::Node;
use crate::resolve::{BranchIdx, Resolved};
use crate::spec::MountSpec;
use crate::union::{Union, index};

/// One difference, as `docker diff` prints them.
#[derive(Debug, Clone)]
pub struct Change {
    /// A, C or D.
    pub kind: ChangeKind,
    /// Absolute within the union.
    pub path: PathBuf,
    /// The type after the change, or of what is gone.
    pub file: Kind,
    /// Bytes of a regular file after the change (A, C), or of what is gone (D); else 0.
    pub size: u64,
    /// Something of another type was there before.
    pub hides_other: bool,
}

/// The letter of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Not there before.
    Added,
    /// There before, and different in content or attributes; a directory also if anything in it is.
    Changed,
    /// Gone.
    Deleted,
}

/// A name on one side: what it is and its node.
struct Side<'a> {
    union: &'a Union,
    node: Arc<Node>,
}

impl Drop for Side<'_> {
    fn drop(&mut self) {
        self.union.nodes.put(&self.node, 1);
    }
}

struct Walk<'a> {
    union: &'a Union,
    /// Positions of the read-only branches in the whole stack.
    lower: Vec<BranchIdx>,
    /// A directory whose time alone differs is changed.
    dir_times: bool,
    each: &'a mut dyn FnMut(Change),
}

impl Union {
    /// Tells every change, sorted by path. A directory of which only the modification time differs is none.
    pub fn changes(&self, each: &mut dyn FnMut(Change)) -> Result<()> {
        self.tell_changes(false, each)
    }

    /// The same by Docker's rule: it is one, unless the times are the same as far as archives keep them (whole seconds).
    pub fn changes_and_times(&self, each: &mut dyn FnMut(Change)) -> Result<()> {
        self.tell_changes(true, each)
    }

    fn tell_changes(&self, dir_times: bool, each: &mut dyn FnMut(Change)) -> Result<()> {
        let lower: Vec<BranchIdx> =
            self.stack.branches.iter().filter(|b| !b.writable).map(|b| b.index).collect();
        let specs = lower.iter().map(|&b| {
            let branch = self.stack.branch(b);
            crate::spec::BranchSpec { path: branch.path.clone(), ..branch.spec().clone() }
        });
        let image_index = self.image_index().map(Path::to_owned);
        let spec = MountSpec { branches: specs.collect(), image_index, ..MountSpec::default() };
        let below = if lower.is_empty() { None } else { Some(Union::open(&spec)?) };
        let mut all = Vec::new();
        let mut collect = |change| all.push(change);
        let mut walk = Walk { union: self, lower, dir_times, each: &mut collect };
        let new = Side { union: self, node: self.root.clone() };
        new.node.refer();
        let old = below.as_ref().map(|below| Side { union: below, node: below.root.clone() });
        if let Some(old) = &old {
            old.node.refer();
        }
        walk.compare(Path::new("/"), &new, old.as_ref())?;
        drop(old);
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all.into_iter().for_each(each);
        Ok(())
    }
}

impl Walk<'_> {
    /// `true` if anything in the directory differs.
    fn compare(&mut self, path: &Path, new: &Side<'_>, old: Option<&Side<'_>>) -> Result<bool> {
        let mut changed = false;
        for (name, resolved) in present(lines(new))?.unwrap_or_default() {
            // First by the indexes alone: most names of a directory are what they were.
            let before = match old {
                Some(old) => index(&*old.union.listed(&old.node)?)?.resolved(name.as_os_str()),
                None => None,
            };
            if before.as_ref().is_some_and(|before| self.is_same(&resolved, before)) {
                continue;
            }
            let before = old.map(|old| child(old, &name)).transpose()?.flatten();
            changed |= self.compare_name(&path.join(name.as_os_str()), new, &name, &resolved, before)?;
        }
        let Some(old) = old else { return Ok(changed) };
        for (name, resolved) in present(lines(old))?.unwrap_or_default() {
            let gone = index(&*new.union.listed(&new.node)?)?.resolved(name.as_os_str()).is_none();
            if gone {
                let size = size_of(old, &name, resolved.kind)?;
                let path = path.join(name.as_os_str());
                (self.each)(Change {
                    kind: ChangeKind::Deleted,
                    path,
                    file: resolved.kind,
                    size,
                    hides_other: false,
                });
                changed = true;
            }
        }
        Ok(changed)
    }

    fn compare_name(
        &mut self,
        path: &Path,
        parent: &Side<'_>,
        name: &Leaf,
        now: &Resolved,
        before: Option<(Resolved, Side<'_>)>,
    ) -> Result<bool> {
        let Some((_, new)) = child(parent, name)? else { return Ok(false) };
        let same_kind = before.as_ref().filter(|(old, _)| old.kind == now.kind);
        let inside =
            if now.kind.is_dir() { self.compare(path, &new, same_kind.map(|(_, old)| old))? } else { false };
        let kind = match (&before, now.kind) {
            (None, _) => ChangeKind::Added,
            (Some((old, old_side)), Kind::Dir) if old.kind.is_dir() => {
                if !inside && !attributes_differ(&new, old_side, self.dir_times)? {
                    return Ok(false);
                }
                ChangeKind::Changed
            }
            (Some(_), _) => ChangeKind::Changed,
        };
        let size = size_of(parent, name, now.kind)?;
        let hides_other = before.as_ref().is_some_and(|(old, _)| old.kind != now.kind);
        (self.each)(Change { kind, path: path.to_owned(), file: now.kind, size, hides_other });
        Ok(true)
    }

    /// Served by the same object of the same read-only branches, and by no copy that was made under another name.
    fn is_same(&self, now: &Resolved, old: &Resolved) -> bool {
        let original = |branch: BranchIdx| self.lower.get(usize::from(branch)).copied();
        let dirs = || {
            now.dirs.len() == old.dirs.len()
                && now.dirs.iter().zip(&old.dirs).all(|(a, b)| Some(a.0) == original(b.0) && a.1 == b.1)
        };
        !self.union.stack.writable(now.branch)
            && !self.may_be_linked(now)
            && Some(now.branch) == original(old.branch)
            && now.ino == old.ino
            && dirs()
    }
}

impl Walk<'_> {
    /// One name of a hard-linked file was copied up: the others are changed with it, and any directory may have them.
    fn may_be_linked(&self, now: &Resolved) -> bool {
        let plinks = &self.union.plinks;
        if now.kind.is_dir() {
            return !plinks.is_empty();
        }
        let dev = self.union.stack.branch(now.branch).dev;
        plinks.find(RealId { dev, ino: now.ino }).is_some()
    }
}

type Line = (Leaf, Resolved);

fn lines(side: &Side<'_>) -> Result<Vec<Line>> {
    let state = side.union.listed(&side.node)?;
    let index = index(&state)?;
    Ok(index.visible().map(|(name, resolved)| (name.clone(), resolved)).collect())
}

fn child<'a>(side: &Side<'a>, name: &Leaf) -> Result<Option<(Resolved, Side<'a>)>> {
    let resolved = index(&*side.union.listed(&side.node)?)?.resolved(name.as_os_str());
    let Some(resolved) = resolved else { return Ok(None) };
    let node = present(side.union.grab_child(&side.node, name))?.flatten();
    Ok(node.map(|node| (resolved, Side { union: side.union, node })))
}

fn size_of(parent: &Side<'_>, name: &Leaf, kind: Kind) -> Result<u64> {
    if kind != Kind::File {
        return Ok(0);
    }
    let Some((_, side)) = child(parent, name)? else { return Ok(0) };
    Ok(present(side.union.spot(&side.node))?.map_or(0, |(_, stat)| stat.size))
}

/// A branch that others use meanwhile loses names while we look: what is gone is gone.
fn present<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(Error::Stale) => Ok(None),
        Err(Error::Sys { source, .. }) if source.errno() == Errno::NOENT => Ok(None),
        found => found.map(Some),
    }
}

fn attributes_differ(new: &Side<'_>, old: &Side<'_>, times: bool) -> Result<bool> {
    let stat = |side: &Side<'_>| present(side.union.spot(&side.node));
    let (Some((_, a)), Some((_, b))) = (stat(new)?, stat(old)?) else { return Ok(true) };
    let differ = (a.perm, a.uid, a.gid) != (b.perm, b.uid, b.gid) || xattrs(new)? != xattrs(old)?;
    Ok(differ || (times && !same_time(a.mtime, b.mtime)))
}

/// moby `pkg/archive/changes.go`, `sameFsTime`: one of them may have come out of an archive, without its fraction.
fn same_time(a: Time, b: Time) -> bool {
    a == b || (a.sec == b.sec && (a.nsec == 0 || b.nsec == 0))
}

/// What users see of them, sorted; none where there can be none.
fn xattrs(side: &Side<'_>) -> Result<Vec<(OsString, Vec<u8>)>> {
    let list = match side.union.listxattr(side.node.ino) {
        Err(Error::Refused(Refusal::Unsupported)) => return Ok(Vec::new()),
        Err(Error::Sys { source, .. }) if source.errno() == Errno::OPNOTSUPP => return Ok(Vec::new()),
        list => list?,
    };
    let mut all = Vec::new();
    for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        all.push((name.to_owned(), side.union.getxattr(side.node.ino, name)?));
    }
    all.sort();
    Ok(all)
}
