//! Tags: names of images, in Docker's `repositories.json` (`reference/store.go`).
//!
//! A repository (`debian`, `localhost:5000/app`: Docker's familiar form) maps references (`debian:12`,
//! `debian@sha256:...`) to image ids. What a valid reference is, is known by `plyfs-image`; here they are texts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::id::ImageId;
use crate::store::Store;

/// All tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    #[serde(rename = "Repositories", default)]
    repositories: BTreeMap<String, BTreeMap<String, ImageId>>,
}

/// One tag or digest of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// `debian`
    pub repository: String,
    /// `debian:12` or `debian@sha256:...`
    pub reference: String,
    /// What it names.
    pub image: ImageId,
}

impl Tags {
    /// Every tag and digest, sorted.
    pub fn all(&self) -> impl Iterator<Item = Tag> {
        self.repositories.iter().flat_map(|(repository, references)| {
            references.iter().map(|(reference, image)| Tag {
                repository: repository.clone(),
                reference: reference.clone(),
                image: *image,
            })
        })
    }

    /// What a reference (`debian:12`, `debian@sha256:...`) names.
    pub fn find(&self, reference: &str) -> Option<ImageId> {
        self.repositories.values().find_map(|references| references.get(reference)).copied()
    }

    /// What names an image.
    pub fn of(&self, image: &ImageId) -> Vec<Tag> {
        self.all().filter(|tag| tag.image == *image).collect()
    }

    /// Names an image; answers what the reference named before.
    pub fn set(&mut self, repository: &str, reference: &str, image: ImageId) -> Option<ImageId> {
        self.repositories.entry(repository.to_owned()).or_default().insert(reference.to_owned(), image)
    }

    /// Takes a reference away; answers what it named.
    pub fn remove(&mut self, reference: &str) -> Option<ImageId> {
        let removed = self.repositories.values_mut().find_map(|references| references.remove(reference));
        self.repositories.retain(|_, references| !references.is_empty());
        removed
    }

    /// Takes every reference of an image away; answers them.
    pub(crate) fn remove_image(&mut self, image: &ImageId) -> Vec<String> {
        let gone: Vec<String> = self.of(image).into_iter().map(|tag| tag.reference).collect();
        for reference in &gone {
            self.remove(reference);
        }
        gone
    }
}

impl Store {
    /// All tags.
    pub fn tags(&self) -> Result<Tags> {
        Ok(files::read_json(&self.layout().repositories())?.unwrap_or_default())
    }

    pub(crate) fn write_tags(&self, tags: &Tags) -> Result<()> {
        files::write_json(&self.layout().repositories(), tags)
    }

    /// Names an image; answers what the reference named before.
    pub fn tag(&self, repository: &str, reference: &str, image: &ImageId) -> Result<Option<ImageId>> {
        self.need_writable()?;
        let _lock = self.lock()?;
        self.image(image)?;
        let mut tags = self.tags()?;
        let before = tags.set(repository, reference, *image);
        if before != Some(*image) {
            self.write_tags(&tags)?;
        }
        Ok(before.filter(|before| before != image))
    }

    /// Takes one name of an image away; answers what it named. The image stays.
    pub fn untag(&self, reference: &str) -> Result<ImageId> {
        self.need_writable()?;
        let _lock = self.lock()?;
        let mut tags = self.tags()?;
        let image = tags.remove(reference).ok_or_else(|| Error::not_found("image", reference))?;
        self.write_tags(&tags)?;
        Ok(image)
    }
}
