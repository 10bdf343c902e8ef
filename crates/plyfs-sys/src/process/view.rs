//! Namespaces and another root: what `plyfs try` runs its command in.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::error::Named;
use crate::{Errno, Result, SysError};

/// Where the caller may make mounts after [`unshare_mounts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// CAP_SYS_ADMIN was there: a mount namespace alone.
    Privileged,
    /// A user namespace of our own, in which our ids stay what they are.
    UserNamespace,
}

/// A mount namespace of this process' own, and where needed a user namespace around it. Nothing mounted after this is seen by
/// the host; what the host unmounts goes here, too (where it shares its mounts): a copy would keep it in use. Before the
/// first thread.
pub fn unshare_mounts() -> Result<Standing> {
    let standing = if super::may_administer() {
        unshare(UnshareFlags::NEWNS)?;
        Standing::Privileged
    } else {
        let (uid, gid) = (crate::cred::effective_uid(), crate::cred::effective_gid());
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
        // An unprivileged gid map is accepted only when setgroups is off (user_namespaces(7)).
        write_map("/proc/self/setgroups", "deny")?;
        write_map("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
        write_map("/proc/self/gid_map", &format!("{gid} {gid} 1"))?;
        Standing::UserNamespace
    };
    follow_the_host()?;
    Ok(standing)
}

/// Mounts and unmounts of the host reach into this new mount namespace; nothing reaches out.
fn follow_the_host() -> Result<()> {
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).named("mount(make-rslave)").map_err(|e| e.on("/"))
}

/// A user namespace and a mount namespace of our own, in which this process has every capability, and no ids yet: another
/// process, outside, writes the maps (newuidmap(1)), or this one [`map_own_ids`]. Mounts are as after [`unshare_mounts`].
/// Before the first thread.
pub fn unshare_users_and_mounts() -> Result<()> {
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    follow_the_host()
}

/// Maps root of this (new, unmapped) user namespace to `uid` and `gid`, which must be what we were before, and nothing
/// else.
pub fn map_own_ids(uid: u32, gid: u32) -> Result<()> {
    // An unprivileged gid map is accepted only when setgroups is off (user_namespaces(7)).
    write_map("/proc/self/setgroups", "deny")?;
    write_map("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write_map("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn unshare(flags: UnshareFlags) -> Result<()> {
    // SAFETY: the flags given here never hold CLONE_FILES, the one that could leave other threads' descriptors
    // dangling; namespaces touch no memory.
    unsafe { rustix::thread::unshare_unsafe(flags) }.named("unshare")
}

fn write_map(file: &str, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(|e| SysError::from_io("write", &e).on(file))
}

/// Processes made by this thread from now on live in a new pid namespace, the first one as its init.
pub fn unshare_pids() -> Result<()> {
    unshare(UnshareFlags::NEWPID)
}

/// Lets `command` run in a mount namespace of its own in which an empty tmpfs covers the mount at `hidden` (in a user
/// namespace it cannot be unmounted). Unmounts outside reach into it where the outside shares its mounts; nothing
/// reaches out.
pub fn hide_mount_from(command: &mut Command, hidden: &Path) -> Result<()> {
    let hidden = c_path(hidden)?;
    let hide = move || {
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        unshare(UnshareFlags::NEWNS).map_err(|error| error.errno())?;
        rustix::mount::mount_change(c"/", slave)?;
        rustix::mount::mount(c"plyfs", hidden.as_c_str(), c"tmpfs", MountFlags::RDONLY, c"size=4k,mode=555")?;
        Ok(())
    };
    // SAFETY: the closure makes system calls only, with a string made beforehand: it allocates nothing (an error of
    // ours is a number and a static text), takes no lock and cannot panic.
    unsafe { command.pre_exec(hide) };
    Ok(())
}

/// Binds `from` and everything mounted below it at `to`.
pub fn bind_all(from: &Path, to: &Path) -> Result<()> {
    rustix::mount::mount_bind_recursive(from, to).named("mount(bind)").map_err(|e| e.on(to))
}

/// Mounts a fresh tmpfs.
pub fn tmpfs(on: &Path, options: &CStr, read_only: bool) -> Result<()> {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, read_only);
    rustix::mount::mount("plyfs-try", on, "tmpfs", flags, options).named("mount(tmpfs)").map_err(|e| e.on(on))
}

/// Makes a mount and all below it read-only (mount_setattr(2), Linux 5.12).
pub fn read_only_all(at: &Path) -> Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let attr = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    let path = c_path(at)?;
    // SAFETY: mount_setattr(2) reads a NUL-ended path and `size_of::<MountAttr>()` bytes of the struct, laid out
    // as linux/mount.h's struct mount_attr; both outlive the call and it writes neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            AT_RECURSIVE,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(SysError::from_io("mount_setattr", &std::io::Error::last_os_error()).on(at))
    }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| SysError::new("path", Errno::INVAL).on(path))
}

/// The root that a command is to run under, and how it was before we changed ourselves.
#[derive(Debug)]
pub struct View {
    root: CString,
    proc: CString,
    cwd: CString,
    umask: u32,
    open_files: Option<u64>,
}

impl View {
    /// `root` is a mount point of this mount namespace; `cwd` is seen from inside and may be missing.
    pub fn new(root: &Path, cwd: &Path, umask: u32, open_files: Option<u64>) -> Result<View> {
        Ok(View {
            root: c_path(root)?,
            proc: c_path(&root.join("proc"))?,
            cwd: c_path(cwd)?,
            umask,
            open_files,
        })
    }

    /// Starts `command` as a child under this root, in a copy of the mount namespace; it is killed with the
    /// thread that calls this. After [`unshare_pids`] it is the init of its pid namespace.
    ///
    /// The program is found from inside. `/proc/self/exe` is this very program, wherever it lies.
    pub fn spawn(self, command: &mut Command) -> Result<Child> {
        let enter = move || self.enter().map_err(|(step, errno)| pack(step, errno));
        // SAFETY: `enter` runs in the child between fork and exec. It makes system calls only, with strings made
        // beforehand: it allocates nothing, takes no lock and cannot panic.
        unsafe { command.pre_exec(enter) };
        command.spawn().map_err(|error| unpack(&error))
    }

    fn enter(&self) -> std::result::Result<(), (Step, Errno)> {
        let kill = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(kill).map_err(|e| (Step::DeathSignal, e))?;
        super::set_umask(self.umask);
        super::set_open_files_limit(self.open_files).map_err(|e| (Step::Limit, e.errno()))?;
        unshare(UnshareFlags::NEWNS).map_err(|e| (Step::Unshare, e.errno()))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if rustix::mount::mount(c"proc", self.proc.as_c_str(), c"proc", flags, None).is_err() {
            // Inside a container that masks parts of /proc the kernel refuses a fresh one.
            rustix::mount::mount_bind_recursive(c"/proc", self.proc.as_c_str())
                .map_err(|e| (Step::Proc, e))?;
        }
        rustix::process::chdir(self.root.as_c_str()).map_err(|e| (Step::Root, e))?;
        match rustix::process::pivot_root(c".", c".") {
            // The old root lies under the new one now; it goes away for us alone.
            Ok(()) => rustix::mount::unmount(c".", UnmountFlags::DETACH).map_err(|e| (Step::Pivot, e))?,
            // Our root is no mount point (a chroot, an initramfs): the next best.
            Err(Errno::INVAL) => rustix::process::chroot(c".").map_err(|e| (Step::Pivot, e))?,
            Err(errno) => return Err((Step::Pivot, errno)),
        }
        rustix::process::chdir(c"/").map_err(|e| (Step::Root, e))?;
        // The directory may be gone or closed to us in the view; then the root it is.
        if rustix::process::chdir(self.cwd.as_c_str()).is_err() {
            return Ok(());
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Step {
    DeathSignal = 1,
    Limit,
    Unshare,
    Proc,
    Root,
    Pivot,
}

/// Of what the child returns, std carries an error number to the parent and nothing else: the step rides on it.
fn pack(step: Step, errno: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(((step as i32) << 16) | errno.raw_os_error())
}

fn unpack(error: &std::io::Error) -> SysError {
    let raw = error.raw_os_error().unwrap_or(libc::EIO);
    let call = match raw >> 16 {
        1 => "prctl(PR_SET_PDEATHSIG)",
        2 => "setrlimit",
        3 => "unshare(mounts)",
        4 => "mount(/proc)",
        5 => "chdir(new root)",
        6 => "pivot_root",
        _ => "execve",
    };
    SysError::new(call, Errno::from_raw_os_error(raw & 0xffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_that_failed_survives_the_way_to_the_parent() {
        let error = unpack(&pack(Step::Pivot, Errno::BUSY));
        assert_eq!((error.call(), error.errno()), ("pivot_root", Errno::BUSY));
        let plain = unpack(&std::io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!((plain.call(), plain.errno()), ("execve", Errno::NOENT));
    }
}
