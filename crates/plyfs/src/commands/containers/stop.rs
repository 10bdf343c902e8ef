//! `plyfs stop`, `plyfs kill`, `plyfs wait`.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use plyfs_store::Store;
use plyfs_store::containers::Container;
use plyfs_sys::process::{self, signals};

use super::{each, find};
use crate::cli::containers::{Containers, KillArgs, StopArgs};
use crate::cli::store::StoreArgs;
use crate::container::reconcile;
use crate::container::run_dir::RunDir;
use crate::exit::{Failure, Outcome};
use crate::{output, store};

/// Between two looks at a container that is ending.
const GLANCE: Duration = Duration::from_millis(20);
/// A process that was killed, and its monitor's work after it, take no longer: longer than a server is waited for.
const PATIENCE: Duration = Duration::from_secs(90);

/// Sends the stop signal, waits, kills.
pub(crate) fn stop(args: &StopArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    each(&args.containers, &mut |name| {
        let container = find(&store, name)?;
        if container.state.running {
            end(&store, &container, Duration::from_secs(args.time))?;
        }
        output::raw(format!("{name}\n").as_bytes())
    })
}

/// Ends a running container, and waits until its monitor has put it away.
pub(crate) fn end(store: &Store, container: &Container, patience: Duration) -> Result<(), Failure> {
    let wanted = &container.config.stop_signal;
    let signal = signals::parse(wanted).unwrap_or(signals::SIGTERM);
    if !patience.is_zero() {
        gone_is_fine(reconcile::signal(container, signal))?;
        let gone = process::wait_gone(container.state.pid, patience).map_err(anyhow::Error::new)?;
        if gone {
            return settled(store, &container.id);
        }
    }
    gone_is_fine(reconcile::signal(container, signals::SIGKILL))?;
    settled(store, &container.id)
}

/// The process may have ended just before.
fn gone_is_fine(sent: anyhow::Result<()>) -> anyhow::Result<()> {
    match sent {
        Err(error) if is_gone(&error) => Ok(()),
        sent => sent,
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<plyfs_sys::SysError>().is_some_and(|error| error.errno() == plyfs_sys::Errno::SRCH)
}

/// Waits until the container is recorded as ended, or removed.
fn settled(store: &Store, id: &str) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        match store.container(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(anyhow::Error::new(error).into()),
            // Its monitor has put it away, and removed it if that was to be done.
            Ok(container) if !container.state.running => {
                if !store.is_run(id).map_err(anyhow::Error::new)? {
                    return Ok(());
                }
            }
            Ok(container) if reconcile::one(store, &container)?.is_none() => return Ok(()),
            Ok(_) => {}
        }
        if Instant::now() >= end {
            return Err(anyhow!("container {id} was killed and does not end").into());
        }
        std::thread::sleep(GLANCE);
    }
}

/// Sends any signal.
pub(crate) fn kill(args: &KillArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    let number = signals::parse(&args.signal)
        .with_context(|| format!("Invalid signal: {}", args.signal))
        .map_err(Failure::from)?;
    each(&args.containers, &mut |name| {
        let container = find(&store, name)?;
        if !container.state.running {
            return Err(
                anyhow!("Cannot kill container: {name}: Container {} is not running", container.id).into()
            );
        }
        reconcile::signal(&container, number)?;
        output::raw(format!("{name}\n").as_bytes())
    })
}

/// Waits for the end of each and prints its exit code.
pub(crate) fn wait(args: &Containers, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    each(&args.containers, &mut |name| {
        let container = find(&store, name)?;
        let code = ended(&store, container)?;
        output::raw(format!("{code}\n").as_bytes())
    })
}

/// Waits for a container's end.
fn ended(store: &Store, mut container: Container) -> Result<i32, Failure> {
    // Opened while it runs: it may be removed with its end.
    let told = File::open(RunDir::of(&container.id)?.file("exit"));
    while container.state.running {
        std::thread::sleep(GLANCE);
        match store.container(&container.id) {
            Err(error) if error.is_not_found() => {
                let text = io::read_to_string(told.context("the container was removed")?);
                let code = text.context("reading the exit code")?.trim().parse();
                return Ok(code.context("the container was removed while it ran")?);
            }
            Err(error) => return Err(anyhow::Error::new(error).into()),
            Ok(now) => container = reconcile::one(store, &now)?.unwrap_or(container),
        }
    }
    Ok(container.state.exit_code)
}
