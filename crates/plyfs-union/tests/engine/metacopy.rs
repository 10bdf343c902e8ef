//! Changes of metadata copy no data: the copy on the branch is empty, the data is read from below until it is written.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use plyfs_sys::{NewTime, Obj};
use plyfs_union::{Ino, OpenHow, Seek, SetAttr, SetTime, Time};

use crate::bench::{Branches, READ, READ_WRITE, Tree, UP_LOW};

pub(crate) const SIZE: usize = 300_000;

/// Bytes that no other place of the file has.
pub(crate) fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at * 31 % 251) as u8).collect()
}

/// `low/d/f` with [`content`].
pub(crate) fn one() -> Branches {
    let branches = Branches::new();
    branches.file("low/d/f", "");
    fs::write(branches.path("low/d/f"), content()).unwrap();
    branches
}

pub(crate) fn bytes_of(tree: &Tree, ino: Ino) -> Vec<u8> {
    let size = tree.getattr(ino, None).unwrap().size as usize;
    let file = tree.open_file(ino, READ).unwrap().fh;
    let mut buf = vec![0; size + 1];
    let count = tree.read(file, 0, &mut buf).unwrap();
    tree.release(file);
    buf.truncate(count);
    buf
}

pub(crate) fn bytes(tree: &Tree, path: &str) -> Vec<u8> {
    bytes_of(tree, tree.ino(path))
}

#[track_caller]
pub(crate) fn same(is: &[u8], should: &[u8]) {
    assert_eq!(is.len(), should.len(), "length");
    assert_eq!(is.iter().zip(should).position(|(a, b)| a != b), None, "first difference");
}

#[track_caller]
pub(crate) fn is_bare(branches: &Branches, path: &str) {
    let stat = fs::symlink_metadata(branches.path(path)).unwrap();
    assert_eq!(stat.size(), SIZE as u64);
    assert!(stat.blocks() * 512 <= 8192, "{path} takes up {} bytes", stat.blocks() * 512);
}

/// What a test does to a union.
type Change<'a> = &'a dyn Fn(&Tree);

/// An xattr of ours on a branch's file.
pub(crate) fn fact(branches: &Branches, path: &str, name: &str) -> Option<(String, Vec<u8>)> {
    let file = fs::File::open(branches.path(path)).unwrap();
    let obj = Obj::Fd(file.as_fd());
    let names = ["trusted", "user"].map(|space| format!("{space}.plyfs.{name}"));
    names.into_iter().find_map(|name| Some((name.clone(), obj.xattr(OsStr::new(&name)).unwrap()?)))
}

#[test]
fn changes_of_metadata_copy_no_data() {
    let time = Time { sec: 1_000_000, nsec: 5 };
    let changes: &[(&str, Change<'_>)] = &[
        ("chmod", &|tree| assert_eq!(tree.chmod(tree.ino("d/f"), 0o640).unwrap(), 0o640)),
        ("utimes", &|tree| {
            let change = SetAttr { mtime: Some(SetTime::At(time)), ..SetAttr::default() };
            tree.setattr(tree.ino("d/f"), None, &change).unwrap();
        }),
        ("chown", &|tree| {
            let change = SetAttr { uid: Some(rustix_uid()), ..SetAttr::default() };
            tree.setattr(tree.ino("d/f"), None, &change).unwrap();
        }),
        ("setxattr", &|tree| tree.mark(tree.ino("d/f")).unwrap()),
        ("rename", &|tree| {
            tree.mv("d/f", "g").unwrap();
            tree.mv("g", "d/f").unwrap();
        }),
        ("link", &|tree| {
            tree.link(tree.ino("d/f"), Ino::ROOT, OsStr::new("g")).unwrap();
            same(&bytes(tree, "g"), &content());
        }),
    ];
    for (name, change) in changes {
        eprintln!("{name}");
        let branches = one();
        let below = branches.state("low");
        let blocks = fs::metadata(branches.path("low/d/f")).unwrap().blocks();
        let tree = branches.open(UP_LOW);
        let before = tree.at("d/f").attr;
        change(&tree);
        is_bare(&branches, "up/d/f");
        same(&bytes(&tree, "d/f"), &content());
        let after = tree.at("d/f").attr;
        assert_eq!((after.size, after.ino, after.blocks), (before.size, before.ino, blocks));
        if *name != "utimes" {
            assert_eq!(after.mtime, before.mtime);
        }
        let names = tree.listxattr(tree.ino("d/f")).unwrap();
        assert!(!String::from_utf8_lossy(&names).contains("plyfs"));
        drop(tree);
        let tree = branches.open(UP_LOW);
        same(&bytes(&tree, "d/f"), &content());
        let again = tree.at("d/f").attr;
        assert_eq!((again.size, again.ino, again.blocks), (after.size, after.ino, after.blocks));
        assert_eq!((again.perm, again.mtime), (after.perm, after.mtime));
        assert_eq!(branches.state("low"), below);
    }
}

fn rustix_uid() -> u32 {
    plyfs_sys::cred::effective_uid()
}

#[test]
fn a_write_brings_the_data() {
    for reopen in [false, true] {
        let branches = one();
        let mut tree = branches.open(UP_LOW);
        let reader = tree.open_file(tree.ino("d/f"), READ).unwrap().fh;
        tree.chmod(tree.ino("d/f"), 0o4640).unwrap();
        if reopen {
            drop(tree);
            tree = branches.open(UP_LOW);
        }
        let ino = tree.ino("d/f");
        let early = tree.open_file(ino, READ_WRITE).unwrap().fh;
        is_bare(&branches, "up/d/f");
        let before = tree.getattr(ino, None).unwrap();
        let mut should = content();
        tree.write(early, 1000, b"NEW", false).unwrap();
        should[1000..1003].copy_from_slice(b"NEW");
        same(&bytes_of(&tree, ino), &should);
        same(&fs::read(branches.path("up/d/f")).unwrap(), &should);
        assert_eq!(fact(&branches, "up/d/f", "data"), None);
        assert!(!fact(&branches, "up/d/f", "origin").unwrap().1.ends_with(b"+data"));
        let mut buf = [0; 3];
        if !reopen {
            // A descriptor opened before sees it.
            tree.read(reader, 1000, &mut buf).unwrap();
            assert_eq!(&buf, b"NEW");
        }
        let after = tree.getattr(ino, None).unwrap();
        assert_eq!((after.perm, after.ino, after.size), (0o4640, before.ino, before.size));
        tree.release(early);
        drop(tree);
        same(&bytes(&branches.open(UP_LOW), "d/f"), &should);
    }
}

#[test]
fn filling_a_copy_keeps_its_times() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    let ino = tree.ino("d/f");
    let time = Time { sec: 1_000_000, nsec: 5 };
    let change =
        SetAttr { mtime: Some(SetTime::At(time)), atime: Some(SetTime::At(time)), ..SetAttr::default() };
    tree.setattr(ino, None, &change).unwrap();
    // Growing needs the data; the caller sets the time itself.
    let grow = SetAttr { size: Some(SIZE as u64 + 1), mtime: Some(SetTime::At(time)), ..SetAttr::default() };
    let attr = tree.setattr(ino, None, &grow).unwrap();
    assert_eq!((attr.mtime, attr.atime, attr.size), (time, time, SIZE as u64 + 1));
    let file = tree.open_file(ino, READ_WRITE).unwrap().fh;
    assert_eq!(tree.getattr(ino, None).unwrap().mtime, time);
    tree.release(file);
}

#[test]
fn cutting_and_growing() {
    for size in [0, 1, 1000, SIZE - 1, SIZE, SIZE + 5000] {
        let branches = one();
        let tree = branches.open(UP_LOW);
        let ino = tree.ino("d/f");
        tree.chmod(ino, 0o600).unwrap();
        let change = SetAttr { size: Some(size as u64), ..SetAttr::default() };
        assert_eq!(tree.setattr(ino, None, &change).unwrap().size, size as u64);
        let mut should = content();
        should.resize(size, 0);
        same(&bytes_of(&tree, ino), &should);
        drop(tree);
        let tree = branches.open(UP_LOW);
        same(&bytes(&tree, "d/f"), &should);
        // Back to the old size: what is new is zeros.
        let grow = SetAttr { size: Some(SIZE as u64), ..SetAttr::default() };
        tree.setattr(tree.ino("d/f"), None, &grow).unwrap();
        should.resize(SIZE, 0);
        same(&bytes(&tree, "d/f"), &should);
        drop(tree);
        same(&bytes(&branches.open(UP_LOW), "d/f"), &should);
        assert_eq!(fact(&branches, "up/d/f", "data"), None);
    }
}

#[test]
fn opening_with_o_trunc_copies_nothing() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    let ino = tree.ino("d/f");
    tree.chmod(ino, 0o600).unwrap();
    let reader = tree.open_file(ino, READ).unwrap().fh;
    let file = tree.open_file(ino, OpenHow { truncate: true, ..READ_WRITE }).unwrap().fh;
    assert_eq!(tree.read(reader, 0, &mut [0; 10]).unwrap(), 0);
    tree.write(file, 0, b"new", false).unwrap();
    assert_eq!(fs::read(branches.path("up/d/f")).unwrap(), b"new");
    assert_eq!(fact(&branches, "up/d/f", "data"), None);
}

#[test]
fn copy_file_range_reads_below_and_writes_above() {
    let branches = one();
    branches.file("low/g", "");
    fs::write(branches.path("low/g"), vec![b'g'; SIZE]).unwrap();
    let tree = branches.open(UP_LOW);
    let (f, g) = (tree.ino("d/f"), tree.ino("g"));
    tree.chmod(f, 0o600).unwrap();
    tree.chmod(g, 0o600).unwrap();
    let (from, to) = (tree.open_file(f, READ).unwrap().fh, tree.open_file(g, READ_WRITE).unwrap().fh);
    assert_eq!(tree.seek(from, 0, Seek::Data).unwrap(), 0);
    assert_eq!(tree.seek(from, 0, Seek::Hole).unwrap(), SIZE as u64);
    let mut done = 0;
    while done < 5000 {
        done += tree.copy_file_range((from, 100 + done), (to, done), 5000 - done, false).unwrap();
    }
    tree.fsync(to, false).unwrap();
    is_bare(&branches, "up/d/f");
    let mut should = vec![b'g'; SIZE];
    should[..5000].copy_from_slice(&content()[100..5100]);
    same(&bytes_of(&tree, g), &should);
}

#[test]
fn holes_can_be_punched_once_the_data_is_there() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    let ino = tree.ino("d/f");
    tree.chmod(ino, 0o600).unwrap();
    let file = tree.open_file(ino, READ_WRITE).unwrap().fh;
    // FALLOC_FL_PUNCH_HOLE with FALLOC_FL_KEEP_SIZE.
    tree.fallocate(file, 3, 4096, 8192, false).unwrap();
    let mut should = content();
    should[4096..12_288].fill(0);
    same(&bytes_of(&tree, ino), &should);
}

#[test]
fn two_names_are_one_file() {
    let branches = one();
    branches.hard_link("low/d/f", "low/g");
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    is_bare(&branches, "up/d/f");
    same(&bytes(&tree, "g"), &content());
    assert_eq!((tree.at("g").attr.perm, tree.at("g").attr.nlink), (0o600, 2));
    drop(tree);
    let tree = branches.open(UP_LOW);
    // By the name that only the lower branch has.
    same(&bytes(&tree, "g"), &content());
    assert_eq!(tree.ino("g"), tree.ino("d/f"));
    tree.mv("g", "h").unwrap();
    same(&bytes(&tree, "h"), &content());
    tree.put(tree.ino("h"), "NEW");
    let mut should = content();
    should[..3].copy_from_slice(b"NEW");
    same(&bytes(&tree, "d/f"), &should);
    drop(tree);
    let tree = branches.open(UP_LOW);
    same(&bytes(&tree, "d/f"), &should);
    same(&bytes(&tree, "h"), &should);
}

#[test]
fn an_unlinked_open_copy_is_read_and_written() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    let ino = tree.ino("d/f");
    tree.chmod(ino, 0o600).unwrap();
    let file = tree.open_file(ino, READ_WRITE).unwrap().fh;
    tree.rm("d/f").unwrap();
    same(&bytes_of(&tree, ino), &content());
    tree.chmod(ino, 0o644).unwrap();
    tree.write(file, 5, b"NEW", false).unwrap();
    let mut should = content();
    should[5..8].copy_from_slice(b"NEW");
    same(&bytes_of(&tree, ino), &should);
    same(&fs::read(branches.path("low/d/f")).unwrap(), &content());
    assert!(tree.find("d/f").unwrap().is_none());
}

#[test]
fn which_tells_where_the_data_is() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    tree.mv("d/f", "g").unwrap();
    let steps = tree.explain("/g".as_ref()).unwrap().steps;
    let data = steps[0].data.clone().unwrap();
    assert_eq!((data.branch, data.path.to_str().unwrap()), (Some(1), "/d/f"));
    tree.put(tree.ino("g"), "NEW");
    assert_eq!(tree.explain("/g".as_ref()).unwrap().steps[0].data, None);
    drop(tree);
    let tree = branches.open(UP_LOW);
    assert!(tree.explain("/d/f".as_ref()).unwrap().steps.iter().all(|step| step.data.is_none()));
}

#[test]
fn readers_see_the_same_while_the_data_comes() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    let ino = tree.ino("d/f");
    tree.chmod(ino, 0o600).unwrap();
    let should = content();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    same(&bytes_of(&tree, ino), &should);
                }
            });
        }
        scope.spawn(|| {
            let file = tree.open_file(ino, READ_WRITE).unwrap().fh;
            tree.write(file, 10, &should[10..20], false).unwrap();
            tree.release(file);
        });
    });
    same(&fs::read(branches.path("up/d/f")).unwrap(), &should);
}

#[test]
fn times_of_the_lower_file_are_not_touched() {
    let branches = one();
    let old = Time { sec: 5, nsec: 0 };
    let file = fs::File::open(branches.path("low/d/f")).unwrap();
    Obj::Fd(file.as_fd()).set_times(NewTime::Keep, NewTime::At(old)).unwrap();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    assert_eq!(tree.at("d/f").attr.mtime, old);
    let file = tree.open_file(tree.ino("d/f"), READ_WRITE).unwrap().fh;
    tree.write(file, 0, b"x", false).unwrap();
    assert_eq!(fs::metadata(branches.path("low/d/f")).unwrap().mtime(), 5);
}
