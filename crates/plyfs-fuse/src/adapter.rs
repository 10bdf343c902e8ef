//! `Skin`: each request to the engine's call, and its answer back. Handlers convert and call, and decide nothing.
//!
//! Not here: the conversions ([`crate::convert`]), union semantics (`plyfs-union`), threads and panics (`plyfs-wire`).

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use plyfs_union::spec::MountSpec;
use plyfs_union::{Attr, Caller, DirEntry, Entry, Error, Fh, Ino, Kind, NewNode, Opened, SetAttr, Union};
use plyfs_wire::filesystem::{At, SetXattr};
use plyfs_wire::messages::flags::{OPEN_KILL_SUIDGID, WRITE_KILL_SUIDGID};
use plyfs_wire::messages::replies::*;
use plyfs_wire::messages::requests::*;
use plyfs_wire::{Answer, Dirents, Errno, Filesystem, Notifier, RequestContext as Cx};
use tracing::{debug, error};

use crate::convert::{self, Validity};
use crate::pruner::Pruner;
use crate::setid::SetIds;
use crate::tell::Tell;

/// The union as the protocol sees it.
#[derive(Debug)]
pub(crate) struct Skin {
    union: Arc<Union>,
    validity: Validity,
    /// Extended attributes are on; off, the kernel is told never to ask.
    xattrs: bool,
    /// The kernel opens directories without a word and keeps their listings.
    dir_cache: bool,
    /// Birth times are told; untold, the kernel asks for nothing that it cannot keep.
    birth_times: bool,
    setids: SetIds,
    tell: Tell,
    pruner: Arc<Pruner>,
    hear: OnceLock<Hear>,
}

/// Called when a signal has interrupted the server.
pub(crate) struct Hear(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Hear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hear")
    }
}

/// The engine's word for the session's backing files.
#[derive(Debug)]
struct Table(plyfs_wire::Backings);

impl plyfs_union::Backings for Table {
    fn register(&self, file: BorrowedFd<'_>, kill_set_ids: bool) -> plyfs_sys::Result<i32> {
        self.0.register(file, kill_set_ids)
    }

    fn release(&self, id: i32) {
        self.0.release(id);
    }
}

impl Skin {
    pub(crate) fn new(union: Arc<Union>, spec: &MountSpec) -> Skin {
        Skin {
            hear: OnceLock::new(),
            pruner: Pruner::new(Arc::clone(&union)),
            union,
            validity: Validity::new(spec.timeout),
            xattrs: !spec.noxattrs,
            dir_cache: !spec.speed.no_dir_cache,
            birth_times: spec.speed.birth_times,
            setids: SetIds::default(),
            tell: Tell::default(),
        }
    }

    /// Gives the means to tell the kernel what it cannot know, and files to read and write by itself; before the first
    /// request is answered.
    pub(crate) fn connect(&self, notifier: Notifier, backings: Option<plyfs_wire::Backings>) {
        self.pruner.connect(notifier.clone());
        self.tell.connect(notifier);
        if let Some(backings) = backings {
            self.union.connect(Arc::new(Table(backings)));
        }
    }

    /// What to do when a signal may have interrupted the server. Called often, from any thread: cheap when there was none.
    pub(crate) fn hear(&self, act: impl Fn() + Send + Sync + 'static) {
        self.hear.get_or_init(|| Hear(Box::new(act)));
    }

    /// Every attribute that the kernel may cache passes here.
    fn told(&self, node: Ino, attr: &Attr) {
        self.setids.told(node, attr);
    }

    fn attr_out(&self, node: u64, attr: &Attr) -> AttrOut {
        self.told(Ino(node), attr);
        convert::attr_out(attr, self.validity)
    }

    fn entry(&self, entry: &Entry) -> EntryOut {
        self.told(entry.ino, &entry.attr);
        convert::entry(entry, self.validity)
    }

    fn created(&self, (entry, opened): (Entry, Opened)) -> CreateOut {
        let mut out = self.entry(&entry);
        if opened.forget_attr && (out.entry_valid, out.entry_valid_nsec) != (0, 0) {
            // The kernel checks the new file's mode once more before anybody can map it: not to ask for that.
            (out.attr_valid, out.attr_valid_nsec) = (0, 1_000_000);
        }
        CreateOut { entry: out, open: convert::opened(&opened) }
    }

    /// The kernel changed the attributes of `node` itself; of a node that took over it does not know.
    fn changed(&self, node: u64) {
        if let Some(next) = self.union.successor_of(Ino(node)) {
            self.tell.forget_attr(next.0);
        }
    }

    /// Set-id bits of the file were cleared, if it had any: the reply under way does not say so.
    fn cleared(&self, node: u64) {
        if self.setids.cleared(Ino(node)) {
            self.tell.forget_attr(node);
        }
    }

    /// A listed name with its entry.
    fn line_plus(&self, line: &DirEntry<'_>, entry: Option<Entry>, out: &mut Dirents<'_>) -> ControlFlow<()> {
        let entry = entry.map_or_else(EntryOut::default, |entry| self.entry(&entry));
        go_on(out.add_plus(&entry, convert::line(line)))
    }
}

fn go_on(packed: bool) -> ControlFlow<()> {
    if packed { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// An engine's refusal as an errno, logged: the one place where that happens.
fn refuse(operation: &'static str, node: u64, refusal: &Error) -> Errno {
    // Outside this range the kernel would take the reply for malformed.
    let errno = match refusal.errno() {
        number @ 1..=4095 => Errno::from_raw_os_error(number),
        _ => Errno::IO,
    };
    if errno == Errno::IO {
        error!(operation, node, "{refusal}");
    } else {
        debug!(operation, node, errno = errno.raw_os_error(), "{refusal}");
    }
    errno
}

/// An error after the first line ends the reply; the kernel asks on from there and then hears it.
fn partly(listed: Result<(), Error>, out: &Dirents<'_>) -> Result<(), Error> {
    if out.used() > 0 { Ok(()) } else { listed }
}

/// Names the operation and node of a refusal.
trait OrRefuse<T> {
    fn or_refuse(self, operation: &'static str, node: u64) -> Answer<T>;
}

impl<T> OrRefuse<T> for Result<T, Error> {
    fn or_refuse(self, operation: &'static str, node: u64) -> Answer<T> {
        self.map_err(|refusal| refuse(operation, node, &refusal))
    }
}

fn caller(cx: &Cx, umask: u32) -> Caller {
    Caller { uid: cx.uid, gid: cx.gid, pid: cx.pid, umask: umask & 0o777 }
}

/// The extended attributes that the kernel itself reads before it checks permission.
fn is_acl(name: &OsStr) -> bool {
    name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

impl Filesystem for Skin {
    fn lookup(&self, _: &Cx, (parent, name): At<'_>) -> Answer<EntryOut> {
        let found = self.union.lookup(Ino(parent), name).or_refuse("lookup", parent)?;
        Ok(found.map_or_else(|| convert::absent(self.validity), |entry| self.entry(&entry)))
    }

    fn forget(&self, node: u64, count: u64) {
        self.union.forget(Ino(node), count);
    }

    fn getattr(&self, _: &Cx, node: u64, fh: Option<u64>) -> Answer<AttrOut> {
        let attr = self.union.getattr(Ino(node), fh.map(Fh)).or_refuse("getattr", node)?;
        Ok(self.attr_out(node, &attr))
    }

    fn setattr(&self, _: &Cx, node: u64, change: &SetattrIn) -> Answer<AttrOut> {
        let (change, fh) = convert::set_attr(change);
        let attr = self.union.setattr(Ino(node), fh, &change).or_refuse("setattr", node)?;
        self.changed(node);
        Ok(self.attr_out(node, &attr))
    }

    fn statx(&self, _: &Cx, node: u64, fh: Option<u64>, _mask: u32) -> Answer<StatxOut> {
        if !self.birth_times {
            return Err(Errno::NOSYS);
        }
        let attr = self.union.getattr(Ino(node), fh.map(Fh)).or_refuse("statx", node)?;
        self.told(Ino(node), &attr);
        Ok(convert::statx_out(&attr, self.validity))
    }

    fn readlink(&self, _: &Cx, node: u64) -> Answer<OsString> {
        self.union.readlink(Ino(node)).or_refuse("readlink", node)
    }

    fn mknod(&self, cx: &Cx, (parent, name): At<'_>, how: &MknodIn) -> Answer<EntryOut> {
        let kind = Kind::from_mode(how.mode).ok_or(Errno::INVAL)?;
        let new = NewNode { kind, perm: how.mode & 0o7777, rdev: convert::decode_dev(how.rdev) };
        let entry = self.union.mknod(&caller(cx, how.umask), Ino(parent), name, new);
        Ok(self.entry(&entry.or_refuse("mknod", parent)?))
    }

    fn mkdir(&self, cx: &Cx, (parent, name): At<'_>, how: &MkdirIn) -> Answer<EntryOut> {
        let entry = self.union.mkdir(&caller(cx, how.umask), Ino(parent), name, how.mode & 0o7777);
        Ok(self.entry(&entry.or_refuse("mkdir", parent)?))
    }

    fn symlink(&self, cx: &Cx, (parent, name): At<'_>, target: &OsStr) -> Answer<EntryOut> {
        let entry = self.union.symlink(&caller(cx, 0), Ino(parent), name, target);
        Ok(self.entry(&entry.or_refuse("symlink", parent)?))
    }

    fn link(&self, _: &Cx, node: u64, (parent, name): At<'_>) -> Answer<EntryOut> {
        let entry = self.union.link(Ino(node), Ino(parent), name);
        Ok(self.entry(&entry.or_refuse("link", node)?))
    }

    fn unlink(&self, _: &Cx, (parent, name): At<'_>) -> Answer<()> {
        self.union.unlink(Ino(parent), name).or_refuse("unlink", parent)
    }

    fn rmdir(&self, _: &Cx, (parent, name): At<'_>) -> Answer<()> {
        self.union.rmdir(Ino(parent), name).or_refuse("rmdir", parent)
    }

    fn rename(&self, _: &Cx, from: At<'_>, to: At<'_>, flags: u32) -> Answer<()> {
        let flags = convert::rename_flags(flags)?;
        self.union.rename((Ino(from.0), from.1), (Ino(to.0), to.1), flags).or_refuse("rename", from.0)
    }

    fn open(&self, cx: &Cx, node: u64, how: &OpenIn) -> Answer<OpenOut> {
        let opened = self.union.open_file(Ino(node), convert::open_how(cx, how.flags, how.open_flags));
        if let Err(Error::Stale) = opened {
            // The node may just have been left behind: what the kernel knows of it does not last any more.
            self.tell.forget_attr(node);
        }
        let opened = opened.or_refuse("open", node)?;
        if opened.forget_attr {
            self.tell.forget_attr(node);
        }
        if how.open_flags & OPEN_KILL_SUIDGID != 0 {
            self.cleared(node);
        }
        Ok(convert::opened(&opened))
    }

    fn create(&self, cx: &Cx, (parent, name): At<'_>, how: &CreateIn) -> Answer<CreateOut> {
        let (who, open) = (caller(cx, how.umask), convert::open_how(cx, how.flags, how.open_flags));
        let made = self.union.create(&who, Ino(parent), name, how.mode & 0o7777, open);
        Ok(self.created(made.or_refuse("create", parent)?))
    }

    fn tmpfile(&self, cx: &Cx, parent: u64, how: &CreateIn) -> Answer<CreateOut> {
        let (who, open) = (caller(cx, how.umask), convert::open_how(cx, how.flags, how.open_flags));
        let made = self.union.tmpfile(&who, Ino(parent), how.mode & 0o7777, open);
        Ok(self.created(made.or_refuse("tmpfile", parent)?))
    }

    fn read(&self, _: &Cx, node: u64, how: &ReadIn, buf: &mut [u8]) -> Answer<usize> {
        self.union.read(Fh(how.fh), how.offset, buf).or_refuse("read", node)
    }

    fn write(&self, _: &Cx, node: u64, how: &WriteIn, data: &[u8]) -> Answer<usize> {
        let kill_suidgid = how.write_flags & WRITE_KILL_SUIDGID != 0;
        let size = self.union.write(Fh(how.fh), how.offset, data, kill_suidgid).or_refuse("write", node)?;
        if kill_suidgid {
            self.cleared(node);
        }
        Ok(size)
    }

    fn release(&self, _: &Cx, _: u64, fh: u64) {
        self.union.release(Fh(fh));
    }

    fn fsync(&self, _: &Cx, node: u64, fh: u64, data_only: bool) -> Answer<()> {
        self.union.fsync(Fh(fh), data_only).or_refuse("fsync", node)
    }

    fn fallocate(&self, cx: &Cx, node: u64, how: &FallocateIn) -> Answer<()> {
        let kill_suidgid = may_not_keep_set_ids(cx);
        self.union
            .fallocate(Fh(how.fh), how.mode, how.offset, how.length, kill_suidgid)
            .or_refuse("fallocate", node)?;
        if kill_suidgid {
            self.cleared(node);
        }
        Ok(())
    }

    fn lseek(&self, _: &Cx, node: u64, how: &LseekIn) -> Answer<u64> {
        self.union.seek(Fh(how.fh), how.offset, convert::seek(how.whence)?).or_refuse("lseek", node)
    }

    fn copy_file_range(&self, cx: &Cx, node: u64, range: &CopyFileRangeIn) -> Answer<u64> {
        let (from, to) = ((Fh(range.fh_in), range.off_in), (Fh(range.fh_out), range.off_out));
        let kill_suidgid = may_not_keep_set_ids(cx);
        let copied = self
            .union
            .copy_file_range(from, to, range.len, kill_suidgid)
            .or_refuse("copy_file_range", node)?;
        if kill_suidgid {
            self.cleared(range.nodeid_out);
        }
        Ok(copied)
    }

    fn opendir(&self, _: &Cx, _: u64, _: &OpenIn) -> Answer<OpenOut> {
        // ENOSYS: from now on the kernel opens directories by itself and keeps their listings.
        if self.dir_cache { Err(Errno::NOSYS) } else { Ok(OpenOut::default()) }
    }

    fn readdir(&self, _: &Cx, node: u64, how: &ReadIn, out: &mut Dirents<'_>) -> Answer<()> {
        let mut pack = |line: DirEntry<'_>| go_on(out.add(convert::line(&line)));
        let listed = self.union.list(Ino(node), how.offset, &mut pack);
        partly(listed, out).or_refuse("readdir", node)
    }

    fn readdirplus(&self, _: &Cx, node: u64, how: &ReadIn, out: &mut Dirents<'_>) -> Answer<()> {
        let room = out.capacity();
        let used = Cell::new(0);
        let fits = |name: &OsStr| Dirents::plus_size(name) <= room - used.get();
        let mut pack = |line: DirEntry<'_>, entry: Option<Entry>| {
            let flow = self.line_plus(&line, entry, out);
            used.set(out.used());
            flow
        };
        let listed = self.union.list_plus(Ino(node), how.offset, &fits, &mut pack);
        partly(listed, out).or_refuse("readdirplus", node)
    }

    fn releasedir(&self, _: &Cx, _: u64, _: u64) {}

    fn fsyncdir(&self, _: &Cx, node: u64, _: u64, data_only: bool) -> Answer<()> {
        self.union.fsync_dir(Ino(node), data_only).or_refuse("fsyncdir", node)
    }

    fn statfs(&self, _: &Cx, node: u64) -> Answer<StatfsOut> {
        Ok(convert::statfs_out(&self.union.statfs(Ino(node)).or_refuse("statfs", node)?))
    }

    fn syncfs(&self, _: &Cx) -> Answer<()> {
        self.union.sync().or_refuse("syncfs", Ino::ROOT.0)
    }

    fn getxattr(&self, _: &Cx, node: u64, name: &OsStr) -> Answer<Vec<u8>> {
        if !self.xattrs {
            return Err(Errno::NOSYS);
        }
        match self.union.getxattr(Ino(node), name) {
            // "No ACLs on that branch's filesystem" must read "no ACL here": asked for a permission check, the
            // kernel would otherwise hand the error to whoever wanted access.
            Err(refusal) if is_acl(name) && refusal.errno() == Errno::OPNOTSUPP.raw_os_error() => {
                Err(Errno::NODATA)
            }
            answer => answer.or_refuse("getxattr", node),
        }
    }

    fn listxattr(&self, _: &Cx, node: u64) -> Answer<Vec<u8>> {
        if !self.xattrs {
            return Err(Errno::NOSYS);
        }
        self.union.listxattr(Ino(node)).or_refuse("listxattr", node)
    }

    fn setxattr(&self, _: &Cx, node: u64, xattr: &SetXattr<'_>) -> Answer<()> {
        if !self.xattrs {
            return Err(Errno::NOSYS);
        }
        let flags = convert::xattr_flags(xattr.flags)?;
        self.union.setxattr(Ino(node), xattr.name, xattr.value, flags).or_refuse("setxattr", node)?;
        self.changed(node);
        if xattr.kill_sgid {
            self.kill_sgid(node).or_refuse("setxattr", node)?;
        }
        Ok(())
    }

    fn removexattr(&self, _: &Cx, node: u64, name: &OsStr) -> Answer<()> {
        if !self.xattrs {
            return Err(Errno::NOSYS);
        }
        self.union.removexattr(Ino(node), name).or_refuse("removexattr", node)?;
        self.changed(node);
        Ok(())
    }

    fn tick(&self) {
        self.pruner.tick();
        // Under constant traffic the first worker may have no moment in which a signal can interrupt it.
        self.interrupted();
    }

    fn idle(&self) {
        self.union.idle();
        plyfs_sys::memory::give_back();
    }

    fn interrupted(&self) {
        if let Some(hear) = self.hear.get() {
            (hear.0)();
        }
    }

    fn destroy(&self) {
        self.pruner.end();
    }
}

impl Skin {
    /// FUSE_SETXATTR_ACL_KILL_SGID: the caller set an access ACL and may not keep the set-group-id bit.
    fn kill_sgid(&self, node: u64) -> Result<(), Error> {
        const SGID: u32 = 0o2000;
        let attr = self.union.getattr(Ino(node), None)?;
        if attr.perm & SGID != 0 {
            let change = SetAttr { perm: Some(attr.perm & !SGID), ..SetAttr::default() };
            self.union.setattr(Ino(node), None, &change)?;
        }
        Ok(())
    }
}

/// These requests carry no flag of the kernel's for it; root is taken to have CAP_FSETID.
fn may_not_keep_set_ids(cx: &Cx) -> bool {
    cx.uid != 0
}
