//! Mounting a candidate over layers, and getting rid of the mount whatever happens.
//!
//! A mount has a folder of its own with a fresh upper directory. Its time runs from the start of the program (or the
//! first system call, for overlayfs) until a stat of the root has been answered by the new filesystem.
//! A server is found by its command line, which names the mount point.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use rustix::process::{Pid, Signal, kill_process};

use super::candidates::{Candidate, Kind, Programs};
use crate::run;

/// How long a server may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A mounted candidate.
#[derive(Debug)]
pub(crate) struct Mounted {
    base: PathBuf,
    root: bool,
    servers: Vec<Pid>,
    took: Duration,
    gone: bool,
}

impl Mounted {
    /// Mounts `candidate` over `layers` (top first) below the new folder `base`.
    pub(crate) fn new(
        candidate: &Candidate,
        programs: &Programs,
        layers: &[PathBuf],
        base: PathBuf,
    ) -> Result<Mounted> {
        let start = |base: &Path| match programs.of(candidate) {
            None => overlay(candidate, layers, base),
            Some(program) => serve(&mut command(candidate, &program, layers, base), base),
        };
        Mounted::started(start, base, programs.root(), candidate.kind.is_fuse())
    }

    /// Mounts by a command that is made for the new folder `base`: `up`, `work` and `mnt` are in it.
    pub(crate) fn by(command: impl FnOnce(&Path) -> Command, base: PathBuf) -> Result<Mounted> {
        Mounted::started(|base| serve(&mut command(base), base), base, run::is_root(), true)
    }

    fn started(
        mount: impl FnOnce(&Path) -> Result<()>,
        base: PathBuf,
        root: bool,
        served: bool,
    ) -> Result<Mounted> {
        for name in ["up", "work", "mnt"] {
            fs::create_dir_all(base.join(name))?;
        }
        let before = fs::metadata(base.join("mnt"))?.dev();
        // From here on, dropping it cleans up.
        let mut mounted = Mounted { base, root, servers: Vec::new(), took: Duration::ZERO, gone: false };
        let start = Instant::now();
        mount(&mounted.base)?;
        let answered = wait(|| fs::metadata(mounted.dir()).is_ok_and(|meta| meta.dev() != before));
        mounted.took = start.elapsed();
        mounted.servers = servers_of(&mounted.dir());
        if !answered {
            bail!("the program ended, but nothing is mounted");
        }
        if served && mounted.servers.is_empty() {
            bail!("mounted, but no server is found");
        }
        Ok(mounted)
    }

    /// The root of the mount.
    pub(crate) fn dir(&self) -> PathBuf {
        self.base.join("mnt")
    }

    /// The time from start to the first answer.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    /// The processes that serve it.
    pub(crate) fn servers(&self) -> &[Pid] {
        &self.servers
    }

    /// The FUSE connection's number: the minor device number of the mount.
    pub(crate) fn connection(&self) -> Result<u32> {
        Ok(rustix::fs::minor(fs::metadata(self.dir())?.dev()))
    }

    /// Unmounts, waits for the server's end and removes the folder.
    pub(crate) fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.gone = true;
        let dir = self.dir();
        if is_mounted(&dir) && !wait(|| detach(&dir, self.root, false).is_ok()) {
            detach(&dir, self.root, true)?;
            bail!("{} stayed busy and was detached", dir.display());
        }
        if !wait(|| !self.servers.iter().any(|pid| serves(*pid, &dir))) {
            self.servers.iter().for_each(kill);
            bail!("the server did not end after the unmount and was killed");
        }
        fs::remove_dir_all(&self.base).with_context(|| format!("removing {}", self.base.display()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.gone
            && let Err(error) = self.end()
        {
            eprintln!("bench: {}: {error:#}", self.base.display());
        }
    }
}

/// Kills the servers of a mount that has not been closed in time, so that calls stuck in it return with an error.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _stop: mpsc::Sender<()>,
}

impl Watchdog {
    pub(crate) fn new(mounted: &Mounted, patience: Duration) -> Watchdog {
        let (stop, stopped) = mpsc::channel();
        let servers = mounted.servers.clone();
        std::thread::spawn(move || {
            if stopped.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("bench: no end after {} s: killing the server", patience.as_secs());
                servers.iter().for_each(kill);
            }
        });
        Watchdog { _stop: stop }
    }
}

fn kill(pid: &Pid) {
    if let Err(error) = kill_process(*pid, Signal::KILL) {
        eprintln!("bench: kill {pid:?}: {error}");
    }
}

/// The command line of a FUSE candidate.
fn command(candidate: &Candidate, program: &Path, layers: &[PathBuf], base: &Path) -> Command {
    let mut command = Command::new(program);
    let mut options = OsString::new();
    let (up, work) = (base.join("up"), base.join("work"));
    if candidate.kind == Kind::Plyfs {
        options.push("br:");
        options.push(branches(&up, layers, "rw", "ro+wh"));
    } else if candidate.kind == Kind::UnionfsFuse {
        options.push("cow");
    } else {
        for (at, layer) in layers.iter().enumerate() {
            options.push(if at == 0 { "lowerdir=" } else { ":" });
            options.push(layer);
        }
        options.push(",upperdir=");
        options.push(&up);
        options.push(",workdir=");
        options.push(&work);
    }
    for option in &candidate.options {
        options.push(",");
        options.push(option);
    }
    if candidate.kind == Kind::Plyfs {
        command.arg("mount");
    }
    command.arg("-o").arg(options);
    if candidate.kind == Kind::UnionfsFuse {
        // With several threads, concurrent mkdir now and then makes the directory in a read-only branch (seen with 1.0):
        // everybody else's layers.
        command.arg("-s").arg(branches(&up, layers, "RW", "RO"));
    }
    command.arg(base.join("mnt"));
    command
}

/// `UP=rw:LAYER=ro:...`, the form of AUFS and unionfs.
fn branches(up: &Path, layers: &[PathBuf], rw: &str, ro: &str) -> OsString {
    let mut list = OsString::from(up);
    list.push(format!("={rw}"));
    for layer in layers {
        list.push(":");
        list.push(layer);
        list.push(format!("={ro}"));
    }
    list
}

/// Runs a program that mounts and goes into the background. What it says goes to a file: the server keeps the
/// descriptors, and a pipe would never end.
fn serve(command: &mut Command, base: &Path) -> Result<()> {
    let path = base.join("said");
    let said = fs::File::create(&path)?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    if !status.success() {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        bail!("mount failed ({status}): {}", shortened(&lines.join("; ")));
    }
    Ok(())
}

/// Option strings of 127 layers are no reading matter.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(240).collect();
    if short.len() < text.len() {
        short += "...";
    }
    short
}

/// Mounts overlayfs one layer a time; mount(2)'s one page of options holds no 127 absolute paths.
fn overlay(candidate: &Candidate, layers: &[PathBuf], base: &Path) -> Result<()> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen overlay")?;
    fsconfig_set_string(&fs, "source", "bench").context("fsconfig source")?;
    for layer in layers {
        fsconfig_set_string(&fs, "lowerdir+", layer).context("fsconfig lowerdir+")?;
    }
    fsconfig_set_string(&fs, "upperdir", base.join("up")).context("fsconfig upperdir")?;
    fsconfig_set_string(&fs, "workdir", base.join("work")).context("fsconfig workdir")?;
    for option in &candidate.options {
        let (key, value) =
            option.split_once('=').with_context(|| format!("overlay option {option}: KEY=VALUE"))?;
        fsconfig_set_string(&fs, key, value).with_context(|| format!("fsconfig {option}"))?;
    }
    fsconfig_create(&fs).context("fsconfig create")?;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).context("fsmount")?;
    move_mount(&mount, "", rustix::fs::CWD, base.join("mnt"), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context("move_mount")
}

fn detach(dir: &Path, root: bool, lazy: bool) -> Result<()> {
    if root {
        let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        return unmount(dir, flags).with_context(|| format!("unmounting {}", dir.display()));
    }
    let mut command = Command::new("fusermount3");
    command.arg(if lazy { "-uz" } else { "-u" }).arg(dir).stderr(Stdio::null());
    let status = command.status().context("starting fusermount3")?;
    if status.success() { Ok(()) } else { bail!("fusermount3 -u {}: {status}", dir.display()) }
}

fn is_mounted(dir: &Path) -> bool {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == dir))
}

/// The processes with `dir` as a word of their command line.
fn servers_of(dir: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw).filter(|pid| serves(*pid, dir)).collect()
}

fn serves(pid: Pid, dir: &Path) -> bool {
    let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    words.split(|byte| *byte == 0).any(|word| word == dir.as_os_str().as_encoded_bytes())
}

/// Waits for what must come; `false` if it does not.
fn wait(mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
