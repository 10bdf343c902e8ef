//! Which store a command uses, and mounting for it.
//!
//! Here lives what joins the store, which never mounts, with the commands that mount. Not here: the store (`plyfs-store`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use plyfs_store::{Access, MountError, Mounter, Store};
use plyfs_sys::mounts::{self, UnmountFlags};
use plyfs_union::spec::MountSpec;

use crate::cli::store::StoreArgs;
use crate::container::reconcile;
use crate::exit::Failure;
use crate::rootless;

/// Where root's images and containers are.
const ROOT: &str = "/var/lib/plyfs";

/// Opens the store to look at it; what an ordinary user's store holds belongs to the ids of his namespace.
pub(crate) fn open_to_read(args: &StoreArgs) -> Result<Store, Failure> {
    rootless::enter()?;
    Ok(Store::open(&root(args)?, Access::Read, &Servers).map_err(anyhow::Error::new)?)
}

/// Opens the store to change it; what crashes left is mended, containers without their monitors included. An ordinary user
/// becomes root of a namespace first.
pub(crate) fn open_to_write(args: &StoreArgs) -> Result<Store, Failure> {
    let store = open_for_monitor(args)?;
    reconcile::all(&store);
    Ok(store)
}

/// The same for a monitor, which has a container of its own to care for.
pub(crate) fn open_for_monitor(args: &StoreArgs) -> Result<Store, Failure> {
    rootless::enter()?;
    let access = if args.writable { Access::Adopt } else { Access::Write };
    Ok(Store::open(&root(args)?, access, &Servers).map_err(anyhow::Error::new)?)
}

/// The store's root: as said, or the user's own place.
pub(crate) fn root(args: &StoreArgs) -> anyhow::Result<PathBuf> {
    if let Some(root) = &args.root {
        return Ok(root.clone());
    }
    if plyfs_sys::cred::effective_uid() == 0 && !rootless::is_inside() {
        return Ok(ROOT.into());
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    Ok(data
        .context("finding the store: neither XDG_DATA_HOME nor HOME is set; give --root DIR")?
        .join("plyfs"))
}

/// Mounts by starting a server for each mount, as `plyfs mount` does: it outlives this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers;

impl Mounter for Servers {
    fn mount(&self, spec: &MountSpec, target: &Path) -> Result<(), MountError> {
        // A program of its own, so that no descriptor (the store's locks!) goes with it.
        let mut command = Command::new("/proc/self/exe");
        command.arg0_plyfs().arg("mount").arg("-o").arg(spec.options()).arg("none").arg(target);
        // A monitor is deaf to most signals; a server is not to be.
        plyfs_sys::process::signals::unblock_all_in(&mut command);
        let said = command.stdin(Stdio::null()).output().context("starting the server")?;
        if said.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&said.stderr);
        Err(anyhow!("{}", words.trim().trim_start_matches("plyfs: ")).into())
    }

    fn unmount(&self, target: &Path) -> Result<(), MountError> {
        let quietly = crate::commands::umount::quietly(target);
        let Err(error) = quietly else { return Ok(()) };
        let mounted = mounts::is_mount_point(target).map_err(|error| MountError::from(error.to_string()))?;
        if !mounted {
            // Its server is still there for somebody else, in another mount namespace: nothing to wait for.
            tracing::warn!("{}", crate::exit::told(&error.error));
            return Ok(());
        }
        tracing::info!("{error}; detaching");
        mounts::unmount(target, UnmountFlags::DETACH).map_err(|error| MountError::from(error.to_string()))
    }
}

pub(crate) trait Named {
    /// Under its own name, whatever this program was called.
    fn arg0_plyfs(&mut self) -> &mut Self;
}

impl Named for Command {
    /// The program's name decides what it does: this one may have been called `fuse-overlayfs`.
    fn arg0_plyfs(&mut self) -> &mut Command {
        std::os::unix::process::CommandExt::arg0(self, "plyfs")
    }
}
