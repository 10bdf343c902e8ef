//! From a typed request to the method of [`Filesystem`] and back to a [`Reply`].
//!
//! Not here: reading, sending, threads (`crate::session`), what the answers mean.

use plyfs_sys::Errno;

use crate::dirents::Dirents;
use crate::filesystem::{Answer, Filesystem, RequestContext, SetXattr};
use crate::messages::flags::*;
use crate::messages::replies::*;
use crate::request::*;

use crate::reply::Reply;

/// Answers one request; `body` is the buffer for what follows the reply's header, of [`crate::reply::room`] or more.
pub(crate) fn dispatch(fs: &impl Filesystem, request: &Request<'_>, body: &mut [u8]) -> Answer<Reply> {
    let cx = RequestContext::new(&request.header);
    let node = request.header.nodeid;
    match request.body {
        Body::Name(operation) => name(fs, &cx, node, operation, body),
        Body::Node(operation) => on_node(fs, &cx, node, operation, body),
        Body::File(operation) => file(fs, &cx, node, operation, body),
        Body::Dir(operation) => dir(fs, &cx, node, operation, body),
        Body::Xattr(operation) => xattr(fs, &cx, node, operation, body),
        Body::Forget(forget) => {
            fs.forget(node, forget.nlookup);
            Ok(Reply::Nothing)
        }
        Body::BatchForget(forgets) => {
            forgets.iter().for_each(|one| fs.forget(one.nodeid, one.nlookup));
            Ok(Reply::Nothing)
        }
        // The interrupted request is answered when it is done: no operation here waits without end.
        Body::Interrupt(_) | Body::NotifyReply => Ok(Reply::Nothing),
        Body::Destroy => Ok(Reply::DONE),
        // INIT was answered before; a second one is nonsense.
        Body::Init(_) => Err(Errno::IO),
        Body::Refused(errno) => Err(errno),
    }
}

fn name(
    fs: &impl Filesystem,
    cx: &RequestContext,
    parent: u64,
    operation: NameOp<'_>,
    body: &mut [u8],
) -> Answer<Reply> {
    let entry = match operation {
        NameOp::Lookup(name) => fs.lookup(cx, (parent, name))?,
        NameOp::Mknod(how, name) => fs.mknod(cx, (parent, name), &how)?,
        NameOp::Mkdir(how, name) => fs.mkdir(cx, (parent, name), &how)?,
        NameOp::Symlink { name, target } => fs.symlink(cx, (parent, name), target)?,
        NameOp::Link(how, name) => fs.link(cx, how.oldnodeid, (parent, name))?,
        NameOp::Unlink(name) => return fs.unlink(cx, (parent, name)).map(|()| Reply::DONE),
        NameOp::Rmdir(name) => return fs.rmdir(cx, (parent, name)).map(|()| Reply::DONE),
        NameOp::Rename { from, newdir, to, flags } => {
            return fs.rename(cx, (parent, from), (newdir, to), flags).map(|()| Reply::DONE);
        }
        NameOp::Create(how, name) => {
            return fs.create(cx, (parent, name), &how).map(|out| Reply::of(&out, body));
        }
        NameOp::Tmpfile(how) => return fs.tmpfile(cx, parent, &how).map(|out| Reply::of(&out, body)),
    };
    Ok(Reply::of(&entry, body))
}

fn on_node(
    fs: &impl Filesystem,
    cx: &RequestContext,
    node: u64,
    operation: NodeOp,
    body: &mut [u8],
) -> Answer<Reply> {
    let handle = |flags: u32, fh: u64| (flags & GETATTR_FH != 0).then_some(fh);
    Ok(match operation {
        NodeOp::Getattr(how) => Reply::of(&fs.getattr(cx, node, handle(how.getattr_flags, how.fh))?, body),
        NodeOp::Setattr(change) => Reply::of(&fs.setattr(cx, node, &change)?, body),
        NodeOp::Statx(how) => {
            let fh = handle(how.getattr_flags, how.fh);
            Reply::of(&fs.statx(cx, node, fh, how.sx_mask)?, body)
        }
        NodeOp::Readlink => {
            use std::os::unix::ffi::OsStringExt;
            Reply::Owned(fs.readlink(cx, node)?.into_vec())
        }
        NodeOp::Statfs => Reply::of(&fs.statfs(cx, node)?, body),
        NodeOp::Syncfs => {
            fs.syncfs(cx)?;
            Reply::DONE
        }
    })
}

fn file(
    fs: &impl Filesystem,
    cx: &RequestContext,
    node: u64,
    operation: FileOp<'_>,
    body: &mut [u8],
) -> Answer<Reply> {
    Ok(match operation {
        FileOp::Open(how) => Reply::of(&fs.open(cx, node, &how)?, body),
        FileOp::Read(how) => {
            // Never more than INIT agreed; a shorter answer would mean the file's end.
            let room = body.get_mut(..how.size as usize).ok_or(Errno::INVAL)?;
            let most = room.len();
            Reply::Body(fs.read(cx, node, &how, room)?.min(most))
        }
        FileOp::Write(how, data) => {
            let size = fs.write(cx, node, &how, data)?;
            Reply::of(&WriteOut { size: clamp(size as u64), padding: 0 }, body)
        }
        FileOp::Release(how) => {
            fs.release(cx, node, how.fh);
            Reply::DONE
        }
        FileOp::Fsync(how) => {
            fs.fsync(cx, node, how.fh, how.fsync_flags & FSYNC_DATA_ONLY != 0)?;
            Reply::DONE
        }
        FileOp::Fallocate(how) => {
            fs.fallocate(cx, node, &how)?;
            Reply::DONE
        }
        FileOp::Lseek(how) => Reply::of(&LseekOut { offset: fs.lseek(cx, node, &how)? }, body),
        FileOp::CopyFileRange { range, wide: true } => {
            let bytes_copied = fs.copy_file_range(cx, node, &range)?;
            Reply::of(&CopyFileRangeOut { bytes_copied }, body)
        }
        FileOp::CopyFileRange { mut range, wide: false } => {
            // The answer has 32 bits: never copy more than it can tell.
            range.len = range.len.min(u64::from(u32::MAX) & !0xfff);
            let size = clamp(fs.copy_file_range(cx, node, &range)?);
            Reply::of(&WriteOut { size, padding: 0 }, body)
        }
    })
}

fn dir(
    fs: &impl Filesystem,
    cx: &RequestContext,
    node: u64,
    operation: DirOp,
    body: &mut [u8],
) -> Answer<Reply> {
    Ok(match operation {
        DirOp::Opendir(how) => Reply::of(&fs.opendir(cx, node, &how)?, body),
        DirOp::Readdir(how) => {
            let mut out = Dirents::new(up_to(body, how.size));
            fs.readdir(cx, node, &how, &mut out)?;
            Reply::Body(out.used())
        }
        DirOp::Readdirplus(how) => {
            let mut out = Dirents::new(up_to(body, how.size));
            fs.readdirplus(cx, node, &how, &mut out)?;
            Reply::Body(out.used())
        }
        DirOp::Releasedir(how) => {
            fs.releasedir(cx, node, how.fh);
            Reply::DONE
        }
        DirOp::Fsyncdir(how) => {
            fs.fsyncdir(cx, node, how.fh, how.fsync_flags & FSYNC_DATA_ONLY != 0)?;
            Reply::DONE
        }
    })
}

fn xattr(
    fs: &impl Filesystem,
    cx: &RequestContext,
    node: u64,
    operation: XattrOp<'_>,
    body: &mut [u8],
) -> Answer<Reply> {
    match operation {
        XattrOp::Get { name, size } => sized(fs.getxattr(cx, node, name)?, size, body),
        XattrOp::List { size } => sized(fs.listxattr(cx, node)?, size, body),
        XattrOp::Set { name, value, flags, setxattr_flags } => {
            let kill_sgid = setxattr_flags & SETXATTR_ACL_KILL_SGID != 0;
            fs.setxattr(cx, node, &SetXattr { name, value, flags, kill_sgid })?;
            Ok(Reply::DONE)
        }
        XattrOp::Remove(name) => fs.removexattr(cx, node, name).map(|()| Reply::DONE),
    }
}

/// The convention of getxattr(2): size 0 asks for the length, too small a size is ERANGE.
fn sized(value: Vec<u8>, size: u32, body: &mut [u8]) -> Answer<Reply> {
    if size == 0 {
        let size = clamp(value.len() as u64);
        return Ok(Reply::of(&GetxattrOut { size, padding: 0 }, body));
    }
    if value.len() > size as usize {
        return Err(Errno::RANGE);
    }
    Ok(Reply::Owned(value))
}

/// At most `size` bytes of the body buffer: a listing may always be given in smaller pieces.
fn up_to(body: &mut [u8], size: u32) -> &mut [u8] {
    let length = body.len().min(size as usize);
    &mut body[..length]
}

fn clamp(size: u64) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
