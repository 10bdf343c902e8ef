//! docker-archive: `manifest.json` lists images by the names of their files (moby `image/tarexport/load.go`).

use serde::Deserialize;

use super::{Members, Stored};
use crate::config;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::reference::Reference;

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads `manifest.json`, and all configs.
pub(crate) fn find_images(members: &dyn Members, limits: &Limits) -> Result<Vec<Stored>> {
    let bytes = members.read("manifest.json", limits)?;
    let items: Vec<Item> =
        serde_json::from_slice(&bytes).map_err(|error| Error::document("manifest.json", error))?;
    if items.is_empty() {
        return Err(Error::document("manifest.json", "it lists no image"));
    }
    items.into_iter().map(|item| find_image(members, limits, item)).collect()
}

fn find_image(members: &dyn Members, limits: &Limits, item: Item) -> Result<Stored> {
    let raw = members.read_verified(&item.config, config::digest_in_name(&item.config), limits)?;
    let layers = item.layers.unwrap_or_default();
    let image = config::check(raw, &item.config, layers.len())?;
    let names = item.repo_tags.unwrap_or_default();
    let names = names.iter().map(|name| Ok(Reference::parse(name)?.as_new_name()?)).collect::<Result<_>>()?;
    // Of `blobs/sha256/HEX` only: the directories of older archives have random names.
    let digest = |name: &str| name.starts_with("blobs/").then(|| config::digest_in_name(name)).flatten();
    let layers = layers.into_iter().map(|name| (name.clone(), digest(&name))).collect();
    Ok(Stored { image, layers, names, lone_tag: None })
}
