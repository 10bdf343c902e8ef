//! `plyfs inspect`: documents like Docker's (`GET /containers/{id}/json`, `GET /images/{name}/json`).

use anyhow::{Context, anyhow};
use plyfs_store::containers::{Container, MountPoint};
use plyfs_store::{Driver, Store};
use serde_json::{Value, json};

use super::ps;
use crate::cli::containers::{InspectArgs, Inspected};
use crate::cli::store::StoreArgs;
use crate::exit::{self, Failure, Outcome};
use crate::output;

/// Shows them all; names of nothing are told of at the end.
pub(crate) fn run(args: &InspectArgs, store: &StoreArgs) -> Outcome {
    let store = super::open_to_look(store)?;
    let mut found = Vec::new();
    let mut code = exit::DONE;
    for name in &args.names {
        match one(&store, name, args.kind) {
            Ok(document) => found.push(document),
            Err(failure) => {
                output::failure(&failure);
                code = exit::FAILED;
            }
        }
    }
    let mut text = serde_json::to_vec_pretty(&found).context("writing JSON")?;
    text.push(b'\n');
    output::raw(&text)?;
    Ok(code)
}

/// Containers first.
fn one(store: &Store, name: &str, kind: Option<Inspected>) -> Result<Value, Failure> {
    if kind != Some(Inspected::Image) {
        match store.find_container(name) {
            Ok(container) => return container_document(store, &container),
            Err(error) if !error.is_not_found() => return Err(anyhow::Error::new(error).into()),
            Err(_) if kind.is_some() => return Err(anyhow!("No such container: {name}").into()),
            Err(_) => {}
        }
    }
    match plyfs_image::images::find(store, name) {
        Ok(id) => Ok(plyfs_image::inspect(store, &id).map_err(anyhow::Error::new)?),
        Err(plyfs_image::Error::Store(error)) if error.is_not_found() => {
            let what = if kind.is_some() { "image" } else { "object" };
            Err(anyhow!("No such {what}: {name}").into())
        }
        Err(error) => Err(anyhow::Error::new(error).into()),
    }
}

fn container_document(store: &Store, container: &Container) -> Result<Value, Failure> {
    let host = store.host_config(&container.id).map_err(anyhow::Error::new)?;
    let state = &container.state;
    let kept = |key: &str| container.other.get(key).cloned().unwrap_or_else(|| "".into());
    Ok(json!({
        "Id": container.id,
        "Created": container.created,
        "Path": container.path,
        "Args": container.args,
        "State": {
            "Status": ps::state(container),
            "Running": state.running,
            "Paused": state.paused,
            "Restarting": false,
            "OOMKilled": state.other.get("OOMKilled").and_then(Value::as_bool).unwrap_or(false),
            "Dead": state.dead,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": state.started_at,
            "FinishedAt": state.finished_at,
        },
        "Image": container.image,
        "ResolvConfPath": kept("ResolvConfPath"),
        "HostnamePath": kept("HostnamePath"),
        "HostsPath": kept("HostsPath"),
        "LogPath": container.log_path,
        "Name": container.name,
        "RestartCount": container.other.get("RestartCount").cloned().unwrap_or_else(|| 0.into()),
        "Driver": container.driver,
        "Platform": container.os,
        "MountLabel": kept("MountLabel"),
        "ProcessLabel": kept("ProcessLabel"),
        "AppArmorProfile": kept("AppArmorProfile"),
        "ExecIDs": null,
        "HostConfig": host,
        "GraphDriver": {"Data": null, "Name": Driver::NAME},
        "Mounts": container.mount_points.values().map(mount).collect::<Vec<_>>(),
        "Config": container.config,
    }))
}

fn mount(point: &MountPoint) -> Value {
    let mut document = json!({
        "Type": point.kind,
        "Source": point.source,
        "Destination": point.destination,
        "Mode": if point.rw { "" } else { "ro" },
        "RW": point.rw,
        "Propagation": point.propagation,
    });
    if point.kind == "volume" {
        document["Name"] = point.name.clone().into();
        document["Driver"] = point.driver.clone().into();
    }
    document
}
