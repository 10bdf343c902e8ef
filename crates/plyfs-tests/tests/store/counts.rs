//! Get and Put: counted across handles and processes, right again after whatever became of a mount.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use plyfs_store::{Driver, MountError, Mounter};
use plyfs_sys::mounts::{self, MountFlags, UnmountFlags};
use plyfs_tests::mount::{is_mounted, kill, mount_lines, servers_of, wait_until};
use plyfs_tests::{Scratch, require_root, sh};
use plyfs_union::spec::MountSpec;
use rustix::process::Signal;

use super::common::{Real, id, layer, store};
use super::worker;

/// Mounts a tmpfs in place of a union, and counts how often.
#[derive(Debug, Default)]
struct Counting {
    mounts: AtomicUsize,
    unmounts: AtomicUsize,
    fails: bool,
}

impl Counting {
    fn so_far(&self) -> (usize, usize) {
        (self.mounts.load(Ordering::Relaxed), self.unmounts.load(Ordering::Relaxed))
    }
}

impl Mounter for Counting {
    fn mount(&self, _: &MountSpec, target: &Path) -> Result<(), MountError> {
        self.mounts.fetch_add(1, Ordering::Relaxed);
        if self.fails {
            return Err("not today".into());
        }
        let tmpfs = OsStr::new("tmpfs");
        Ok(mounts::mount(tmpfs, target, tmpfs, MountFlags::empty(), OsStr::new("size=64k"))?)
    }

    fn unmount(&self, target: &Path) -> Result<(), MountError> {
        self.unmounts.fetch_add(1, Ordering::Relaxed);
        Ok(mounts::unmount(target, UnmountFlags::empty())?)
    }
}

/// Layer 2 over layer 1, and its driver.
fn two(scratch: &Scratch) -> Driver {
    let store = store(scratch);
    layer(store.driver(), "1", None, &["below"]);
    layer(store.driver(), "2", Some("1"), &[]);
    store.driver().clone()
}

fn get(driver: &Driver, mounter: &dyn Mounter) {
    driver.get(&id("2"), mounter).unwrap().keep();
}

#[test]
fn the_first_get_mounts_and_the_last_put_unmounts() {
    if !require_root("mounting a tmpfs") {
        return;
    }
    let (scratch, counting) = (Scratch::new(), Counting::default());
    let driver = two(&scratch);
    let other = store(&scratch).driver().clone();
    get(&driver, &counting);
    get(&other, &counting);
    get(&driver, &counting);
    assert_eq!(counting.so_far(), (1, 0));
    other.put(&id("2"), &counting).unwrap();
    driver.put(&id("2"), &counting).unwrap();
    assert_eq!(counting.so_far(), (1, 0));
    other.put(&id("2"), &counting).unwrap();
    assert_eq!(counting.so_far(), (1, 1));
    assert_eq!(fs::read_dir(scratch.path("root/plyfs/counts")).unwrap().count(), 0);
    {
        let _guard = driver.get(&id("2"), &counting).unwrap();
    }
    assert_eq!(counting.so_far(), (2, 2));
}

#[test]
fn put_without_get_is_harmless() {
    if !require_root("mounting a tmpfs") {
        return;
    }
    let (scratch, counting) = (Scratch::new(), Counting::default());
    let driver = two(&scratch);
    for name in ["1", "2", "nothing"] {
        driver.put(&id(name), &counting).unwrap();
    }
    assert_eq!(counting.so_far(), (0, 0));
    get(&driver, &counting);
    driver.put(&id("2"), &counting).unwrap();
    driver.put(&id("2"), &counting).unwrap();
    assert_eq!(counting.so_far(), (1, 1));
}

#[test]
fn a_mount_without_a_count_counts_as_one() {
    if !require_root("mounting a tmpfs") {
        return;
    }
    let (scratch, counting) = (Scratch::new(), Counting::default());
    let driver = two(&scratch);
    // Docker's live restore, or a process killed between mounting and counting.
    sh(format!("mount -t tmpfs none {}", scratch.path("root/aufs/mnt/2").display())).ok();
    get(&driver, &counting);
    assert_eq!(fs::read_to_string(scratch.path("root/plyfs/counts/2")).unwrap(), "2");
    driver.put(&id("2"), &counting).unwrap();
    driver.put(&id("2"), &counting).unwrap();
    assert_eq!(counting.so_far(), (0, 1));
}

#[test]
fn a_count_without_a_mount_counts_as_none() {
    if !require_root("mounting a tmpfs") {
        return;
    }
    let (scratch, counting) = (Scratch::new(), Counting::default());
    let driver = two(&scratch);
    // What a reboot leaves.
    scratch.file("root/plyfs/counts/2", "7");
    get(&driver, &counting);
    assert_eq!(counting.so_far(), (1, 0));
    driver.put(&id("2"), &counting).unwrap();
    assert_eq!(counting.so_far(), (1, 1));
}

#[test]
fn a_failed_mount_counts_nothing() {
    if !require_root("mounting a tmpfs") {
        return;
    }
    let scratch = Scratch::new();
    let driver = two(&scratch);
    let failing = Counting { fails: true, ..Counting::default() };
    let error = driver.get(&id("2"), &failing).unwrap_err();
    assert_eq!(error.to_string(), "mounting layer 2: not today");
    assert!(driver.get(&id("3"), &failing).unwrap_err().is_not_found());
    assert_eq!(fs::read_dir(scratch.path("root/plyfs/counts")).unwrap().count(), 0);
}

#[test]
fn release_and_cleanup_unmount_whatever_the_count() {
    if !require_root("mounting a tmpfs") {
        return;
    }
    let (scratch, counting) = (Scratch::new(), Counting::default());
    let driver = two(&scratch);
    let place = driver.mount_dir(&id("2"));
    for _ in 0..3 {
        get(&driver, &counting);
    }
    // Two on each other, as after a crash.
    sh(format!("mount -t tmpfs none {}", place.display())).ok();
    driver.release(&id("2"), &counting).unwrap();
    assert!(!is_mounted(&place));
    get(&driver, &counting);
    // And one whose layer is not there.
    let lost = scratch.dir("root/aufs/mnt/lost");
    sh(format!("mount -t tmpfs none {}", lost.display())).ok();
    assert!(driver.cleanup(&counting).unwrap().is_empty());
    assert!(!is_mounted(&place) && !is_mounted(&lost));
    assert_eq!(fs::read_dir(scratch.path("root/plyfs/counts")).unwrap().count(), 0);
}

#[test]
fn after_the_servers_death_the_count_starts_anew() {
    if !require_root("mounting a union") {
        return;
    }
    let scratch = Scratch::new();
    let driver = two(&scratch);
    let place = driver.mount_dir(&id("2"));
    get(&driver, &Real);
    get(&driver, &Real);
    // The kernel remembers the attributes of the root: stat(2) alone would say that all is well.
    assert!(fs::metadata(&place).is_ok());
    let [server] = servers_of(&place)[..] else { panic!("one server") };
    kill(server, Signal::KILL);
    wait_until("the connection is dead", || fs::read_dir(&place).is_err());
    get(&driver, &Real);
    assert_eq!(plyfs_tests::tree::names(&place), ["below"]);
    assert_eq!(mount_lines(&place).count(), 1);
    driver.put(&id("2"), &Real).unwrap();
    assert!(!is_mounted(&place));
    // Dead, and nobody gets it any more: the last use is given back, and the layer can go.
    get(&driver, &Real);
    let [server] = servers_of(&place)[..] else { panic!("one server") };
    kill(server, Signal::KILL);
    wait_until("the connection is dead", || fs::read_dir(&place).is_err());
    driver.put(&id("2"), &Real).unwrap();
    assert!(!is_mounted(&place));
    driver.remove(&id("2"), &Real).unwrap();
}

/// Docker's BenchmarkConcurrentAccess: 256 layers made, got, put and removed at once. Here by threads of four processes.
#[test]
fn concurrent_access() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let store = store(&scratch);
    layer(store.driver(), "base", None, &["below"]);
    let workers: Vec<_> = (0..4).map(|who| worker::start(&scratch.path("root"), "access", who, 1)).collect();
    for mut worker in workers {
        let status = worker.wait().unwrap();
        assert!(status.success(), "{status}");
    }
    assert_eq!(plyfs_tests::tree::names(scratch.path("root/aufs/layers")), ["base"]);
    for dir in ["diff", "mnt"] {
        assert_eq!(plyfs_tests::tree::names(scratch.path("root/aufs").join(dir)), ["base"], "{dir}");
    }
    store.driver().remove(&id("base"), &Real).unwrap();
    assert_eq!(store.check().unwrap(), []);
}

/// One layer, used by threads of several processes at once: always mounted while somebody has it, never twice, and
/// unmounted at the end.
#[test]
fn one_layer_used_by_many() {
    if !require_root("mounting unions") {
        return;
    }
    let scratch = Scratch::new();
    let driver = two(&scratch);
    let workers: Vec<_> = (0..3).map(|who| worker::start(&scratch.path("root"), "share", who, 1)).collect();
    for mut worker in workers {
        let status = worker.wait().unwrap();
        assert!(status.success(), "{status}");
    }
    assert!(!driver.is_mounted(&id("2")).unwrap());
    assert_eq!(fs::read_dir(scratch.path("root/plyfs/counts")).unwrap().count(), 0);
    // What each wrote while it had it.
    let written = fs::read_dir(driver.diff_dir(&id("2"))).unwrap().count();
    assert!(written >= 3 * 4 * 5, "{written}");
}
