//! SIGKILL of the server in the middle of copy-ups: the branches mount again, and every file is old or new, whole.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use plyfs_tests::mount::{kill, wait_until};
use plyfs_tests::random::seed;
use plyfs_tests::tree::Random;
use plyfs_tests::{Mount, Scratch, Snapshot, Want, run, sh};
use rustix::process::Signal;

const ROUNDS: u64 = 25;
const FILES: u64 = 24;
const SIZE: usize = 300_000;

/// File number `at` as the lower branch has it.
fn old(at: u64) -> Vec<u8> {
    vec![b'a' + at as u8; SIZE]
}

/// Each file and link is changed by appending, renaming, removing, replacing; errors are the dying server's.
fn disturb(root: &Path, random: &mut Random, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let at = random.below(FILES);
        let path = root.join(format!("dir{}/file{at}", at % 3));
        let outcome = match random.below(5) {
            0 | 1 => append(&path),
            2 => fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)),
            3 => fs::rename(&path, path.with_extension("moved")),
            _ => fs::remove_file(&path),
        };
        // A dead server answers every call with an error: an error must not end the storm before the signal does.
        drop(outcome);
    }
}

fn append(path: &Path) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    std::io::Write::write_all(&mut file, b"+")
}

/// What a file may be: the old content, with some `+` at the end.
fn is_whole(path: &Path, at: u64) {
    let data = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(data.len() >= SIZE, "{}: {} bytes, a half copy", path.display(), data.len());
    assert!(data[..SIZE] == old(at)[..], "{}: content of no version", path.display());
    assert!(data[SIZE..].iter().all(|byte| *byte == b'+'), "{}: a strange end", path.display());
}

#[test]
fn sigkill_during_a_copy_up_storm() {
    let mut random = Random::new(seed());
    for round in 0..ROUNDS {
        let scratch = Scratch::new();
        for at in 0..FILES {
            scratch.file(format!("low/dir{}/file{at}", at % 3), old(at));
        }
        let below = Snapshot::of(scratch.path("low"), Want::ALL);
        let mount = Mount::stack(&scratch, &["top", "low"]);
        let server = mount.server();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for who in 0..4 {
                let (root, stop) = (mount.dir(), &stop);
                let mut random = Random::new(seed() * 1000 + round * 10 + who);
                scope.spawn(move || disturb(root, &mut random, stop));
            }
            std::thread::sleep(std::time::Duration::from_millis(1 + random.below(60)));
            kill(server, Signal::KILL);
            wait_until("the server is dead", || {
                !Path::new(&format!("/proc/{server}/exe")).exists() || is_zombie(server)
            });
            stop.store(true, Ordering::Relaxed);
        });
        sh(format!("umount -l {}", mount.dir().display())).ok();
        mount.was_unmounted();
        let mount = Mount::stack(&scratch, &["top", "low"]);
        for dir in 0..3 {
            for name in plyfs_tests::tree::names(mount.path(format!("dir{dir}"))) {
                let digits: String = name.chars().filter(char::is_ascii_digit).collect();
                is_whole(&mount.path(format!("dir{dir}/{name}")), digits.parse().unwrap());
            }
        }
        below.same(&Snapshot::of(scratch.path("low"), Want::ALL), "the lower branch");
        // And it is a working union: everything can be removed, for good.
        for dir in 0..3 {
            fs::remove_dir_all(mount.path(format!("dir{dir}"))).unwrap();
        }
        assert_eq!(fs::read_dir(mount.dir()).unwrap().count(), 0, "seed {}, round {round}", seed());
    }
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| text.contains(") Z "))
}

#[test]
fn a_dead_server_leaves_a_mount_point_that_umount_frees() {
    let scratch = Scratch::new();
    scratch.file("low/file", "x");
    let mount = Mount::stack(&scratch, &["top", "low"]);
    kill(mount.server(), Signal::KILL);
    wait_until("the connection is dead", || fs::metadata(mount.path("file")).is_err());
    run(std::process::Command::new("umount").arg(mount.dir())).ok();
    mount.was_unmounted();
    let mount = Mount::stack(&scratch, &["top", "low"]);
    assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "x");
}
