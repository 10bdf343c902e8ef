//! A raw request as a typed value: pure, total, and never more than a look at borrowed bytes.
//!
//! Not here: doing anything about it (`crate::dispatch`). Requests that no plyfs mount serves (locks, ioctl,
//! bmap, poll, access) are recognised as [`Body::Refused`] with the errno that fits.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use plyfs_sys::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::messages::requests::*;
use crate::messages::{InHeader, opcode};

/// What INIT settled about the form of later requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialect {
    /// SETXATTR carries the longer struct.
    pub setxattr_ext: bool,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks what about which node.
    pub header: InHeader,
    /// The question.
    pub body: Body<'a>,
}

/// What is asked, in families as [`crate::Filesystem`] answers them.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// The first request.
    Init(InitIn),
    /// The last one, of some mounts.
    Destroy,
    /// Another request's caller was interrupted: no reply.
    Interrupt(InterruptIn),
    /// Lookup counts given back: no reply.
    Forget(ForgetIn),
    /// The same for many nodes.
    BatchForget(Forgets<'a>),
    /// Data asked for by a notification: no reply.
    NotifyReply,
    /// About a name in the directory that the header tells.
    Name(NameOp<'a>),
    /// About a node.
    Node(NodeOp),
    /// About an open file.
    File(FileOp<'a>),
    /// About an open directory.
    Dir(DirOp),
    /// About extended attributes.
    Xattr(XattrOp<'a>),
    /// Known but not served, or not known.
    Refused(Errno),
}

/// Questions about names.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the protocol's names")]
pub enum NameOp<'a> {
    Lookup(&'a OsStr),
    Mknod(MknodIn, &'a OsStr),
    Mkdir(MkdirIn, &'a OsStr),
    Symlink { name: &'a OsStr, target: &'a OsStr },
    Link(LinkIn, &'a OsStr),
    Unlink(&'a OsStr),
    Rmdir(&'a OsStr),
    Rename { from: &'a OsStr, newdir: u64, to: &'a OsStr, flags: u32 },
    Create(CreateIn, &'a OsStr),
    Tmpfile(CreateIn),
}

/// Questions about nodes.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the protocol's names")]
pub enum NodeOp {
    Getattr(GetattrIn),
    Setattr(SetattrIn),
    Statx(StatxIn),
    Readlink,
    Statfs,
    Syncfs,
}

/// Questions about open files.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the protocol's names")]
pub enum FileOp<'a> {
    Open(OpenIn),
    Read(ReadIn),
    Write(WriteIn, &'a [u8]),
    Release(ReleaseIn),
    Fsync(FsyncIn),
    Fallocate(FallocateIn),
    Lseek(LseekIn),
    /// `wide`: the answer has 64 bits.
    CopyFileRange {
        range: CopyFileRangeIn,
        wide: bool,
    },
}

/// Questions about open directories.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the protocol's names")]
pub enum DirOp {
    Opendir(OpenIn),
    Readdir(ReadIn),
    Readdirplus(ReadIn),
    Releasedir(ReleaseIn),
    Fsyncdir(FsyncIn),
}

/// Questions about extended attributes.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the protocol's names")]
pub enum XattrOp<'a> {
    Get { name: &'a OsStr, size: u32 },
    List { size: u32 },
    Set { name: &'a OsStr, value: &'a [u8], flags: u32, setxattr_flags: u32 },
    Remove(&'a OsStr),
}

/// The nodes of a BATCH_FORGET.
#[derive(Debug, Clone, Copy)]
pub struct Forgets<'a>(&'a [u8]);

impl<'a> Forgets<'a> {
    /// Each node with the count given back.
    pub fn iter(&self) -> impl Iterator<Item = ForgetOne> + 'a {
        self.0.chunks_exact(size_of::<ForgetOne>()).filter_map(|one| ForgetOne::read_from_bytes(one).ok())
    }
}

/// Bytes that are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not even a header: nobody to answer.
    #[error("a request shorter than its header")]
    NoHeader,
    /// A header, but not what must follow it.
    #[error("request {unique} of opcode {opcode} is cut short or has no NUL where one must be")]
    Body {
        /// Whom to answer.
        unique: u64,
        /// What it seemed to ask.
        opcode: u32,
    },
}

/// Reads the request that fills `bytes`.
pub fn parse(bytes: &[u8], dialect: Dialect) -> Result<Request<'_>, Malformed> {
    let (header, rest) = InHeader::read_from_prefix(bytes).map_err(|_| Malformed::NoHeader)?;
    let bad = Malformed::Body { unique: header.unique, opcode: header.opcode };
    if header.len as usize != bytes.len() {
        return Err(bad);
    }
    // Extensions (security context, groups) are asked for nowhere; were they sent, they end the request.
    let extensions = usize::from(header.total_extlen) * 8;
    let body = rest.len().checked_sub(extensions).and_then(|end| rest.get(..end)).ok_or(bad)?;
    let mut cursor = Cursor { rest: body };
    let body = read_body(header.opcode, &mut cursor, dialect).ok_or(bad)?;
    Ok(Request { header, body })
}

/// The known opcodes by family; `None`: the bytes do not suffice.
fn read_body<'a>(code: u32, cursor: &mut Cursor<'a>, dialect: Dialect) -> Option<Body<'a>> {
    Some(match code {
        opcode::INIT => Body::Init(cursor.take_padded()),
        opcode::DESTROY => Body::Destroy,
        opcode::INTERRUPT => Body::Interrupt(cursor.take()?),
        opcode::FORGET => Body::Forget(cursor.take()?),
        opcode::BATCH_FORGET => Body::BatchForget(read_forgets(cursor)?),
        opcode::NOTIFY_REPLY => Body::NotifyReply,
        opcode::LOOKUP
        | opcode::MKNOD
        | opcode::MKDIR
        | opcode::SYMLINK
        | opcode::LINK
        | opcode::UNLINK
        | opcode::RMDIR
        | opcode::RENAME
        | opcode::RENAME2
        | opcode::CREATE
        | opcode::TMPFILE => Body::Name(read_name_op(code, cursor)?),
        opcode::GETATTR => Body::Node(NodeOp::Getattr(cursor.take()?)),
        opcode::SETATTR => Body::Node(NodeOp::Setattr(cursor.take()?)),
        opcode::STATX => Body::Node(NodeOp::Statx(cursor.take()?)),
        opcode::READLINK => Body::Node(NodeOp::Readlink),
        opcode::STATFS => Body::Node(NodeOp::Statfs),
        opcode::SYNCFS => Body::Node(NodeOp::Syncfs),
        opcode::OPENDIR => Body::Dir(DirOp::Opendir(cursor.take()?)),
        opcode::READDIR => Body::Dir(DirOp::Readdir(cursor.take()?)),
        opcode::READDIRPLUS => Body::Dir(DirOp::Readdirplus(cursor.take()?)),
        opcode::RELEASEDIR => Body::Dir(DirOp::Releasedir(cursor.take()?)),
        opcode::FSYNCDIR => Body::Dir(DirOp::Fsyncdir(cursor.take()?)),
        opcode::GETXATTR | opcode::LISTXATTR | opcode::SETXATTR | opcode::REMOVEXATTR => {
            Body::Xattr(read_xattr_op(code, cursor, dialect)?)
        }
        opcode::IOCTL => Body::Refused(Errno::NOTTY),
        _ => match read_file_op(code, cursor) {
            Some(operation) => Body::File(operation?),
            None => Body::Refused(Errno::NOSYS),
        },
    })
}

fn read_name_op<'a>(code: u32, cursor: &mut Cursor<'a>) -> Option<NameOp<'a>> {
    Some(match code {
        opcode::LOOKUP => NameOp::Lookup(cursor.name()?),
        opcode::MKNOD => NameOp::Mknod(cursor.take()?, cursor.name()?),
        opcode::MKDIR => NameOp::Mkdir(cursor.take()?, cursor.name()?),
        opcode::SYMLINK => NameOp::Symlink { name: cursor.name()?, target: cursor.name()? },
        opcode::LINK => NameOp::Link(cursor.take()?, cursor.name()?),
        opcode::UNLINK => NameOp::Unlink(cursor.name()?),
        opcode::RMDIR => NameOp::Rmdir(cursor.name()?),
        opcode::RENAME => {
            let RenameIn { newdir } = cursor.take()?;
            NameOp::Rename { newdir, flags: 0, from: cursor.name()?, to: cursor.name()? }
        }
        opcode::RENAME2 => {
            let Rename2In { newdir, flags, .. } = cursor.take()?;
            NameOp::Rename { newdir, flags, from: cursor.name()?, to: cursor.name()? }
        }
        opcode::CREATE => NameOp::Create(cursor.take()?, cursor.name()?),
        // A name follows, but the file will have none.
        opcode::TMPFILE => NameOp::Tmpfile(cursor.take()?),
        _ => return None,
    })
}

/// The outer `None`: no opcode of this family.
fn read_file_op<'a>(code: u32, cursor: &mut Cursor<'a>) -> Option<Option<FileOp<'a>>> {
    let operation = match code {
        opcode::OPEN => cursor.take().map(FileOp::Open),
        opcode::READ => cursor.take().map(FileOp::Read),
        opcode::WRITE => cursor.take::<WriteIn>().and_then(|write| {
            let data = cursor.bytes(write.size as usize)?;
            Some(FileOp::Write(write, data))
        }),
        opcode::RELEASE => cursor.take().map(FileOp::Release),
        opcode::FSYNC => cursor.take().map(FileOp::Fsync),
        opcode::FALLOCATE => cursor.take().map(FileOp::Fallocate),
        opcode::LSEEK => cursor.take().map(FileOp::Lseek),
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => {
            let wide = code == opcode::COPY_FILE_RANGE_64;
            cursor.take().map(|range| FileOp::CopyFileRange { range, wide })
        }
        _ => return None,
    };
    Some(operation)
}

fn read_xattr_op<'a>(code: u32, cursor: &mut Cursor<'a>, dialect: Dialect) -> Option<XattrOp<'a>> {
    Some(match code {
        opcode::GETXATTR => {
            let GetxattrIn { size, .. } = cursor.take()?;
            XattrOp::Get { name: cursor.name()?, size }
        }
        opcode::LISTXATTR => XattrOp::List { size: cursor.take::<GetxattrIn>()?.size },
        opcode::SETXATTR => {
            let set = if dialect.setxattr_ext {
                cursor.take::<SetxattrIn>()?
            } else {
                let SetxattrCompatIn { size, flags } = cursor.take()?;
                SetxattrIn { size, flags, ..SetxattrIn::default() }
            };
            let name = cursor.name()?;
            let value = cursor.bytes(set.size as usize)?;
            XattrOp::Set { name, value, flags: set.flags, setxattr_flags: set.setxattr_flags }
        }
        opcode::REMOVEXATTR => XattrOp::Remove(cursor.name()?),
        _ => return None,
    })
}

fn read_forgets<'a>(cursor: &mut Cursor<'a>) -> Option<Forgets<'a>> {
    let BatchForgetIn { count, .. } = cursor.take()?;
    let length = size_of::<ForgetOne>().checked_mul(count as usize)?;
    cursor.bytes(length).map(Forgets)
}

/// What is left of a request's bytes.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The next struct, copied out: a request's parts need not be aligned.
    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Option<T> {
        let (value, rest) = T::read_from_prefix(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }

    /// The next struct, which older kernels send shorter: what is missing is zero.
    fn take_padded<T: FromZeros + FromBytes + IntoBytes>(&mut self) -> T {
        let mut value = T::new_zeroed();
        let length = self.rest.len().min(size_of::<T>());
        let (sent, rest) = self.rest.split_at(length);
        value.as_mut_bytes()[..length].copy_from_slice(sent);
        self.rest = rest;
        value
    }

    /// The next name, without the NUL that ends it.
    fn name(&mut self) -> Option<&'a OsStr> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        let name = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(OsStr::from_bytes(name))
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}
