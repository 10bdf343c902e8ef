//! `plyfs rm`.

use std::time::Duration;

use anyhow::anyhow;
use plyfs_store::Store;

use super::{each, find, stop};
use crate::cli::containers::RmArgs;
use crate::cli::store::StoreArgs;
use crate::container::{reconcile, volumes};
use crate::exit::{Failure, Outcome};
use crate::store::Servers;
use crate::{output, store};

/// Removes containers.
pub(crate) fn run(args: &RmArgs, store: &StoreArgs) -> Outcome {
    let store = store::open_to_write(store)?;
    each(&args.containers, &mut |name| {
        match remove(&store, name, args) {
            // Forcing is for scripts: what is gone is gone, before we came or meanwhile (one with --rm that has just ended).
            Err(failure)
                if args.force && store.find_container(name).is_err_and(|error| error.is_not_found()) =>
            {
                output::failure(&failure);
                return Ok(());
            }
            done => done?,
        }
        output::raw(format!("{name}\n").as_bytes())
    })
}

fn remove(store: &Store, name: &str, args: &RmArgs) -> Result<(), Failure> {
    let container = find(store, name)?;
    if container.state.running {
        if !args.force {
            let what =
                anyhow!("cannot remove container {name:?}: container is running: stop it or use --force");
            return Err(what.into());
        }
        stop::end(store, &container, Duration::ZERO)?;
        if store.container(&container.id).is_err_and(|error| error.is_not_found()) {
            return Ok(());
        }
    }
    let claim = reconcile::claim(store, &container.id)?
        .ok_or_else(|| anyhow!("container {name} is being started or removed by another process"))?;
    if args.volumes {
        volumes::remove_with(store, &container, claim)?;
    } else {
        store.remove_container(&container.id, claim, &Servers).map_err(anyhow::Error::new)?;
    }
    Ok(())
}
