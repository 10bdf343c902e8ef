//! Copies of metadata alone: a file on a branch whose data is still in a branch below.
//!
//! On disk such a copy is a sparse file of the right size, with owner, mode, times and xattrs like any copy, and one
//! fact more: `data` = `SIZE BLOCKS FSID:INO PATH`, the file that has the data: its size, its 512-byte units, what
//! it is (`-` where its filesystem has no identity), and its absolute path in the branches below. Its `origin` ends with
//! `+data`, so that other files are never asked for more. A fact of another size than the copy's is void: the file
//! was given other data since.
//! kernel overlayfs' own form (`trusted.overlay.metacopy`, `trusted.overlay.redirect`) is read, never written.
//!
//! Here: reading the fact and finding the file. Not here: when such copies are made, and how they get their data
//! (`ops/complete.rs`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use plyfs_sys::{Access, Dir, Kind, Leaf, Obj, Stat};

use crate::branch::{Branch, Stack};
use crate::error::{Error, Result};
use crate::ids::{self, RealId};
use crate::look;
use crate::marks::{self, Fact};
use crate::nodes::Node;
use crate::resolve::BranchIdx;
use crate::spec::{Grammar, MountSpec};

/// A file of no more bytes is copied whole: that costs nothing worth saving.
const SMALL: u64 = 64 << 10;
/// What a filesystem may need beside the data: a block for xattrs.
const XATTR_BLOCKS: u64 = 8;

/// From which size on changes of metadata copy no data; `None`: they always do.
pub(crate) fn threshold(spec: &MountSpec) -> Option<u64> {
    let default = spec.grammar == Grammar::Aufs && !spec.strict;
    let on = spec.speed.metacopy.unwrap_or(default);
    on.then(|| spec.speed.metacopy_from.unwrap_or(SMALL))
}

/// Where the data of a copy is.
#[derive(Debug)]
pub(crate) struct Data {
    /// The copy's own branch: the data is below it.
    above: BranchIdx,
    /// Absolute, in the branches below; empty where there can be none.
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    /// 512-byte units, where known.
    pub(crate) blocks: Option<u64>,
    /// What it is, where its filesystem is in the stack.
    pub(crate) id: Option<RealId>,
    /// Where it was found.
    place: OnceLock<Place>,
}

/// A file on a branch, by its physical path there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) branch: BranchIdx,
    pub(crate) path: Arc<[Leaf]>,
}

/// What is known of where a file's data is.
pub(crate) enum Whereabouts {
    /// In the file itself.
    Here,
    /// In itself, although there is a fact: a void one.
    HereByNow,
    /// In another file.
    In(Data),
}

/// Could this be a copy of metadata alone that overlayfs made? Others are not asked.
pub(crate) fn may_be_foreign(branch: &Branch, stat: &Stat) -> bool {
    let sparse = stat.blocks.saturating_mul(512) < stat.size;
    stat.kind == Kind::File
        && stat.size > 0
        && (sparse || stat.blocks <= XATTR_BLOCKS && branch.keeper.is_foreign())
}

/// Where the data of `obj` is. `bare`: what its origin says ([`ids::origin`]); `lower`: the path of its name in the
/// branches below.
pub(crate) fn data_of(
    stack: &Stack,
    branch: &Branch,
    obj: Obj<'_>,
    (stat, bare): (&Stat, bool),
    lower: impl FnOnce() -> Result<Option<PathBuf>>,
) -> Result<Whereabouts> {
    if bare {
        let Some(text) = marks::fact(branch, obj, Fact::Data)? else { return Ok(Whereabouts::HereByNow) };
        // Text that is none of ours: there is data somewhere, and nobody knows where.
        let lost = || Data::foreign(branch.index, PathBuf::new(), stat.size);
        let data = Data::parse(stack, branch.index, &text).unwrap_or_else(lost);
        let void = data.size != stat.size;
        return Ok(if void { Whereabouts::HereByNow } else { Whereabouts::In(data) });
    }
    if !may_be_foreign(branch, stat) {
        return Ok(Whereabouts::Here);
    }
    let Some(redirect) = marks::foreign_metacopy(branch, obj)? else { return Ok(Whereabouts::Here) };
    let path = match (redirect, lower()?) {
        (Some(redirect), _) if redirect.is_absolute() => redirect,
        (Some(redirect), Some(lower)) => lower.with_file_name(redirect),
        (None, Some(lower)) => lower,
        (_, None) => PathBuf::new(),
    };
    Ok(Whereabouts::In(Data::foreign(branch.index, path, stat.size)))
}

/// The path of `parent`'s name `name` in the branches below `above`; only read-only ones, if so asked.
pub(crate) fn lower_path(
    stack: &Stack,
    parent: &Node,
    name: &Leaf,
    above: BranchIdx,
    read_only: bool,
) -> Result<Option<PathBuf>> {
    let counts = |b: BranchIdx| b > above && !(read_only && stack.writable(b));
    let next = parent.as_dir()?.at.read().iter().map(|at| at.branch).find(|&b| counts(b));
    next.map(|next| Ok(look::path_on(parent, next)?.join(name.as_os_str()))).transpose()
}

impl Data {
    /// The branch of the data; before it was found, the first where it may be.
    pub(crate) fn branch(&self) -> BranchIdx {
        self.place.get().map_or(self.above + 1, |place| place.branch)
    }

    fn foreign(above: BranchIdx, path: PathBuf, size: u64) -> Data {
        Data { above, path, size, blocks: None, id: None, place: OnceLock::new() }
    }

    /// The data of a copy on branch `above`: in the file with these attributes.
    pub(crate) fn new(above: BranchIdx, path: PathBuf, stat: &Stat) -> Data {
        let (blocks, id) = (Some(stat.blocks), Some(RealId::of(stat)));
        Data { above, path, size: stat.size, blocks, id, place: OnceLock::new() }
    }

    /// The fact's text.
    pub(crate) fn text(&self, stack: &Stack) -> Vec<u8> {
        let id = self.id.and_then(|id| ids::origin_text(stack, id)).unwrap_or_else(|| "-".to_owned());
        let head = format!("{} {} {id} ", self.size, self.blocks.unwrap_or(0));
        [head.as_bytes(), self.path.as_os_str().as_bytes()].concat()
    }

    fn parse(stack: &Stack, above: BranchIdx, text: &[u8]) -> Option<Data> {
        let mut words = text.splitn(4, |&byte| byte == b' ');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
        let (size, blocks) = (number()?, Some(number()?));
        let id = ids::parse_origin(stack, words.next()?);
        let path = PathBuf::from(OsString::from_vec(words.next()?.to_vec()));
        path.is_absolute().then_some(Data { above, path, size, blocks, id, place: OnceLock::new() })
    }

    fn is_it(&self, stat: &Stat) -> bool {
        // The number alone: squashfs and its like change places among their devices from mount to mount.
        stat.kind == Kind::File && stat.size == self.size && self.id.is_none_or(|id| id.ino == stat.ino)
    }

    /// Opens the file that has the data, for reading. EIO if it is not there any more: never zeros.
    pub(crate) fn open(&self, stack: &Stack) -> Result<File> {
        if let Some(place) = self.place.get()
            && let Some(file) = self.open_at(stack, place)?
        {
            return Ok(file);
        }
        // Read-only branches first: what lies in a writable one may have been changed, or may hide the file.
        for read_only in [true, false] {
            if let Some(file) = self.find(stack, read_only)? {
                return Ok(file);
            }
        }
        let branch = stack.branch(self.above).path.clone();
        tracing::error!(
            branch = %branch.display(),
            "a copy of metadata alone has lost its data: no file of {} bytes{} at {} in the branches below; \
             put the branch back that it was copied up over",
            self.size,
            self.id.map_or_else(String::new, |id| format!(" with inode {}", id.ino)),
            self.path.display(),
        );
        Err(Error::DataLost { branch, path: self.path.clone() })
    }

    /// The same, looked for by its path; in read-only branches alone, if so asked. Branches that were put above it since
    /// may have another file there, or hide it: it is looked for below them too.
    pub(crate) fn find(&self, stack: &Stack, read_only: bool) -> Result<Option<File>> {
        let mut above = self.above;
        while usize::from(above) + 1 < stack.branches.len() {
            let place = match locate(stack, &self.path, above, read_only) {
                Err(Error::Sys { source, .. }) if look::is_absent(&source) => None,
                found => found?,
            };
            let Some(place) = place else {
                above += 1;
                continue;
            };
            if let Some(file) = self.open_at(stack, &place)? {
                // Somebody else may have found it at the same time: the same.
                let _known = self.place.set(place);
                return Ok(Some(file));
            }
            above = place.branch;
        }
        Ok(None)
    }

    /// The file there, if it is the one.
    fn open_at(&self, stack: &Stack, place: &Place) -> Result<Option<File>> {
        let branch = stack.branch(place.branch);
        let Some((leaf, above)) = place.path.split_last() else { return Ok(None) };
        let opened = look::open_path(branch, above).and_then(|dir| {
            let file = dir.open_file(leaf, Access::Read).map_err(|e| branch.blame(e))?;
            let stat = Obj::Fd(file.as_fd()).stat().map_err(|e| branch.blame(e))?;
            Ok(self.is_it(&stat).then_some(file))
        });
        match opened {
            Err(Error::Sys { source, .. }) if look::is_absent(&source) => Ok(None),
            opened => opened,
        }
    }
}

/// The regular file at `path` below branch `above` that has data itself; copies of metadata alone on the way lead
/// further down.
fn locate(stack: &Stack, path: &Path, above: BranchIdx, read_only: bool) -> Result<Option<Place>> {
    let counts = |branch: &Branch| !(read_only && branch.writable);
    let Some(found) = look::find_file(stack, path, above + 1, &counts)? else { return Ok(None) };
    let branch = stack.branch(found.branch);
    let stat = found.dir.stat(&found.leaf).map_err(|e| branch.blame(e))?;
    let obj = Obj::At(&found.dir, &found.leaf);
    let (_, bare) = ids::origin(stack, branch, obj, &stat)?;
    match data_of(stack, branch, obj, (&stat, bare), || Ok(found.below.clone()))? {
        Whereabouts::In(further) => locate(stack, &further.path, found.branch, read_only),
        Whereabouts::Here | Whereabouts::HereByNow => {
            Ok(Some(Place { branch: found.branch, path: found.path.into() }))
        }
    }
}

/// Shown to people: where the data of a copy of metadata alone is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataAt {
    /// Position of the branch; `None`: it is lost.
    pub branch: Option<u16>,
    /// Path inside the branch, absolute; of lost data where it should be.
    pub path: PathBuf,
}

/// For `explain.rs`: where the data of this name on a branch is, if it is a copy of metadata alone.
pub(crate) fn explain(
    stack: &Stack,
    parent: &Node,
    (branch, dir): (&Branch, &Dir),
    name: &Leaf,
) -> Result<Option<DataAt>> {
    let obj = Obj::At(dir, name);
    let stat = obj.stat().map_err(|e| branch.blame(e))?;
    let lower = || lower_path(stack, parent, name, branch.index, false);
    let (_, bare) = ids::origin(stack, branch, obj, &stat)?;
    let Whereabouts::In(data) = data_of(stack, branch, obj, (&stat, bare), lower)? else { return Ok(None) };
    Ok(Some(match data.open(stack).ok().and(data.place.get()) {
        Some(place) => {
            let leaves = place.path.iter().map(Leaf::as_os_str);
            DataAt {
                branch: Some(place.branch),
                path: std::iter::once(OsStr::new("/")).chain(leaves).collect(),
            }
        }
        None => DataAt { branch: None, path: data.path },
    }))
}
