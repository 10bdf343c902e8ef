//! Which descriptors a program gets that is started from here.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets `command` have its standard streams and no other descriptor, not even one that we inherited without knowing
/// (close_range(2), Linux 5.11; before, one by one).
pub fn standard_streams_only(command: &mut Command) {
    let mark = || {
        const FIRST: libc::c_uint = 3;
        // SAFETY: close_range(2) takes three integers. With CLOEXEC it closes nothing now: std's own pipe to the parent,
        // and whatever lives until exec, stay usable.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                FIRST,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
            )
        };
        if answer == 0 { Ok(()) } else { one_by_one(FIRST) }
    };
    // SAFETY: system calls only, on integers: nothing is allocated, no lock is taken.
    unsafe { command.pre_exec(mark) };
}

fn one_by_one(first: libc::c_uint) -> io::Result<()> {
    // No descriptor lies beyond the limit, unless it was lowered since: kernels without close_range are old.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    for fd in u64::from(first)..limit.min(1 << 20) {
        let Ok(fd) = libc::c_int::try_from(fd) else { break };
        // SAFETY: fcntl(2) with integers; EBADF for those that are not open is fine.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
