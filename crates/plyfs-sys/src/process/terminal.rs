//! Terminals: whose it is (job control between us and a shell in another pid namespace), raw mode, window size.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::termios::{self, OptionalActions, Termios};

use super::signals::Signals;
use crate::error::Named;
use crate::{Result, SysError};

/// The controlling terminal, of which our process group had the foreground.
#[derive(Debug)]
pub struct Foreground {
    tty: File,
    group: libc::pid_t,
}

impl Foreground {
    /// `None`: no terminal, or it is somebody else's turn (we were started in the background).
    pub fn ours() -> Option<Foreground> {
        let tty = File::options().read(true).write(true).open("/dev/tty").ok()?;
        // SAFETY: getpgrp(2) takes nothing and cannot fail.
        let group = unsafe { libc::getpgrp() };
        // SAFETY: tcgetpgrp(3) on a descriptor that `tty` keeps open.
        let now = unsafe { libc::tcgetpgrp(tty.as_raw_fd()) };
        (now == group).then_some(Foreground { tty, group })
    }

    /// Takes it back. A shell in another pid namespace cannot: there our process group has no number.
    pub fn take_back(&self) -> Result<()> {
        // From the background tcsetpgrp sends SIGTTOU, which would stop us. Blocked it is not sent.
        let _blocked = Signals::block(&[libc::SIGTTOU])?;
        // SAFETY: tcsetpgrp(3) on a descriptor that `tty` keeps open.
        if unsafe { libc::tcsetpgrp(self.tty.as_raw_fd(), self.group) } == 0 {
            Ok(())
        } else {
            Err(SysError::from_io("tcsetpgrp", &std::io::Error::last_os_error()).on("/dev/tty"))
        }
    }
}

/// A terminal in raw mode: every key goes through as it is. Dropped, it is what it was.
#[derive(Debug)]
pub struct Raw {
    tty: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Makes the terminal raw; `None` if it is no terminal.
    pub fn begin(tty: impl AsFd) -> Result<Option<Raw>> {
        if !termios::isatty(&tty) {
            return Ok(None);
        }
        let tty = tty.as_fd().try_clone_to_owned().map_err(|e| SysError::from_io("dup", &e))?;
        let before = termios::tcgetattr(&tty).named("tcgetattr")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&tty, OptionalActions::Now, &raw).named("tcsetattr")?;
        Ok(Some(Raw { tty, before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // From the background this would stop us (SIGTTOU); blocked it does not. Nobody is left to tell of a failure:
        // the terminal is gone.
        let blocked = Signals::block(&[libc::SIGTTOU]);
        drop(blocked.and_then(|_| {
            termios::tcsetattr(&self.tty, OptionalActions::Drain, &self.before).named("tcsetattr")
        }));
    }
}

/// Gives `to` (a terminal, or its master) the window size of `from`; nothing happens if either has none.
pub fn copy_size(from: impl AsFd, to: impl AsFd) {
    let size = termios::tcgetwinsize(from).ok().filter(|size| size.ws_row > 0);
    // Setting it fails when `to` has been hung up: then nobody looks at its size.
    size.and_then(|size| termios::tcsetwinsize(to, size).ok());
}
