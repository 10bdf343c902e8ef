//! The image that a container is made of.

use anyhow::anyhow;
use plyfs_store::Store;
use plyfs_store::containers::Config;
use plyfs_store::images::Image;
use serde::Deserialize;

use crate::exit::Failure;

/// The part of an image's config document that becomes a container's (OCI image-spec config.md, `config`).
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Config>,
}

/// The image that a name, a digest or the beginning of an id means.
pub(crate) fn find(store: &Store, text: &str) -> Result<Option<Image>, Failure> {
    match plyfs_image::images::find(store, text) {
        Ok(id) => Ok(Some(store.image(&id).map_err(anyhow::Error::new)?)),
        Err(plyfs_image::Error::Store(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).into()),
    }
}

/// The same; Docker's words if there is none.
pub(crate) fn need(store: &Store, text: &str) -> Result<Image, Failure> {
    find(store, text)?.ok_or_else(|| anyhow!("No such image: {text}").into())
}

/// What its config document says about the process.
pub(crate) fn config(image: &Image) -> anyhow::Result<Config> {
    let document: Document = serde_json::from_slice(&image.raw)
        .map_err(|error| anyhow!("the config of image {} cannot be read: {error}", image.id))?;
    Ok(document.config.unwrap_or_default())
}
