//! Processes: daemonising, limits, waiting; signals ([`signals`]) and namespaces ([`view`]) below.
//!
//! Not here: when to do which (crate `plyfs`), mounting a FUSE filesystem (`mounts`).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, WaitOptions, WaitStatus};

use crate::error::Named;
use crate::{Errno, Result, SysError};

pub mod inherit;
pub mod interrupt;
pub mod probe;
pub mod ready;
pub mod signals;
pub mod terminal;
pub mod view;

/// Which side of [`fork`] we are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The caller, with the new process' id.
    Parent(u32),
    /// The new process.
    Child,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// exit(2) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Ended {
    /// The code a shell would give: 128 + signal for a killed process.
    pub fn shell_code(self) -> u8 {
        let code = match self {
            Ended::Code(code) => code,
            Ended::Signal(signal) => 128 + signal,
        };
        u8::try_from(code & 0xff).unwrap_or(u8::MAX)
    }

    fn from_status(status: WaitStatus) -> Option<Ended> {
        let code = status.exit_status().map(Ended::Code);
        code.or_else(|| status.terminating_signal().map(Ended::Signal))
    }
}

/// fork(2), refused with EBUSY once the process has threads: the child would have their locks but not them.
pub fn fork() -> Result<Forked> {
    if thread_count() != 1 {
        return Err(SysError::new("fork", Errno::BUSY));
    }
    // SAFETY: this is the only thread (checked above), so the child is a whole copy: no lock is held by a
    // thread that it lacks, and every function may be called in it.
    let pid = unsafe { libc::fork() };
    match u32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) => Ok(Forked::Parent(pid)),
        Err(_) => Err(SysError::from_io("fork", &std::io::Error::last_os_error())),
    }
}

fn thread_count() -> usize {
    // Without /proc nobody can tell; then the caller's word ("before any thread") has to do.
    std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count())
}

fn pid_of(pid: u32) -> Result<Pid> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    raw.ok_or_else(|| SysError::new("pid", Errno::SRCH))
}

/// Waits for one child.
pub fn wait_for(pid: u32) -> Result<Ended> {
    let pid = pid_of(pid)?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                if let Some(ended) = Ended::from_status(status) {
                    return Ok(ended);
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(SysError::new("waitpid", errno)),
        }
    }
}

/// Takes one ended child, if there is any; never waits.
pub fn reap() -> Option<(u32, Ended)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    let ended = Ended::from_status(status)?;
    Some((u32::try_from(pid.as_raw_nonzero().get()).ok()?, ended))
}

/// Sends a signal; a process that is gone is ESRCH.
pub fn send(pid: u32, signal: i32) -> Result<()> {
    let pid = pid_of(pid)?;
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    let answer = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
    if answer == 0 { Ok(()) } else { Err(SysError::from_io("kill", &std::io::Error::last_os_error())) }
}

/// Field 22 of /proc/PID/stat: start time in clock ticks since boot. With the pid it names one process for ever;
/// `None` when there is no such process (or it is a zombie).
pub fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything, parentheses too.
    let after = text.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = std::str::from_utf8(&text[after..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Waits until a process (not necessarily a child) has ended; false when `limit` passed first.
pub fn wait_gone(pid: u32, limit: Duration) -> Result<bool> {
    let fd = match rustix::process::pidfd_open(pid_of(pid)?, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(Errno::SRCH) => return Ok(true),
        Err(errno) => return Err(SysError::new("pidfd_open", errno)),
    };
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let timeout = Timespec { tv_sec: seconds, tv_nsec: limit.subsec_nanos().into() };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(SysError::new("poll", errno)),
    }
}

/// Sends a signal to the process that had `pid` and began at `start` ([`start_time`]), and to no other that got its
/// number since; one that is gone is ESRCH.
pub fn send_to(pid: u32, start: u64, signal: i32) -> Result<()> {
    let fd = rustix::process::pidfd_open(pid_of(pid)?, PidfdFlags::empty()).named("pidfd_open")?;
    // Whoever has the number now keeps it as long as the descriptor means the same process.
    if start_time(pid) != Some(start) {
        return Err(SysError::new("pidfd_send_signal", Errno::SRCH));
    }
    let no_info = std::ptr::null::<libc::siginfo_t>();
    let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
    // SAFETY: pidfd_send_signal(2) with a descriptor that `fd` keeps open; the third argument may be null.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, number, signal, no_info, 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(SysError::from_io("pidfd_send_signal", &std::io::Error::last_os_error()))
    }
}

/// Orphans among this process' descendants become its children, to be waited for (prctl(2), PR_SET_CHILD_SUBREAPER).
pub fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).named("prctl(SUBREAPER)")
}

/// This process' children, those that are not waited for yet included.
pub fn children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    texts
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// A session of its own: no controlling terminal, no job control.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().named("setsid").map(|_| ())
}

/// Standard input, output and error become /dev/null, so that who reads our stderr sees its end.
pub fn silence_stdio() -> Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| SysError::from_io("open", &e).on("/dev/null"))?;
    for fd in 0..=2 {
        // SAFETY: dup2(2) on the three standard numbers. Rust's std handles for them hold no state tied to what
        // they were, and nothing else owns them.
        let answer = unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), fd) };
        if answer < 0 {
            return Err(SysError::from_io("dup2", &std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// Sets the file mode creation mask; the old one comes back.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// RLIMIT_NOFILE: soft and hard; `None` is without limit.
pub fn open_files_limit() -> (Option<u64>, Option<u64>) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    (limit.current, limit.maximum)
}

/// Sets the soft RLIMIT_NOFILE, leaving the hard one.
pub fn set_open_files_limit(soft: Option<u64>) -> Result<()> {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: soft, maximum }).named("setrlimit")
}

/// CAP_SYS_ADMIN is in effect in our user namespace: mount(2) and unshare(2) of mounts are ours to call.
pub fn may_administer() -> bool {
    let ours = rustix::thread::capabilities(None);
    ours.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

/// We are in the initial user namespace (its id map is the identity over all ids).
pub fn in_initial_user_namespace() -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else { return false };
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// CAP_SYS_ADMIN is in effect in the initial user namespace: what the kernel asks of who gives it files to read and
/// write by itself (FUSE_PASSTHROUGH).
pub fn may_pass_through() -> bool {
    may_administer() && in_initial_user_namespace()
}

/// The id maps of our user namespace, as text: two processes of one text see the same owners on one filesystem.
pub fn id_maps() -> Result<String> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(|e| SysError::from_io("read", &e).on(file));
    Ok(read("/proc/self/uid_map")? + &read("/proc/self/gid_map")?)
}

/// access(2) for writing, with the effective ids.
pub fn may_write(path: &Path) -> bool {
    let (here, flags) = (rustix::fs::CWD, rustix::fs::AtFlags::EACCESS);
    rustix::fs::accessat(here, path, rustix::fs::Access::WRITE_OK, flags).is_ok()
}

/// A regular file that may be executed, with the effective ids.
pub fn may_execute(path: &Path) -> bool {
    let (here, flags) = (rustix::fs::CWD, rustix::fs::AtFlags::EACCESS);
    path.is_file() && rustix::fs::accessat(here, path, rustix::fs::Access::EXEC_OK, flags).is_ok()
}

/// Takes an exclusive flock(2) on a directory, held until the descriptor is closed; `None` when another has it.
pub fn try_lock(dir: &Path) -> Result<Option<OwnedFd>> {
    use rustix::fs::{FlockOperation, Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).named("open").map_err(|e| e.on(dir))?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(SysError::new("flock", errno).on(dir)),
    }
}

/// Moves this process into another mount namespace (mount(8) -N): a file such as /proc/PID/ns/mnt.
pub fn enter_mount_namespace(file: &Path) -> Result<()> {
    use std::os::fd::AsFd;
    let link = std::fs::File::open(file).map_err(|e| SysError::from_io("open", &e).on(file))?;
    rustix::thread::move_into_link_name_space(link.as_fd(), Some(rustix::thread::LinkNameSpaceType::Mount))
        .named("setns")
        .map_err(|e| e.on(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let me = std::process::id();
        assert!(start_time(me).is_some());
        assert_eq!(start_time(me), start_time(me));
        assert_eq!(start_time(u32::MAX), None);
    }

    #[test]
    fn shell_codes() {
        assert_eq!(Ended::Code(3).shell_code(), 3);
        assert_eq!(Ended::Signal(9).shell_code(), 137);
    }

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!wait_gone(child.id(), Duration::from_millis(1)).unwrap());
        send(child.id(), libc::SIGKILL).unwrap();
        assert!(wait_gone(child.id(), Duration::from_secs(20)).unwrap());
        assert_eq!(start_time(child.id()), None);
        child.wait().unwrap();
    }
}
