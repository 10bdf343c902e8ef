//! Image indexes: the merged tree of an image's layers in one mapped file per chain ID, `plyfs/index/<chain>`.
//!
//! Written when an image appears, made again whenever one is missing or does not fit its layers, and only ever a means of
//! speed: nothing is lost with it. The format and what it is used for: `plyfs_union::image`.

use std::path::PathBuf;

use plyfs_union::image;

use crate::check::Problem;
use crate::error::{Error, Result};
use crate::files;
use crate::id::{ChainId, Digest};
use crate::store::Store;

impl Store {
    /// The image index of a stack of layers, written now if it is missing, of another version, or of other layers.
    pub fn image_index(&self, top: &ChainId) -> Result<PathBuf> {
        self.need_writable()?;
        let (path, layers) = (self.layout().index(top), self.layer_dirs(top)?);
        if image::fits(&path, &layers).is_err() {
            let built = image::build(&layers, &path);
            let built = built.map_err(|source| Error::Union { doing: "writing an image index", source })?;
            tracing::debug!("wrote {}: {} names, {} bytes", path.display(), built.entries, built.bytes);
        }
        Ok(path)
    }

    /// The directories of a stack, top first.
    fn layer_dirs(&self, top: &ChainId) -> Result<Vec<PathBuf>> {
        let top = self.need_layer(top)?.id;
        let parents = self.driver().parents(&top)?;
        Ok(std::iter::once(&top).chain(&parents).map(|id| self.driver().diff_dir(id)).collect())
    }

    /// What image indexes say that their layers do not. One that does not fit is no problem: it is not used.
    pub fn check_indexes(&self) -> Result<Vec<Problem>> {
        let mut found = Vec::new();
        for (chain, path) in self.indexes()? {
            let layers = match self.layer_dirs(&chain) {
                Err(error) if error.is_not_found() => continue,
                layers => layers?,
            };
            if image::fits(&path, &layers).is_err() {
                continue;
            }
            let differences = image::verify(&path, &layers);
            let differences =
                differences.map_err(|source| Error::Union { doing: "checking an image index", source })?;
            found.extend(differences.into_iter().map(|one| Problem {
                path: path.clone(),
                what: format!("{}: {} (remove the file, it is made again)", one.path.display(), one.what),
            }));
        }
        Ok(found)
    }

    /// Removes the indexes of stacks that are not there any more, and those that a dead process was writing.
    pub(crate) fn remove_stale_indexes(&self) -> Result<()> {
        for name in files::names(&self.layout().indexes())? {
            let writer = name.split_once(".tmp-").and_then(|(_, rest)| rest.split('-').next()?.parse().ok());
            if writer.is_some_and(|pid| plyfs_sys::process::start_time(pid).is_none()) {
                files::remove_file(&self.layout().indexes().join(name))?;
            }
        }
        for (chain, path) in self.indexes()? {
            if !self.layout().chain(&chain).exists() {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn indexes(&self) -> Result<Vec<(ChainId, PathBuf)>> {
        let names = files::names(&self.layout().indexes())?;
        let chains = names.iter().filter_map(|name| Digest::from_hex(name).ok().map(ChainId));
        Ok(chains.map(|chain| (chain, self.layout().index(&chain))).collect())
    }
}
