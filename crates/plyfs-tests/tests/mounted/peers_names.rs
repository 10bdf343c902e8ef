//! What other unions get wrong, part two: long names, long paths, reserved names, odd characters in options.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use plyfs_tests::tree::names;
use plyfs_tests::{Mount, Scratch, plyfs, run, sh_in};
use rustix::io::Errno;

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    Errno::from_io_error(&result.expect_err("this should fail")).unwrap()
}

#[test]
fn names_over_name_max_fail_at_once() {
    let scratch = Scratch::new();
    scratch.file("low/file", "x");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let long = "n".repeat(256);
    for name in [long.clone(), "n".repeat(1000)] {
        let path = mount.path(&name);
        assert_eq!(errno(fs::symlink_metadata(&path)), Errno::NAMETOOLONG);
        assert_eq!(errno(fs::write(&path, "")), Errno::NAMETOOLONG);
        assert_eq!(errno(fs::create_dir(&path)), Errno::NAMETOOLONG);
        assert_eq!(errno(fs::remove_file(&path)), Errno::NAMETOOLONG);
        assert_eq!(errno(fs::rename(mount.path("file"), &path)), Errno::NAMETOOLONG);
        assert_eq!(errno(fs::hard_link(mount.path("file"), &path)), Errno::NAMETOOLONG);
        assert_eq!(errno(std::os::unix::fs::symlink("x", &path)), Errno::NAMETOOLONG);
    }
}

/// All that can happen to a name, with the longest that statfs promises.
#[test]
fn statfs_tells_the_truth_about_name_length() {
    let scratch = Scratch::new();
    let low = scratch.dir("low");
    let promised = {
        let mount = Mount::stack(&scratch, &["top", "low"]);
        rustix::fs::statvfs(mount.dir()).unwrap().f_namemax as usize
    };
    assert_eq!(promised, 255);
    let long = |letter: &str| letter.repeat(promised);
    scratch.file(low.join(long("l")), "below");
    scratch.file(low.join(long("d")).join(long("e")), "below");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    // From below: read, change, rename, delete. New: the same.
    let path = |letter: &str| mount.path(long(letter));
    assert_eq!(fs::read_to_string(path("l")).unwrap(), "below");
    fs::write(path("l"), "changed").unwrap();
    fs::rename(path("l"), path("m")).unwrap();
    fs::write(path("n"), "new").unwrap();
    fs::rename(path("n"), path("o")).unwrap();
    fs::hard_link(path("o"), path("p")).unwrap();
    fs::remove_file(path("d").join(long("e"))).unwrap();
    fs::remove_dir(path("d")).unwrap();
    fs::create_dir(path("d")).unwrap();
    let want = vec![long("d"), long("m"), long("o"), long("p")];
    assert_eq!(names(mount.dir()), want);
    assert!(names(path("d")).is_empty());
    mount.unmount();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    assert_eq!(names(mount.dir()), want, "after a remount");
    assert!(names(mount.path(long("d"))).is_empty());
    assert_eq!(fs::read_to_string(mount.path(long("m"))).unwrap(), "changed");
    assert!(low.join(long("l")).exists());
}

#[test]
fn strict_promises_242_and_keeps_it() {
    let scratch = Scratch::new();
    scratch.file("low/file", "x");
    let options = format!("strict,{}", plyfs_tests::mount::options(&scratch, &["top", "low"]));
    let mount = Mount::new(&options, scratch.dir("mnt"));
    assert_eq!(rustix::fs::statvfs(mount.dir()).unwrap().f_namemax, 242);
    fs::write(mount.path("n".repeat(242)), "").unwrap();
    assert_eq!(errno(fs::write(mount.path("n".repeat(243)), "")), Errno::NAMETOOLONG);
}

#[test]
fn paths_near_path_max_work() {
    let scratch = Scratch::new();
    scratch.dir("low");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    // 4095 bytes in all (the final NUL makes PATH_MAX), from names of 200.
    let mut path = PathBuf::from(mount.dir());
    while path.as_os_str().len() + 201 + 50 < 4095 {
        path.push("p".repeat(200));
    }
    fs::create_dir_all(&path).unwrap();
    let rest = 4095 - path.as_os_str().len() - 1;
    let first = path.join("f".repeat(rest.min(250)));
    fs::write(&first, "far").unwrap();
    fs::write(&first, "far away").unwrap();
    assert_eq!(fs::read_to_string(&first).unwrap(), "far away");
    let second = path.join("g".repeat(rest.min(250)));
    fs::rename(&first, &second).unwrap();
    fs::remove_file(&second).unwrap();
    // Deeper than any one path can say, from inside.
    let line = "for i in $(seq 60); do mkdir d$(printf %0200d 0); cd -P d$(printf %0200d 0); done; echo x > end; cat end";
    let ran = sh_in(mount.dir(), line);
    assert!(ran.out.ends_with("x\n"), "{ran:#?}");
    sh_in(mount.dir(), "rm -rf d* p*").ok();
    assert!(names(mount.dir()).is_empty());
}

#[test]
fn reserved_names_cannot_be_made_or_seen() {
    let scratch = Scratch::new();
    scratch.file("low/dir/file", "x");
    scratch.file("low/dir/.wh.other", "");
    scratch.file("low/.wh..wh.plnk/1.2", "");
    scratch.file("low/.wh..wh.aufs", "");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    for name in [".wh.file", ".wh..wh..opq", ".wh..wh.aufs", ".wh."] {
        for place in ["", "dir"] {
            let path = mount.path(place).join(name);
            assert_eq!(errno(fs::write(&path, "")), Errno::PERM, "{name}");
            assert_eq!(errno(fs::create_dir(&path)), Errno::PERM, "{name}");
            assert_eq!(errno(fs::rename(mount.path("dir/file"), &path)), Errno::PERM, "{name}");
            assert_eq!(errno(fs::hard_link(mount.path("dir/file"), &path)), Errno::PERM, "{name}");
            assert!(!path.exists(), "{name}");
        }
    }
    fs::remove_file(mount.path("dir/file")).unwrap();
    assert!(names(mount.path("dir")).is_empty(), "whiteouts do not show: {:?}", names(mount.path("dir")));
    assert_eq!(names(mount.dir()), ["dir"]);
    // Names that only look like it.
    for name in [".wh", ".whale", "a.wh.b"] {
        fs::write(mount.path(name), "").unwrap();
    }
    assert_eq!(names(mount.dir()), [".wh", ".whale", "a.wh.b", "dir"]);
}

#[test]
fn escaped_colons_and_commas_in_option_paths() {
    let scratch = Scratch::new();
    scratch.file("l:o,w/file", "odd");
    scratch.dir("t:o,p");
    scratch.dir("w:o,r");
    let root = scratch.root().display().to_string();
    let aufs = format!(r"br:{root}/t\:o\,p=rw:{root}/l\:o\,w=ro");
    let overlay = format!(r"lowerdir={root}/l\:o\,w,upperdir={root}/t\:o\,p,workdir={root}/w\:o\,r");
    for options in [aufs, overlay] {
        let mount = Mount::new(&options, scratch.dir("mnt"));
        assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "odd", "{options}");
        fs::write(mount.path("new"), "").unwrap();
        fs::remove_file(scratch.path("t:o,p/new")).unwrap();
        // What status shows names the real folders.
        let status = run(plyfs().arg("status").arg(mount.dir())).ok();
        assert!(status.out.contains("l:o,w") || status.out.contains(r"l\:o"), "{}", status.out);
    }
}

#[test]
fn names_of_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    let low = scratch.dir("low");
    let odd: Vec<&[u8]> = vec![b"\xff\xfe", b"new\nline", b" ", b"-rf", b"*", b"\\", b"\x01", b"..."];
    for name in &odd {
        fs::write(low.join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    for name in &odd {
        let path = mount.path(std::ffi::OsStr::from_bytes(name));
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
        fs::write(&path, "y").unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "z").unwrap();
    }
    let seen = Command::new("ls").arg("-1U").arg(mount.dir()).output().unwrap();
    assert_eq!(fs::read_dir(mount.dir()).unwrap().count(), odd.len(), "{seen:?}");
}
