//! Intents: what a process is about to do to the store, written down before it does it.
//!
//! An intent is a file in `plyfs/intents`, locked (flock) by its owner as long as it lives. Lines are appended and synced
//! before the step they tell of: `layer ID` (this layer is being made), `chain ID` (this stack of layers is needed, although
//! no image or container refers to it yet). Whoever finds an intent whose lock is free undoes it: layers that nothing
//! refers to are removed, chains that nothing needs are let go. The same undoing happens when an operation fails.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::driver::{LayerId, Mounter};
use crate::error::{Doing, Result};
use crate::id::{ChainId, Digest};
use crate::layers::Freed;
use crate::store::Store;
use crate::{files, lock};

/// Work in progress. Say [`Intent::done`] at the end; dropped unsaid, what was begun stays until the store is opened again
/// or [`Intent::undo`] is called.
#[derive(Debug)]
pub struct Intent {
    path: PathBuf,
    file: File,
}

/// What an intent file says.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) layers: Vec<LayerId>,
    pub(crate) chains: HashSet<ChainId>,
}

impl Store {
    /// Begins work; `what` is for people who look into the file.
    pub fn begin(&self, what: &str) -> Result<Intent> {
        self.need_writable()?;
        // Under the store's lock, so that nobody finds the file before it is locked.
        let _lock = self.lock()?;
        let path = self.layout().intents().join(files::random_hex::<8>()?);
        let mut file = files::create_new(&path)?;
        file.try_lock().map_err(std::io::Error::from).doing("locking", &path)?;
        writeln!(file, "# {} (process {})", what.replace('\n', " "), std::process::id())
            .doing("writing", &path)?;
        Ok(Intent { path, file })
    }

    /// Undoes what dead processes left. Called when the store is opened for writing.
    pub(crate) fn undo_stale(&self, mounter: &dyn Mounter) -> Result<()> {
        let mut dead = Vec::new();
        {
            let _lock = self.lock()?;
            for name in files::names(&self.layout().intents())? {
                let path = self.layout().intents().join(name);
                dead.extend(lock::try_exclusive(&path)?.map(|file| Intent { path, file }));
            }
        }
        dead.into_iter().try_for_each(|intent| intent.undo(self, mounter))
    }

    /// The layers that living processes are making.
    pub(crate) fn layers_in_work(&self) -> Result<HashSet<LayerId>> {
        let mut layers = HashSet::new();
        for name in files::names(&self.layout().intents())? {
            layers.extend(read(&self.layout().intents().join(name))?.layers);
        }
        Ok(layers)
    }

    /// The chains that living processes need.
    pub(crate) fn chains_in_work(&self) -> Result<HashSet<ChainId>> {
        let mut chains = HashSet::new();
        for name in files::names(&self.layout().intents())? {
            chains.extend(read(&self.layout().intents().join(name))?.chains);
        }
        Ok(chains)
    }
}

impl Intent {
    /// To be called before the layer is made.
    pub(crate) fn making(&self, id: &LayerId) -> Result<()> {
        self.tell(&format!("layer {id}"))
    }

    /// From now on the chain stays, although nothing refers to it. Call under the store's lock if it exists already.
    pub(crate) fn keeps(&self, chain: &ChainId) -> Result<()> {
        self.tell(&format!("chain {}", chain.0.hex()))
    }

    fn tell(&self, line: &str) -> Result<()> {
        // In one call: several threads tell.
        (&self.file).write_all(format!("{line}\n").as_bytes()).doing("writing", &self.path)?;
        self.file.sync_data().doing("syncing", &self.path)
    }

    /// All is done: what was made is referred to by something that lasts.
    pub fn done(self) -> Result<()> {
        files::remove_file(&self.path)
    }

    /// Takes back what was begun and is not referred to.
    pub fn undo(self, store: &Store, mounter: &dyn Mounter) -> Result<()> {
        self.end_letting_go(store, mounter).map(drop)
    }

    /// The same, and tells what became free.
    pub(crate) fn end_letting_go(self, store: &Store, mounter: &dyn Mounter) -> Result<Freed> {
        let told = read(&self.path)?;
        let owned = store.layers_in_use()?;
        for id in &told.layers {
            files::remove_draft(&store.layout().chains_tmp(), id.as_str())?;
            if !owned.contains(id) {
                store.driver().remove(id, mounter)?;
            }
        }
        // Before the chains are let go: as long as the file is there, they are needed.
        files::remove_file(&self.path)?;
        store.let_go(told.chains, mounter)
    }
}

/// A torn last line tells of a step that was not begun.
fn read(path: &Path) -> Result<Told> {
    let mut told = Told::default();
    let Some(text) = files::read_text(path)? else { return Ok(told) };
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("layer", id)) => told.layers.extend(LayerId::parse(id).ok()),
            Some(("chain", hex)) => told.chains.extend(Digest::from_hex(hex).ok().map(ChainId)),
            _ => {}
        }
    }
    Ok(told)
}
