//! Pull: an image from a registry.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use plyfs_store::images::Image;
use plyfs_store::intent::Intent;
use plyfs_store::{Digest, ImageId, MAX_LAYERS};

use crate::config;
use crate::distribution::remember;
use crate::download::{Partial, Tee};
use crate::error::{Error, Result};
use crate::layers::{Blobs, bring};
use crate::limits;
use crate::manifest::{Descriptor, Document, INDEX_DEPTH, Manifest};
use crate::platform::Platform;
use crate::progress::{LayerState, Progress};
use crate::reference::Reference;
use crate::registry::{BlobReader, Registry, RegistryOptions};
use crate::work::{Ready, Work};

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Which one of images for several platforms.
    pub platform: Platform,
    /// How to reach the registry.
    pub registry: RegistryOptions,
}

/// What was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// Of what the name led to: a manifest, or an index.
    pub digest: Digest,
    /// The name does not mean what it meant before.
    pub is_new: bool,
}

/// Pulls the image that `reference` (with `latest` if nothing is said) names, and gives it that name and its digest.
pub fn pull(work: &Work<'_>, reference: &Reference, options: &PullOptions) -> Result<Pulled> {
    let reference = reference.clone().or_latest();
    let registry = Registry::connect(&reference, &options.registry, work.cancel)?;
    let (digest, manifest) = resolve(work, &registry, &reference, &options.platform)?;
    let config = fetch_config(work, &registry, &manifest)?;
    let before = work.store.tags()?.find(&reference.key());
    let remote = Remote::new(work, &registry, &manifest.layers);
    let image = work.under_intent(&format!("pull {reference}"), |intent| {
        let image = config::check(config, "the image's config", manifest.layers.len())?;
        bring_layers(work, intent, &image, &remote, &reference)?;
        let mut names = vec![reference.at(digest)];
        if reference.digest().is_none() {
            names.push(reference.clone());
        }
        work.publish(vec![Ready { config: image.raw.clone(), names }])?;
        Ok(image)
    })?;
    remote.forget();
    Ok(Pulled { is_new: before != Some(image.id), image, digest })
}

/// The manifest for the platform, and the digest of what the name itself leads to.
fn resolve(
    work: &Work<'_>,
    registry: &Registry<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Digest, Manifest)> {
    let wanted = reference.digest().copied();
    let name =
        wanted.map_or_else(|| reference.tag().unwrap_or_default().to_owned(), |digest| digest.to_string());
    let first = registry.manifest(&name, wanted, work.limits)?;
    let mut document = first.document;
    for _ in 0..=INDEX_DEPTH {
        let index = match document {
            Document::Manifest(manifest) => return Ok((first.digest, manifest)),
            Document::Index(index) => index,
        };
        let none =
            || Error::Refused(format!("{reference} has no image for {platform}; --platform chooses another"));
        let chosen = platform.choose(&index.manifests).ok_or_else(none)?;
        let next = registry.manifest(&chosen.digest.to_string(), Some(chosen.digest), work.limits)?;
        document = next.document;
    }
    Err(Error::document(reference, "too many indexes in each other"))
}

/// The config document, from the store if it is there.
fn fetch_config(work: &Work<'_>, registry: &Registry<'_>, manifest: &Manifest) -> Result<Vec<u8>> {
    if manifest.layers.len() > MAX_LAYERS {
        return Err(plyfs_store::Error::TooDeep(manifest.layers.len(), MAX_LAYERS).into());
    }
    for layer in &manifest.layers {
        // Before it fills the disk: no compression makes anything much longer.
        limits::check(layer.size, "layer_bytes", work.limits.layer_bytes)
            .map_err(|over| Error::layer(layer.digest.short(), over))?;
    }
    match work.store.image(&ImageId(manifest.config.digest)) {
        Ok(image) => Ok(image.raw),
        Err(_) => registry.small_blob(&manifest.config, work.limits),
    }
}

fn bring_layers(
    work: &Work<'_>,
    intent: &Intent,
    image: &Image,
    remote: &Remote<'_>,
    reference: &Reference,
) -> Result<()> {
    for one in bring(work, intent, &image.diffs, remote)? {
        remember(work.store, image.diffs[one.layer], one.digest, &reference.name())?;
    }
    Ok(())
}

/// The layers of an image in a registry.
struct Remote<'a> {
    progress: &'a dyn Progress,
    downloads: PathBuf,
    registry: &'a Registry<'a>,
    layers: &'a [Descriptor],
    /// Files of downloads, ours until the image is in the store.
    claimed: Mutex<HashMap<usize, Partial>>,
    /// The registry did not give all of a layer: what is here of it is not to blame.
    broken: Mutex<HashSet<usize>>,
}

impl<'a> Remote<'a> {
    fn new(work: &Work<'a>, registry: &'a Registry<'a>, layers: &'a [Descriptor]) -> Remote<'a> {
        Remote {
            progress: work.progress,
            downloads: work.store.layout().downloads(),
            registry,
            layers,
            claimed: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    /// The files have done their work. One that stays is found by the next pull, or by prune.
    fn forget(&self) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, partial) in claimed.drain() {
            if let Err(error) = partial.remove() {
                tracing::warn!("{error}");
            }
        }
    }

    /// What is here of the layer. Without a file (another process is at it) it is streamed alone.
    fn tee(&self, layer: usize) -> Result<Option<Tee>> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(partial) = claimed.get_mut(&layer) {
            return partial.tee().map(Some);
        }
        let blob = &self.layers[layer];
        let claim = Partial::claim(&self.downloads, blob.digest, blob.size)?;
        let Some(partial) = claim else { return Ok(None) };
        let tee = partial.tee()?;
        claimed.insert(layer, partial);
        Ok(Some(tee))
    }
}

impl Blobs for Remote<'_> {
    fn name(&self, layer: usize) -> String {
        self.layers[layer].digest.short()
    }

    fn open(&self, layer: usize) -> Result<Box<dyn Read + Send + '_>> {
        let blob = &self.layers[layer];
        let tee = self.tee(layer)?;
        let from = tee.as_ref().map_or(0, Tee::have);
        let rest = self.registry.blob(blob, from);
        Ok(Box::new(Download { remote: self, layer, name: self.name(layer), tee, rest, done: 0 }))
    }

    fn digest(&self, layer: usize) -> Option<Digest> {
        Some(self.layers[layer].digest)
    }

    fn is_stale(&self, layer: usize) -> bool {
        if self.broken.lock().unwrap_or_else(PoisonError::into_inner).contains(&layer) {
            return false;
        }
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(partial) = claimed.get_mut(&layer) else { return false };
        let is_resumed = partial.is_resumed();
        match partial.throw_away() {
            Ok(()) => is_resumed,
            Err(error) => {
                tracing::warn!("{error}");
                false
            }
        }
    }
}

/// A layer on its way.
struct Download<'a> {
    remote: &'a Remote<'a>,
    layer: usize,
    name: String,
    tee: Option<Tee>,
    rest: BlobReader<'a>,
    done: u64,
}

impl Read for Download<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = match &mut self.tee {
            Some(tee) => tee.read(buf, &mut self.rest),
            None => self.rest.read(buf),
        };
        match got {
            Ok(got) => self.done += got as u64,
            Err(_) => {
                let mut broken = self.remote.broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.insert(self.layer);
            }
        }
        let state = LayerState::Downloading { done: self.done, total: self.remote.layers[self.layer].size };
        self.remote.progress.layer(self.layer, &self.name, state);
        got
    }
}
