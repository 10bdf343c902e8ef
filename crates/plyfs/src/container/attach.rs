//! Starting a container by starting its monitor, and looking on: streams, signals, the terminal, the exit code.
//!
//! The monitor does not need us: whoever kills this process leaves the container running, with its monitor.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use plyfs_store::containers::Container;
use plyfs_sys::channel::Channel;
use plyfs_sys::process;
use plyfs_sys::process::signals::{self, Signals};
use plyfs_sys::process::terminal::{self, Raw};

use super::messages::{self, Event, Request};
use super::runtime;
use crate::cli::containers::MONITOR;
use crate::cli::store::StoreArgs;
use crate::exit::{self, Failure};
use crate::store::Named;

/// What is handed on to the container.
const HANDED_ON: [i32; 7] = [
    signals::SIGHUP,
    signals::SIGINT,
    signals::SIGQUIT,
    signals::SIGTERM,
    signals::SIGUSR1,
    signals::SIGUSR2,
    signals::SIGWINCH,
];

/// Starts a container in the background.
pub(crate) fn detached(store: &StoreArgs, root: &Path, id: &str) -> Result<(), Failure> {
    let channel = monitor(store, root, id)?;
    messages::send(&channel, &Request::Attach { input: false, output: false }, &[])?;
    match messages::receive(&channel)? {
        Some((Event::Started | Event::Ended { .. }, _)) => Ok(()),
        Some((Event::Failed { code, message, hint }, _)) => {
            Err(Failure { code, error: anyhow!(message), hint })
        }
        None => Err(lost()),
    }
}

/// Starts a container and stays with it to its end; the answer is its exit code.
pub(crate) fn foreground(
    store: &StoreArgs,
    root: &Path,
    container: &Container,
    input: bool,
) -> Result<u8, Failure> {
    // Before the first thread.
    let signals = Signals::block(&HANDED_ON).map_err(anyhow::Error::new)?;
    let tty = container.config.tty;
    let channel = Arc::new(monitor(store, root, &container.id)?);
    let (out, their_out) = io::pipe().map_err(anyhow::Error::new)?;
    let (err, their_err) = io::pipe().map_err(anyhow::Error::new)?;
    let mut feeding = None;
    let mut theirs: Vec<OwnedFd> = Vec::new();
    if input && !tty {
        let (reader, writer) = io::pipe().map_err(anyhow::Error::new)?;
        theirs.push(reader.into());
        feeding = Some(File::from(OwnedFd::from(writer)));
    }
    let attach = Request::Attach { input: !theirs.is_empty(), output: true };
    theirs.extend([their_out.into(), their_err.into()]);
    let fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
    messages::send(&channel, &attach, &fds)?;
    let terminal = Arc::new(OnceLock::new());
    hand_on(signals, Arc::clone(&channel), Arc::clone(&terminal));
    drop(fds);
    drop(theirs);
    let raw = match messages::receive(&channel)? {
        Some((Event::Started, fds)) => {
            let master = fds.into_iter().next().map(File::from).map(Arc::new);
            let raw = if tty && input { Raw::begin(io::stdin()).map_err(anyhow::Error::new)? } else { None };
            if let Some(master) = master {
                terminal::copy_size(io::stdout(), &*master);
                // Set here alone.
                terminal.set(master).ok();
            }
            raw
        }
        other => return Err(failed(other)),
    };
    // After the terminal was made raw: it would add carriage returns of its own.
    let copies = [copy(out.into(), io::stdout()), copy(err.into(), io::stderr())];
    if input {
        feed(feeding, terminal.get().cloned());
    }
    let end = messages::receive(&channel)?;
    for copy in copies {
        // A reader that went away early is its own affair.
        drop(copy.join());
    }
    drop(raw);
    match end {
        Some((Event::Ended { code }, _)) => Ok(code),
        other => Err(failed(other)),
    }
}

fn failed(event: Option<(Event, Vec<OwnedFd>)>) -> Failure {
    match event {
        Some((Event::Failed { code, message, hint }, _)) => Failure { code, error: anyhow!(message), hint },
        Some((event, _)) => Failure::new(exit::TRY_FAILED, anyhow!("the container's monitor said {event:?}")),
        None => lost(),
    }
}

fn lost() -> Failure {
    let error = anyhow!(
        "the container's monitor died; the container is ended with the next command that looks at it"
    );
    Failure { code: exit::TRY_FAILED, error, hint: None }
}

/// A program of its own: it outlives this process, and no descriptor goes with it but the channel.
fn monitor(store: &StoreArgs, root: &Path, id: &str) -> anyhow::Result<Channel> {
    let (ours, theirs) = Channel::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0_plyfs().arg("--root").arg(root);
    if store.writable {
        command.arg("--writable");
    }
    command.arg(MONITOR).arg(id).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    // It outlives us: a lock or a pipe of our caller's must not live as long, nor his directory stay in use.
    process::inherit::standard_streams_only(&mut command);
    command.current_dir("/");
    if let Some(runtime) = runtime::from_environment()? {
        command.env(runtime::VARIABLE, runtime);
    }
    command.spawn().context("starting the container's monitor")?;
    Ok(ours)
}

/// Copies to one of our streams until the other side is closed.
fn copy(from: OwnedFd, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0; 32 << 10];
        while let Ok(count @ 1..) = read(&mut from, &mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default();
            // Our reader is gone: the container learns of it when it writes, as without us.
            if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
    })
}

fn read(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            count => return count,
        }
    }
}

/// Copies our standard input; at its end a pipe is closed, a terminal is left as it is.
fn feed(pipe: Option<File>, terminal: Option<Arc<File>>) {
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; 32 << 10];
        while let Ok(count @ 1..) = read(&mut stdin, &mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default();
            let given = match (&pipe, &terminal) {
                (Some(pipe), _) => { pipe }.write_all(bytes),
                (None, Some(terminal)) => { &**terminal }.write_all(bytes),
                (None, None) => return,
            };
            if given.is_err() {
                return;
            }
        }
    });
}

/// Signals go to the container; a change of our window's size to its terminal.
fn hand_on(signals: Signals, channel: Arc<Channel>, terminal: Arc<OnceLock<Arc<File>>>) {
    std::thread::spawn(move || {
        while let Ok(caught) = signals.next() {
            match (terminal.get(), caught.signal) {
                (Some(master), signals::SIGWINCH) => terminal::copy_size(io::stdout(), &**master),
                (None, signals::SIGWINCH) => {}
                (_, signal) => {
                    if messages::send(&channel, &Request::Signal(signal), &[]).is_err() {
                        return;
                    }
                }
            }
        }
    });
}
