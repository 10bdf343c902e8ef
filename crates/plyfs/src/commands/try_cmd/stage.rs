//! Puts the view together out of mounts, and takes it apart again. Everything happens in a private mount namespace.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context;
use plyfs_fuse::Session;
use plyfs_sys::mounts::{self, UnmountFlags};
use plyfs_sys::process::view;
use plyfs_sys::{Errno, SysError, cred};
use plyfs_union::Union;
use plyfs_union::spec::{BranchSpec, KernelFlags, MountSpec, Perm, Speed};

use super::area::Area;
use super::parts::{self, Form, Part};
use crate::changes::Changes;
use crate::exit::told;
use crate::mounted::open_beside;
use crate::{output, serve};

/// How long the kernel may take to end a union's connection after its last mount and file have gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a comparison that met a moving host is begun again.
const RETRIES: u32 = 5;

/// A view that a command can run in.
#[derive(Debug)]
pub(crate) struct Stage {
    root: PathBuf,
    low: PathBuf,
    unions: Vec<Placed>,
}

/// A union and its place in the view.
#[derive(Debug)]
struct Placed {
    at: PathBuf,
    /// `None` once it has ended.
    session: Option<Session>,
    union: Arc<Union>,
    spec: MountSpec,
}

impl Stage {
    /// Builds it. What fails here leaves mounts behind in this namespace only: they go when the process does.
    pub(crate) fn build(area: &mut Area, binds: &[PathBuf]) -> anyhow::Result<Stage> {
        let list = mounts::list()?;
        let (low, root) = (area.low(), area.view());
        view::bind_all(Path::new("/"), &low)?;
        // The engine writes to no `ro` branch; now the kernel sees to it too.
        if let Err(error) = view::read_only_all(&low) {
            tracing::warn!("{error}");
        }
        let mut stage = Stage { root, low, unions: Vec::new() };
        let built = stage.fill(area, &parts::parts(&list, binds, Path::is_dir), binds);
        match built {
            Ok(()) => Ok(stage),
            Err(error) => {
                // The first error is the one to tell.
                drop(stage.stop().and(stage.finish()));
                Err(error)
            }
        }
    }

    fn fill(&mut self, area: &mut Area, parts: &[Part], binds: &[PathBuf]) -> anyhow::Result<()> {
        self.union(area, Path::new("/"))?;
        for part in parts {
            let made = match part.form {
                Form::Union => self.union(area, &part.at).or_else(|error| {
                    let at = part.at.display();
                    output::warn(format_args!("{at} is read-only here: {}", told(&error)));
                    self.read_only(&part.at)
                }),
                Form::ReadOnly => self.read_only(&part.at),
            };
            // Neither way (a mount of another user, a server that does not answer): the view goes without it.
            if let Err(error) = made {
                missing(&part.at, &error);
            }
        }
        self.system_dirs()?;
        for path in binds {
            view::bind_all(path, &self.inside(path)).with_context(|| format!("--bind {}", path.display()))?;
        }
        // The branches themselves are nothing that the command should find, least of all change.
        view::tmpfs(&self.inside(area.dir()), c"mode=0555,size=0", true)
            .context("hiding the writable branches")
    }

    /// Where `path` of the host is while the view is being put together.
    fn inside(&self, path: &Path) -> PathBuf {
        under(&self.root, path)
    }

    /// Where `path` of the host is bound, read-only.
    fn below(&self, path: &Path) -> PathBuf {
        under(&self.low, path)
    }

    fn union(&mut self, area: &mut Area, at: &Path) -> anyhow::Result<()> {
        let lower = self.below(at);
        let upper = area.branch(at, &lower)?;
        let spec = spec(&upper, &lower);
        let (session, union) = serve::mount(&spec, &self.inside(at))?;
        self.unions.push(Placed { at: at.to_owned(), session: Some(session), union, spec });
        Ok(())
    }

    fn read_only(&self, at: &Path) -> anyhow::Result<()> {
        let place = self.inside(at);
        view::bind_all(&self.below(at), &place)?;
        view::read_only_all(&place)?;
        Ok(())
    }

    /// `/dev` and `/sys` of the host; `/proc` is the child's to mount, it belongs to its pid namespace.
    fn system_dirs(&self) -> anyhow::Result<()> {
        let dev = self.inside(Path::new("/dev"));
        if dev.is_dir() {
            view::bind_all(Path::new("/dev"), &dev)?;
            let shm = dev.join("shm");
            if shm.is_dir() && !shm.is_symlink() {
                view::tmpfs(&shm, c"mode=1777", false)?;
            }
        }
        let sys = self.inside(Path::new("/sys"));
        if sys.is_dir() {
            view::bind_all(Path::new("/sys"), &sys)?;
            if let Err(error) = view::read_only_all(&sys) {
                tracing::warn!("/sys stays writable: {error}");
            }
        }
        Ok(())
    }

    /// The view's root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the view away and waits until its servers have ended; the unions can still be asked what was changed.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        detach(&self.root)?;
        let (done, ended) = mpsc::channel();
        let sessions: Vec<Session> =
            self.unions.iter_mut().filter_map(|union| union.session.take()).collect();
        let count = sessions.len();
        for session in sessions {
            let done = done.clone();
            std::thread::spawn(move || drop(done.send(session.wait())));
        }
        for _ in 0..count {
            match ended.recv_timeout(PATIENCE) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("a server ended badly: {error}"),
                // Somebody outside holds a file of the view, handed over through a socket. It fails when we end.
                Err(_) => tracing::warn!("a file of the view is still open somewhere"),
            }
        }
        Ok(())
    }

    /// What the command changed, anywhere. After [`Stage::stop`].
    pub(crate) fn changes(&self) -> anyhow::Result<Changes> {
        let mut changes = Changes::default();
        for placed in &self.unions {
            let at = placed.at.display();
            placed.add_changes(&mut changes).with_context(|| format!("listing what was changed in {at}"))?;
        }
        Ok(changes)
    }

    /// Lets go of the host's files too.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        drop(self.unions);
        detach(&self.root).and(detach(&self.low))
    }
}

/// A mount that the view goes without. What is closed to this user on the host too is not worth a word.
fn missing(at: &Path, error: &anyhow::Error) {
    let errno = error.downcast_ref::<SysError>().map(SysError::errno);
    if errno == Some(Errno::ACCESS) {
        tracing::info!("{} is missing in the view: {}", at.display(), told(error));
    } else {
        output::warn(format_args!("{} is missing here: {}", at.display(), told(error)));
    }
}

/// Detaching takes everything mounted below along.
fn detach(tree: &Path) -> anyhow::Result<()> {
    if mounts::is_mount_point(tree)? {
        mounts::unmount(tree, UnmountFlags::DETACH)?;
    }
    Ok(())
}

impl Placed {
    /// The host lives on while we compare: what vanishes under our eyes is looked at once more, with fresh eyes.
    fn add_changes(&self, changes: &mut Changes) -> anyhow::Result<()> {
        let mut refusal = match changes.add(&self.at, &self.union) {
            Ok(()) => return Ok(()),
            Err(error) => anyhow::Error::new(error),
        };
        for _ in 0..RETRIES {
            tracing::info!("comparing {} again: {}", self.at.display(), told(&refusal));
            match open_beside(&self.spec).and_then(|beside| Ok(changes.add(&self.at, &beside)?)) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

/// `path`, absolute, seen under another root. (No slash at the end: mountinfo has none.)
fn under(root: &Path, path: &Path) -> PathBuf {
    path.iter().skip(1).fold(root.to_owned(), |place, name| place.join(name))
}

/// Copy-on-write over `lower`, without waiting for the disk: it is thrown away after a crash.
fn spec(upper: &Path, lower: &Path) -> MountSpec {
    MountSpec {
        branches: vec![BranchSpec::new(upper, Perm::Rw), BranchSpec::new(lower, Perm::Ro)],
        volatile: true,
        // People read the kept branches without plyfs.
        speed: Speed { metacopy: Some(false), ..Speed::default() },
        // A user's namespace has names for nobody else's ids, and the kernel would refuse every change of their files.
        adopt_unmapped: cred::effective_uid() != 0,
        kernel: KernelFlags { nosuid: Some(false), nodev: Some(false), ..KernelFlags::default() },
        source: Some("plyfs-try".into()),
        ..MountSpec::default()
    }
}
