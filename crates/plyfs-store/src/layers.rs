//! Read-only layers by chain ID: Docker's layer store (`layer/filestore.go`).
//!
//! A record is a directory `layerdb/sha256/<chain>` with `cache-id` (the id on disk), `diff`, `parent` (absent at the
//! bottom), `size` and `tar-split.json.gz` (from which the layer's archive can be made again, byte for byte). It appears
//! whole, after the layer's contents are on disk.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::driver::{LayerId, Mounter};
use crate::error::{Doing, Error, Result};
use crate::files::{self, Draft};
use crate::id::{ChainId, DiffId, Digest};
use crate::intent::Intent;
use crate::layout::REMOVING;
use crate::store::Store;

const CACHE_ID: &str = "cache-id";
const DIFF: &str = "diff";
const PARENT: &str = "parent";
const SIZE: &str = "size";
const TAR_SPLIT: &str = "tar-split.json.gz";

/// One registered layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Of the stack that ends with this layer.
    pub chain: ChainId,
    /// Of the layer's archive.
    pub diff: DiffId,
    /// The stack below.
    pub parent: Option<ChainId>,
    /// The layer on disk.
    pub id: LayerId,
    /// Bytes, as [`crate::Driver::diff_size`] counts them.
    pub size: u64,
}

/// A layer being made: a directory to fill, and a place for its tar-split metadata. It becomes a layer by
/// [`Store::commit_layer`]; dropped, its intent undoes it.
#[derive(Debug)]
pub struct LayerDraft {
    id: LayerId,
    dir: PathBuf,
    record: Draft,
}

impl LayerDraft {
    /// The id that it will have on disk.
    pub fn id(&self) -> &LayerId {
        &self.id
    }

    /// The directory to fill: empty, mode 0755, owner root.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file for tar-split metadata, gzipped, open for reading and writing. Sync it before committing.
    pub fn tar_split(&self) -> Result<File> {
        files::create_new(&self.record.path().join(TAR_SPLIT))
    }
}

impl Store {
    /// Begins a layer. It has no parent yet, so that the layers of an image can be filled at the same time.
    pub fn draft_layer(&self, intent: &Intent) -> Result<LayerDraft> {
        let id = LayerId::random()?;
        intent.making(&id)?;
        self.driver().create(&id, None)?;
        let record = Draft::begin(&self.layout().chains_tmp(), id.as_str())?;
        Ok(LayerDraft { dir: self.driver().diff_dir(&id), id, record })
    }

    /// Makes a filled draft a layer over `parent`. The caller has compared `diff` with what it should be. `size` as in
    /// [`Layer::size`]. If the same stack was registered meanwhile, that one is the answer, and the draft is removed.
    ///
    /// When this returns, the layer is on disk, and `intent` keeps it until something lasting refers to it.
    pub fn commit_layer(
        &self,
        intent: &Intent,
        draft: LayerDraft,
        parent: Option<ChainId>,
        diff: DiffId,
        size: u64,
        mounter: &dyn Mounter,
    ) -> Result<Layer> {
        let chain = ChainId::over(parent, diff);
        // Kept by our intent, so that nobody removes it before somebody lasting refers to the whole.
        let below = match parent {
            Some(parent) => {
                Some(self.use_layer(intent, &parent)?.ok_or_else(|| Error::not_found("layer", parent))?)
            }
            None => None,
        };
        self.driver().set_parent(&draft.id, below.as_ref().map(|layer| &layer.id))?;
        let dir = plyfs_sys::Dir::open(&draft.dir).doing("opening", &draft.dir)?;
        dir.syncfs().doing("syncing the filesystem of", &draft.dir)?;
        draft.record.write(CACHE_ID, draft.id.as_str().as_bytes())?;
        draft.record.write(DIFF, diff.to_string().as_bytes())?;
        draft.record.write(SIZE, size.to_string().as_bytes())?;
        if let Some(parent) = parent {
            draft.record.write(PARENT, parent.to_string().as_bytes())?;
        }
        let published = {
            let _lock = self.lock()?;
            intent.keeps(&chain)?;
            draft.record.publish(&self.layout().chain(&chain))?
        };
        if !published {
            self.driver().remove(&draft.id, mounter)?;
        }
        self.need_layer(&chain)
    }

    /// Removes a draft that is not to become a layer, before its intent would.
    pub fn drop_draft(&self, draft: LayerDraft, mounter: &dyn Mounter) -> Result<()> {
        let id = draft.id.clone();
        drop(draft);
        self.driver().remove(&id, mounter)
    }

    /// Has this stack been registered? If so, `intent` keeps it from now on.
    pub fn use_layer(&self, intent: &Intent, chain: &ChainId) -> Result<Option<Layer>> {
        let _lock = self.lock()?;
        let layer = self.layer(chain)?;
        if layer.is_some() {
            intent.keeps(chain)?;
        }
        Ok(layer)
    }

    /// A layer's record.
    pub fn layer(&self, chain: &ChainId) -> Result<Option<Layer>> {
        read_record(&self.layout().chain(chain), *chain)
    }

    /// A layer's record, which must be there.
    pub fn need_layer(&self, chain: &ChainId) -> Result<Layer> {
        self.layer(chain)?.ok_or_else(|| Error::not_found("layer", chain))
    }

    /// Every registered layer, in no order.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let chains = self.layout().chains();
        let names = files::names(&chains)?;
        let found = names.iter().filter_map(|name| Some((name, ChainId(Digest::from_hex(name).ok()?))));
        found.filter_map(|(name, chain)| read_record(&chains.join(name), chain).transpose()).collect()
    }

    /// The layers of a stack, top first.
    pub fn stack(&self, top: &ChainId) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        let mut next = Some(*top);
        while let Some(chain) = next {
            let layer = self.need_layer(&chain)?;
            next = layer.parent;
            layers.push(layer);
        }
        Ok(layers)
    }

    /// The layer's tar-split metadata, gzipped; `None` if it has none.
    pub fn tar_split(&self, chain: &ChainId) -> Result<Option<File>> {
        let path = self.layout().chain(chain).join(TAR_SPLIT);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).doing("opening", path),
        }
    }

    /// Ids on disk that a registered layer or a container refers to.
    pub(crate) fn layers_in_use(&self) -> Result<HashSet<LayerId>> {
        let mut used: HashSet<LayerId> = self.layers()?.into_iter().map(|layer| layer.id).collect();
        for layers in self.all_container_layers()? {
            used.extend([layers.id, layers.init]);
        }
        Ok(used)
    }

    /// Removes those of `chains`, and of the stacks below them, that no image, container or living process needs; what the
    /// intent `of` keeps is let go with the same breath. Answers the bytes that became free.
    pub(crate) fn let_go(
        &self,
        chains: HashSet<ChainId>,
        of: Option<&Intent>,
        mounter: &dyn Mounter,
    ) -> Result<Freed> {
        let mut freed = Freed::default();
        for (layer, hidden) in self.hide_unneeded(chains, of)? {
            self.finish_removal(&hidden, mounter)?;
            freed.bytes += layer.size;
            freed.layers.push(layer.chain);
        }
        Ok(freed)
    }

    /// From here on these layers do not exist. A crash in the middle leaves the rest to the next who opens the store: a
    /// hidden layer's parent is looked at again ([`Store::finish_removals`]).
    fn hide_unneeded(&self, chains: HashSet<ChainId>, of: Option<&Intent>) -> Result<Vec<(Layer, PathBuf)>> {
        let _lock = self.lock()?;
        let tops = self.tops(of)?;
        if chains.is_subset(&tops) {
            // A container went, its image stays: not worth reading every layer's record.
            of.map_or(Ok(()), Intent::keeps_nothing)?;
            return Ok(Vec::new());
        }
        let layers: HashMap<ChainId, Layer> =
            self.layers()?.into_iter().map(|layer| (layer.chain, layer)).collect();
        let mut stay = with_all_below(tops, &layers);
        let mut gone = Vec::new();
        for chain in chains {
            let mut next = Some(chain);
            while let Some(layer) = next.and_then(|chain| layers.get(&chain)) {
                if !stay.insert(layer.chain) {
                    break;
                }
                gone.push((layer.clone(), self.hide(layer)?));
                next = layer.parent;
            }
        }
        // Under the same lock: of two who let the same layer go, the second must not see the first as one who needs it.
        of.map_or(Ok(()), Intent::keeps_nothing)?;
        Ok(gone)
    }

    /// Chains that something refers to, with all below them.
    pub(crate) fn needed(&self, layers: &HashMap<ChainId, Layer>) -> Result<HashSet<ChainId>> {
        Ok(with_all_below(self.tops(None)?, layers))
    }

    /// Chains that something refers to; the intent `but` does not count.
    fn tops(&self, but: Option<&Intent>) -> Result<HashSet<ChainId>> {
        let mut tops = self.chains_in_work(but)?;
        tops.extend(self.image_tops()?);
        tops.extend(self.all_container_layers()?.into_iter().filter_map(|layers| layers.parent));
        Ok(tops)
    }

    /// From here on the layer does not exist. Its record gets a name that nothing else will ever have (Docker's form):
    /// the same chain may be registered and removed again before we are done.
    fn hide(&self, layer: &Layer) -> Result<PathBuf> {
        files::remove_file(&self.layout().index(&layer.chain))?;
        let record = self.layout().chain(&layer.chain);
        let name = format!("{}-{}{REMOVING}", layer.chain.0.hex(), files::random_hex::<32>()?);
        let hidden = self.layout().chains().join(name);
        std::fs::rename(&record, &hidden).doing("renaming to be removed", &record)?;
        files::sync_dir(&self.layout().chains())?;
        Ok(hidden)
    }

    /// Ends what [`Store::hide`] began.
    fn finish_removal(&self, hidden: &Path, mounter: &dyn Mounter) -> Result<()> {
        if let Some(id) = files::read_text(&hidden.join(CACHE_ID))? {
            self.driver().remove(&LayerId::parse(&id)?, mounter)?;
        }
        files::remove_dir(hidden)
    }

    /// Ends removals that were broken off. What fails is told, and stays for the next time.
    pub(crate) fn finish_removals(&self, mounter: &dyn Mounter) -> Result<()> {
        // Who hid these may have died before it came to the layers below them.
        let mut parents = HashSet::new();
        for hidden in self.hidden()? {
            if let Some(text) = files::read_text(&hidden.join(PARENT))? {
                parents.extend(text.parse::<ChainId>().ok());
            }
        }
        if !parents.is_empty() {
            self.hide_unneeded(parents, None)?;
        }
        for hidden in self.hidden()? {
            if let Err(error) = self.finish_removal(&hidden, mounter) {
                tracing::warn!("ending the removal of {}: {error}", hidden.display());
            }
        }
        Ok(())
    }

    /// Layers on their way out, at which somebody is, or the next who opens the store will be.
    pub(crate) fn hidden_layers(&self) -> Result<Vec<LayerId>> {
        let mut ids = Vec::new();
        for hidden in self.hidden()? {
            let id = files::read_text(&hidden.join(CACHE_ID))?;
            ids.extend(id.and_then(|id| LayerId::parse(&id).ok()));
        }
        Ok(ids)
    }

    fn hidden(&self) -> Result<Vec<PathBuf>> {
        let chains = self.layout().chains();
        let names = files::names(&chains)?;
        Ok(names.iter().filter(|name| name.ends_with(REMOVING)).map(|name| chains.join(name)).collect())
    }
}

/// What became free.
#[derive(Debug, Default, Clone)]
pub struct Freed {
    /// The stacks whose top layers were removed.
    pub layers: Vec<ChainId>,
    /// Bytes of these layers.
    pub bytes: u64,
}

/// Not everybody who reads has the store's lock: a record that is removed, or removed and made again, while it is read is
/// no record, or the new one.
fn with_all_below(tops: HashSet<ChainId>, layers: &HashMap<ChainId, Layer>) -> HashSet<ChainId> {
    let mut all = HashSet::new();
    for top in tops {
        let mut next = Some(top);
        while let Some(chain) = next {
            if !all.insert(chain) {
                break;
            }
            next = layers.get(&chain).and_then(|layer| layer.parent);
        }
    }
    all
}

fn read_record(record: &Path, chain: ChainId) -> Result<Option<Layer>> {
    loop {
        let Some(id) = files::read_text(&record.join(CACHE_ID))? else { return Ok(None) };
        let read = read_record_of(record, chain, &id);
        if files::read_text(&record.join(CACHE_ID))?.is_some_and(|again| again == id) {
            return read.map(Some);
        }
    }
}

fn read_record_of(record: &Path, chain: ChainId, id: &str) -> Result<Layer> {
    let need = |name: &str| {
        files::read_text(&record.join(name))?
            .ok_or_else(|| Error::corrupt(record, format_args!("has no file {name:?}")))
    };
    let bad = |error: &dyn std::fmt::Display| Error::corrupt(record, error);
    Ok(Layer {
        chain,
        diff: need(DIFF)?.parse().map_err(|error| bad(&error))?,
        parent: match files::read_text(&record.join(PARENT))? {
            Some(text) => Some(text.parse().map_err(|error| bad(&error))?),
            None => None,
        },
        id: LayerId::parse(id).map_err(|error| bad(&error))?,
        size: need(SIZE)?.parse().map_err(|error| bad(&error))?,
    })
}
