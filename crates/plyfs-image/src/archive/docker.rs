//! docker-archive: `manifest.json` lists images by the names of their files (moby `image/tarexport/load.go`).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::{Kept, Members, Stored, check_count};
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
    check_count("manifest.json", items.len())?;
    let mut kept = Kept::new(limits);
    let mut images = Vec::new();
    for item in merged(items) {
        let stored = find_image(members, limits, item)?;
        kept.add(&stored.image)?;
        images.push(stored);
    }
    Ok(images)
}

/// An image that is listed again is one image with more names.
fn merged(items: Vec<Item>) -> Vec<Item> {
    let mut all: Vec<Item> = Vec::new();
    let mut seen: HashMap<(String, Vec<String>), usize> = HashMap::new();
    for item in items {
        let key = (item.config.clone(), item.layers.clone().unwrap_or_default());
        match seen.entry(key) {
            Entry::Vacant(first) => {
                first.insert(all.len());
                all.push(item);
            }
            Entry::Occupied(first) => {
                let names = all[*first.get()].repo_tags.get_or_insert_default();
                names.extend(item.repo_tags.unwrap_or_default());
            }
        }
    }
    all
}

fn find_image(members: &dyn Members, limits: &Limits, item: Item) -> Result<Stored> {
    let raw = members.read_verified(&item.config, config::digest_in_name(&item.config), limits)?;
    let layers = item.layers.unwrap_or_default();
    let image = config::check(raw, &item.config, layers.len())?;
    let mut seen = HashSet::new();
    let mut names = item.repo_tags.unwrap_or_default();
    names.retain(|name| seen.insert(name.clone()));
    let names = names.iter().map(|name| Ok(Reference::parse(name)?.as_new_name()?)).collect::<Result<_>>()?;
    // Of `blobs/sha256/HEX` only: the directories of older archives have random names.
    let digest = |name: &str| name.starts_with("blobs/").then(|| config::digest_in_name(name)).flatten();
    let layers = layers.into_iter().map(|name| (name.clone(), digest(&name))).collect();
    Ok(Stored { image, layers, names, lone_tag: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_listed_twice_is_one() {
        let item = |config: &str, tags: &[&str]| Item {
            config: config.to_owned(),
            repo_tags: Some(tags.iter().map(|&tag| tag.to_owned()).collect()),
            layers: None,
        };
        let all = merged(vec![item("a.json", &["a:1"]), item("b.json", &[]), item("a.json", &["a:2"])]);
        let told: Vec<_> =
            all.iter().map(|one| (one.config.as_str(), one.repo_tags.clone().unwrap())).collect();
        assert_eq!(told, [("a.json", vec!["a:1".to_owned(), "a:2".to_owned()]), ("b.json", Vec::new())]);
    }
}
