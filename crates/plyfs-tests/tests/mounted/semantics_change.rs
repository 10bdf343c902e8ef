//! `docs/semantics.md`, second half: copy-up, renaming, removing, several writable branches, data.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use plyfs_tests::tree::{getxattr, names, setxattr};
use plyfs_tests::{Mount, Scratch, sh, sh_in};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::semantics::{errno, text, with};

#[test]
fn s16_a_lower_file_is_copied_up_at_its_first_change_not_when_opened() {
    let scratch = Scratch::new();
    scratch.file("low/file", "content");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let mut file = OpenOptions::new().read(true).write(true).open(mount.path("file")).unwrap();
    assert!(!scratch.path("top/file").exists(), "opened for writing, nothing written");
    file.write_all(b"C").unwrap();
    file.sync_all().unwrap();
    assert_eq!(text(scratch.path("top/file")), "Content");
    assert_eq!(text(scratch.path("low/file")), "content");
}

#[test]
fn s17_copy_up_keeps_owner_mode_times_attributes_and_holes() {
    let scratch = Scratch::new();
    let path = scratch.file("low/file", "start");
    File::options().write(true).open(&path).unwrap().set_len(8 << 20).unwrap();
    setxattr(&path, "user.note", b"kept").unwrap();
    sh(format!("chmod 640 {0}; touch -d '2001-02-03 04:05:06.789' {0}", path.display())).ok();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let before = fs::metadata(mount.path("file")).unwrap();
    setxattr(&mount.path("file"), "user.other", b"new").unwrap();
    let after = fs::metadata(mount.path("file")).unwrap();
    let facts = |m: &fs::Metadata| (m.uid(), m.gid(), m.mode(), m.mtime(), m.mtime_nsec(), m.len());
    assert_eq!(facts(&before), facts(&after));
    assert_eq!(getxattr(&mount.path("file"), "user.note").unwrap(), b"kept");
    assert!(fs::metadata(scratch.path("top/file")).unwrap().blocks() < 1000, "the hole is a hole");
}

#[test]
fn s18_copy_up_does_not_show_in_the_times_of_the_directory() {
    let scratch = Scratch::new();
    scratch.file("low/a/b/file", "x");
    sh(format!("touch -d 2001-02-03 {0}/low/a/b {0}/low/a", scratch.root().display())).ok();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    fs::write(mount.path("a/b/file"), "y").unwrap();
    for name in ["a", "a/b"] {
        let mtime = fs::metadata(mount.path(name)).unwrap().mtime();
        assert_eq!(mtime, fs::metadata(scratch.path("low").join(name)).unwrap().mtime(), "{name}");
    }
}

#[test]
fn s19_a_descriptor_opened_before_copy_up_sees_what_is_written_after() {
    let scratch = Scratch::new();
    scratch.file("low/file", "before");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let early = File::open(mount.path("file")).unwrap();
    fs::write(mount.path("file"), "after").unwrap();
    assert_eq!(std::io::read_to_string(early).unwrap(), "after");
}

#[test]
fn s20_hard_links_stay_together_over_copy_up_with_noplink_they_come_apart() {
    for (more, want) in [("quiet", "new"), ("noplink", "old")] {
        let scratch = Scratch::new();
        let one = scratch.file("low/one", "old");
        fs::hard_link(one, scratch.path("low/two")).unwrap();
        let mount = with(&scratch, more, &["top", "low"]);
        fs::write(mount.path("one"), "new").unwrap();
        assert_eq!(text(mount.path("two")), want, "{more}");
    }
}

#[test]
fn s21_directories_of_lower_branches_can_be_renamed_with_strict_exdev() {
    let scratch = Scratch::new();
    scratch.file("low/dir/sub/file", "x");
    let mount = with(&scratch, "strict", &["top", "low"]);
    assert_eq!(errno(fs::rename(mount.path("dir"), mount.path("moved"))), Errno::XDEV);
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    fs::rename(mount.path("dir"), mount.path("moved")).unwrap();
    assert_eq!(names(mount.dir()), ["moved"]);
    assert_eq!(text(mount.path("moved/sub/file")), "x");
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    assert_eq!(names(mount.dir()), ["moved"], "after a remount");
    assert_eq!(text(mount.path("moved/sub/file")), "x");
    assert_eq!(names(scratch.path("low")), ["dir"]);
}

#[test]
fn s22_renames_know_noreplace_and_exchange_but_not_whiteout() {
    let scratch = Scratch::new();
    scratch.file("low/a", "a");
    scratch.file("low/b/inner", "b");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let rename = |flags| renameat_with(CWD, mount.path("a"), CWD, mount.path("b"), flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    let free = renameat_with(CWD, mount.path("a"), CWD, mount.path("free"), RenameFlags::WHITEOUT);
    assert_eq!(free, Err(Errno::INVAL));
    rename(RenameFlags::EXCHANGE).unwrap();
    assert_eq!((text(mount.path("b")), text(mount.path("a/inner"))), ("a".to_owned(), "b".to_owned()));
}

#[test]
fn s23_a_directory_that_shows_empty_can_be_removed() {
    let scratch = Scratch::new();
    scratch.file("low/dir/file", "");
    scratch.file("low/full/file", "");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    fs::remove_file(mount.path("dir/file")).unwrap();
    fs::remove_dir(mount.path("dir")).unwrap();
    assert_eq!(errno(fs::remove_dir(mount.path("full"))), Errno::NOTEMPTY);
    assert_eq!(names(mount.dir()), ["full"]);
}

#[test]
fn s24_without_a_writable_branch_every_change_is_erofs() {
    let scratch = Scratch::new();
    scratch.file("low/file", "x");
    let mount = Mount::stack(&scratch, &["top=ro", "low"]);
    assert_eq!(errno(fs::write(mount.path("file"), "y")), Errno::ROFS);
    assert_eq!(errno(fs::write(mount.path("new"), "y")), Errno::ROFS);
    assert_eq!(errno(fs::create_dir(mount.path("dir"))), Errno::ROFS);
    assert_eq!(errno(fs::remove_file(mount.path("file"))), Errno::ROFS);
}

#[test]
fn s25_new_entries_go_to_the_topmost_writable_branch_that_has_the_directory() {
    let scratch = Scratch::new();
    scratch.dir("second/only-there");
    scratch.dir("low/below");
    let mount = Mount::stack(&scratch, &["top", "second=rw", "low"]);
    fs::write(mount.path("only-there/new"), "").unwrap();
    assert!(scratch.path("second/only-there/new").exists() && !scratch.path("top/only-there").exists());
    fs::write(mount.path("new"), "").unwrap();
    fs::write(mount.path("below/new"), "").unwrap();
    assert!(scratch.path("top/new").exists());
    // No writable branch has it: the nearest one above the branch that has it.
    assert!(scratch.path("second/below/new").exists());
}

#[test]
fn s26_a_file_of_a_writable_branch_is_changed_where_it_is() {
    let scratch = Scratch::new();
    scratch.file("second/file", "old");
    scratch.file("second/gone", "old");
    scratch.file("low/gone", "older");
    let mount = Mount::stack(&scratch, &["top", "second=rw", "low"]);
    fs::write(mount.path("file"), "new").unwrap();
    assert_eq!(text(scratch.path("second/file")), "new");
    assert!(!scratch.path("top/file").exists());
    fs::remove_file(mount.path("gone")).unwrap();
    assert!(!mount.path("gone").exists());
    assert!(scratch.path("second/.wh.gone").exists() && !scratch.path("second/gone").exists());
}

#[test]
fn s27_an_unlinked_open_file_of_a_lower_branch_can_be_written() {
    let scratch = Scratch::new();
    scratch.file("low/file", "content");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let file = OpenOptions::new().read(true).write(true).open(mount.path("file")).unwrap();
    fs::remove_file(mount.path("file")).unwrap();
    file.write_all_at(b"C", 0).unwrap();
    let mut data = [0; 7];
    file.read_exact_at(&mut data, 0).unwrap();
    assert_eq!(&data, b"Content");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(text(scratch.path("low/file")), "content");
    assert!(names(mount.dir()).is_empty());
}

#[test]
fn s28_whiteouts_are_links_of_one_file_with_nolwh_files_of_their_own() {
    for (perm, linked) in [("top=rw", true), ("top=rw+nolwh", false)] {
        let scratch = Scratch::new();
        for name in ["a", "b"] {
            scratch.file(format!("low/{name}"), "");
        }
        let mount = Mount::stack(&scratch, &[perm, "low"]);
        sh_in(mount.dir(), "rm a b").ok();
        let ino = |name: &str| fs::metadata(scratch.path("top").join(name)).unwrap().ino();
        assert_eq!(ino(".wh.a") == ino(".wh.b"), linked, "{perm}");
    }
}

#[test]
fn s29_with_diropq_always_every_new_directory_is_opaque() {
    for (word, marked) in [("diropq=always", true), ("diropq=whiteouted", false)] {
        let scratch = Scratch::new();
        scratch.dir("low");
        let mount = with(&scratch, word, &["top", "low"]);
        fs::create_dir(mount.path("dir")).unwrap();
        assert_eq!(scratch.path("top/dir/.wh..wh..opq").exists(), marked, "{word}");
    }
}

#[test]
fn s30_seek_finds_data_and_holes() {
    let scratch = Scratch::new();
    let path = scratch.file("low/file", "start");
    File::options().write(true).open(path).unwrap().set_len(1 << 20).unwrap();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let mut file = File::options().read(true).write(true).open(mount.path("file")).unwrap();
    let seek = |file: &File, at| rustix::fs::seek(file, at);
    let hole = seek(&file, rustix::fs::SeekFrom::Hole(0)).unwrap();
    assert!(hole < 1 << 20, "a hole before the end: {hole}");
    assert_eq!(seek(&file, rustix::fs::SeekFrom::Data(hole)), Err(Errno::NXIO));
    file.seek(SeekFrom::Start(512 << 10)).unwrap();
    file.write_all(b"middle").unwrap();
    file.sync_all().unwrap();
    let data = seek(&file, rustix::fs::SeekFrom::Data(hole)).unwrap();
    assert!((400 << 10..=512 << 10).contains(&data), "{data}");
}

#[test]
fn s31_space_can_be_reserved_and_holes_punched() {
    use rustix::fs::{FallocateFlags, fallocate};
    let scratch = Scratch::new();
    scratch.file("low/file", vec![b'x'; 64 << 10]);
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let file = File::options().read(true).write(true).open(mount.path("file")).unwrap();
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 8192).unwrap();
    let data = fs::read(mount.path("file")).unwrap();
    assert!(data[4096..12288].iter().all(|byte| *byte == 0) && data[12288] == b'x' && data.len() == 64 << 10);
    fallocate(&file, FallocateFlags::empty(), 0, 128 << 10).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 128 << 10);
    assert_eq!(fs::metadata(scratch.path("low/file")).unwrap().len(), 64 << 10);
}

#[test]
fn s32_copy_file_range_works_between_any_two_files() {
    let scratch = Scratch::new();
    scratch.file("low/from", "0123456789".repeat(10_000));
    scratch.file("low/to", "x");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let from = File::open(mount.path("from")).unwrap();
    let to = File::options().write(true).open(mount.path("to")).unwrap();
    let (mut left, mut at) = (100_000, 0);
    while left > 0 {
        let mut off = (at, at);
        let got = rustix::fs::copy_file_range(&from, Some(&mut off.0), &to, Some(&mut off.1), left).unwrap();
        assert!(got > 0);
        left -= got;
        at += got as u64;
    }
    assert_eq!(text(mount.path("to")), text(mount.path("from")));
}

#[test]
fn s33_locks_belong_to_the_union_file() {
    let scratch = Scratch::new();
    scratch.file("low/file", "x");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let line = "exec 3< file; flock -n 3; echo y >> file; ! flock -n file true";
    sh_in(mount.dir(), line).ok();
    sh_in(mount.dir(), "flock -n file true").ok();
}

#[test]
fn s34_noxattrs_and_noacl_turn_attributes_off() {
    let scratch = Scratch::new();
    let path = scratch.file("low/file", "x");
    setxattr(&path, "user.note", b"1").unwrap();
    let mount = with(&scratch, "noxattrs", &["top", "low"]);
    assert_eq!(getxattr(&mount.path("file"), "user.note"), Err(Errno::OPNOTSUPP));
    mount.unmount();
    let mount = with(&scratch, "noacl", &["top", "low"]);
    assert_eq!(getxattr(&mount.path("file"), "user.note").unwrap(), b"1");
    assert_ne!(sh_in(mount.dir(), "setfacl -m u:5555:r file").code, 0);
}
