//! Images made in memory, and a registry that has them.

use std::collections::HashMap;
use std::io::Write;

use plyfs_store::Digest;
use serde_json::{Value, json};

use crate::server::{Answer, Request};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Blobs by digest, and manifests by digest and tag with their media types.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) blobs: HashMap<String, Vec<u8>>,
    pub(crate) manifests: HashMap<String, (String, Vec<u8>)>,
    /// Of the layers of the last image.
    pub(crate) layers: Vec<String>,
    pub(crate) manifest: Value,
    pub(crate) config: String,
}

/// A layer that gzip does not make small, with one file of `size` bytes.
pub(crate) fn tar(name: &str, size: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut state = name.bytes().fold(1_u64, |state, byte| state.wrapping_mul(31) + u64::from(byte));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let data: Vec<u8> = (0..size).map(|_| next()).collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, &data[..]).unwrap();
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

impl Content {
    /// An image of layers of `sizes` bytes, tagged `latest`.
    pub(crate) fn image(sizes: &[usize]) -> Content {
        let mut content = Content::default();
        let tars: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(n, size)| tar(&format!("file{n}"), *size)).collect();
        let diffs: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let config =
            json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diffs}});
        let config = serde_json::to_vec(&config).unwrap();
        let blobs: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
        let layers: Vec<Value> = blobs.iter().map(|blob| descriptor(LAYER, blob)).collect();
        content.manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config), "layers": layers});
        content.layers = blobs.iter().map(|blob| Digest::of(blob).to_string()).collect();
        content.config = content.put(config);
        blobs.into_iter().for_each(|blob| drop(content.put(blob)));
        content.tag("latest", MANIFEST, &content.manifest.clone());
        content
    }

    pub(crate) fn put(&mut self, blob: Vec<u8>) -> String {
        let digest = Digest::of(&blob).to_string();
        self.blobs.insert(digest.clone(), blob);
        digest
    }

    /// Puts a manifest under a tag and under its digest, which is the answer.
    pub(crate) fn tag(&mut self, tag: &str, media_type: &str, manifest: &Value) -> String {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = Digest::of(&bytes).to_string();
        for name in [tag.to_owned(), digest.clone()] {
            self.manifests.insert(name, (media_type.to_owned(), bytes.clone()));
        }
        digest
    }

    /// A registry's answer.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let last = request.path.rsplit('/').next().unwrap();
        if request.path == "/v2/" {
            return Answer::new(200, "{}");
        }
        if request.path.contains("/manifests/") {
            return match self.manifests.get(last) {
                Some((media_type, bytes)) => {
                    Answer::new(200, bytes.clone()).with("Content-Type", media_type.clone())
                }
                None => Answer::new(
                    404,
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                ),
            };
        }
        match self.blobs.get(last) {
            Some(blob) => Answer::part(blob, request),
            None => Answer::new(404, ""),
        }
    }
}
