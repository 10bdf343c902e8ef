//! `docs/semantics.md`, number by number: `s12_...` is the test of S12. Lookup, marks, listing, names; the rest in
//! [`super::semantics_change`].

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use plyfs_tests::mount::{mount_lines, options};
use plyfs_tests::tree::{names, setxattr, xattrs};
use plyfs_tests::{Mount, Scratch, require_root, sh, sh_in};
use rustix::io::Errno;

/// What a failed call said.
#[track_caller]
pub(crate) fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    Errno::from_io_error(&result.expect_err("this should fail")).unwrap()
}

/// A stack with more options before the branches.
#[track_caller]
pub(crate) fn with(scratch: &Scratch, more: &str, branches: &[&str]) -> Mount {
    Mount::new(&format!("{more},{}", options(scratch, branches)), scratch.dir("mnt"))
}

pub(crate) fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn s1_the_topmost_branch_decides_and_other_types_below_a_directory_are_skipped() {
    let scratch = Scratch::new();
    scratch.file("one/file", "one");
    scratch.file("two/file/inner", "hidden by a file");
    scratch.file("one/dir/a", "one");
    scratch.file("two/dir", "a file between two directories");
    scratch.file("three/dir/b", "three");
    let mount = Mount::stack(&scratch, &["top", "one", "two", "three"]);
    assert_eq!(text(mount.path("file")), "one");
    assert_eq!(names(mount.path("dir")), ["a", "b"]);
}

#[test]
fn s2_a_whiteout_hides_the_name_below_and_is_left_only_where_needed() {
    let scratch = Scratch::new();
    scratch.file("low/below", "");
    scratch.file("mid/.wh.hidden", "");
    scratch.file("low/hidden", "");
    let mount = Mount::stack(&scratch, &["top", "mid", "low"]);
    assert_eq!(names(mount.dir()), ["below"]);
    fs::write(mount.path("new"), "").unwrap();
    fs::remove_file(mount.path("new")).unwrap();
    assert!(!scratch.path("top/.wh.new").exists(), "nothing below has it");
    fs::remove_file(mount.path("below")).unwrap();
    let meta = fs::symlink_metadata(scratch.path("top/.wh.below")).unwrap();
    assert!(meta.is_file() && meta.len() == 0);
    fs::write(mount.path("below"), "again").unwrap();
    assert!(!scratch.path("top/.wh.below").exists(), "a name that is there has no whiteout");
}

#[test]
fn s3_an_opaque_directory_hides_what_is_below_it() {
    let scratch = Scratch::new();
    scratch.file("low/dir/old", "");
    scratch.file("mid/dir/new", "");
    scratch.file("mid/dir/.wh..wh..opq", "");
    let mount = Mount::stack(&scratch, &["top", "mid", "low"]);
    assert_eq!(names(mount.path("dir")), ["new"]);
}

#[test]
fn s4_a_plain_ro_branch_keeps_aufs_meaning_its_whiteouts_hide_nothing_and_do_not_show() {
    let scratch = Scratch::new();
    scratch.file("mid/.wh.name", "");
    scratch.file("mid/dir/.wh..wh..opq", "");
    scratch.file("low/name", "");
    scratch.file("low/dir/old", "");
    let mount = Mount::stack(&scratch, &["top", "mid=ro", "low=ro"]);
    assert_eq!(names(mount.dir()), ["dir", "name"]);
    assert_eq!(names(mount.path("dir")), ["old"]);
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "mid=ro+wh", "low=ro"]);
    assert_eq!(names(mount.dir()), ["dir"]);
    assert!(names(mount.path("dir")).is_empty());
}

#[test]
fn s5_a_directory_has_the_attributes_of_its_topmost_branch() {
    if !require_root("another user") {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/dir/file", "x");
    sh(format!("chmod 700 {}/low/dir", scratch.root().display())).ok();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    fs::set_permissions(mount.path("dir"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // AUFS without dirperm1 would still ask the lower branch, and refuse.
    let line = "setpriv --reuid=5555 --regid=5555 --clear-groups cat dir/file";
    assert_eq!(sh_in(mount.dir(), line).ok().out, "x");
}

#[test]
fn s6_a_directory_made_over_a_whiteout_is_opaque() {
    let scratch = Scratch::new();
    scratch.file("low/dir/old", "");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    fs::remove_dir_all(mount.path("dir")).unwrap();
    fs::create_dir(mount.path("dir")).unwrap();
    assert!(scratch.path("top/dir/.wh..wh..opq").is_file());
    assert!(!scratch.path("top/.wh.dir").exists());
    assert!(names(mount.path("dir")).is_empty());
}

#[test]
fn s7_names_may_have_255_bytes_with_strict_242() {
    let scratch = Scratch::new();
    scratch.dir("low");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    fs::write(mount.path("n".repeat(255)), "").unwrap();
    fs::remove_file(mount.path("n".repeat(255))).unwrap();
    mount.unmount();
    let mount = with(&scratch, "strict", &["top", "low"]);
    fs::write(mount.path("n".repeat(242)), "").unwrap();
    assert_eq!(errno(fs::write(mount.path("n".repeat(243)), "")), Errno::NAMETOOLONG);
}

#[test]
fn s8_reserved_names_can_be_neither_made_nor_seen() {
    let scratch = Scratch::new();
    scratch.file("low/.wh.x", "");
    let mount = Mount::stack(&scratch, &["top", "low=ro"]);
    assert_eq!(errno(fs::write(mount.path(".wh.x"), "")), Errno::PERM);
    assert!(names(mount.dir()).is_empty());
}

#[test]
fn s9_marks_of_overlayfs_and_fuse_overlayfs_are_read() {
    if !require_root("mknod") {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/name", "");
    scratch.file("low/a/old", "");
    scratch.file("low/b/old", "");
    for dir in ["mid/a", "mid/b"] {
        scratch.dir(dir);
    }
    sh_in(scratch.path("mid"), "mknod name c 0 0").ok();
    setxattr(&scratch.path("mid/a"), "trusted.overlay.opaque", b"y").unwrap();
    setxattr(&scratch.path("mid/b"), "user.fuseoverlayfs.opaque", b"y").unwrap();
    let mount = Mount::stack(&scratch, &["top", "mid", "low"]);
    assert_eq!(names(mount.dir()), ["a", "b"]);
    assert!(names(mount.path("a")).is_empty() && names(mount.path("b")).is_empty());
}

#[test]
fn s10_a_device_0_0_made_in_the_union_is_a_device() {
    if !require_root("mknod") {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/name", "");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    sh_in(mount.dir(), "rm name; mknod name c 0 0; test -c name").ok();
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    sh_in(mount.dir(), "test -c name; test \"$(ls)\" = name").ok();
}

#[test]
fn s11_own_attributes_are_hidden() {
    let scratch = Scratch::new();
    scratch.file("low/dir/file", "x");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    fs::rename(mount.path("dir"), mount.path("moved")).unwrap();
    fs::write(mount.path("moved/file"), "y").unwrap();
    for name in ["moved", "moved/file"] {
        let shown = xattrs(&mount.path(name));
        assert!(!shown.iter().any(|(name, _)| name.contains("plyfs")), "{name}: {shown:?}");
    }
}

#[test]
fn s12_a_listing_read_so_far_is_stable_until_rewound() {
    let scratch = Scratch::new();
    for at in 0..2000 {
        scratch.file(format!("low/file-with-some-length-{at}"), "");
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let mut seen = 0;
    for (at, entry) in fs::read_dir(mount.dir()).unwrap().enumerate() {
        let name = entry.unwrap().file_name();
        seen += usize::from(name.to_string_lossy().starts_with("file-"));
        if at % 10 == 0 {
            fs::write(mount.path(format!("new-{at}")), "").unwrap();
        }
    }
    assert_eq!(seen, 2000, "each old name once, whatever is made meanwhile");
}

#[test]
fn s13_one_device_number_and_stable_inode_numbers() {
    let scratch = Scratch::new();
    scratch.file("low/a", "");
    scratch.file("top/b", "");
    let all = |mount: &Mount| {
        ["", "a", "b"].map(|name| fs::metadata(mount.path(name)).unwrap()).map(|m| (m.dev(), m.ino()))
    };
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let first = all(&mount);
    assert!(first.iter().all(|(dev, _)| *dev == first[0].0));
    fs::write(mount.path("a"), "x").unwrap();
    assert_eq!(all(&mount), first, "over copy-up");
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    assert_eq!(all(&mount).map(|(_, ino)| ino), first.map(|(_, ino)| ino), "over a remount");
}

#[test]
fn s14_the_mounts_type_is_fuse_aufs_and_its_source_the_given_word() {
    let scratch = Scratch::new();
    scratch.dir("low");
    let mount = with(&scratch, "fsname=a-word", &["top", "low"]);
    let line = mount_lines(mount.dir()).next().unwrap();
    assert!(line.contains(" - fuse.aufs a-word "), "{line}");
}

#[test]
fn s15_statfs_is_the_top_branchs_and_with_sum_all_branches() {
    if !require_root("mounting tmpfs") {
        return;
    }
    let scratch = Scratch::new();
    scratch.tmpfs("one");
    scratch.tmpfs("two");
    let total = |mount: &Mount| {
        let fs = rustix::fs::statvfs(mount.dir()).unwrap();
        fs.f_blocks * fs.f_frsize.max(1)
    };
    let mount = Mount::stack(&scratch, &["one", "two"]);
    assert_eq!(total(&mount), 64 << 20);
    mount.unmount();
    let mount = with(&scratch, "sum", &["one", "two"]);
    assert_eq!(total(&mount), 128 << 20);
}
