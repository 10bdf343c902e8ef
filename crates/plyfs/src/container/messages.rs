//! What a container's monitor and whoever started it tell each other, over a [`Channel`].

use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::Context;
use plyfs_sys::channel::Channel;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// To the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first one: what to do with the standard streams.
    Attach {
        /// A descriptor to read standard input from comes along.
        input: bool,
        /// Two descriptors to copy standard output and error to come along (after `input`'s).
        output: bool,
    },
    /// Send the container this signal.
    Signal(i32),
}

/// From the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It runs. With a terminal, a descriptor of its master comes along.
    Started,
    /// It does not; nothing is left of the attempt.
    Failed {
        /// The exit code for it: 125, 126, 127.
        code: u8,
        /// Why.
        message: String,
        /// What may help.
        hint: Option<String>,
    },
    /// It has ended, and all is put away.
    Ended {
        /// As a shell numbers it.
        code: u8,
    },
}

/// Sends one.
pub(crate) fn send(
    channel: &Channel,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    Ok(channel.send(&bytes, fds)?)
}

/// Waits for one; `None`: the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(channel: &Channel) -> anyhow::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, fds)) = channel.receive()? else { return Ok(None) };
    let message = serde_json::from_slice(&bytes).context("a message that cannot be read")?;
    Ok(Some((message, fds)))
}
