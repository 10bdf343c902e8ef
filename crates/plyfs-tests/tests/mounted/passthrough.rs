//! Passthrough: the kernel reads and writes branch files itself. What it must not change, and the one thing it does.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use plyfs_tests::cmd::{run, sh, sh_in};
use plyfs_tests::mount::plyfs;
use plyfs_tests::mount::{Mount, options, wait_until};
use plyfs_tests::scratch::Scratch;
use rustix::fs::{Advice, fadvise};

/// Bigger than what is served from below although it could be passed.
const BIG: usize = 1 << 20;

/// These tests say themselves whether passthrough is on, unlike the rest of the suite.
fn mount(scratch: &Scratch, more: &str, branches: &[&str]) -> Mount {
    Mount::exactly(&format!("{},{more}", options(scratch, branches)), scratch.dir("mnt"))
}

/// Bytes of the file in the page cache (mincore(2) of a mapping, without reading).
fn resident(path: &Path) -> u64 {
    let ran = run(std::process::Command::new("fincore").args(["-b", "-n", "-o", "RES"]).arg(path)).ok();
    ran.out.trim().parse().unwrap()
}

fn drop_pages(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let there = resident(path);
    assert!(there < file.metadata().unwrap().len() / 10, "{there} bytes stay");
}

#[test]
fn status_says_whether_it_is_in_force() {
    let scratch = Scratch::new();
    scratch.dir("up");
    for (option, said) in [("passthrough", "on"), ("nopassthrough", "off")] {
        let mount = mount(&scratch, option, &["up"]);
        let text = run(plyfs().arg("status").arg(mount.dir())).ok().out;
        assert!(text.ends_with(&format!("\n  passthrough {said}\n")), "{text}");
    }
}

#[test]
fn a_hundred_unions_over_one_file_share_one_page_cache() {
    let scratch = Scratch::new();
    let size = 200 << 20;
    let lower = scratch.file("low/image", vec![7; size]);
    let cached = || {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find(|line| line.starts_with("Cached:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };
    drop_pages(&lower);
    let before = cached();
    let mut mounts = Vec::new();
    for n in 0..100 {
        let top = scratch.dir(format!("top{n}"));
        let all = format!("br:{}=rw:{}=ro", top.display(), scratch.path("low").display());
        mounts.push(Mount::exactly(&all, scratch.dir(format!("mnt{n}"))));
    }
    assert!(resident(&mounts[0].path("image")) < size as u64 / 10);
    // One reads; to all others the pages are there already.
    assert_eq!(fs::read(mounts[0].path("image")).unwrap().len(), size);
    for mount in &mounts {
        // Nearly all: the kernel may take a page back at any time.
        let there = resident(&mount.path("image"));
        assert!(there > size as u64 / 10 * 9, "{there} bytes of {size}");
    }
    for mount in &mounts[..10] {
        assert_eq!(fs::read(mount.path("image")).unwrap().len(), size);
    }
    let grown = cached().saturating_sub(before);
    assert!(grown < 2 * size as u64, "{grown} bytes more in the page cache");
}

#[test]
fn readers_of_a_big_lower_file_stay_with_it_and_new_ones_see_the_copy() {
    let scratch = Scratch::new();
    let old = vec![b'o'; BIG];
    for more in ["passthrough", "nopassthrough"] {
        scratch.file("low/file", &old);
        scratch.dir("top");
        let mount = mount(&scratch, more, &["top", "low"]);
        let early = File::open(mount.path("file")).unwrap();
        let mut byte = [0];
        early.read_exact_at(&mut byte, 5).unwrap();
        // Writing needs another node of the kernel's: open(2) hides that.
        let mut writer = OpenOptions::new().write(true).open(mount.path("file")).unwrap();
        writer.write_all(b"new").unwrap();
        let text = fs::read(mount.path("file")).unwrap();
        assert_eq!((&text[..4], text.len()), (&b"newo"[..], BIG), "{more}");
        let mut seen = [0; 4];
        early.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(&seen, if more == "passthrough" { b"oooo" } else { b"newo" }, "S19, {more}");
        // Everything but data is the file's own.
        drop(writer);
        fs::set_permissions(mount.path("file"), fs::Permissions::from_mode(0o600)).unwrap();
        OpenOptions::new().append(true).open(mount.path("file")).unwrap().write_all(b"more").unwrap();
        let (mine, its) = (early.metadata().unwrap(), fs::metadata(mount.path("file")).unwrap());
        assert_eq!((mine.ino(), mine.len(), mine.mode()), (its.ino(), BIG as u64 + 4, its.mode()), "{more}");
        early.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(fs::metadata(mount.path("file")).unwrap().mode() & 0o777, 0o640, "{more}");
        assert_eq!(fs::read(scratch.path("low/file")).unwrap(), old, "{more}");
        drop(early);
        assert_eq!(fs::read(mount.path("file")).unwrap().len(), BIG + 4, "{more}");
        mount.unmount();
        fs::remove_dir_all(scratch.path("top")).unwrap();
    }
}

#[test]
fn every_name_of_a_file_finds_the_copy_while_a_reader_holds_what_is_below() {
    let scratch = Scratch::new();
    scratch.file("low/d/one", vec![b'o'; BIG]);
    fs::hard_link(scratch.path("low/d/one"), scratch.path("low/two")).unwrap();
    let mount = mount(&scratch, "passthrough", &["top", "low"]);
    let early = [File::open(mount.path("d/one")).unwrap(), File::open(mount.path("two")).unwrap()];
    OpenOptions::new().write(true).open(mount.path("two")).unwrap().write_all(b"new").unwrap();
    for name in ["d/one", "two"] {
        assert_eq!(&fs::read(mount.path(name)).unwrap()[..4], b"newo", "{name}");
        assert_eq!(fs::metadata(mount.path(name)).unwrap().nlink(), 2, "{name}");
    }
    fs::rename(mount.path("d/one"), mount.path("d/three")).unwrap();
    fs::remove_file(mount.path("two")).unwrap();
    fs::write(mount.path("d/three"), "short").unwrap();
    assert_eq!(fs::read(mount.path("d/three")).unwrap(), b"short");
    let mut text = Vec::new();
    (&early[0]).read_to_end(&mut text).unwrap();
    assert!(text == vec![b'o'; BIG]);
}

#[test]
fn truncating_and_replacing_under_readers() {
    let scratch = Scratch::new();
    scratch.file("low/file", vec![b'o'; BIG]);
    let mount = mount(&scratch, "passthrough", &["top", "low"]);
    let early = File::open(mount.path("file")).unwrap();
    sh_in(mount.dir(), "truncate -s 10 file").ok();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"oooooooooo");
    fs::write(mount.path("file"), "all new").unwrap();
    assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "all new");
    fs::write(mount.path("other"), "other").unwrap();
    fs::rename(mount.path("other"), mount.path("file")).unwrap();
    assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "other");
    assert_eq!(early.metadata().unwrap().nlink(), 0);
    fs::remove_file(mount.path("file")).unwrap();
    let mut text = Vec::new();
    (&early).read_to_end(&mut text).unwrap();
    assert_eq!(text.len(), BIG);
}

#[test]
fn descriptors_of_one_file_of_the_top_branch_see_each_other() {
    let scratch = Scratch::new();
    scratch.file("top/file", "before");
    let mount = mount(&scratch, "passthrough", &["top", "low"]);
    let reader = File::open(mount.path("file")).unwrap();
    let writer = OpenOptions::new().read(true).write(true).open(mount.path("file")).unwrap();
    writer.write_all_at(b"after!", 0).unwrap();
    let mut text = [0; 6];
    reader.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"after!");
    // Directly from a disk's view, O_DIRECT or not, it is one file.
    let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
    let direct = OpenOptions::new().read(true).custom_flags(flags).open(mount.path("file")).unwrap();
    writer.write_all_at(b"then", 0).unwrap();
    writer.sync_all().unwrap();
    let dd = format!("dd if={} iflag=direct bs=4096 status=none", mount.path("file").display());
    assert_eq!(sh(dd).ok().out, "thenr!");
    drop(direct);
    drop((reader, writer));
    assert_eq!(fs::read_to_string(scratch.path("top/file")).unwrap(), "thenr!");
}

#[test]
fn pages_of_served_files_never_outlive_a_write_by_the_kernel() {
    let scratch = Scratch::new();
    scratch.file("top/file", "one!");
    fs::set_permissions(scratch.path("top/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    let mount = mount(&scratch, "passthrough", &["top", "low"]);
    // Set-id bits: a writer is served, and its pages are cached.
    let served = OpenOptions::new().read(true).write(true).open(mount.path("file")).unwrap();
    let mut text = [0; 4];
    served.read_exact_at(&mut text, 0).unwrap();
    drop(served);
    fs::set_permissions(mount.path("file"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(mount.path("file"), "two!").unwrap();
    fs::set_permissions(mount.path("file"), fs::Permissions::from_mode(0o4755)).unwrap();
    let served = OpenOptions::new().read(true).write(true).open(mount.path("file")).unwrap();
    served.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"two!");
}

#[test]
fn an_ordinary_writer_clears_set_id_bits_also_when_they_came_after_its_open() {
    let scratch = Scratch::new();
    scratch.file("top/file", "text");
    fs::set_permissions(scratch.path("top/file"), fs::Permissions::from_mode(0o666)).unwrap();
    chown(scratch.path("top/file"), Some(1000), Some(1000)).unwrap();
    let mount = mount(&scratch, "passthrough", &["top", "low"]);
    fs::set_permissions(scratch.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = mount.path("file");
    // Root and the user hold it at once: the kernel's own writes are the user's only for the user.
    let _root = OpenOptions::new().append(true).open(&file).unwrap();
    let script = format!("exec 3>>{0}; chmod 4755 {0}; stat -c %a {0} >&2; echo more >&3", file.display());
    sh(format!("setpriv --reuid=1000 --regid=1000 --clear-groups sh -c '{script}'")).ok().says("4755");
    wait_until("the bits are gone", || fs::metadata(&file).unwrap().mode() & 0o7777 == 0o755);
    assert_eq!(fs::metadata(scratch.path("top/file")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn what_is_changed_through_a_mapping_has_a_new_time() {
    let scratch = Scratch::new();
    scratch.file("top/file", "a".repeat(4096));
    let mount = mount(&scratch, "passthrough", &["top", "low"]);
    let file = mount.path("file");
    sh(format!("touch -d 2001-01-01 {}", file.display())).ok();
    assert_eq!(fs::metadata(&file).unwrap().mtime(), 978_307_200);
    let script = "import mmap,sys,os
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 0)
m[0] = 66
m.flush()
assert os.stat(sys.argv[1]).st_mtime > 1e9, os.stat(sys.argv[1]).st_mtime";
    run(std::process::Command::new("python3").args(["-c", script]).arg(&file)).ok();
    assert!(fs::metadata(&file).unwrap().mtime() > 1_000_000_000);
    assert_eq!(fs::read(scratch.path("top/file")).unwrap()[0], b'B');
}

#[test]
fn space_of_a_removed_file_comes_back_although_its_backing_was_kept() {
    let scratch = Scratch::new();
    scratch.tmpfs("top");
    scratch.dir("low");
    let mount = mount(&scratch, "passthrough", &["top", "low"]);
    let free = || rustix::fs::statvfs(mount.dir()).unwrap().f_bfree;
    let before = free();
    fs::write(mount.path("file"), vec![1; 8 << 20]).unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap().len(), 8 << 20);
    assert!(free() + 1000 < before);
    fs::remove_file(mount.path("file")).unwrap();
    wait_until("the space is free again", || free() + 100 > before);
    // The same while it is open: it goes with the last close.
    fs::write(mount.path("file"), vec![1; 8 << 20]).unwrap();
    let file = File::open(mount.path("file")).unwrap();
    fs::remove_file(mount.path("file")).unwrap();
    assert!(free() + 1000 < before);
    drop(file);
    wait_until("the space is free again", || free() + 100 > before);
}

#[test]
fn branches_on_a_stacked_filesystem_are_served() {
    let scratch = Scratch::new();
    for dir in ["l", "u", "w", "ovl", "top", "low"] {
        scratch.dir(dir);
    }
    let root = scratch.root().display().to_string();
    scratch.file("l/file", vec![b'x'; BIG]);
    let ovl = format!("lowerdir={root}/l,upperdir={root}/u,workdir={root}/w");
    sh(format!("mount -t overlay -o {ovl} overlay {root}/ovl")).ok();
    let mount = mount(&scratch, "passthrough", &["top", "ovl", "low"]);
    let early = File::open(mount.path("file")).unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap().len(), BIG);
    fs::write(mount.path("file"), "new").unwrap();
    // Served: AUFS's answer.
    let mut text = String::new();
    (&early).read_to_string(&mut text).unwrap();
    assert_eq!(text, "new");
    drop(early);
    mount.unmount();
    sh(format!("umount {root}/ovl")).ok();
}
