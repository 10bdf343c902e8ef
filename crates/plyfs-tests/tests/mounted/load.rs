//! Under load as fsstress makes it: nothing vanishes from a listing, nothing comes back, a remount shows the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use plyfs_tests::mount::Watchdog;
use plyfs_tests::random::seed;
use plyfs_tests::tree::Random;
use plyfs_tests::{Mount, Scratch, Snapshot, Want};

const WORKERS: u64 = 6;
const STEPS: u64 = 1500;

/// A lower tree of some hundred files.
fn below(scratch: &Scratch) {
    for dir in 0..10 {
        for file in 0..30 {
            scratch.file(format!("low/d{dir}/f{file}"), format!("{dir} {file}\n").repeat(file + 1));
        }
        scratch.file(format!("low/d{dir}/sub/deep"), "deep");
    }
}

/// A worker's own files in folders that all share: it alone makes and removes them, so it knows what must be there.
fn own_files(root: &Path, who: u64) {
    let mut random = Random::new(seed() * 100 + who);
    let mut known: BTreeMap<PathBuf, String> = BTreeMap::new();
    for step in 0..STEPS {
        let dir = root.join(format!("d{}", random.below(10)));
        let path = dir.join(format!("w{who}-{}", random.below(12)));
        match random.below(6) {
            0 | 1 => {
                let text = format!("{who} {step}");
                fs::write(&path, &text).unwrap();
                known.insert(path, text);
            }
            2 => {
                if known.remove(&path).is_some() {
                    fs::remove_file(&path).unwrap();
                }
            }
            3 => {
                let to = dir.join(format!("w{who}-{}", random.below(12)));
                if let Some(text) = known.remove(&path) {
                    fs::rename(&path, &to).unwrap();
                    known.insert(to, text);
                }
            }
            4 => {
                let mut seen: Vec<PathBuf> =
                    fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
                let prefix = format!("w{who}-");
                seen.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix));
                seen.sort();
                let want: Vec<PathBuf> =
                    known.keys().filter(|path| path.parent() == Some(&dir)).cloned().collect();
                assert_eq!(
                    seen,
                    want,
                    "seed {}, worker {who}, step {step}: listing of {}",
                    seed(),
                    dir.display()
                );
            }
            _ => match known.get(&path) {
                Some(text) => assert_eq!(&fs::read_to_string(&path).unwrap(), text, "seed {}", seed()),
                None => assert!(!path.exists(), "seed {}: {} came back", seed(), path.display()),
            },
        }
    }
    for (path, text) in known {
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "seed {}", seed());
    }
}

/// Meanwhile the lower files are changed and removed by everybody; refusals are the race's.
fn wear_down(root: &Path, who: u64) {
    let mut random = Random::new(seed() * 100 + 50 + who);
    for step in 0..STEPS {
        let path = root.join(format!("d{}/f{}", random.below(10), random.below(30)));
        match random.below(5) {
            0 => drop(fs::remove_file(&path)),
            1 => drop(fs::rename(&path, path.with_extension(format!("{}", step % 3)))),
            2 => drop(fs::write(&path, format!("{step}"))),
            3 => drop(fs::hard_link(&path, path.with_extension("link"))),
            _ => drop(fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))),
        }
    }
}

fn storm(words: &[&str]) {
    let scratch = Scratch::new();
    below(&scratch);
    let low = Snapshot::of(scratch.path("low"), Want::ALL);
    let mount = Mount::stack(&scratch, words);
    let watchdog = Watchdog::new(&mount);
    std::thread::scope(|scope| {
        for who in 0..WORKERS {
            let root = mount.dir();
            scope.spawn(move || own_files(root, who));
            if who % 2 == 0 {
                scope.spawn(move || wear_down(root, who));
            }
        }
    });
    watchdog.stop();
    let before = Snapshot::of(mount.dir(), Want::VIEW);
    mount.unmount();
    let mount = Mount::stack(&scratch, words);
    before.same(&Snapshot::of(mount.dir(), Want::VIEW), "a remount shows the same tree");
    low.same(&Snapshot::of(scratch.path("low"), Want::ALL), "the lower branch");
    // Nothing comes back after deletion, not even all at once.
    for dir in 0..10 {
        fs::remove_dir_all(mount.path(format!("d{dir}"))).unwrap();
    }
    assert_eq!(fs::read_dir(mount.dir()).unwrap().count(), 0);
    mount.unmount();
    let mount = Mount::stack(&scratch, words);
    assert_eq!(fs::read_dir(mount.dir()).unwrap().count(), 0, "after a remount");
}

#[test]
fn one_writable_branch() {
    storm(&["top", "low"]);
}

#[test]
fn two_writable_branches() {
    storm(&["top", "second=rw", "low"]);
}

#[test]
fn one_file_copied_up_by_many_at_once_is_copied_once() {
    let scratch = Scratch::new();
    for at in 0..30 {
        scratch.file(format!("low/file{at}"), vec![b'x'; 300_000]);
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let watchdog = Watchdog::new(&mount);
    for at in 0..30 {
        let path = mount.path(format!("file{at}"));
        std::thread::scope(|scope| {
            for who in 0..8_u64 {
                let path = &path;
                scope.spawn(move || {
                    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                    let byte = [b'0' + who as u8];
                    std::os::unix::fs::FileExt::write_all_at(&file, &byte, who * 1000).unwrap();
                });
            }
        });
        let data = fs::read(&path).unwrap();
        assert_eq!(data.len(), 300_000);
        for who in 0..8_usize {
            assert_eq!(data[who * 1000], b'0' + who as u8, "file {at}: a write was lost to a second copy");
        }
        assert_eq!(data.iter().filter(|byte| **byte == b'x').count(), 300_000 - 8);
    }
    watchdog.stop();
}

#[test]
fn a_listing_in_the_middle_of_changes_has_every_lasting_name() {
    let scratch = Scratch::new();
    for at in 0..400 {
        scratch.file(format!("low/stay{at:03}"), "");
        scratch.file(format!("low/go{at:03}"), "");
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    std::thread::scope(|scope| {
        let root = mount.dir();
        scope.spawn(move || {
            for at in 0..400 {
                fs::remove_file(root.join(format!("go{at:03}"))).unwrap();
                fs::write(root.join(format!("new{at:03}")), "").unwrap();
            }
        });
        for _ in 0..40 {
            let seen: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            let stay = seen.iter().filter(|name| name.to_string_lossy().starts_with("stay")).count();
            assert_eq!(stay, 400, "names that nobody touched are always listed, and once");
        }
    });
    let names = plyfs_tests::tree::names(mount.dir());
    assert_eq!(names.len(), 800);
    assert!(!names.iter().any(|name| name.starts_with("go")));
}

#[test]
fn rm_r_of_a_listing_while_it_is_read() {
    let scratch = Scratch::new();
    for at in 0..3000 {
        scratch.file(format!("low/dir/file-with-a-longer-name-{at}"), "");
    }
    let mount = Mount::stack(&scratch, &["top", "low"]);
    let mut removed = 0;
    for entry in fs::read_dir(mount.path("dir")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        removed += 1;
    }
    assert_eq!(removed, 3000);
    fs::remove_dir(mount.path("dir")).unwrap();
}
