//! open, release, and the descriptor behind a handle.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLock;
use std::os::fd::AsFd;

use plyfs_sys::{Access, Errno, Kind, Obj, Stat};

use crate::attr::{Fh, Ino, OpenHow, Opened, SET_IDS};
use crate::error::{Error, Refusal, Result};
use crate::handles::{Backing, FileHandle};
use crate::ids::RealId;
use crate::nodes::{HomeBy, Node, OtherState, Spot};
use crate::ops::complete::Need;
use crate::ops::setattr::kill_set_ids;
use crate::passthrough::{Door, Mode, Pages, Pass};
use crate::resolve::BranchIdx;
use crate::union::{TRIES, Union};

/// Smaller files from below are served: a page cache of their own costs little, a request to read them no more than
/// to give them to the kernel. Bytes.
const BIG: u64 = 64 << 10;

impl Union {
    /// Opens a regular file. For writing only a writable branch must be in reach: the copy comes with the first
    /// write (aufs.5), and O_TRUNC copies nothing.
    ///
    /// ESTALE: the name has another node by now; look it up again and open that.
    pub fn open_file(&self, ino: Ino, how: OpenHow) -> Result<Opened> {
        let node = self.nodes.get(ino)?;
        if node.kind != Kind::File {
            return Err(if node.kind.is_dir() { Refusal::IsADirectory } else { Refusal::Invalid }.into());
        }
        if node.successor().is_some() {
            // Until its names are the other one's: the kernel looks them up but once more.
            drop(node.as_other()?.door.lock());
            return Err(Error::Stale);
        }
        if how.write {
            self.check_writable(&node)?;
        }
        if how.truncate && how.write {
            self.copy_up(&node, Need::First(0))?;
            let (backing, _) = self.open_backing(&node, true)?;
            plyfs_sys::file::truncate(&backing.file, 0)?;
            if how.kill_suidgid {
                let obj = Obj::Fd(backing.file.as_fd());
                kill_set_ids(obj, &obj.stat()?)?;
            }
        }
        self.enter(&node, how, None)
    }

    /// Opens through the file's door. `made`: the file is new, open already, and has these attributes.
    pub(crate) fn enter(
        &self,
        node: &Arc<Node>,
        how: OpenHow,
        mut made: Option<(Backing, Stat)>,
    ) -> Result<Opened> {
        for _ in 0..TRIES {
            if let Some(opened) = self.try_enter(node, how, &mut made)? {
                return Ok(opened);
            }
            // Others read or write by the kernel itself, and this one must not join them.
            self.leave_behind(node)?;
        }
        Err(Error::Stale)
    }

    fn try_enter(
        &self,
        node: &Arc<Node>,
        how: OpenHow,
        made: &mut Option<(Backing, Stat)>,
    ) -> Result<Option<Opened>> {
        let other = node.as_other()?;
        let mut door = other.door.lock();
        // Whoever leaves it behind holds the door too: nobody enters after that.
        if node.successor().is_some() {
            return Err(Error::Stale);
        }
        let state = other.state.read().clone();
        let door = &mut *door;
        let shut = how.write && door.moving;
        let opened = match &mut door.mode {
            Mode::Passing { pass, opens, writers } if !shut && pass.serves(state.data_real(), how) => {
                *opens += 1;
                *writers += u32::from(how.write);
                let id = pass.id;
                door.written_past(how);
                self.new_handle(node, how, None, Some(id), Pages::Hold)
            }
            Mode::Passing { .. } => return Ok(None),
            Mode::Served { opens } => {
                let (backing, _) = self.open_backing(node, how.write)?;
                *opens += 1;
                self.new_handle(node, how, Some(backing), None, door.pages)
            }
            Mode::Closed => self.enter_first(node, door, &state, how, made)?,
        };
        Ok(Some(opened))
    }

    /// Nobody has the file open: how is it to be?
    fn enter_first(
        &self,
        node: &Arc<Node>,
        door: &mut Door,
        state: &OtherState,
        how: OpenHow,
        made: &mut Option<(Backing, Stat)>,
    ) -> Result<Opened> {
        let reserved = door.take_reservation(how.write);
        let barred = reserved || how.direct || (how.write && door.moving);
        let wish = self.passthrough.is_on() && !barred;
        let hot = door.hot.take();
        let hot = hot.filter(|hot| wish && made.is_none() && hot.serves(state.data_real(), how));
        if let Some(pass) = hot {
            return Ok(self.enter_passing(node, door, how, pass, None));
        }
        let (backing, stat) = match made.take() {
            Some(made) => made,
            None => self.open_backing(node, how.write)?,
        };
        // As it was when it was opened: before, it may have been copied up, and nobody knew where its data is.
        let state = node.as_other()?.state.read().clone();
        let from = state.data_branch();
        let in_place = state.data.is_none() && self.stack.writable(from);
        let fit = wish && state.generation == backing.generation && self.passthrough.is_fit(from);
        if fit && self.may_pass(from, in_place, &stat, how) {
            let writable = in_place && stat.perm & SET_IDS == 0;
            let kills = how.write && !how.keeps_set_ids;
            let branch = self.stack.branch(from);
            let pass = self.passthrough.register(branch, &backing.file, RealId::of(&stat), writable, kills);
            if let Some(pass) = pass {
                return Ok(self.enter_passing(node, door, how, pass, Some(backing)));
            }
        }
        door.mode = Mode::Served { opens: 1 };
        let pages = door.pages;
        if pages == Pages::Drop {
            door.pages = Pages::Hold;
        }
        Ok(self.new_handle(node, how, Some(backing), None, pages))
    }

    fn enter_passing(
        &self,
        node: &Arc<Node>,
        door: &mut Door,
        how: OpenHow,
        pass: Arc<Pass>,
        backing: Option<Backing>,
    ) -> Opened {
        door.written_past(how);
        let id = pass.id;
        door.mode = Mode::Passing { pass, opens: 1, writers: how.write.into() };
        self.new_handle(node, how, backing, Some(id), Pages::Hold)
    }

    /// May the kernel have the file, as far as its meaning is concerned? Writers only where they write in place and
    /// have no set-id bits to clear. From below, where a copy may take the file's place while it is open, only big
    /// ones, since readers then stay with what is below (`ops/leave.rs`); and none where AUFS's answers are wanted.
    fn may_pass(&self, from: BranchIdx, in_place: bool, stat: &Stat, how: OpenHow) -> bool {
        if in_place {
            return !how.write || stat.perm & SET_IDS == 0;
        }
        let may_rise = (0..from).any(|branch| self.stack.writable(branch));
        !how.write && (!may_rise || (stat.size >= BIG && !self.strict))
    }

    fn new_handle(
        &self,
        node: &Arc<Node>,
        how: OpenHow,
        backing: Option<Backing>,
        passing: Option<i32>,
        pages: Pages,
    ) -> Opened {
        node.refer();
        let maps = passing.is_some() && how.read && how.write;
        if maps && let Ok(other) = node.as_other() {
            other.mappers.fetch_add(1, Relaxed);
        }
        let handle = FileHandle {
            node: node.clone(),
            read: how.read,
            write: how.write,
            backing: RwLock::new(backing),
            maps,
        };
        Opened { fh: self.files.insert(handle), backing: passing, pages, forget_attr: maps }
    }

    /// Closes a file.
    pub fn release(&self, fh: Fh) {
        let Some(handle) = self.files.remove(fh) else { return };
        if let Ok(other) = handle.node.as_other() {
            if handle.maps {
                other.mappers.fetch_sub(1, Relaxed);
            }
            let mut door = other.door.lock();
            let stays_hot = door.close(handle.write);
            if stays_hot && matches!(other.state.read().home.by, HomeBy::Held(_)) {
                door.hot = None;
            } else if stays_hot {
                drop(door);
                self.passthrough.keep_hot(&handle.node);
            }
        }
        self.nodes.put(&handle.node, 1);
    }

    fn check_writable(&self, node: &Arc<Node>) -> Result<()> {
        let home = node.as_other()?.state.read().home.clone();
        if self.stack.writable(home.branch) {
            return Ok(());
        }
        let parent = match (&home.by, node.link()) {
            (HomeBy::Name | HomeBy::Plink(_), Some(link)) => link.parent,
            (_, None) | (HomeBy::Held(_), _) => self.root.clone(),
        };
        self.branch_for_copy(&parent, home.branch).map(drop)
    }

    /// Opens the file that has the data now, and gives its attributes. Copies nothing, as the door may be held: who
    /// writes has brought the file up, and its data; else the answer is for reading only.
    pub(crate) fn open_backing(&self, node: &Arc<Node>, write: bool) -> Result<(Backing, Stat)> {
        let other = node.as_other()?;
        for _ in 0..TRIES {
            if let Some(backing) = self.open_elsewhere(node)? {
                return Ok(backing);
            }
            let (generation, home) = {
                let state = other.state.read();
                (state.generation, state.home.clone())
            };
            // Checked once it is open: one look at it is enough.
            let spot = match self.anchors.place(&self.stack, &self.plinks, node, &home)? {
                Some(spot) => spot,
                None => continue,
            };
            let branch = self.stack.branch(spot.branch);
            let writable = write && branch.writable;
            let opened = match spot.obj().open(if writable { Access::ReadWrite } else { Access::Read }) {
                // An ordinary user's file that may be written but not read.
                Err(e) if writable && e.errno() == Errno::ACCESS => spot.obj().open(Access::Write),
                Err(e) if e.errno() == Errno::NOENT => continue,
                opened => opened,
            };
            let file = Arc::new(opened.map_err(|e| branch.blame(e))?);
            let stat = Obj::Fd(file.as_fd()).stat().map_err(|e| branch.blame(e))?;
            let mut state = other.state.write();
            // It was opened by a name, which may have become another file's since.
            let whole = state.data.is_none();
            if whole && state.generation == generation && RealId::of(&stat) == state.home.real {
                state.opened = Arc::downgrade(&file);
                return Ok((Backing { file, generation, writable }, stat));
            }
        }
        Err(Error::Stale)
    }

    /// The descriptor to use now: a newer one if the file was copied up since, or is to be written for the first time.
    pub(crate) fn backing(&self, handle: &FileHandle, write: bool) -> Result<Backing> {
        let other = handle.node.as_other()?;
        let current = |backing: &Backing| {
            backing.generation == other.state.read().generation && (!write || backing.writable)
        };
        if let Some(backing) = handle.backing.read().clone().filter(|backing| current(backing)) {
            return Ok(backing);
        }
        let mut slot = handle.backing.write();
        if let Some(backing) = slot.clone().filter(|backing| current(backing)) {
            return Ok(backing);
        }
        let (backing, _) = self.open_backing(&handle.node, handle.write)?;
        *slot = Some(backing.clone());
        Ok(backing)
    }

    /// A descriptor that keeps a file reachable when its last name goes: an open one if there is one.
    pub(crate) fn hold(&self, node: &Arc<Node>) -> Result<Arc<File>> {
        if let Some(file) = node.opened()? {
            return Ok(file);
        }
        let (spot, _) = self.spot(node)?;
        self.hold_at(node, &spot)
    }

    /// The same of a file that was just looked at.
    pub(crate) fn hold_at(&self, node: &Arc<Node>, spot: &Spot) -> Result<Arc<File>> {
        if let Some(file) = node.opened()? {
            return Ok(file);
        }
        spot.hold().map(Arc::new).map_err(|e| self.stack.branch(spot.branch).blame(e))
    }
}
