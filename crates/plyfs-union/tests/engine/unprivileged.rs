//! As an ordinary user, who may neither give files away nor write what is read-only to him.
//!
//! A test that root runs prepares the branches and starts this program again, as nobody, with itself as the one test.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use plyfs_sys::Errno;
use plyfs_sys::cred::effective_uid;
use plyfs_union::{SetAttr, SetTime};

use crate::bench::{Branches, READ, UP_LOW, errno};

const NOBODY: u32 = 65534;
/// Where the branches are, for the process that is nobody.
const PLACE: &str = "PLYFS_ENGINE_PLACE";

/// Prepares branches as root and does `work` with them as nobody. `name` is the test's.
fn as_nobody(name: &str, prepare: impl FnOnce(&Branches), work: impl FnOnce(&Branches)) {
    if let Some(place) = std::env::var_os(PLACE) {
        assert_eq!(effective_uid(), NOBODY);
        return work(&Branches::at(place));
    }
    if effective_uid() != 0 {
        eprintln!("SKIPPED {name}: needs root to prepare files of several owners");
        return;
    }
    let branches = Branches::new();
    for dir in ["", "up", "low"] {
        give(&branches, dir, 0o755);
    }
    prepare(&branches);
    // By this link it is found also where nobody may not go.
    let mut again = Command::new("/proc/self/exe");
    again.args(["--exact", &format!("unprivileged::{name}"), "--nocapture"]);
    let ran = again.env(PLACE, branches.path("")).uid(NOBODY).gid(NOBODY).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.contains("1 passed"), "as nobody: {out}\n{err}");
}

/// Makes `path` nobody's; a name that is not there becomes a directory.
fn give(branches: &Branches, path: &str, mode: u32) {
    let real = branches.path(path);
    if !real.exists() {
        branches.dir(path);
    }
    chown(&real, Some(NOBODY), Some(NOBODY)).unwrap();
    set_mode(branches, path, mode);
}

fn set_mode(branches: &Branches, path: &str, mode: u32) {
    fs::set_permissions(branches.path(path), PermissionsExt::from_mode(mode)).unwrap();
}

/// A file of nobody's.
fn file(branches: &Branches, path: &str, mode: u32) {
    branches.file(path, "text");
    give(branches, path, mode);
}

#[test]
fn read_only_files_can_be_copied_up() {
    let prepare = |branches: &Branches| {
        for name in ["low/f", "low/g", "low/w"] {
            file(branches, name, 0o444);
        }
    };
    as_nobody("read_only_files_can_be_copied_up", prepare, |branches| {
        let tree = branches.open(UP_LOW);
        assert_eq!(tree.chmod(tree.ino("f"), 0o644).unwrap(), 0o644);
        tree.at("g");
        tree.mv("g", "g2").unwrap();
        let times = SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() };
        tree.setattr(tree.ino("w"), None, &times).unwrap();
        drop(tree);
        let tree = branches.open(UP_LOW);
        for (name, perm) in [("f", 0o644), ("g2", 0o444), ("w", 0o444)] {
            let entry = tree.at(name);
            assert_eq!((entry.attr.perm, tree.read_ino(entry.ino)), (perm, "text".to_owned()));
            assert!(branches.path("up").join(name).is_file());
        }
        assert!(tree.find("g").unwrap().is_none());
    });
}

#[test]
fn a_read_only_copy_without_data_can_get_its_data() {
    let name = "a_read_only_copy_without_data_can_get_its_data";
    let text = "x".repeat(200_000);
    let prepare = |branches: &Branches| {
        branches.file("low/f", &text);
        give(branches, "low/f", 0o644);
    };
    as_nobody(name, prepare, |branches| {
        let tree = branches.open(UP_LOW);
        let ino = tree.ino("f");
        let file = tree.open_file(ino, READ).unwrap().fh;
        assert_eq!(tree.chmod(ino, 0o444).unwrap(), 0o444);
        assert!(fs::metadata(branches.path("up/f")).unwrap().blocks() < 64);
        assert_eq!(tree.read_open(file), "x".repeat(256));
        let size = SetAttr { size: Some(200_001), ..SetAttr::default() };
        // The data comes; the cut itself is refused by the mode, as on any copy.
        assert_eq!(errno(tree.setattr(ino, None, &size)), Errno::ACCESS);
        let copy = fs::read_to_string(branches.path("up/f")).unwrap();
        assert!(copy == text && branches.mode("up/f") == 0o444);
        assert_eq!(tree.read_open(file), "x".repeat(256));
    });
}

#[test]
fn read_only_directories_can_be_copied_up() {
    let prepare = |branches: &Branches| {
        file(branches, "low/d/k/f", 0o444);
        give(branches, "low/d/k", 0o555);
        for name in ["low/d", "low/e", "low/t"] {
            give(branches, name, 0o555);
        }
    };
    as_nobody("read_only_directories_can_be_copied_up", prepare, |branches| {
        let tree = branches.open(UP_LOW);
        tree.at("d");
        tree.mv("d", "d2").unwrap();
        assert_eq!(tree.chmod(tree.ino("e"), 0o755).unwrap(), 0o755);
        tree.make("e/new").unwrap();
        let times = SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() };
        tree.setattr(tree.ino("t"), None, &times).unwrap();
        drop(tree);
        let tree = branches.open(UP_LOW);
        assert!(tree.find("d").unwrap().is_none());
        for (path, perm) in [("d2", 0o555), ("d2/k", 0o555), ("e", 0o755), ("t", 0o555)] {
            assert_eq!(tree.at(path).attr.perm, perm, "{path}");
        }
        assert_eq!(tree.text("d2/k/f"), "text");
        assert_eq!(tree.names(tree.ino("e")).unwrap(), ["new"]);
        assert_eq!(branches.mode("up/t"), 0o555);
    });
}

#[test]
fn a_directory_that_may_only_be_searched_is_passed_through_and_not_listed() {
    let prepare = |branches: &Branches| {
        branches.file("low/x/f", "root's");
        set_mode(branches, "low/x/f", 0o644);
        set_mode(branches, "low/x", 0o711);
    };
    as_nobody(
        "a_directory_that_may_only_be_searched_is_passed_through_and_not_listed",
        prepare,
        |branches| {
            let tree = branches.open(UP_LOW);
            let x = tree.ino("x");
            assert_eq!(tree.text("x/f"), "root's");
            assert!(tree.find("x/absent").unwrap().is_none());
            assert_eq!(errno(tree.names(x)), Errno::ACCESS);
            assert_eq!(tree.text("x/f"), "root's");
        },
    );
}

#[test]
fn set_id_bits_go_where_the_owner_cannot_be_kept() {
    let prepare = |branches: &Branches| {
        for (name, mode) in [("low/suid", 0o4755), ("low/sgid", 0o2755)] {
            branches.file(name, "root's");
            set_mode(branches, name, mode);
        }
        file(branches, "low/own", 0o4755);
    };
    as_nobody("set_id_bits_go_where_the_owner_cannot_be_kept", prepare, |branches| {
        let tree = branches.open(UP_LOW);
        for (name, mode) in [("suid", 0o755), ("sgid", 0o755), ("own", 0o4755)] {
            let ino = tree.ino(name);
            assert_ne!(tree.getattr(ino, None).unwrap().perm & 0o6000, 0);
            tree.mark(ino).unwrap();
            assert_eq!(tree.getattr(ino, None).unwrap().perm, mode, "{name}");
            let copy = fs::metadata(branches.path("up").join(name)).unwrap();
            assert_eq!((copy.mode() & 0o7777, copy.uid()), (mode, NOBODY), "{name}");
        }
    });
}

#[test]
fn things_in_a_read_only_directory_can_be_copied_up() {
    let prepare = |branches: &Branches| {
        file(branches, "low/e/f", 0o644);
        file(branches, "low/d/k/f", 0o644);
        give(branches, "low/d/k", 0o755);
        for name in ["low/d", "low/e"] {
            give(branches, name, 0o555);
        }
    };
    as_nobody("things_in_a_read_only_directory_can_be_copied_up", prepare, |branches| {
        let tree = branches.open(UP_LOW);
        assert_eq!(tree.chmod(tree.ino("e/f"), 0o600).unwrap(), 0o600);
        tree.make("d/k/new").unwrap();
        for name in ["up/d", "up/e"] {
            assert_eq!(branches.mode(name), 0o555, "{name}");
        }
        drop(tree);
        let tree = branches.open(UP_LOW);
        assert_eq!(tree.at("e/f").attr.perm, 0o600);
        assert!(tree.find("d/k/new").unwrap().is_some());
    });
}

#[test]
fn a_branch_that_was_moved_away_is_named_and_stale() {
    let names = crate::caches::names();
    as_nobody(
        "a_branch_that_was_moved_away_is_named_and_stale",
        |branches| {
            give(branches, "layers", 0o755);
            for name in &names {
                give(branches, name, 0o755);
            }
            file(branches, "layers/7/f", 0o644);
        },
        |branches| {
            let tree = branches.open(&crate::caches::stack(&names));
            let f = tree.ino("f");
            fs::rename(branches.path("layers/7"), branches.path("layers/moved")).unwrap();
            tree.idle();
            let refused = tree.getattr(f, None).unwrap_err();
            assert_eq!(refused.errno(), Errno::STALE.raw_os_error());
            assert!(refused.to_string().contains("layers/7"), "{refused}");
            // Another directory of that name is not taken for it.
            branches.dir("layers/7");
            assert!(tree.getattr(f, None).is_err());
            fs::remove_dir(branches.path("layers/7")).unwrap();
            fs::rename(branches.path("layers/moved"), branches.path("layers/7")).unwrap();
            assert!(tree.getattr(f, None).is_ok(), "back in its place it serves");
        },
    );
}
