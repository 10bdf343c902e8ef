//! The image that a container is made of.

use anyhow::anyhow;
use plyfs_store::containers::Config;
use plyfs_store::images::Image;
use plyfs_store::{ImageId, Store};
use serde::Deserialize;

use crate::exit::{self, Failure};

/// The part of an image's config document that becomes a container's (OCI image-spec config.md, `config`).
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Config>,
}

/// Finds an image by name, digest or id.
pub(crate) fn find(store: &Store, text: &str) -> Result<Option<ImageId>, Failure> {
    let tags = store.tags().map_err(anyhow::Error::new)?;
    let plain = text.strip_prefix("docker.io/").unwrap_or(text);
    let plain = plain.strip_prefix("library/").unwrap_or(plain);
    let last = plain.rsplit('/').next().unwrap_or(plain);
    let full = if last.contains([':', '@']) { plain.to_owned() } else { format!("{plain}:latest") };
    if let Some(id) = tags.find(&full) {
        return Ok(Some(id));
    }
    Ok(store.image_by_prefix(text).map_err(anyhow::Error::new)?)
}

/// The image, or Docker's words that there is none.
pub(crate) fn need(store: &Store, text: &str) -> Result<Image, Failure> {
    let Some(id) = find(store, text)? else {
        return Err(Failure::new(exit::TRY_FAILED, anyhow!("No such image: {text}")));
    };
    Ok(store.image(&id).map_err(anyhow::Error::new)?)
}

/// What its config document says about the process.
pub(crate) fn config(image: &Image) -> anyhow::Result<Config> {
    let document: Document = serde_json::from_slice(&image.raw)
        .map_err(|error| anyhow!("the config of image {} cannot be read: {error}", image.id))?;
    Ok(document.config.unwrap_or_default())
}
