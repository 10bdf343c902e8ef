//! `Node`: one object of the union as the kernel knows it, and the table of them.
//!
//! A node knows its names (links), not its path, and holds no descriptor: `anchor.rs` finds its objects on the
//! branches. A node stays in the table while the kernel or a child node or an open handle refers to it.
//!
//! Lock order, outermost first: `Union::renames` (directories changing parents), a file's `copyup`, its `door`, its
//! `io`, `Union::modes`, directories' `index` (ancestor before descendant, else by number), then the short ones, never two at once:
//! `links`, `at`, a file's `state`, the table's shards. The hard-link keys come before the shards. With the `door` held
//! nobody waits for an `index`, nor copies anything: so a `door` may be taken with an `index` held.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use foldhash::HashMap;

use parking_lot::{Mutex, RwLock};
use plyfs_sys::{Kind, Leaf, Obj};

use smallvec::SmallVec;

use crate::attr::Ino;
use crate::error::{Error, Result};
use crate::ids::RealId;
use crate::image::Record;
use crate::index::Index;
use crate::metacopy::Data;
use crate::passthrough::Door;
use crate::resolve::BranchIdx;

/// One object of the union.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) ino: Ino,
    pub(crate) kind: Kind,
    /// `st_ino` (design D4); never changes.
    pub(crate) number: u64,
    /// Kernel lookups, child links and open handles.
    refs: AtomicU64,
    /// Named by a request since [`Nodes::coldest`] last passed.
    used: AtomicBool,
    links: Mutex<SmallVec<[Link; 1]>>,
    body: Body,
}

/// A name of a node.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) parent: Arc<Node>,
    pub(crate) name: Leaf,
}

#[derive(Debug)]
enum Body {
    Dir(DirBody),
    Other(OtherBody),
}

/// What only directories have.
#[derive(Debug)]
pub(crate) struct DirBody {
    /// The branches whose directories merge here, top first.
    pub(crate) at: RwLock<Places>,
    /// Held from look to tell by everything that changes the directory.
    pub(crate) index: RwLock<DirState>,
    /// Used since `ledger.rs` last asked it to give way.
    pub(crate) recent: AtomicBool,
    /// Its top has a redirect: which branches merge is known only once it is listed.
    pub(crate) redirected: AtomicBool,
    /// Its descriptor once it was removed but is still referred to.
    pub(crate) gone: RwLock<Option<(BranchIdx, Arc<plyfs_sys::Dir>)>>,
}

pub(crate) type Places = SmallVec<[DirAt; 1]>;

/// A directory on one branch.
#[derive(Debug, Clone)]
pub(crate) struct DirAt {
    pub(crate) branch: BranchIdx,
    /// Inode number there; 0 where not asked yet.
    pub(crate) ino: u64,
    pub(crate) place: Place,
    /// On a branch that the image index covers: the record of the merged directory that this is a part of.
    pub(crate) record: Option<Record>,
}

/// How to reach a directory on a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Under its parent's directory on that branch, by the node's own name.
    Named,
    /// From the branch's root: behind a renamed directory. Components, empty for the root itself.
    Path(Arc<[Leaf]>),
}

/// The listing of a directory, once asked for.
#[derive(Debug, Default)]
pub(crate) struct DirState {
    pub(crate) index: Option<Index>,
    /// While there is no index: the children known from an earlier one (`ledger.rs`).
    pub(crate) known: Vec<(Leaf, Ino)>,
    /// An index was dropped: what the kernel knows of names, absent ones too, may be older than the present index.
    pub(crate) dropped: bool,
    /// Removed while somebody still refers to it.
    pub(crate) removed: bool,
}

/// What only non-directories have.
#[derive(Debug)]
pub(crate) struct OtherBody {
    /// Held by whoever copies the file up: it is copied once.
    pub(crate) copyup: Mutex<()>,
    /// Shared while data is written; alone while a file is copied from one writable branch to another.
    pub(crate) io: RwLock<()>,
    pub(crate) state: RwLock<OtherState>,
    /// How it is open.
    pub(crate) door: Mutex<Door>,
    /// Descriptors through which the kernel may map and change the file by itself: attributes don't last then.
    pub(crate) mappers: AtomicU32,
    /// It has no `security.capability`, for sure.
    no_capability: AtomicBool,
    /// The node that took over (`ops/leave.rs`), with one reference.
    successor: OnceLock<Arc<Node>>,
}

/// Where a non-directory is now.
#[derive(Debug, Clone)]
pub(crate) struct OtherState {
    pub(crate) home: Home,
    /// What it was copied up from, or itself.
    pub(crate) identity: RealId,
    /// Raised by every copy-up, and when a copy gets its data: open handles notice by it.
    pub(crate) generation: u64,
    /// Where its data is, if not there: it is a copy of metadata alone (`metacopy.rs`).
    pub(crate) data: Option<Arc<Data>>,
    /// A descriptor some handle has open on the current home.
    pub(crate) opened: std::sync::Weak<File>,
}

impl OtherState {
    /// The file that has the data, as far as that is known.
    pub(crate) fn data_real(&self) -> RealId {
        self.data.as_ref().and_then(|data| data.id).unwrap_or(self.home.real)
    }

    /// The branch that has the data; of data that was never looked for, the one below the copy.
    pub(crate) fn data_branch(&self) -> BranchIdx {
        self.data.as_ref().map_or(self.home.branch, |data| data.branch())
    }
}

/// The branch that serves a non-directory, and how to reach it there.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) branch: BranchIdx,
    pub(crate) real: RealId,
    pub(crate) by: HomeBy,
}

/// How a non-directory is reached on its branch.
#[derive(Debug, Clone)]
pub(crate) enum HomeBy {
    /// By any of the node's names.
    Name,
    /// By its pseudo-link: some of its names are on lower branches only.
    Plink(Leaf),
    /// By a held descriptor: no name is known any more.
    Held(Arc<File>),
}

impl Node {
    /// A new directory with one reference.
    pub(crate) fn dir(ino: Ino, number: u64, at: Places, link: Option<Link>) -> Node {
        let body = DirBody {
            at: RwLock::new(at),
            index: RwLock::default(),
            recent: AtomicBool::new(true),
            redirected: AtomicBool::new(false),
            gone: RwLock::default(),
        };
        Node::new(ino, Kind::Dir, number, link, Body::Dir(body))
    }

    /// A new non-directory with one reference.
    pub(crate) fn other(ino: Ino, kind: Kind, number: u64, state: OtherState, link: Option<Link>) -> Node {
        let body = OtherBody {
            copyup: Mutex::new(()),
            io: RwLock::new(()),
            state: RwLock::new(state),
            door: Mutex::default(),
            mappers: AtomicU32::new(0),
            no_capability: AtomicBool::new(false),
            successor: OnceLock::new(),
        };
        Node::new(ino, kind, number, link, Body::Other(body))
    }

    fn new(ino: Ino, kind: Kind, number: u64, link: Option<Link>, body: Body) -> Node {
        if let Some(link) = &link {
            link.parent.refer();
        }
        let links = Mutex::new(link.into_iter().collect());
        Node { ino, kind, number, refs: AtomicU64::new(1), used: AtomicBool::new(true), links, body }
    }

    /// The directory part; ENOTDIR-like refusal is the caller's: a non-directory here is a stale node.
    pub(crate) fn as_dir(&self) -> Result<&DirBody> {
        match &self.body {
            Body::Dir(dir) => Ok(dir),
            Body::Other(_) => Err(crate::error::Refusal::NotADirectory.into()),
        }
    }

    pub(crate) fn as_other(&self) -> Result<&OtherBody> {
        match &self.body {
            Body::Dir(_) => Err(crate::error::Refusal::IsADirectory.into()),
            Body::Other(other) => Ok(other),
        }
    }

    /// A descriptor that some handle has open on the current home.
    pub(crate) fn opened(&self) -> Result<Option<Arc<File>>> {
        Ok(self.as_other()?.state.read().opened.upgrade())
    }

    /// Where the directory is on `branch`.
    pub(crate) fn at(&self, branch: BranchIdx) -> Result<Option<DirAt>> {
        Ok(self.as_dir()?.at.read().iter().find(|at| at.branch == branch).cloned())
    }

    /// The topmost branch of a directory.
    pub(crate) fn top(&self) -> Result<BranchIdx> {
        self.as_dir()?.at.read().first().map(|at| at.branch).ok_or(Error::Stale)
    }

    /// Any one name; `None` once all known ones are gone.
    pub(crate) fn link(&self) -> Option<Link> {
        self.links.lock().first().cloned()
    }

    pub(crate) fn links(&self) -> SmallVec<[Link; 1]> {
        self.links.lock().clone()
    }

    pub(crate) fn has_link(&self, parent: &Node, name: &Leaf) -> bool {
        self.links.lock().iter().any(|l| l.parent.ino == parent.ino && l.name == *name)
    }

    /// Adds a name, unless known. `false`: the node was left behind, and the name is its successor's.
    pub(crate) fn add_link(&self, parent: &Arc<Node>, name: &Leaf) -> bool {
        let mut links = self.links.lock();
        if self.successor().is_some() {
            return false;
        }
        if !links.iter().any(|l| l.parent.ino == parent.ino && l.name == *name) {
            parent.refer();
            links.push(Link { parent: parent.clone(), name: name.clone() });
        }
        true
    }

    /// Removes a name; the caller lowers the parent's references. `true` if it was known.
    fn remove_link(&self, parent: &Node, name: &Leaf) -> bool {
        let mut links = self.links.lock();
        let before = links.len();
        links.retain(|l| !(l.parent.ino == parent.ino && l.name == *name));
        links.len() < before
    }

    /// The node that took over, if this one was left behind.
    pub(crate) fn successor(&self) -> Option<&Arc<Node>> {
        match &self.body {
            Body::Dir(_) => None,
            Body::Other(other) => other.successor.get(),
        }
    }

    /// Is it known to have no `security.capability`? The kernel asks at the first write and each chown of a file.
    pub(crate) fn lacks_capability(&self) -> bool {
        matches!(&self.body, Body::Other(other) if other.no_capability.load(Ordering::Relaxed))
    }

    /// Somebody looked, or is about to set one.
    pub(crate) fn has_no_capability(&self, so: bool) {
        if let Body::Other(other) = &self.body {
            other.no_capability.store(so, Ordering::Relaxed);
        }
    }

    /// Leaves this node behind for `next`, whose one reference it takes; not if it has other names than `links` by now.
    pub(crate) fn succeed(&self, next: &Arc<Node>, links: &[Link]) -> bool {
        let Body::Other(other) = &self.body else { return false };
        let mine = self.links.lock();
        let known = |one: &Link| mine.iter().any(|l| l.parent.ino == one.parent.ino && l.name == one.name);
        // Under the file's `copyup` there is only one successor.
        mine.len() == links.len() && links.iter().all(known) && other.successor.set(next.clone()).is_ok()
    }

    /// One more reference; only for who holds one already (or the table's lock).
    pub(crate) fn refer(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

const SHARDS: usize = 16;

/// Every node the kernel may name.
#[derive(Debug)]
pub(crate) struct Nodes {
    shards: [RwLock<HashMap<u64, Arc<Node>>>; SHARDS],
    next: AtomicU64,
    /// Hard-linked non-directories by identity, so that all names of one file are one node.
    keys: Mutex<HashMap<RealId, Ino>>,
}

impl Nodes {
    pub(crate) fn new(root: Node) -> Nodes {
        let nodes = Nodes {
            shards: std::array::from_fn(|_| RwLock::default()),
            next: AtomicU64::new(Ino::ROOT.0 + 1),
            keys: Mutex::default(),
        };
        nodes.shard(root.ino).write().insert(root.ino.0, Arc::new(root));
        nodes
    }

    fn shard(&self, ino: Ino) -> &RwLock<HashMap<u64, Arc<Node>>> {
        &self.shards[ino.0 as usize % SHARDS]
    }

    /// A number never used before.
    pub(crate) fn fresh(&self) -> Ino {
        Ino(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The node, as the kernel named it: it holds a reference itself.
    pub(crate) fn get(&self, ino: Ino) -> Result<Arc<Node>> {
        self.peek(ino).inspect(|node| node.touch()).ok_or(Error::Stale)
    }

    /// The same, for who looks at the table and uses no node.
    pub(crate) fn peek(&self, ino: Ino) -> Option<Arc<Node>> {
        self.shard(ino).read().get(&ino.0).cloned()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Every node there is now.
    pub(crate) fn all(&self) -> Vec<Arc<Node>> {
        self.shards.iter().flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Up to `want` of the nodes that no request named since this was last called, oldest first. They count as named
    /// now.
    pub(crate) fn coldest(&self, want: usize) -> Vec<Arc<Node>> {
        let mut cold = self.all();
        cold.retain(|node| node.ino != Ino::ROOT && !node.used.swap(false, Ordering::Relaxed));
        cold.sort_by_key(|node| node.ino);
        cold.truncate(want);
        cold.iter().for_each(|node| node.touch());
        cold
    }

    /// The node with one reference more, if it is still there.
    pub(crate) fn grab(&self, ino: Ino) -> Option<Arc<Node>> {
        let shard = self.shard(ino).read();
        let node = shard.get(&ino.0)?;
        node.touch();
        node.refer();
        Some(node.clone())
    }

    pub(crate) fn insert(&self, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        self.shard(node.ino).write().insert(node.ino.0, node.clone());
        node
    }

    /// Gives `count` references back; without any left the node goes, and with it its hold on its parents.
    pub(crate) fn put(&self, node: &Arc<Node>, count: u64) {
        let mut gone = vec![];
        self.put_one(node, count, &mut gone);
        while let Some(node) = gone.pop() {
            self.forget_key(&node);
            let links = std::mem::take(&mut *node.links.lock());
            for link in links {
                self.put_one(&link.parent, 1, &mut gone);
            }
            if let Some(next) = node.successor() {
                self.put_one(next, 1, &mut gone);
            }
        }
    }

    fn put_one(&self, node: &Arc<Node>, count: u64, gone: &mut Vec<Arc<Node>>) {
        if node.ino == Ino::ROOT {
            return;
        }
        let mut shard = self.shard(node.ino).write();
        let before = node.refs.fetch_sub(count, Ordering::AcqRel);
        debug_assert!(before >= count, "more forgets than lookups of {:?}", node.ino);
        if before <= count {
            shard.remove(&node.ino.0);
            gone.push(node.clone());
        }
    }

    /// Removes a name of `node` and the hold on its parent.
    pub(crate) fn unlink(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &Leaf) {
        if node.remove_link(parent, name) {
            self.put(parent, 1);
        }
    }

    /// The node of a hard-linked file, with one reference more.
    pub(crate) fn grab_key(&self, key: RealId) -> Option<Arc<Node>> {
        let ino = *self.keys.lock().get(&key)?;
        self.grab(ino)
    }

    /// From now on, names of the file `key` are this node.
    pub(crate) fn set_key(&self, key: RealId, node: &Node) {
        self.keys.lock().insert(key, node.ino);
    }

    /// Names of the file `key` that were `old` are `new`.
    pub(crate) fn replace_key(&self, key: RealId, old: &Node, new: &Node) {
        let mut keys = self.keys.lock();
        if let Some(ino) = keys.get_mut(&key).filter(|ino| **ino == old.ino) {
            *ino = new.ino;
        }
    }

    /// Puts a new hard-linked node into the table, unless somebody was faster: then theirs, with one reference more.
    pub(crate) fn insert_linked(&self, key: RealId, node: Node) -> Arc<Node> {
        let mut keys = self.keys.lock();
        if let Some(other) = keys.get(&key).and_then(|ino| self.grab(*ino)) {
            return other;
        }
        let node = self.insert(node);
        keys.insert(key, node.ino);
        node
    }

    /// The file is gone, or its node: the next of this identity is another file.
    pub(crate) fn forget_key(&self, node: &Node) {
        let Body::Other(other) = &node.body else { return };
        let key = other.state.read().identity;
        let mut keys = self.keys.lock();
        if keys.get(&key) == Some(&node.ino) {
            keys.remove(&key);
        }
    }
}

/// An object on a branch, ready to be asked or changed; keeps what it needs alive.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) branch: BranchIdx,
    pub(crate) by: SpotBy,
}

/// See [`Spot`].
#[derive(Debug)]
pub(crate) enum SpotBy {
    At(Arc<plyfs_sys::Dir>, Leaf),
    Dir(Arc<plyfs_sys::Dir>),
    Held(Arc<File>),
}

impl Spot {
    /// A descriptor of the object, whatever becomes of its name.
    pub(crate) fn hold(&self) -> plyfs_sys::Result<File> {
        match &self.by {
            SpotBy::At(dir, leaf) => dir.hold(leaf).map(File::from),
            SpotBy::Dir(dir) => dir.again().map(|dir| File::from(std::os::fd::OwnedFd::from(dir))),
            SpotBy::Held(file) => file.try_clone().map_err(|e| plyfs_sys::SysError::from_io("dup", &e)),
        }
    }

    pub(crate) fn obj(&self) -> Obj<'_> {
        use std::os::fd::AsFd;
        match &self.by {
            SpotBy::At(dir, leaf) => Obj::At(dir, leaf),
            SpotBy::Dir(dir) => Obj::Dir(dir),
            SpotBy::Held(fd) => Obj::Fd(fd.as_fd()),
        }
    }
}
