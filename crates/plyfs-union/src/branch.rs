//! `Branch`, an opened member directory, and `Stack`, all of them, top first.
//!
//! Here: the checks of aufs.5 at adding a branch. Not here: what lies in a branch (`look.rs`), its marks (`marks.rs`).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use plyfs_sys::fsinfo::{self, FsInfo};
use plyfs_sys::{Dev, Dir, SysError};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::marks::Keeper;
use crate::resolve::BranchIdx;
use crate::roots::{self, Root};
use crate::spec::{BranchSpec, Grammar, MountSpec, Perm};

/// An opened branch.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) index: BranchIdx,
    /// Absolute, as the kernel resolved it.
    pub(crate) path: PathBuf,
    pub(crate) root: Root,
    pub(crate) writable: bool,
    /// Whiteouts and opaque marks here hide what is below.
    pub(crate) honours: bool,
    /// Whiteouts are files of their own.
    pub(crate) nolwh: bool,
    /// The filesystem of the branch's root.
    pub(crate) dev: Dev,
    /// `f_fsid` of it: stable over mounts where the filesystem has an identity.
    pub(crate) fsid: u64,
    /// Reached by a private copy of the mount, so no mount below it can be seen.
    pub(crate) private: bool,
    /// Held while mounted writable: no other mount may write here (aufs.5).
    _claim: Option<OwnedFd>,
    /// Where our own facts are kept.
    pub(crate) keeper: Keeper,
    spec: BranchSpec,
}

/// Immutable while mounted (live changes swap in a new one).
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) branches: Vec<Branch>,
    /// What is known of the last ones without asking them ([`Stack::image`]).
    pub(crate) image: Option<Image>,
}

/// aufs.5: ids start at 64 on the common build with 127 branches.
pub(crate) const FIRST_BRANCH_ID: u32 = 64;

/// Filesystems that can't be branches (aufs.5), by statfs magic: they are not storage.
const NOT_STORAGE: &[(u64, &str)] = &[
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x6462_6720, "debugfs"),
    (0x6265_6570, "configfs"),
    (0x7363_6673, "securityfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
];

impl Stack {
    /// Opens and checks every branch; changes nothing on disk.
    pub(crate) fn open(spec: &MountSpec) -> Result<Stack> {
        let mut branches = Vec::with_capacity(spec.branches.len());
        let mut mounts = Mounts::default();
        for (index, one) in spec.branches.iter().enumerate() {
            branches.push(Branch::open(index as BranchIdx, one, spec, &mut mounts)?);
        }
        check_overlaps(spec, &branches)?;
        roots::settle(&mut branches)?;
        let image = spec.image_index.as_deref().and_then(|path| Image::attach(path, &branches));
        Ok(Stack { branches, image })
    }

    /// All is read that is read at mount: roots that can be found again are closed.
    pub(crate) fn let_go(&self) {
        self.branches.iter().for_each(|branch| branch.root.let_go());
    }

    pub(crate) fn branch(&self, index: BranchIdx) -> &Branch {
        &self.branches[usize::from(index)]
    }

    pub(crate) fn writable(&self, index: BranchIdx) -> bool {
        self.branch(index).writable
    }

    /// The branch whose filesystem has this identity.
    pub(crate) fn dev_of_fsid(&self, fsid: u64) -> Option<Dev> {
        self.branches.iter().find(|b| b.fsid == fsid && fsid != 0).map(|b| b.dev)
    }

    /// Position of a filesystem among the stack's, top first: part of inode numbers when there are several.
    pub(crate) fn fs_position(&self, dev: Dev) -> Option<usize> {
        let mut seen: Vec<Dev> = Vec::new();
        for branch in &self.branches {
            if !seen.contains(&branch.dev) {
                if branch.dev == dev {
                    return Some(seen.len());
                }
                seen.push(branch.dev);
            }
        }
        None
    }
}

impl Branch {
    fn open(index: BranchIdx, spec: &BranchSpec, whole: &MountSpec, mounts: &mut Mounts) -> Result<Branch> {
        let bad = |why: String| Error::Branch { path: spec.path.clone(), why, errno: None };
        let root = Dir::open(&spec.path).map_err(|e| cannot_open(&spec.path, &e))?;
        let path = root.kernel_path()?;
        let stat = root.stat_self()?;
        let info = mounts.info(&root, stat.mount)?;
        if let Some((_, name)) = NOT_STORAGE.iter().find(|(magic, _)| *magic == info.magic) {
            return Err(bad(format!("{name} is no storage and can't be a branch")));
        }
        let mut settled = spec.clone();
        settled.settle_magic(info.magic);
        let perm = settled.perm;
        if perm == Perm::Rw && info.read_only {
            return Err(Error::Branch {
                path: spec.path.clone(),
                why: "is asked to be rw, but its filesystem is mounted read-only; say ro, or remount it rw"
                    .into(),
                errno: Some(plyfs_sys::Errno::ROFS.raw_os_error()),
            });
        }
        let claimed = perm == Perm::Rw && !whole.look_only;
        let claim = if claimed { claim(&root, &spec.path, whole.grammar)? } else { None };
        Ok(Branch {
            index,
            _claim: claim,
            path,
            writable: perm == Perm::Rw,
            honours: perm == Perm::Rw || spec.wh,
            nolwh: spec.nolwh,
            dev: stat.dev,
            fsid: identity(&info),
            private: false,
            keeper: Keeper::find(&root)?,
            root: Root::new(root, stat),
            spec: settled,
        })
    }

    /// `rw`, `ro+wh` ... as AUFS prints it.
    pub(crate) fn spec(&self) -> &BranchSpec {
        &self.spec
    }

    /// Adds this branch to an error, for people.
    pub(crate) fn blame(&self, source: SysError) -> Error {
        Error::Sys { source, branch: Some(self.path.clone()) }
    }
}

/// What the branches' mounts are, each asked once: layers are many, and on one.
#[derive(Default)]
struct Mounts(Vec<(u64, FsInfo)>);

impl Mounts {
    fn info(&mut self, root: &Dir, mount: u64) -> Result<FsInfo> {
        match self.0.iter().find(|(known, _)| *known == mount && mount != 0) {
            Some((_, info)) => Ok(*info),
            None => {
                let info = fsinfo::of(root)?;
                self.0.push((mount, info));
                Ok(info)
            }
        }
    }
}

/// `f_fsid` where it identifies the filesystem; 0 where it says nothing.
fn identity(info: &FsInfo) -> u64 {
    info.fsid
}

fn cannot_open(path: &Path, e: &SysError) -> Error {
    use plyfs_sys::Errno;
    let why = match e.errno() {
        Errno::NOENT => "does not exist; make the directory first or correct the path".to_owned(),
        Errno::NOTDIR => "is not a directory; a branch must be one".to_owned(),
        Errno::ACCESS => "can't be opened: permission denied for this user".to_owned(),
        _ => format!("can't be opened: {e}"),
    };
    Error::Branch { path: path.to_owned(), why, errno: Some(e.errno().raw_os_error()) }
}

/// A server that was just unmounted needs a moment to go.
const CLAIM_TRIES: u32 = 70;
/// Between tries: longer each time, up to this.
const CLAIM_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// aufs.5: a writable branch must not be shared by two mounts. Engines (overlay's grammar) mount again after a lazy
/// unmount whose files are still open; there it is a warning, as in kernel overlayfs.
fn claim(root: &Dir, path: &Path, grammar: Grammar) -> Result<Option<OwnedFd>> {
    for at in 0..CLAIM_TRIES {
        if let Some(claim) = root.claim()? {
            return Ok(Some(claim));
        }
        if grammar == Grammar::Overlay {
            tracing::warn!(branch = %path.display(), "another mount writes to this branch");
            return Ok(None);
        }
        std::thread::sleep(CLAIM_PAUSE.min(std::time::Duration::from_millis(1 << at.min(6))));
    }
    Err(Error::Branch {
        path: path.to_owned(),
        why: "is a writable branch of another mount; unmount that first, or use it read-only here".into(),
        errno: Some(plyfs_sys::Errno::BUSY.raw_os_error()),
    })
}

/// aufs.5: a branch must be no other branch, no ancestor and no descendant of one. Overlay: only the upper counts,
/// engines stack lower directories as they like.
fn check_overlaps(spec: &MountSpec, branches: &[Branch]) -> Result<()> {
    for (i, a) in branches.iter().enumerate() {
        for b in &branches[..i] {
            let matters = spec.grammar == Grammar::Aufs || a.writable || b.writable;
            let why = if !matters {
                continue;
            } else if a.path == b.path {
                format!("is a branch twice (br{} and br{})", b.index, a.index)
            } else if a.path.starts_with(&b.path) {
                format!("lies inside the branch {}; branches must not overlap", b.path.display())
            } else if b.path.starts_with(&a.path) {
                format!("contains the branch {}; branches must not overlap", b.path.display())
            } else {
                continue;
            };
            return Err(Error::Branch { path: a.path.clone(), why, errno: None });
        }
    }
    Ok(())
}
