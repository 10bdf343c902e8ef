//! Layers that mean harm, or were made by hand: what is in them changes nothing outside and hides nothing else.

use std::os::unix::fs::{PermissionsExt, symlink};

use plyfs_sys::Errno;
use plyfs_union::{Caller, Ino};

use crate::bench::{Branches, UP_LOW, errno};

/// A file outside the branches.
fn victim(branches: &Branches) -> std::path::PathBuf {
    let path = branches.file("victim", "v");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    path
}

#[test]
fn chmod_of_a_new_symlink_never_reaches_what_it_points_to() {
    let branches = Branches::new();
    let target = victim(&branches);
    let tree = branches.open(UP_LOW);
    let link = tree.symlink(&Caller::me(), Ino::ROOT, "s".as_ref(), target.as_os_str()).unwrap();
    assert_eq!(errno(tree.chmod(link.ino, 0o4777)), Errno::OPNOTSUPP);
    assert_eq!(branches.mode("victim"), 0o640);
    assert_eq!(tree.readlink(link.ino).unwrap(), target.as_os_str());
}

#[test]
fn chmod_of_a_lower_symlink_never_reaches_what_it_points_to() {
    let branches = Branches::new();
    let target = victim(&branches);
    symlink(&target, branches.dir("low").join("s")).unwrap();
    let tree = branches.open(UP_LOW);
    assert_eq!(errno(tree.chmod(tree.ino("s"), 0o4777)), Errno::OPNOTSUPP);
    assert_eq!(branches.mode("victim"), 0o640);
    assert_eq!(tree.readlink(tree.ino("s")).unwrap(), target.as_os_str());
}

/// `up/d` and `low/d` each with a file, and in `up/d` something by the name of a long whiteout.
fn with_a_false_mark(make: impl FnOnce(&Branches, &str)) {
    let branches = Branches::new();
    branches.file("up/d/f", "up");
    branches.file("low/d/g", "low");
    make(&branches, "up/d/.wh..wh..long.0");
    let tree = branches.open(UP_LOW);
    assert_eq!(tree.text("d/f"), "up");
    assert_eq!(tree.text("d/g"), "low");
    assert_eq!(tree.names(tree.ino("d")).unwrap(), ["f", "g"]);
    tree.make("d/new").unwrap();
    drop(tree);
    assert_eq!(branches.open(UP_LOW).text("d/g"), "low");
}

#[test]
fn a_regular_file_named_as_a_long_whiteout_hides_nothing() {
    with_a_false_mark(|branches, path| drop(branches.file(path, "g")));
}

#[test]
fn a_directory_named_as_a_long_whiteout_hides_nothing() {
    with_a_false_mark(|branches, path| drop(branches.dir(path)));
}

#[test]
fn a_short_name_in_a_long_whiteout_leaves_its_directory_readable() {
    let branches = Branches::new();
    branches.file("up/d/f", "up");
    symlink("a/b/../..", branches.path("up/d/.wh..wh..long.0")).unwrap();
    branches.file("low/d/g", "low");
    let tree = branches.open(UP_LOW);
    assert_eq!(tree.text("d/f"), "up");
    assert_eq!(tree.names(tree.ino("d")).unwrap(), ["f", "g"]);
}
