//! Standard streams of a container: from where its input comes, and where its output goes (the log, and whoever looks on).

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, bail};

use super::Target;
use crate::container::json_log::{Log, Splitter, Stream};
use crate::container::run_dir::RunDir;

/// How long output may come after the end of the process: others may have inherited its streams.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the command that started the container brought along.
#[derive(Debug)]
pub(crate) struct Wiring {
    input: Option<OwnedFd>,
    output: Option<(OwnedFd, OwnedFd)>,
}

impl Wiring {
    /// In the order of [`crate::container::messages::Request::Attach`].
    pub(crate) fn new(input: bool, output: bool, fds: Vec<OwnedFd>) -> anyhow::Result<Wiring> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().context("a descriptor is missing");
        let input = if input { Some(next()?) } else { None };
        let output = if output { Some((next()?, next()?)) } else { None };
        Ok(Wiring { input, output })
    }
}

/// The streams of a running container.
#[derive(Debug)]
pub(crate) struct Streams {
    pumps: usize,
    done: mpsc::Receiver<()>,
    master: Option<File>,
    /// Held open for a process that nobody gives input.
    _input: Option<PipeWriter>,
}

impl Streams {
    /// The terminal's master.
    pub(crate) fn master(&self) -> Option<&File> {
        self.master.as_ref()
    }

    /// Waits until all output has been read.
    pub(crate) fn finish(self) {
        for _ in 0..self.pumps {
            if self.done.recv_timeout(PATIENCE).is_err() {
                tracing::info!("somebody outside the container holds its output open");
                break;
            }
        }
    }
}

/// Runs the runtime's `create`. The inner error is what it said on standard error.
pub(crate) fn create(
    mut command: Command,
    tty: bool,
    open_stdin: bool,
    wiring: Wiring,
    dir: &RunDir,
    log: Log,
    target: &Target,
) -> anyhow::Result<Result<Streams, Vec<u8>>> {
    let log = Arc::new(log);
    let (ended, done) = mpsc::channel();
    let pump = |from: File, to: Option<OwnedFd>, stream: Stream| {
        let (log, ended) = (Arc::clone(&log), ended.clone());
        std::thread::spawn(move || {
            pump(from, to.map(File::from), stream, &log);
            // An error: the receiver has lost patience.
            ended.send(()).ok();
        });
    };
    let (out, err) = wiring.output.map_or((None, None), |(out, err)| (Some(out), Some(err)));
    if tty {
        let socket = dir.file("tty.sock");
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let (mut words, writer) = io::pipe()?;
        command.stderr(writer);
        if !run(command, target)? {
            return Ok(Err(said(&mut words)?));
        }
        let master = master(&listener)?;
        pump(master.try_clone()?, out, Stream::Stdout);
        return Ok(Ok(Streams { pumps: 1, done, master: Some(master), _input: None }));
    }
    let (out_reader, out_writer) = io::pipe()?;
    let (mut err_reader, err_writer) = io::pipe()?;
    let mut kept = None;
    let stdin = match wiring.input {
        Some(fd) => Stdio::from(fd),
        None if open_stdin => {
            let (reader, writer) = io::pipe()?;
            kept = Some(writer);
            reader.into()
        }
        None => Stdio::null(),
    };
    command.stdin(stdin).stdout(out_writer).stderr(err_writer);
    if !run(command, target)? {
        return Ok(Err(said(&mut err_reader)?));
    }
    pump(file(out_reader), out, Stream::Stdout);
    pump(file(err_reader), err, Stream::Stderr);
    Ok(Ok(Streams { pumps: 2, done, master: None, _input: kept }))
}

/// `command` holds our copies of the pipes' other ends: they go with it.
fn run(mut command: Command, target: &Target) -> anyhow::Result<bool> {
    let name = command.get_program().display().to_string();
    let mut child = command.spawn().with_context(|| format!("running {name}"))?;
    drop(command);
    target.is_created_by(child.id());
    let done = child.wait().with_context(|| format!("waiting for {name}"))?.success();
    if !done {
        // They hold its standard error open.
        super::kill_children();
    }
    Ok(done)
}

fn file(pipe: PipeReader) -> File {
    OwnedFd::from(pipe).into()
}

/// The first words: all that fit into the pipe.
fn said(pipe: &mut PipeReader) -> anyhow::Result<Vec<u8>> {
    let mut words = Vec::new();
    pipe.take(64 << 10).read_to_end(&mut words)?;
    Ok(words)
}

/// The runtime has connected and sent the terminal before it ended.
fn master(listener: &UnixListener) -> anyhow::Result<File> {
    listener.set_nonblocking(true)?;
    let (socket, _) = listener.accept().context("the runtime did not hand over the terminal")?;
    let socket = OwnedFd::from(socket);
    match plyfs_sys::dev::receive_descriptor(&socket)? {
        Some(fd) => Ok(fd.into()),
        None => bail!("the runtime did not hand over the terminal"),
    }
}

/// Copies until the end of `from`. Whoever looks on may go; the log stays.
fn pump(mut from: File, mut to: Option<File>, stream: Stream, log: &Log) {
    let mut splitter = Splitter::new(stream);
    let mut buffer = vec![0; 32 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // EIO: a terminal's last user has gone.
            Err(_) => break,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if to.as_mut().is_some_and(|to| to.write_all(bytes).is_err()) {
            to = None;
        }
        if let Err(error) = splitter.take(log, bytes) {
            tracing::warn!("writing the container's log: {error}");
        }
    }
    if let Err(error) = splitter.end(log) {
        tracing::warn!("writing the container's log: {error}");
    }
}
