//! What all operations that bring layers into a store share: who mounts, limits, progress, and the intent under which
//! they work.

use plyfs_store::images::Image;
use plyfs_store::intent::Intent;
use plyfs_store::{ChainId, DiffId, Digest, ImageId, Mounter, Store};

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::{Cancel, LayerState, Progress};
use crate::reference::Reference;

/// How an operation works.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Into which store.
    pub store: &'a Store,
    /// Who unmounts what has to go.
    pub mounter: &'a dyn Mounter,
    /// What archives may cost.
    pub limits: &'a Limits,
    /// Layers at a time.
    pub jobs: usize,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Who may stop it.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("store", self.store).field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

/// An image whose layers are all in the store, not yet to be seen.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// Its config document.
    pub(crate) config: Vec<u8>,
    /// The names that it is to have.
    pub(crate) names: Vec<Reference>,
}

impl Work<'_> {
    /// Does `what` under an intent: when it fails, the store is as before.
    pub(crate) fn under_intent<T>(&self, what: &str, act: impl FnOnce(&Intent) -> Result<T>) -> Result<T> {
        let intent = self.store.begin(what)?;
        match act(&intent) {
            Ok(done) => {
                intent.done()?;
                Ok(done)
            }
            Err(error) => {
                if let Err(left) = intent.undo(self.store, self.mounter) {
                    tracing::warn!(
                        "cleaning up after a failure: {left}; it will be tried again when the store is opened"
                    );
                }
                Err(if self.cancel.is_cancelled() { Error::Cancelled } else { error })
            }
        }
    }

    /// Makes images appear with their names, all or none.
    pub(crate) fn publish(&self, ready: Vec<Ready>) -> Result<Vec<Image>> {
        let mut new = Vec::new();
        let published: Result<Vec<Image>> =
            ready.into_iter().map(|one| self.publish_one(one, &mut new)).collect();
        if published.is_err() {
            for id in new {
                match self.store.remove_image(&id, false, self.mounter) {
                    Err(left) if !left.is_not_found() => {
                        tracing::warn!("taking image {id} away again: {left}");
                    }
                    _ => {}
                }
            }
        }
        published
    }

    fn publish_one(&self, ready: Ready, new: &mut Vec<ImageId>) -> Result<Image> {
        let id = ImageId(Digest::of(&ready.config));
        // Before it is made: half of making it may be what fails.
        if self.store.image(&id).is_err() {
            new.push(id);
        }
        let names: Vec<(String, String)> =
            ready.names.iter().map(|name| (name.familiar_name(), name.key())).collect();
        let image = self.store.put_image_as(ready.config, &names)?;
        if let Some(top) = image.top() {
            self.write_index(&top);
        }
        Ok(image)
    }

    /// Without its index an image is slower, not less.
    fn write_index(&self, top: &ChainId) {
        if let Err(error) = self.store.image_index(top) {
            tracing::warn!("the image stays without an index: {error}");
        }
    }

    /// Tells about one layer.
    pub(crate) fn tell(&self, index: usize, name: &str, state: LayerState) {
        self.progress.layer(index, name, state);
    }
}

/// Compares what a layer is with what its image says.
pub(crate) fn check_diff(wanted: DiffId, found: DiffId) -> Result<()> {
    if wanted == found { Ok(()) } else { Err(plyfs_store::Error::WrongDiff { wanted, found }.into()) }
}
