//! Being the server of one mount: from options to the end of the connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use plyfs_fuse::{Session, Unmounter};
use plyfs_sys::mounts;
use plyfs_sys::process;
use plyfs_sys::process::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use plyfs_union::spec::MountSpec;
use plyfs_union::{BranchInfo, Union};

use crate::daemon::Ready;
use crate::exit::{self, Outcome};
use crate::runtime_dir::{self, Record, Registered};
use crate::{log, output};

/// How long files may stay open after a signal has detached the mount.
const GRACE: Duration = Duration::from_secs(3);

/// Mounts `spec` on `target` (absolute) and serves it until it is unmounted.
pub(crate) fn serve(spec: &MountSpec, target: &Path, ready: Ready) -> Outcome {
    // Blocked before the first thread, so that all threads leave them to the one that waits for them.
    let signals = Signals::block(&[SIGTERM, SIGINT, SIGHUP]).map_err(anyhow::Error::new)?;
    prepare_process();
    let (session, union) = mount(spec, target)?;
    let registered = register(spec, target, &union);
    drop(union);
    if ready.is_background() {
        log::settle(registered.as_ref().and_then(|registered| registered.log_file().ok()));
    }
    watch(signals, session.unmounter(), registered.as_ref().map(|r| r.dir().to_path_buf()))?;
    ready.say()?;
    tracing::info!("serving {}", target.display());
    session.wait().context("serving")?;
    drop(registered);
    Ok(exit::DONE)
}

/// What every server needs of its process: modes as given, and as many open files as it may have.
pub(crate) fn prepare_process() {
    process::set_umask(0);
    let (_, hard) = process::open_files_limit();
    if let Err(error) = process::set_open_files_limit(hard) {
        tracing::warn!("raising the limit of open files: {error}");
    }
}

/// Opens the branches and mounts them.
pub(crate) fn mount(spec: &MountSpec, target: &Path) -> anyhow::Result<(Session, Arc<Union>)> {
    let union = Arc::new(open(spec, target)?);
    let session = Session::start(union.clone(), target, spec);
    Ok((session.with_context(|| format!("mounting on {}", target.display()))?, union))
}

/// Opens the branches and checks that they can be seen through a mount on `target`.
pub(crate) fn open(spec: &MountSpec, target: &Path) -> anyhow::Result<Union> {
    let union = Union::open(spec).context("opening the branches")?;
    match lies_in(target, &union.branches()) {
        Some(branch) if !process::may_administer() => Err(anyhow!(
            "the mount point {} lies inside the branch {}: only with CAP_SYS_ADMIN (root, unshare -Urm) can the \
             branch be seen without the mount; choose a place outside",
            target.display(),
            branch.display()
        )),
        _ => Ok(union),
    }
}

/// The branch that `target` lies in: without a private view of it, whoever goes down there comes back to the server
/// itself. (A mount on the branch's own root is harmless: the branch is held open from below.)
fn lies_in(target: &Path, branches: &[BranchInfo]) -> Option<PathBuf> {
    let around = branches.iter().find(|branch| target != branch.path && target.starts_with(&branch.path));
    around.map(|branch| branch.path.clone())
}

/// Writes the mount down. It works without (only `status` and its like then know less), so failures are warnings.
fn register(spec: &MountSpec, target: &Path, union: &Union) -> Option<Registered> {
    let write = || -> anyhow::Result<Registered> {
        let list = mounts::list()?;
        runtime_dir::sweep(&list);
        let info = list.iter().rev().find(|mount| mount.mount_point == target);
        let info = info.context("the new mount is not in /proc/self/mountinfo")?;
        let record = Record::new(info, spec, &union.branches());
        Registered::write(&runtime_dir::home()?, &record, spec.xino.as_deref())
    };
    match write() {
        Ok(registered) => Some(registered),
        Err(error) => {
            output::warn(format_args!("writing the mount down: {}", exit::told(&error)));
            None
        }
    }
}

/// Unmounts at the first signal, gives up on open files after a while or at the second signal.
fn watch(signals: Signals, unmounter: Unmounter, record: Option<PathBuf>) -> anyhow::Result<()> {
    let wait = move || {
        if let Err(error) = signals.next() {
            tracing::error!("waiting for signals: {error}");
            return;
        }
        if let Err(busy) = unmounter.unmount(false) {
            tracing::info!("{busy}; detaching");
            if let Err(error) = unmounter.unmount(true) {
                // Unmounted by somebody else in the same moment; or not allowed, then leaving is all that is left.
                tracing::warn!("detaching: {error}");
            }
        }
        // Usually the connection ends now, the main thread with it, and the process before this wakes up.
        if let Err(error) = signals.next_within(GRACE) {
            tracing::error!("waiting for signals: {error}");
        }
        leave(record.as_deref());
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).context("starting a thread")?;
    Ok(())
}

/// Ends the process although files of the (detached) mount are open: they give ENOTCONN from now on.
#[expect(clippy::exit, reason = "the main thread waits for a connection that others keep open")]
fn leave(record: Option<&Path>) {
    if let Some(dir) = record {
        runtime_dir::remove(dir);
    }
    std::process::exit(exit::DONE.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_inside_a_branch_is_noticed() {
        let branch = |path: &str| BranchInfo { path: path.into(), perm: "ro".to_owned(), id: 64 };
        let inside = |target: &str| lies_in(Path::new(target), &[branch("/rw"), branch("/image")]);
        assert_eq!(inside("/image/sub"), Some("/image".into()));
        assert_eq!(inside("/image"), None);
        assert_eq!(inside("/image2"), None);
        assert_eq!(inside("/"), None);
    }
}
