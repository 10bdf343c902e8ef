//! `/run/plyfs/containers/<id>/`: what a running container needs until it ends. Gone after a reboot, as the container is.
//!
//! ```text
//! config.json   the OCI bundle's
//! state/        the runtime's own
//! runtime       the runtime's path
//! tty.sock      on which the runtime hands the terminal over
//! pid           of the first process
//! log           the runtime's words
//! exit          empty; in the end the exit code, for who has it open (the container may be removed with its end)
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The directory of one container.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Where it is, or would be.
    pub(crate) fn of(id: &str) -> anyhow::Result<RunDir> {
        Ok(RunDir { path: crate::runtime_dir::home()?.join("containers").join(id) })
    }

    /// Makes it, empty.
    pub(crate) fn make(id: &str) -> anyhow::Result<RunDir> {
        let dir = RunDir::of(id)?;
        dir.remove()?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir.path);
        made.with_context(|| format!("making {}", dir.path.display()))?;
        Ok(dir)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// There is, or was, a run.
    pub(crate) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// One of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The runtime that was used, if there is one to be asked.
    pub(crate) fn runtime(&self) -> Option<PathBuf> {
        fs::read_to_string(self.file("runtime")).ok().map(PathBuf::from)
    }

    /// Removes it; fine if it is not there. The runtime must have been told before.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}
