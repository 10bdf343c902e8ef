//! Config documents (OCI image-spec config.md, Docker's image JSON): checked when they come, changed by commit, read for
//! history and inspect. They are kept as JSON values, so that fields that are not known here stay.

use jiff::Timestamp;
use plyfs_store::images::Image;
use plyfs_store::{DiffId, Digest, MAX_LAYERS};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::platform::Platform;

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What its maker had to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Checks a config that came from outside: an image that this machine can have. `layers`: how many its manifest lists.
pub(crate) fn check(raw: Vec<u8>, what: &str, layers: usize) -> Result<Image> {
    let bad = |why: String| Error::document(what, why);
    let value: Value = serde_json::from_slice(&raw).map_err(|error| bad(error.to_string()))?;
    let os = value.get("os").and_then(Value::as_str).unwrap_or("linux");
    if !os.is_empty() && os != "linux" {
        return Err(Error::Refused(format!("{what}: an image for {os}; this is Linux")));
    }
    let kind = value.pointer("/rootfs/type").and_then(Value::as_str);
    if kind != Some("layers") {
        return Err(bad("its rootfs is not made of layers".to_owned()));
    }
    let image = Image::parse(raw)?;
    if image.diffs.len() != layers {
        return Err(bad(format!("it has {} layers, its manifest {layers}: refused", image.diffs.len())));
    }
    if layers > MAX_LAYERS {
        return Err(plyfs_store::Error::TooDeep(layers, MAX_LAYERS).into());
    }
    Ok(image)
}

/// What is different in a new image.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Docker's container config (`Env`, `Cmd` ...) in the place of the parent's.
    pub config: Option<Map<String, Value>>,
    /// By whom.
    pub author: String,
    /// Why.
    pub comment: String,
    /// By which command.
    pub created_by: String,
}

/// The config of an image that has one layer more than `parent` (or that layer alone).
pub(crate) fn with_layer(parent: Option<&Image>, diff: DiffId, changes: &Changes) -> Result<Vec<u8>> {
    let mut doc = match parent {
        Some(parent) => object(parent)?,
        None => empty(&Platform::local()),
    };
    let now = Timestamp::now().to_string();
    // They describe how the parent was made.
    for stale in
        ["container", "container_config", "id", "parent", "docker_version", "moby.buildkit.buildinfo.v1"]
    {
        doc.remove(stale);
    }
    doc.insert("created".to_owned(), json!(now));
    if changes.author.is_empty() {
        doc.remove("author");
    } else {
        doc.insert("author".to_owned(), json!(changes.author));
    }
    if let Some(config) = &changes.config {
        doc.insert("config".to_owned(), Value::Object(config.clone()));
    }
    let step = Step {
        created: Some(now),
        created_by: changes.created_by.clone(),
        author: changes.author.clone(),
        comment: changes.comment.clone(),
        empty_layer: false,
    };
    push(&mut doc, "history", json!(step));
    let mut diffs = parent.map(|parent| parent.diffs.clone()).unwrap_or_default();
    diffs.push(diff);
    if diffs.len() > MAX_LAYERS {
        return Err(plyfs_store::Error::TooDeep(diffs.len(), MAX_LAYERS).into());
    }
    doc.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diffs}));
    serde_json::to_vec(&doc).map_err(|error| Error::document("the new image's config", error))
}

fn empty(platform: &Platform) -> Map<String, Value> {
    let mut doc = Map::new();
    doc.insert("architecture".to_owned(), json!(platform.architecture));
    if !platform.variant.is_empty() {
        doc.insert("variant".to_owned(), json!(platform.variant));
    }
    doc.insert("os".to_owned(), json!(platform.os));
    doc.insert("config".to_owned(), json!({}));
    doc
}

fn push(doc: &mut Map<String, Value>, list: &str, item: Value) {
    match doc.get_mut(list) {
        Some(Value::Array(items)) => items.push(item),
        _ => drop(doc.insert(list.to_owned(), Value::Array(vec![item]))),
    }
}

/// The document as an object.
pub(crate) fn object(image: &Image) -> Result<Map<String, Value>> {
    serde_json::from_slice(&image.raw).map_err(|error| Error::document(format!("image {}", image.id), error))
}

/// How the image was made, oldest step first.
pub(crate) fn steps(image: &Image) -> Result<Vec<Step>> {
    let Some(history) = object(image)?.remove("history") else { return Ok(Vec::new()) };
    let steps: Option<Vec<Step>> = serde_json::from_value(history)
        .map_err(|error| Error::document(format!("the history of image {}", image.id), error))?;
    Ok(steps.unwrap_or_default())
}

/// A digest in the name of a file of an archive (`blobs/sha256/HEX`, `HEX.json`): what the file must hash to.
pub(crate) fn digest_in_name(name: &str) -> Option<Digest> {
    let last = name.rsplit('/').next().unwrap_or(name);
    Digest::from_hex(last.strip_suffix(".json").unwrap_or(last)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    fn raw(of: &Value) -> Vec<u8> {
        serde_json::to_vec(of).unwrap()
    }

    #[test]
    fn a_config_from_outside_must_fit() {
        let good = json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff("a")]}});
        assert_eq!(check(raw(&good), "x", 1).unwrap().diffs, [diff("a")]);
        let many: Vec<DiffId> = vec![diff("a"); MAX_LAYERS + 1];
        let bad = [
            (good.clone(), 2, "its manifest 2"),
            (json!({"os": "windows", "rootfs": {"type": "layers"}}), 0, "this is Linux"),
            (json!({"rootfs": {"type": "other", "diff_ids": []}}), 0, "not made of layers"),
            (json!({"rootfs": {"type": "layers", "diff_ids": ["sha256:../../x"]}}), 1, "no digest"),
            (json!({"rootfs": {"type": "layers", "diff_ids": many}}), MAX_LAYERS + 1, "limit"),
            (json!([]), 0, ""),
        ];
        for (doc, layers, word) in bad {
            let error = check(raw(&doc), "the config", layers).unwrap_err().to_string();
            assert!(error.contains(word), "{doc}: {error}");
        }
    }

    #[test]
    fn a_layer_more() {
        let first = Image::parse(with_layer(None, diff("a"), &Changes::default()).unwrap()).unwrap();
        assert_eq!(first.diffs, [diff("a")]);
        let env = json!({"Env": ["A=1"]}).as_object().cloned();
        let changes = Changes { config: env, comment: "c".to_owned(), ..Changes::default() };
        let second = Image::parse(with_layer(Some(&first), diff("b"), &changes).unwrap()).unwrap();
        assert_eq!(second.diffs, [diff("a"), diff("b")]);
        assert_eq!(object(&second).unwrap()["config"], json!({"Env": ["A=1"]}));
        let steps = steps(&second).unwrap();
        assert_eq!((steps.len(), steps[1].comment.as_str()), (2, "c"));
    }
}
