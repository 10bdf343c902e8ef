//! A power cut: the disk of a store under load as it was at one instant, mounted again. What was said to be done before
//! that instant is there, whole; what was under way is undone.
//!
//! The disk is a file on an xfs, of which a clone (FICLONE) takes one instant: everything that the filesystem inside had
//! sent to its disk by then, and nothing of what it still had in memory.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use plyfs_store::{Access, Store};
use plyfs_tests::random::{number, seed};
use plyfs_tests::tree::Random;
use plyfs_tests::{Scratch, require_programs, require_root, sh};

use super::common::Never;
use super::crash::{is_whole, logs};
use super::worker;

const WORKERS: u64 = 2;

#[test]
fn power_cut_on_ext4() {
    power_cut("mkfs.ext4 -q -F -m 0", "");
}

#[test]
fn power_cut_on_xfs() {
    // A copy has the uuid of the one that is mounted.
    power_cut("mkfs.xfs -q -f", ",nouuid");
}

fn power_cut(mkfs: &str, mount_options: &str) {
    if !require_root("loop devices") || !require_programs(&["mkfs.ext4", "mkfs.xfs"]) {
        return;
    }
    let scratch = Scratch::new();
    let (disks, inner, copy) = (scratch.dir("disks"), scratch.dir("inner"), scratch.dir("copy"));
    let mount = |disk: &Path, at: &Path, options: &str| {
        sh(format!("mount -o loop{options} {} {}", disk.display(), at.display())).ok();
    };
    let make = |disk: &Path, size: &str, mkfs: &str| {
        sh(format!("truncate -s {size} {disk} && {mkfs} {disk}", disk = disk.display())).ok();
    };
    make(&scratch.path("outer.img"), "4G", "mkfs.xfs -q -f -m reflink=1");
    mount(&scratch.path("outer.img"), &disks, "");
    make(&disks.join("disk"), "400M", mkfs);
    mount(&disks.join("disk"), &inner, "");

    let root = inner.join("root");
    // Outside of the disk that is cut off.
    let told = scratch.path("told");
    drop(Store::open(&root, Access::Write, &Never).unwrap());
    let mut workers: Vec<_> =
        (0..WORKERS).map(|who| worker::start_telling(&root, &told, "storm", who, seed())).collect();
    let mut random = Random::new(seed());
    let rounds = number("PLYFS_ROUNDS", 4);
    let mut held = 0;
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(200 + random.below(700)));
        let before = logs(&told, WORKERS);
        let cut = disks.join("cut");
        sh(format!("cp --reflink=always {} {}", disks.join("disk").display(), cut.display())).ok();
        let after = logs(&told, WORKERS);
        // Put before the cut, and its removal not begun until after it.
        let stays = |number: &u64| before[number].0 == 'P' && after.get(number) == before.get(number);
        let must: BTreeSet<u64> = before.keys().copied().filter(stays).collect();
        held += must.len();
        mount(&cut, &copy, mount_options);
        let what = format!("round {round} (PLYFS_SEED={})", seed());
        let store = Store::open(&copy.join("root"), Access::Write, &Never)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        is_whole(&store, &must, &what);
        drop(store);
        sh(format!("umount {} && rm {}", copy.display(), cut.display())).ok();
    }
    workers.iter_mut().for_each(|worker| drop(worker.stdin.take()));
    for mut worker in workers {
        let status = worker.wait().unwrap();
        assert!(status.success(), "{status}");
    }
    assert!(held as u64 >= rounds, "only {held} images in {rounds} cuts: nothing was tried");
}
