//! `plyfs diff CONTAINER`.

use std::io;
use std::path::Path;

use anyhow::Context;
use plyfs_store::Store;
use plyfs_store::containers::{Container, HostConfig};
use plyfs_union::{Change, ChangeKind};
use serde::Serialize;

use crate::changes::Changes;
use crate::cli::store::StoreArgs;
use crate::exit::{self, Failure, Outcome};
use crate::output::{self, Page, Report};
use crate::store;

#[derive(Debug, Serialize)]
struct Diff {
    container: String,
    #[serde(flatten)]
    changes: Changes,
}

/// Shows the changes of the container called `name`; `None` if there is none.
pub(crate) fn run(name: &str, json: bool, args: &StoreArgs) -> Option<Outcome> {
    // Without a store there is nothing to look into, and an ordinary user needs no namespace for that.
    if !store::root(args).is_ok_and(|root| root.join("containers").exists()) {
        return None;
    }
    let store = match super::open_to_look(args) {
        Ok(store) => store,
        Err(failure) => return Some(Err(failure)),
    };
    match store.find_container(name) {
        Err(error) if error.is_not_found() => None,
        Err(error) => Some(Err(anyhow::Error::new(error).into())),
        Ok(container) => Some(show(&store, &container, json)),
    }
}

fn show(store: &Store, container: &Container, json: bool) -> Outcome {
    let changes = of(store, container)?;
    output::show(&Diff { container: container.id.clone(), changes }, json)?;
    Ok(exit::DONE)
}

fn of(store: &Store, container: &Container) -> Result<Changes, Failure> {
    let layers = store.container_layers(&container.id).map_err(anyhow::Error::new)?;
    super::flush(store, &layers.id)?;
    let union = store.driver().union_against(&layers.id, Some(&layers.init)).map_err(anyhow::Error::new)?;
    let host = store.host_config(&container.id).map_err(anyhow::Error::new)?;
    let mut changes = Changes::default();
    let added =
        changes.add_unless(Path::new("/"), &union, &|change| is_mount_point(change, container, &host));
    added.context("comparing the container's layers").map_err(Failure::from)?;
    Ok(changes)
}

/// The runtime made it for a volume to be mounted on: nothing that the container did.
fn is_mount_point(change: &Change, container: &Container, host: &HostConfig) -> bool {
    let tmpfs = host.other.get("Tmpfs").and_then(serde_json::Value::as_object);
    let mut places = container.mount_points.keys().chain(tmpfs.into_iter().flat_map(serde_json::Map::keys));
    change.kind == ChangeKind::Added
        && change.size == 0
        && places.any(|place| Path::new(place) == change.path)
}

impl Report for Diff {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.changes.lines(page, false)
    }
}
