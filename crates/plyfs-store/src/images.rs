//! Images: config documents under their own digest (Docker's `image/fs.go`).

use std::collections::HashSet;

use serde::Deserialize;

use crate::containers::Container;
use crate::driver::Mounter;
use crate::error::{Error, Result};
use crate::files;
use crate::id::{ChainId, DiffId, Digest, ImageId};
use crate::intent::Intent;
use crate::layers::Freed;
use crate::store::Store;
use crate::tags::Tags;

/// The part of a config document that the store itself needs (OCI image-spec config.md). Everybody else reads the whole
/// document, [`Image::raw`], with the types of their choice.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    rootfs: RootFs,
    #[serde(default)]
    created: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, Deserialize)]
struct RootFs {
    /// Absent in images that have no layer.
    #[serde(default)]
    diff_ids: Option<Vec<DiffId>>,
}

/// One image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its config document.
    pub id: ImageId,
    /// The config document, byte for byte.
    pub raw: Vec<u8>,
    /// Bottom first.
    pub diffs: Vec<DiffId>,
    /// When it was made, if it says so.
    pub created: Option<jiff::Timestamp>,
}

impl Image {
    /// Reads a config document.
    pub fn parse(raw: Vec<u8>) -> Result<Image> {
        let id = ImageId(Digest::of(&raw));
        let config: Config = serde_json::from_slice(&raw)
            .map_err(|error| Error::Invalid(format!("the config of image {id} cannot be read: {error}")))?;
        Ok(Image { id, raw, diffs: config.rootfs.diff_ids.unwrap_or_default(), created: config.created })
    }

    /// The stack of all its layers; `None` if it has none.
    pub fn top(&self) -> Option<ChainId> {
        ChainId::each(&self.diffs).last().copied()
    }
}

impl Store {
    /// Makes an image appear. All its layers must be registered.
    pub fn put_image(&self, raw: Vec<u8>) -> Result<Image> {
        self.put_image_as(raw, &[])
    }

    /// The same, with these names (repository and reference, as [`Store::tag`] takes them): nobody sees it without.
    pub fn put_image_as(&self, raw: Vec<u8>, names: &[(String, String)]) -> Result<Image> {
        self.need_writable()?;
        if raw.len() as u64 > files::DOCUMENT_LIMIT {
            return Err(Error::Invalid(format!(
                "the image's config is larger than {} MiB",
                files::DOCUMENT_LIMIT >> 20
            )));
        }
        let image = Image::parse(raw)?;
        let _lock = self.lock()?;
        for chain in ChainId::each(&image.diffs) {
            self.need_layer(&chain)?;
        }
        if !self.layout().config(&image.id).exists() {
            files::write_atomic(&self.layout().config(&image.id), &image.raw)?;
        }
        let mut tags = self.tags()?;
        let mut is_new = false;
        for (repository, reference) in names {
            is_new |= tags.set(repository, reference, image.id) != Some(image.id);
        }
        if is_new {
            self.write_tags(&tags)?;
        }
        Ok(image)
    }

    /// An image by its whole id.
    pub fn image(&self, id: &ImageId) -> Result<Image> {
        let path = self.layout().config(id);
        let raw = files::read(&path)?.ok_or_else(|| Error::not_found("image", id))?;
        if Digest::of(&raw) != id.0 {
            return Err(Error::corrupt(path, "does not hash to its name"));
        }
        Image::parse(raw)
    }

    /// Every image's id, in no order.
    pub fn image_ids(&self) -> Result<Vec<ImageId>> {
        let names = files::names(&self.layout().configs())?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok().map(ImageId)).collect())
    }

    /// The image whose id begins with these digits (with or without `sha256:`); `None` if there is none.
    pub fn image_by_prefix(&self, text: &str) -> Result<Option<ImageId>> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let mut found: Option<ImageId> = None;
        for id in self.image_ids()?.into_iter().filter(|id| id.0.hex().starts_with(digits)) {
            if let Some(first) = found {
                let (first, second) = (first.0.short(), id.0.short());
                return Err(Error::Ambiguous { kind: "image", name: text.to_owned(), first, second });
            }
            found = Some(id);
        }
        Ok(found)
    }

    /// The chains that images end with.
    pub(crate) fn image_tops(&self) -> Result<HashSet<ChainId>> {
        let mut tops = HashSet::new();
        for id in self.image_ids()? {
            match self.image(&id) {
                Ok(image) => tops.extend(image.top()),
                // Removed in this moment: then nothing of it is needed.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tops)
    }

    /// Removes an image with its tags, and the layers that nothing else needs. A container that uses it keeps it, unless
    /// `force` (its layers stay as long as the container); one that runs keeps it always.
    pub fn remove_image(&self, id: &ImageId, force: bool, mounter: &dyn Mounter) -> Result<Removed> {
        let unused = |image: &Image, _: &Tags| self.check_image_unused(image, force).map(|()| true);
        Ok(self.remove_image_if(id, &unused, mounter)?.unwrap_or_default())
    }

    /// [`Error::InUse`] if a container keeps the image: any one, or with `force` one that runs.
    pub fn check_image_unused(&self, image: &Image, force: bool) -> Result<()> {
        let id = image.id.to_string();
        for user in self.containers()?.iter().filter(|one| one.image == id) {
            let runs = user.state.running && self.is_run(&user.id)?;
            if runs || !force {
                let why =
                    if runs { "which runs: this cannot be forced" } else { "stopped; --force goes over it" };
                let by = Some(format!("container {} ({}), {why}", user.short(), user.plain_name()));
                return Err(Error::InUse { kind: "image", name: image.id.0.short(), by });
            }
        }
        Ok(())
    }

    /// A container of the image.
    pub(crate) fn image_user(&self, image: &Image) -> Result<Option<Container>> {
        let id = image.id.to_string();
        Ok(self.containers()?.into_iter().find(|one| one.image == id))
    }

    /// Removes an image unless `may` says no: it is asked at a moment in which nobody tags images or makes containers.
    pub fn remove_image_if(
        &self,
        id: &ImageId,
        may: &MayGo<'_>,
        mounter: &dyn Mounter,
    ) -> Result<Option<Removed>> {
        // Should we die after the image is gone, the layers will be let go by whoever opens the store next.
        let intent = self.begin("rmi")?;
        match self.forget_image(id, &intent, may) {
            Ok(Some(untagged)) => {
                let freed = intent.end_letting_go(self, mounter)?;
                Ok(Some(Removed { untagged, freed }))
            }
            refused => {
                intent.done()?;
                refused.map(|_| None)
            }
        }
    }

    /// Takes the image's tags and its document away; `intent` knows the layers from then on.
    fn forget_image(&self, id: &ImageId, intent: &Intent, may: &MayGo<'_>) -> Result<Option<Vec<String>>> {
        let _lock = self.lock()?;
        let image = self.image(id)?;
        let mut tags = self.tags()?;
        if !may(&image, &tags)? {
            return Ok(None);
        }
        if let Some(top) = image.top() {
            intent.keeps(&top)?;
        }
        let untagged = tags.remove_image(&image.id);
        if !untagged.is_empty() {
            self.write_tags(&tags)?;
        }
        files::remove_file(&self.layout().config(&image.id))?;
        files::sync_dir(&self.layout().configs())?;
        files::remove_dir(&self.layout().image_metadata(&image.id))?;
        Ok(Some(untagged))
    }
}

/// Whether an image may be removed, asked under the store's lock.
pub type MayGo<'a> = dyn Fn(&Image, &Tags) -> Result<bool> + 'a;

/// What removing an image did.
#[derive(Debug, Default, Clone)]
pub struct Removed {
    /// Tags and digests that named it.
    pub untagged: Vec<String>,
    /// Layers that went with it.
    pub freed: Freed,
}
