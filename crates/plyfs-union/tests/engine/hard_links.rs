//! Hard links on lower branches: one file whatever name it is reached by, before and after the union is opened again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;

use plyfs_sys::{Obj, SetXattr};
use plyfs_union::Ino;

use crate::bench::{BOTH_RW, Branches, READ, READ_WRITE, RO, RW, Tree, UP_LOW};

/// `low/a` and `low/b` are one file that holds "old".
fn pair() -> Branches {
    let branches = Branches::new();
    branches.file("low/a", "old");
    branches.hard_link("low/a", "low/b");
    branches
}

/// `path` is the one name of a file that holds `text`.
#[track_caller]
fn alone(tree: &Tree, path: &str, text: &str) {
    assert_eq!(tree.text(path), text);
    assert_eq!(tree.at(path).attr.nlink, 1);
}

#[test]
fn a_write_by_the_other_name_reaches_it_after_one_was_unlinked_while_open() {
    let branches = pair();
    let tree = branches.open(UP_LOW);
    let a = tree.ino("a");
    let file = tree.open_file(a, READ).unwrap().fh;
    tree.rm("a").unwrap();
    let b = tree.ino("b");
    assert_eq!(a, b);
    tree.put(b, "NEW");
    assert_eq!(tree.read_open(file), "NEW");
    alone(&tree, "b", "NEW");
    assert_eq!(branches.text("low/b"), "old");
    drop(tree);
    alone(&branches.open(UP_LOW), "b", "NEW");
}

#[test]
fn a_write_by_the_descriptor_of_an_unlinked_name_reaches_the_other() {
    let branches = pair();
    let tree = branches.open(UP_LOW);
    let file = tree.open_file(tree.ino("a"), READ_WRITE).unwrap().fh;
    tree.rm("a").unwrap();
    tree.write(file, 0, b"NEW", false).unwrap();
    alone(&tree, "b", "NEW");
    tree.release(file);
    drop(tree);
    let tree = branches.open(UP_LOW);
    alone(&tree, "b", "NEW");
    assert!(tree.find("a").unwrap().is_none());
}

#[test]
fn the_other_name_can_be_renamed_after_one_was_unlinked_while_open() {
    let branches = pair();
    let tree = branches.open(UP_LOW);
    let file = tree.open_file(tree.ino("a"), READ_WRITE).unwrap().fh;
    tree.rm("a").unwrap();
    tree.write(file, 0, b"NEW", false).unwrap();
    tree.mv("b", "c").unwrap();
    alone(&tree, "c", "NEW");
    tree.release(file);
    drop(tree);
    let tree = branches.open(UP_LOW);
    alone(&tree, "c", "NEW");
    assert!(tree.find("a").unwrap().is_none() && tree.find("b").unwrap().is_none());
}

#[test]
fn the_other_name_can_be_renamed_after_the_copied_one_was_unlinked() {
    let branches = pair();
    let tree = branches.open(UP_LOW);
    tree.put(tree.ino("a"), "NEW");
    tree.rm("a").unwrap();
    alone(&tree, "b", "NEW");
    tree.mv("b", "c").unwrap();
    alone(&tree, "c", "NEW");
    drop(tree);
    let tree = branches.open(UP_LOW);
    alone(&tree, "c", "NEW");
    assert!(tree.find("b").unwrap().is_none());
}

#[test]
fn an_unlinked_lower_name_no_longer_counts_also_after_reopening() {
    let branches = pair();
    let tree = branches.open(UP_LOW);
    assert_eq!(tree.at("b").attr.nlink, 2);
    tree.rm("a").unwrap();
    alone(&tree, "b", "old");
    drop(tree);
    let tree = branches.open(UP_LOW);
    alone(&tree, "b", "old");
    // Nor after copy-up, nor once the last name has gone.
    let b = tree.ino("b");
    tree.put(b, "NEW");
    alone(&tree, "b", "NEW");
    tree.rm("b").unwrap();
    assert_eq!(tree.nlink(b), 0);
    drop(tree);
    let tree = branches.open(UP_LOW);
    assert_eq!(tree.names(Ino::ROOT).unwrap(), Vec::<String>::new());
}

#[test]
fn the_last_of_three_lower_names_counts_alone_also_after_reopening() {
    let branches = pair();
    branches.hard_link("low/a", "low/c");
    let tree = branches.open(UP_LOW);
    tree.rm("a").unwrap();
    assert_eq!(tree.at("b").attr.nlink, 2);
    drop(tree);
    let tree = branches.open(UP_LOW);
    assert_eq!(tree.at("c").attr.nlink, 2);
    tree.rm("b").unwrap();
    alone(&tree, "c", "old");
    drop(tree);
    alone(&branches.open(UP_LOW), "c", "old");
}

#[test]
fn names_stay_one_file_after_a_crash_between_copy_and_name() {
    let branches = pair();
    let tree = branches.open(UP_LOW);
    tree.chmod(tree.ino("a"), 0o600).unwrap();
    drop(tree);
    // As if killed after the kept name was linked, when it counts all names, and before the copy got its own.
    let kept = File::open(branches.path("up/a")).unwrap();
    let kept = Obj::Fd(kept.as_fd());
    let names = ["trusted.plyfs.links", "user.plyfs.links"].map(OsStr::new);
    let fact = names.into_iter().find(|name| kept.xattr(name).unwrap().is_some()).unwrap();
    kept.set_xattr(fact, b"2", SetXattr::Any).unwrap();
    fs::remove_file(branches.path("up/a")).unwrap();
    let tree = branches.open(UP_LOW);
    let b = tree.ino("b");
    tree.put(tree.ino("a"), "NEW");
    assert_eq!(tree.read_ino(b), "NEW");
    tree.rm("a").unwrap();
    alone(&tree, "b", "NEW");
    drop(tree);
    alone(&branches.open(UP_LOW), "b", "NEW");
}

/// `pair` with `up/x`, all writable; `a` has been renamed over `x`.
fn renamed_over() -> (Branches, Tree) {
    let branches = pair();
    branches.file("up/x", "x");
    let tree = branches.open(BOTH_RW);
    for name in ["a", "b", "x"] {
        tree.at(name);
    }
    tree.mv("a", "x").unwrap();
    assert!(tree.find("a").unwrap().is_none());
    assert_eq!(tree.ino("x"), tree.ino("b"));
    assert_eq!(tree.at("b").attr.nlink, 2);
    (branches, tree)
}

#[test]
fn renamed_over_a_higher_branch_the_other_name_can_be_renamed() {
    let (branches, tree) = renamed_over();
    tree.mv("b", "c").unwrap();
    tree.put(tree.ino("c"), "NEW");
    let right = |tree: &Tree| {
        assert_eq!(tree.names(Ino::ROOT).unwrap(), ["c", "x"]);
        assert_eq!((tree.text("c"), tree.text("x")), ("NEW".to_owned(), "NEW".to_owned()));
        assert_eq!((tree.at("c").attr.nlink, tree.at("x").attr.nlink), (2, 2));
        assert_eq!(tree.ino("c"), tree.ino("x"));
    };
    right(&tree);
    drop(tree);
    right(&branches.open(BOTH_RW));
}

#[test]
fn renamed_over_a_higher_branch_the_other_name_can_be_unlinked() {
    let (branches, tree) = renamed_over();
    tree.rm("b").unwrap();
    alone(&tree, "x", "old");
    drop(tree);
    let tree = branches.open(BOTH_RW);
    alone(&tree, "x", "old");
    assert_eq!(tree.names(Ino::ROOT).unwrap(), ["x"]);
}

#[test]
fn renamed_over_a_higher_branch_the_new_name_can_be_unlinked() {
    let (branches, tree) = renamed_over();
    tree.rm("x").unwrap();
    alone(&tree, "b", "old");
    drop(tree);
    let tree = branches.open(BOTH_RW);
    alone(&tree, "b", "old");
    assert_eq!(tree.names(Ino::ROOT).unwrap(), ["b"]);
}

#[test]
fn link_into_a_lower_writable_directory_leaves_the_read_only_branch_alone() {
    let branches = Branches::new();
    branches.file("mid/f", "x");
    branches.dir("low/p");
    let stack = &[("up", RW), ("mid", RO), ("low", RW)];
    let before = branches.state("mid");
    let tree = branches.open(stack);
    let (f, p) = (tree.ino("f"), tree.ino("p"));
    assert_eq!(tree.link(f, p, "g".as_ref()).unwrap().ino, f);
    assert_eq!(tree.nlink(f), 2);
    tree.put(f, "NEW");
    drop(tree);
    let tree = branches.open(stack);
    assert_eq!((tree.text("f"), tree.text("p/g")), ("NEW".to_owned(), "NEW".to_owned()));
    assert_eq!(tree.ino("f"), tree.ino("p/g"));
    assert_eq!(branches.state("mid"), before);
}
