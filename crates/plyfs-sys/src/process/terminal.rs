//! Whose the terminal is: job control between us and a shell in another pid namespace.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::signals::Signals;
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
