//! What other unions get wrong, part one: modes, owners, ACLs, attributes, directories, descriptors, mounts in use.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use plyfs_tests::mount::{is_mounted, wait_until};
use plyfs_tests::probe::probe;
use plyfs_tests::tree::{getxattr, setxattr, xattrs};
use plyfs_tests::{Mount, Scratch, require_programs, require_root, run, sh, sh_in};
use rustix::io::Errno;

fn mode(path: impl AsRef<std::path::Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: impl AsRef<std::path::Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn umask_is_applied_exactly_once() {
    let scratch = Scratch::new();
    scratch.dir("low/inner");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    for (umask, node, dir) in
        [("0022", 0o644, 0o755), ("0077", 0o600, 0o700), ("0000", 0o666, 0o777), ("0022", 0o644, 0o755)]
    {
        for place in [".", "inner"] {
            let line = format!(
                "umask {umask}; mkfifo fifo; mkdir dir; echo > file; stat -c %a fifo dir file; rm -r fifo dir file"
            );
            let ran = sh_in(mount.path(place), &line).ok();
            assert_eq!(ran.out, format!("{node:o}\n{dir:o}\n{node:o}\n"), "umask {umask} in {place}");
        }
    }
    if require_root("mknod") {
        let ran =
            sh_in(mount.dir(), "umask 0027; mknod dev c 1 3; mknod -m 0666 dev2 c 1 3; stat -c %a dev dev2")
                .ok();
        assert_eq!(ran.out, "640\n666\n");
    }
}

#[test]
fn setgid_directories_hand_down_group_and_bit() {
    if !require_root("a group that is not ours") {
        return;
    }
    let scratch = Scratch::new();
    let shared = scratch.dir("low/shared");
    std::os::unix::fs::chown(&shared, None, Some(4242)).unwrap();
    chmod(&shared, 0o2775);
    let mount = Mount::stack(&scratch, &["top", "low"]);
    sh_in(
        mount.path("shared"),
        "umask 022; mkdir dir; echo > file; mkfifo fifo; ln -s x link; mkdir dir/again",
    )
    .ok();
    for name in ["dir", "file", "fifo", "link", "dir/again"] {
        let meta = fs::symlink_metadata(mount.path("shared").join(name)).unwrap();
        assert_eq!(meta.gid(), 4242, "group of {name}");
    }
    assert_eq!(mode(mount.path("shared/dir")), 0o2755);
    assert_eq!(mode(mount.path("shared/dir/again")), 0o2755);
    assert_eq!(mode(mount.path("shared/file")), 0o644);
    // The same through the branch: what is shown is what is there.
    assert_eq!(mode(scratch.path("top/shared/dir")), 0o2755);
    assert_eq!(mode(scratch.path("top/shared")), 0o2775);
}

/// Runs a line as an ordinary user without capabilities.
fn as_user(mount: &Mount, line: &str) -> plyfs_tests::Ran {
    let ids = ["--reuid=5555", "--regid=5555", "--clear-groups"];
    run(Command::new("setpriv").args(ids).args(["bash", "-ec", line]).current_dir(mount.dir()))
}

/// The modes after an ordinary user wrote to set-id files of root and gave his own away; in the folder `dir`.
fn set_id_modes(dir: &std::path::Path) -> Vec<u32> {
    let names = ["w", "t", "noexec", "c"];
    let line = "echo x >> w; : > t; echo x >> noexec; chown 5555:5555 c";
    let ids = ["--reuid=5555", "--regid=5555", "--clear-groups"];
    run(Command::new("setpriv").args(ids).args(["bash", "-ec", line]).current_dir(dir)).ok();
    names.iter().map(|name| mode(dir.join(name))).collect()
}

#[test]
fn set_id_bits_go_on_write_and_chown() {
    if !require_root("another user") || !require_programs(&["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    for place in ["low", "plain"] {
        chmod(scratch.dir(place), 0o777);
        for (name, bits) in [("w", 0o6777), ("t", 0o6777), ("noexec", 0o2666), ("c", 0o6755)] {
            let file = scratch.file(format!("{place}/{name}"), "old");
            if name == "c" {
                std::os::unix::fs::chown(&file, Some(5555), Some(5555)).unwrap();
            }
            chmod(file, bits);
        }
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let want = set_id_modes(&scratch.path("plain"));
    assert_eq!((want[0], want[1], want[3]), (0o777, 0o777, 0o755), "what POSIX says");
    // A set-group-id bit without group execution is no privilege: POSIX lets a system keep it.
    let forced = |mut modes: Vec<u32>| {
        modes[2] &= 0o777;
        modes
    };
    let want = forced(want);
    assert_eq!(forced(set_id_modes(mount.dir())), want, "copied up");
    for (name, bits) in [("w", 0o6777), ("t", 0o6777), ("noexec", 0o2666), ("c", 0o6755)] {
        chmod(mount.path(name), bits);
    }
    assert_eq!(forced(set_id_modes(mount.dir())), want, "in the writable branch");
    // Root's own writes (CAP_FSETID) keep them; root's chown does not.
    let kept = mount.path("kept");
    fs::write(&kept, "x").unwrap();
    chmod(&kept, 0o6755);
    fs::write(&kept, "y").unwrap();
    assert_eq!(mode(&kept), 0o6755, "write with CAP_FSETID");
    std::os::unix::fs::chown(&kept, Some(1), Some(1)).unwrap();
    assert_eq!(mode(&kept), 0o755, "chown by root");
}

#[test]
fn default_acls_are_inherited() {
    if !require_programs(&["setfacl", "getfacl"]) {
        return;
    }
    let scratch = Scratch::new();
    let dir = scratch.dir("low/dir");
    let plain = scratch.dir("plain");
    for dir in [&dir, &plain] {
        sh(format!("setfacl -d -m u:4000:rwx,g:4001:r-x,o::--- {}", dir.display())).ok();
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let make = "umask 077; mkdir sub; echo > file; mkfifo fifo; mkdir -m 700 own";
    let show = "getfacl -n -p --omit-header sub file fifo own; stat -c '%n %a' sub file fifo own";
    sh_in(&plain, make).ok();
    sh_in(mount.path("dir"), make).ok();
    let want = sh_in(&plain, show).ok().out;
    assert_eq!(sh_in(mount.path("dir"), show).ok().out, want);
    assert!(want.contains("user:4000"), "{want}");
}

#[test]
fn acls_decide_and_survive_copy_up() {
    if !require_root("another user") || !require_programs(&["setfacl", "getfacl", "setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.file("low/file", "secret");
    chmod(&file, 0o600);
    sh(format!("setfacl -m u:5555:rw {}", file.display())).ok();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    as_user(&mount, "cat file; echo more >> file").ok();
    let acl = sh_in(mount.dir(), "getfacl -n -c -p file").ok().out;
    assert!(acl.contains("user:5555:rw-"), "{acl}");
    sh_in(mount.dir(), "setfacl -x u:5555 file").ok();
    assert_ne!(as_user(&mount, "cat file").code, 0, "the entry is gone, so is the permission");
}

#[test]
fn attributes_of_a_symlink_are_its_own_and_never_lead_back() {
    if !require_root("trusted attributes") {
        return;
    }
    let scratch = Scratch::new();
    let low = scratch.dir("low");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    // One that points into the mount itself: following it inside the server would wait for the server.
    scratch.file("low/target", "x");
    std::os::unix::fs::symlink(mount.path("target"), low.join("link")).unwrap();
    std::os::unix::fs::symlink(mount.path("link2"), low.join("link2")).unwrap();
    for name in ["link", "link2"] {
        let link = mount.path(name);
        assert_eq!(getxattr(&link, "trusted.x"), Err(Errno::NODATA));
        setxattr(&link, "trusted.x", b"of the link").unwrap();
        assert_eq!(getxattr(&link, "trusted.x").unwrap(), b"of the link");
        assert_eq!(xattrs(&link), [("trusted.x".to_owned(), b"of the link".to_vec())]);
        // The kernel's rule for user attributes, not the server's.
        assert_eq!(setxattr(&link, "user.x", b"no"), Err(Errno::PERM));
        rustix::fs::lremovexattr(&link, "trusted.x").unwrap();
        assert!(xattrs(&link).is_empty());
    }
    assert!(xattrs(&mount.path("target")).is_empty());
}

#[test]
fn a_copied_up_directory_keeps_mode_owner_times_and_attributes() {
    let scratch = Scratch::new();
    let dir = scratch.dir("low/a/b");
    setxattr(&dir, "user.note", b"kept").unwrap();
    sh(format!(
        "touch -d '2001-02-03 04:05:06.789' {0} {0}/..; chmod 3751 {0}; chmod 710 {0}/..",
        dir.display()
    ))
    .ok();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let before = fs::metadata(mount.path("a")).unwrap();
    fs::write(mount.path("a/b/file"), "x").unwrap();
    let after = fs::metadata(mount.path("a")).unwrap();
    assert_eq!(mode(mount.path("a")), 0o710);
    assert_eq!(mode(mount.path("a/b")), 0o3751);
    assert_eq!(mode(scratch.path("top/a/b")), 0o3751);
    assert_eq!(
        (before.mtime(), before.mtime_nsec()),
        (after.mtime(), after.mtime_nsec()),
        "a did not change"
    );
    assert_eq!(before.ino(), after.ino());
    assert_eq!(getxattr(&mount.path("a/b"), "user.note").unwrap(), b"kept");
}

#[test]
fn a_buffered_read_after_direct_writes_sees_them() {
    if !require_programs(&["cc"]) {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/file", vec![b'.'; 8192]);
    let mount = Mount::stack(&scratch, &["top", "low"]);
    for name in ["file", "new"] {
        let path = mount.path(name);
        if name == "file" {
            assert_eq!(fs::read(&path).unwrap()[0], b'.');
        }
        let ran = run(probe().arg("directwrite").arg(&path).arg("A"));
        assert_eq!(ran.ok().out, "BB\n", "{name}");
        assert_eq!(fs::read(&path).unwrap()[..4096], [b'B'; 4096]);
    }
}

fn descriptors(mount: &Mount) -> usize {
    fs::read_dir(format!("/proc/{}/fd", mount.server())).unwrap().count()
}

#[test]
fn the_server_holds_no_descriptor_per_known_file() {
    let scratch = Scratch::new();
    for dir in 0..300 {
        for file in 0..4 {
            scratch.file(format!("low/{dir}/{file}"), "x");
        }
    }
    for file in 4..60 {
        scratch.file(format!("low/7/{file}"), "x");
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let idle = descriptors(&mount);
    sh_in(mount.dir(), "find . -type f -exec cat {} + > /dev/null; touch */1").ok();
    let after = descriptors(&mount);
    // A small store of directories in use is kept open, whatever the size of the tree.
    assert!(after <= idle + 70, "1500 files known: {idle} descriptors before, {after} after");
    let open: Vec<fs::File> =
        (0..50).map(|at| fs::File::open(mount.path(format!("7/{at}"))).unwrap()).collect();
    let busy = descriptors(&mount);
    assert!(busy <= after + open.len() + 8, "50 open files: {after} descriptors before, {busy} with them");
    drop(open);
    wait_until("closed files are closed in the server", || descriptors(&mount) <= after + 8);
}

#[test]
fn lazy_unmount_with_open_files() {
    let scratch = Scratch::new();
    scratch.file("low/file", "content");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let dir = mount.dir().to_path_buf();
    let below = fs::File::open(mount.path("file")).unwrap();
    let mut new = fs::File::create_new(mount.path("new")).unwrap();
    let busy = run(Command::new("umount").arg(&dir));
    assert_ne!(busy.code, 0, "a plain umount refuses while files are open");
    run(Command::new("umount").arg("-l").arg(&dir)).ok();
    assert!(!is_mounted(&dir));
    std::io::Write::write_all(&mut new, b"still written").unwrap();
    assert_eq!(std::io::read_to_string(&below).unwrap(), "content");
    drop((below, new));
    mount.was_unmounted();
    assert_eq!(fs::read_to_string(scratch.path("top/new")).unwrap(), "still written");
}

#[test]
fn remount_read_only_and_back() {
    if !require_root("mount -o remount") {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/file", "content");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let dir = mount.dir().display();
    let write = |name: &str| fs::write(mount.path(name), "x").map_err(|error| error.raw_os_error());
    write("one").unwrap();
    // -i: whatever helpers this machine has; with ours it is `remount_through_the_helper`.
    sh(format!("mount -i -o remount,ro {dir}")).ok();
    assert_eq!(write("two"), Err(Some(Errno::ROFS.raw_os_error())));
    assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "content");
    sh(format!("mount -i -o remount,rw {dir}")).ok();
    write("two").unwrap();
    assert_eq!(fs::read_to_string(mount.path("two")).unwrap(), "x");
}

#[test]
fn remount_through_the_helper() {
    if !require_root("mount -o remount") {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/file", "content");
    for name in ["up", "mnt"] {
        scratch.dir(name);
    }
    let script = "
mount -t aufs -o br:up=rw:low=ro none $PWD/mnt
mount -o remount,ro $PWD/mnt
touch mnt/new 2>/dev/null && echo written
grep -c \"$PWD/mnt fuse.aufs ro,\" /proc/mounts
mount -o remount,rw $PWD/mnt
touch mnt/new
mount -t aufs -o remount,ro none $PWD/mnt
touch mnt/file 2>/dev/null && echo written
cat mnt/file; echo
mount -t aufs -o remount,rw none $PWD/mnt
touch mnt/file
ls up
umount mnt
";
    let ran = plyfs_tests::user::in_namespace(
        &scratch,
        &script.replace("&& echo written", "&& echo written || true"),
    )
    .ok();
    assert_eq!(ran.out, "1\ncontent\nfile\nnew\n");
}
