//! `plyfs umount` and `umount.aufs`: unmounts and waits until the server has ended.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use plyfs_sys::mounts::{self, UnmountFlags};
use plyfs_sys::{Errno, process};

use crate::commands::mount::remount::set_read_only;
use crate::exit::{self, Failure, Outcome};
use crate::mounted::{self, Mounted};
use crate::personality::UmountPlan;
use crate::{output, runtime_dir};

/// How long a server may take to end after its mount has gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries out any form of unmount, with the exit codes of that form.
pub(crate) fn run(plan: &UmountPlan) -> Outcome {
    let code = if plan.helper { exit::MOUNT_FAILED } else { exit::FAILED };
    unmount(plan).map(|()| exit::DONE).map_err(|failure| failure.with_code(code))
}

/// Unmounts `target` and waits for its server, for other commands.
pub(crate) fn quietly(target: &Path) -> Result<(), Failure> {
    unmount(&UmountPlan { target: target.to_owned(), ..UmountPlan::default() })
}

fn unmount(plan: &UmountPlan) -> Result<(), Failure> {
    if let Some(file) = &plan.namespace {
        process::enter_mount_namespace(file).map_err(anyhow::Error::new)?;
    }
    let mounted = mounted::at(&plan.target)?;
    let place = &mounted.info.mount_point;
    if plan.verbose {
        output::note(format_args!("unmounting {}", place.display()));
    }
    match detach(place, plan) {
        Ok(()) => {}
        Err(Refused::Busy) if plan.read_only_if_busy => {
            output::note(format_args!("{} is busy; making it read-only", place.display()));
            return Ok(set_read_only(&mounted)?);
        }
        Err(Refused::Busy) => {
            let busy = anyhow!("unmounting {}: it is busy: files in it are open", place.display());
            let hint = format!(
                "see who it is: fuser -vm {0}; or detach it now: plyfs umount --lazy {0}",
                place.display()
            );
            return Err(Failure::from(busy).or_hint(&hint));
        }
        Err(Refused::For(error)) => {
            return Err(error.context(format!("unmounting {}", place.display())).into());
        }
    }
    if plan.lazy { Ok(()) } else { wait_for_server(&mounted) }
}

enum Refused {
    Busy,
    For(anyhow::Error),
}

fn detach(place: &Path, plan: &UmountPlan) -> Result<(), Refused> {
    let mut flags = UnmountFlags::empty();
    flags.set(UnmountFlags::DETACH, plan.lazy);
    flags.set(UnmountFlags::FORCE, plan.force);
    match mounts::unmount(place, flags) {
        Ok(()) => Ok(()),
        Err(error) if error.errno() == Errno::BUSY => Err(Refused::Busy),
        Err(error) if error.errno() == Errno::PERM => by_fusermount(place, plan.lazy),
        Err(error) => Err(Refused::For(error.into())),
    }
}

/// The ordinary user's way: fusermount3 is set-user-id root and unmounts what its caller has mounted.
fn by_fusermount(place: &Path, lazy: bool) -> Result<(), Refused> {
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(place).stdin(Stdio::null());
    let said = command.output().context("running fusermount3").map_err(Refused::For)?;
    if said.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    if words.contains("busy") { Err(Refused::Busy) } else { Err(Refused::For(anyhow!("{words}"))) }
}

fn wait_for_server(mounted: &Mounted) -> Result<(), Failure> {
    let Some(found) = &mounted.found else { return Ok(()) };
    // The pid may have been used again if the server died before.
    if found.record.is_alive()
        && !process::wait_gone(found.record.pid, PATIENCE).map_err(anyhow::Error::new)?
    {
        // The mount may be in use elsewhere: bound to another place, or copied into another namespace.
        return Err(Failure::from(anyhow!(
            "unmounted, but the server (pid {}) has not ended after {} seconds; is {} mounted in another namespace too?",
            found.record.pid,
            PATIENCE.as_secs(),
            mounted.info.mount_point.display()
        )));
    }
    runtime_dir::sweep(&mounts::list().map_err(anyhow::Error::new)?);
    Ok(())
}
