//! OCI image layout: `oci-layout`, `index.json` and blobs under their digests (OCI image-spec image-layout.md).

use plyfs_store::Digest;
use serde::Deserialize;

use super::{Kept, Members, Stored, check_count};
use crate::config;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::manifest::{Descriptor, Document, INDEX_DEPTH, Index, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;

/// A whole name, as containerd writes it.
const FULL_NAME: &str = "io.containerd.image.name";
/// A tag, or a whole name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Debug, Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// Reads `index.json`; of images for several platforms the one for `platform`.
pub(crate) fn find_images(
    members: &dyn Members,
    limits: &Limits,
    platform: &Platform,
) -> Result<Vec<Stored>> {
    let layout: Layout = serde_json::from_slice(&members.read("oci-layout", limits)?)
        .map_err(|error| Error::document("oci-layout", error))?;
    if layout.version.split('.').next() != Some("1") {
        return Err(Error::document("oci-layout", format!("version {} is not known", layout.version)));
    }
    let reader = Reader { members, limits, platform };
    let Document::Index(index) = Document::parse(&members.read("index.json", limits)?, None, "index.json")?
    else {
        return Err(Error::document("index.json", "it is no index"));
    };
    check_count("index.json", index.manifests.len())?;
    let mut kept = Kept::new(limits);
    let mut found = Vec::new();
    for one in reader.choose(&index)? {
        let manifest = reader.resolve(one, INDEX_DEPTH)?;
        let stored = reader.image(one, &manifest)?;
        kept.add(&stored.image)?;
        found.push(stored);
    }
    Ok(found)
}

struct Reader<'a> {
    members: &'a dyn Members,
    limits: &'a Limits,
    platform: &'a Platform,
}

impl Reader<'_> {
    /// Images of one name for several platforms stand beside each other too: of these the best, and all that do not say.
    fn choose<'i>(&self, index: &'i Index) -> Result<Vec<&'i Descriptor>> {
        let all: Vec<&Descriptor> = index.manifests.iter().filter(|one| !one.is_attestation()).collect();
        let mut chosen: Vec<&Descriptor> = Vec::new();
        for one in &all {
            let rivals = all.iter().filter(|other| name(other) == name(one));
            let ranked = rivals
                .filter_map(|rival| Some((self.platform.rank(rival.platform.as_ref()?)?, rival.digest)));
            let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, digest)| digest);
            if (one.platform.is_none() || best == Some(one.digest)) && !chosen.contains(one) {
                chosen.push(one);
            }
        }
        if chosen.is_empty() {
            return Err(Error::Refused(format!("index.json lists no image for {}", self.platform)));
        }
        Ok(chosen)
    }

    fn resolve(&self, descriptor: &Descriptor, depth: usize) -> Result<Manifest> {
        let name = blob(descriptor.digest);
        let bytes = self.members.read_verified(&name, Some(descriptor.digest), self.limits)?;
        match Document::parse(&bytes, Some(&descriptor.media_type), &name)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) if depth == 0 => Err(Error::document(name, "too many indexes in each other")),
            Document::Index(index) => {
                let chosen = self.platform.choose(&index.manifests);
                let none = || Error::Refused(format!("{name} lists no image for {}", self.platform));
                self.resolve(chosen.ok_or_else(none)?, depth - 1)
            }
        }
    }

    fn image(&self, descriptor: &Descriptor, manifest: &Manifest) -> Result<Stored> {
        let config = &manifest.config;
        let raw = self.members.read_verified(&blob(config.digest), Some(config.digest), self.limits)?;
        let image = config::check(raw, &blob(config.digest), manifest.layers.len())?;
        let layers = manifest.layers.iter().map(|one| (blob(one.digest), Some(one.digest))).collect();
        let (names, lone_tag) = match name(descriptor) {
            Some(name) if is_whole(name) => (vec![Reference::parse(name)?.as_new_name()?], None),
            Some(tag) => (Vec::new(), Some(tag.to_owned())),
            None => (Vec::new(), None),
        };
        Ok(Stored { image, layers, names, lone_tag })
    }
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    let words = &descriptor.annotations;
    words.get(FULL_NAME).or_else(|| words.get(REF_NAME)).map(String::as_str).filter(|name| !name.is_empty())
}

/// Whether it is a name and not a tag alone.
fn is_whole(name: &str) -> bool {
    name.contains(['/', ':', '@'])
}

fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
