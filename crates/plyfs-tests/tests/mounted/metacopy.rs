//! Changes of metadata copy no data, on real filesystems: big files, filesystems with and without reflinks and
//! xattrs, and layers that kernel overlayfs wrote. They say themselves what of `metacopy=` is in force.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use plyfs_tests::gate::gate;
use plyfs_tests::mount::{options, plyfs};
use plyfs_tests::tree::xattrs;
use plyfs_tests::{Mount, Scratch, require_programs, require_root, run, sh, sh_in};
use rustix::io::Errno;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// Where a big file has something to recognise it by.
const PLACES: [u64; 3] = [0, GIB / 2 + 5, GIB - 4];

/// A file of 1 GiB that takes up its space, with a mark at each of the places.
fn big(path: &Path) {
    let file = fs::File::create_new(path).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, GIB).unwrap();
    for at in PLACES {
        file.write_all_at(b"mark", at).unwrap();
    }
}

#[track_caller]
fn is_big(path: &Path) {
    let file = fs::File::open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), GIB);
    for at in PLACES {
        let mut mark = [0; 4];
        file.read_exact_at(&mut mark, at).unwrap();
        assert_eq!(&mark, b"mark", "at {at}");
    }
}

/// Bytes in use on the filesystem of `path`.
fn used(path: &Path) -> u64 {
    sh("sync").ok();
    let told = rustix::fs::statvfs(path).unwrap();
    (told.f_blocks - told.f_bfree) * told.f_frsize
}

#[test]
fn s36_changes_of_metadata_copy_no_data() {
    if !require_root("mounting an ext4") {
        return;
    }
    let scratch = Scratch::new();
    // So small that the data would not fit.
    let top = scratch.ext4("top", 64);
    scratch.dir("low/d");
    let full = scratch.file("low/full", vec![b'x'; 100 * MIB as usize]);
    big(&scratch.path("low/d/big"));
    scratch.file("low/d/small", "small");
    let before = used(&top);
    let mount = Mount::stack_exactly(&scratch, &["top", "low"]);
    let dir = mount.dir().to_path_buf();
    sh_in(
        &dir,
        "chmod -R go-rwx . && chown -R 12:34 . && touch -d 2001-02-03 d/big && ln d/big two && chmod 640 full && mv d e",
    )
    .ok();
    if plyfs_tests::gate::have("setfattr") {
        sh_in(&dir, "setfattr -n user.a -v b e/big").ok();
    }
    assert!(used(&top) - before < MIB, "used {before} before, {} now", used(&top));
    let stat = fs::metadata(mount.path("e/big")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o777, stat.nlink()), (12, 34, 0o600, 2));
    assert!(stat.blocks() * 512 >= GIB);
    is_big(&mount.path("e/big"));
    is_big(&mount.path("two"));
    let changed = run(plyfs().arg("diff").arg(&dir)).ok().out;
    assert!(changed.lines().any(|line| line.starts_with('C') && line.contains("/full")), "{changed}");
    let shown = run(plyfs().args(["which", "--json"]).arg(mount.path("two"))).ok().out;
    let data = format!("{}/d/big", scratch.path("low").display());
    assert!(shown.contains(&data), "{shown}");
    mount.unmount();
    let mount = Mount::stack_exactly(&scratch, &["top", "low"]);
    is_big(&mount.path("two"));
    // Too big for the branch: the write fails, takes no space, and the data is still there.
    let file = fs::OpenOptions::new().write(true).open(mount.path("full")).unwrap();
    let refused = file.write_all_at(b"new", 5).and_then(|()| file.sync_all()).unwrap_err();
    assert_eq!(Errno::from_io_error(&refused), Some(Errno::NOSPC));
    drop(file);
    assert!(fs::read(mount.path("full")).unwrap() == fs::read(full).unwrap());
    assert!(used(&top) - before < MIB, "used {before} before, {} now", used(&top));
    // Truncated to nothing it needs none.
    fs::write(mount.path("two"), "short").unwrap();
    assert_eq!(fs::read(mount.path("e/big")).unwrap(), b"short");
}

#[test]
fn engines_that_read_upper_directories_find_whole_files() {
    let scratch = Scratch::new();
    scratch.file("low/f", vec![b'x'; 300_000]);
    let options = |more: &str| {
        let dir = |name: &str| scratch.dir(name).display().to_string();
        format!("lowerdir={},upperdir={},workdir={}{more}", dir("low"), dir("up"), dir("work"))
    };
    let blocks = || fs::metadata(scratch.path("up/f")).unwrap().blocks();
    for (more, whole) in [("", true), (",metacopy=off", true), (",metacopy=on", false)] {
        let mount = Mount::exactly(&options(more), scratch.dir("mnt"));
        fs::set_permissions(mount.path("f"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::read(mount.path("f")).unwrap(), vec![b'x'; 300_000]);
        mount.unmount();
        assert_eq!(blocks() * 512 >= 300_000, whole, "{more}");
        fs::remove_file(scratch.path("up/f")).unwrap();
    }
}

#[test]
fn branches_without_xattrs_get_whole_files() {
    if !require_root("mounting a ramfs") {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/f", vec![b'x'; 300_000]);
    let top = scratch.dir("top");
    sh(format!("mount -t ramfs plyfs-test {}", top.display())).ok();
    let mount = Mount::stack_exactly(&scratch, &["top", "low"]);
    fs::set_permissions(mount.path("f"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), vec![b'x'; 300_000]);
    assert_eq!(fs::read(top.join("f")).unwrap(), vec![b'x'; 300_000]);
}

/// Copy-up within a filesystem with reflinks: whole files that share their data.
fn reflinks(make: &str, program: &str) {
    if !require_root("mounting a filesystem") || !require_programs(&[program]) {
        return;
    }
    let scratch = Scratch::new();
    let fs_dir = scratch.dir("fs");
    let image = scratch.path("image");
    sh(format!("truncate -s 400M {i} && {make} {i}", i = image.display())).ok();
    let mounted = sh(format!("mount -o loop {} {}", image.display(), fs_dir.display()));
    if !gate(mounted.code == 0, &format!("this kernel mounts no such filesystem: {}", mounted.err)) {
        return;
    }
    let data: Vec<u8> = (0..100 * MIB).map(|at| (at * 31 % 251) as u8).collect();
    for name in ["chmod", "write"] {
        scratch.file(format!("fs/low/{name}"), &data);
    }
    let before = used(&fs_dir);
    let mount = Mount::stack_exactly(&scratch, &["fs/top", "fs/low"]);
    fs::set_permissions(mount.path("chmod"), fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(mount.path("write")).unwrap();
    file.write_all_at(b"new", 5).unwrap();
    drop(file);
    mount.unmount();
    let after = used(&fs_dir);
    assert!(after - before < 10 * MIB, "{} MiB more in use", (after - before) / MIB);
    assert!(fs::read(scratch.path("fs/top/chmod")).unwrap() == data, "a whole file on the branch");
    let written = fs::read(scratch.path("fs/top/write")).unwrap();
    assert!(&written[5..8] == b"new" && written[8..] == data[8..]);
    let names: Vec<String> =
        xattrs(&scratch.path("fs/top/chmod")).into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name.ends_with("plyfs.data")), "{names:?}");
}

#[test]
fn copies_share_their_data_on_xfs() {
    reflinks("mkfs.xfs -q -m reflink=1", "mkfs.xfs");
}

#[test]
fn copies_share_their_data_on_btrfs() {
    reflinks("mkfs.btrfs -q", "mkfs.btrfs");
}

#[test]
fn layers_that_overlayfs_wrote_without_data_are_read() {
    if !require_root("mounting overlayfs") {
        return;
    }
    let scratch = Scratch::new();
    let content = |name: &str| name.repeat(if name.starts_with("big") { 50_000 } else { 3 }).into_bytes();
    let names = ["big", "small", "big-moved", "small-moved", "small-linked", "big-away"];
    for name in names {
        scratch.file(format!("low/d/{name}"), content(name));
    }
    for name in ["mid", "work", "ovl"] {
        scratch.dir(name);
    }
    let mounted = sh_in(
        scratch.root(),
        "mount -t overlay -o lowerdir=low,upperdir=mid,workdir=work,metacopy=on,redirect_dir=on o ovl",
    );
    if !gate(mounted.code == 0, &format!("no overlayfs with metacopy here: {}", mounted.err)) {
        return;
    }
    sh_in(
        scratch.path("ovl"),
        "chmod 600 d/*; mkdir new; mv d/big-moved d/big-2; mv d/small-moved d/small-2; \
         ln d/small-linked new/linked; mv d/big-away new/; mv d e",
    )
    .ok();
    sh_in(scratch.root(), "umount ovl").ok();
    assert!(fs::metadata(scratch.path("mid/e/big")).unwrap().blocks() < 16, "overlayfs copied the data");
    let all = [
        ("e/big", "big"),
        ("e/small", "small"),
        ("e/big-2", "big-moved"),
        ("e/small-2", "small-moved"),
        ("e/small-linked", "small-linked"),
        ("new/linked", "small-linked"),
        ("new/big-away", "big-away"),
    ];
    let shows = |mount: &Mount| {
        for (path, name) in all {
            assert!(fs::read(mount.path(path)).unwrap() == content(name), "{path}");
            assert_eq!(fs::metadata(mount.path(path)).unwrap().mode() & 0o777, 0o600);
        }
    };
    let below = plyfs_tests::Snapshot::of(scratch.path("mid"), plyfs_tests::Want::ALL);
    let mount = Mount::stack_exactly(&scratch, &["top", "mid", "low"]);
    shows(&mount);
    sh_in(mount.dir(), "chmod -R a-w .").ok();
    mount.unmount();
    let mount = Mount::exactly(&options(&scratch, &["top", "mid", "low"]), scratch.path("mnt"));
    for (path, name) in all {
        // One of them has another name before it in this list.
        assert!(fs::read(mount.path(path)).unwrap().starts_with(&content(name)), "{path}");
        let file = fs::OpenOptions::new().append(true).open(mount.path(path)).unwrap();
        std::io::Write::write_all(&mut &file, b"+").unwrap();
        assert!(fs::read(mount.path(path)).unwrap().starts_with(&content(name)), "{path}");
    }
    mount.unmount();
    below.same(&plyfs_tests::Snapshot::of(scratch.path("mid"), plyfs_tests::Want::ALL), "overlayfs' branch");
}
