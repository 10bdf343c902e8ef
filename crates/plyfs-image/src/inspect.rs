//! What `docker image inspect` and `docker history` tell of an image (moby `daemon/images/image_inspect.go`,
//! `image_history.go`).

use plyfs_store::images::Image;
use plyfs_store::{ChainId, Driver, ImageId, Store};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::{self, Step};
use crate::error::Result;

/// Docker's document about an image. Fields that its config does not have are empty, as Docker gives them.
pub fn inspect(store: &Store, id: &ImageId) -> Result<Value> {
    let image = store.image(id)?;
    let mut doc = config::object(&image)?;
    let names: Vec<String> = store.tags()?.of(id).into_iter().map(|tag| tag.reference).collect();
    let (digests, tags): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.contains('@'));
    let size = crate::images::size(store, &image)?;
    let comment = config::steps(&image)?.pop().map(|step| step.comment).unwrap_or_default();
    let mut text = |key: &str| match doc.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let mut told = json!({
        "Id": id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment,
        "Created": text("created"),
        "Container": text("container"),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Architecture": text("architecture"),
        "Os": text("os"),
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Data": null, "Name": Driver::NAME},
        "RootFS": {"Type": "layers", "Layers": image.diffs},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    });
    let variant = text("variant");
    if let Value::Object(told) = &mut told {
        if !variant.is_empty() {
            told.insert("Variant".to_owned(), json!(variant));
        }
        told.insert("ContainerConfig".to_owned(), doc.remove("container_config").unwrap_or(Value::Null));
        told.insert("Config".to_owned(), Value::Object(container_config(&mut doc)));
    }
    Ok(told)
}

/// Docker's container config with all the fields that Docker always has.
fn container_config(doc: &mut Map<String, Value>) -> Map<String, Value> {
    let empty = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    let Value::Object(mut all) = empty else { return Map::new() };
    if let Some(Value::Object(own)) = doc.remove("config") {
        all.extend(own);
    }
    all
}

/// One row of an image's history.
#[derive(Debug, Clone, Serialize)]
pub struct Made {
    /// The image, at the newest step; `<missing>` at the others, as Docker says.
    pub id: String,
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// Bytes of its layer.
    pub size: u64,
}

/// How an image was made, newest step first.
pub fn history(store: &Store, id: &ImageId) -> Result<Vec<Made>> {
    let image = store.image(id)?;
    let mut sizes = layer_sizes(store, &image)?.into_iter();
    let mut rows = Vec::new();
    for step in config::steps(&image)? {
        let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or_default() };
        rows.push(Made { id: "<missing>".to_owned(), step, size });
    }
    // Layers that the history does not tell of.
    rows.extend(sizes.map(|size| Made { id: "<missing>".to_owned(), step: Step::default(), size }));
    if let Some(newest) = rows.last_mut() {
        newest.id = image.id.to_string();
    }
    rows.reverse();
    Ok(rows)
}

/// Bottom first.
fn layer_sizes(store: &Store, image: &Image) -> Result<Vec<u64>> {
    let size = |chain: &ChainId| Ok(store.need_layer(chain)?.size);
    ChainId::each(&image.diffs).iter().map(size).collect()
}
