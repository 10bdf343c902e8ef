//! Standard streams of a container: from where its input comes, and where its output goes (the log, and whoever looks on).

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, bail};
use plyfs_sys::process::ready::{self, Ready};

use super::Target;
use crate::container::json_log::{Log, Splitter, Stream};
use crate::container::run_dir::RunDir;

/// How long a stream may be silent after the end of the process before it is given up: others may have inherited it.
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
    /// Closed at the end of the process.
    running: PipeWriter,
    master: Option<File>,
    /// Held open for a process that nobody gives input.
    _input: Option<PipeWriter>,
}

impl Streams {
    /// The terminal's master.
    pub(crate) fn master(&self) -> Option<&File> {
        self.master.as_ref()
    }

    /// The process has ended: waits until all output has been read, logged, and taken by whoever looks on.
    pub(crate) fn finish(self) {
        drop(self.running);
        for _ in 0..self.pumps {
            if self.done.recv().is_err() {
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
    let (over, running) = io::pipe()?;
    let over = Arc::new(over);
    let pump = |from: File, to: Option<OwnedFd>, stream: Stream| {
        let (log, over, ended) = (Arc::clone(&log), Arc::clone(&over), ended.clone());
        std::thread::spawn(move || {
            pump(Source { from, over }, to.map(File::from), stream, &log);
            // An error: nobody waits.
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
        return Ok(Ok(Streams { pumps: 1, done, running, master: Some(master), _input: None }));
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
    Ok(Ok(Streams { pumps: 2, done, running, master: None, _input: kept }))
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

/// A stream of the container.
struct Source {
    from: File,
    /// At its end the process has ended.
    over: Arc<PipeReader>,
}

impl Source {
    /// What comes next; 0: nothing will.
    fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        let limit = match ready::wait(self.from.as_fd(), Some(self.over.as_fd()), None)? {
            Ready::First => None,
            Ready::Second | Ready::Neither => Some(PATIENCE),
        };
        if limit.is_some() && ready::wait(self.from.as_fd(), None, limit)? == Ready::Neither {
            tracing::info!("somebody outside the container holds its output open");
            return Ok(0);
        }
        match self.from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read(buffer),
            count => Ok(count?),
        }
    }
}

/// Copies until the end of `from`. Whoever looks on is waited for while he lives, and may go; the log stays.
fn pump(mut from: Source, mut to: Option<File>, stream: Stream, log: &Log) {
    let mut splitter = Splitter::new(stream);
    let mut buffer = vec![0; 32 << 10];
    // EIO: a terminal's last user has gone.
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        if let Err(error) = splitter.take(log, bytes) {
            tracing::warn!("writing the container's log: {error}");
        }
        if to.as_mut().is_some_and(|to| to.write_all(bytes).is_err()) {
            to = None;
        }
    }
    if let Err(error) = splitter.end(log) {
        tracing::warn!("writing the container's log: {error}");
    }
}
