//! Signals taken by asking for them (sigtimedwait), so that no code ever runs inside a handler.

use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use crate::{Errno, Result, SysError};

/// A set of signals, blocked in this thread and in every thread and process made after ([`Signals::unblock_in`]).
pub struct Signals {
    set: libc::sigset_t,
}

/// A signal taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// Its number.
    pub signal: i32,
    /// Sent by the kernel itself: a key on the terminal, a child's end. Everyone in the foreground got it too.
    pub from_kernel: bool,
}

pub use libc::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signals")
    }
}

impl Signals {
    /// Blocks `signals`. Call before the first thread is made.
    pub fn block(signals: &[i32]) -> Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset writes the whole set that it is given; the pointer is to our own local.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset, above, made it whole; it cannot fail with a valid pointer.
        let mut set = unsafe { set.assume_init() };
        for &signal in signals {
            // SAFETY: a whole set of our own; a number that is no signal is answered with an error.
            if unsafe { libc::sigaddset(&mut set, signal) } != 0 {
                return Err(SysError::new("sigaddset", Errno::INVAL));
            }
        }
        // SAFETY: a whole set; the third argument may be null.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if code == 0 {
            Ok(Signals { set })
        } else {
            Err(SysError::new("pthread_sigmask", Errno::from_raw_os_error(code)))
        }
    }

    /// Lets `command`, and what it runs, have them as usual: a blocked signal stays blocked over execve(2).
    pub fn unblock_in(&self, command: &mut Command) {
        let set = self.set;
        let unblock = move || {
            // SAFETY: a whole set, copied into the closure; the third argument may be null.
            match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) } {
                0 => Ok(()),
                code => Err(std::io::Error::from_raw_os_error(code)),
            }
        };
        // SAFETY: pthread_sigmask is async-signal-safe and may be called between fork and exec; nothing is allocated.
        unsafe { command.pre_exec(unblock) };
    }

    /// Waits for the next one.
    pub fn next(&self) -> Result<Caught> {
        loop {
            if let Some(caught) = self.next_within(Duration::from_secs(3600))? {
                return Ok(caught);
            }
        }
    }

    /// Waits for the next one, at most `limit` (begun anew when a handler of somebody else interrupts).
    pub fn next_within(&self, limit: Duration) -> Result<Option<Caught>> {
        let seconds = libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX);
        let timeout = libc::timespec { tv_sec: seconds, tv_nsec: limit.subsec_nanos().into() };
        loop {
            let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
            // SAFETY: a whole set and a whole timespec; `info` is filled when the answer is above 0.
            let signal = unsafe { libc::sigtimedwait(&self.set, info.as_mut_ptr(), &timeout) };
            if signal > 0 {
                // SAFETY: filled by sigtimedwait, which succeeded.
                let info = unsafe { info.assume_init() };
                return Ok(Some(Caught { signal, from_kernel: info.si_code > 0 }));
            }
            match Errno::from_io_error(&std::io::Error::last_os_error()) {
                Some(Errno::AGAIN) => return Ok(None),
                Some(Errno::INTR) => {}
                errno => return Err(SysError::new("sigtimedwait", errno.unwrap_or(Errno::IO))),
            }
        }
    }
}

/// Ends the process as `signal` does where nobody handles it, blocked or not. Answers only if that could not be.
pub fn end_by(signal: i32) -> Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: SIG_DFL runs no code of ours; a number that is no signal is answered with an error.
    if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(SysError::new("signal", Errno::INVAL));
    }
    // SAFETY: sigemptyset writes the whole set that it is given; the pointer is to our own local.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: a whole set (above); the number is a signal's (above).
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: a whole set (above); the third argument may be null.
    let code = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut()) };
    if code != 0 {
        return Err(SysError::new("pthread_sigmask", Errno::from_raw_os_error(code)));
    }
    // SAFETY: to this thread, by which it ends the process.
    match unsafe { libc::raise(signal) } {
        0 => Ok(()),
        _ => Err(SysError::new("raise", Errno::INVAL)),
    }
}

/// Lets `command`, and what it runs, have every signal as usual, whatever is blocked here.
pub fn unblock_all_in(command: &mut Command) {
    let unblock = || {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset writes the whole set that it is given; the pointer is to our own local.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: a whole set (above); the third argument may be null.
        match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) } {
            0 => Ok(()),
            code => Err(std::io::Error::from_raw_os_error(code)),
        }
    };
    // SAFETY: both calls are async-signal-safe and may be made between fork and exec; nothing is allocated.
    unsafe { command.pre_exec(unblock) };
}

/// Names without `SIG`.
const NAMES: [(libc::c_int, &str); 30] = [
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGILL, "ILL"),
    (libc::SIGTRAP, "TRAP"),
    (libc::SIGABRT, "ABRT"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGFPE, "FPE"),
    (libc::SIGKILL, "KILL"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGSEGV, "SEGV"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGPIPE, "PIPE"),
    (libc::SIGALRM, "ALRM"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGSTKFLT, "STKFLT"),
    (libc::SIGCHLD, "CHLD"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGSTOP, "STOP"),
    (libc::SIGTSTP, "TSTP"),
    (libc::SIGTTIN, "TTIN"),
    (libc::SIGTTOU, "TTOU"),
    (libc::SIGURG, "URG"),
    (libc::SIGXCPU, "XCPU"),
    (libc::SIGXFSZ, "XFSZ"),
    (libc::SIGVTALRM, "VTALRM"),
    (libc::SIGPROF, "PROF"),
    (libc::SIGWINCH, "WINCH"),
    (libc::SIGIO, "IO"),
    (libc::SIGSYS, "SYS"),
];

/// A signal by name (with or without `SIG`, `RTMIN+N` and `RTMAX-N` too) or number, as people write it.
pub fn parse(text: &str) -> Option<i32> {
    let valid = |number: &i32| (1..=libc::SIGRTMAX()).contains(number);
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(valid);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |word: &str, base: i32, sign: char| {
        let rest = name.strip_prefix(word)?;
        let step = if rest.is_empty() { 0 } else { rest.strip_prefix(sign)?.parse::<i32>().ok()? };
        let number = if sign == '+' { base.checked_add(step)? } else { base.checked_sub(step)? };
        (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number).then_some(number)
    };
    let known = NAMES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number);
    known
        .or_else(|| real_time("RTMIN", libc::SIGRTMIN(), '+'))
        .or_else(|| real_time("RTMAX", libc::SIGRTMAX(), '-'))
}

/// The name without `SIG`, for messages.
pub fn name(signal: i32) -> String {
    let found = NAMES.iter().find(|(number, _)| *number == signal);
    found.map_or_else(|| signal.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, want) in
            [("TERM", Some(15)), ("sigkill", Some(9)), ("9", Some(9)), ("SIGRTMIN+3", Some(37))]
        {
            assert_eq!(parse(text), want, "{text}");
        }
        for bad in ["", "0", "-1", "65", "SIG", "NOPE", "RTMIN-1", "RTMIN+99"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_child_is_not_blocked() {
        let ended = std::thread::spawn(|| {
            let signals = Signals::block(&[libc::SIGUSR1]).unwrap();
            let mut command = Command::new("sh");
            signals.unblock_in(command.args(["-c", "kill -USR1 $$; exit 3"]));
            command.status().unwrap()
        });
        let ended = ended.join().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGUSR1));
    }

    #[test]
    fn a_blocked_signal_is_taken_by_asking() {
        std::thread::spawn(|| {
            let signals = Signals::block(&[libc::SIGUSR2]).unwrap();
            // SAFETY: raise sends to this very thread, in which the signal is blocked.
            unsafe { libc::raise(libc::SIGUSR2) };
            let caught = signals.next().unwrap();
            assert_eq!(caught, Caught { signal: libc::SIGUSR2, from_kernel: false });
        })
        .join()
        .unwrap();
    }
}
