//! `plyfs mount-container`.

use std::os::unix::ffi::OsStrExt;

use anyhow::anyhow;

use super::find;
use crate::cli::containers::MountContainerArgs;
use crate::cli::store::StoreArgs;
use crate::exit::{self, Failure, Outcome};
use crate::store::{self, Servers};
use crate::{container, output, rootless};

/// Mounts and prints the path, or gives it back.
pub(crate) fn run(args: &MountContainerArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    if rootless::is_inside() {
        let what = anyhow!("the mounts of an ordinary user are seen by the command alone that made them");
        return Err(Failure::from(what).or_hint("plyfs export writes the files; plyfs run shows them"));
    }
    container::create::need_privilege()?;
    let found = find(&store, &args.container)?;
    let layers = store.container_layers(&found.id).map_err(anyhow::Error::new)?;
    let driver = store.driver();
    if args.unmount {
        let runs = found.state.running || store.is_run(&found.id).map_err(anyhow::Error::new)?;
        if runs && driver.use_count(&layers.id).map_err(anyhow::Error::new)? <= 1 {
            let what = anyhow!("container {} is mounted for itself alone: it is running", args.container);
            return Err(Failure::from(what).or_hint("plyfs stop ends it and unmounts"));
        }
        driver.put(&layers.id, &Servers).map_err(anyhow::Error::new)?;
        return Ok(exit::DONE);
    }
    // The container may run in this mount, and without control groups.
    let how = container::how_to_mount(&store, &layers, false);
    let path = driver.get_with(&layers.id, &Servers, &how).map_err(anyhow::Error::new)?;
    output::raw(&[path.as_os_str().as_bytes(), b"\n"].concat())?;
    Ok(exit::DONE)
}
