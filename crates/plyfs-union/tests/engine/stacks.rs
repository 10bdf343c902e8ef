//! Stacks of several branches, opened again: removed directories, redirects, an upper that became a layer.

use plyfs_sys::Errno;
use plyfs_union::spec::{IdRange, MountSpec, Perm};
use plyfs_union::{Caller, Ino, SetAttr};

use crate::bench::{Branches, PLAIN, READ_WRITE, RO, RW, UP_LOW, errno};

#[test]
fn a_removed_lower_directory_is_read_only() {
    let branches = Branches::new();
    branches.dir("low/d");
    let before = branches.state("low");
    let tree = branches.open(UP_LOW);
    let d = tree.ino("d");
    tree.rmdir(Ino::ROOT, "d".as_ref()).unwrap();
    assert_eq!(errno(tree.chmod(d, 0o700)), Errno::ROFS);
    let owner = SetAttr { uid: Some(1234), ..SetAttr::default() };
    assert_eq!(errno(tree.setattr(d, None, &owner)), Errno::ROFS);
    assert_eq!(errno(tree.mark(d)), Errno::ROFS);
    assert_eq!(tree.nlink(d), 0);
    assert_eq!(branches.state("low"), before);
    drop(tree);
    assert!(branches.open(UP_LOW).find("d").unwrap().is_none());
}

/// An upper in which `f` became `g`, mounted again as plain `ro` over its base; `g` was written, or not.
fn renamed_in_an_old_upper(text: Option<&str>) {
    let branches = Branches::new();
    branches.file("low/f", "F");
    branches.file("low/h1", "h");
    branches.hard_link("low/h1", "low/h2");
    let tree = branches.open(UP_LOW);
    tree.at("f");
    tree.mv("f", "g").unwrap();
    if let Some(text) = text {
        tree.put(tree.ino("g"), text);
    }
    drop(tree);
    let tree = branches.open(&[("new", RW), ("up", RO), ("low", RO)]);
    // With links between branches in play, files are told apart by more than their number.
    tree.put(tree.ino("h1"), "H");
    let (g, f) = (tree.at("g"), tree.at("f"));
    assert_eq!(tree.read_ino(g.ino), text.unwrap_or("F"));
    assert_eq!(tree.read_ino(f.ino), "F");
    assert_ne!(g.ino, f.ino);
    assert_ne!(g.attr.ino, f.attr.ino);
    assert_eq!((g.attr.nlink, f.attr.nlink), (1, 1));
    tree.put(f.ino, "f");
    assert_eq!(tree.text("g"), text.unwrap_or("F"));
    assert_eq!(tree.text("h2"), "H");
}

#[test]
fn a_renamed_file_of_an_old_upper_is_not_the_one_it_came_from() {
    renamed_in_an_old_upper(None);
}

#[test]
fn a_renamed_and_written_file_of_an_old_upper_is_not_the_one_it_came_from() {
    renamed_in_an_old_upper(Some("G"));
}

/// Directories `low/d/s0`..`s2`, and `up/d/t` if merged; `d` has been renamed to `e`.
fn renamed_directory_counts(merged: bool) {
    let branches = Branches::new();
    for at in 0..3 {
        branches.dir(&format!("low/d/s{at}"));
    }
    if merged {
        branches.dir("up/d/t");
    }
    let right = if merged { 2 + 4 } else { 2 + 3 };
    let tree = branches.open(UP_LOW);
    assert_eq!(tree.at("d").attr.nlink, right);
    tree.mv("d", "e").unwrap();
    assert_eq!(tree.at("e").attr.nlink, right);
    drop(tree);
    let tree = branches.open(UP_LOW);
    let e = tree.at("e");
    assert_eq!(e.attr.nlink, right);
    assert_eq!(tree.names(e.ino).unwrap().len() as u32, right - 2);
    assert_eq!(tree.nlink(e.ino), right);
}

#[test]
fn a_renamed_merged_directory_counts_its_links_before_it_is_listed() {
    renamed_directory_counts(true);
}

#[test]
fn a_renamed_lower_directory_counts_its_links_before_it_is_listed() {
    renamed_directory_counts(false);
}

#[test]
fn a_file_made_below_a_renamed_directory_is_there_after_reopening() {
    let stack: &[(&str, Perm)] = &[("up", RW), ("mid", RW), ("low", RO)];
    let branches = Branches::new();
    branches.dir("up/d");
    branches.dir("low/d/s");
    let tree = branches.open(stack);
    tree.at("d");
    tree.mv("d", "e").unwrap();
    let file = tree.create(&Caller::me(), tree.ino("e/s"), "f".as_ref(), 0o644, READ_WRITE).unwrap().1.fh;
    tree.write(file, 0, b"NEW", false).unwrap();
    tree.release(file);
    assert_eq!(tree.text("e/s/f"), "NEW");
    drop(tree);
    assert_eq!(branches.open(stack).text("e/s/f"), "NEW");
}

#[test]
fn a_refused_owner_leaves_nothing_behind() {
    let branches = Branches::new();
    let ids = |outside| vec![IdRange { inside: 0, outside, count: 10 }];
    let me = Caller::me();
    let spec = MountSpec {
        xattr_permissions: 2,
        uid_map: ids(me.uid),
        gid_map: ids(me.gid),
        ..MountSpec::default()
    };
    let tree = branches.open_with(&[("up", RW)], spec);
    let before = branches.state("up");
    let nobody = Caller { uid: 77, gid: 77, ..me };
    assert!(tree.mknod(&nobody, Ino::ROOT, "f".as_ref(), PLAIN).is_err());
    assert_eq!(branches.state("up"), before);
    assert!(tree.find("f").unwrap().is_none());
    let mapped = Caller { uid: 0, gid: 0, ..me };
    tree.mknod(&mapped, Ino::ROOT, "f".as_ref(), PLAIN).unwrap();
}
