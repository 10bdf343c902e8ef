//! create, mknod, mkdir, symlink, tmpfile: new entries.
//!
//! A new entry is made as its caller, with the caller's umask, in one system call under its final name: the
//! branch's filesystem applies set-group-id directories and default ACLs as POSIX says, exactly once.

use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;

use plyfs_sys::cred::ActAs;
use plyfs_sys::{Dev, Dir, Kind, Leaf, Obj, Stat};

use crate::act::{self, Target};
use crate::attr::{Caller, Entry, Ino, NewNode, OpenHow, Opened};
use crate::branch::Branch;
use crate::copyup::discard;
use crate::error::{Error, Refusal, Result};
use crate::handles::Backing;
use crate::ids::{self, RealId};
use crate::index::put;
use crate::marks;
use crate::names::Name;
use crate::nodes::{DirAt, Home, HomeBy, Link, Node, OtherState, Place, Spot, SpotBy};
use crate::perms::Shown;
use crate::plan::{self, Step};
use crate::policy;
use crate::resolve::BranchIdx;
use crate::union::{TRIES, Union, index, index_mut};

/// How one kind of entry is made under a name; a file comes open.
type Maker<'a> = &'a dyn Fn(&Branch, &Dir, &Leaf) -> Result<Option<File>>;

/// What was made.
pub(crate) struct Made {
    pub(crate) node: Arc<Node>,
    pub(crate) file: Option<File>,
    /// What was made, as it was then.
    pub(crate) spot: Spot,
    pub(crate) stat: Stat,
}

impl Union {
    /// mknod(2): a file, FIFO, socket or device. A character device 0/0 is a device, not a whiteout.
    pub fn mknod(&self, who: &Caller, parent: Ino, name: &OsStr, new: NewNode) -> Result<Entry> {
        let rdev = Dev { major: new.rdev.0, minor: new.rdev.1 };
        let made = self.make(who, parent, name, new.kind, new.perm, rdev, &|branch, dir, leaf| {
            let blame = |e| branch.blame(e);
            match new.kind {
                Kind::Dir | Kind::Symlink => Err(Refusal::Invalid.into()),
                // Kept in an xattr: the branch holds a plain file.
                _ if self.overrides.is_on() => dir.create(leaf, 0o600).map(|_| None).map_err(blame),
                Kind::CharDevice if rdev == Dev::default() => {
                    marks::make_null_device(branch, dir, leaf, new.perm).map(|()| None)
                }
                kind => dir.mknod(leaf, kind, new.perm, rdev).map(|()| None).map_err(blame),
            }
        })?;
        self.entry_of_made(&made)
    }

    /// mkdir(2). Opaque where it takes the place of a whiteout.
    pub fn mkdir(&self, who: &Caller, parent: Ino, name: &OsStr, perm: u32) -> Result<Entry> {
        let made = self.make(who, parent, name, Kind::Dir, perm, Dev::default(), &|branch, dir, leaf| {
            dir.mkdir(leaf, self.disk_perm(perm, Kind::Dir)).map(|()| None).map_err(|e| branch.blame(e))
        })?;
        self.entry_of_made(&made)
    }

    /// symlink(2).
    pub fn symlink(&self, who: &Caller, parent: Ino, name: &OsStr, target: &OsStr) -> Result<Entry> {
        let made =
            self.make(who, parent, name, Kind::Symlink, 0o777, Dev::default(), &|branch, dir, leaf| {
                dir.symlink(leaf, target).map(|()| None).map_err(|e| branch.blame(e))
            })?;
        self.entry_of_made(&made)
    }

    /// open(2) with O_CREAT of a name that is absent: made and opened in one.
    pub fn create(
        &self,
        who: &Caller,
        parent: Ino,
        name: &OsStr,
        perm: u32,
        how: OpenHow,
    ) -> Result<(Entry, Opened)> {
        let made = self.make(who, parent, name, Kind::File, perm, Dev::default(), &|branch, dir, leaf| {
            dir.create(leaf, self.disk_perm(perm, Kind::File)).map(Some).map_err(|e| branch.blame(e))
        })?;
        let entry = self.entry_of_made(&made)?;
        let file = Arc::new(made.file.ok_or(Error::BadHandle)?);
        self.open_made(made.node, entry, (file, made.stat), how)
    }

    /// open(2) with O_TMPFILE: no name, until link(2) gives one.
    pub fn tmpfile(&self, who: &Caller, parent: Ino, perm: u32, how: OpenHow) -> Result<(Entry, Opened)> {
        let parent = self.node(parent)?;
        let places = parent.as_dir()?.at.read().clone();
        let branch = policy::for_new(&self.usable(&[&parent]), &places, &[])?;
        let dir = self.ensure_dir(&parent, branch)?;
        let branch = self.stack.branch(branch);
        let acting = self.act_as(who)?;
        let file = dir.tmpfile(self.disk_perm(perm, Kind::File)).map_err(|e| branch.blame(e))?;
        drop(acting);
        let file = Arc::new(file);
        let obj = Obj::Fd(std::os::fd::AsFd::as_fd(&*file));
        let stat = self.settle_owner(branch, obj, who, Kind::File, perm, Dev::default())?;
        let identity = RealId::of(&stat);
        let home = Home { branch: branch.index, real: identity, by: HomeBy::Held(file.clone()) };
        let state = OtherState { home, identity, generation: 0, data: None, opened: Arc::downgrade(&file) };
        let number = ids::number(&self.stack, identity);
        let node = self.nodes.insert(Node::other(self.nodes.fresh(), Kind::File, number, state, None));
        let entry = self.entry_of(&node)?;
        self.open_made(node, entry, (file, stat), how)
    }

    fn open_made(
        &self,
        node: Arc<Node>,
        mut entry: Entry,
        (file, stat): (Arc<File>, Stat),
        how: OpenHow,
    ) -> Result<(Entry, Opened)> {
        let mut state = node.as_other()?.state.write();
        state.opened = Arc::downgrade(&file);
        let backing = Backing { file, generation: state.generation, writable: true };
        drop(state);
        let opened = self.enter(&node, how, Some((backing, stat)));
        let opened = opened.inspect_err(|_| self.nodes.put(&node, 1))?;
        entry.attr.lasts &= !opened.forget_attr;
        Ok((entry, opened))
    }

    fn entry_of_made(&self, made: &Made) -> Result<Entry> {
        let attr = self.attr(&made.node, &made.spot, &made.stat);
        let attr = attr.inspect_err(|_| self.nodes.put(&made.node, 1))?;
        Ok(Entry { ino: made.node.ino, attr })
    }

    /// The answer for a node with one reference more; gives its reference back on failure.
    pub(crate) fn entry_of(&self, node: &Arc<Node>) -> Result<Entry> {
        self.entry(node).inspect_err(|_| self.nodes.put(node, 1))
    }

    #[expect(clippy::too_many_arguments, reason = "the one place behind five operations")]
    fn make(
        &self,
        who: &Caller,
        parent: Ino,
        name: &OsStr,
        kind: Kind,
        perm: u32,
        rdev: Dev,
        maker: Maker<'_>,
    ) -> Result<Made> {
        let name = self.name(name)?;
        let parent = self.node(parent)?;
        for _ in 0..TRIES {
            let branch = self.branch_for_new(&parent, &name)?;
            let dir = self.ensure_dir(&parent, branch)?;
            let mut state = self.listed_mut(&parent)?;
            let listing = index_mut(&mut state)?;
            if listing.resolved(name.leaf().as_os_str()).is_some() {
                return Err(Refusal::Exists.into());
            }
            let places = parent.as_dir()?.at.read().clone();
            let seen = listing.seen(name.leaf().as_os_str());
            if policy::for_new(&self.usable(&[&parent]), &places, seen)? != branch {
                continue;
            }
            let plan = plan::create(seen, branch, kind.is_dir(), self.always_opaque);
            let branch = self.stack.branch(branch);
            let (file, stat) =
                self.make_entry(who, branch, &dir, name.leaf(), &plan, (kind, perm, rdev), maker)?;
            let node = self.new_node(&parent, name.leaf(), branch.index, &stat);
            listing.change(name.leaf(), branch.index, put(stat.kind, stat.ino));
            listing.set_node(name.leaf().as_os_str(), Some(node.ino));
            let target = Target { dir, name: name.leaf().clone(), lower: None };
            act::run(self, branch, &plan, &target, &target).inspect_err(|_| self.nodes.put(&node, 1))?;
            listing.change(name.leaf(), branch.index, |seen| seen.whiteout = false);
            let spot = Spot { branch: branch.index, by: SpotBy::At(target.dir, target.name) };
            return Ok(Made { node, file, spot, stat });
        }
        Err(Error::Stale)
    }

    pub(crate) fn branch_for_new(&self, parent: &Arc<Node>, name: &Name) -> Result<BranchIdx> {
        let state = self.listed(parent)?;
        let seen = index(&state)?.seen(name.leaf().as_os_str());
        if crate::resolve::resolve(seen).is_some() {
            return Err(Refusal::Exists.into());
        }
        let places = parent.as_dir()?.at.read().clone();
        Ok(policy::for_new(&self.usable(&[parent]), &places, seen)?)
    }

    /// The entry on disk, whole: owner settled, a directory opaque before it has its name.
    #[expect(clippy::too_many_arguments, reason = "one step of make, with its facts")]
    fn make_entry(
        &self,
        who: &Caller,
        branch: &Branch,
        dir: &Dir,
        name: &Leaf,
        plan: &[Step],
        (kind, perm, rdev): (Kind, u32, Dev),
        maker: Maker<'_>,
    ) -> Result<(Option<File>, Stat)> {
        if plan.len() > 1 {
            marks::free_name(branch, dir, name)?;
        }
        let acting = self.act_as(who)?;
        let undo = |_: &Error| {
            discard(dir, name, if self.overrides.is_on() && !kind.is_dir() { Kind::File } else { kind })
        };
        let mut file = None;
        if plan.contains(&Step::Make { opaque: true }) {
            act::make_opaque_dir(branch, dir, name, &|leaf| maker(branch, dir, leaf).map(drop))?;
        } else {
            file = maker(branch, dir, name)?;
        }
        drop(acting);
        let stat = self.settle_owner(branch, Obj::At(dir, name), who, kind, perm, rdev).inspect_err(undo)?;
        Ok((file, stat))
    }

    fn act_as(&self, who: &Caller) -> Result<ActAs> {
        let (uid, gid) = (self.ids.kept_uid(who.uid)?, self.ids.kept_gid(who.gid)?);
        if self.overrides.is_on() {
            return Ok(ActAs::server());
        }
        Ok(ActAs::caller(uid, gid, who.umask))
    }

    /// With owners in xattrs the inode only has to be usable by the server.
    fn disk_perm(&self, perm: u32, kind: Kind) -> u32 {
        match (self.overrides.is_on(), kind) {
            (false, _) => perm,
            (true, Kind::Dir) => 0o755,
            (true, _) => 0o644,
        }
    }

    /// Where the server could not act as the caller, the owner is set afterwards, as far as it may.
    fn settle_owner(
        &self,
        branch: &Branch,
        obj: Obj<'_>,
        who: &Caller,
        kind: Kind,
        perm: u32,
        rdev: Dev,
    ) -> Result<Stat> {
        let blame = |e| branch.blame(e);
        let stat = obj.stat().map_err(blame)?;
        let uid = self.ids.kept_uid(who.uid)?;
        if self.overrides.is_on() {
            let gid = self.ids.kept_gid(who.gid)?;
            let shown = Shown { uid, gid, perm: perm & !who.umask, kind, rdev };
            // A symlink carries no user.* xattr; its owner stays the server's.
            if kind != Kind::Symlink {
                self.overrides.keep(obj, &shown)?;
            }
            return Ok(Stat { kind, rdev, ..stat });
        }
        if stat.uid == uid || !self.privileged {
            return Ok(stat);
        }
        obj.chown(Some(uid), Some(self.ids.kept_gid(who.gid)?)).map_err(blame)?;
        if kind != Kind::Symlink {
            obj.chmod(stat.perm).map_err(blame)?;
        }
        obj.stat().map_err(blame)
    }

    /// A node for what was just made: certainly new, whatever had its number before.
    pub(crate) fn new_node(
        &self,
        parent: &Arc<Node>,
        name: &Leaf,
        branch: BranchIdx,
        stat: &Stat,
    ) -> Arc<Node> {
        let link = Link { parent: parent.clone(), name: name.clone() };
        let identity = RealId::of(stat);
        let number = ids::number(&self.stack, identity);
        let ino = self.nodes.fresh();
        self.nodes.insert(if stat.kind.is_dir() {
            let at = DirAt { branch, ino: stat.ino, place: Place::Named, record: None };
            Node::dir(ino, number, [at].into_iter().collect(), Some(link))
        } else {
            let home = Home { branch, real: identity, by: HomeBy::Name };
            let state =
                OtherState { home, identity, generation: 0, data: None, opened: std::sync::Weak::new() };
            let node = Node::other(ino, stat.kind, number, state, Some(link));
            node.has_no_capability(true);
            node
        })
    }
}
