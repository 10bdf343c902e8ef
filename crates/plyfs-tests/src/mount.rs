//! Mounting with the real program: [`Mount`] unmounts on drop and sees to it that the server is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cmd::{Ran, run};
use crate::scratch::Scratch;

/// How long something that must happen may take before a test gives up on it. Not a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test: $PLYFS_BIN, else `target/{release,debug}/plyfs` beside this test.
pub fn plyfs_path() -> PathBuf {
    if let Some(path) = std::env::var_os("PLYFS_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().expect("the path of this test");
    let profile = exe.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let target = profile.parent().expect("target");
    let places = [profile.join("plyfs"), target.join("release/plyfs"), target.join("debug/plyfs")];
    let found = places.iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no plyfs program in {places:?}; build it or set PLYFS_BIN")).clone()
}

/// A command of the program under test.
pub fn plyfs() -> Command {
    Command::new(plyfs_path())
}

/// The options with those of $PLYFS_SWITCHES after them: the same tests with passthrough, listings' attributes or
/// caches off (`cargo xtask test --matrix`).
pub fn with_switches(options: &str) -> String {
    match std::env::var("PLYFS_SWITCHES") {
        Ok(switches) if !switches.is_empty() => format!("{options},{switches}"),
        Ok(_) | Err(_) => options.to_owned(),
    }
}

/// A mounted union.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    servers: Vec<i32>,
    done: bool,
}

impl Mount {
    /// `plyfs mount -o OPTIONS none DIR`.
    #[track_caller]
    pub fn new(options: &str, dir: impl Into<PathBuf>) -> Mount {
        Mount::exactly(&with_switches(options), dir)
    }

    /// The same without $PLYFS_SWITCHES, for tests of the switches themselves.
    #[track_caller]
    pub fn exactly(options: &str, dir: impl Into<PathBuf>) -> Mount {
        let dir = dir.into();
        Mount::attempt(options, &dir).unwrap_or_else(|ran| panic!("mounting failed: {ran:#?}"))
    }

    /// The same, giving back what a failed attempt said.
    pub fn try_new(options: &str, dir: &Path) -> Result<Mount, Ran> {
        Mount::attempt(&with_switches(options), dir)
    }

    fn attempt(options: &str, dir: &Path) -> Result<Mount, Ran> {
        let ran = run(plyfs().args(["mount", "-o", options, "none"]).arg(dir));
        if ran.code == 0 { Ok(Mount::adopt(dir)) } else { Err(ran) }
    }

    /// `branches` (top first, the first `rw`) over a fresh `mnt` in `scratch`.
    #[track_caller]
    pub fn stack(scratch: &Scratch, branches: &[&str]) -> Mount {
        Mount::new(&options(scratch, branches), scratch.dir("mnt"))
    }

    /// The same without $PLYFS_SWITCHES.
    #[track_caller]
    pub fn stack_exactly(scratch: &Scratch, branches: &[&str]) -> Mount {
        Mount::exactly(&options(scratch, branches), scratch.dir("mnt"))
    }

    /// Takes over a mount made by other means.
    #[track_caller]
    pub fn adopt(dir: &Path) -> Mount {
        assert!(is_mounted(dir), "{} is not mounted although the program said so", dir.display());
        let servers = servers_of(dir);
        Mount { dir: dir.to_path_buf(), servers, done: false }
    }

    /// The mount point.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the union.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The server's process id (exactly one).
    #[track_caller]
    pub fn server(&self) -> i32 {
        assert_eq!(self.servers.len(), 1, "servers of {}: {:?}", self.dir.display(), self.servers);
        self.servers[0]
    }

    /// Unmounts and waits until the server has gone.
    #[track_caller]
    pub fn unmount(mut self) {
        self.done = true;
        umount(&self.dir);
        self.gone();
    }

    /// Asserts that nothing is mounted any more and the server has gone; for tests that unmount themselves.
    #[track_caller]
    pub fn was_unmounted(mut self) {
        self.done = true;
        wait_until("the mount is gone", || !is_mounted(&self.dir));
        self.gone();
    }

    #[track_caller]
    fn gone(&self) {
        let dir = &self.dir;
        wait_until("the server is gone", || !self.servers.iter().any(|pid| serves(*pid, dir)));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if std::thread::panicking() {
            // The test has failed already; do not hide why.
            let ran = run(Command::new("umount").arg("-l").arg(&self.dir));
            if ran.code != 0 {
                eprintln!("umount -l {}: {}", self.dir.display(), ran.err);
            }
            return;
        }
        umount(&self.dir);
        self.gone();
    }
}

/// umount(8). Tries again while the mount is busy: another test of this process may be starting a program, which for
/// a moment shares all our descriptors.
#[track_caller]
pub fn umount(dir: &Path) {
    let start = Instant::now();
    loop {
        let ran = run(Command::new("umount").arg(dir));
        if ran.code == 0 {
            return;
        }
        let again = ran.err.contains("busy") && start.elapsed() < PATIENCE;
        assert!(again, "umount {}: {}", dir.display(), ran.err);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `br:` options for folders of `scratch`: the first `rw`, the others `ro+wh`; a word with `=` is taken as it is.
pub fn options(scratch: &Scratch, branches: &[&str]) -> String {
    let mut text = String::from("br:");
    for (at, branch) in branches.iter().enumerate() {
        let (name, perm) = match branch.split_once('=') {
            Some((name, perm)) => (name, perm),
            None if at == 0 => (*branch, "rw"),
            None => (*branch, "ro+wh"),
        };
        let separator = if at == 0 { "" } else { ":" };
        text.push_str(&format!("{separator}{}={perm}", scratch.dir(name).display()));
    }
    text
}

/// Whether something is mounted exactly on `dir`.
pub fn is_mounted(dir: &Path) -> bool {
    mount_lines(dir).next().is_some()
}

/// The lines of mountinfo for `dir`.
pub fn mount_lines(dir: &Path) -> impl Iterator<Item = String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let dir = dir.to_string_lossy().into_owned();
    let lines: Vec<String> =
        text.lines().filter(|line| line.split(' ').nth(4) == Some(&dir)).map(Into::into).collect();
    lines.into_iter()
}

/// Processes of the program under test that have `dir` as an argument.
pub fn servers_of(dir: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(|pid| serves(*pid, dir)).collect()
}

fn serves(pid: i32, dir: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let words = fs::read(proc.join("cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
    let program = words.first().map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
    let own = plyfs_path();
    let own = own.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ours = [own.as_str(), "mount.aufs", "mount.plyfs", "fuse-overlayfs"];
    ours.iter().any(|name| program.ends_with(name))
        && words[1..].contains(&dir.as_os_str().as_encoded_bytes())
}

/// Waits for what must come; fails after [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes sure that a test which hangs in the union ends: kills the server after a while, so that every stuck call
/// returns with an error and the test fails with a message.
#[derive(Debug)]
pub struct Watchdog {
    stop: std::sync::mpsc::Sender<()>,
}

impl Watchdog {
    /// Starts watching; the server has three times [`PATIENCE`].
    pub fn new(mount: &Mount) -> Watchdog {
        Watchdog::within(mount, PATIENCE * 3)
    }

    /// The same with a time of the caller's.
    pub fn within(mount: &Mount, patience: Duration) -> Watchdog {
        let (stop, stopped) = std::sync::mpsc::channel();
        let servers = mount.servers.clone();
        std::thread::spawn(move || {
            if stopped.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("hangs: killing {servers:?}");
                for pid in servers {
                    kill(pid, rustix::process::Signal::KILL);
                }
            }
        });
        Watchdog { stop }
    }

    /// Ends watching.
    pub fn stop(self) {
        drop(self.stop);
    }
}

/// Sends a signal to one process; one that has gone already is no error.
pub fn kill(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("kill {pid:?}: {error}"),
    }
}
