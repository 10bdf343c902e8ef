//! A container's two layers: `<id>-init` over the image's top layer, and `<id>` over that.

use crate::driver::{LayerId, Mounter};
use crate::error::{Error, Result};
use crate::files::{self, Draft};
use crate::id::ChainId;
use crate::intent::Intent;
use crate::store::Store;

use super::model::layer_id;

const MOUNT_ID: &str = "mount-id";
const INIT_ID: &str = "init-id";
const PARENT: &str = "parent";

/// The layers of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLayers {
    /// The writable one.
    pub id: LayerId,
    /// What plyfs puts between image and container: mount points and files that the runtime binds over.
    pub init: LayerId,
    /// The image's stack; `None` over no image.
    pub parent: Option<ChainId>,
}

impl Store {
    /// Makes the two layers of a container over `parent`; `fill` puts into the `-init` layer what belongs there (it is given
    /// the layer's id, to be mounted or written directly). Ends with the record that makes them the container's.
    pub fn make_container_layers(
        &self,
        intent: &Intent,
        container: &str,
        parent: Option<ChainId>,
        fill: &mut dyn FnMut(&LayerId) -> Result<()>,
    ) -> Result<ContainerLayers> {
        let below = match &parent {
            Some(chain) => {
                Some(self.use_layer(intent, chain)?.ok_or_else(|| Error::not_found("layer", chain))?)
            }
            None => None,
        };
        let depth = match &below {
            Some(layer) => 1 + self.driver().parents(&layer.id)?.len(),
            None => 0,
        };
        if depth > crate::driver::MAX_LAYERS {
            return Err(Error::TooDeep(depth, crate::driver::MAX_LAYERS));
        }
        let id = LayerId::random()?;
        let layers = ContainerLayers { init: id.init(), id, parent };
        intent.making(&layers.id)?;
        intent.making(&layers.init)?;
        self.driver().create(&layers.init, below.as_ref().map(|layer| &layer.id))?;
        fill(&layers.init)?;
        self.driver().create(&layers.id, Some(&layers.init))?;
        self.write_container_layers(container, &layers)?;
        Ok(layers)
    }

    fn write_container_layers(&self, container: &str, layers: &ContainerLayers) -> Result<()> {
        let draft = Draft::begin(&self.layout().chains_tmp(), layers.id.as_str())?;
        draft.write(MOUNT_ID, layers.id.as_str().as_bytes())?;
        draft.write(INIT_ID, layers.init.as_str().as_bytes())?;
        if let Some(parent) = &layers.parent {
            draft.write(PARENT, parent.to_string().as_bytes())?;
        }
        let _lock = self.lock()?;
        if draft.publish(&self.layout().container_layer(container))? {
            Ok(())
        } else {
            Err(Error::Exists { kind: "container", name: container.to_owned(), by: None })
        }
    }

    /// The layers of a container.
    pub fn container_layers(&self, container: &str) -> Result<ContainerLayers> {
        let record = self.layout().container_layer(container);
        let need = |name: &str| {
            files::read_text(&record.join(name))?
                .ok_or_else(|| Error::not_found("layer of container", container))
        };
        let id = layer_id(&need(MOUNT_ID)?)?;
        let init = match files::read_text(&record.join(INIT_ID))? {
            Some(text) => layer_id(&text)?,
            None => id.init(),
        };
        let parent = match files::read_text(&record.join(PARENT))? {
            Some(text) => Some(text.parse()?),
            None => None,
        };
        Ok(ContainerLayers { id, init, parent })
    }

    /// The layers of all containers.
    pub(crate) fn all_container_layers(&self) -> Result<Vec<ContainerLayers>> {
        let mut all = Vec::new();
        for container in files::names(&self.layout().container_layers())? {
            match self.container_layers(&container) {
                Err(error) if error.is_not_found() => {}
                layers => all.push(layers?),
            }
        }
        Ok(all)
    }

    /// Removes a container's layers; fine if there are none. The writable one first, as Docker does.
    pub(super) fn remove_container_layers(&self, container: &str, mounter: &dyn Mounter) -> Result<()> {
        match self.container_layers(container) {
            Err(error) if error.is_not_found() => {}
            layers => {
                let layers = layers?;
                self.driver().remove(&layers.id, mounter)?;
                self.driver().remove(&layers.init, mounter)?;
            }
        }
        files::remove_dir(&self.layout().container_layer(container))
    }
}
