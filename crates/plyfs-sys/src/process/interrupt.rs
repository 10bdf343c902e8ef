//! Signals that interrupt the main thread's system call, for a process that is to have no thread only to wait for them.
//!
//! A handler counts and makes whatever the main thread is blocked in fail with EINTR; the main thread then looks at
//! [`count`]. A signal that comes just before it blocks would be slept through: so until [`heard`] is called, an alarm
//! repeats the interruption every second.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use crate::{Result, SysError};

static COUNT: AtomicU32 = AtomicU32::new(0);
static HEARD: AtomicBool = AtomicBool::new(false);

/// From now on `signals` are counted and interrupt the main thread.
pub fn install(signals: &[i32]) -> Result<()> {
    for &signal in signals.iter().chain(&[libc::SIGALRM]) {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zeroes is a whole sigaction: no handler, an empty mask, no flags (so calls are not restarted).
        let action = unsafe { action.assume_init_mut() };
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: a whole sigaction, whose handler does only what a handler may; the third argument may be null.
        if unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) } != 0 {
            return Err(SysError::from_io("sigaction", &std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// How many came.
pub fn count() -> u32 {
    COUNT.load(SeqCst)
}

/// Somebody looks at [`count`] from now on: no need to interrupt again.
pub fn heard() {
    HEARD.store(true, SeqCst);
}

extern "C" fn handler(signal: libc::c_int) {
    // SAFETY: may be called in a handler, and never fails.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: errno of this thread, which the calls below may change under whoever was interrupted.
    let errno = unsafe { place.read() };
    // SAFETY: getpid and gettid may be called in a handler and always succeed.
    let process = unsafe { libc::getpid() };
    // SAFETY: as above.
    let here = unsafe { libc::gettid() };
    if here == process {
        if signal != libc::SIGALRM {
            COUNT.fetch_add(1, SeqCst);
        }
        if !HEARD.load(SeqCst) {
            // SAFETY: alarm may be called in a handler.
            unsafe { libc::alarm(1) };
        }
    } else {
        // The kernel chose another thread: it is the main one that is to be interrupted.
        // SAFETY: tgkill with the numbers of a thread that exists as long as the process.
        unsafe { libc::syscall(libc::SYS_tgkill, process, process, signal) };
    }
    // SAFETY: as at the top.
    unsafe { place.write(errno) };
}
