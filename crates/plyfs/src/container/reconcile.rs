//! Containers that have lost their monitor: killed, or the machine went down. Whoever looks at one, or
//! changes the store, puts it in order.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use plyfs_store::Store;
use plyfs_store::containers::Container;
use plyfs_sys::process::{self, signals};

use super::run_dir::{Owner, RunDir, Whose};
use super::runtime::Runtime;
use super::volumes;
use crate::exit::told;
use crate::store::Servers;

/// Of a container whose end nobody saw.
const UNKNOWN: i32 = 137;
/// What is killed is gone by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// Others hold the claim for a moment to ask whether somebody holds it.
const GLANCE: Duration = Duration::from_millis(200);

/// In [`plyfs_store::containers::State::other`]: with the pid it names the process for ever.
pub(crate) const START: &str = "PlyfsPidStart";
/// Beside it: the text of the [`Owner`]. The process of a copy's container is another's.
pub(crate) const OWNER: &str = "PlyfsRunner";

/// Claims a container; `None`: it has a monitor.
pub(crate) fn claim(store: &Store, id: &str) -> anyhow::Result<Option<File>> {
    let end = Instant::now() + GLANCE;
    loop {
        if let Some(claim) = store.claim_container(id)? {
            return Ok(Some(claim));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Puts every container in order; those that cannot be are told of.
pub(crate) fn all(store: &Store) {
    let Ok(containers) = store.containers() else { return };
    for container in &containers {
        if let Err(error) = one(store, container) {
            tracing::warn!("container {}: {}", container.short(), told(&error));
        }
    }
}

/// Was it being run by somebody who is dead? A start that was not yet recorded has left its directory.
pub(crate) fn is_lost(store: &Store, container: &Container) -> anyhow::Result<bool> {
    Ok(is_left(store, container)? && !store.is_run(&container.id)?)
}

/// A container as it is after it was put in order; `None` if it was to be removed at its end.
pub(crate) fn one(store: &Store, container: &Container) -> anyhow::Result<Option<Container>> {
    if !is_lost(store, container)? {
        return Ok(Some(container.clone()));
    }
    let Some(claim) = claim(store, &container.id)? else { return Ok(Some(container.clone())) };
    // Its monitor may have ended properly just now.
    let container = match store.container(&container.id) {
        Ok(container) if is_left(store, &container)? => container,
        Ok(container) => return Ok(Some(container)),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if store.host_config(&container.id)?.auto_remove {
        clear(store, &container)?;
        volumes::remove_with(store, &container, claim)?;
        return Ok(None);
    }
    bury(store, &container).map(Some)
}

/// Something is left of a run. Asked by who has the claim.
pub(crate) fn is_left(store: &Store, container: &Container) -> anyhow::Result<bool> {
    if container.state.running {
        return Ok(true);
    }
    let whose = RunDir::of(&container.id)?.whose(&Owner::now(store, &container.id)?);
    Ok(whose.is_some_and(|whose| whose != Whose::Anothers))
}

/// Ends what is left of a run that nobody watches, and records it. The caller has the claim.
pub(crate) fn bury(store: &Store, container: &Container) -> anyhow::Result<Container> {
    clear(store, container)?;
    if !container.state.running {
        return Ok(container.clone());
    }
    let after = store.update_container(&container.id, |container| {
        container.state.running = false;
        container.state.paused = false;
        container.state.pid = 0;
        container.state.exit_code = UNKNOWN;
        container.state.finished_at = Timestamp::now();
        container.state.other.remove(START);
        container.state.other.remove(OWNER);
    })?;
    Ok(after)
}

/// Ends what is left of a run: processes, mounts, its directory. Not those of the store that this one is a copy of.
fn clear(store: &Store, container: &Container) -> anyhow::Result<()> {
    let run = RunDir::of(&container.id)?;
    let owner = Owner::now(store, &container.id)?;
    let whose = run.whose(&owner);
    if let Some(program) = run.runtime().filter(|_| whose == Some(Whose::Ours)) {
        // The process below is the runtime's to kill, but not only its.
        if let Err(error) = Runtime::at(program).delete(&run, &container.id) {
            tracing::info!("{}", told(&error));
        }
    }
    kill(container, &owner).context("killing what is left of it")?;
    let layers = store.container_layers(&container.id)?;
    store.driver().release(&layers.id, &Servers)?;
    if whose == Some(Whose::Anothers) { Ok(()) } else { run.remove() }
}

fn kill(container: &Container, owner: &Owner) -> anyhow::Result<()> {
    let written = container.state.other.get(OWNER).and_then(serde_json::Value::as_str).unwrap_or_default();
    if owner.whose(written) != Whose::Ours {
        return Ok(());
    }
    let pid = container.state.pid;
    let Some(start) = container.state.other.get(START).and_then(serde_json::Value::as_u64) else {
        return Ok(());
    };
    if process::start_time(pid) == Some(start) {
        // ESRCH: it ended in this moment.
        drop(process::send_to(pid, start, signals::SIGKILL));
        process::wait_gone(pid, PATIENCE)?;
    }
    Ok(())
}

/// Sends a signal to a running container's first process.
pub(crate) fn signal(container: &Container, signal: i32) -> anyhow::Result<()> {
    let start = container.state.other.get(START).and_then(serde_json::Value::as_u64);
    let start = start.with_context(|| format!("Container {} is not running", container.short()))?;
    Ok(process::send_to(container.state.pid, start, signal)?)
}
