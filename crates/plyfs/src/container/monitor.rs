//! The process that watches one running container: starts it, keeps its output, and puts everything away at its end.
//!
//! It is a child of the command that started the container, in a session of its own, and outlives it. Its standard input
//! is the [`Channel`] to that command.

mod streams;

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use plyfs_store::Store;
use plyfs_store::containers::{Container, ContainerLayers, HostConfig};
use plyfs_sys::Dir;
use plyfs_sys::channel::Channel;
use plyfs_sys::process::signals::{self, Signals};
use plyfs_sys::process::{self, Ended};

use super::bundle::{self, Plan};
use super::messages::{self, Event, Request};
use super::reconcile::{self, OWNER, START};
use super::run_dir::{Owner, RunDir};
use super::runtime::{self, Runtime};
use super::{etc, rootfs, volumes};
use crate::cli::containers::MonitorArgs;
use crate::cli::store::StoreArgs;
use crate::exit::{self, Failure, Outcome, told};
use crate::log;
use crate::store::{self, Servers};
use streams::Streams;

/// Nothing but SIGKILL ends a monitor before its container.
const DEAF_TO: [i32; 6] = [
    signals::SIGTERM,
    signals::SIGHUP,
    signals::SIGINT,
    signals::SIGQUIT,
    signals::SIGUSR1,
    signals::SIGUSR2,
];

/// A container on its way through one run.
struct Run<'a> {
    store: &'a Store,
    container: Container,
    host: HostConfig,
    layers: ContainerLayers,
    runtime: Runtime,
    dir: RunDir,
    owner: Owner,
    mounted: Cell<bool>,
    target: Arc<Target>,
}

/// Watches the container to its end.
pub(crate) fn run(args: &MonitorArgs, store: &StoreArgs) -> Outcome {
    let channel = Arc::new(Channel::inherited().map_err(anyhow::Error::new)?);
    process::new_session().map_err(anyhow::Error::new)?;
    process::set_umask(0o022);
    Signals::block(&DEAF_TO).map_err(anyhow::Error::new)?;
    log::start(false, true);
    if let Err(failure) = watch(args, store, &channel) {
        let (message, hint) = (told(&failure.error), failure.hint);
        let code = if failure.code == exit::FAILED { exit::TRY_FAILED } else { failure.code };
        if messages::send(&channel, &Event::Failed { code, message: message.clone(), hint }, &[]).is_err() {
            tracing::error!("{message}");
        }
        return Ok(exit::FAILED);
    }
    Ok(exit::DONE)
}

fn watch(args: &MonitorArgs, store: &StoreArgs, channel: &Arc<Channel>) -> Result<(), Failure> {
    let wiring = match messages::receive::<Request>(channel)? {
        Some((Request::Attach { input, output }, fds)) => streams::Wiring::new(input, output, fds)?,
        other => return Err(anyhow!("began with {other:?}").into()),
    };
    let target = Arc::new(Target::default());
    listen(Arc::clone(channel), Arc::clone(&target));
    let store = store::open_for_monitor(store)?;
    let claim = reconcile::claim(&store, &args.id)?
        .ok_or_else(|| anyhow!("container {} is being run by another process", args.id))?;
    let mut container = store.container(&args.id).map_err(anyhow::Error::new)?;
    if reconcile::is_left(&store, &container)? {
        container = reconcile::bury(&store, &container)?;
    }
    volumes::locate(&store, &mut container);
    let host = store.host_config(&args.id).map_err(anyhow::Error::new)?;
    let layers = store.container_layers(&args.id).map_err(anyhow::Error::new)?;
    let wanted = host.other.get("Runtime").and_then(|name| name.as_str());
    let runtime = Runtime::find(wanted.filter(|name| wanted_by_plyfs(&container, name)))?;
    let owner = Owner::now(&store, &args.id)?;
    let dir = RunDir::make(&args.id, &owner)?;
    let run = Run {
        store: &store,
        container,
        host,
        layers,
        runtime,
        dir,
        owner,
        mounted: Cell::new(false),
        target,
    };
    let ended = run.begin(wiring, channel).and_then(|(streams, pid)| run.end(streams, pid));
    if let Err(failure) = &ended {
        run.undo();
        run.record(failure)?;
    }
    if run.host.auto_remove {
        volumes::remove_with(&store, &run.container, claim)?;
    } else {
        drop(claim);
    }
    let code = ended?;
    // Nobody may be listening any more.
    drop(messages::send(channel, &Event::Ended { code }, &[]));
    Ok(())
}

/// Docker writes the names of its own configuration here.
fn wanted_by_plyfs(container: &Container, runtime: &str) -> bool {
    !container.other.contains_key("Managed") && runtime != "io.containerd.runc.v2"
}

impl Run<'_> {
    /// To the point where the process runs.
    fn begin(&self, wiring: streams::Wiring, channel: &Arc<Channel>) -> Result<(Streams, u32), Failure> {
        let root = self.mount()?;
        self.prepare(&root)?;
        let streams = self.create(wiring)?;
        let (pid, start) = self.pid()?;
        self.target.is_container(pid, start);
        self.runtime.start(&self.dir, &self.container.id).map_err(refused)?;
        self.store
            .update_container(&self.container.id, |container| {
                container.state.running = true;
                container.state.pid = pid;
                container.state.exit_code = 0;
                container.state.error.clear();
                container.state.started_at = Timestamp::now();
                container.state.other.insert(START.to_owned(), start.into());
                container.state.other.insert(OWNER.to_owned(), self.owner.text().into());
            })
            .map_err(anyhow::Error::new)?;
        let master = streams.master();
        let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
        // Whoever asked may be gone already; the container lives on.
        drop(messages::send(channel, &Event::Started, &fds));
        // From here on nobody reads our standard error.
        process::silence_stdio().map_err(anyhow::Error::new)?;
        log::settle(File::create(self.dir.file("monitor.log")).ok());
        drop(fds);
        Ok((streams, pid))
    }

    /// Makes the container's files visible.
    fn mount(&self) -> anyhow::Result<std::path::PathBuf> {
        let how = super::how_to_mount(self.store, &self.layers, self.runtime.cgroups);
        let path = self.store.driver().get_with(&self.layers.id, &Servers, &how)?;
        self.mounted.set(true);
        Ok(path)
    }

    /// Everything that the bundle names.
    fn prepare(&self, path: &std::path::Path) -> anyhow::Result<()> {
        let (container, config) = (&self.container, &self.container.config);
        let root = Dir::open(path)?;
        let who = rootfs::who(&root, &config.user)?;
        if !config.working_dir.is_empty() {
            rootfs::make_dirs(&root, &config.working_dir)
                .with_context(|| format!("the working directory {}", config.working_dir))?;
        }
        if container.state.started_at == plyfs_store::containers::NEVER {
            volumes::fill(container, &root)?;
        }
        for point in container.mount_points.values() {
            let is_dir = std::path::Path::new(&point.source).is_dir();
            rootfs::make_mount_point(&root, &point.destination, is_dir)?;
        }
        for (place, _) in bundle::tmpfs_of(&self.host) {
            rootfs::make_mount_point(&root, &place, true)?;
        }
        let dir = self.store.layout().container(&container.id);
        etc::write(&dir, &config.hostname, bundle::network(&self.host))?;
        let cgroups = self.runtime.cgroups;
        let plan = Plan { container, host: &self.host, dir: &dir, root: path, who: &who, cgroups };
        bundle::write(&plan, self.dir.path())?;
        std::fs::write(self.dir.file("exit"), "")?;
        std::fs::write(self.dir.file("runtime"), self.runtime.program().as_os_str().as_encoded_bytes())?;
        Ok(())
    }

    /// The process is there and waits.
    fn create(&self, wiring: streams::Wiring) -> Result<Streams, Failure> {
        let (id, tty) = (&self.container.id, self.container.config.tty);
        // The runtime ends before the process that it made, which becomes our child.
        process::adopt_orphans().map_err(anyhow::Error::new)?;
        let command = self.runtime.create(&self.dir, id, tty)?;
        let log = super::json_log::path(&self.store.layout().container(id), id);
        let log = super::json_log::Log::open(&log).with_context(|| log.display().to_string())?;
        let open_stdin = self.container.config.open_stdin;
        match streams::create(command, tty, open_stdin, wiring, &self.dir, log, &self.target)? {
            Ok(streams) => Ok(streams),
            Err(stderr) => {
                let words = runtime::words_of(&self.dir, &stderr);
                Err(refused(anyhow!("{}: {words}", self.runtime.program().display())))
            }
        }
    }

    fn pid(&self) -> anyhow::Result<(u32, u64)> {
        let path = self.dir.file("pid");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let pid = text.trim().parse().with_context(|| path.display().to_string())?;
        let start = process::start_time(pid).context("the process ended before it was started")?;
        Ok((pid, start))
    }

    /// From the process' end on.
    fn end(&self, streams: Streams, pid: u32) -> Result<u8, Failure> {
        let ended = process::wait_for(pid).map_err(anyhow::Error::new)?;
        streams.finish();
        self.settle(ended)?;
        Ok(ended.shell_code())
    }

    /// The exit code is written down before anything that may fail; that it runs no more, when all is put away: others wait
    /// for it.
    fn settle(&self, ended: Ended) -> anyhow::Result<()> {
        let id = &self.container.id;
        self.store.update_container(id, |container| {
            container.state.exit_code = ended.shell_code().into();
            container.state.finished_at = Timestamp::now();
        })?;
        // What is left then, its directory says: the next command that looks at the container puts it away.
        let failure = self.tidy(ended).err().map(|error| told(&error));
        if let Some(words) = &failure {
            tracing::warn!("{words}");
        }
        if self.host.auto_remove {
            // Removed in a moment. Should we die before: as one that runs and has no monitor it goes all the same.
            return Ok(());
        }
        self.store.update_container(id, |container| {
            container.state.running = false;
            container.state.paused = false;
            container.state.pid = 0;
            container.state.error = failure.unwrap_or_default();
            container.state.other.remove(START);
            container.state.other.remove(OWNER);
        })?;
        Ok(())
    }

    fn tidy(&self, ended: Ended) -> anyhow::Result<()> {
        let code = std::fs::write(self.dir.file("exit"), ended.shell_code().to_string());
        if let Err(error) = self.runtime.delete(&self.dir, &self.container.id) {
            tracing::warn!("{}", told(&error));
        }
        self.mounted.set(false);
        self.store.driver().put(&self.layers.id, &Servers)?;
        code?;
        self.dir.remove()
    }

    /// What `inspect` and `ps` tell of a start that failed, as Docker's do.
    fn record(&self, failure: &Failure) -> anyhow::Result<()> {
        self.store.update_container(&self.container.id, |container| {
            container.state.running = false;
            container.state.pid = 0;
            container.state.other.remove(START);
            container.state.other.remove(OWNER);
            container.state.exit_code = failure.code.into();
            container.state.error = told(&failure.error);
        })?;
        Ok(())
    }

    /// Takes an attempt back. What fails is told: the failure that led here is the one that counts.
    fn undo(&self) {
        let tell = |what: &str, error: &anyhow::Error| tracing::warn!("{what}: {}", told(error));
        if self.dir.file("runtime").exists()
            && let Err(error) = self.runtime.delete(&self.dir, &self.container.id)
        {
            // Usually there is nothing to delete.
            tracing::debug!("{}", told(&error));
        }
        kill_children();
        if self.mounted.replace(false)
            && let Err(error) = self.store.driver().put(&self.layers.id, &Servers)
        {
            tell("unmounting", &error.into());
        }
        if let Err(error) = self.dir.remove() {
            tell("tidying up", &error);
        }
    }
}

/// What a runtime that failed, or was killed, left half-made: orphans are our children.
pub(crate) fn kill_children() {
    loop {
        let children = process::children();
        if children.is_empty() {
            return;
        }
        for child in children {
            // An error: it was waited for elsewhere.
            process::send(child, signals::SIGKILL).and_then(|()| process::wait_for(child)).ok();
        }
    }
}

/// Words of the runtime, with the code that Docker gives them.
fn refused(error: anyhow::Error) -> Failure {
    let code = runtime::refusal_code(&told(&error));
    Failure::new(code, error)
}

/// Who gets the signals that the command hands on. Until the container runs, those that end a process break the start
/// off: the runtime's `create` is killed.
#[derive(Debug, Default)]
pub(crate) struct Target(Mutex<Aim>);

#[derive(Debug, Clone, Copy, Default)]
enum Aim {
    /// Nothing runs yet.
    #[default]
    Nobody,
    /// Nothing runs yet, and nothing is to.
    Stopped,
    /// The runtime's `create`: pid, start time.
    Runtime(u32, u64),
    /// The container's own process.
    Container(u32, u64),
}

impl Target {
    fn now(&self) -> MutexGuard<'_, Aim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime's `create` runs.
    pub(crate) fn is_created_by(&self, pid: u32) {
        let mut aim = self.now();
        match (*aim, process::start_time(pid)) {
            (Aim::Stopped, Some(start)) => shoot(pid, start, signals::SIGKILL),
            (_, Some(start)) => *aim = Aim::Runtime(pid, start),
            (_, None) => {}
        }
    }

    fn is_container(&self, pid: u32, start: u64) {
        *self.now() = Aim::Container(pid, start);
    }

    fn hit(&self, signal: i32) {
        const ENDING: [i32; 4] = [signals::SIGHUP, signals::SIGINT, signals::SIGQUIT, signals::SIGTERM];
        let mut aim = self.now();
        match *aim {
            Aim::Container(pid, start) => shoot(pid, start, signal),
            Aim::Runtime(pid, start) if ENDING.contains(&signal) => shoot(pid, start, signals::SIGKILL),
            Aim::Nobody if ENDING.contains(&signal) => *aim = Aim::Stopped,
            Aim::Nobody | Aim::Stopped | Aim::Runtime(..) => {}
        }
    }
}

fn shoot(pid: u32, start: u64, signal: i32) {
    if let Err(error) = process::send_to(pid, start, signal) {
        tracing::debug!("{error}");
    }
}

/// Hands on the signals that the command asks for, until it is gone.
fn listen(channel: Arc<Channel>, target: Arc<Target>) {
    std::thread::spawn(move || {
        while let Ok(Some((request, _))) = messages::receive::<Request>(&channel) {
            if let Request::Signal(signal) = request {
                target.hit(signal);
            }
        }
    });
}
