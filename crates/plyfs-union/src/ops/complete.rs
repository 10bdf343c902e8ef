//! Copies of metadata alone (`metacopy.rs`): making one, reading it, and giving it its data.
//!
//! The data is filled into the copy in place, so that hard links and the inode stay. The fact goes last: after a crash
//! before that, the data is still read from below.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use plyfs_sys::{Access, Errno, Kind, NewTime, Obj, SetXattr, Stat};

use crate::attr::{CAPABILITY, SET_IDS};
use crate::branch::Branch;
use crate::error::Result;
use crate::handles::Backing;
use crate::ids::{self, RealId};
use crate::marks::{self, Fact};
use crate::metacopy::{self, Data, Whereabouts};
use crate::nodes::{Home, HomeBy, Link, Node, Spot};
use crate::resolve::BranchIdx;
use crate::union::Union;

/// What of a file's data its copy must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// None of it: attributes or names are about to change.
    Attributes,
    /// So many bytes from the start: it is about to be cut.
    First(u64),
    /// All: something will be written.
    All,
}

impl Union {
    /// Fills a new copy with what it needs; the answer says where the data is, if not in the copy. `link` is the
    /// name that is copied, where it has one.
    pub(crate) fn fill_copy(
        &self,
        node: &Node,
        to: &Branch,
        (source, stat): (&Spot, &Stat),
        file: &File,
        need: Need,
        link: Option<&Link>,
    ) -> Result<Option<Arc<Data>>> {
        let elsewhere = node.as_other()?.state.read().data.clone();
        let from = match elsewhere {
            Some(data) => data.open(&self.stack)?,
            None => source.obj().open(Access::Read).map_err(|e| self.stack.branch(source.branch).blame(e))?,
        };
        if need == Need::Attributes
            && let Some(link) = link
            && let Some(path) = self.may_leave_data(to, source, stat, link)?
        {
            if plyfs_sys::file::reflink(&from, file) {
                return Ok(None);
            }
            if let Some(data) = self.leave_data(to, &from, file, path)? {
                return Ok(Some(data));
            }
        }
        let wanted = if let Need::First(size) = need { size } else { stat.size };
        plyfs_sys::file::copy_contents(&from, stat.size, file, wanted).map_err(|e| to.blame(e))?;
        Ok(None)
    }

    /// The path to keep with a copy on `to` of what is at `link`; `None`: copy the data.
    fn may_leave_data(
        &self,
        to: &Branch,
        source: &Spot,
        stat: &Stat,
        link: &Link,
    ) -> Result<Option<std::path::PathBuf>> {
        let big = self.metacopy.is_some_and(|from| stat.size > from);
        if !big || self.stack.writable(source.branch) || source.branch <= to.index {
            return Ok(None);
        }
        metacopy::lower_path(&self.stack, &link.parent, &link.name, to.index, true)
    }

    /// Makes `file` a copy of metadata alone; `None` if it could not be found again as one.
    fn leave_data(
        &self,
        to: &Branch,
        from: &File,
        file: &File,
        path: std::path::PathBuf,
    ) -> Result<Option<Arc<Data>>> {
        let stat = Obj::Fd(from.as_fd()).stat()?;
        let data = Data::new(to.index, path, &stat);
        // What the name leads to must be this very file, and now.
        let Some(found) = data.find(&self.stack, true)? else { return Ok(None) };
        if RealId::of(&Obj::Fd(found.as_fd()).stat()?) != RealId::of(&stat) {
            return Ok(None);
        }
        if !marks::keep_fact(to, Obj::Fd(file.as_fd()), Fact::Data, &data.text(&self.stack))? {
            return Ok(None);
        }
        plyfs_sys::file::truncate(file, data.size).map_err(|e| to.blame(e))?;
        Ok(Some(Arc::new(data)))
    }

    /// The last step of a copy of metadata alone: marks it as one. It gets its data after all where the branch can't
    /// keep the mark.
    pub(crate) fn mark_copy(
        &self,
        to: &Branch,
        file: &File,
        data: Option<Arc<Data>>,
    ) -> Result<Option<Arc<Data>>> {
        let Some(data) = data else { return Ok(None) };
        let copy = Obj::Fd(file.as_fd());
        if ids::mark_bare(to, copy)? {
            return Ok(Some(data));
        }
        let stat = copy.stat().map_err(|e| to.blame(e))?;
        self.fill(to, file, &stat, &data)?;
        Ok(None)
    }

    /// Where the data of a node's file is, if not in the file itself: when the node is made.
    pub(crate) fn data_of(
        &self,
        home: &Home,
        link: &Link,
        (stat, bare): (&Stat, bool),
    ) -> Result<Option<Arc<Data>>> {
        if stat.kind != Kind::File {
            return Ok(None);
        }
        let branch = self.stack.branch(home.branch);
        let named = matches!(home.by, HomeBy::Name);
        if named && !bare && !metacopy::may_be_foreign(branch, stat) {
            return Ok(None);
        }
        let lower = || metacopy::lower_path(&self.stack, &link.parent, &link.name, home.branch, false);
        let (dir, at);
        let (obj, stat, bare) = match &home.by {
            HomeBy::Held(_) => return Ok(None),
            HomeBy::Plink(plink) => {
                dir = self.plinks.dir(home.branch)?;
                let obj = Obj::At(&dir, plink);
                at = obj.stat().map_err(|e| branch.blame(e))?;
                (obj, &at, ids::origin(&self.stack, branch, obj, &at)?.1)
            }
            HomeBy::Name => {
                dir = self.dir(&link.parent, home.branch)?;
                (Obj::At(&dir, &link.name), stat, bare)
            }
        };
        match metacopy::data_of(&self.stack, branch, obj, (stat, bare), lower)? {
            Whereabouts::Here => Ok(None),
            Whereabouts::In(data) => Ok(Some(Arc::new(data))),
            Whereabouts::HereByNow => {
                if branch.writable && !self.look_only {
                    marks::drop_fact_for_sure(branch, obj, Fact::Data)?;
                    ids::unmark_bare(branch, obj)?;
                }
                Ok(None)
            }
        }
    }

    /// Is the node's data elsewhere?
    pub(crate) fn lacks_data(&self, node: &Node) -> Result<bool> {
        Ok(node.as_other()?.state.read().data.is_some())
    }

    /// The descriptor for a node whose data is elsewhere: for reading. `None` where it is at home.
    pub(crate) fn open_elsewhere(&self, node: &Node) -> Result<Option<(Backing, Stat)>> {
        let state = node.as_other()?.state.read().clone();
        let Some(data) = state.data else { return Ok(None) };
        let file = Arc::new(data.open(&self.stack)?);
        let stat = Obj::Fd(file.as_fd()).stat()?;
        Ok(Some((Backing { file, generation: state.generation, writable: false }, stat)))
    }

    /// fsync(2) of a file that is open for writing, and whose data is not at home: of its attributes.
    pub(crate) fn sync_attributes(&self, node: &Node) -> Result<()> {
        if !self.lacks_data(node)? {
            return Ok(());
        }
        let (spot, _) = self.spot(node)?;
        let branch = self.stack.branch(spot.branch);
        if !branch.writable {
            return Ok(());
        }
        let file = spot.obj().open(Access::Read).map_err(|e| branch.blame(e))?;
        plyfs_sys::file::fsync(&file, false).map_err(|e| branch.blame(e))
    }

    /// Gives the copy on a writable branch its data. The file's `copyup` must be held. `Ok(false)`: its name was lost or
    /// moved meanwhile; look again.
    pub(crate) fn complete(&self, node: &Arc<Node>, need: Need) -> Result<bool> {
        let Some(data) = node.as_other()?.state.read().data.clone() else { return Ok(true) };
        let (spot, stat) = self.spot(node)?;
        let to = self.stack.branch(spot.branch);
        let blame = |e| to.blame(e);
        let held = match spot.hold() {
            Err(e) if e.errno() == Errno::NOENT => return Ok(false),
            held => held.map_err(blame)?,
        };
        let copy = Obj::Fd(held.as_fd());
        if RealId::of(&copy.stat().map_err(blame)?) != RealId::of(&stat) {
            return Ok(false);
        }
        let _server = plyfs_sys::cred::ActAs::server();
        let shut = !self.privileged && stat.perm & 0o600 != 0o600;
        if shut {
            copy.chmod(stat.perm | 0o600).map_err(blame)?;
        }
        let file = copy.open(Access::ReadWrite).map_err(blame);
        let done = file.and_then(|file| match need {
            Need::First(0) => self.empty(to, &file),
            Need::Attributes | Need::First(_) | Need::All => self.fill(to, &file, &stat, &data),
        });
        if shut {
            copy.chmod(stat.perm).map_err(blame)?;
        }
        done?;
        let mut state = node.as_other()?.state.write();
        state.data = None;
        state.generation += 1;
        state.opened = std::sync::Weak::new();
        Ok(true)
    }

    /// Cuts the copy to nothing: an empty file's fact is void already.
    fn empty(&self, to: &Branch, file: &File) -> Result<()> {
        plyfs_sys::file::truncate(file, 0).map_err(|e| to.blame(e))?;
        self.drop_data_fact(to, file)
    }

    fn drop_data_fact(&self, to: &Branch, file: &File) -> Result<()> {
        let copy = Obj::Fd(file.as_fd());
        marks::drop_fact_for_sure(to, copy, Fact::Data)?;
        ids::unmark_bare(to, copy)
    }

    /// Fills the copy `file`, which has the attributes `stat` and keeps them.
    fn fill(&self, to: &Branch, file: &File, stat: &Stat, data: &Data) -> Result<()> {
        let blame = |e| to.blame(e);
        let copy = Obj::Fd(file.as_fd());
        let from = data.open(&self.stack)?;
        let capability = copy.xattr(CAPABILITY.as_ref()).map_err(blame)?;
        let copied = plyfs_sys::file::copy_contents(&from, data.size, file, data.size);
        // No space, perhaps: what came goes, so that the space is there for others.
        copied.inspect_err(|_| give_back(file, data.size)).map_err(blame)?;
        // The data is no news to its users: what writing has changed is put back.
        if let Some(value) = capability {
            put_back(copy.set_xattr(CAPABILITY.as_ref(), &value, SetXattr::Any)).map_err(blame)?;
        }
        if stat.perm & SET_IDS != 0 {
            copy.chmod(stat.perm).map_err(blame)?;
        }
        copy.set_times(NewTime::At(stat.atime), NewTime::At(stat.mtime)).map_err(blame)?;
        let sync = || if self.volatile { Ok(()) } else { plyfs_sys::file::fsync(file, false).map_err(blame) };
        sync()?;
        self.drop_data_fact(to, file)?;
        // Once more: what is written next may be forced to disk without the xattrs.
        sync()
    }

    /// Is what the file is needed for in place?
    pub(crate) fn has_needed(&self, data: Option<&Arc<Data>>, need: Need) -> bool {
        data.is_none() || need == Need::Attributes
    }

    /// Is `home` where the file is to be?
    pub(crate) fn is_there(&self, home: &Home, target: Option<BranchIdx>) -> bool {
        target.map_or(self.stack.writable(home.branch), |target| target == home.branch)
    }
}

/// Makes the file sparse again; where it can't be, only space is lost.
fn give_back(file: &File, size: u64) {
    const PUNCH_HOLE_KEEP_SIZE: u32 = 3;
    if let Err(e) = plyfs_sys::file::fallocate(file, PUNCH_HOLE_KEEP_SIZE, 0, size) {
        tracing::warn!("half of a copy stays behind: {e}");
    }
}

/// An ordinary user can't set capabilities, and the copy had none that count.
fn put_back(set: plyfs_sys::Result<()>) -> plyfs_sys::Result<()> {
    match set {
        Err(e) if e.errno() == Errno::PERM => Ok(()),
        set => set,
    }
}
