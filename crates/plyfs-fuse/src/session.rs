//! A mounted union as one value: mounted when it begins, unmounted when it ends.
//!
//! Not here: handlers ([`crate::adapter`]), signals, becoming a daemon (`plyfs`), how mounting works (`plyfs-wire`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use plyfs_sys::cred;
use plyfs_sys::mounts::{self, MountFlags};
use plyfs_union::Union;
use plyfs_union::spec::{Atime, Grammar, KernelFlags, MountSpec, Readdirplus};
use plyfs_wire::{Config, MountError, MountOptions, SessionError};
use tracing::{debug, warn};

use crate::adapter::Skin;
use crate::teller::Teller;

/// The part of the type after `fuse.`: what /proc/mounts shows is `fuse.aufs`.
const SUBTYPE: &str = "aufs";
/// Bytes per read and write where the mount does not say.
const MAX_WRITE: u32 = 1 << 20;
const PAGE: u32 = 4096;

/// Why a union could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Mounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The kernel and we did not agree.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The branches can't be seen behind the mount.
    #[error(transparent)]
    Union(#[from] plyfs_union::Error),
    /// No thread to serve with.
    #[error("no thread to serve the mount: {0}")]
    Thread(std::io::Error),
}

/// A mounted union, served by threads of this process. Dropped, it is unmounted (lazily if it is busy).
#[derive(Debug)]
pub struct Session {
    server: Option<JoinHandle<Result<(), SessionError>>>,
    unmounter: Unmounter,
    teller: Teller,
}

/// A union that is mounted and waits to be served: by a thread of its own ([`Session`]) or by the caller's.
#[derive(Debug)]
pub struct Server {
    session: plyfs_wire::Session<Skin>,
    unmounter: Unmounter,
    teller: Teller,
}

impl Server {
    /// Mounts `union` on `target` as `spec` asks. Whoever uses the mount waits until it is served.
    pub fn mount(union: Arc<Union>, target: &Path, spec: &MountSpec) -> Result<Server, StartError> {
        let options = mount_options(spec);
        let config = session_config(spec, &options);
        // While nothing is mounted there: afterwards it would ask the mount, which nobody serves yet.
        let place = target.canonicalize().unwrap_or_else(|_| target.into());
        union.hold_behind(&place)?;
        let device = plyfs_wire::mount(target, &options)?;
        let unmounter = Unmounter::new(place);
        let skin = Skin::new(Arc::clone(&union), spec);
        let session = plyfs_wire::Session::start(device, skin, config)
            .map_err(StartError::from)
            .inspect_err(|_| unmounter.give_up())?;
        session.filesystem().connect(session.notifier(), session.backings());
        let teller = Teller::new(union, session.notifier());
        Ok(Server { session, unmounter, teller })
    }

    /// Has `act` called, between requests, when a signal has interrupted [`Server::serve`]; and every few milliseconds
    /// while there is traffic, whether there was one or not, from another thread, perhaps at the same time.
    pub fn on_interrupt(&self, act: impl Fn() + Send + Sync + 'static) {
        self.session.filesystem().hear(act);
    }

    /// Serves on this thread (and as many more as the load wants) until the mount is gone and every request answered.
    /// If that fails, the mount is removed, so that nobody meets a dead one.
    pub fn serve(self) -> Result<(), SessionError> {
        let result = self.session.run();
        // After an error the mount is still there, dead.
        self.unmounter.ended.store(result.is_ok(), SeqCst);
        result.inspect_err(|_| self.unmounter.give_up())
    }

    /// For unmounting from elsewhere.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// For telling it that a branch was changed directly.
    pub fn teller(&self) -> Teller {
        self.teller.clone()
    }
}

/// Unmounts a [`Session`]'s mount, from any thread.
#[derive(Debug, Clone)]
pub struct Unmounter {
    target: PathBuf,
    /// The mount's device number: whatever else is at the target by then is not ours to unmount.
    dev: Option<(u32, u32)>,
    ended: Arc<AtomicBool>,
}

impl Session {
    /// Mounts `union` on `target` as `spec` asks. The mount is usable when this returns.
    ///
    /// Threads are started: a process that is to become a daemon forks before.
    pub fn start(union: Arc<Union>, target: &Path, spec: &MountSpec) -> Result<Session, StartError> {
        let server = Server::mount(union, target, spec)?;
        let (unmounter, teller) = (server.unmounter(), server.teller());
        let server = std::thread::Builder::new()
            .name("plyfs-serve".into())
            .spawn(move || server.serve())
            .map_err(StartError::Thread)
            .inspect_err(|_| unmounter.give_up())?;
        Ok(Session { server: Some(server), unmounter, teller })
    }

    /// Waits until the mount is gone, whoever unmounts it, and every request is answered; see [`Server::serve`].
    pub fn wait(mut self) -> Result<(), SessionError> {
        self.join()
    }

    /// For unmounting from elsewhere, such as a thread that waits for signals.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// For telling it that a branch was changed directly.
    pub fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// Where it is mounted: absolute, without symbolic links.
    pub fn target(&self) -> &Path {
        &self.unmounter.target
    }

    fn join(&mut self) -> Result<(), SessionError> {
        match self.server.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            // Handlers' panics are caught; this one was in the loop itself. Its message is on stderr.
            Some(Err(_panic)) => Err(SessionError::Gone),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.server.is_none() {
            return;
        }
        match self.unmounter.unmount(false) {
            Ok(()) => {
                if let Err(error) = self.join() {
                    warn!("the session ended with an error: {error}");
                }
            }
            // Its users keep it alive; the server's thread goes on until they are done or the process ends.
            Err(error) => {
                debug!("{error}; unmounting lazily");
                self.unmounter.give_up();
            }
        }
    }
}

impl Unmounter {
    /// Of what was just mounted at `target`.
    fn new(target: PathBuf) -> Unmounter {
        let dev = mounts::at(&target).ok().flatten().map(|info| info.dev);
        Unmounter { target, dev, ended: Arc::default() }
    }

    /// Unmounts; with `lazy`, also what is busy: it disappears at once and ends when its last user does. Nothing is
    /// done if the mount has ended already.
    pub fn unmount(&self, lazy: bool) -> Result<(), MountError> {
        if self.ended.load(SeqCst) || !self.is_there() {
            return Ok(());
        }
        unmount(&self.target, lazy)
    }

    /// Whether the topmost mount at the target is ours. Where /proc tells nothing, it is believed to be.
    fn is_there(&self) -> bool {
        match (self.dev, mounts::at(&self.target)) {
            (Some(dev), Ok(top)) => top.is_some_and(|info| info.dev == dev),
            _ => true,
        }
    }

    /// The last resort when nobody can be told of a failure any more.
    fn give_up(&self) {
        if let Err(error) = self.unmount(true) {
            warn!("{error}");
        }
    }
}

/// Unmounts whatever is mounted at `target`, as root or as the user who mounted it.
pub fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    plyfs_wire::unmount(target, lazy)
}

fn mount_options(spec: &MountSpec) -> MountOptions {
    let kernel = &spec.kernel;
    let default_source = match spec.grammar {
        Grammar::Aufs => "none",
        Grammar::Overlay => "plyfs",
    };
    let is_root = cred::effective_uid() == 0;
    MountOptions {
        source: spec.source.clone().unwrap_or_else(|| OsString::from(default_source)),
        subtype: SUBTYPE.into(),
        flags: mount_flags(kernel),
        allow_other: kernel.allow_other.unwrap_or(is_root) || kernel.allow_root,
        default_permissions: true,
        max_read: kernel.max_write.unwrap_or(MAX_WRITE).clamp(PAGE, MAX_WRITE),
    }
}

fn mount_flags(kernel: &KernelFlags) -> MountFlags {
    let mut flags = match kernel.atime {
        Atime::Unsaid | Atime::Noatime => MountFlags::NOATIME,
        Atime::Relatime => MountFlags::RELATIME,
        Atime::Strictatime => MountFlags::STRICTATIME,
    };
    for (on, flag) in [
        (kernel.read_only, MountFlags::RDONLY),
        (kernel.nosuid == Some(true), MountFlags::NOSUID),
        (kernel.nodev == Some(true), MountFlags::NODEV),
        (kernel.noexec, MountFlags::NOEXEC),
        (kernel.sync, MountFlags::SYNCHRONOUS),
        (kernel.dirsync, MountFlags::DIRSYNC),
    ] {
        flags.set(flag, on);
    }
    flags
}

fn session_config(spec: &MountSpec, options: &MountOptions) -> Config {
    // `allow_root` is ours to enforce: the kernel knows "the owner" and "all" only.
    let only_owner = spec.kernel.allow_root && spec.kernel.allow_other != Some(true);
    Config {
        max_write: options.max_read,
        readdirplus: match spec.speed.readdirplus {
            Readdirplus::Always => plyfs_wire::Readdirplus::Always,
            Readdirplus::Auto => plyfs_wire::Readdirplus::Auto,
            Readdirplus::Never => plyfs_wire::Readdirplus::Never,
        },
        no_opendir: !spec.speed.no_dir_cache,
        passthrough: spec.speed.passthrough != Some(false),
        max_workers: spec.speed.max_threads.map_or(Config::default().max_workers, |n| n as usize),
        posix_acl: !spec.noacl && !spec.noxattrs,
        only_for: only_owner.then(cred::effective_uid),
        io_uring: spec.speed.io_uring,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_noatime_and_full_size() {
        let options = mount_options(&MountSpec::default());
        assert_eq!((options.source, options.max_read), ("none".into(), MAX_WRITE));
        assert_eq!(options.flags, MountFlags::NOATIME);
        let overlay = MountSpec { grammar: Grammar::Overlay, ..MountSpec::default() };
        assert_eq!(mount_options(&overlay).source, "plyfs");
        let named = MountSpec { source: Some("x y".into()), ..MountSpec::default() };
        assert_eq!(mount_options(&named).source, "x y");
    }

    #[test]
    fn what_the_kernel_keeps_is_passed_on() {
        let kernel = KernelFlags {
            read_only: true,
            nosuid: Some(true),
            nodev: Some(false),
            noexec: true,
            atime: Atime::Relatime,
            max_write: Some(100),
            ..KernelFlags::default()
        };
        let want = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RELATIME;
        assert_eq!(mount_flags(&kernel), want);
        let spec = MountSpec { kernel, noacl: true, ..MountSpec::default() };
        let options = mount_options(&spec);
        assert_eq!(options.max_read, PAGE);
        let config = session_config(&spec, &options);
        assert_eq!((config.max_write, config.posix_acl, config.only_for), (PAGE, false, None));
    }

    #[test]
    fn allow_root_lets_all_in_and_answers_two() {
        let kernel = KernelFlags { allow_root: true, ..KernelFlags::default() };
        let spec = MountSpec { kernel, ..MountSpec::default() };
        let options = mount_options(&spec);
        assert!(options.allow_other);
        assert_eq!(session_config(&spec, &options).only_for, Some(cred::effective_uid()));
    }
}
