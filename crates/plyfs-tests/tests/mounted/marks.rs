//! Marks of other unions in lower branches, device 0/0 inside ours, id maps, squashing, kept permissions.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use plyfs_tests::mount::options;
use plyfs_tests::tree::{names, setxattr, xattrs};
use plyfs_tests::{Mount, Scratch, require_root, sh, sh_in};

/// Three files in a base branch, `dir/` with two.
fn base(scratch: &Scratch) {
    for name in ["keep", "gone", "dir/one", "dir/two"] {
        scratch.file(format!("base/{name}"), name);
    }
}

/// The union over `mid` (with its marks) over `base` shows exactly these in the root and in `dir`.
#[track_caller]
fn shows(scratch: &Scratch, root: &[&str], dir: &[&str]) {
    let mid = plyfs_tests::Snapshot::of(scratch.path("mid"), plyfs_tests::Want::ALL);
    let mount = Mount::stack(scratch, &["top", "mid", "base"]);
    assert_eq!(names(mount.dir()), root);
    assert_eq!(names(mount.path("dir")), dir);
    assert!(!mount.path("gone").exists());
    // What was hidden may be made anew, and does not bring the old back.
    fs::write(mount.path("gone"), "new").unwrap();
    fs::write(mount.path("dir/one"), "new").unwrap();
    fs::remove_file(mount.path("gone")).unwrap();
    fs::remove_file(mount.path("dir/one")).unwrap();
    assert_eq!(names(mount.dir()), root);
    let rest: Vec<&str> = dir.iter().copied().filter(|name| *name != "one").collect();
    assert_eq!(names(mount.path("dir")), rest);
    mid.same(
        &plyfs_tests::Snapshot::of(scratch.path("mid"), plyfs_tests::Want::ALL),
        "the branch with the marks",
    );
}

#[test]
fn whiteouts_of_overlayfs_are_read() {
    if !require_root("mknod") {
        return;
    }
    let scratch = Scratch::new();
    base(&scratch);
    scratch.file("mid/dir/three", "");
    sh_in(scratch.path("mid"), "mknod gone c 0 0; mknod dir/two c 0 0").ok();
    shows(&scratch, &["dir", "keep"], &["one", "three"]);
}

#[test]
fn opaque_directories_of_overlayfs_are_read() {
    if !require_root("trusted attributes") {
        return;
    }
    for name in ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"] {
        let scratch = Scratch::new();
        base(&scratch);
        scratch.file("mid/dir/three", "");
        scratch.file("mid/.wh.gone", "");
        setxattr(&scratch.path("mid/dir"), name, b"y").unwrap();
        shows(&scratch, &["dir", "keep"], &["three"]);
    }
}

#[test]
fn opaque_files_of_every_dialect_are_read() {
    for name in [".wh..wh..opq", ".wh..opq"] {
        let scratch = Scratch::new();
        base(&scratch);
        scratch.file("mid/dir/three", "");
        scratch.file("mid/.wh.gone", "");
        scratch.file(format!("mid/dir/{name}"), "");
        if name == ".wh..opq" {
            // A whiteout of ".opq", nothing else: the word is not a mark.
            shows(&scratch, &["dir", "keep"], &["one", "three", "two"]);
        } else {
            shows(&scratch, &["dir", "keep"], &["three"]);
        }
    }
}

#[test]
fn marks_do_not_show_as_attributes() {
    if !require_root("trusted attributes") {
        return;
    }
    let scratch = Scratch::new();
    let dir = scratch.dir("mid/dir");
    setxattr(&dir, "trusted.overlay.opaque", b"y").unwrap();
    setxattr(&dir, "user.fuseoverlayfs.opaque", b"y").unwrap();
    setxattr(&dir, "user.mine", b"1").unwrap();
    scratch.file("base/dir/one", "");
    let mount = Mount::stack(&scratch, &["top", "mid", "base"]);
    // Copied up, ours stays and no foreign mark goes along.
    fs::write(mount.path("dir/new"), "").unwrap();
    let kept: Vec<String> = xattrs(&scratch.path("top/dir")).into_iter().map(|(name, _)| name).collect();
    assert!(kept.contains(&"user.mine".to_owned()));
    let shown: Vec<String> = xattrs(&mount.path("dir")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(shown, ["user.mine"], "our own attributes are hidden");
    assert_eq!(names(mount.path("dir")), ["new"], "what was hidden stays hidden after the copy-up");
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "mid", "base"]);
    assert_eq!(names(mount.path("dir")), ["new"]);
}

#[test]
fn a_device_0_0_made_inside_is_a_device() {
    if !require_root("mknod") {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/name", "below");
    scratch.dir("low/dir");
    let is_device = |path: &Path| {
        let meta = fs::symlink_metadata(path).unwrap();
        assert!(meta.file_type().is_char_device(), "{}", path.display());
        assert_eq!(meta.rdev(), 0);
    };
    let mount = Mount::stack(&scratch, &["top", "low"]);
    sh_in(
        mount.dir(),
        "mknod zero c 0 0; mknod dir/zero c 0 0; rm name; mknod name c 0 0; mv dir/zero dir/moved",
    )
    .ok();
    let all = ["zero", "name", "dir/moved"];
    for name in all {
        is_device(&mount.path(name));
    }
    assert_eq!(names(mount.dir()), ["dir", "name", "zero"]);
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    for name in all {
        is_device(&mount.path(name));
    }
    assert_eq!(names(mount.dir()), ["dir", "name", "zero"], "after a remount");
    fs::hard_link(mount.path("zero"), mount.path("linked")).unwrap();
    is_device(&mount.path("linked"));
    for name in ["zero", "name", "dir/moved", "linked"] {
        fs::remove_file(mount.path(name)).unwrap();
    }
    assert_eq!(names(mount.dir()), ["dir"]);
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn id_maps_translate_both_ways() {
    if !require_root("files of others") {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.file("low/file", "x");
    std::os::unix::fs::chown(&file, Some(100_005), Some(200_006)).unwrap();
    scratch.dir("up");
    sh(format!("chown -R 100000:200000 {0}/up; chown 100000:200000 {0}/low", scratch.root().display())).ok();
    let line =
        format!("uidmapping=0:100000:1000,gidmapping=0:200000:1000,{}", options(&scratch, &["up", "low"]));
    let mount = Mount::new(&line, scratch.dir("mnt"));
    assert_eq!(owner(&mount.path("file")), (5, 6));
    assert_eq!(owner(mount.dir()), (0, 0));
    fs::write(mount.path("new"), "x").unwrap();
    assert_eq!(owner(&mount.path("new")), (0, 0));
    assert_eq!(owner(&scratch.path("up/new")), (100_000, 200_000));
    std::os::unix::fs::chown(mount.path("file"), Some(7), Some(8)).unwrap();
    assert_eq!(owner(&mount.path("file")), (7, 8));
    assert_eq!(owner(&scratch.path("up/file")), (100_007, 200_008));
    assert_eq!(owner(&file), (100_005, 200_006));
}

#[test]
fn squashing_shows_one_owner() {
    if !require_root("files of others") {
        return;
    }
    for (option, want) in
        [("squash_to_root", (0, 0)), ("squash_to_uid=7,squash_to_gid=8", (7, 8)), ("squash_to_uid=7", (7, 6))]
    {
        let scratch = Scratch::new();
        let file = scratch.file("low/file", "x");
        std::os::unix::fs::chown(&file, Some(5), Some(6)).unwrap();
        let line = format!("{option},{}", options(&scratch, &["up", "low"]));
        let mount = Mount::new(&line, scratch.dir("mnt"));
        assert_eq!(owner(&mount.path("file")), want, "{option}");
    }
}

#[test]
fn kept_permissions_live_in_an_attribute() {
    if !require_root("files of others") {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.file("low/file", "x");
    setxattr(&file, "user.containers.override_stat", b"1000:1001:4755").unwrap();
    let line = format!("xattr_permissions=2,{}", options(&scratch, &["up", "low"]));
    let mount = Mount::new(&line, scratch.dir("mnt"));
    let path = mount.path("file");
    assert_eq!(owner(&path), (1000, 1001));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755);
    assert!(!xattrs(&path).iter().any(|(name, _)| name == "user.containers.override_stat"));
    std::os::unix::fs::chown(&path, Some(5), Some(6)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!((owner(&path), fs::metadata(&path).unwrap().mode() & 0o7777), ((5, 6), 0o640));
    assert_eq!(owner(&scratch.path("up/file")), (0, 0), "the branch's file keeps the server's owner");
    mount.unmount();
    let mount = Mount::new(&line, scratch.dir("mnt"));
    assert_eq!(owner(&mount.path("file")), (5, 6));
}
