//! Prune: everything that nothing needs any more.

use std::collections::HashSet;

use crate::driver::{LayerId, Mounter};
use crate::error::Result;
use crate::files;
use crate::id::{ChainId, ImageId};
use crate::images::Image;
use crate::store::Store;
use crate::tags::Tags;

/// What was removed.
#[derive(Debug, Default, Clone)]
pub struct Pruned {
    /// Ids of containers that did not run.
    pub containers: Vec<String>,
    /// Images without a name that no container uses.
    pub images: Vec<ImageId>,
    /// Stacks whose top layers went.
    pub layers: Vec<ChainId>,
    /// Bytes: layers, container layers, broken downloads.
    pub bytes: u64,
}

impl Store {
    /// Removes stopped containers, images without a tag that no container uses (with `all`: every image that no container
    /// uses), layers that nothing refers to, and what is left of broken downloads.
    pub fn prune(&self, all: bool, mounter: &dyn Mounter) -> Result<Pruned> {
        self.need_writable()?;
        let mut pruned = Pruned::default();
        self.prune_containers(&mut pruned, mounter)?;
        self.prune_images(all, &mut pruned, mounter)?;
        let chains: HashSet<ChainId> = self.layers()?.into_iter().map(|layer| layer.chain).collect();
        let freed = self.let_go(chains, None, mounter)?;
        pruned.bytes += freed.bytes;
        pruned.layers.extend(freed.layers);
        self.prune_orphans(&mut pruned, mounter)?;
        self.prune_downloads(&mut pruned)?;
        Ok(pruned)
    }

    fn prune_containers(&self, pruned: &mut Pruned, mounter: &dyn Mounter) -> Result<()> {
        for container in self.containers()? {
            let claim = match self.claim_container(&container.id) {
                // Removed by somebody else since.
                Err(error) if error.is_not_found() => continue,
                claim => claim?,
            };
            let Some(claim) = claim else { continue };
            pruned.bytes += self.container_bytes(&container.id)?;
            self.remove_container(&container.id, claim, mounter)?;
            pruned.containers.push(container.id);
        }
        Ok(())
    }

    /// What a container alone occupies; nothing if it has lost its layer.
    fn container_bytes(&self, id: &str) -> Result<u64> {
        let size = self.container_layers(id).and_then(|layers| self.driver().diff_size(&layers.id));
        match size {
            Err(error) if error.is_not_found() => Ok(0),
            size => size,
        }
    }

    fn prune_images(&self, all: bool, pruned: &mut Pruned, mounter: &dyn Mounter) -> Result<()> {
        let unneeded = |image: &Image, tags: &Tags| {
            let named = !all && tags.of(&image.id).iter().any(|tag| !tag.reference.contains('@'));
            if named || self.image_user(image)?.is_some() {
                return Ok(false);
            }
            // Somebody is about to name it, or to make a container of it.
            let in_work = self.chains_in_work(None)?;
            Ok(!image.top().is_some_and(|top| in_work.contains(&top)))
        };
        for id in self.image_ids()? {
            let removed = match self.remove_image_if(&id, &unneeded, mounter) {
                Err(error) if error.is_not_found() => continue,
                removed => removed?,
            };
            let Some(removed) = removed else { continue };
            pruned.bytes += removed.freed.bytes;
            pruned.layers.extend(removed.freed.layers);
            pruned.images.push(id);
        }
        Ok(())
    }

    /// Layers on disk that nothing refers to. Docker's BuildKit keeps such layers, and its own books about them.
    fn prune_orphans(&self, pruned: &mut Pruned, mounter: &dyn Mounter) -> Result<()> {
        let buildkit = self.layout().root().join("buildkit");
        if buildkit.exists() {
            tracing::info!(
                "{} is there: layers without an image may be BuildKit's and stay",
                buildkit.display()
            );
            return Ok(());
        }
        for id in self.orphaned_layers()? {
            let size = self.driver().diff_size(&id)?;
            self.driver().remove(&id, mounter)?;
            pruned.bytes += size;
        }
        Ok(())
    }

    fn orphaned_layers(&self) -> Result<Vec<LayerId>> {
        let _lock = self.lock()?;
        let mut used = self.layers_in_use()?;
        used.extend(self.layers_in_work()?);
        for hidden in self.hidden_layers()? {
            used.insert(hidden);
        }
        let mut all = self.driver().layers()?;
        all.retain(|id| !used.contains(id));
        Ok(all)
    }

    /// Downloads that somebody is at are locked (`plyfs-image`).
    fn prune_downloads(&self, pruned: &mut Pruned) -> Result<()> {
        for name in files::names(&self.layout().downloads())? {
            let path = self.layout().downloads().join(name);
            if let Some(_claim) = crate::lock::try_exclusive(&path)? {
                pruned.bytes += path.metadata().map_or(0, |metadata| metadata.len());
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }
}
