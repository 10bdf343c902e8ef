//! Passthrough: files whose data the kernel reads and writes by itself (FUSE_PASSTHROUGH), so that every union over a
//! branch shares one page cache and no byte passes through the server.
//!
//! The kernel's rules (fs/fuse/iomode.c): while a node is open with a backing file, every further open must name the
//! same one, else open(2) fails with EIO; a node open the ordinary way can get one only after its last close. So
//! each file has a [`Door`], which counts. Who must not share the backing that others use (a writer, while readers
//! use the file below) is sent to a new node: `ops/leave.rs`. Not here: the system calls (`plyfs-sys`).

use std::fmt::Debug;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;
use plyfs_sys::Errno;

use crate::attr::{Ino, OpenHow};
use crate::branch::Branch;
use crate::ids::RealId;
use crate::nodes::Node;
use crate::resolve::BranchIdx;

/// The kernel's table of files that it reads and writes by itself.
pub trait Backings: Send + Sync + Debug {
    /// Gives the kernel a file; the number by which an open names it. With `kill_set_ids`, writing through it clears
    /// set-user-id and set-group-id bits, as it must for writers without CAP_FSETID.
    fn register(&self, file: BorrowedFd<'_>, kill_set_ids: bool) -> plyfs_sys::Result<i32>;

    /// Takes it back; files still open stay so.
    fn release(&self, id: i32);
}

/// A file that was given to the kernel; taken back when dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) id: i32,
    /// The file.
    pub(crate) real: RealId,
    /// It may be written: it lies on a writable branch and has no set-id bits, which only the server clears rightly.
    writable: AtomicBool,
    /// See [`Backings::register`].
    pub(crate) kills_set_ids: bool,
    /// Kept, as no handle may have one: the node is asked by it when its last name is gone (`OtherState::opened`).
    _file: Arc<File>,
    table: Arc<dyn Backings>,
}

impl Pass {
    /// May an open share it that is to reach `real`, and, as `how` says, write?
    pub(crate) fn serves(&self, real: RealId, how: OpenHow) -> bool {
        let may_write = self.writable.load(Relaxed) && (self.kills_set_ids || how.keeps_set_ids);
        self.real == real && !how.direct && (!how.write || may_write)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.table.release(self.id);
    }
}

/// How a file is open now, as the kernel sees it. Closes are counted when the kernel tells of them, which is after it
/// acted on them: so this never believes fewer opens than there are.
#[derive(Debug, Default)]
pub(crate) struct Door {
    pub(crate) mode: Mode,
    /// Kept from the last opens: the next one costs no system call.
    pub(crate) hot: Option<Arc<Pass>>,
    /// What the kernel's page cache of the node itself holds.
    pub(crate) pages: Pages,
    /// The node was made for somebody who has yet to come: until then nobody may pass before them.
    pub(crate) reserved: Option<Instant>,
    /// The file is being copied from one writable branch to another: who writes now must come to the server.
    pub(crate) moving: bool,
}

/// Pages that the kernel caches of a file that the server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// They are still so: nobody wrote past them.
    #[default]
    Hold,
    /// Somebody did: they are to be dropped.
    Drop,
    /// Somebody may do so at any time: none are to be kept.
    Bypass,
}

/// See [`Door`].
#[derive(Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Closed,
    /// Reads and writes come to the server.
    Served { opens: u32 },
    /// They don't.
    Passing { pass: Arc<Pass>, opens: u32, writers: u32 },
}

/// So long a new node waits for whom it was made for; the kernel tries once more only.
const RESERVED: Duration = Duration::from_secs(1);

impl Door {
    /// Keeps the file from passing until a writer has come.
    pub(crate) fn reserve(&mut self) {
        self.reserved = Some(Instant::now());
    }

    /// Must who comes now be served? A writer is whom it was reserved for.
    pub(crate) fn take_reservation(&mut self, write: bool) -> bool {
        let reserved = self.reserved.is_some_and(|since| since.elapsed() < RESERVED);
        if write || !reserved {
            self.reserved = None;
        }
        reserved
    }

    /// One handle less. With the last one of a passing file its backing stays at hand; `true` then.
    pub(crate) fn close(&mut self, was_writer: bool) -> bool {
        match &mut self.mode {
            Mode::Closed => false,
            Mode::Served { opens } => {
                *opens = opens.saturating_sub(1);
                if *opens == 0 {
                    self.mode = Mode::Closed;
                }
                false
            }
            Mode::Passing { pass, opens, writers } => {
                *opens = opens.saturating_sub(1);
                *writers = writers.saturating_sub(was_writer.into());
                if *opens > 0 {
                    return false;
                }
                self.hot = Some(pass.clone());
                self.mode = Mode::Closed;
                true
            }
        }
    }

    /// The file has set-id bits now: writers are to come to the server.
    pub(crate) fn shut_writers_out(&self) {
        if let Mode::Passing { pass, .. } = &self.mode {
            pass.writable.store(false, Relaxed);
        }
        if let Some(hot) = &self.hot {
            hot.writable.store(false, Relaxed);
        }
    }

    /// A passing open: its writes change none of the pages that the kernel caches of the node itself.
    pub(crate) fn written_past(&mut self, how: OpenHow) {
        if how.write && self.pages == Pages::Hold {
            self.pages = Pages::Drop;
        }
    }

    /// May there be descriptors through which the kernel writes by itself? Of this node, or of one left behind for it.
    pub(crate) fn has_writers(&self) -> bool {
        matches!(self.mode, Mode::Passing { writers: 1.., .. }) || self.pages == Pages::Bypass
    }
}

/// Backings kept for files that are closed.
const HOT: usize = 128;

/// The union's side of passthrough.
#[derive(Debug)]
pub(crate) struct Passthrough {
    table: OnceLock<Arc<dyn Backings>>,
    /// The kernel said no to this process (no CAP_SYS_ADMIN in the initial user namespace).
    refused: AtomicBool,
    /// Branches whose files it won't have (on a stacked filesystem).
    unfit: Mutex<Vec<BranchIdx>>,
    /// Whose doors have something hot.
    hot: Mutex<LruCache<Ino, Weak<Node>>>,
}

impl Default for Passthrough {
    fn default() -> Passthrough {
        Passthrough {
            table: OnceLock::new(),
            refused: AtomicBool::new(false),
            unfit: Mutex::default(),
            hot: Mutex::new(LruCache::unbounded()),
        }
    }
}

impl Passthrough {
    /// From now on files may be given to the kernel.
    pub(crate) fn connect(&self, table: Arc<dyn Backings>) {
        // There is one connection in a union's life; a second call would bring the same.
        self.table.get_or_init(|| table);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.table.get().is_some() && !self.refused.load(Relaxed)
    }

    /// May files of this branch be given?
    pub(crate) fn is_fit(&self, branch: BranchIdx) -> bool {
        self.is_on() && !self.unfit.lock().contains(&branch)
    }

    /// Gives the kernel a file, unless it won't have it: then the server serves.
    pub(crate) fn register(
        &self,
        branch: &Branch,
        file: &Arc<File>,
        real: RealId,
        writable: bool,
        kills_set_ids: bool,
    ) -> Option<Arc<Pass>> {
        let table = self.table.get()?;
        match table.register(file.as_fd(), kills_set_ids) {
            Ok(id) => {
                let writable = AtomicBool::new(writable);
                let pass =
                    Pass { id, real, writable, kills_set_ids, _file: file.clone(), table: table.clone() };
                Some(Arc::new(pass))
            }
            Err(e) if e.errno() == Errno::PERM => {
                self.refused.store(true, Relaxed);
                tracing::info!("no passthrough: {e}");
                None
            }
            Err(e) if matches!(e.errno(), Errno::LOOP | Errno::OPNOTSUPP | Errno::INVAL) => {
                tracing::info!(branch = %branch.path.display(), "no passthrough for this branch: {e}");
                self.unfit.lock().push(branch.index);
                None
            }
            Err(e) => {
                tracing::debug!("no passthrough for a file: {e}");
                None
            }
        }
    }

    /// `node` was closed and keeps its backing for the next open; the one that did so longest ago does not any more.
    pub(crate) fn keep_hot(&self, node: &Arc<Node>) {
        let mut hot = self.hot.lock();
        hot.put(node.ino, Arc::downgrade(node));
        let oldest = if hot.len() > HOT { hot.pop_lru() } else { None };
        drop(hot);
        if let Some(node) = oldest.and_then(|(_, node)| node.upgrade()) {
            cool(&node);
        }
    }

    /// Lets go of every backing that no open file uses.
    pub(crate) fn cool_all(&self) {
        let all = std::mem::replace(&mut *self.hot.lock(), LruCache::unbounded());
        for node in all.iter().filter_map(|(_, node)| node.upgrade()) {
            cool(&node);
        }
    }
}

/// Lets go of the node's backing unless it is in use.
pub(crate) fn cool(node: &Node) {
    if let Ok(other) = node.as_other() {
        let hot = other.door.lock().hot.take();
        drop(hot);
    }
}

#[cfg(test)]
mod tests {
    use plyfs_sys::{Kind, Obj};

    use super::*;
    use crate::nodes::{Home, HomeBy, OtherState};

    #[derive(Debug)]
    struct Table;

    impl Backings for Table {
        fn register(&self, _: BorrowedFd<'_>, _: bool) -> plyfs_sys::Result<i32> {
            Ok(1)
        }

        fn release(&self, _: i32) {}
    }

    /// A node that was closed and has its backing at hand.
    fn closed(ino: u64) -> Arc<Node> {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let real = RealId::of(&Obj::Fd(file.as_fd()).stat().unwrap());
        let home = Home { branch: 0, real, by: HomeBy::Name };
        let state = OtherState { home, identity: real, generation: 0, data: None, opened: Weak::new() };
        let node = Node::other(Ino(ino), Kind::File, ino, state, None);
        let writable = AtomicBool::new(true);
        let pass = Pass { id: 1, real, writable, kills_set_ids: false, _file: file, table: Arc::new(Table) };
        node.as_other().unwrap().door.lock().hot = Some(Arc::new(pass));
        Arc::new(node)
    }

    fn is_hot(node: &Node) -> bool {
        node.as_other().unwrap().door.lock().hot.is_some()
    }

    #[test]
    fn as_many_files_stay_hot_however_often_one_is_closed() {
        let kept = Passthrough::default();
        let (once, often) = (closed(2), closed(3));
        kept.keep_hot(&once);
        for _ in 0..=HOT {
            kept.keep_hot(&often);
        }
        assert!(is_hot(&once) && is_hot(&often));
        let others: Vec<_> = (4..).take(HOT - 2).map(closed).collect();
        others.iter().for_each(|node| kept.keep_hot(node));
        assert!(is_hot(&once) && is_hot(&often), "there is room for so many");
        kept.keep_hot(&once);
        kept.keep_hot(&closed(1000));
        assert!(is_hot(&once) && !is_hot(&often), "the one closed longest ago gives way");
        assert!(others.iter().all(|node| is_hot(node)));
        kept.cool_all();
        assert!(!is_hot(&once) && !others.iter().any(|node| is_hot(node)));
    }
}
