//! A tiny file system, mounted: INIT, lookup, listing, reading, errors, panics, several workers, unmounting; the same
//! over io_uring. Skipped, aloud, where FUSE cannot be mounted.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plyfs_sys::mounts::{self, MountFlags};
use plyfs_sys::uring::SWITCH;
use plyfs_wire::dirents::Line;
use plyfs_wire::filesystem::At;
use plyfs_wire::messages::flags::{OpenFlags, STATX_BASIC_STATS, STATX_BTIME};
use plyfs_wire::messages::replies::*;
use plyfs_wire::messages::requests::*;
use plyfs_wire::*;

const TEXT: &[u8] = b"hello from user space\n";
const HELLO: u64 = 2;
/// Opening it panics.
const BOMB: u64 = 3;
/// Reading it takes until so many read at once.
const SLOW: u64 = 4;
const NAMES: [(&str, u64); 3] = [("hello", HELLO), ("bomb", BOMB), ("slow", SLOW)];

#[derive(Debug)]
struct Hello {
    meet: Barrier,
    lookups: AtomicUsize,
    size: AtomicU64,
    gone: Arc<AtomicUsize>,
}

fn attr(node: u64, size: u64) -> Attr {
    let mode = if node == 1 { 0o040_777 } else { 0o100_644 };
    Attr { ino: node, mode, nlink: 1, size, blksize: 4096, ..Attr::default() }
}

impl Hello {
    fn attr(&self, node: u64) -> Attr {
        attr(node, self.size.load(SeqCst))
    }

    fn entry(&self, node: u64) -> EntryOut {
        EntryOut {
            nodeid: node,
            entry_valid: 60,
            attr_valid: 60,
            attr: self.attr(node),
            ..EntryOut::default()
        }
    }

    fn lines(&self, offset: u64, mut add: impl FnMut(u64, Line<'_>) -> bool) {
        let dots = [(".", 1), ("..", 1)];
        for (index, (name, node)) in (0..).zip(dots.into_iter().chain(NAMES)).skip(offset as usize) {
            let kind = if node == 1 { 4 } else { 8 };
            if !add(node, Line { name: OsStr::new(name), ino: node, kind, next: index + 1 }) {
                break;
            }
        }
    }
}

impl Filesystem for Hello {
    fn lookup(&self, _: &RequestContext, (_, name): At<'_>) -> Answer<EntryOut> {
        self.lookups.fetch_add(1, SeqCst);
        let found = NAMES.iter().find(|(known, _)| name == *known);
        let absent = EntryOut { entry_valid: 60, ..EntryOut::default() };
        Ok(found.map_or(absent, |(_, node)| self.entry(*node)))
    }
    fn forget(&self, _: u64, _: u64) {}
    fn getattr(&self, _: &RequestContext, node: u64, _: Option<u64>) -> Answer<AttrOut> {
        Ok(AttrOut { attr_valid: 60, attr: self.attr(node), ..AttrOut::default() })
    }
    fn statx(&self, _: &RequestContext, node: u64, _: Option<u64>, _: u32) -> Answer<StatxOut> {
        let attr = self.attr(node);
        let stat = Statx {
            mask: STATX_BASIC_STATS | STATX_BTIME,
            mode: attr.mode as u16,
            nlink: 1,
            ino: node,
            size: attr.size,
            btime: SxTime { tv_sec: 1000, ..SxTime::default() },
            ..Statx::default()
        };
        Ok(StatxOut { attr_valid: 60, stat, ..StatxOut::default() })
    }
    fn open(&self, _: &RequestContext, node: u64, _: &OpenIn) -> Answer<OpenOut> {
        assert!(node != BOMB, "this panic is part of the test");
        let open_flags = if node == SLOW { OpenFlags::DIRECT_IO } else { OpenFlags::NOFLUSH };
        Ok(OpenOut { fh: node, open_flags: open_flags.bits(), backing_id: 0 })
    }
    fn read(&self, _: &RequestContext, node: u64, how: &ReadIn, buf: &mut [u8]) -> Answer<usize> {
        if node == SLOW {
            self.meet.wait();
        }
        let rest = TEXT.get(how.offset as usize..).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn opendir(&self, _: &RequestContext, _: u64, _: &OpenIn) -> Answer<OpenOut> {
        Ok(OpenOut::default())
    }
    fn readdir(&self, _: &RequestContext, _: u64, how: &ReadIn, out: &mut Dirents<'_>) -> Answer<()> {
        self.lines(how.offset, |_, line| out.add(line));
        Ok(())
    }
    fn readdirplus(&self, _: &RequestContext, _: u64, how: &ReadIn, out: &mut Dirents<'_>) -> Answer<()> {
        self.lines(how.offset, |node, line| {
            let entry = if node == 1 { EntryOut::default() } else { self.entry(node) };
            out.add_plus(&entry, line)
        });
        Ok(())
    }
    fn getxattr(&self, _: &RequestContext, _: u64, _: &OsStr) -> Answer<Vec<u8>> {
        Err(Errno::NODATA)
    }
    fn destroy(&self) {
        self.gone.fetch_add(1, SeqCst);
    }
}

struct Mounted {
    dir: tempfile::TempDir,
    notifier: Notifier,
    gone: Arc<AtomicUsize>,
    thread: JoinHandle<Result<(), SessionError>>,
}

/// Mounts, or says why not.
fn mounted(readers: usize) -> Option<Mounted> {
    mounted_with(readers, Config::default())
}

fn mounted_with(readers: usize, config: Config) -> Option<Mounted> {
    let dir = tempfile::tempdir().unwrap();
    let options = MountOptions {
        source: "he,llo x".into(),
        subtype: "plyfstest".into(),
        flags: MountFlags::NOATIME,
        allow_other: false,
        default_permissions: true,
        max_read: 1 << 20,
    };
    let device = match mount(dir.path(), &options) {
        Ok(device) => device,
        Err(error) => {
            println!("SKIPPED: cannot mount here: {error}");
            return None;
        }
    };
    let gone = Arc::new(AtomicUsize::new(0));
    let fs = Hello {
        meet: Barrier::new(readers),
        lookups: AtomicUsize::new(0),
        size: AtomicU64::new(TEXT.len() as u64),
        gone: Arc::clone(&gone),
    };
    let session = Session::start(device, fs, config).unwrap();
    let notifier = session.notifier();
    let thread = std::thread::spawn(move || session.run());
    Some(Mounted { dir, notifier, gone, thread })
}

impl Mounted {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn end(self) {
        unmount(self.dir.path(), false).unwrap();
        self.thread.join().unwrap().unwrap();
        assert_eq!(self.gone.load(SeqCst), 1);
        assert!(!mounts::is_mount_point(self.dir.path()).unwrap());
        assert!(!self.notifier.inval_inode(HELLO, true).unwrap(), "nobody is told after the end");
    }
}

#[test]
fn hello() {
    let Some(mounted) = mounted(1) else { return };
    use_all(&mounted);
    mounted.end();
}

fn use_all(mounted: &Mounted) {
    let info = mounts::at(mounted.dir.path()).unwrap().unwrap();
    assert_eq!((info.fs_type, info.source), ("fuse.plyfstest".into(), "he,llo x".into()));

    assert_eq!(std::fs::read(mounted.path("hello")).unwrap(), TEXT);
    let missing = std::fs::read(mounted.path("nothing")).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    let mut names: Vec<_> =
        std::fs::read_dir(mounted.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bomb", "hello", "slow"]);
    let meta = std::fs::metadata(mounted.path("hello")).unwrap();
    assert_eq!((meta.ino(), meta.len()), (HELLO, TEXT.len() as u64));
    let born = meta.created().unwrap();
    assert_eq!(born.duration_since(std::time::UNIX_EPOCH).unwrap(), Duration::from_secs(1000));

    let unsupported = std::fs::write(mounted.path("new"), "x").unwrap_err();
    assert_eq!(unsupported.raw_os_error(), Some(38));
    let bomb = std::fs::File::open(mounted.path("bomb")).unwrap_err();
    assert_eq!(bomb.raw_os_error(), Some(5));
    assert_eq!(std::fs::read(mounted.path("hello")).unwrap(), TEXT, "a panic ends one request only");

    assert!(mounted.notifier.inval_inode(HELLO, true).unwrap());
    assert!(mounted.notifier.inval_entry(1, OsStr::new("hello")).unwrap());
    assert!(!mounted.notifier.inval_entry(1, OsStr::new("never seen")).unwrap());
}

fn threads(named: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with(named)).count()
}

#[test]
fn workers_are_added_when_requests_wait() {
    // All four must read at once, or none returns; then a fifth thread could not help.
    let Some(mounted) = mounted(4) else { return };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(std::fs::read(mounted.path("slow")).unwrap().len(), TEXT.len()));
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(5));
    while threads("plyfs-worker") > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "idle workers leave");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(std::fs::read(mounted.path("hello")).unwrap(), TEXT);
    mounted.end();
}

#[test]
fn a_busy_mount_goes_lazily() {
    let Some(mounted) = mounted(1) else { return };
    let open = std::fs::File::open(mounted.path("hello")).unwrap();
    assert!(matches!(unmount(mounted.dir.path(), false), Err(MountError::Busy(_))));
    unmount(mounted.dir.path(), true).unwrap();
    assert!(!Path::new(&mounted.path("hello")).exists());
    assert!(!mounted.thread.is_finished());
    drop(open);
    mounted.thread.join().unwrap().unwrap();
}

/// The kernel's switch for FUSE over io_uring, as it was when dropped.
struct Switch(String);

impl Switch {
    /// Only root can, and not every kernel has it.
    fn on() -> Option<Switch> {
        let Ok(before) = std::fs::read_to_string(SWITCH) else {
            println!("SKIPPED: this kernel has no FUSE over io_uring");
            return None;
        };
        if let Err(error) = std::fs::write(SWITCH, "Y") {
            println!("SKIPPED: cannot write {SWITCH}: {error}");
            return None;
        }
        Some(Switch(before))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        std::fs::write(SWITCH, self.0.trim()).unwrap();
    }
}

/// One test, since the switch is one for all.
#[test]
fn over_io_uring() {
    let config = Config { io_uring: true, ..Config::default() };
    let Some(switch) = Switch::on() else { return };
    let Some(mounted) = mounted_with(2, config.clone()) else { return };
    use_all(&mounted);
    assert!(threads("plyfs-ring") >= 2);
    // Two requests of one processor are answered at once.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                plyfs_sys::uring::stay_on(0).unwrap();
                assert_eq!(std::fs::read(mounted.path("slow")).unwrap(), TEXT);
            });
        }
    });
    mounted.end();
    assert_eq!(threads("plyfs-ring"), 0);

    // By force: the connection is aborted, the mount stays while it is in use.
    let mounted = mounted_with(1, config.clone()).unwrap();
    let open = std::fs::File::open(mounted.path("hello")).unwrap();
    std::process::Command::new("umount").arg("-f").arg(mounted.dir.path()).output().unwrap();
    mounted.thread.join().unwrap().unwrap();
    assert_eq!(threads("plyfs-ring"), 0);
    drop(open);
    unmount(mounted.dir.path(), true).unwrap();
    drop(switch);

    // Not allowed: the mount works without.
    if std::fs::read_to_string(SWITCH).unwrap().trim() == "N" {
        let mounted = mounted_with(1, config).unwrap();
        assert_eq!(threads("plyfs-ring"), 0);
        use_all(&mounted);
        mounted.end();
    }
}
