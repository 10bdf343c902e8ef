//! OCI image layout: `oci-layout`, `index.json` and blobs under their digests (OCI image-spec image-layout.md).

use serde::Deserialize;

use super::{Kept, Members, Stored, check_count};
use crate::config;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::manifest::{Descriptor, Document, INDEX_DEPTH, Index, Manifest, blob_name};
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
    let (mut found, mut other) = (Vec::new(), None);
    for one in reader.choose(&index)? {
        let manifest = match reader.resolve(one, INDEX_DEPTH) {
            Err(error @ Error::NotAnImage { .. }) => {
                tracing::warn!("{error}; it is left out");
                other.get_or_insert(error);
                continue;
            }
            manifest => manifest?,
        };
        let stored = reader.image(one, &manifest)?;
        kept.add(&stored.image)?;
        found.push(stored);
    }
    match other {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

struct Reader<'a> {
    members: &'a dyn Members,
    limits: &'a Limits,
    platform: &'a Platform,
}

impl Reader<'_> {
    /// Images of one name for several platforms stand beside each other too: of these the best, and all that do not say.
    /// Without names they may be several images: all that fit as well as the best.
    fn choose<'i>(&self, index: &'i Index) -> Result<Vec<&'i Descriptor>> {
        let (all, others): (Vec<&Descriptor>, Vec<_>) =
            index.manifests.iter().filter(|one| !one.is_attestation()).partition(|one| one.is_of_image());
        for one in others {
            tracing::warn!(
                "index.json lists {}, which is no image and is left out",
                one.media_type.escape_debug()
            );
        }
        let mut chosen: Vec<&Descriptor> = Vec::new();
        for one in &all {
            let rivals = all.iter().filter(|other| name(other) == name(one));
            let rank = |of: &Descriptor| self.platform.rank(of.platform.as_ref()?);
            let ranked = rivals.filter_map(|rival| Some((rank(rival)?, rival.digest)));
            let best = ranked.min_by_key(|(rank, _)| *rank);
            let is_best = best.is_some_and(|(best, digest)| match name(one) {
                Some(_) => digest == one.digest,
                None => rank(one) == Some(best),
            });
            if (one.platform.is_none() || is_best) && !chosen.contains(one) {
                chosen.push(one);
            }
        }
        if chosen.is_empty() {
            return Err(Error::Refused(format!("index.json lists no image for {}", self.platform)));
        }
        Ok(chosen)
    }

    fn resolve(&self, descriptor: &Descriptor, depth: usize) -> Result<Manifest> {
        let name = blob_name(descriptor.digest);
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
        let raw = self.members.read_verified(&blob_name(config.digest), Some(config.digest), self.limits)?;
        let image = config::check(raw, &blob_name(config.digest), manifest.layers.len())?;
        let layers = manifest.layers.iter().map(|one| (blob_name(one.digest), Some(one.digest))).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::types;

    struct None;

    impl Members for None {
        fn look(&self, _: &str) -> Result<Option<super::super::Found>> {
            Ok(Option::None)
        }

        fn has(&self, _: &str) -> bool {
            false
        }
    }

    #[test]
    fn what_is_loaded_of_several() {
        let platform: Platform = "linux/amd64".parse().unwrap();
        let one = |kind: &str, text: &str, platform: &str, name: &str| {
            let mut one = Descriptor::of(kind, text.as_bytes());
            one.platform = platform.parse().ok();
            if !name.is_empty() {
                one.annotations.insert(REF_NAME.to_owned(), name.to_owned());
            }
            one
        };
        let all = vec![
            one(types::MANIFEST, "first", "linux/amd64", ""),
            one(types::MANIFEST, "second", "linux/amd64", ""),
            one(types::MANIFEST, "older", "linux/386", ""),
            one(types::MANIFEST, "a", "linux/amd64", "a:1"),
            one(types::MANIFEST, "a again", "linux/amd64", "a:1"),
            one("application/vnd.other+json", "other", "", ""),
        ];
        let reader = Reader { members: &None, limits: &Limits::default(), platform: &platform };
        let index = Index::new(all.clone());
        assert_eq!(reader.choose(&index).unwrap(), [&all[0], &all[1], &all[3]]);
        assert!(reader.choose(&Index::new(vec![all[5].clone()])).is_err());
    }
}
