//! Every request there and back; bytes that are none do no harm.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::ffi::OsStr;

use plyfs_wire::Errno;
use plyfs_wire::messages::requests::*;
use plyfs_wire::messages::{InHeader, opcode};
use plyfs_wire::request::*;
use proptest::prelude::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const EXT: Dialect = Dialect { setxattr_ext: true };

fn raw(code: u32, parts: &[&[u8]]) -> Vec<u8> {
    let length = size_of::<InHeader>() + parts.iter().map(|part| part.len()).sum::<usize>();
    let header = InHeader {
        len: length as u32,
        opcode: code,
        unique: 77,
        nodeid: 5,
        uid: 1,
        gid: 2,
        pid: 3,
        total_extlen: 0,
        padding: 0,
    };
    let mut bytes = header.as_bytes().to_vec();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// A struct whose every byte differs from its neighbours.
fn pattern<T: FromBytes>() -> T {
    let bytes: Vec<u8> = (0..size_of::<T>()).map(|index| index as u8 + 1).collect();
    T::read_from_bytes(&bytes).unwrap()
}

/// Parses `code` with a patterned struct and checks that the struct comes back as it was.
fn check<T>(code: u32, names: &[u8], got: impl Fn(Body<'_>) -> Option<T>)
where
    T: FromBytes + IntoBytes + Immutable + PartialEq + std::fmt::Debug,
{
    let value: T = pattern();
    let bytes = raw(code, &[value.as_bytes(), names]);
    let request = parse(&bytes, EXT).unwrap();
    assert_eq!((request.header.unique, request.header.nodeid), (77, 5));
    assert_eq!(got(request.body), Some(value), "opcode {code}");
    // Cut anywhere, it is refused.
    for end in 0..bytes.len() {
        let mut cut = bytes[..end].to_vec();
        if end >= size_of::<InHeader>() {
            cut[..4].copy_from_slice(&(end as u32).to_ne_bytes());
        }
        assert!(parse(&cut, EXT).is_err(), "opcode {code} cut at {end}");
    }
}

macro_rules! check {
    ($code:ident, $names:expr, $pattern:pat $(if $guard:expr)? => $value:expr) => {
        check(opcode::$code, $names, |body| match body {
            $pattern $(if $guard)? => Some($value),
            _ => None,
        })
    };
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

#[test]
fn structs_come_back_as_sent() {
    check!(FORGET, b"", Body::Forget(value) => value);
    check!(INTERRUPT, b"", Body::Interrupt(value) => value);
    check!(GETATTR, b"", Body::Node(NodeOp::Getattr(value)) => value);
    check!(SETATTR, b"", Body::Node(NodeOp::Setattr(value)) => value);
    check!(STATX, b"", Body::Node(NodeOp::Statx(value)) => value);
    check!(MKNOD, b"n\0", Body::Name(NameOp::Mknod(value, name)) if name == "n" => value);
    check!(MKDIR, b"n\0", Body::Name(NameOp::Mkdir(value, name)) if name == "n" => value);
    check!(LINK, b"n\0", Body::Name(NameOp::Link(value, name)) if name == "n" => value);
    check!(CREATE, b"n\0", Body::Name(NameOp::Create(value, name)) if name == "n" => value);
    check!(TMPFILE, b"", Body::Name(NameOp::Tmpfile(value)) => value);
    check!(OPEN, b"", Body::File(FileOp::Open(value)) => value);
    check!(READ, b"", Body::File(FileOp::Read(value)) => value);
    check!(RELEASE, b"", Body::File(FileOp::Release(value)) => value);
    check!(FSYNC, b"", Body::File(FileOp::Fsync(value)) => value);
    check!(FALLOCATE, b"", Body::File(FileOp::Fallocate(value)) => value);
    check!(LSEEK, b"", Body::File(FileOp::Lseek(value)) => value);
    check!(COPY_FILE_RANGE, b"", Body::File(FileOp::CopyFileRange { range, wide: false }) => range);
    check!(COPY_FILE_RANGE_64, b"", Body::File(FileOp::CopyFileRange { range, wide: true }) => range);
    check!(OPENDIR, b"", Body::Dir(DirOp::Opendir(value)) => value);
    check!(READDIR, b"", Body::Dir(DirOp::Readdir(value)) => value);
    check!(READDIRPLUS, b"", Body::Dir(DirOp::Readdirplus(value)) => value);
    check!(RELEASEDIR, b"", Body::Dir(DirOp::Releasedir(value)) => value);
    check!(FSYNCDIR, b"", Body::Dir(DirOp::Fsyncdir(value)) => value);
}

#[test]
fn names_are_split_at_their_nuls() {
    let names = |code, parts: &[&[u8]]| -> Vec<u8> { raw(code, parts) };
    let bytes = names(opcode::LOOKUP, &[b"a name\0"]);
    assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Name(NameOp::Lookup(name)) if name == "a name"));
    let bytes = names(opcode::UNLINK, &[b"u\0"]);
    assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Name(NameOp::Unlink(name)) if name == "u"));
    let bytes = names(opcode::RMDIR, &[b"\xff\0"]);
    assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Name(NameOp::Rmdir(name)) if name.len() == 1));
    let bytes = names(opcode::SYMLINK, &[b"s\0", b"to/there\0"]);
    let Body::Name(NameOp::Symlink { name, target }) = parse(&bytes, EXT).unwrap().body else { panic!() };
    assert_eq!((name, target), (os("s"), os("to/there")));
    for (code, bytes, want) in [
        (opcode::RENAME, RenameIn { newdir: 9 }.as_bytes().to_vec(), 0),
        (opcode::RENAME2, Rename2In { newdir: 9, flags: 2, padding: 0 }.as_bytes().to_vec(), 2),
    ] {
        let bytes = names(code, &[&bytes, b"from\0to\0"]);
        let Body::Name(NameOp::Rename { from, newdir, to, flags }) = parse(&bytes, EXT).unwrap().body else {
            panic!()
        };
        assert_eq!((from, newdir, to, flags), (os("from"), 9, os("to"), want));
    }
    let bytes = names(opcode::LOOKUP, &[b"no end"]);
    assert_eq!(parse(&bytes, EXT).unwrap_err(), Malformed::Body { unique: 77, opcode: opcode::LOOKUP });
}

#[test]
fn data_is_as_long_as_it_says() {
    let write = WriteIn { fh: 1, offset: 2, size: 3, ..WriteIn::default() };
    let bytes = raw(opcode::WRITE, &[write.as_bytes(), b"abc"]);
    let Body::File(FileOp::Write(got, data)) = parse(&bytes, EXT).unwrap().body else { panic!() };
    assert_eq!((got, data), (write, &b"abc"[..]));
    assert!(parse(&raw(opcode::WRITE, &[write.as_bytes(), b"ab"]), EXT).is_err());

    let set = SetxattrIn { size: 2, flags: 1, setxattr_flags: 1, padding: 0 };
    let bytes = raw(opcode::SETXATTR, &[set.as_bytes(), b"user.x\0vv"]);
    let Body::Xattr(XattrOp::Set { name, value, flags, setxattr_flags }) = parse(&bytes, EXT).unwrap().body
    else {
        panic!()
    };
    assert_eq!((name, value, flags, setxattr_flags), (os("user.x"), &b"vv"[..], 1, 1));
    let set = SetxattrCompatIn { size: 2, flags: 2 };
    let bytes = raw(opcode::SETXATTR, &[set.as_bytes(), b"user.x\0vv"]);
    let Body::Xattr(XattrOp::Set { value, setxattr_flags: 0, .. }) =
        parse(&bytes, Dialect::default()).unwrap().body
    else {
        panic!()
    };
    assert_eq!(value, b"vv");

    let get = GetxattrIn { size: 9, padding: 0 };
    let bytes = raw(opcode::GETXATTR, &[get.as_bytes(), b"user.x\0"]);
    assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Xattr(XattrOp::Get { size: 9, .. })));
    let bytes = raw(opcode::LISTXATTR, &[get.as_bytes()]);
    assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Xattr(XattrOp::List { size: 9 })));
    let bytes = raw(opcode::REMOVEXATTR, &[b"user.x\0"]);
    assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Xattr(XattrOp::Remove(_))));

    let head = BatchForgetIn { count: 2, dummy: 0 };
    let (one, two) = (ForgetOne { nodeid: 2, nlookup: 3 }, ForgetOne { nodeid: 4, nlookup: 5 });
    let bytes = raw(opcode::BATCH_FORGET, &[head.as_bytes(), one.as_bytes(), two.as_bytes()]);
    let Body::BatchForget(forgets) = parse(&bytes, EXT).unwrap().body else { panic!() };
    assert_eq!(forgets.iter().collect::<Vec<_>>(), [one, two]);
    let many = BatchForgetIn { count: u32::MAX, dummy: 0 };
    assert!(parse(&raw(opcode::BATCH_FORGET, &[many.as_bytes(), one.as_bytes()]), EXT).is_err());
}

#[test]
fn bare_and_refused_requests() {
    for (code, want) in [
        (opcode::READLINK, "Node(Readlink)"),
        (opcode::STATFS, "Node(Statfs)"),
        (opcode::SYNCFS, "Node(Syncfs)"),
        (opcode::DESTROY, "Destroy"),
        (opcode::NOTIFY_REPLY, "NotifyReply"),
    ] {
        assert_eq!(format!("{:?}", parse(&raw(code, &[]), EXT).unwrap().body), want);
    }
    for (code, want) in [
        (opcode::IOCTL, Errno::NOTTY),
        (opcode::FLUSH, Errno::NOSYS),
        (opcode::ACCESS, Errno::NOSYS),
        (opcode::BMAP, Errno::NOSYS),
        (opcode::POLL, Errno::NOSYS),
        (31, Errno::NOSYS),
        (4096, Errno::NOSYS),
        (u32::MAX, Errno::NOSYS),
    ] {
        let bytes = raw(code, &[b"whatever"]);
        assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Refused(errno) if errno == want));
    }
}

#[test]
fn init_of_older_kernels_is_shorter_and_extensions_are_cut_off() {
    let init = InitIn { major: 7, minor: 31, max_readahead: 1, flags: 2, ..InitIn::default() };
    let bytes = raw(opcode::INIT, &[&init.as_bytes()[..16]]);
    assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Init(got) if got == init));
    let mut bytes = raw(opcode::LOOKUP, &[b"abc\0", &[1; 8]]);
    bytes[36] = 1;
    assert!(matches!(parse(&bytes, EXT).unwrap().body, Body::Name(NameOp::Lookup(name)) if name == "abc"));
    bytes[36] = 200;
    assert!(parse(&bytes, EXT).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), ext: bool) {
        if let Ok(request) = parse(&bytes, Dialect { setxattr_ext: ext }) {
            prop_assert_eq!(request.header.len as usize, bytes.len());
        }
    }

    #[test]
    fn random_bodies_never_panic(
        code in prop_oneof![0u32..60, any::<u32>()],
        body in proptest::collection::vec(any::<u8>(), 0..300),
        extlen in 0u16..4,
        ext: bool,
    ) {
        let mut bytes = raw(code, &[&body]);
        bytes[36..38].copy_from_slice(&extlen.to_ne_bytes());
        if let Ok(request) = parse(&bytes, Dialect { setxattr_ext: ext })
            && let Body::BatchForget(forgets) = request.body
        {
            prop_assert!(forgets.iter().count() <= body.len() / 16);
        }
    }
}
