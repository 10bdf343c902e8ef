//! Load: images from files. What a file is, is found by looking into it: docker-archive (old and new form), OCI layout, or
//! else the root filesystem of an image with one layer (Docker calls that import).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use plyfs_store::images::Image;
use plyfs_store::intent::Intent;
use plyfs_store::{Digest, ImageId};

use crate::archive::{self, Directory, Members, Stored, Tarred, spool};
use crate::commit::{layer_on, through_pipe};
use crate::compress::{Compression, MAGIC, detect};
use crate::config::Changes;
use crate::error::{Doing, Error, Result};
use crate::layers::{Blobs, bring};
use crate::pack::pack_dir;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::work::{Ready, Work};

/// Where an archive comes from.
pub enum Input {
    /// A file or a directory.
    Path(PathBuf),
    /// Anything that can be read once.
    Stream(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Input::Path(path) => path.fmt(f),
            Input::Stream(_) => f.write_str("a stream"),
        }
    }
}

/// What to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The name of the image, instead of those that the archive gives; for archives of one image only.
    pub name: Option<Reference>,
    /// Which one of images for several platforms.
    pub platform: Platform,
}

/// One image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that it got.
    pub names: Vec<Reference>,
    /// Those of them that another image had until then, and which.
    pub moved: Vec<(Reference, ImageId)>,
}

/// Loads all images of an archive, or none.
pub fn load(work: &Work<'_>, input: Input, options: &LoadOptions) -> Result<Vec<Loaded>> {
    let opened = open(work, input)?;
    let members = opened.members();
    let stored = if members.has("manifest.json") {
        archive::docker_images(members, work.limits)?
    } else if members.has("index.json") && members.has("oci-layout") {
        archive::oci_images(members, work.limits, &options.platform)?
    } else {
        return import(work, &opened, options);
    };
    let stored = with_names(stored, options)?;
    work.under_intent("load", |intent| {
        let mut ready = Vec::new();
        for one in stored {
            bring(work, intent, &one.image.diffs, &InArchive { members, layers: &one.layers })?;
            ready.push(Ready { config: one.image.raw, names: one.names });
        }
        publish(work, ready)
    })
}

fn publish(work: &Work<'_>, ready: Vec<Ready>) -> Result<Vec<Loaded>> {
    let before = work.store.tags()?;
    let names: Vec<Vec<Reference>> = ready.iter().map(|one| one.names.clone()).collect();
    let images = work.publish(ready)?;
    let loaded = images.into_iter().zip(names).map(|(image, names)| {
        let other = |name: &Reference| before.find(&name.key()).filter(|old| *old != image.id);
        let moved = names.iter().filter_map(|name| Some((name.clone(), other(name)?))).collect();
        Loaded { image, names, moved }
    });
    Ok(loaded.collect())
}

enum Opened {
    Tarred(Tarred),
    Directory(Directory),
}

impl Opened {
    fn members(&self) -> &dyn Members {
        match self {
            Opened::Tarred(tarred) => tarred,
            Opened::Directory(directory) => directory,
        }
    }
}

fn open(work: &Work<'_>, input: Input) -> Result<Opened> {
    let temp = work.store.layout().own();
    let spooled = |from: &mut dyn Read| spool(from, &temp, work.limits, work.cancel);
    let file = match input {
        Input::Path(path) if path.is_dir() => return Directory::open(&path).map(Opened::Directory),
        Input::Path(path) => {
            let mut file = File::open(&path).doing("opening", &path)?;
            let is_file = file.metadata().doing("looking at", &path)?.is_file();
            if is_file && is_plain(&file, &path)? { file } else { spooled(&mut file)? }
        }
        Input::Stream(mut stream) => spooled(&mut stream)?,
    };
    Tarred::index(file, work.limits).map(Opened::Tarred)
}

fn is_plain(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; MAGIC];
    let got = file.read_at(&mut head, 0).doing("reading", path)?;
    // What is not read is told by the one who is to read it.
    Ok(matches!(detect(&head[..got]), Ok(Compression::None)))
}

/// The names that the archive's images are to have.
fn with_names(mut stored: Vec<Stored>, options: &LoadOptions) -> Result<Vec<Stored>> {
    let Some(name) = &options.name else { return Ok(stored) };
    let whole = name.as_new_name()?;
    if let [one] = &mut stored[..] {
        one.names = vec![match &one.lone_tag {
            Some(tag) if name.tag().is_none() => name.tagged(tag)?,
            _ => whole,
        }];
        return Ok(stored);
    }
    Err(Error::Refused(format!("the archive has {} images: they cannot all be named {name}", stored.len())))
}

/// The layers of an image in an archive.
struct InArchive<'a> {
    members: &'a dyn Members,
    layers: &'a [(String, Option<Digest>)],
}

impl Blobs for InArchive<'_> {
    fn name(&self, layer: usize) -> String {
        let name = &self.layers[layer].0;
        let bare = name.strip_suffix("/layer.tar").or_else(|| name.strip_suffix(".tar")).unwrap_or(name);
        match crate::config::digest_in_name(bare) {
            Some(digest) => digest.short(),
            None => name.escape_debug().to_string(),
        }
    }

    fn open(&self, layer: usize) -> Result<Box<dyn Read + Send + '_>> {
        self.members.open(&self.layers[layer].0).map(|(contents, _)| contents)
    }

    fn digest(&self, layer: usize) -> Option<Digest> {
        self.layers[layer].1
    }
}

/// A root filesystem becomes an image of one layer.
fn import(work: &Work<'_>, from: &Opened, options: &LoadOptions) -> Result<Vec<Loaded>> {
    let names: Vec<Reference> =
        options.name.iter().map(Reference::as_new_name).collect::<std::result::Result<_, _>>()?;
    let changes = Changes { comment: "Imported by plyfs".to_owned(), ..Changes::default() };
    work.under_intent("import", |intent| {
        let (config, _) = match from {
            Opened::Tarred(tarred) => import_tar(work, intent, tarred, &changes)?,
            Opened::Directory(directory) => through_pipe(
                |out| Ok(pack_dir(directory.dir(), out).map(drop)?),
                |tar| layer_on(work, intent, None, &changes, tar),
            )?,
        };
        publish(work, vec![Ready { config, names }])
    })
}

fn import_tar(
    work: &Work<'_>,
    intent: &Intent,
    tarred: &Tarred,
    changes: &Changes,
) -> Result<(Vec<u8>, Digest)> {
    if tarred.is_legacy() {
        return Err(Error::Refused(
            "an archive as Docker wrote it before 1.10, without manifest.json: load it into a Docker of 1.10 to 23 \
             and save it again"
                .to_owned(),
        ));
    }
    if tarred.is_empty() {
        return Err(Error::Refused("the archive is empty: neither images nor a root filesystem".to_owned()));
    }
    layer_on(work, intent, None, changes, tarred.whole()?)
}
