//! Two threads at once, many rounds: nothing acknowledged is lost, nobody hangs, one object stays one node.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use plyfs_sys::Errno;
use plyfs_union::{Caller, Fh, Ino, RenameFlags};

use crate::bench::{BOTH_RW, Branches, PLAIN, READ, READ_WRITE, Tree, UP_LOW, errno};

/// When a round that never ends is given up; far more than any round takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `body` on a thread and panics, so that the suite ends, if it hangs.
pub(crate) fn unless_hung(body: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let worker = thread::spawn(move || {
        body();
        drop(done);
    });
    assert_eq!(wait.recv_timeout(PATIENCE), Err::<(), _>(mpsc::RecvTimeoutError::Disconnected), "hung");
    worker.join().unwrap();
}

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 2048;

/// Counts the blocks that hold a write of `text`.
fn written(tree: &Tree, ino: Ino, count: u64) -> u64 {
    let file = tree.open_file(ino, READ).unwrap().fh;
    let mut buf = [0_u8; 8];
    let found = (0..count).filter(|at| {
        tree.read(file, at * BLOCK, &mut buf).unwrap();
        buf == [1; 8]
    });
    let found = found.count() as u64;
    tree.release(file);
    found
}

/// One round: writes into `a` while it is renamed over `x`, whose branch is higher.
fn write_while_renaming() {
    let branches = Branches::new();
    let zeros = vec![0_u8; (BLOCK * BLOCKS) as usize];
    std::fs::write(branches.dir("low").join("a"), zeros).unwrap();
    branches.file("up/x", "x");
    let tree = branches.open(BOTH_RW);
    let a = tree.ino("a");
    tree.at("x");
    let file = tree.open_file(a, READ_WRITE).unwrap().fh;
    let (under_way, renamed) = (Barrier::new(2), AtomicBool::new(false));
    let count = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut after = 0;
            for at in 0..BLOCKS {
                tree.write(file, at * BLOCK, &[1; 8], false).unwrap();
                if at == 16 {
                    under_way.wait();
                }
                after += u64::from(renamed.load(Ordering::Relaxed));
                if after > 16 {
                    return at + 1;
                }
                thread::yield_now();
            }
            BLOCKS
        });
        under_way.wait();
        tree.mv("a", "x").unwrap();
        renamed.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert_eq!(written(&tree, a, count), count);
    tree.release(file);
    drop(tree);
    let tree = branches.open(BOTH_RW);
    assert_eq!(written(&tree, tree.ino("x"), count), count);
    assert!(tree.find("a").unwrap().is_none());
}

#[test]
fn no_write_is_lost_while_the_file_is_renamed_to_a_higher_branch() {
    for _ in 0..8 {
        write_while_renaming();
    }
}

#[test]
fn two_hard_linked_names_looked_up_at_once_are_one_node() {
    const PAIRS: usize = 400;
    let branches = Branches::new();
    for at in 0..PAIRS {
        branches.file(&format!("low/a{at}"), "old");
        branches.hard_link(&format!("low/a{at}"), &format!("low/b{at}"));
    }
    let tree = branches.open(UP_LOW);
    tree.names(Ino::ROOT).unwrap();
    let barrier = Barrier::new(2);
    let look = |prefix: &str| -> Vec<Ino> {
        let one = |at| {
            barrier.wait();
            tree.ino(&format!("{prefix}{at}"))
        };
        (0..PAIRS).map(one).collect()
    };
    let (a, b) = thread::scope(|scope| {
        let (a, b) = (scope.spawn(|| look("a")), scope.spawn(|| look("b")));
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!(a, b);
    for at in 0..8 {
        tree.put(a[at], "NEW");
        tree.chmod(b[at], 0o600).unwrap();
    }
    drop(tree);
    // One copy each.
    assert_eq!(branches.copies("up", "NEW").len(), 8);
    assert_eq!(branches.copies("up", "old").len(), 0);
    let tree = branches.open(UP_LOW);
    for at in 0..8 {
        let (a, b) = (tree.at(&format!("a{at}")), tree.at(&format!("b{at}")));
        assert_eq!((a.ino, a.attr.perm, a.attr.nlink), (b.ino, 0o600, 2));
        assert_eq!(tree.read_ino(b.ino), "NEW");
    }
}

#[test]
fn two_hard_linked_names_copied_up_at_once_are_one_copy() {
    const PAIRS: usize = 60;
    let branches = Branches::new();
    for at in 0..PAIRS {
        branches.file(&format!("low/a{at}"), "old");
        branches.hard_link(&format!("low/a{at}"), &format!("low/b{at}"));
    }
    let tree = branches.open(UP_LOW);
    tree.names(Ino::ROOT).unwrap();
    let barrier = Barrier::new(2);
    let work = |prefix: &str, offset: u64| {
        for at in 0..PAIRS {
            barrier.wait();
            let file = tree.open_file(tree.ino(&format!("{prefix}{at}")), READ_WRITE).unwrap().fh;
            tree.write(file, offset, b"NEW", false).unwrap();
            tree.release(file);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| work("a", 0));
        scope.spawn(|| work("b", 3));
    });
    drop(tree);
    assert_eq!(branches.copies("up", "NEWNEW").len(), PAIRS);
    let tree = branches.open(UP_LOW);
    for at in 0..PAIRS {
        assert_eq!(tree.text(&format!("a{at}")), "NEWNEW");
        assert_eq!(tree.text(&format!("b{at}")), "NEWNEW");
        assert_eq!(tree.ino(&format!("a{at}")), tree.ino(&format!("b{at}")));
    }
}

#[test]
fn a_directory_copied_up_while_first_listed_can_be_created_in() {
    const DIRS: usize = 300;
    let branches = Branches::new();
    for at in 0..DIRS {
        for name in ["f", "g", "h"] {
            branches.file(&format!("low/d{at}/{name}"), "");
        }
    }
    let tree = branches.open(UP_LOW);
    let dirs: Vec<Ino> = (0..DIRS).map(|at| tree.ino(&format!("d{at}"))).collect();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for dir in &dirs {
                barrier.wait();
                tree.chmod(*dir, 0o711).unwrap();
            }
        });
        scope.spawn(|| {
            for dir in &dirs {
                barrier.wait();
                assert_eq!(tree.names(*dir).unwrap(), ["f", "g", "h"]);
            }
        });
    });
    for dir in &dirs {
        assert_eq!(tree.getattr(*dir, None).unwrap().perm, 0o711);
        tree.mknod(&Caller::me(), *dir, "new".as_ref(), PLAIN).unwrap();
        assert_eq!(tree.names(*dir).unwrap(), ["f", "g", "h", "new"]);
    }
}

/// Asks for `ino`'s attributes by its open file while `name` is unlinked.
fn fstat_while_unlinking(tree: &Tree, name: &str, ino: Ino, file: Fh) {
    let (under_way, stop) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            under_way.wait();
            while !stop.load(Ordering::Relaxed) {
                tree.getattr(ino, Some(file)).unwrap();
            }
        });
        under_way.wait();
        tree.rm(name).unwrap();
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(tree.getattr(ino, Some(file)).unwrap().nlink, 0);
}

#[test]
fn fstat_of_an_open_file_never_fails_while_it_is_unlinked() {
    let branches = Branches::new();
    let tree = branches.open(UP_LOW);
    for at in 0..100 {
        let name = format!("f{at}");
        let (entry, opened) =
            tree.create(&Caller::me(), Ino::ROOT, name.as_ref(), 0o644, READ_WRITE).unwrap();
        let file = opened.fh;
        // Blocks to free: unlink takes its time.
        tree.fallocate(file, 0, 0, 1 << 20, false).unwrap();
        fstat_while_unlinking(&tree, &name, entry.ino, file);
        tree.release(file);
        tree.forget(entry.ino, 1);
    }
}

#[test]
fn fstat_of_an_open_lower_file_never_fails_while_it_is_unlinked() {
    let branches = Branches::new();
    for at in 0..100 {
        branches.file(&format!("low/f{at}"), "x");
    }
    let tree = branches.open(UP_LOW);
    for at in 0..100 {
        let name = format!("f{at}");
        let ino = tree.ino(&name);
        let file = tree.open_file(ino, READ).unwrap().fh;
        fstat_while_unlinking(&tree, &name, ino, file);
        assert_eq!(tree.read_open(file), "x");
        tree.release(file);
    }
}

#[test]
fn a_directory_rename_and_a_file_rename_between_the_two_never_hang() {
    const ROUNDS: u64 = 5000;
    let branches = Branches::new();
    let tree = Arc::new(branches.open(UP_LOW));
    for name in ["s2", "s1"] {
        tree.mkdir(&Caller::me(), Ino::ROOT, name.as_ref(), 0o755).unwrap();
    }
    for path in ["s2/x", "s2/z", "s1/z"] {
        tree.make(path).unwrap();
    }
    let work = tree.clone();
    unless_hung(move || {
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < ROUNDS {
                    assert_eq!(errno(work.mv("s1", "s2")), Errno::NOTEMPTY);
                }
            });
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    work.mv("s2/x", "s1/y").unwrap();
                    work.mv("s1/y", "s2/x").unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
    });
    assert_eq!(tree.names(tree.ino("s1")).unwrap(), ["z"]);
    assert_eq!(tree.names(tree.ino("s2")).unwrap(), ["x", "z"]);
}

#[test]
fn directories_that_change_places_and_files_between_them_never_hang() {
    const ROUNDS: u64 = 2000;
    let branches = Branches::new();
    let tree = Arc::new(branches.open(UP_LOW));
    for name in ["s1", "s2"] {
        tree.mkdir(&Caller::me(), Ino::ROOT, name.as_ref(), 0o755).unwrap();
    }
    tree.make("s2/x").unwrap();
    let (one, two) = (tree.ino("s1"), tree.ino("s2"));
    let work = tree.clone();
    unless_hung(move || {
        let flags = RenameFlags::empty();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let root = |name| (Ino::ROOT, OsStr::new(name));
                    work.rename(root("s1"), root("s2"), RenameFlags::EXCHANGE).unwrap();
                }
            });
            scope.spawn(|| {
                let there = |dir| (dir, OsStr::new("x"));
                for _ in 0..ROUNDS {
                    work.rename(there(two), there(one), flags).unwrap();
                    work.rename(there(one), there(two), flags).unwrap();
                }
            });
        });
    });
    assert_eq!(tree.names(two).unwrap(), ["x"]);
    assert_eq!(tree.names(one).unwrap(), Vec::<String>::new());
}
