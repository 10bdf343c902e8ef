//! Save: images as an archive that everybody reads: an OCI layout with Docker's `manifest.json` in it (as Docker 25 and
//! later write), or an OCI layout alone.
//!
//! Layers are made again from their directories, byte for byte as they came (tar-split), not compressed: a layer's digest
//! is its diff ID. Whatever was changed in the store meanwhile is noticed by that.

mod sink;

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

use plyfs_store::images::Image;
use plyfs_store::layers::Layer;
use plyfs_store::{ChainId, Digest, Store};
use serde_json::json;

use crate::error::{Doing, Error, Result};
use crate::images::find;
use crate::manifest::{Descriptor, Index, Manifest, blob_name, types};
use crate::progress::Cancel;
use crate::reference::Reference;
use crate::tarsplit::{archive_size, assemble};
use sink::Sink;

/// Which documents the archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OCI's and Docker's.
    Docker,
    /// OCI's.
    Oci,
}

/// One image and the names under which it is saved.
#[derive(Debug, Clone)]
struct Wanted {
    image: Image,
    names: Vec<Reference>,
}

/// Saves the images that `words` mean as a tar archive.
pub fn save_tar(store: &Store, words: &[String], form: Form, out: impl Write, cancel: &Cancel) -> Result<()> {
    let wanted = find_all(store, words)?;
    let mut sink = sink::Tar::new(out);
    save(store, &wanted, form, &mut sink, cancel)?;
    sink.finish()
}

/// Saves them as an OCI layout in the directory `dir`, which is made, or is empty.
pub fn save_dir(store: &Store, words: &[String], dir: &Path, cancel: &Cancel) -> Result<()> {
    let wanted = find_all(store, words)?;
    let mut sink = sink::Directory::new(dir)?;
    save(store, &wanted, Form::Oci, &mut sink, cancel)
}

/// A name without a tag means all tags of its repository, as `docker save` has it.
fn find_all(store: &Store, words: &[String]) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    let mut add =
        |image: Image, name: Option<Reference>| match all.iter_mut().find(|one| one.image.id == image.id) {
            Some(one) => one.names.extend(name.filter(|name| !one.names.contains(name))),
            None => all.push(Wanted { image, names: name.into_iter().collect() }),
        };
    let tags = store.tags()?;
    for word in words {
        let reference = Reference::parse(word).ok();
        let bare = reference.as_ref().filter(|one| one.tag().is_none() && one.digest().is_none());
        let of_repository = |name: &Reference| bare.is_some_and(|bare| bare.name() == name.name());
        let mut found = false;
        for tag in tags.all() {
            let Ok(name) = Reference::parse(&tag.reference) else { continue };
            if name.tag().is_some() && of_repository(&name) {
                add(store.image(&tag.image)?, Some(name));
                found = true;
            }
        }
        if !found {
            let id = find(store, word)?;
            // A digest is no name that whoever loads it could check.
            let is_name = |name: &Reference| {
                name.tag().is_some() && name.digest().is_none() && tags.find(&name.key()) == Some(id)
            };
            add(store.image(&id)?, reference.filter(is_name));
        }
    }
    Ok(all)
}

fn save(store: &Store, wanted: &[Wanted], form: Form, sink: &mut dyn Sink, cancel: &Cancel) -> Result<()> {
    let mut saver = Saver { store, sink, cancel, written: HashSet::new() };
    let (mut manifests, mut items) = (Vec::new(), Vec::new());
    for one in wanted {
        let (descriptor, layers) = saver.image(&one.image)?;
        let tags: Vec<String> = one.names.iter().map(Reference::familiar).collect();
        let config = blob_name(one.image.id.0);
        items.push(json!({"Config": config, "RepoTags": tags, "Layers": layers}));
        if one.names.is_empty() {
            manifests.push(descriptor.clone());
        }
        manifests.extend(one.names.iter().map(|name| named(&descriptor, name)));
    }
    saver.document("index.json", &json!(Index::new(manifests)))?;
    if form == Form::Docker {
        saver.document("manifest.json", &json!(items))?;
    }
    // Last: by it others know that the rest is there.
    saver.document("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))
}

/// With the names that containerd and others look for.
fn named(descriptor: &Descriptor, name: &Reference) -> Descriptor {
    let mut named = descriptor.clone();
    let tag = name.tag().unwrap_or_default().to_owned();
    named.annotations.insert("io.containerd.image.name".to_owned(), name.to_string());
    named.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag);
    named
}

struct Saver<'a> {
    store: &'a Store,
    sink: &'a mut dyn Sink,
    cancel: &'a Cancel,
    written: HashSet<Digest>,
}

impl Saver<'_> {
    fn document(&mut self, name: &str, value: &serde_json::Value) -> Result<()> {
        self.bytes(name, value.to_string().as_bytes())
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.sink.file(name, bytes.len() as u64, &mut |out| out.write_all(bytes).doing("writing", name))
    }

    /// An image's blobs; answers its manifest's descriptor and the names of its layers' files.
    fn image(&mut self, image: &Image) -> Result<(Descriptor, Vec<String>)> {
        let mut layers = Vec::new();
        for chain in ChainId::each(&image.diffs) {
            layers.push(self.layer(&self.store.need_layer(&chain)?)?);
        }
        let names = layers.iter().map(|layer| blob_name(layer.digest)).collect();
        let config = self.blob(types::CONFIG, &image.raw)?;
        let manifest = serde_json::to_vec(&Manifest::new(config, layers))
            .map_err(|error| Error::document("the new manifest", error))?;
        Ok((self.blob(types::MANIFEST, &manifest)?, names))
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, bytes);
        if self.written.insert(descriptor.digest) {
            self.bytes(&blob_name(descriptor.digest), bytes)?;
        }
        Ok(descriptor)
    }

    fn layer(&mut self, layer: &Layer) -> Result<Descriptor> {
        self.cancel.check()?;
        let digest = layer.diff.0;
        let bad = |source: Box<dyn std::error::Error + Send + Sync>| Error::layer(digest.short(), source);
        let record = || match self.store.tar_split(&layer.chain) {
            Ok(Some(record)) => Ok(record),
            Ok(None) => Err(bad("has no tar-split record: it cannot be written as it came".into())),
            Err(error) => Err(error.into()),
        };
        let size = archive_size(record()?).map_err(|error| bad(error.into()))?;
        let descriptor = Descriptor::new(types::LAYER, digest, size);
        if !self.written.insert(digest) {
            return Ok(descriptor);
        }
        let path = self.store.driver().diff_dir(&layer.id);
        let dir = plyfs_sys::Dir::open(&path).map_err(|error| bad(error.into()))?;
        let record = record()?;
        let cancel = self.cancel;
        self.sink.file(&blob_name(digest), size, &mut |out| {
            let found =
                assemble(&record, &dir, &mut Stops { out, cancel }).map_err(|error| bad(error.into()))?;
            if found == layer.diff {
                return Ok(());
            }
            let what = format!("layer {} as it is in the store", digest.short());
            Err(Error::WrongDigest { what, wanted: digest, found: found.0 })
        })?;
        Ok(descriptor)
    }
}

/// A writer that fails when it is to stop.
struct Stops<'a> {
    out: &'a mut dyn Write,
    cancel: &'a Cancel,
}

impl Write for Stops<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
