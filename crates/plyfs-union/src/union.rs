//! `Union`: the opened union and what its operations share. One method per operation, bodies in `ops/`.
//!
//! Every operation that changes something has four parts in this order: look (what do the branches have), decide
//! (`policy.rs`, `plan.rs`), do (`act.rs`, `copyup.rs`), tell (index, nodes). The directory's index lock is held from
//! look to tell; parents and files are brought up before it is taken, and everything is looked at again under it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::{Mutex, RwLockReadGuard, RwLockWriteGuard};
use plyfs_sys::{Dir, Stat};

use crate::anchor::Anchors;
use crate::attr::{Attr, Ino};
use crate::branch::{FIRST_BRANCH_ID, Stack};
use crate::error::{Refusal, Result};
use crate::handles::{FileHandle, Handles};
use crate::ids::{self, IdMap, RealId};
use crate::image::Image;
use crate::index::Index;
use crate::ledger::Ledger;
use crate::look;
use crate::names::Name;
use crate::nodes::{DirAt, DirState, HomeBy, Node, Nodes, Place, Places, Spot};
use crate::passthrough::{Backings, Passthrough};
use crate::perms::{Override, Shown};
use crate::plink::Plinks;
use crate::policy;
use crate::resolve::BranchIdx;
use crate::spec::{Bounds, BranchAttr, CopyupPolicy, CreatePolicy, MountSpec, SpecError};

/// How often an operation looks again when the world changed between looking and doing.
pub(crate) const TRIES: usize = 64;

/// Lets whoever is in the middle of changing the world get on. It may not even have a processor: then giving up ours for
/// a moment is not enough, and tries would run out within its absence.
pub(crate) fn stand_back(tries: usize) {
    if tries < 8 {
        std::thread::yield_now();
    } else {
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
}

/// A union of branches.
#[derive(Debug)]
pub struct Union {
    pub(crate) stack: Stack,
    pub(crate) nodes: Nodes,
    pub(crate) root: Arc<Node>,
    pub(crate) anchors: Anchors,
    pub(crate) ledger: Ledger,
    pub(crate) plinks: Plinks,
    pub(crate) ids: IdMap,
    pub(crate) overrides: Override,
    /// Held while a name moves between directories: what is above what stays as it is.
    pub(crate) renames: Mutex<()>,
    /// Held while a directory's mode is widened for internal work.
    pub(crate) modes: Mutex<()>,
    pub(crate) files: Handles<FileHandle>,
    pub(crate) passthrough: Passthrough,
    pub(crate) strict: bool,
    pub(crate) volatile: bool,
    pub(crate) look_only: bool,
    /// From which size on changes of metadata copy no data.
    pub(crate) metacopy: Option<u64>,
    pub(crate) noplink: bool,
    pub(crate) always_opaque: bool,
    pub(crate) noacl: bool,
    pub(crate) noxattrs: bool,
    pub(crate) sum: bool,
    /// May give files away (root of its user namespace).
    pub(crate) privileged: bool,
    pub(crate) bounds: Bounds,
}

/// One branch as opened.
#[derive(Debug, Clone)]
pub struct BranchInfo {
    /// Absolute.
    pub path: std::path::PathBuf,
    /// As AUFS prints it: `rw`, `ro`, `ro+wh`, `rw+nolwh`.
    pub perm: String,
    /// AUFS's branch id: 64 and up.
    pub id: u32,
}

impl Union {
    /// Opens every branch (relative paths from the working directory) and checks the stack (aufs.5). Changes
    /// nothing on disk.
    pub fn open(spec: &MountSpec) -> Result<Union> {
        spec.check()?;
        refuse_unfinished(spec)?;
        let stack = Stack::open(spec)?;
        let plinks = Plinks::load(&stack)?;
        let root = root_node(&stack);
        stack.let_go();
        let nodes = Nodes::new(root);
        let root = nodes.get(Ino::ROOT)?;
        Ok(Union {
            stack,
            nodes,
            root,
            anchors: Anchors::new(spec.branches.len()),
            ledger: Ledger::new(spec.speed.bounds.index_lines),
            bounds: spec.speed.bounds,
            plinks,
            ids: IdMap::new(spec),
            overrides: Override::new(spec.xattr_permissions),
            renames: Mutex::new(()),
            modes: Mutex::new(()),
            files: Handles::default(),
            passthrough: Passthrough::default(),
            strict: spec.strict,
            volatile: spec.volatile,
            look_only: spec.look_only,
            metacopy: crate::metacopy::threshold(spec),
            noplink: spec.noplink,
            always_opaque: spec.diropq_always,
            noacl: spec.noacl,
            noxattrs: spec.noxattrs,
            sum: spec.sum,
            privileged: plyfs_sys::cred::effective_uid() == 0,
        })
    }

    /// Every branch, top first.
    pub fn branches(&self) -> Vec<BranchInfo> {
        let info = |(i, branch): (usize, &crate::branch::Branch)| BranchInfo {
            path: branch.path.clone(),
            perm: branch.spec().perm_text(),
            id: FIRST_BRANCH_ID + i as u32,
        };
        self.stack.branches.iter().enumerate().map(info).collect()
    }

    /// The image index that is in use for the lowest branches.
    pub fn image_index(&self) -> Option<&std::path::Path> {
        self.stack.image().map(Image::path)
    }

    /// From now on the kernel may be given files to read and write by itself.
    pub fn connect(&self, table: Arc<dyn Backings>) {
        self.passthrough.connect(table);
    }

    /// Does the kernel read and write files by itself, as far as is known? Where it refuses this process, that is known
    /// from the first file on.
    pub fn has_passthrough(&self) -> bool {
        self.passthrough.is_on()
    }

    /// To be called before something is mounted on `target` (absolute) that this union's branches are to be reached behind.
    pub fn hold_behind(&self, target: &std::path::Path) -> Result<()> {
        for branch in &self.stack.branches {
            branch.root.hold_behind(&branch.path, target).map_err(|e| branch.blame(e))?;
        }
        Ok(())
    }

    /// Nobody asks for anything now: lets go of what is kept only to be quick.
    pub fn idle(&self) {
        self.anchors.idle();
        self.passthrough.cool_all();
        self.stack.image.iter().for_each(Image::idle);
    }

    /// What `ino` stands for: the node itself, or the one that took over.
    pub(crate) fn node(&self, ino: Ino) -> Result<Arc<Node>> {
        let mut node = self.nodes.get(ino)?;
        while let Some(next) = node.successor() {
            node = next.clone();
        }
        Ok(node)
    }

    pub(crate) fn name(&self, name: &std::ffi::OsStr) -> Result<Name> {
        Ok(Name::new(name, self.strict)?)
    }

    /// The directory's descriptor on a branch.
    pub(crate) fn dir(&self, node: &Node, branch: BranchIdx) -> Result<Arc<Dir>> {
        self.anchors.dir(&self.stack, node, branch)
    }

    /// The branches on which things in `parents` can be made, for the policies.
    pub(crate) fn usable<'a>(&'a self, parents: &'a [&'a Arc<Node>]) -> Usable<'a> {
        Usable { stack: &self.stack, parents }
    }

    /// The branch for a copy of (or a whiteout over) what lies on `from` in `parent`.
    pub(crate) fn branch_for_copy(&self, parent: &Arc<Node>, from: BranchIdx) -> Result<BranchIdx> {
        let places = parent.as_dir()?.at.read().clone();
        Ok(policy::for_copy(&self.usable(&[parent]), &places, from)?)
    }

    /// The object that serves `node`.
    pub(crate) fn spot(&self, node: &Node) -> Result<(Spot, Stat)> {
        self.anchors.spot(&self.stack, &self.plinks, node)
    }

    pub(crate) fn identity_of(&self, spot: &Spot, stat: &Stat) -> Result<RealId> {
        ids::identity(&self.stack, self.stack.branch(spot.branch), spot.obj(), stat)
    }

    /// The directory's listing, read from the branches if this is the first time.
    pub(crate) fn listed<'a>(&self, node: &'a Node) -> Result<RwLockReadGuard<'a, DirState>> {
        let dir = node.as_dir()?;
        if !dir.recent.load(Relaxed) {
            dir.recent.store(true, Relaxed);
        }
        let state = dir.index.read();
        if state.index.is_some() || state.removed {
            return Ok(state);
        }
        drop(state);
        Ok(RwLockWriteGuard::downgrade(self.listed_mut(node)?))
    }

    /// The same, to be changed.
    pub(crate) fn listed_mut<'a>(&self, node: &'a Node) -> Result<RwLockWriteGuard<'a, DirState>> {
        let dir = node.as_dir()?;
        let mut state = dir.index.write();
        if state.index.is_none() && !state.removed {
            let (mut index, places) = look::fill(&self.stack, &self.anchors, node)?;
            *dir.at.write() = places;
            if !index.unlisted().is_empty() {
                for (name, _) in &state.known {
                    look::ask_unlisted(&self.stack, &self.anchors, node, &mut index, name)?;
                }
            }
            index.join(self.book(node.ino));
            state.index = Some(index);
            self.put_back(&mut state);
        }
        dir.recent.store(true, Relaxed);
        self.make_room();
        Ok(state)
    }

    /// Attributes as users see them.
    pub(crate) fn attr(&self, node: &Node, spot: &Spot, stat: &Stat) -> Result<Attr> {
        self.attr_shown(node, &self.overrides.apply(spot.obj(), stat)?, stat)
    }

    /// The same, of an object that pretends to be `shown`.
    pub(crate) fn attr_shown(&self, node: &Node, shown: &Shown, stat: &Stat) -> Result<Attr> {
        let (uid, gid) = self.ids.shown(shown.uid, shown.gid);
        let (uid, gid, perm) = self.ids.adopted(uid, gid, shown.perm);
        Ok(Attr {
            ino: node.number,
            kind: shown.kind,
            perm,
            nlink: self.link_count(node, stat)?,
            uid,
            gid,
            rdev: (shown.rdev.major, shown.rdev.minor),
            size: stat.size,
            blocks: self.blocks(node, stat)?,
            blksize: stat.blksize,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            btime: stat.btime,
            lasts: node.as_other().is_ok_and(|other| other.mappers.load(Relaxed) == 0) || node.kind.is_dir(),
        })
    }

    /// What the file takes up; of a copy of metadata alone, what its data does.
    fn blocks(&self, node: &Node, stat: &Stat) -> Result<u64> {
        if stat.kind != plyfs_sys::Kind::File || stat.blocks.saturating_mul(512) >= stat.size {
            return Ok(stat.blocks);
        }
        let data = node.as_other()?.state.read().data.clone();
        Ok(data.and_then(|data| data.blocks).unwrap_or(stat.blocks))
    }

    /// POSIX: names of the file that the union shows; of a directory two and its subdirectories.
    fn link_count(&self, node: &Node, stat: &Stat) -> Result<u32> {
        if node.kind.is_dir() {
            let dir = node.as_dir()?;
            if dir.at.read().len() < 2 && !dir.redirected.load(Relaxed) {
                return Ok(if dir.gone.read().is_some() { 0 } else { stat.nlink });
            }
            let state = self.listed(node)?;
            return Ok(state.index.as_ref().map_or(0, |index| 2 + index.subdirs()));
        }
        let state = node.as_other()?.state.read().clone();
        let below = self.plinks.find(state.identity);
        Ok(match (below, &state.home.by) {
            (Some(plink), _) if plink.real == state.home.real => stat.nlink.saturating_sub(1) + plink.below,
            _ if self.stack.writable(state.home.branch) => stat.nlink,
            (_, HomeBy::Held(_)) if stat.nlink == 1 => 0,
            _ => stat.nlink.saturating_sub(self.plinks.hidden(state.identity)),
        })
    }
}

/// See [`Union::usable`].
pub(crate) struct Usable<'a> {
    stack: &'a Stack,
    parents: &'a [&'a Arc<Node>],
}

impl policy::Writable for Usable<'_> {
    fn writable(&self, branch: BranchIdx) -> bool {
        self.stack.writable(branch) && self.parents.iter().all(|parent| is_reachable(parent, branch))
    }
}

/// Can a directory be made on `branch` under the names that lead to `node`, and does it show there? Above all of its
/// branches, always. Between them, the name may be taken on that branch, or hidden by an opaque mark or a redirect
/// of a branch above: there only what is there already counts.
fn is_reachable(node: &Arc<Node>, branch: BranchIdx) -> bool {
    let mut here = node.clone();
    loop {
        let Ok(dir) = here.as_dir() else { return false };
        let places = dir.at.read().clone();
        if places.iter().any(|at| at.branch == branch) {
            return true;
        }
        if places.first().is_some_and(|at| at.branch < branch) {
            return false;
        }
        match here.link() {
            Some(link) => here = link.parent,
            None => return true,
        }
    }
}

fn root_node(stack: &Stack) -> Node {
    let mut places = Places::new();
    for branch in &stack.branches {
        places.push(DirAt {
            branch: branch.index,
            ino: branch.root.stat.ino,
            place: Place::Path(Arc::from([])),
            record: stack.root_record(branch.index),
        });
    }
    let top = &stack.branches[0];
    let number = ids::number(stack, RealId::of(&top.root.stat));
    Node::dir(Ino::ROOT, number, places, None)
}

/// Policies that later work brings: refused with a clear word, never silently replaced by another.
fn refuse_unfinished(spec: &MountSpec) -> Result<()> {
    let what = if spec.create != CreatePolicy::Tdp {
        "create= with another policy than tdp"
    } else if spec.copyup != CopyupPolicy::Tdp {
        "cpup= with another policy than tdp"
    } else if spec.branches.iter().any(|branch| branch.other.iter().any(|attr| changes_copy_up(*attr))) {
        "a branch with coo_reg, coo_all or moo"
    } else {
        return Ok(());
    };
    let offered = "policies: tdp, attributes: wh, nolwh, unpin, icex*";
    Err(SpecError::not_offered(format!("{what}; {offered}")).into())
}

/// Attributes that would make opening copy files.
fn changes_copy_up(attr: BranchAttr) -> bool {
    matches!(attr, BranchAttr::CooReg | BranchAttr::CooAll | BranchAttr::Moo)
}

/// The listing inside a guard; a removed directory has none.
pub(crate) fn index(state: &DirState) -> Result<&Index> {
    state.index.as_ref().ok_or(Refusal::Absent.into())
}

/// As [`index`], to be changed.
pub(crate) fn index_mut(state: &mut DirState) -> Result<&mut Index> {
    state.index.as_mut().ok_or(Refusal::Absent.into())
}
