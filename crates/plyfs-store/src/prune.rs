//! Prune: everything that nothing needs any more.

use std::collections::HashSet;

use crate::driver::Mounter;
use crate::error::Result;
use crate::files;
use crate::id::{ChainId, ImageId};
use crate::store::Store;

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
        let freed = self.let_go(chains, mounter)?;
        pruned.bytes += freed.bytes;
        pruned.layers.extend(freed.layers);
        self.prune_downloads(&mut pruned)?;
        Ok(pruned)
    }

    fn prune_containers(&self, pruned: &mut Pruned, mounter: &dyn Mounter) -> Result<()> {
        for container in self.containers()? {
            let Some(claim) = self.claim_container(&container.id)? else { continue };
            if let Ok(layers) = self.container_layers(&container.id) {
                pruned.bytes += self.driver().diff_size(&layers.id)?;
            }
            self.remove_container(&container.id, claim, mounter)?;
            pruned.containers.push(container.id);
        }
        Ok(())
    }

    fn prune_images(&self, all: bool, pruned: &mut Pruned, mounter: &dyn Mounter) -> Result<()> {
        let used: HashSet<String> = self.containers()?.into_iter().map(|one| one.image).collect();
        for id in self.image_ids()? {
            let named = !all && self.tags()?.of(&id).iter().any(|tag| !tag.reference.contains('@'));
            if named || used.contains(&id.to_string()) {
                continue;
            }
            let removed = self.remove_image(&id, false, mounter)?;
            pruned.bytes += removed.freed.bytes;
            pruned.layers.extend(removed.freed.layers);
            pruned.images.push(id);
        }
        Ok(())
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
