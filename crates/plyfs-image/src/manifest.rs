//! Manifests and indexes, OCI's and Docker's, read strictly: a document that could be taken for both, or that says it is
//! something else than it is, is refused (CVE-2021-41190). Sources: OCI image-spec manifest.md, image-index.md,
//! descriptor.md; distribution-spec; Docker "Image Manifest Version 2, Schema 2".
//!
//! Own types instead of oci-spec's: digests are checked while reading, and unknown media types are kept as they are.

use std::collections::BTreeMap;

use plyfs_store::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::platform::Platform;

/// Media types.
pub mod types {
    /// OCI manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, not compressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker index.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// All schema 1 types begin so.
    pub const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
}

/// The file of a blob in an OCI layout (image-layout.md).
pub(crate) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Deepest nesting of indexes.
pub const INDEX_DEPTH: usize = 3;
/// Most layers of one manifest: no driver takes more, by far.
const LAYERS_MAX: usize = 4096;

/// What names a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size, bytes.
    pub size: u64,
    /// Where else it is said to be. Never asked: a manifest could make us ask anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub urls: Vec<String>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "platform")]
    pub platform: Option<Platform>,
    /// Words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Go writes empty lists and maps as null.
fn or_default<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// An index may list what others can read (OCI descriptor.md, "Registered Algorithms").
fn readable<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Vec<Descriptor>, D::Error> {
    let all: Vec<Value> = or_default(from)?;
    let is_other = |one: &Value| {
        let digest = one.get("digest").and_then(Value::as_str).and_then(|digest| digest.split_once(':'));
        let other = digest.filter(|(algorithm, _)| ["sha512", "sha384", "blake3"].contains(algorithm));
        if let Some((algorithm, digits)) = other {
            let digits: String = digits.chars().take(12).collect();
            tracing::warn!("an index lists {algorithm}:{digits:?}, which is left out: only sha256 is read");
        }
        other.is_some()
    };
    let read = |one| serde_json::from_value(one).map_err(serde::de::Error::custom);
    all.into_iter().filter(|one| !is_other(one)).map(read).collect()
}

/// A platform that does not say os and architecture is none.
fn platform<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<Platform>, D::Error> {
    let value = Option::<Value>::deserialize(from)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

impl Descriptor {
    /// Of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Of a blob whose digest and size are known.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether it is of a manifest or an index of images.
    pub fn is_of_image(&self) -> bool {
        kind_of(&self.media_type).is_some()
    }

    /// BuildKit's attestations stand among the images of an index and are none.
    pub fn is_attestation(&self) -> bool {
        self.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
    }
}

/// One image's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    /// Its config document.
    pub config: Descriptor,
    /// Its layers, bottom first.
    #[serde(deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
}

/// Several images' manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    /// Manifests, or further indexes. What is named by another digest than SHA-256 is left out, with a warning.
    #[serde(deserialize_with = "readable")]
    pub manifests: Vec<Descriptor>,
}

impl Manifest {
    /// An OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest { schema_version: 2, media_type: Some(types::MANIFEST.to_owned()), config, layers }
    }
}

impl Index {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Index {
        Index { schema_version: 2, media_type: Some(types::INDEX.to_owned()), manifests }
    }
}

/// One or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Of one image.
    Manifest(Manifest),
    /// Of several.
    Index(Index),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Index,
}

fn kind_of(media_type: &str) -> Option<Kind> {
    match media_type {
        types::MANIFEST | types::DOCKER_MANIFEST => Some(Kind::Manifest),
        types::INDEX | types::DOCKER_LIST => Some(Kind::Index),
        _ => None,
    }
}

impl Document {
    /// Reads `bytes`; `said` is the media type that somebody else gave (a registry's Content-Type, a descriptor), `what`
    /// names the document in errors.
    pub fn parse(bytes: &[u8], said: Option<&str>, what: &str) -> Result<Document> {
        let bad = |why: String| Error::document(what, why);
        let value: Value = serde_json::from_slice(bytes).map_err(|error| bad(format!("no JSON: {error}")))?;
        let kind = check(&value, said).map_err(bad)?;
        check_config(&value).map_err(|why| Error::NotAnImage { what: what.to_owned(), why })?;
        let bad = |error: serde_json::Error| Error::document(what, error);
        let document = match kind {
            Kind::Manifest => Document::Manifest(serde_json::from_value(value).map_err(bad)?),
            Kind::Index => Document::Index(serde_json::from_value(value).map_err(bad)?),
        };
        match &document {
            Document::Manifest(manifest) => {
                check_manifest(manifest).map_err(|why| Error::document(what, why))?
            }
            Document::Index(_) => {}
        }
        Ok(document)
    }
}

/// What a document is, if everything in and about it says the same.
fn check(value: &Value, said: Option<&str>) -> std::result::Result<Kind, String> {
    let object = value.as_object().ok_or("no JSON object")?;
    let own = match object.get("mediaType") {
        None => None,
        Some(own) => Some(own.as_str().ok_or("its mediaType is no text")?),
    };
    let said = said.map(|said| said.split(';').next().unwrap_or(said).trim());
    let is_old = [own, said].into_iter().flatten().any(|one| one.starts_with(types::SCHEMA_1));
    if is_old || object.contains_key("fsLayers") || object.get("schemaVersion") == Some(&Value::from(1)) {
        return Err("a manifest of schema 1, which cannot be verified and is not read: \
            push the image again with a tool of today"
            .to_owned());
    }
    if object.get("schemaVersion") != Some(&Value::from(2)) {
        return Err("its schemaVersion is not 2".to_owned());
    }
    let is_manifest = object.contains_key("layers") || object.contains_key("config");
    let shape = match (is_manifest, object.contains_key("manifests")) {
        (true, false) => Kind::Manifest,
        (false, true) => Kind::Index,
        (true, true) => return Err("both a manifest and an index: refused (CVE-2021-41190)".to_owned()),
        (false, false) => return Err("neither a manifest nor an index".to_owned()),
    };
    for one in [own, said].into_iter().flatten() {
        if kind_of(one).is_some_and(|kind| kind != shape) {
            return Err(format!("its contents are not of its media type {one}: refused (CVE-2021-41190)"));
        }
    }
    match (own, said) {
        (Some(own), _) if kind_of(own).is_none() => Err(format!("media type {own} is no image's")),
        (Some(own), Some(said)) if kind_of(said).is_some() && own != said => {
            Err(format!("it says it is {own}, and is given as {said}: refused (CVE-2021-41190)"))
        }
        _ => Ok(shape),
    }
}

fn check_manifest(manifest: &Manifest) -> std::result::Result<(), String> {
    if manifest.layers.len() > LAYERS_MAX {
        return Err(format!("it has {} layers; more than {LAYERS_MAX} are refused", manifest.layers.len()));
    }
    Ok(())
}

/// Artifacts have manifests too, with configs of their own (manifest.md, "Guidelines for Artifact Usage").
fn check_config(manifest: &Value) -> std::result::Result<(), String> {
    match manifest.get("config").and_then(|config| config.get("mediaType")).and_then(Value::as_str) {
        None | Some(types::CONFIG | types::DOCKER_CONFIG) => Ok(()),
        Some(other) => Err(format!("not an image but an artifact: its config is {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(kind: &str) -> Value {
        json!({"mediaType": kind, "digest": format!("sha256:{}", "0a".repeat(32)), "size": 2})
    }

    fn manifest() -> Value {
        json!({"schemaVersion": 2, "config": descriptor(types::CONFIG), "layers": [descriptor(types::LAYER)]})
    }

    fn with(mut value: Value, key: &str, to: Value) -> Value {
        value[key] = to;
        value
    }

    fn parse(value: &Value, said: Option<&str>) -> Result<Document> {
        Document::parse(&serde_json::to_vec(value).unwrap(), said, "the manifest")
    }

    #[test]
    fn good_documents_are_read() {
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(types::MANIFEST)]});
        for said in [None, Some(types::MANIFEST), Some("application/json"), Some(types::DOCKER_MANIFEST)] {
            assert!(matches!(parse(&manifest(), said), Ok(Document::Manifest(_))), "{said:?}");
        }
        let typed = with(manifest(), "mediaType", json!(types::MANIFEST));
        let said = format!("{}; charset=utf-8", types::MANIFEST);
        assert!(parse(&typed, Some(&said)).is_ok());
        for said in [None, Some(types::INDEX), Some(types::DOCKER_LIST)] {
            assert!(matches!(parse(&index, said), Ok(Document::Index(_))), "{said:?}");
        }
        let odd =
            with(index, "manifests", json!([with(descriptor("x"), "platform", json!({"os": "linux"}))]));
        let Ok(Document::Index(odd)) = parse(&odd, None) else { panic!() };
        assert_eq!(odd.manifests[0].platform, None);
    }

    #[test]
    fn nulls_are_empty_and_other_digests_are_left_out() {
        let nulls = with(with(descriptor(types::CONFIG), "annotations", Value::Null), "urls", Value::Null);
        let value = with(with(manifest(), "layers", Value::Null), "config", nulls);
        let Ok(Document::Manifest(read)) = parse(&value, None) else { panic!() };
        assert!(read.layers.is_empty());
        let other = with(descriptor(types::MANIFEST), "digest", json!(format!("sha512:{}", "0".repeat(128))));
        let bad = with(descriptor(types::MANIFEST), "digest", json!("sha256:../x"));
        let index = |one| json!({"schemaVersion": 2, "manifests": [one, descriptor(types::MANIFEST)]});
        let Ok(Document::Index(read)) = parse(&index(other), None) else { panic!() };
        assert_eq!(read.manifests.len(), 1);
        assert!(parse(&index(bad), None).is_err());
    }

    // engines.md 4.3, row 17, and its relatives.
    #[test]
    fn documents_that_could_be_taken_for_others_are_refused() {
        let both = with(manifest(), "manifests", json!([]));
        let list = json!({"schemaVersion": 2, "manifests": []});
        let bad_digest = |digest: &str| {
            with(manifest(), "layers", json!([with(descriptor("x"), "digest", json!(digest))]))
        };
        let cases: Vec<(&str, Value, Option<&str>, &str)> = vec![
            ("both", both, None, "both a manifest and an index"),
            ("config in an index", with(list.clone(), "config", descriptor("x")), None, "both"),
            ("type of an index", manifest(), Some(types::INDEX), "CVE-2021-41190"),
            ("type of a manifest", list.clone(), Some(types::MANIFEST), "CVE-2021-41190"),
            ("own type", with(manifest(), "mediaType", json!(types::INDEX)), None, "CVE-2021-41190"),
            (
                "two types",
                with(manifest(), "mediaType", json!(types::DOCKER_MANIFEST)),
                Some(types::MANIFEST),
                "it says",
            ),
            ("unknown type", with(manifest(), "mediaType", json!("text/html")), None, "no image's"),
            ("number as type", with(manifest(), "mediaType", json!(1)), None, "no text"),
            ("schema 1", json!({"schemaVersion": 1, "fsLayers": []}), None, "schema 1"),
            (
                "schema 1 by type",
                manifest(),
                Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
                "schema 1",
            ),
            ("schema 3", with(manifest(), "schemaVersion", json!(3)), None, "schemaVersion"),
            ("nothing", json!({"schemaVersion": 2}), None, "neither"),
            ("array", json!([]), None, "no JSON object"),
            (
                "artifact",
                with(manifest(), "config", descriptor("application/vnd.cncf.helm.config.v1+json")),
                None,
                "artifact",
            ),
            ("path as digest", bad_digest("sha256:../../../etc/passwd"), None, "no digest"),
            ("other digest", bad_digest(&format!("sha512:{}", "0".repeat(128))), None, "no digest"),
            (
                "negative size",
                with(manifest(), "config", with(descriptor(types::CONFIG), "size", json!(-1))),
                None,
                "",
            ),
            ("many layers", with(manifest(), "layers", json!(vec![descriptor("x"); 4097])), None, "4097"),
        ];
        for (name, value, said, word) in cases {
            let error = parse(&value, said).unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
        assert!(Document::parse(b"{", None, "x").is_err());
    }
}
