//! Content that is not what it should be: nothing of it may be seen afterwards.

use plyfs_store::Digest;
use serde_json::{Value, json};

use crate::image::{CONFIG, Content, INDEX, LAYER, MANIFEST, descriptor, gzip, tar};
use crate::server::{Answer, Server};
use crate::store::Place;

/// Pulls from a registry with this content; the error.
#[track_caller]
fn refused(content: Content, reference: &str) -> String {
    let server = Server::new(move |request, _| content.answer(request));
    let place = Place::new();
    let error = place.pull(&format!("{}/a{reference}", server.host())).unwrap_err();
    place.assert_untouched();
    error
}

fn with_manifest(change: impl FnOnce(&mut Value)) -> Content {
    let mut content = Content::image(&[1000, 2000]);
    let mut manifest = content.manifest.clone();
    change(&mut manifest);
    content.tag("latest", MANIFEST, &manifest);
    content
}

#[test]
fn blobs_that_are_not_what_they_are_called() {
    let mut content = Content::image(&[1000, 2000]);
    content.blobs.insert(content.layers[1].clone(), gzip(&tar("other", 1000)));
    let error = refused(content, "");
    assert!(error.contains("layer"), "{error}");
    // The same length, and a good archive.
    let mut content = Content::image(&[1000]);
    let mut blob = content.blobs[&content.layers[0]].clone();
    blob[4] ^= 1; // the time in gzip's header, which is not checked by gzip itself
    content.blobs.insert(content.layers[0].clone(), blob);
    let error = refused(content, "");
    assert!(error.contains("has digest"), "{error}");
    let mut content = Content::image(&[1000]);
    let config = content.blobs[&content.config].clone();
    content.blobs.insert(content.config.clone(), [&config[..config.len() - 1], b" }"].concat());
    assert!(refused(content, "").contains("digest"));
}

#[test]
fn layers_that_are_not_what_the_config_says() {
    let content = with_manifest(|manifest| {
        let other = gzip(&tar("other", 1000));
        manifest["layers"][1] = descriptor(LAYER, &other);
    });
    let mut content = content;
    content.put(gzip(&tar("other", 1000)));
    let error = refused(content, "");
    assert!(error.contains("diff ID"), "{error}");
    let content = with_manifest(|manifest| drop(manifest["layers"].as_array_mut().unwrap().pop()));
    let error = refused(content, "");
    assert!(error.contains("its manifest 1"), "{error}");
}

#[test]
fn manifests_that_are_not_what_was_asked_for() {
    let mut content = Content::image(&[1000]);
    let digest = Digest::of(b"another manifest").to_string();
    let manifest = content.manifests["latest"].clone();
    content.manifests.insert(digest.clone(), manifest);
    let error = refused(content, &format!("@{digest}"));
    assert!(error.contains("has digest"), "{error}");
    let content = Content::image(&[1000]);
    let server = Server::new(move |request, _| {
        let answer = content.answer(request);
        answer.with("Docker-Content-Digest", Digest::of(b"other").to_string())
    });
    let place = Place::new();
    let error = place.pull(&format!("{}/a", server.host())).unwrap_err();
    assert!(error.contains("has digest"), "{error}");
    place.assert_untouched();
}

// engines.md 4.3, row 17 (the whole table of documents is beside the parser), and limits.
#[test]
fn manifests_that_lie_about_what_they_are() {
    assert!(refused(with_manifest(|manifest| manifest["manifests"] = json!([])), "").contains("both"));
    assert!(
        refused(with_manifest(|manifest| manifest["mediaType"] = json!(INDEX)), "")
            .contains("CVE-2021-41190")
    );
    let path = json!("sha256:../../../../etc/passwd");
    assert!(
        refused(with_manifest(|manifest| manifest["layers"][0]["digest"] = path), "").contains("no digest")
    );
    let huge = with_manifest(|manifest| manifest["annotations"] = json!({"x": "y".repeat(5 << 20)}));
    assert!(refused(huge, "").contains("manifest_bytes"));
    let old = with_manifest(|manifest| *manifest = json!({"schemaVersion": 1, "fsLayers": []}));
    assert!(refused(old, "").contains("schema 1"));
    let many = with_manifest(|manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = Value::Array(vec![layer; 130]);
    });
    assert!(refused(many, "").contains("limit is 125"));
    let size = with_manifest(|manifest| manifest["config"]["size"] = json!(5 << 20));
    assert!(!refused(size, "").is_empty());
}

#[test]
fn the_platform_is_chosen_and_indexes_end() {
    let mut content = Content::image(&[1000]);
    let wanted = content.manifest.clone();
    let of = |manifest: &Value, platform: Value| {
        let mut one = descriptor(MANIFEST, &serde_json::to_vec(manifest).unwrap());
        one["platform"] = platform;
        one
    };
    let arm = of(&json!({"not": "asked for"}), json!({"os": "linux", "architecture": "arm64"}));
    let amd = of(&wanted, json!({"os": "linux", "architecture": "amd64"}));
    let index = json!({"schemaVersion": 2, "manifests": [arm.clone(), amd]});
    let digest = content.tag("multi", INDEX, &index);
    content.tag("foreign", INDEX, &json!({"schemaVersion": 2, "manifests": [arm]}));
    // Indexes in each other, one more than is followed.
    let mut inner = index;
    for depth in 0..4 {
        let bytes = serde_json::to_vec(&inner).unwrap();
        content.tag(&format!("depth{depth}"), INDEX, &inner);
        inner = json!({"schemaVersion": 2, "manifests": [descriptor(INDEX, &bytes)]});
    }
    let server = Server::new(move |request, _| content.answer(request));
    let place = Place::new();
    let name = |tag: &str| format!("{}/a:{tag}", server.host());
    let pulled = place.pull(&name("multi")).unwrap();
    assert_eq!(pulled.digest.to_string(), digest);
    place.assert_has(&pulled, 1);
    assert!(place.pull(&name("foreign")).unwrap_err().contains("no image for linux/amd64"));
    assert!(!place.pull(&name("depth2")).unwrap().image.diffs.is_empty());
    assert!(place.pull(&name("depth3")).unwrap_err().contains("too many indexes"));
}

// A manifest must not make us ask others.
#[test]
fn urls_of_foreign_layers_are_not_asked() {
    let elsewhere = Server::new(|_, _| Answer::new(200, "stolen"));
    let mut content = Content::image(&[1000]);
    let url = format!("http://{}/layer", elsewhere.host());
    content.manifest["layers"][0]["urls"] = json!([url]);
    content.tag("latest", MANIFEST, &content.manifest.clone());
    content.blobs.remove(&content.layers[0].clone());
    let error = refused(content, "");
    assert!(error.contains("not found"), "{error}");
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn a_second_pull_brings_what_is_new_alone() {
    let first = Content::image(&[1000, 2000]);
    let mut second = Content::image(&[1000, 2000, 3000]);
    second.blobs.extend(first.blobs.clone());
    let layers = second.layers.clone();
    second.tag("old", MANIFEST, &first.manifest);
    let server = Server::new(move |request, _| second.answer(request));
    let place = Place::new();
    let name = |tag: &str| format!("{}/a:{tag}", server.host());
    assert!(place.pull(&name("old")).unwrap().is_new);
    assert!(!place.pull(&name("old")).unwrap().is_new);
    let pulled = place.pull(&name("latest")).unwrap();
    place.assert_has(&pulled, 3);
    let counts: Vec<usize> = layers.iter().map(|layer| server.asked(layer).len()).collect();
    assert_eq!(counts, [1, 1, 1]);
    let known = place.store.layout().diff_by_digest(&layers[2].parse().unwrap());
    assert_eq!(std::fs::read_to_string(known).unwrap(), pulled.image.diffs[2].to_string());
    assert_eq!(place.store.tags().unwrap().of(&pulled.image.id).len(), 2);
}

#[test]
fn an_artifact_is_no_image() {
    let content = with_manifest(|manifest| {
        manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json")
    });
    assert!(refused(content, "").contains("artifact"));
    let foreign = with_manifest(|manifest| {
        let config = serde_json::to_vec(&json!({"os": "windows", "rootfs": {"type": "layers"}})).unwrap();
        manifest["config"] = descriptor(CONFIG, &config);
        manifest["layers"] = json!([]);
    });
    let mut foreign = foreign;
    foreign.put(serde_json::to_vec(&json!({"os": "windows", "rootfs": {"type": "layers"}})).unwrap());
    assert!(refused(foreign, "").contains("windows"));
}
