//! What other unions get wrong, part three: link counts, hard links over copy-up, files without a name, inode numbers.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use plyfs_tests::probe::probe;
use plyfs_tests::{Mount, Scratch, require_programs, require_root, run, sh_in};

fn links(path: impl AsRef<Path>) -> u64 {
    fs::symlink_metadata(path).unwrap().nlink()
}

fn ino(path: impl AsRef<Path>) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn link_counts_of_directories_follow_renames() {
    let scratch = Scratch::new();
    scratch.dir("low/a/sub");
    scratch.dir("low/b");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let before = (links(mount.path("a")), links(mount.path("b")));
    assert_eq!(before.1, 2);
    fs::create_dir(mount.path("a/new")).unwrap();
    assert_eq!(links(mount.path("a")), before.0 + 1);
    fs::rename(mount.path("a/new"), mount.path("b/new")).unwrap();
    assert_eq!((links(mount.path("a")), links(mount.path("b"))), (before.0, 3));
    fs::rename(mount.path("a/sub"), mount.path("b/sub")).unwrap();
    assert_eq!(
        (links(mount.path("a")), links(mount.path("b"))),
        (before.0 - 1, 4),
        "a directory from below moved"
    );
    fs::remove_dir(mount.path("b/new")).unwrap();
    assert_eq!(links(mount.path("b")), 3);
}

#[test]
fn link_counts_of_files_are_right_at_once() {
    let scratch = Scratch::new();
    scratch.file("low/below", "x");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    for name in ["below", "new"] {
        let path = mount.path(name);
        let open = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        assert_eq!(links(&path), 1);
        let second = mount.path(format!("{name}2"));
        fs::hard_link(&path, &second).unwrap();
        assert_eq!((links(&path), links(&second), open.metadata().unwrap().nlink()), (2, 2, 2), "{name}");
        assert_eq!(ino(&path), ino(&second));
        fs::remove_file(&path).unwrap();
        assert_eq!((links(&second), open.metadata().unwrap().nlink()), (1, 1), "{name}");
        fs::remove_file(&second).unwrap();
        assert_eq!(open.metadata().unwrap().nlink(), 0, "{name}");
    }
}

/// Everything that can be done to a file whose last name is gone.
fn use_unlinked(mut file: File, content: &str, what: &str) {
    assert_eq!(file.metadata().unwrap().nlink(), 0, "{what}");
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, content, "{what}");
    file.write_all(b" and more").unwrap();
    assert_eq!(file.metadata().unwrap().len(), content.len() as u64 + 9, "{what}");
    file.set_len(4).unwrap();
    let mut start = [0; 16];
    assert_eq!(file.read_at(&mut start, 0).unwrap(), 4, "{what}");
    assert_eq!(&start[..4], &content.as_bytes()[..4]);
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(file.metadata().unwrap().mtime(), 0);
    file.sync_all().unwrap();
}

#[test]
fn unlinked_open_files_live_on() {
    let scratch = Scratch::new();
    for name in ["low", "deep/low", "over", "gone/low"] {
        scratch.file(format!("low/{name}"), "content of it");
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let open = |name: &str| OpenOptions::new().read(true).write(true).open(mount.path(name)).unwrap();
    fs::write(mount.path("new"), "content of it").unwrap();
    for name in ["new", "low", "deep/low"] {
        let file = open(name);
        fs::remove_file(mount.path(name)).unwrap();
        use_unlinked(file, "content of it", name);
    }
    let file = open("over");
    fs::write(mount.path("other"), "the other").unwrap();
    fs::rename(mount.path("other"), mount.path("over")).unwrap();
    use_unlinked(file, "content of it", "renamed over");
    assert_eq!(fs::read_to_string(mount.path("over")).unwrap(), "the other");
    let file = open("gone/low");
    fs::remove_dir_all(mount.path("gone")).unwrap();
    use_unlinked(file, "content of it", "its folder is gone too");
    // Read-only descriptors of a lower file read on.
    let ran = sh_in(mount.dir(), "exec 3< over; rm over; cat <&3").ok();
    assert_eq!(ran.out, "the other");
    assert!(scratch.path("low/gone/low").exists());
}

#[test]
fn o_tmpfile_makes_a_file_without_a_name_and_gives_it_one() {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
    let scratch = Scratch::new();
    scratch.dir("low/dir");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let file = File::from(open(mount.path("dir"), flags, Mode::from_raw_mode(0o640)).unwrap());
    file.write_all_at(b"unnamed", 0).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(fs::read_dir(mount.path("dir")).unwrap().count(), 0);
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    linkat(CWD, own, CWD, mount.path("dir/named"), AtFlags::SYMLINK_FOLLOW).unwrap();
    assert_eq!(fs::read_to_string(mount.path("dir/named")).unwrap(), "unnamed");
    assert_eq!(links(mount.path("dir/named")), 1);
}

#[test]
fn a_descriptor_opened_before_copy_up_sees_what_is_written_after() {
    let scratch = Scratch::new();
    scratch.file("low/file", "before");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let early = File::open(mount.path("file")).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(early.read_at(&mut buffer, 0).unwrap(), 6);
    let number = early.metadata().unwrap().ino();
    fs::write(mount.path("file"), "afterwards").unwrap();
    assert_eq!(early.read_at(&mut buffer, 0).unwrap(), 10);
    assert_eq!(&buffer[..10], b"afterwards");
    let meta = early.metadata().unwrap();
    assert_eq!((meta.len(), meta.ino()), (10, number));
    assert_eq!(ino(mount.path("file")), number);
}

#[test]
fn hard_links_stay_links_over_copy_up() {
    let scratch = Scratch::new();
    let one = scratch.file("low/one", "shared");
    scratch.dir("low/dir");
    fs::hard_link(&one, scratch.path("low/dir/two")).unwrap();
    fs::hard_link(&one, scratch.path("low/three")).unwrap();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let all = ["one", "dir/two", "three"];
    let numbers = |mount: &Mount| all.map(|name| ino(mount.path(name)));
    let before = numbers(&mount);
    assert_eq!(before, [before[0]; 3]);
    let mut file = OpenOptions::new().append(true).open(mount.path("dir/two")).unwrap();
    file.write_all(b" data").unwrap();
    drop(file);
    let check = |mount: &Mount, text: &str, when: &str| {
        for name in all {
            assert_eq!(fs::read_to_string(mount.path(name)).unwrap(), text, "{name} {when}");
            assert_eq!(links(mount.path(name)), 3, "{name} {when}");
        }
        assert_eq!(numbers(mount), before, "{when}");
    };
    check(&mount, "shared data", "after the copy-up");
    fs::OpenOptions::new().append(true).open(mount.path("three")).unwrap().write_all(b"!").unwrap();
    check(&mount, "shared data!", "after a write through another name");
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    check(&mount, "shared data!", "after a remount");
    assert_eq!(fs::read_to_string(one).unwrap(), "shared");
}

#[test]
fn equal_inode_numbers_on_two_filesystems_are_two_files() {
    if !require_root("mounting tmpfs") || !require_programs(&["cc"]) {
        return;
    }
    let scratch = Scratch::new();
    // Two fresh tmpfs number their files alike.
    let (one, two) = (scratch.tmpfs("one"), scratch.tmpfs("two"));
    for at in 0..8 {
        fs::write(one.join(format!("one{at}")), format!("first {at}\n").repeat(700)).unwrap();
        fs::write(two.join(format!("two{at}")), format!("other {at}\n").repeat(700)).unwrap();
    }
    let same: Vec<u64> =
        (0..8).filter(|at| ino(one.join(format!("one{at}"))) == ino(two.join(format!("two{at}")))).collect();
    assert!(!same.is_empty(), "the test needs equal numbers on both");
    let mount = Mount::stack(&scratch, &["top", "one", "two"]);
    let at = same[0];
    let (a, b) = (mount.path(format!("one{at}")), mount.path(format!("two{at}")));
    assert_ne!(ino(&a), ino(&b));
    let ran = run(probe().arg("mapcat").arg(&a).arg(&b)).ok();
    assert_eq!(ran.out, format!("first {at}\n").repeat(700) + &format!("other {at}\n").repeat(700));
    // And after one of them is copied up by a write through a mapping.
    run(probe().arg("mapwrite").arg(&a).arg("mapped")).ok();
    let ran = run(probe().arg("mapcat").arg(&a).arg(&b)).ok();
    assert!(ran.out.starts_with("mapped"), "{}", &ran.out[..20]);
    assert!(ran.out.ends_with(&format!("other {at}\n").repeat(700)));
    assert_eq!(
        fs::read_to_string(one.join(format!("one{at}"))).unwrap(),
        format!("first {at}\n").repeat(700)
    );
    let numbers: BTreeSet<u64> = (0..8)
        .flat_map(|at| [ino(mount.path(format!("one{at}"))), ino(mount.path(format!("two{at}")))])
        .collect();
    assert_eq!(numbers.len(), 16);
}

#[test]
fn mappings_shared_and_private() {
    if !require_programs(&["cc"]) {
        return;
    }
    let scratch = Scratch::new();
    scratch.file("low/file", "0123456789".repeat(1000));
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let path = mount.path("file");
    let ran = run(probe().arg("mapprivate").arg(&path).arg("mine")).ok();
    assert!(ran.out.starts_with("mine456789"));
    assert!(fs::read_to_string(&path).unwrap().starts_with("0123456789"), "private stays private");
    assert!(!scratch.path("top/file").exists(), "and copies nothing up");
    run(probe().arg("mapwrite").arg(&path).arg("shared")).ok();
    assert!(fs::read_to_string(&path).unwrap().starts_with("shared6789"));
    assert!(fs::read_to_string(scratch.path("top/file")).unwrap().starts_with("shared6789"));
}

#[test]
fn an_inode_number_used_again_is_a_new_file() {
    let scratch = Scratch::new();
    scratch.dir("low");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    // ext4 hands a freed number out again at once.
    for round in 0..200 {
        let path = mount.path(format!("file{}", round % 3));
        let text = format!("round {round}\n").repeat(1 + round % 7);
        fs::write(&path, &text).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.len(), meta.nlink()), (text.len() as u64, 1), "round {round}");
        if round % 2 == 0 {
            fs::create_dir(mount.path("dir")).unwrap();
            assert_eq!(fs::read_dir(mount.path("dir")).unwrap().count(), 0);
            fs::write(mount.path("dir/x"), "x").unwrap();
            fs::remove_dir_all(mount.path("dir")).unwrap();
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn numbers_stay_over_copy_up_and_remount() {
    let scratch = Scratch::new();
    scratch.file("low/file", "x");
    scratch.file("low/dir/inner", "x");
    let all = ["", "file", "dir", "dir/inner"];
    let numbers = |mount: &Mount| all.map(|name| ino(mount.path(name)));
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let first = numbers(&mount);
    fs::write(mount.path("file"), "y").unwrap();
    fs::write(mount.path("dir/inner"), "y").unwrap();
    assert_eq!(numbers(&mount), first, "over copy-up");
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    assert_eq!(numbers(&mount), first, "over a remount");
    // d_ino is st_ino.
    for entry in fs::read_dir(mount.dir()).unwrap().flatten() {
        assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), ino(entry.path()));
    }
}
