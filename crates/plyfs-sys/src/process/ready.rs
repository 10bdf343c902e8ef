//! Waiting until one of two descriptors can be read (poll(2)).

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::Named;
use crate::{Errno, Result};

/// What [`wait`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The first can be read without waiting, were it only to learn of its end.
    First,
    /// The second alone can.
    Second,
    /// The limit passed before.
    Neither,
}

/// Waits until `first` or `second` can be read, or is at its end, for at most `limit` (which a signal begins anew); without
/// one, for ever.
pub fn wait(first: BorrowedFd<'_>, second: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> Result<Ready> {
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let fds = [Some(first), second].into_iter().flatten();
    let mut polled: Vec<PollFd<'_>> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    loop {
        match poll(&mut polled, limit.as_ref()) {
            Err(Errno::INTR) => {}
            count => {
                count.named("poll")?;
                break;
            }
        }
    }
    let is_ready = |at: usize| polled.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok(if is_ready(0) {
        Ready::First
    } else if is_ready(1) {
        Ready::Second
    } else {
        Ready::Neither
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn the_first_goes_before_the_second_and_an_end_counts() {
        let (first, mut to_first) = std::io::pipe().unwrap();
        let (second, to_second) = std::io::pipe().unwrap();
        let look = || wait(first.as_fd(), Some(second.as_fd()), Some(Duration::ZERO)).unwrap();
        assert_eq!(look(), Ready::Neither);
        drop(to_second);
        assert_eq!(look(), Ready::Second);
        to_first.write_all(b"x").unwrap();
        assert_eq!(look(), Ready::First);
    }
}
