//! Being the server of one mount: from options to the end of the connection.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use plyfs_fuse::{Server, Session, Unmounter};
use plyfs_sys::mounts;
use plyfs_sys::process;
use plyfs_sys::process::interrupt;
use plyfs_sys::process::signals::{SIGHUP, SIGINT, SIGTERM};
use plyfs_union::spec::MountSpec;
use plyfs_union::{BranchInfo, Union};

use crate::daemon::Ready;
use crate::exit::{self, Outcome};
use crate::runtime_dir::{self, Record, Registered};
use crate::{log, output};

/// How long files may stay open after a signal has detached the mount.
const GRACE: Duration = Duration::from_secs(3);
/// How often a second signal is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Mounts `spec` on `target` (absolute) and serves it until it is unmounted.
///
/// By the main thread, so that an idle server has no other. What has to be done around the mount is done by a thread that
/// ends then: it may touch the mount (whose target may be above it), which must be served meanwhile.
pub(crate) fn serve(spec: &MountSpec, target: &Path, ready: Ready) -> Outcome {
    interrupt::install(&[SIGTERM, SIGINT, SIGHUP]).map_err(anyhow::Error::new)?;
    prepare_process();
    let union = Arc::new(open(spec, target)?);
    let branches = union.branches();
    let server = Server::mount(Arc::clone(&union), target, spec);
    let server = server.with_context(|| format!("mounting on {}", target.display()))?;
    // What was agreed with the kernel is known by now.
    let passthrough = union.has_passthrough() && process::may_pass_through();
    drop(union);
    let unmounter = server.unmounter();
    let registered = Arc::new(OnceLock::new());
    watch(&server, &registered);
    let begin = {
        let (spec, target, registered) = (spec.clone(), target.to_path_buf(), Arc::clone(&registered));
        move || {
            let record = register(&spec, &target, &branches, passthrough);
            announce(record, &target, &registered, ready)
        }
    };
    let begun = std::thread::Builder::new().name("plyfs-start".to_owned()).spawn(move || {
        begin().inspect_err(|_| {
            if let Err(error) = unmounter.unmount(true) {
                tracing::warn!("{error}");
            }
        })
    });
    let begun = begun.context("starting a thread").inspect_err(|_| {
        if let Err(error) = plyfs_fuse::unmount(target, true) {
            tracing::warn!("{error}");
        }
    })?;
    server.serve().context("serving")?;
    // A panic there has been printed.
    begun.join().map_err(|_panic| anyhow!("starting failed"))??;
    if let Some(record) = registered.get().and_then(Option::as_ref) {
        runtime_dir::remove(record.dir());
    }
    Ok(exit::DONE)
}

/// The mount is written down: lets whoever waits for it go.
fn announce(
    record: Option<Registered>,
    target: &Path,
    registered: &OnceLock<Option<Registered>>,
    ready: Ready,
) -> anyhow::Result<()> {
    if ready.is_background() {
        log::settle(record.as_ref().and_then(|record| record.log_file().ok()));
    }
    registered.get_or_init(|| record);
    ready.say()?;
    tracing::info!("serving {}", target.display());
    Ok(())
}

/// What every server needs of its process: modes as given, and as many open files as it may have.
pub(crate) fn prepare_process() {
    plyfs_sys::memory::settle_allocator();
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
fn register(
    spec: &MountSpec,
    target: &Path,
    branches: &[BranchInfo],
    passthrough: bool,
) -> Option<Registered> {
    let write = || -> anyhow::Result<Registered> {
        let list = mounts::list()?;
        runtime_dir::sweep(&list);
        let info = list.iter().rev().find(|mount| mount.mount_point == target);
        let info = info.context("the new mount is not in /proc/self/mountinfo")?;
        let record = Record::new(info, spec, branches, passthrough);
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

/// Unmounts at the first signal, gives up on open files after a while or at the second signal: by a thread that begins
/// then, as the main one has to serve.
fn watch(server: &Server, registered: &Arc<OnceLock<Option<Registered>>>) {
    let (unmounter, registered) = (server.unmounter(), Arc::clone(registered));
    let ending = AtomicBool::new(false);
    server.on_interrupt(move || {
        // Two threads may ask at once.
        if interrupt::count() == 0 || ending.swap(true, SeqCst) {
            return;
        }
        let (unmounter, registered) = (unmounter.clone(), Arc::clone(&registered));
        let begun = std::thread::Builder::new().name("plyfs-end".to_owned()).spawn(move || {
            end(&unmounter);
            let record = registered.get().and_then(Option::as_ref);
            leave(record.map(Registered::dir));
        });
        match begun {
            Ok(_) => interrupt::heard(),
            Err(error) => {
                // Whoever asks next tries again: in a second at the latest.
                ending.store(false, SeqCst);
                tracing::error!("no thread to unmount with: {error}");
            }
        }
    });
}

fn end(unmounter: &Unmounter) {
    if let Err(busy) = unmounter.unmount(false) {
        tracing::info!("{busy}; detaching");
        if let Err(error) = unmounter.unmount(true) {
            // Unmounted by somebody else in the same moment; or not allowed, then leaving is all that is left.
            tracing::warn!("detaching: {error}");
        }
    }
    // Usually the connection ends now, the main thread with it, and the process before this wakes up.
    let since = Instant::now();
    while since.elapsed() < GRACE && interrupt::count() < 2 {
        std::thread::sleep(LOOK);
    }
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
