//! Bad input: a message that names the path and says what to do, the right code, branches as they were.

use std::fs;
use std::path::Path;

use plyfs_tests::user::{give, in_namespace};
use plyfs_tests::{Mount, Ran, Scratch, Snapshot, Want, plyfs, require_root, run, sh};
use rustix::io::Errno;

/// Branches with something in them.
fn stack() -> Scratch {
    let scratch = Scratch::new();
    scratch.file("low/file", "content");
    scratch.file("low/dir/deep", "content");
    scratch.file("up/own", "content");
    scratch.file("plain", "not a directory");
    scratch.dir("mnt");
    scratch
}

/// Mounting must fail with code 1, name `names`, and change nothing anywhere.
#[track_caller]
fn refused(scratch: &Scratch, options: &str, dir: &Path, names: &[&str]) -> Ran {
    let before = Snapshot::of(scratch.root(), Want::ALL);
    let ran = run(plyfs().args(["mount", "-o", options, "none"]).arg(dir).current_dir(scratch.root()));
    if ran.code == 0 {
        // So that the failing test leaves nothing mounted.
        sh(format!("umount -l {}", dir.display())).ok();
    }
    // 2: the options make no sense; 1: they do, and it cannot be done.
    assert!(ran.code == 1 || ran.code == 2, "{ran:#?}");
    assert_eq!(ran.out, "");
    for name in names {
        assert!(ran.err.contains(name), "the message lacks {name:?}: {}", ran.err);
    }
    assert!(ran.err.starts_with("plyfs: "), "{}", ran.err);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    before.same(&Snapshot::of(scratch.root(), Want::ALL), "a refused mount");
    ran
}

#[test]
fn a_missing_branch() {
    let s = stack();
    let ran = refused(&s, "br:up=rw:nothing=ro", &s.path("mnt"), &["nothing", "exist"]);
    assert!(ran.err.contains("make the directory"), "no advice: {}", ran.err);
    refused(&s, "lowerdir=low:nothing,upperdir=up,workdir=mnt", &s.path("mnt"), &["nothing"]);
}

#[test]
fn a_file_as_branch() {
    let s = stack();
    refused(&s, "br:up=rw:plain=ro", &s.path("mnt"), &["plain", "irectory"]);
}

#[test]
fn overlapping_branches() {
    let s = stack();
    refused(&s, "br:up=rw:low=ro:low/dir=ro", &s.path("mnt"), &["low/dir"]);
    refused(&s, "br:low/dir=rw:low=ro", &s.path("mnt"), &["low/dir"]);
    // By another name, too.
    std::os::unix::fs::symlink("low/dir", s.path("alias")).unwrap();
    refused(&s, "br:up=rw:low=ro:alias=ro", &s.path("mnt"), &["low/dir"]);
}

#[test]
fn a_branch_twice() {
    let s = stack();
    refused(&s, "br:up=rw:low=ro:low=ro", &s.path("mnt"), &["low", "twice"]);
    std::os::unix::fs::symlink("low", s.path("alias")).unwrap();
    refused(&s, "br:up=rw:low=ro:alias=ro", &s.path("mnt"), &["low"]);
}

/// No bad input, but what people do: the union is mounted over one of its own branches.
#[test]
fn the_mount_point_may_be_a_branch() {
    let s = stack();
    let low = s.path("low");
    let mount = Mount::new(&format!("br:{}=rw:{}=ro", s.path("up").display(), low.display()), &low);
    assert_eq!(fs::read_to_string(mount.path("own")).unwrap(), "content");
    fs::write(mount.path("file"), "changed").unwrap();
    assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "changed");
    mount.unmount();
    assert_eq!(fs::read_to_string(low.join("file")).unwrap(), "content");
}

#[test]
fn no_branch_at_all_and_nonsense() {
    let s = stack();
    let dir = s.path("mnt");
    for options in [
        "rw",
        "br:",
        "lowerdir=",
        "br:up=rw,lowerdir=low",
        "br:up=rw:low=ro,create=nosuch",
        "br:up=rw,udba=x",
    ] {
        refused(&s, options, &dir, &[]);
    }
    let ran = refused(&s, "br:up=rw:low=ro,nosuchoption=3", &dir, &["nosuchoption"]);
    assert!(!ran.err.contains("backtrace"));
}

#[test]
fn a_missing_mount_point_and_a_file_as_mount_point() {
    let s = stack();
    refused(&s, "br:up=rw:low=ro", &s.path("nowhere"), &["nowhere"]);
    refused(&s, "br:up=rw:low=ro", &s.path("plain"), &["plain"]);
}

#[test]
fn a_read_only_filesystem_as_rw_branch() {
    if !require_root("a read-only bind mount") {
        return;
    }
    let s = stack();
    let ro = s.dir("ro");
    sh(format!("mount --bind {0}/up {0}/ro && mount -o remount,bind,ro {0}/ro", s.root().display())).ok();
    refused(&s, "br:ro=rw:low=ro", &s.path("mnt"), &["ro", "ead-only"]);
    sh(format!("umount {}", ro.display())).ok();
    let mount = Mount::new(&format!("br:{0}/up=ro:{0}/low=ro", s.root().display()), s.path("mnt"));
    let error = fs::write(mount.path("file"), "x").unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::ROFS), "no writable branch: EROFS");
}

#[test]
fn a_busy_mount_point() {
    let s = stack();
    let dir = s.path("mnt");
    let mount = Mount::stack(&s, &["up", "low"]);
    // Mounting the same union over itself: the branch is busy with a writable mount.
    let ran = run(plyfs().args(["mount", "-o", "br:up=rw:low=ro", "none"]).arg(&dir).current_dir(s.root()));
    if ran.code == 0 {
        sh(format!("umount {}", dir.display())).ok();
    }
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.err.contains("mnt") || ran.err.contains("up"), "{}", ran.err);
    assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "content", "the first goes on");
}

#[test]
fn no_dev_fuse() {
    if !require_root("hiding /dev/fuse") {
        return;
    }
    let s = stack();
    let before = [Snapshot::of(s.path("up"), Want::ALL), Snapshot::of(s.path("low"), Want::ALL)];
    // Root, without the device; and a user, who may not open it.
    let script = "
umount /dev/fuse
mount -t tmpfs plyfs-test /dev; mknod -m 666 /dev/null c 1 3
set +e
plyfs mount -o br:up=rw:low=ro none mnt; echo $?
";
    let ran = in_namespace(&s, script).ok();
    assert_eq!(ran.out, "1\n", "{}", ran.err);
    assert!(ran.err.contains("/dev/fuse"), "{}", ran.err);
    give(&s.path("mnt"));
    let script = "
umount /dev/fuse; chmod 600 $N/fuse; mount --bind $N/fuse /dev/fuse
chmod 700 $N/fuse; chmod 600 $N/fuse
set +e
$U plyfs mount -o br:low=ro none mnt; echo $?
";
    let ran = in_namespace(&s, script).ok();
    assert_eq!(ran.out, "1\n", "{}", ran.err);
    assert!(ran.err.contains("/dev/fuse"), "{}", ran.err);
    let after = [Snapshot::of(s.path("up"), Want::ALL), Snapshot::of(s.path("low"), Want::ALL)];
    for (before, after) in before.iter().zip(&after) {
        before.same(after, "branches");
    }
}

#[test]
fn a_full_filesystem_during_copy_up() {
    if !require_root("a small filesystem in a file") {
        return;
    }
    let s = Scratch::new();
    let up = s.ext4("small", 8);
    s.file("low/dir/big", vec![b'x'; 16 << 20]);
    s.file("low/dir/little", "content");
    s.dir("small/up");
    let mount = Mount::new(&format!("br:{0}/small/up=rw:{0}/low=ro", s.root().display()), s.dir("mnt"));
    let error = fs::OpenOptions::new().append(true).open(mount.path("dir/big"));
    let error = error.and_then(|mut file| std::io::Write::write_all(&mut file, b"more")).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC));
    assert_eq!(fs::metadata(mount.path("dir/big")).unwrap().len(), 16 << 20, "the lower file still shows");
    assert_eq!(fs::read(mount.path("dir/big")).unwrap(), vec![b'x'; 16 << 20]);
    // No half copy, no temporary name: the space is free again for what fits.
    let files: Vec<_> =
        Snapshot::of(&up, Want::PLAIN).0.into_iter().filter(|(_, text)| text.starts_with("file")).collect();
    assert!(files.iter().all(|(_, text)| text.starts_with("file 0 ")), "{files:?}");
    fs::write(mount.path("dir/little"), "changed").unwrap();
    let error = fs::write(mount.path("fill"), vec![0; 16 << 20]).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC));
    fs::remove_file(mount.path("fill")).unwrap();
    fs::remove_file(mount.path("dir/big")).unwrap();
    assert!(!mount.path("dir/big").exists());
    mount.unmount();
    let mount = Mount::new(&format!("br:{0}/small/up=rw:{0}/low=ro", s.root().display()), s.dir("mnt"));
    assert_eq!(plyfs_tests::tree::names(mount.path("dir")), ["little"]);
    assert_eq!(fs::read_to_string(mount.path("dir/little")).unwrap(), "changed");
}

#[test]
fn a_kernel_filesystem_as_branch() {
    let s = stack();
    refused(&s, "br:up=rw:/proc=ro", &s.path("mnt"), &["/proc"]);
}
