//! What the engine tells a kernel that reads and writes files by itself; the kernel is played here.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use plyfs_sys::Errno;
use plyfs_union::spec::{Bounds, MountSpec};
use plyfs_union::{Backings, Ino, OpenHow, Opened, Pages};

use crate::bench::{BOTH_RW, Branches, READ, READ_WRITE, RO, RW, Tree, UP_LOW, errno};
use crate::metacopy::{bytes, content, is_bare, one, same};
use crate::races::unless_hung;

/// The kernel's files; their numbers count from 1.
#[derive(Debug, Default)]
struct Kernel(Mutex<Vec<OwnedFd>>);

impl Backings for Kernel {
    fn register(&self, file: BorrowedFd<'_>, _: bool) -> plyfs_sys::Result<i32> {
        let mut all = self.0.lock().unwrap();
        all.push(file.try_clone_to_owned().unwrap());
        Ok(i32::try_from(all.len()).unwrap())
    }

    fn release(&self, _: i32) {}
}

impl Kernel {
    fn of(tree: &Tree) -> Arc<Kernel> {
        let kernel = Arc::new(Kernel::default());
        tree.connect(kernel.clone());
        kernel
    }

    /// Writes as the kernel does: it opens the file once more.
    fn write(&self, id: i32, offset: u64, data: &[u8]) {
        let fd = self.0.lock().unwrap()[usize::try_from(id).unwrap() - 1].as_fd().as_raw_fd();
        let file = File::options().write(true).open(format!("/proc/self/fd/{fd}")).unwrap();
        file.write_all_at(data, offset).unwrap();
    }
}

/// open(2): ESTALE makes the kernel look the name up again, once.
fn open(tree: &Tree, path: &str, how: OpenHow) -> (Ino, Opened) {
    let ino = tree.ino(path);
    match tree.open_file(ino, how) {
        Ok(opened) => (ino, opened),
        Err(_) => {
            let ino = tree.ino(path);
            (ino, tree.open_file(ino, how).unwrap())
        }
    }
}

const DIRECT: OpenHow = OpenHow { direct: true, ..READ_WRITE };

#[test]
fn nobody_writes_what_a_copy_of_metadata_alone_reads() {
    let branches = one();
    branches.dir("up/d");
    let stack = &[("up", RW), ("mid", RW), ("low", RO)];
    let tree = branches.open(stack);
    tree.chmod(tree.ino("d/f"), 0o600).unwrap();
    drop(tree);
    is_bare(&branches, "up/d/f");
    let tree = branches.open(stack);
    let kernel = Kernel::of(&tree);
    let (_, reader) = open(&tree, "d/f", READ);
    assert!(reader.backing.is_some());
    let (_, writer) = open(&tree, "d/f", READ_WRITE);
    match writer.backing {
        Some(id) => kernel.write(id, 0, b"NEW"),
        None => assert_eq!(tree.write(writer.fh, 0, b"NEW", false).unwrap(), 3),
    }
    same(&fs::read(branches.path("low/d/f")).unwrap(), &content());
    assert_eq!(&bytes(&tree, "d/f")[..3], b"NEW");
}

#[test]
fn a_node_is_left_behind_although_the_listing_was_dropped() {
    let branches = one();
    for at in 0..20 {
        branches.file(&format!("low/other/{at}"), "x");
    }
    let mut spec = MountSpec::default();
    spec.speed.bounds = Bounds { index_lines: 10, ..Bounds::default() };
    let tree = branches.open_with(UP_LOW, spec);
    let _kernel = Kernel::of(&tree);
    let (old, reader) = open(&tree, "d/f", READ);
    assert!(reader.backing.is_some());
    for _ in 0..3 {
        (0..20).for_each(|at| assert_eq!(tree.text(&format!("other/{at}")), "x"));
    }
    assert_eq!(errno(tree.open_file(old, READ_WRITE)), Errno::STALE);
    let (new, writer) = open(&tree, "d/f", READ_WRITE);
    assert_ne!(new, old);
    tree.write(writer.fh, 0, b"NEW", false).unwrap();
    tree.release(reader.fh);
    tree.forget(old, 1);
    for _ in 0..3 {
        (0..20).for_each(|at| assert_eq!(tree.text(&format!("other/{at}")), "x"));
    }
    assert_eq!(tree.ino("d/f"), new);
}

#[test]
fn a_file_stays_where_it_is_while_a_node_left_behind_writes_it() {
    let branches = Branches::new();
    branches.file("low/f", "old");
    branches.file("up/x", "x");
    let tree = branches.open(BOTH_RW);
    let kernel = Kernel::of(&tree);
    let (old, writer) = open(&tree, "f", READ_WRITE);
    let id = writer.backing.unwrap();
    let (new, direct) = open(&tree, "f", DIRECT);
    assert!(new != old && direct.backing.is_none() && direct.pages == Pages::Bypass);
    assert_eq!(errno(tree.mv("f", "x")), Errno::XDEV);
    kernel.write(id, 0, b"new");
    assert_eq!(tree.text("f"), "new");
}

#[test]
fn pages_are_dropped_after_a_writer_has_joined_readers() {
    let branches = Branches::new();
    branches.file("up/f", "text");
    let tree = branches.open(UP_LOW);
    let _kernel = Kernel::of(&tree);
    let ino = tree.ino("f");
    let served = || {
        tree.chmod(ino, 0o4755).unwrap();
        let opened = tree.open_file(ino, READ_WRITE).unwrap();
        assert!(opened.backing.is_none());
        tree.release(opened.fh);
        tree.chmod(ino, 0o755).unwrap();
        opened.pages
    };
    assert_eq!(served(), Pages::Hold);
    let reader = tree.open_file(ino, READ).unwrap();
    let writer = tree.open_file(ino, READ_WRITE).unwrap();
    assert!(reader.backing.is_some() && reader.backing == writer.backing);
    tree.release(writer.fh);
    tree.release(reader.fh);
    assert_eq!(served(), Pages::Drop);
    assert_eq!(served(), Pages::Hold);
}

#[test]
fn opening_for_writing_and_changing_metadata_at_once() {
    const FILES: usize = 400;
    unless_hung(|| {
        let branches = Branches::new();
        branches.dir("low");
        for at in 0..FILES {
            File::create(branches.path(&format!("low/{at}"))).unwrap().set_len(100 << 10).unwrap();
        }
        let tree = branches.open(UP_LOW);
        let _kernel = Kernel::of(&tree);
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                for at in 0..FILES {
                    let ino = tree.ino(&at.to_string());
                    barrier.wait();
                    tree.chmod(ino, 0o600).unwrap();
                }
            });
            for at in 0..FILES {
                let ino = tree.ino(&at.to_string());
                barrier.wait();
                // Until the change has come in between.
                for _ in 0..20 {
                    let opened = tree.open_file(ino, READ_WRITE).unwrap();
                    assert!(opened.backing.is_none());
                    tree.release(opened.fh);
                }
                let opened = tree.open_file(ino, READ_WRITE).unwrap();
                tree.write(opened.fh, 0, b"NEW", false).unwrap();
                tree.release(opened.fh);
            }
        });
        for at in 0..FILES {
            assert_eq!(&bytes(&tree, &at.to_string())[..3], b"NEW");
        }
    });
}

#[test]
fn what_is_written_while_a_file_moves_between_branches_is_not_lost() {
    unless_hung(|| {
        for _ in 0..5 {
            let branches = Branches::new();
            branches.file("up/x", "x");
            branches.dir("low");
            fs::write(branches.path("low/f"), vec![0; 64 << 20]).unwrap();
            let tree = branches.open(BOTH_RW);
            let kernel = Kernel::of(&tree);
            let ino = tree.ino("f");
            tree.ino("x");
            let before = fs::read_dir(branches.path("up")).unwrap().count();
            thread::scope(|scope| {
                let mover = scope.spawn(|| tree.mv("f", "x"));
                // The copy has begun: it has a name of its own already.
                let begun = || fs::read_dir(branches.path("up")).unwrap().count() > before;
                while !begun() && !mover.is_finished() {
                    thread::yield_now();
                }
                let opened = tree.open_file(ino, READ_WRITE).unwrap();
                match opened.backing {
                    Some(id) => kernel.write(id, 0, b"NEW"),
                    None => assert_eq!(tree.write(opened.fh, 0, b"NEW", false).unwrap(), 3),
                }
                tree.release(opened.fh);
                mover.join().unwrap().unwrap();
            });
            let file = tree.open_file(tree.ino("x"), READ).unwrap();
            let mut text = [0; 3];
            tree.read(file.fh, 0, &mut text).unwrap();
            assert_eq!(&text, b"NEW");
        }
    });
}

#[test]
fn a_name_that_is_added_while_the_node_is_left_behind_is_the_new_ones() {
    const ROUNDS: usize = 400;
    unless_hung(|| {
        let branches = Branches::new();
        for at in 0..ROUNDS {
            let path = branches.file(&format!("up/{at}"), "text");
            branches.dir(&format!("up/other{at}"));
            fs::hard_link(&path, branches.path(&format!("up/other{at}/second"))).unwrap();
        }
        let tree = branches.open(UP_LOW);
        let _kernel = Kernel::of(&tree);
        let barrier = Barrier::new(3);
        for at in 0..ROUNDS {
            let name = at.to_string();
            let (ino, _) = open(&tree, &name, READ);
            let other = tree.ino(&format!("other{at}"));
            thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    tree.link(ino, other, OsStr::new("third")).unwrap();
                });
                scope.spawn(|| {
                    barrier.wait();
                    tree.lookup(other, OsStr::new("second")).unwrap().unwrap();
                });
                barrier.wait();
                assert_eq!(errno(tree.open_file(ino, DIRECT)), Errno::STALE);
            });
            let names = [name.clone(), format!("other{at}/second"), format!("other{at}/third")];
            let [first, second, third] = names.map(|name| open(&tree, &name, DIRECT).0);
            assert_eq!((first, first), (second, third), "round {at}");
        }
    });
}

#[test]
fn a_file_that_was_replaced_on_its_branch_stays_with_who_has_it_open() {
    let branches = Branches::new();
    branches.file("up/f", "old");
    let tree = branches.open(UP_LOW);
    let _kernel = Kernel::of(&tree);
    let (ino, first) = open(&tree, "f", READ);
    let (_, second) = open(&tree, "f", READ);
    assert!(first.backing.is_some() && first.backing == second.backing);
    tree.release(first.fh);
    branches.file("new", "new");
    fs::rename(branches.path("new"), branches.path("up/f")).unwrap();
    tree.branch_changed(0, "f".as_ref()).unwrap();
    assert_eq!(tree.text("f"), "new");
    assert_eq!(tree.getattr(ino, None).unwrap().size, 3);
    assert_eq!(tree.read_open(second.fh), "old");
    tree.release(second.fh);
}
