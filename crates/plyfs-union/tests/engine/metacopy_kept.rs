//! Copies of metadata alone that outlive a mount: crashes, lost data, branches that change their place, overlayfs' own
//! form, and when no such copies are made.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use plyfs_sys::{Errno, Obj, SetXattr};
use plyfs_union::spec::{Grammar, MountSpec, Perm, Speed};
use plyfs_union::{OpenHow, SetAttr};

use crate::bench::{BOTH_RW, Branches, READ, READ_WRITE, RO, RW, Tree, UP_LOW, errno};
use crate::metacopy::{SIZE, bytes, content, fact, is_bare, one, same};

fn with(metacopy: Option<bool>) -> MountSpec {
    MountSpec { speed: Speed { metacopy, ..Speed::default() }, ..MountSpec::default() }
}

/// Bytes that a file on a branch takes up.
fn space(branches: &Branches, path: &str) -> u64 {
    fs::symlink_metadata(branches.path(path)).unwrap().blocks() * 512
}

fn set(branches: &Branches, path: &str, name: &str, value: &[u8]) -> plyfs_sys::Result<()> {
    let file = fs::File::open(branches.path(path)).unwrap();
    Obj::Fd(file.as_fd()).set_xattr(OsStr::new(name), value, SetXattr::Any)
}

#[test]
fn a_crash_while_the_data_comes_leaves_the_old_data() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    drop(tree);
    // Half of it is there, and the fact.
    let half = fs::OpenOptions::new().write(true).open(branches.path("up/d/f")).unwrap();
    half.write_all_at(&content()[..SIZE / 2], 0).unwrap();
    let tree = branches.open(UP_LOW);
    same(&bytes(&tree, "d/f"), &content());
    tree.put(tree.ino("d/f"), "NEW");
    let mut should = content();
    should[..3].copy_from_slice(b"NEW");
    same(&bytes(&tree, "d/f"), &should);
    assert_eq!(fact(&branches, "up/d/f", "data"), None);
}

#[test]
fn a_crash_after_it_was_emptied_leaves_it_empty() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    drop(tree);
    fs::OpenOptions::new().write(true).open(branches.path("up/d/f")).unwrap().set_len(0).unwrap();
    let tree = branches.open(UP_LOW);
    assert_eq!(bytes(&tree, "d/f"), b"");
    // The fact was void and must not come to life again.
    let grow = SetAttr { size: Some(SIZE as u64), ..SetAttr::default() };
    tree.setattr(tree.ino("d/f"), None, &grow).unwrap();
    drop(tree);
    same(&bytes(&branches.open(UP_LOW), "d/f"), &vec![0; SIZE]);
}

#[test]
fn a_crash_after_the_data_came_leaves_a_plain_file() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    drop(tree);
    // Its data is there and the fact is gone; the origin still speaks of it.
    let file = fs::OpenOptions::new().write(true).open(branches.path("up/d/f")).unwrap();
    file.write_all_at(&vec![b'x'; SIZE], 0).unwrap();
    let (name, _) = fact(&branches, "up/d/f", "data").unwrap();
    Obj::Fd(file.as_fd()).remove_xattr(OsStr::new(&name)).unwrap();
    let (_, origin) = fact(&branches, "up/d/f", "origin").unwrap();
    assert!(origin.ends_with(b"+data"));
    let tree = branches.open(UP_LOW);
    same(&bytes(&tree, "d/f"), &vec![b'x'; SIZE]);
    let (_, now) = fact(&branches, "up/d/f", "origin").unwrap();
    assert_eq!(now, origin.strip_suffix(b"+data").unwrap());
}

#[test]
fn a_copy_whose_holes_were_filled_by_a_backup_is_known() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    drop(tree);
    let file = fs::OpenOptions::new().write(true).open(branches.path("up/d/f")).unwrap();
    file.write_all_at(&vec![0; SIZE], 0).unwrap();
    same(&bytes(&branches.open(UP_LOW), "d/f"), &content());
    // Also where it is a plain read-only branch now, whose whiteouts do not count.
    let tree = branches.open(&[("top", RW), ("up", RO), ("low", RO)]);
    same(&bytes(&tree, "d/f"), &content());
    // And over it, once more; then the data is two branches below.
    tree.chmod(tree.ino("d/f"), 0o444).unwrap();
    is_bare(&branches, "top/d/f");
    same(&bytes(&tree, "d/f"), &content());
    drop(tree);
    let tree = branches.open(&[("top", RW), ("up", RO), ("low", RO)]);
    same(&bytes(&tree, "d/f"), &content());
    tree.chmod(tree.ino("d/f"), 0o644).unwrap();
    tree.put(tree.ino("d/f"), "NEW");
    assert_eq!(&fs::read(branches.path("top/d/f")).unwrap()[3..], &content()[3..]);
}

#[test]
fn data_that_is_gone_is_an_error_and_not_zeros() {
    for other in [None, Some(SIZE - 1), Some(SIZE)] {
        let branches = one();
        let tree = branches.open(UP_LOW);
        tree.chmod(tree.ino("d/f"), 0o600).unwrap();
        drop(tree);
        match other {
            None => fs::remove_file(branches.path("low/d/f")).unwrap(),
            Some(size) => {
                // Another file in its place; of the same size also another inode.
                fs::write(branches.path("low/d/g"), vec![b'x'; size]).unwrap();
                fs::rename(branches.path("low/d/g"), branches.path("low/d/f")).unwrap();
            }
        }
        let tree = branches.open(UP_LOW);
        let ino = tree.ino("d/f");
        assert_eq!(errno(tree.open_file(ino, READ)), Errno::IO);
        let file = tree.open_file(ino, READ_WRITE);
        assert_eq!(errno(file), Errno::IO);
        assert_eq!(
            errno(tree.setattr(ino, None, &SetAttr { size: Some(5), ..SetAttr::default() })),
            Errno::IO
        );
        // What needs no data works.
        tree.chmod(ino, 0o644).unwrap();
        tree.mv("d/f", "d/h").unwrap();
        let file = tree.open_file(ino, OpenHow { truncate: true, ..READ_WRITE }).unwrap().fh;
        tree.write(file, 0, b"new", false).unwrap();
        assert_eq!(tree.text("d/h"), "new");
    }
}

#[test]
fn branches_put_above_the_data_do_not_take_its_place() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    drop(tree);
    fs::create_dir_all(branches.path("other/d")).unwrap();
    fs::write(branches.path("other/d/f"), vec![b'x'; SIZE]).unwrap();
    branches.file("whiteout/d/.wh.f", "");
    let wh = |name: &str, perm| plyfs_union::spec::BranchSpec::new(branches.dir(name), perm).with_wh();
    for between in ["other", "whiteout"] {
        let stack = vec![wh("up", RW), wh(between, RO), wh("low", RO)];
        let tree = Tree::of(&MountSpec { branches: stack, ..with(None) });
        same(&bytes(&tree, "d/f"), &content());
    }
}

#[test]
fn data_is_found_after_renames_of_directories_above_it() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    tree.mv("d", "e").unwrap();
    tree.chmod(tree.ino("e/f"), 0o600).unwrap();
    is_bare(&branches, "up/e/f");
    drop(tree);
    let tree = branches.open(UP_LOW);
    same(&bytes(&tree, "e/f"), &content());
    tree.mv("e", "z").unwrap();
    same(&bytes(&tree, "z/f"), &content());
    drop(tree);
    // The redirect on a branch that is read-only now.
    let stack = &[("top", RW), ("up", RW), ("low", RO)];
    let tree = branches.open(stack);
    same(&bytes(&tree, "z/f"), &content());
    drop(tree);
    let over = Branches::at(branches.path(""));
    let spec = MountSpec { grammar: Grammar::Overlay, ..with(Some(true)) };
    let wh = |name: &str, perm| plyfs_union::spec::BranchSpec::new(over.dir(name), perm).with_wh();
    let spec =
        MountSpec { branches: vec![wh("top", Perm::Rw), wh("up", Perm::Ro), wh("low", Perm::Ro)], ..spec };
    let tree = Tree::of(&spec);
    same(&bytes(&tree, "z/f"), &content());
    tree.chmod(tree.ino("z/f"), 0o444).unwrap();
    is_bare(&branches, "top/z/f");
    drop(tree);
    same(&bytes(&Tree::of(&spec), "z/f"), &content());
}

#[test]
fn it_can_be_turned_off_and_is_for_big_files_of_read_only_branches() {
    let copied = |spec: MountSpec, stack: &[(&str, Perm)], top: &str| {
        let branches = one();
        let tree = branches.open_with(stack, spec);
        tree.chmod(tree.ino("d/f"), 0o600).unwrap();
        same(&bytes(&tree, "d/f"), &content());
        space(&branches, top) >= SIZE as u64
    };
    assert!(copied(with(Some(false)), UP_LOW, "up/d/f"));
    assert!(copied(MountSpec { strict: true, ..with(None) }, UP_LOW, "up/d/f"));
    assert!(!copied(MountSpec { strict: true, ..with(Some(true)) }, UP_LOW, "up/d/f"));
    assert!(copied(MountSpec { grammar: Grammar::Overlay, ..with(None) }, UP_LOW, "up/d/f"));
    assert!(!copied(MountSpec { grammar: Grammar::Overlay, ..with(Some(true)) }, UP_LOW, "up/d/f"));
    let from = |size| {
        let mut spec = with(None);
        spec.speed.metacopy_from = Some(size);
        spec
    };
    assert!(copied(from(SIZE as u64), UP_LOW, "up/d/f"));
    assert!(!copied(from(SIZE as u64 - 1), UP_LOW, "up/d/f"));
    // A file of a writable branch is changed where it is; brought up by link(2) to another, it comes whole.
    let branches = one();
    branches.dir("up/p");
    let tree = branches.open(BOTH_RW);
    tree.mv("d/f", "p/f").unwrap();
    same(&bytes(&tree, "p/f"), &content());
    drop(tree);
    same(&bytes(&branches.open(BOTH_RW), "p/f"), &content());
    // 64 KiB are small.
    let branches = Branches::new();
    branches.file("low/f", "");
    fs::write(branches.path("low/f"), vec![b'x'; 65_536]).unwrap();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("f"), 0o600).unwrap();
    assert_eq!(fact(&branches, "up/f", "data"), None);
}

#[test]
fn data_outlives_that_its_branch_becomes_writable() {
    let branches = one();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    drop(tree);
    let tree = branches.open(BOTH_RW);
    same(&bytes(&tree, "d/f"), &content());
    tree.put(tree.ino("d/f"), "NEW");
    drop(tree);
    same(&fs::read(branches.path("low/d/f")).unwrap(), &content());
}

#[test]
fn copies_of_overlayfs_without_data_are_read() {
    for (space, name) in [("trusted", SIZE), ("user", SIZE), ("trusted", 10)] {
        let branches = one();
        let should = content()[..name].to_vec();
        fs::write(branches.path("low/d/f"), &should).unwrap();
        let metacopy = format!("{space}.overlay.metacopy");
        let redirect = format!("{space}.overlay.redirect");
        let make = |path: &str, to: Option<&str>| {
            branches.file(path, "");
            fs::OpenOptions::new()
                .write(true)
                .open(branches.path(path))
                .unwrap()
                .set_len(name as u64)
                .unwrap();
            let made = set(&branches, path, &metacopy, b"");
            to.into_iter().for_each(|to| set(&branches, path, &redirect, to.as_bytes()).unwrap());
            made
        };
        if make("mid/d/f", None).is_err() {
            eprintln!("SKIPPED: {space} attributes need root");
            continue;
        }
        make("mid/d/g", Some("f")).unwrap();
        make("mid/new/h", Some("/d/f")).unwrap();
        make("mid/lost", None).unwrap();
        branches.dir("mid");
        set(&branches, "mid", &format!("{space}.overlay.impure"), b"y").unwrap();
        let stack = &[("up", RW), ("mid", RO), ("low", RO)];
        let tree = branches.open(stack);
        for path in ["d/f", "d/g", "new/h"] {
            same(&bytes(&tree, path), &should);
        }
        assert_eq!(errno(tree.open_file(tree.ino("lost"), READ)), Errno::IO);
        tree.chmod(tree.ino("d/g"), 0o600).unwrap();
        tree.put(tree.ino("new/h"), "NEW");
        same(&bytes(&tree, "d/g"), &should);
        drop(tree);
        let tree = branches.open(stack);
        same(&bytes(&tree, "d/g"), &should);
        assert_eq!(&bytes(&tree, "new/h")[..3], b"NEW");
        same(&bytes(&tree, "new/h")[3..], &should[3..]);
        assert!(tree.listxattr(tree.ino("d/f")).unwrap().is_empty());
    }
}
