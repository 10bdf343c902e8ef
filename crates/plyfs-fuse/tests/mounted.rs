//! The skin over a real mount: every request that programs cause, once, over one writable branch. What unions mean is
//! tested elsewhere. Skipped, aloud, where FUSE cannot be mounted.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use plyfs_fuse::{MountError, Server, Session};
use plyfs_sys::mounts;
use plyfs_union::Union;
use plyfs_union::spec::{BranchSpec, MountSpec, Perm};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, XattrFlags};

mod common;

struct Mounted {
    branch: tempfile::TempDir,
    target: tempfile::TempDir,
    session: Session,
}

/// One writable branch, and where it is to be mounted.
fn union() -> (tempfile::TempDir, tempfile::TempDir, Arc<Union>, MountSpec) {
    let (branch, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::set_permissions(branch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let top = BranchSpec::new(branch.path(), Perm::Rw);
    let mut spec = MountSpec { branches: vec![top], source: Some("src".into()), ..MountSpec::default() };
    spec.speed.birth_times = true;
    let union = Arc::new(Union::open(&spec).unwrap());
    (branch, target, union, spec)
}

/// That, mounted; or why not.
fn mounted() -> Option<Mounted> {
    let (branch, target, union, spec) = union();
    let session = common::unless_impossible(Session::start(union, target.path(), &spec))?;
    Some(Mounted { branch, target, session })
}

impl Mounted {
    fn at(&self, name: &str) -> PathBuf {
        self.target.path().join(name)
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with(".wh."))
        .collect();
    names.sort();
    names
}

#[test]
fn files_are_made_written_read_and_changed() {
    let Some(m) = mounted() else { return };
    let path = m.at("file");
    fs::write(&path, "hello").unwrap();
    assert_eq!(fs::read(m.branch.path().join("file")).unwrap(), b"hello");
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b", world").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello, world");
    let big: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(m.at("big"), &big).unwrap();
    assert!(fs::read(m.at("big")).unwrap() == big);

    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"HELLO", 0).unwrap();
    file.set_len(5).unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    assert_eq!((file.metadata().unwrap().len(), fs::read(&path).unwrap()), (5, b"HELLO".to_vec()));
    fs::write(&path, "").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "O_TRUNC at open");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let then = std::time::UNIX_EPOCH + Duration::new(1_000_000, 7000);
    file.set_times(fs::FileTimes::new().set_modified(then).set_accessed(then)).unwrap();
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.mode(), meta.modified().unwrap()), (0o100_640, then));
    assert!(meta.created().is_ok() || fs::metadata(m.branch.path()).unwrap().created().is_err());
}

#[test]
fn names_are_made_linked_renamed_and_removed() {
    let Some(m) = mounted() else { return };
    fs::create_dir(m.at("d")).unwrap();
    fs::write(m.at("d/f"), "1").unwrap();
    fs::hard_link(m.at("d/f"), m.at("g")).unwrap();
    let (f, g) = (fs::metadata(m.at("d/f")).unwrap(), fs::metadata(m.at("g")).unwrap());
    assert_eq!((f.nlink(), f.ino()), (2, g.ino()));
    symlink("d/f", m.at("s")).unwrap();
    assert_eq!(fs::read_link(m.at("s")).unwrap(), Path::new("d/f"));
    assert_eq!(fs::read(m.at("s")).unwrap(), b"1");

    fs::rename(m.at("g"), m.at("h")).unwrap();
    fs::write(m.at("i"), "2").unwrap();
    let refused = rustix::fs::renameat_with(CWD, m.at("i"), CWD, m.at("h"), RenameFlags::NOREPLACE);
    assert_eq!(refused.unwrap_err(), rustix::io::Errno::EXIST);
    assert_eq!(names(m.target.path()), ["d", "h", "i", "s"]);
    fs::rename(m.at("i"), m.at("h")).unwrap();
    assert_eq!(fs::read(m.at("h")).unwrap(), b"2");
    assert_eq!(fs::remove_dir(m.at("d")).unwrap_err().raw_os_error(), Some(39));
    fs::remove_file(m.at("d/f")).unwrap();
    fs::remove_dir(m.at("d")).unwrap();
    assert!(fs::read(m.at("s")).is_err());
    assert_eq!(names(m.target.path()), ["h", "s"]);

    let open = File::open(m.at("h")).unwrap();
    fs::remove_file(m.at("h")).unwrap();
    let mut text = String::new();
    (&open).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), open.metadata().unwrap().nlink()), ("2", 0));
}

#[test]
fn umask_applies_once() {
    let Some(m) = mounted() else { return };
    let script = "umask 027; mkdir d; : > f; mkfifo p; stat -c %a:%F d f p";
    let out =
        std::process::Command::new("sh").arg("-c").arg(script).current_dir(m.target.path()).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(text, "750:directory\n640:regular empty file\n640:fifo\n");
}

#[test]
fn large_directories_list_whole_and_anew() {
    let Some(m) = mounted() else { return };
    let want: Vec<_> =
        (0..3000).map(|n| format!("a rather long name, so that one reply does not do {n:05}")).collect();
    fs::create_dir(m.at("d")).unwrap();
    for name in &want {
        File::create(m.at("d").join(name)).unwrap();
    }
    assert_eq!(names(&m.at("d")), want);
    assert!(want.iter().all(|name| m.at("d").join(name).exists()));
    fs::remove_file(m.at("d").join(&want[0])).unwrap();
    assert_eq!(names(&m.at("d")), want[1..]);

    // One descriptor, rewound: what was made meanwhile shows.
    let fd = rustix::fs::open(m.target.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut dir = rustix::fs::Dir::new(fd).unwrap();
    let count = |dir: &mut rustix::fs::Dir| dir.by_ref().map(Result::unwrap).count();
    assert_eq!(count(&mut dir), 3);
    File::create(m.at("new")).unwrap();
    dir.rewind();
    assert_eq!(count(&mut dir), 4);
}

#[test]
fn rarer_calls() {
    let Some(m) = mounted() else { return };
    fs::write(m.at("f"), "x").unwrap();
    let mut value = [0u8; 100];
    match rustix::fs::setxattr(m.at("f"), "user.k", b"value", XattrFlags::CREATE) {
        Ok(()) => {
            assert_eq!(rustix::fs::getxattr(m.at("f"), "user.k", &mut value), Ok(5));
            let mut one = [0u8; 1];
            let short = rustix::fs::getxattr(m.at("f"), "user.k", &mut one);
            assert_eq!(short, Err(rustix::io::Errno::RANGE));
            let again = rustix::fs::setxattr(m.at("f"), "user.k", b"v", XattrFlags::CREATE);
            assert_eq!(again, Err(rustix::io::Errno::EXIST));
            let length = rustix::fs::listxattr(m.at("f"), &mut value).unwrap();
            assert_eq!(&value[..length], b"user.k\0");
            rustix::fs::removexattr(m.at("f"), "user.k").unwrap();
        }
        Err(error) => println!("no user xattrs on this filesystem: {error}"),
    }
    let gone = rustix::fs::getxattr(m.at("f"), "user.k", &mut value);
    assert!(matches!(gone, Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP)));

    let file = OpenOptions::new().read(true).write(true).open(m.at("f")).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 16).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 16);
    let holes = File::create(m.at("holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    let hole = rustix::fs::seek(&holes, rustix::fs::SeekFrom::Hole(0)).unwrap();
    assert_eq!(hole, 0);
    let mut copy = File::create(m.at("copy")).unwrap();
    let copied = rustix::fs::copy_file_range(&file, Some(&mut 0), &copy, None, 1 << 16).unwrap();
    copy.seek(SeekFrom::Start(copied as u64)).unwrap();
    assert!(copied > 0 && fs::read(m.at("copy")).unwrap()[0] == b'x');

    let stat = rustix::fs::statvfs(m.target.path()).unwrap();
    assert!(stat.f_blocks > 0 && stat.f_namemax > 0);
    let none = rustix::fs::open(m.target.path(), OFlags::RDWR | OFlags::TMPFILE, Mode::RUSR).unwrap();
    rustix::io::write(&none, b"nameless").unwrap();
    let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&none));
    rustix::fs::linkat(CWD, proc, CWD, m.at("named"), AtFlags::SYMLINK_FOLLOW).unwrap();
    assert_eq!(fs::read_to_string(m.at("named")).unwrap(), "nameless");
}

#[test]
fn mounts_say_what_they_are_and_end_in_every_way() {
    let Some(m) = mounted() else { return };
    let info = mounts::at(m.session.target()).unwrap().unwrap();
    assert_eq!((info.fs_type, info.source), ("fuse.aufs".into(), "src".into()));
    assert!(info.options.to_str().unwrap().contains("noatime"));

    let (unmounter, target) = (m.session.unmounter(), m.target.path().to_owned());
    let waiting = std::thread::spawn(move || m.session.wait());
    unmounter.unmount(false).unwrap();
    waiting.join().unwrap().unwrap();
    assert!(!mounts::is_mount_point(&target).unwrap());
    unmounter.unmount(false).unwrap();

    let Some(m) = mounted() else { return };
    drop(m.session);
    assert!(!mounts::is_mount_point(m.target.path()).unwrap());

    let Some(m) = mounted() else { return };
    fs::write(m.at("f"), "held").unwrap();
    let held = File::open(m.at("f")).unwrap();
    assert!(matches!(m.session.unmounter().unmount(false), Err(MountError::Busy(_))));
    drop(m.session);
    assert!(!mounts::is_mount_point(m.target.path()).unwrap());
    let mut text = String::new();
    (&held).read_to_string(&mut text).unwrap();
    assert_eq!(text, "held");
}

#[test]
fn whoever_hears_of_signals_is_asked_under_traffic_too() {
    let (_branch, target, union, spec) = union();
    let Some(server) = common::unless_impossible(Server::mount(union, target.path(), &spec)) else { return };
    let asked = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&asked);
    server.on_interrupt(move || theirs.store(true, SeqCst));
    let unmounter = server.unmounter();
    let served = std::thread::spawn(move || server.serve());
    let start = Instant::now();
    while !asked.load(SeqCst) && start.elapsed() < Duration::from_secs(20) {
        // No signal comes.
        rustix::fs::statvfs(target.path()).unwrap();
    }
    unmounter.unmount(false).unwrap();
    served.join().unwrap().unwrap();
    assert!(asked.load(SeqCst));
}

#[test]
fn an_aborted_mount_is_cleared_away() {
    let Some(m) = mounted() else { return };
    let (_, minor) = mounts::at(m.session.target()).unwrap().unwrap().dev;
    let abort = format!("/sys/fs/fuse/connections/{minor}/abort");
    if let Err(error) = fs::write(&abort, "1") {
        return println!("SKIPPED: {abort}: {error}");
    }
    assert!(m.session.wait().is_err());
    assert!(!mounts::is_mount_point(m.target.path()).unwrap());
}

#[test]
fn writing_clears_setid_bits_at_once() {
    let Some(m) = mounted() else { return };
    if rustix::process::geteuid().as_raw() != 0 {
        return println!("SKIPPED: needs two users");
    }
    for (script, what) in [("echo more >> f", "append"), (": > f", "truncate")] {
        fs::write(m.at("f"), "text").unwrap();
        fs::set_permissions(m.at("f"), fs::Permissions::from_mode(0o6777)).unwrap();
        let mode = || {
            // By a call that asks for the mode only: the kernel must not answer it from its cache.
            let out = std::process::Command::new("stat").args(["-c", "%a"]).arg(m.at("f")).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(mode(), "6777\n");
        fs::set_permissions(m.target.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut shell = std::process::Command::new("sh");
        std::os::unix::process::CommandExt::uid(&mut shell, 65534);
        let status = shell.arg("-c").arg(script).current_dir(m.target.path()).status().unwrap();
        assert!(status.success());
        assert_eq!(mode(), "777\n", "{what}");
    }
}
